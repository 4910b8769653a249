import type { Result } from '../base/result.ts';
import type { Millis } from '../base/time.ts';
import type { DeviceId, EventId, RoomAlias, RoomId, ServerName, UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import type { Event, Pdu } from '../matrix/pdu.ts';
import type { Transaction } from '../storage/database.ts';

/**
 * What the homeserver needs from other servers. `federation/` implements these, over HTTPS or through a pipe; the
 * homeserver neither knows nor imports it.
 */
export interface RemoteRooms {
  /**
   * Joins through the first of `via` that lets us: make_join, sign, send_join (v2), the answer's signatures checked. A
   * join that was sent before, and of which it is not known what became of it, is sent again as it is first.
   * A call for the same room and user attaches to the one in progress.
   * @throws MatrixError as the last server answered, or M_UNKNOWN 502/504 where none did.
   */
  join(request: {
    readonly room: RoomId;
    readonly user: UserId;
    readonly via: readonly ServerName[];
    readonly content: JsonObject;
  }): Promise<RemoteJoin>;
  /** What `join` brought is stored by this transaction: nothing of the room need be kept for it any longer. */
  imported(tx: Transaction, room: RoomId): Promise<void>;
  /** Leaves a room, or rejects an invite, in which no local user is joined: make_leave, send_leave (v2). */
  leave(request: {
    readonly room: RoomId;
    readonly user: UserId;
    readonly via: readonly ServerName[];
  }): Promise<Event>;
  /**
   * Makes a knock by the template of the first of `via` that lets us: make_knock, sign.
   * @throws MatrixError as the last server answered, or M_UNKNOWN 502/504 where none did
   */
  makeKnock(request: {
    readonly room: RoomId;
    readonly user: UserId;
    readonly via: readonly ServerName[];
    readonly content: JsonObject;
  }): Promise<RemoteKnock>;
  /**
   * Hands a knock to the server whose template it has (send_knock), which takes it once however often it comes.
   * @returns what clients may be shown of the room
   * @throws MatrixError as `makeKnock`
   */
  sendKnock(knock: RemoteKnock): Promise<readonly JsonObject[]>;
  /** Asks the invited user's server to sign an invite (invite v2). @throws MatrixError where it refuses. */
  invite(request: {
    readonly event: Event;
    readonly roomVersion: string;
    readonly strippedState: readonly JsonObject[];
    readonly destination: ServerName;
  }): Promise<Pdu>;
}

/** A knock that is signed; JSON. */
export interface RemoteKnock {
  readonly event: Event;
  readonly roomVersion: string;
  readonly via: ServerName;
}

/** What an alias stands for. */
export interface ResolvedAlias {
  readonly room: RoomId;
  /** Servers that are likely to be in the room. */
  readonly servers: readonly ServerName[];
}

/** Room aliases of other servers. */
export interface RemoteDirectory {
  /** Asks the alias's own server. @throws MatrixError M_NOT_FOUND, or M_UNKNOWN 502/504 where it does not answer */
  alias(alias: RoomAlias): Promise<ResolvedAlias>;
}

/** What a page of a room directory is asked for. */
export interface PublicRoomsRequest {
  readonly limit?: number | undefined;
  readonly since?: string | undefined;
  readonly filter?:
    | {
        readonly generic_search_term?: string | null | undefined;
        readonly room_types?: readonly (string | null)[] | null | undefined;
      }
    | undefined;
}

/** Other servers' room directories. */
export interface RemoteRoomLists {
  /** A page of a server's directory, as clients get it. @throws MatrixError M_UNKNOWN 502/504 where it does not answer */
  publicRooms(server: ServerName, request: PublicRoomsRequest): Promise<JsonObject>;
}

/** A room with what is below it, as a server in it tells them: summaries as clients get them, children in their order. */
export interface ToldSpace {
  readonly summary: JsonObject;
  readonly children: readonly SpaceChild[];
  readonly childSummaries: ReadonlyMap<RoomId, JsonObject>;
  /** Children that nobody here can look into or join, says that server. */
  readonly inaccessible: ReadonlySet<RoomId>;
}

/** A valid m.space.child. */
export interface SpaceChild {
  readonly room: RoomId;
  readonly via: readonly ServerName[];
  /** Stripped, with `origin_server_ts`. */
  readonly event: JsonObject;
}

/** Rooms that this server is not in. */
export interface RemoteSpaces {
  /** Asks servers, the first one first, for a room; undefined where none tells it. What was told is kept for a time. */
  space(
    room: RoomId,
    via: readonly ServerName[],
    options: { readonly suggestedOnly: boolean },
  ): Promise<ToldSpace | undefined>;
}

/** Profiles of other servers' users. */
export interface RemoteProfiles {
  /** Asks the user's own server. @throws MatrixError M_NOT_FOUND, or M_UNKNOWN 502/504 where it does not answer */
  profile(user: UserId): Promise<JsonObject>;
}

/** What other servers know of rooms' pasts. What fails is no error. */
export interface RemoteHistory {
  /**
   * Asks servers in a room for events that lie before some of its history, and stores them; who asks of a room for which that
   * is under way waits with whoever asked first.
   * @returns whether there is more here than before; false: nobody can be asked now, or knows more
   */
  backfill(room: RoomId, before: readonly EventId[]): Promise<boolean>;
  /** Whether nobody who was asked of late could tell what lies before an event. */
  isHopeless(event: EventId): boolean;
  /**
   * Asks servers in a room for its event that is closest to a time in a direction of time, and brings it here, so that it can
   * be read. Undefined where none of them knows one.
   */
  closest(request: {
    readonly room: RoomId;
    /** Unix time. */
    readonly time: Millis;
    readonly dir: 'b' | 'f';
  }): Promise<{ readonly event: EventId; readonly time: Millis } | undefined>;
}

/** What send_join brought: everything parsed and with valid signatures and hashes, nothing authorised yet. */
export interface RemoteJoin {
  readonly roomVersion: string;
  readonly join: Event;
  /** The state before the join. */
  readonly state: readonly Event[];
  readonly authChain: readonly Event[];
  readonly via: ServerName;
}

/** Sends events to other servers; durable from the moment that the transaction commits. */
export interface Outbox {
  /** Queues an event for each destination, inside the transaction that persists it, and wakes the sender after. */
  enqueue(tx: Transaction, event: Event, destinations: ReadonlySet<ServerName>): Promise<void>;
}

/** Checks who signed what. */
export interface EventVerifier {
  /**
   * Checks format, signatures (fetching keys where they are not known) and the content hash. Where only the hash is
   * wrong, the redacted event is what comes back (server-server API, "Checks performed on receipt of a PDU", 3).
   */
  verify(pdu: unknown, roomVersion: string): Promise<Result<Event, string>>;
}

/** The pipes of devices, as far as logging in and out has to do with them. Keys are 64 hexadecimal digits. */
export interface DevicePipes {
  /** A login that is on the disk has bound the key to a device. */
  bound(key: string): void;
  /**
   * The keys are bound to no device any more, and that is on the disk: their sessions end. That of `asking`, which is one of
   * them or none, ends when the answer to its request has had time to arrive.
   */
  revoked(keys: readonly string[], asking?: string): void;
}

/** A public receipt of a local user. */
export interface ReceiptToTell {
  readonly user: UserId;
  readonly event: EventId;
  /** Unix time in milliseconds. */
  readonly ts: number;
  /** 'main' or the root of a thread; undefined: the receipt has no thread. */
  readonly threadId: string | undefined;
}

/** A local user's presence as others see it. */
export interface PresenceToTell {
  readonly user: UserId;
  readonly presence: 'online' | 'unavailable' | 'offline';
  readonly statusMsg: string | null;
  /** Unix time in milliseconds; null: not known. */
  readonly lastActive: number | null;
  readonly currentlyActive: boolean;
}

/**
 * Tells other servers what is no event (server-server API, "EDUs"), called once it is so here. Whether and when it
 * goes out is the port's affair: what is newer takes the place of what has not gone yet.
 */
export interface EphemeralOutbox {
  /** Also from time to time while a user goes on typing, since other servers forget it. */
  typing(room: RoomId, user: UserId, isTyping: boolean): void;
  /** Inside the transaction that stores it. */
  receipt(tx: Transaction, room: RoomId, receipt: ReceiptToTell): Promise<void>;
  /** @param rooms those that the user is joined to: whose servers are to be told */
  presence(presence: PresenceToTell, rooms: readonly RoomId[]): void;
}

/** A user's public keys as their server tells them, JSON; unchecked where they come from another server. */
export interface UserKeys {
  /** Without devices that have no keys. */
  readonly devices: ReadonlyMap<DeviceId, JsonObject>;
  readonly master?: JsonObject | undefined;
  readonly selfSigning?: JsonObject | undefined;
}

/** Which one-time keys are wanted: by user and device the algorithm. */
export type WantedKeys = ReadonlyMap<UserId, ReadonlyMap<DeviceId, string>>;
/** One-time keys by user and device: of each device an object from `algorithm:id` to the key. */
export type ClaimedKeys = ReadonlyMap<UserId, ReadonlyMap<DeviceId, JsonObject>>;

/** Keys of other servers' users (server-server API, "End-to-End Encryption"). */
export interface RemoteKeys {
  /** What is kept here of those users' keys and is current; who is not in it has to be asked for. */
  copies(users: readonly UserId[]): Promise<ReadonlyMap<UserId, UserKeys>>;
  /**
   * Asks one server with one request. Users with whom somebody here shares a room may be fetched so that a copy is kept.
   * @param wanted users of that server, and which of their devices; an empty list: all
   * @throws MatrixError as the server answered, or M_UNKNOWN 502/504 where it did not within `timeoutMs`
   */
  query(
    server: ServerName,
    wanted: ReadonlyMap<UserId, readonly DeviceId[]>,
    timeoutMs: Millis,
  ): Promise<ReadonlyMap<UserId, UserKeys>>;
  /** Asks one server with one request. @throws MatrixError as `query` */
  claim(server: ServerName, wanted: WantedKeys, timeoutMs: Millis): Promise<ClaimedKeys>;
}

/** Tells other servers of changes of local users' keys, durably: inside the transaction that makes them. */
export interface DeviceListOutbox {
  /**
   * A device with keys is new, has other keys or another name, or is gone: what holds is read when it is told.
   * @param streamId the position in the stream of this change, which no other change has
   */
  enqueueDeviceUpdate(tx: Transaction, user: UserId, device: DeviceId, streamId: number): Promise<void>;
  /** The user's master or self-signing key is another, or has another signature that others may see. */
  enqueueSigningKeys(tx: Transaction, user: UserId): Promise<void>;
}

/** Messages to devices that are for another server, as one of its EDUs tells them (server-server API, "m.direct_to_device"). */
export interface ToDeviceToTell {
  readonly sender: UserId;
  readonly type: string;
  /** What the EDUs' ids begin with; no two messages have the same. */
  readonly messageId: string;
  /** By user and device, or `*`. */
  readonly messages: ReadonlyMap<UserId, ReadonlyMap<string, JsonObject>>;
}

/** Sends messages to devices to other servers, durably: inside the transaction that takes them. */
export interface ToDeviceOutbox {
  enqueueToDevice(tx: Transaction, destination: ServerName, message: ToDeviceToTell): Promise<void>;
}

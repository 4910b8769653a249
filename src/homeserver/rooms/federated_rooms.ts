import type { Millis } from '../../base/time.ts';
import type { EventId, RoomId, ServerName, UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { Event, Pdu, UnsignedPdu } from '../../matrix/pdu.ts';

/** What became of a PDU that another server sent. */
export type Received =
  | { readonly kind: 'accepted' | 'soft_failed' | 'duplicate' }
  | { readonly kind: 'rejected'; readonly reason: string }
  /** Nothing was stored: these previous events are not known. The receiver fetches them and calls again. */
  | { readonly kind: 'missing_prev'; readonly missing: readonly EventId[] }
  /** Nothing was stored: these auth events are not known. */
  | { readonly kind: 'missing_auth'; readonly missing: readonly EventId[] }
  /** Nothing was stored: the state here has nothing at the place of one of its auth events, and would not let it in. */
  | { readonly kind: 'state_lacks' }
  | { readonly kind: 'unknown_room' };

/** The state that a remote server gave for the point before an event, to bridge a gap in the DAG. */
export interface StateBefore {
  readonly state: readonly Event[];
  readonly authChain: readonly Event[];
  /** It is to be resolved with the state here, where that lacks something. */
  readonly isSecondOpinion?: boolean;
}

/** An event from before what is here, of which it is known that one that is here lies after it. */
export interface HistoricEvent {
  readonly event: Event;
  /**
   * An event that is here, between which and this one there are no others but such as change no state, and only one after
   * the other: the state before it is that before this one.
   */
  readonly stateOf?: EventId | undefined;
}

/** What backfill asks for. */
export interface BackfillRequest {
  /** Where to begin: these themselves are part of the answer. */
  readonly from: readonly EventId[];
  readonly limit: number;
}

/** What get_missing_events asks for. */
export interface MissingEventsRequest {
  readonly earliest: readonly EventId[];
  readonly latest: readonly EventId[];
  readonly limit: number;
  readonly minDepth: number;
}

/**
 * The part of the rooms service that federation calls. Every method that reads or writes for a remote server takes
 * that server's name and checks that it may (in the room now, or at that event). Failures are MatrixErrors.
 */
export interface FederatedRooms {
  /** The room's version, or undefined where the room is not known here. */
  versionOf(room: RoomId): Promise<string | undefined>;
  /** Whether any user of `server` is joined to the room now. */
  isServerInRoom(room: RoomId, server: ServerName): Promise<boolean>;
  /**
   * Authorises and stores one verified PDU (server-server API, "Checks performed on receipt of a PDU", 4 to 6).
   * With `stateBefore` its unknown previous events are tolerated and that state stands in for theirs.
   */
  receive(event: Event, stateBefore?: StateBefore): Promise<Received>;
  /**
   * `receive` for an event from before what is here: it gets its place in the room's history, and neither changes what the
   * room is now nor appears in /sync.
   */
  receiveHistoric(historic: HistoricEvent, stateBefore?: StateBefore): Promise<Received>;
  /** The template for make_join; the version must be in `versions` (else M_INCOMPATIBLE_ROOM_VERSION). */
  makeJoin(
    room: RoomId,
    user: UserId,
    versions: readonly string[],
  ): Promise<{ roomVersion: string; event: UnsignedPdu }>;
  /** Accepts a remote user's join, stores it, sends it on to the other servers. The state is that before the join. */
  sendJoin(join: Event): Promise<{ state: readonly Event[]; authChain: readonly Event[]; event: Event }>;
  /** The template for make_knock; the version must be in `versions` (else M_INCOMPATIBLE_ROOM_VERSION). */
  makeKnock(
    room: RoomId,
    user: UserId,
    versions: readonly string[],
  ): Promise<{ roomVersion: string; event: UnsignedPdu }>;
  /** Accepts a remote user's knock and sends it on. @returns the PDUs that tell the user what room it is */
  sendKnock(knock: Event): Promise<readonly JsonObject[]>;
  makeLeave(room: RoomId, user: UserId): Promise<{ roomVersion: string; event: UnsignedPdu }>;
  sendLeave(leave: Event): Promise<void>;
  /** Records an invite from elsewhere for a local user and answers the event with our signature added. */
  receiveInvite(invite: Event, roomVersion: string, strippedState: readonly JsonObject[]): Promise<Pdu>;
  /** One stored event that `server` may see. */
  event(id: EventId, server: ServerName): Promise<Event | undefined>;
  /** Which of these events are stored here, whatever their status. */
  known(ids: readonly EventId[]): Promise<ReadonlySet<EventId>>;
  /** Ids of the state before an event, and of its auth chain. */
  stateIds(
    room: RoomId,
    at: EventId,
    server: ServerName,
  ): Promise<{ state: readonly EventId[]; authChain: readonly EventId[] }>;
  /** The events between `earliest` and `latest`, breadth first from `latest`, at most `limit`, oldest first. */
  missingEvents(room: RoomId, request: MissingEventsRequest, server: ServerName): Promise<readonly Event[]>;
  /** Events from `from` on backwards, the deepest first, at most `limit`. */
  backfill(room: RoomId, request: BackfillRequest, server: ServerName): Promise<readonly Event[]>;
  /** The event that is closest to a time in a direction of time, of those that `server` may see. */
  closest(
    room: RoomId,
    request: { readonly time: Millis; readonly dir: 'b' | 'f' },
    server: ServerName,
  ): Promise<Event | undefined>;
  /** The forward extremities, the deepest first. */
  forwardExtremities(room: RoomId): Promise<readonly EventId[]>;
}

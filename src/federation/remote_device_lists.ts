import type { Random } from '../base/random.ts';
import type { Cancel, Clock, Millis } from '../base/time.ts';
import type { DeviceLists } from '../homeserver/keys/device_lists.ts';
import { MatrixError } from '../matrix/error.ts';
import { type DeviceId, type ServerName, serverOf, type UserId } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import type { Database, Transaction } from '../storage/database.ts';
import {
  copyState,
  countRemoteDevices,
  deleteCopy,
  deleteRemoteDevice,
  deleteUnsharedCopies,
  type KeyCopy,
  keyCopy,
  putCopyState,
  putKeyCopy,
  putRemoteDevice,
  putSigningKeys,
  serversWithStaleCopies,
  sharesRoom,
  sharesRoomSince,
  staleCopies,
  tellStaleCopies,
} from '../storage/remote_devices.ts';
import { nextPosition } from '../storage/stream.ts';
import { streamPosition } from '../storage/sync.ts';
import { Slots } from './bounded.ts';
import {
  deviceIn,
  deviceKeysIn,
  isStreamId,
  type KeyChange,
  namedKeys,
  signingKeyIn,
} from './edus/device_lists.ts';
import { Lanes, MAX_RETRY_MS, type Postponement } from './lanes.ts';
import type { Log } from './log.ts';
import { FederationError, type FederationTransport, path } from './transport.ts';

// Copies of other servers' device lists
// -------------------------------------
// A copy is made when somebody here asks for a user's keys, or not at all: of a user whom nobody has asked for it is only noted
// that something has changed. From then on their server tells each change of a device, with the change before it (`prev_id`).
// Where that is the last one in the copy, the change is made in the copy as well. Where it is not, something was missed, and
// the copy is stale: it is not used any more, and the whole list is fetched, from each server one user after another, and
// after a failure again later, also after a restart. Clients are told to ask again when a fetched copy is another one, or at
// once where it could not be fetched.
//
// Their server tells only those with whom the user shares a room. So a copy is good only where a room was shared all along
// since it was made or confirmed (storage/remote_devices.ts): otherwise it is fetched like one that is not there. What comes
// while a list is being fetched makes it stale again, so that no change is lost in between.

// Ours.
/** Devices kept of one user; of more, those of the lowest ids are. */
export const MAX_DEVICES = 1_000;
/** A list of those with their keys, on whatever link. */
const FETCH_TIMEOUT_MS: Millis = 60_000;
/** Lists fetched at a time, over all servers. */
const MAX_FETCHING = 8;
const FIRST_RETRY_MS: Millis = 5_000;
/** How soon after a failure the next attempt may come when something is new. */
const WOKEN_RETRY_MS: Millis = 30_000;
/** Between two times that users are forgotten who share no room any more. */
const FORGET_INTERVAL_MS: Millis = 60 * 60_000;

interface RemoteDeviceListsOptions {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly transport: FederationTransport;
  readonly lists: Pick<DeviceLists, 'changed'>;
  readonly log: Log;
}

/** A list as its server told it. */
export interface FetchedList extends KeyCopy {
  /** Undefined: it came without one. */
  readonly streamId: number | undefined;
}

/** Keeps the copies of other servers' device lists right. */
export class RemoteDeviceLists {
  /**
   * Changes that were made in a copy, that were known already, and that broke a chain; lists fetched, and fetches that failed;
   * changes of users who share no room, and devices for which there was no place.
   */
  readonly counters = { applied: 0, known: 0, broken: 0, fetched: 0, failed: 0, strangers: 0, refused: 0 };
  readonly #options: RemoteDeviceListsOptions;
  readonly #lanes: Lanes;
  /** Failures in a row, by server; only of lanes that are there. */
  readonly #failures = new Map<ServerName, number>();
  readonly #fetching = new Map<UserId, Promise<FetchedList>>();
  readonly #slots = new Slots(MAX_FETCHING, Number.POSITIVE_INFINITY);
  #forgetting: Cancel | undefined;
  readonly #stopping = new AbortController();

  constructor(options: RemoteDeviceListsOptions) {
    this.#options = options;
    this.#lanes = new Lanes({
      clock: options.clock,
      log: options.log,
      drain: (server, signal) => this.#drain(server, signal),
      wokenRetry: () => WOKEN_RETRY_MS,
    });
  }

  /** Goes on with what has to be fetched. */
  async start(): Promise<void> {
    const { database } = this.#options;
    this.#lanes.start();
    await this.#forget();
    for (const server of await serversWithStaleCopies(database)) this.#lanes.wake(server);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#forgetting?.();
    await this.#lanes.stop();
    await Promise.allSettled(this.#fetching.values());
  }

  peerSpoke(server: ServerName): void {
    this.#lanes.peerSpoke(server);
  }

  /** Takes changes that a server tells of its own users, in their order. */
  async changed(changes: readonly KeyChange[]): Promise<void> {
    const { database } = this.#options;
    for (const [user, ofUser] of Map.groupBy(changes, (change) => change.user))
      await database.transaction((tx) => this.#change(tx, user, ofUser));
  }

  /**
   * Fetches a user's whole list, and keeps it where a room is shared. Who asks for the same meanwhile is told the same.
   * @throws FederationError, or MatrixError as the server answered
   */
  fetch(user: UserId): Promise<FetchedList> {
    const underWay = this.#fetching.get(user);
    if (underWay !== undefined) return underWay;
    const fetched = this.#slots.run(() => this.#fetch(user)).finally(() => this.#fetching.delete(user));
    // There is always a place to wait.
    const list = fetched as Promise<FetchedList>;
    this.#fetching.set(user, list);
    return list;
  }

  /**
   * Keeps what a server has told of a user, where a room was shared all along and nothing has come meanwhile.
   * @param asked the position in the delivery stream before it was asked
   */
  async keep(user: UserId, list: FetchedList, asked: number): Promise<void> {
    const { database, serverName, lists } = this.#options;
    await database.transaction(async (tx) => {
      if (!(await sharesRoomSince(tx, user, serverName, asked))) {
        // Somebody has been told this now, so that the next change is one even where it comes to what is kept.
        await deleteCopy(tx, user);
        return;
      }
      const before = await copyState(tx, user);
      const isOvertaken = before !== undefined && before.position > asked;
      if (isOvertaken && before.staleness === 'current') return;
      const known = await keyCopy(tx, user);
      await putKeyCopy(tx, { user, server: serverOf(user) }, list, {
        streamId: list.streamId,
        staleness: isOvertaken ? before.staleness : 'current',
        position: isOvertaken ? before.position : asked,
      });
      if (known === undefined || !isSameCopy(known, list)) await lists.changed(tx, user);
      tx.afterCommit(() => {
        this.counters.fetched++;
      });
    });
  }

  async #change(tx: Transaction, user: UserId, changes: readonly KeyChange[]): Promise<void> {
    const { serverName, lists } = this.#options;
    if (!(await sharesRoom(tx, user, serverName))) {
      await deleteCopy(tx, user);
      this.#count(tx, 'strangers', changes.length);
      return;
    }
    const state = await copyState(tx, user);
    if (state === undefined) {
      await lists.changed(tx, user);
      return;
    }
    const links = changes.filter((change) => change.kind === 'device');
    const isKnown = state.streamId !== undefined && links.at(-1)?.streamId === state.streamId;
    const news = isKnown ? changes.filter((change) => change.kind === 'signing') : changes;
    this.#count(tx, 'known', changes.length - news.length);
    if (news.length === 0) return;
    let { streamId } = state;
    const isSteady =
      state.staleness === 'current' && (await sharesRoomSince(tx, user, serverName, state.position));
    let applied = 0;
    for (const change of isSteady ? news : []) {
      if (change.kind === 'device' && !follows(change.prevIds, streamId)) break;
      if (!(await this.#apply(tx, change))) break;
      if (change.kind === 'device') streamId = change.streamId;
      applied++;
    }
    // What is fetched is compared with the copy as it is then.
    const told = applied > 0 ? await lists.changed(tx, user) : undefined;
    if (applied === news.length) {
      const position = told!;
      await putCopyState(tx, user, { streamId, staleness: 'current', position });
      this.#count(tx, 'applied', news.length);
      return;
    }
    const staleness = state.staleness === 'current' ? 'untold' : state.staleness;
    await putCopyState(tx, user, { streamId, staleness, position: await nextPosition(tx) });
    if (state.staleness === 'current') this.#count(tx, 'broken', 1);
    tx.afterCommit(() => this.#lanes.wake(serverOf(user)));
  }

  /** @returns whether the copy is right with it */
  async #apply(tx: Transaction, change: KeyChange): Promise<boolean> {
    const { user } = change;
    if (change.kind === 'signing') {
      const { master, selfSigning } = change;
      if (master === undefined || selfSigning === undefined) return false;
      const kept = await keyCopy(tx, user);
      const isGone = master === null && selfSigning === null;
      await putSigningKeys(tx, user, {
        master: master ?? (isGone ? undefined : kept?.master),
        selfSigning: selfSigning ?? (isGone ? undefined : kept?.selfSigning),
      });
      return true;
    }
    if (change.keys === undefined) return false;
    if (change.keys === null) await deleteRemoteDevice(tx, user, change.device);
    else if ((await countRemoteDevices(tx, user)) < MAX_DEVICES)
      await putRemoteDevice(tx, user, change.device, change.keys);
    else this.#count(tx, 'refused', 1);
    return true;
  }

  #count(tx: Transaction, counter: keyof RemoteDeviceLists['counters'], number: number): void {
    tx.afterCommit(() => {
      this.counters[counter] += number;
    });
  }

  async #fetch(user: UserId): Promise<FetchedList> {
    const { database, transport } = this.#options;
    const asked = await streamPosition(database);
    const { body } = await transport.request(serverOf(user), {
      method: 'GET',
      path: path`/_matrix/federation/v1/user/devices/${user}`,
      timeoutMs: FETCH_TIMEOUT_MS,
      priority: 2,
      signal: this.#stopping.signal,
    });
    const list = listIn(user, body);
    if (list === undefined) throw new FederationError('bad_answer', 'the answer is no list of devices');
    await this.keep(user, list, asked);
    return list;
  }

  /** Fetches the stale lists of a server, one after another. */
  async #drain(server: ServerName, signal: AbortSignal): Promise<Postponement | undefined> {
    const { database } = this.#options;
    let refusal: MatrixError | undefined;
    for (let after = ''; !signal.aborted; ) {
      const [user] = await staleCopies(database, server, { after, limit: 1 });
      if (user === undefined) break;
      try {
        await this.#refresh(user);
      } catch (error) {
        if (signal.aborted) return undefined;
        if (!(error instanceof FederationError || error instanceof MatrixError)) throw error;
        if (!(error instanceof MatrixError) || error.status >= 500 || error.status === 429)
          return this.#fail(server, error);
        // It is of this user; others may be told of.
        refusal = error;
        after = user;
      }
    }
    if (refusal !== undefined) return this.#fail(server, refusal);
    this.#failures.delete(server);
    return undefined;
  }

  async #refresh(user: UserId): Promise<void> {
    const { database, serverName } = this.#options;
    if (!(await sharesRoom(database, user, serverName))) {
      await database.transaction((tx) => deleteCopy(tx, user));
      return;
    }
    try {
      await this.fetch(user);
    } catch (error) {
      if (!(error instanceof MatrixError && error.errcode === 'M_NOT_FOUND')) throw error;
      await database.transaction((tx) => this.#isNobody(tx, user));
    }
  }

  /** A server does not know a user of its own who is in a room. */
  async #isNobody(tx: Transaction, user: UserId): Promise<void> {
    const nothing = { devices: new Map(), master: undefined, selfSigning: undefined };
    const position = await this.#options.lists.changed(tx, user);
    const state = { streamId: undefined, staleness: 'current', position } as const;
    await putKeyCopy(tx, { user, server: serverOf(user) }, nothing, state);
  }

  async #fail(server: ServerName, error: Error): Promise<Postponement> {
    const { database, random, lists, log } = this.#options;
    this.counters.failed++;
    const failures = (this.#failures.get(server) ?? 0) + 1;
    this.#failures.set(server, failures);
    await database.transaction(async (tx) => {
      for (const user of await tellStaleCopies(tx, server)) await lists.changed(tx, user);
    });
    const longest = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** (failures - 1));
    const waitMs = longest * (1 - random.fraction() / 2);
    log.info({ server, failures, reason: error.message }, 'a list of devices could not be fetched');
    return { failures, waitMs };
  }

  /** Forgets users who share no room any more, now and from time to time. */
  async #forget(): Promise<void> {
    const { database, clock, serverName, log } = this.#options;
    await database.transaction((tx) => deleteUnsharedCopies(tx, serverName));
    if (this.#stopping.signal.aborted) return;
    this.#forgetting = clock.after(FORGET_INTERVAL_MS, () => {
      this.#forget().catch((error: unknown) =>
        log.warn({ error: String(error) }, 'lists of devices could not be forgotten'),
      );
    });
  }
}

/** Whether a link follows the last one that is known. */
const follows = (prevIds: readonly number[], last: number | undefined): boolean =>
  last !== undefined && prevIds.length > 0 && prevIds.every((id) => id === last);

/** The answer to GET user/devices; undefined where it is none. What is malformed of a device or a key is left out. */
export function listIn(user: UserId, body: JsonValue): FetchedList | undefined {
  if (!isJsonObject(body) || own(body, 'user_id') !== user) return undefined;
  const [streamId, given] = [own(body, 'stream_id'), own(body, 'devices')];
  if (!isStreamId(streamId) || !Array.isArray(given)) return undefined;
  const devices = given.flatMap((each): [DeviceId, JsonObject][] => {
    const device = isJsonObject(each) ? deviceIn(own(each, 'device_id')) : undefined;
    if (!isJsonObject(each) || device === undefined) return [];
    const keys = deviceKeysIn(user, device, own(each, 'keys'));
    return keys ? [[device, namedKeys(keys, own(each, 'device_display_name'))]] : [];
  });
  return {
    streamId,
    devices: new Map(lowest(devices)),
    master: signingKeyIn(user, 'master', own(body, 'master_key')) ?? undefined,
    selfSigning: signingKeyIn(user, 'self_signing', own(body, 'self_signing_key')) ?? undefined,
  };
}

/** As many devices as are kept. */
export function lowest(devices: readonly [DeviceId, JsonObject][]): readonly [DeviceId, JsonObject][] {
  if (devices.length <= MAX_DEVICES) return devices;
  return [...devices].sort(([a], [b]) => (a < b ? -1 : 1)).slice(0, MAX_DEVICES);
}

const isSameCopy = (a: KeyCopy, b: KeyCopy): boolean => textOfCopy(a) === textOfCopy(b);
const textOfCopy = ({ devices, master, selfSigning }: KeyCopy): string =>
  JSON.stringify([[...devices].sort(([a], [b]) => (a < b ? -1 : 1)), master ?? null, selfSigning ?? null]);

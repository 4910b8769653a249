import type { Clock, Millis } from '../base/time.ts';
import type { ClaimedKeys, RemoteKeys, UserKeys, WantedKeys } from '../homeserver/ports.ts';
import { limitExceeded, MatrixError, unknownError } from '../matrix/error.ts';
import type { DeviceId, ServerName, UserId } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import type { Database } from '../storage/database.ts';
import { copyState, keyCopy, sharesRoom, sharesRoomSince } from '../storage/remote_devices.ts';
import { streamPosition } from '../storage/sync.ts';
import { BoundedMap, Slots } from './bounded.ts';
import { deviceIn, deviceKeysIn, namedKeys, signingKeyIn } from './edus/device_lists.ts';
import { type FetchedList, lowest, type RemoteDeviceLists } from './remote_device_lists.ts';
import { FederationError, type FederationTransport } from './transport.ts';

// Ours.
/** How long an answer may take: what comes too late for whoever asked is kept for those who ask again. */
const TIMEOUT_MS: Millis = 60_000;
/** Requests at a time, and those that wait for their turn. */
const MAX_ASKING = 50;
const MAX_WAITING = 500;
/** What a client is told to wait where that many do. */
const BUSY_RETRY_MS: Millis = 5_000;
/** Up to so many users are asked for one by one: their lists come with their places in the chain. */
const MAX_SINGLE = 2;
/** How long a server that did not answer is not asked again; doubled by each further failure. */
const FIRST_PAUSE_MS: Millis = 1_000;
const MAX_PAUSE_MS: Millis = 5 * 60_000;
const MAX_PAUSED = 1_000;
/** One-time keys that came too late. */
const MAX_LATE = 2_000;

interface Pause {
  /** Monotonic. */
  readonly until: Millis;
  readonly failures: number;
}

interface RemoteKeysOptions {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly clock: Clock;
  readonly transport: FederationTransport;
  readonly copies: Pick<RemoteDeviceLists, 'fetch' | 'keep'>;
}

/** Asks other servers for their users' keys, and answers from the copies that are kept of them. */
export class FederationRemoteKeys implements RemoteKeys {
  /** Requests begun. */
  readonly counters = { asked: 0 };
  readonly #options: RemoteKeysOptions;
  readonly #slots = new Slots(MAX_ASKING, MAX_WAITING);
  readonly #pauses = new BoundedMap<ServerName, Pause>(MAX_PAUSED);
  /** By user, device and algorithm. */
  readonly #late = new BoundedMap<string, JsonObject>(MAX_LATE);
  readonly #stopping = new AbortController();
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(options: RemoteKeysOptions) {
    this.#options = options;
  }

  /** Ends what is under way. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.allSettled(this.#underWay);
  }

  /** The server has just spoken to us, and so can be reached. */
  peerSpoke(server: ServerName): void {
    this.#pauses.delete(server);
  }

  async copies(users: readonly UserId[]): Promise<ReadonlyMap<UserId, UserKeys>> {
    const { database, serverName } = this.#options;
    const copies = new Map<UserId, UserKeys>();
    for (const user of users) {
      const state = await copyState(database, user);
      if (state?.staleness !== 'current') continue;
      if (!(await sharesRoomSince(database, user, serverName, state.position))) continue;
      const copy = await keyCopy(database, user);
      if (copy !== undefined) copies.set(user, copy);
    }
    return copies;
  }

  async query(
    server: ServerName,
    wanted: ReadonlyMap<UserId, readonly DeviceId[]>,
  ): Promise<ReadonlyMap<UserId, UserKeys>> {
    const { database, serverName } = this.#options;
    const kept = new Set<UserId>();
    for (const user of wanted.keys()) if (await sharesRoom(database, user, serverName)) kept.add(user);
    const single = wanted.size <= MAX_SINGLE ? kept : new Set<UserId>();
    const together = new Map([...wanted].filter(([user]) => !single.has(user)));
    const lists = await this.#ask(server, async () => {
      const [one, many] = await Promise.all([
        Promise.all([...single].map(async (user) => [user, await this.#list(user)] as const)),
        together.size === 0 ? [] : this.#query(server, together, kept),
      ]);
      return [...one, ...many];
    });
    return new Map(lists.map(([user, list]) => [user, onlyWanted(list, wanted.get(user) ?? [])]));
  }

  /**
   * As the port says. Keys that come too late are gone at their server and known to nobody: they are kept for whoever claims
   * one of the same device next.
   */
  async claim(server: ServerName, wanted: WantedKeys, timeoutMs: Millis): Promise<ClaimedKeys> {
    const claimed = new Map<UserId, Map<DeviceId, JsonObject>>();
    const late: [string, JsonObject][] = [];
    const left: WantedKey[] = [];
    for (const [user, devices] of wanted)
      for (const [device, algorithm] of devices) {
        const name = lateName({ user, device, algorithm });
        const kept = this.#late.get(name);
        this.#late.delete(name);
        if (kept === undefined) {
          left.push({ user, device, algorithm });
          continue;
        }
        late.push([name, kept]);
        addClaimed(claimed, user, device, kept);
      }
    try {
      if (left.length > 0)
        for (const { user, device, key } of await this.#claim(server, left, timeoutMs))
          addClaimed(claimed, user, device, key);
    } catch (error) {
      for (const [name, key] of late) this.#late.set(name, key);
      throw error;
    }
    return claimed;
  }

  async #claim(
    server: ServerName,
    wanted: readonly WantedKey[],
    timeoutMs: Millis,
  ): Promise<readonly (WantedKey & { readonly key: JsonObject })[]> {
    const { clock } = this.#options;
    const keys: JsonObject = {};
    for (const { user, device, algorithm } of wanted)
      keys[user] = { ...objectOf(keys[user]), [device]: algorithm };
    const begun = clock.monotonic();
    const answer = await this.#ask(server, () => this.#post(server, 'claim', { one_time_keys: keys }));
    const given = objectOf(own(objectOf(answer), 'one_time_keys'));
    const claimed = wanted.flatMap((one) => {
      const key = own(objectOf(own(given, one.user)), one.device);
      return isJsonObject(key) ? [{ ...one, key }] : [];
    });
    if (clock.monotonic() - begun < timeoutMs) return claimed;
    for (const one of claimed) this.#late.set(lateName(one), one.key);
    // Said in any case, so that nobody gets what is kept for somebody else.
    throw unknownError(504, `${server} did not answer in time`);
  }

  /** A user's whole list; of a user whom their server does not know, one of nothing. */
  async #list(user: UserId): Promise<FetchedList> {
    try {
      return await this.#options.copies.fetch(user);
    } catch (error) {
      if (!(error instanceof MatrixError && error.errcode === 'M_NOT_FOUND')) throw error;
      return { devices: new Map(), master: undefined, selfSigning: undefined, streamId: undefined };
    }
  }

  /** With one request. @param kept users whose lists are kept, and so asked for as a whole */
  async #query(
    server: ServerName,
    wanted: ReadonlyMap<UserId, readonly DeviceId[]>,
    kept: ReadonlySet<UserId>,
  ): Promise<(readonly [UserId, FetchedList])[]> {
    const asked = await streamPosition(this.#options.database);
    const users = [...wanted].map(([user, devices]) => [user, kept.has(user) ? [] : [...devices]] as const);
    const body = await this.#post(server, 'query', { device_keys: Object.fromEntries(users) });
    const lists = users.map(([user]) => [user, listOf(user, objectOf(body))] as const);
    for (const [user, list] of lists) if (kept.has(user)) await this.#options.copies.keep(user, list, asked);
    return lists;
  }

  async #post(server: ServerName, what: string, body: JsonObject): Promise<JsonValue> {
    const answer = await this.#options.transport.request(server, {
      method: 'POST',
      path: `/_matrix/federation/v1/user/keys/${what}`,
      body,
      timeoutMs: TIMEOUT_MS,
      priority: 2,
      signal: this.#stopping.signal,
    });
    return answer.body;
  }

  /** Asks a server that has not just failed to answer. @throws MatrixError */
  async #ask<Answer>(server: ServerName, ask: () => Promise<Answer>): Promise<Answer> {
    const { clock } = this.#options;
    const pause = this.#pauses.get(server);
    if (pause !== undefined && pause.until > clock.monotonic())
      throw unknownError(502, `${server} did not answer a moment ago`);
    const asked = this.#slots.run(async () => {
      this.counters.asked++;
      try {
        const answer = await ask();
        this.#pauses.delete(server);
        return { answer };
      } catch (error) {
        if (error instanceof FederationError) {
          const failures = (this.#pauses.get(server)?.failures ?? 0) + 1;
          const pauseMs = Math.min(MAX_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1));
          this.#pauses.set(server, { until: clock.monotonic() + pauseMs, failures });
          throw unknownError(error.problem === 'timeout' ? 504 : 502, error.message);
        }
        throw error;
      }
    });
    this.#underWay.add(asked);
    try {
      const answered = await asked;
      if (answered === undefined)
        throw limitExceeded('Too many questions to other servers are under way', BUSY_RETRY_MS);
      return answered.answer;
    } finally {
      this.#underWay.delete(asked);
    }
  }
}

interface WantedKey {
  readonly user: UserId;
  readonly device: DeviceId;
  readonly algorithm: string;
}

const lateName = ({ user, device, algorithm }: WantedKey): string =>
  JSON.stringify([user, device, algorithm]);

function addClaimed(
  claimed: Map<UserId, Map<DeviceId, JsonObject>>,
  user: UserId,
  device: DeviceId,
  key: JsonObject,
): void {
  const ofUser = claimed.get(user) ?? new Map<DeviceId, JsonObject>();
  claimed.set(user, ofUser.set(device, key));
}

const objectOf = (value: JsonValue | undefined): JsonObject => (isJsonObject(value) ? value : {});

/** What an answer to user/keys/query says of one user. What is malformed is left out. */
function listOf(user: UserId, body: JsonObject): FetchedList {
  const given = objectOf(own(objectOf(own(body, 'device_keys')), user));
  const devices = Object.entries(given).flatMap(([id, value]): [DeviceId, JsonObject][] => {
    const device = deviceIn(id);
    const keys = device && deviceKeysIn(user, device, value);
    if (device === undefined || !keys) return [];
    return [[device, namedKeys(keys, own(objectOf(own(keys, 'unsigned')), 'device_display_name'))]];
  });
  const key = (name: string): JsonValue | undefined => own(objectOf(own(body, name)), user);
  return {
    streamId: undefined,
    devices: new Map(lowest(devices)),
    master: signingKeyIn(user, 'master', key('master_keys')) ?? undefined,
    selfSigning: signingKeyIn(user, 'self_signing', key('self_signing_keys')) ?? undefined,
  };
}

function onlyWanted({ devices, master, selfSigning }: FetchedList, wanted: readonly DeviceId[]): UserKeys {
  const isWanted = (device: DeviceId): boolean => wanted.length === 0 || wanted.includes(device);
  return { devices: new Map([...devices].filter(([device]) => isWanted(device))), master, selfSigning };
}

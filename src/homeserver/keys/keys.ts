import { type Clock, type Millis, sleep } from '../../base/time.ts';
import { MatrixError, unknownError } from '../../matrix/error.ts';
import { type DeviceId, type ServerName, serverOf, type UserId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, own } from '../../matrix/json.ts';
import { signaturesBy } from '../../storage/cross_signing.ts';
import type { Reader } from '../../storage/database.ts';
import type { Requester } from '../accounts.ts';
import type { Once } from '../once.ts';
import type { RemoteKeys, UserKeys, WantedKeys } from '../ports.ts';
import { crossSigningKey, isIdentityKeys, isKeyObject } from './key_objects.ts';
import { claimedJson, type LocalKeys, type LocalUserKeys } from './local_keys.ts';
import { objectIn, withVisibleSignatures } from './signed_objects.ts';

/** How long other servers are waited for where the client does not say, as the specification recommends, and at most. */
export const DEFAULT_TIMEOUT_MS: Millis = 10_000;
const MAX_TIMEOUT_MS: Millis = 120_000;
/** Characters of keys from other servers, which are noted with the request. */
const MAX_CLAIMED_LENGTH = 512 * 1024;
/** Servers that one request has asked at the same time. */
const SERVERS_AT_ONCE = 32;

export interface KeysOptions {
  readonly reader: Reader;
  readonly clock: Clock;
  readonly serverName: ServerName;
  readonly local: LocalKeys;
  /** Left out: no other server can be asked. */
  readonly remote?: RemoteKeys | undefined;
}

/** What came of asking other servers: each one's answer, or why there is none. */
interface Asked<Answer> {
  readonly answers: readonly (readonly [ServerName, Answer])[];
  readonly failures: JsonObject;
}

/** Keys of whatever users, for local clients (client-server API, "Key management API"). */
export class Keys {
  readonly #reader: Reader;
  readonly #clock: Clock;
  readonly #serverName: ServerName;
  readonly #local: LocalKeys;
  readonly #remote: RemoteKeys | undefined;

  constructor({ reader, clock, serverName, local, remote }: KeysOptions) {
    this.#reader = reader;
    this.#clock = clock;
    this.#serverName = serverName;
    this.#local = local;
    this.#remote = remote;
  }

  /** @param wanted which of the users' devices; an empty list: all. @returns the body of the answer */
  async query(
    { user: viewer }: Requester,
    wanted: ReadonlyMap<UserId, readonly DeviceId[]>,
    timeoutMs: Millis = DEFAULT_TIMEOUT_MS,
  ): Promise<JsonObject> {
    const [here, elsewhere] = parted(wanted, this.#serverName);
    const found = new Map<UserId, LocalUserKeys>(await this.#local.query(here, viewer));
    const copies = (await this.#remote?.copies([...elsewhere.keys()])) ?? new Map<UserId, UserKeys>();
    const toAsk = new Map([...elsewhere].filter(([user]) => !copies.has(user)));
    const { answers, failures } = await this.#ask(byServer(toAsk), timeoutMs, (remote, server, users, ms) =>
      remote.query(server, users, ms),
    );
    for (const [user, keys] of [...copies, ...answers.flatMap(ownUsers)]) {
      const devices = elsewhere.get(user);
      if (devices !== undefined) found.set(user, await this.#checked(user, keys, devices, viewer));
    }
    return { ...queryBody(found), failures };
  }

  /**
   * A user's keys as `viewer` sees them: of a local user, or of another server's where a copy is kept or the server answers.
   * Undefined where they cannot be had.
   */
  async keysOf(user: UserId, viewer: UserId): Promise<LocalUserKeys | undefined> {
    const wanted = new Map([[user, []]]);
    if (serverOf(user) === this.#serverName) return (await this.#local.query(wanted, viewer)).get(user);
    const copy = (await this.#remote?.copies([user]))?.get(user);
    if (copy !== undefined) return this.#checked(user, copy, [], viewer);
    const { answers } = await this.#ask(byServer(wanted), DEFAULT_TIMEOUT_MS, (remote, server, users, ms) =>
      remote.query(server, users, ms),
    );
    const keys = new Map(answers.flatMap(ownUsers)).get(user);
    return keys === undefined ? undefined : this.#checked(user, keys, [], viewer);
  }

  /** Gives keys away, or has other servers do so. @returns the body of the answer */
  async claim(wanted: WantedKeys, once: Once, timeoutMs: Millis = DEFAULT_TIMEOUT_MS): Promise<JsonObject> {
    const [here, elsewhere] = parted(wanted, this.#serverName);
    const local = await this.#local.claim(here, once);
    // What another server gave away is gone there, so that a repetition has to get the same.
    const remote =
      elsewhere.size === 0
        ? { keys: {}, failures: {} }
        : await once.decide('keys of other servers', () => this.#claimElsewhere(elsewhere, timeoutMs));
    return { one_time_keys: { ...claimedJson(local), ...remote.keys }, failures: remote.failures };
  }

  async #claimElsewhere(
    wanted: WantedKeys,
    timeoutMs: Millis,
  ): Promise<{ readonly keys: JsonObject; readonly failures: JsonObject }> {
    const { answers, failures } = await this.#ask(byServer(wanted), timeoutMs, (remote, server, users, ms) =>
      remote.claim(server, users, ms),
    );
    const claimed = new Map<UserId, Map<DeviceId, JsonObject>>();
    let length = 0;
    for (const [user, devices] of answers.flatMap(ownUsers))
      for (const [device, keys] of devices) {
        const algorithm = wanted.get(user)?.get(device);
        const [[name, key] = ['', null]] = Object.entries(keys);
        length += JSON.stringify([user, device, name, key]).length;
        if (algorithm === undefined || !name.startsWith(`${algorithm}:`) || !isKeyObject(key)) continue;
        if (length > MAX_CLAIMED_LENGTH) break;
        const ofUser = claimed.get(user) ?? new Map<DeviceId, JsonObject>();
        claimed.set(user, ofUser.set(device, Object.fromEntries([[name, key]])));
      }
    return { keys: claimedJson(claimed), failures };
  }

  /** Asks each server once, many at the same time. */
  async #ask<Wanted, Answer>(
    servers: ReadonlyMap<ServerName, ReadonlyMap<UserId, Wanted>>,
    timeoutMs: Millis,
    ask: (
      remote: RemoteKeys,
      server: ServerName,
      users: ReadonlyMap<UserId, Wanted>,
      timeoutMs: Millis,
    ) => Promise<Answer>,
  ): Promise<Asked<Answer>> {
    const answers: [ServerName, Answer][] = [];
    const failures: [ServerName, JsonObject][] = [];
    const ms = Math.min(Math.max(timeoutMs, 0), MAX_TIMEOUT_MS);
    const end = this.#clock.monotonic() + ms;
    const waiting = [...servers];
    const askInTurn = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const [server, users] = next;
        const left = Math.max(end - this.#clock.monotonic(), 0);
        try {
          if (this.#remote === undefined) throw noAnswer();
          answers.push([server, await this.#within(left, ask(this.#remote, server, users, left))]);
        } catch (error) {
          if (!(error instanceof MatrixError)) throw error;
          failures.push([server, error.toJson()]);
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(SERVERS_AT_ONCE, waiting.length) }, askInTurn));
    return { answers, failures: Object.fromEntries(failures) };
  }

  async #within<Answer>(ms: Millis, answer: Promise<Answer>): Promise<Answer> {
    const done = new AbortController();
    const late = sleep(this.#clock, ms, done.signal).then((): Answer => {
      throw noAnswer();
    });
    try {
      return await Promise.race([answer, late]);
    } finally {
      done.abort();
      late.catch(() => undefined);
      answer.catch(() => undefined);
    }
  }

  /** What another server says of a user, without what it cannot say, and with what the viewer has signed. */
  async #checked(
    user: UserId,
    keys: UserKeys,
    wanted: readonly DeviceId[],
    viewer: UserId,
  ): Promise<LocalUserKeys> {
    const signatures = await signaturesBy(this.#reader, user, viewer);
    const seen = (object: JsonObject, keyId: string): JsonObject =>
      withVisibleSignatures(
        object,
        { owner: user, viewer },
        signatures.filter((row) => row.keyId === keyId),
      );
    const devices = [...keys.devices].filter(
      ([device, object]) =>
        (wanted.length === 0 || wanted.includes(device)) && isIdentityKeys(object, user, device),
    );
    const master = crossSigningKey(keys.master, user, 'master');
    const selfSigning = crossSigningKey(keys.selfSigning, user, 'self_signing');
    return {
      devices: new Map(
        devices.map(([device, { unsigned: _unsigned, ...object }]) => [device, seen(object, device)]),
      ),
      names: new Map(devices.flatMap(([device, object]) => nameIn(device, object))),
      master: master && seen(JSON.parse(master.key) as JsonObject, master.publicKey),
      selfSigning: selfSigning && seen(JSON.parse(selfSigning.key) as JsonObject, selfSigning.publicKey),
    };
  }
}

function nameIn(device: DeviceId, object: JsonObject): [DeviceId, string][] {
  const name = own(objectIn(object, 'unsigned'), 'device_display_name');
  return typeof name === 'string' ? [[device, name]] : [];
}

function queryBody(found: ReadonlyMap<UserId, LocalUserKeys>): JsonObject {
  const each = (key: 'master' | 'selfSigning' | 'userSigning'): JsonObject =>
    Object.fromEntries(
      [...found].flatMap(([user, keys]) => {
        const object = keys[key];
        return isJsonObject(object) ? [[user, object]] : [];
      }),
    );
  const devicesOf = ({ devices, names }: LocalUserKeys): JsonObject =>
    Object.fromEntries(
      [...devices].map(([device, keys]) => {
        const name = names.get(device);
        const { unsigned: _unsigned, ...object } = keys;
        return [
          device,
          { ...object, ...(name !== undefined && { unsigned: { device_display_name: name } }) },
        ];
      }),
    );
  return {
    device_keys: Object.fromEntries([...found].map(([user, keys]) => [user, devicesOf(keys)])),
    master_keys: each('master'),
    self_signing_keys: each('selfSigning'),
    user_signing_keys: each('userSigning'),
  };
}

/** Users of this server, and those of others. */
function parted<Wanted>(
  wanted: ReadonlyMap<UserId, Wanted>,
  serverName: ServerName,
): [here: Map<UserId, Wanted>, elsewhere: Map<UserId, Wanted>] {
  const here = new Map([...wanted].filter(([user]) => serverOf(user) === serverName));
  return [here, new Map([...wanted].filter(([user]) => !here.has(user)))];
}

/** What a server says of its own users. */
const ownUsers = <Keys>([server, users]: readonly [ServerName, ReadonlyMap<UserId, Keys>]): [
  UserId,
  Keys,
][] => [...users].filter(([user]) => serverOf(user) === server);

function byServer<Wanted>(wanted: ReadonlyMap<UserId, Wanted>): Map<ServerName, Map<UserId, Wanted>> {
  const servers = new Map<ServerName, Map<UserId, Wanted>>();
  for (const [user, what] of wanted) {
    const server = serverOf(user);
    const users = servers.get(server) ?? new Map<UserId, Wanted>();
    servers.set(server, users.set(user, what));
  }
  return servers;
}

const noAnswer = (): MatrixError => unknownError(504, 'The server does not answer.');

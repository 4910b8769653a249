import type { Random } from '../../../src/base/random.ts';
import { type Millis, sleep } from '../../../src/base/time.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { CrossSigner } from '../../homeserver/keys/key_owner.ts';
import { type Ask, KeyClient } from './client.ts';
import type { KeyCounts } from './counts.ts';
import type { Answer, Name, TwoHomes } from './home.ts';
import { LoggedDevice, type LoggedMessage, type LoggedUser } from './log.ts';

const RETRY_MS: Millis = 3_000;
const MAX_TRIES = 1_000;
const MAX_DEVICES = 3;
const MAX_KEYS = 4;
const ALGORITHM = 'signed_curve25519';

export interface Login {
  readonly user: string;
  readonly device: string;
  readonly token: string;
}

export const passwordOf = (user: string): string => `password of ${user}`;

/** What clients do at random, and the log of it. A request that a server's death has cut off is made again. */
export class Acts {
  readonly users: readonly LoggedUser[];
  readonly messages: LoggedMessage[] = [];
  readonly #dice: Random;
  readonly #homes: TwoHomes;
  readonly #counts: KeyCounts;
  /** Joins and leaves it. */
  readonly #join: (room: string) => string;
  readonly #room: string;
  #seeds: number;
  #keys = 0;

  constructor(parts: {
    readonly dice: Random;
    readonly homes: TwoHomes;
    readonly counts: KeyCounts;
    readonly seed: number;
    readonly logins: readonly (Login & { readonly home: Name })[];
    /** The room in which not everybody stays, and how it is joined. */
    readonly room: string;
    readonly join: (room: string) => string;
  }) {
    this.#dice = parts.dice;
    this.#homes = parts.homes;
    this.#counts = parts.counts;
    this.#room = parts.room;
    this.#join = parts.join;
    this.#seeds = parts.seed * 1_000;
    this.users = parts.logins.map((login) => ({
      ...{ home: login.home, id: login.user, master: undefined },
      devices: [new LoggedDevice(this.#client(login.home, login))],
    }));
  }

  get devices(): LoggedDevice[] {
    return this.users.flatMap(({ devices }) => devices).filter(({ isAlive }) => isAlive);
  }

  /** What a device does first. */
  async begin(device: LoggedDevice): Promise<void> {
    await device.client.sync();
    const body = { device_keys: device.client.owner.identityKeys() };
    const { status } = await this.#insist(() => device.client.ask('POST', '/keys/upload', body));
    if (status !== 200) return;
    device.hasKeys = true;
    await this.#uploadKeys(device);
  }

  /** Something that a device does which has nothing else to do; undefined where all are busy. */
  any(): Promise<void> | undefined {
    const free = this.devices.filter(({ isBusy, hasKeys }) => hasKeys && !isBusy);
    if (free.length === 0) return undefined;
    const device = this.#pick(free);
    device.isBusy = true;
    return this.#one(device).finally(() => {
      device.isBusy = false;
    });
  }

  #one(device: LoggedDevice): Promise<void> {
    const user = this.users.find(({ devices }) => devices.includes(device))!;
    switch (this.#dice.integer(16)) {
      case 0:
        return this.#logIn(user);
      case 1:
        return this.#logOut(user, device);
      case 2:
        return this.#rename(device);
      case 3:
        return this.#uploadKeys(device);
      case 4:
        return this.#sign(user, device);
      case 5:
      case 6:
        return this.#comeOrGo(user, device);
      case 7:
      case 8:
      case 9:
        return this.#claim(device);
      case 10:
      case 11:
      case 12:
        return this.#send(device);
      default:
        return this.look(device, this.#dice.integer(5) > 0);
    }
  }

  /** Takes an answer of /sync, and asks for the keys of which it tells. */
  async look(device: LoggedDevice, arrives = true): Promise<void> {
    const before = device.client.received.length;
    await device.client.sync(arrives);
    this.#counts.received += device.client.received.length - before;
    if (!arrives) this.#counts.lostAnswers++;
    else await device.client.query();
  }

  async #logIn(user: LoggedUser): Promise<void> {
    if (user.devices.filter(({ isAlive }) => isAlive).length >= MAX_DEVICES) return;
    const device = `D${this.#seeds++}`;
    const body = {
      ...{ type: 'm.login.password', identifier: { type: 'm.id.user', user: user.id } },
      ...{ password: passwordOf(user.id.slice(1, user.id.indexOf(':'))), device_id: device },
    };
    const { json } = await this.#insist(() => this.#homes.call(user.home, 'POST', '/login', undefined, body));
    const login = { user: user.id, device, token: String(json.access_token) };
    const logged = new LoggedDevice(this.#client(user.home, login));
    logged.isBusy = true;
    user.devices.push(logged);
    await this.begin(logged);
    logged.isBusy = false;
    this.#counts.logins++;
  }

  async #logOut(user: LoggedUser, device: LoggedDevice): Promise<void> {
    if (user.devices.filter(({ isAlive }) => isAlive).length < 2) return;
    // From now on nobody relies on it.
    device.isAlive = false;
    await this.#insist(() => device.client.ask('POST', '/logout', {}));
    this.#counts.logouts++;
  }

  async #rename(device: LoggedDevice): Promise<void> {
    const name = `name ${this.#seeds++}`;
    const path = `/devices/${device.client.device}`;
    const { status } = await this.#insist(() => device.client.ask('PUT', path, { display_name: name }));
    if (status !== 200) return;
    device.name = name;
    this.#counts.renames++;
  }

  async #uploadKeys(device: LoggedDevice): Promise<void> {
    const names = Array.from({ length: 1 + this.#dice.integer(MAX_KEYS) }, () => `K${this.#keys++}`);
    const keys = device.client.owner.oneTimeKeys(...names);
    for (const key of Object.values(keys)) device.uploaded.add(textOf(key));
    const fallback = this.#dice.integer(4) === 0;
    const name = `F${this.#keys++}`;
    const body = {
      one_time_keys: keys,
      ...(fallback && {
        fallback_keys: { [`${ALGORITHM}:${name}`]: device.client.owner.oneTimeKey(name, { fallback: true }) },
      }),
    };
    if (fallback) device.hasFallback = true;
    const { status } = await this.#insist(() => device.client.ask('POST', '/keys/upload', body));
    if (status !== 200) return;
    device.stored += names.length;
    this.#counts.uploads++;
  }

  /** Makes the user's signing keys anew. */
  async #sign(user: LoggedUser, device: LoggedDevice): Promise<void> {
    const signer = new CrossSigner(user.id, this.#seeds);
    this.#seeds += 10;
    // Those of one user one after another.
    const others = user.devices.filter((one) => one !== device);
    if (others.some(({ isBusy }) => isBusy)) return;
    for (const one of others) one.isBusy = true;
    const upload = (auth?: JsonObject) =>
      device.client.ask('POST', '/keys/device_signing/upload', { ...signer.body(), ...(auth && { auth }) });
    let answer = await this.#insist(() => upload());
    if (answer.status === 401 && answer.json.session !== undefined) {
      const auth = {
        ...{ type: 'm.login.password', session: answer.json.session },
        identifier: { type: 'm.id.user', user: user.id },
        password: passwordOf(user.id.slice(1, user.id.indexOf(':'))),
      };
      answer = await this.#insist(() => upload(auth));
      // A server that was started again does not know the session any more.
      if (answer.status === 401)
        answer = await this.#insist(() => upload({ ...auth, session: answer.json.session! }));
    }
    for (const one of others) one.isBusy = false;
    if (answer.status !== 200) throw new Error(`signing keys: ${JSON.stringify(answer)}`);
    user.master = `ed25519:${signer.pairs.master.publicKey}`;
    this.#counts.signings++;
  }

  /** The first user stays. */
  async #comeOrGo(user: LoggedUser, device: LoggedDevice): Promise<void> {
    if (user === this.users[0]) return;
    // Who comes back before all have heard that they left may be taken for gone.
    const comes = !(await this.#isThere(user.id));
    const path = comes ? this.#join(this.#room) : `/rooms/${encodeURIComponent(this.#room)}/leave`;
    const { status } = await device.client.ask('POST', path, {});
    if (status === 200) this.#counts[comes ? 'joins' : 'leaves']++;
  }

  /** Whether a user is in the room as far as the server of the first user knows; true where it does not answer. */
  async #isThere(user: string): Promise<boolean> {
    const { ask } = this.users[0]!.devices.find(({ isAlive }) => isAlive)!.client;
    const { json } = await ask('GET', `/rooms/${encodeURIComponent(this.#room)}/joined_members`);
    return json.joined === undefined || user in (json.joined as JsonObject);
  }

  async #claim(device: LoggedDevice): Promise<void> {
    const user = this.#pick(this.users);
    const target = this.#pick(user.devices);
    const { user: id, device: name } = target.client;
    const isThere = target.isAlive && target.hasKeys;
    target.openClaims++;
    const wanted = { one_time_keys: { [id]: { [name]: ALGORITHM } } };
    const { status, json } = await device.client.ask('POST', '/keys/claim', wanted);
    target.openClaims--;
    this.#counts.claims++;
    if (user.home !== device.client.home) this.#counts.remoteClaims++;
    if (status !== 200 || Object.keys((json.failures ?? {}) as JsonObject).length > 0) {
      target.lostClaims++;
      this.#counts.lostClaims++;
      return;
    }
    const given = (json.one_time_keys as Record<string, Record<string, JsonObject>>)[id]?.[name];
    const key = given && Object.values(given)[0];
    if (key === undefined) {
      if (isThere && target.isAlive && (target.hasFallback || target.keysLeft.least > 0))
        throw new Error(`${id} ${name} has keys, and none is given`);
      this.#counts.exhausted++;
      return;
    }
    const isFallback = (key as JsonObject).fallback === true;
    if (isFallback) this.#counts.fallbacks++;
    target.claimed(textOf(key), isFallback);
  }

  async #send(device: LoggedDevice): Promise<void> {
    const others = this.users.filter(({ id }) => id !== device.client.user);
    const toAll = this.#dice.integer(4) === 0;
    const users = toAll ? [this.#pick(others)] : others;
    const alive = users.flatMap(({ devices }) => devices).filter(({ isAlive }) => isAlive);
    const to = toAll ? alive : alive.filter(() => this.#dice.integer(2) === 0);
    if (to.length === 0) return;
    const n = this.messages.length;
    const toAllOf = toAll ? users[0]!.id : undefined;
    const message: LoggedMessage = { from: device, to, toAllOf, isTaken: false };
    this.messages.push(message);
    const addresses =
      toAllOf !== undefined
        ? [[toAllOf, '*'] as const]
        : to.map(({ client }) => [client.user, client.device] as const);
    const { status } = await this.#insist(() => device.client.send(n, addresses));
    if (status !== 200) return;
    message.isTaken = true;
    this.#counts[toAll ? 'toAll' : 'sent']++;
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#dice.integer(from.length)]!;
  }

  #client(home: Name, login: Login): KeyClient {
    const ask: Ask = (method, path, body) => this.#homes.call(home, method, path, login.token, body);
    this.#seeds += 10;
    return new KeyClient(home, login, ask, this.#seeds);
  }

  /** Asks until there is an answer. */
  async #insist(ask: () => Promise<Answer>): Promise<Answer> {
    for (let tries = 1; ; tries++) {
      const answer = await ask();
      if (answer.status !== 0) return answer;
      if (tries === MAX_TRIES) throw new Error('there is no answer');
      await sleep(this.#homes.time.clock, RETRY_MS);
    }
  }
}

const textOf = (key: unknown): string => String((key as JsonObject).key);

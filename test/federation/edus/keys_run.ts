import { type Random, seededRandom } from '../../../src/base/random.ts';
import { FederationError } from '../../../src/federation/transport.ts';
import { MatrixError } from '../../../src/matrix/error.ts';
import { type DeviceId, type ServerName, serverOf, type UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { streamPosition } from '../../../src/storage/sync.ts';
import { A, B, HOUR } from '../fixtures.ts';
import { KeysWorld } from './keys_world.ts';

/** The device of each user that is there all the time, and gets messages. */
const MAIN = 'MAIN';
const MINUTE = 60_000;

/** A client that keeps to what it is told: whose keys it knows, and what its device was sent. */
class ModelClient {
  readonly user: UserId;
  /** By sender. */
  readonly got = new Map<UserId, number[]>();
  /** What it takes the devices of the one whom it tracks to be, and the position in the stream that it has. */
  known: readonly string[] | undefined;
  isOutdated = true;
  position = 0;
  since = 0;

  constructor(user: UserId) {
    this.user = user;
  }
}

/**
 * Two servers and a link that loses requests and answers. On each a user who logs in and out on devices, uploads keys, claims the
 * other's, sends to the other's device, leaves and comes back. What is true is known from what was done.
 */
export class KeysRun {
  readonly counts = {
    ...{
      lostRequests: 0,
      lostAnswers: 0,
      restarts: 0,
      rejoins: 0,
      claimed: 0,
      unclaimed: 0,
      queries: 0,
      failedQueries: 0,
    },
    ...{ forgotten: 0, repeated: 0, applied: 0, broken: 0, fetched: 0, messages: 0, fromCopies: 0 },
  };
  readonly problems: string[] = [];
  readonly #world: KeysWorld;
  readonly #random: Random;
  readonly #clients: readonly ModelClient[];
  readonly #devices = new Map<UserId, Set<string>>();
  readonly #keys = new Set<string>();
  readonly #given = new Set<string>();
  /** By recipient. */
  readonly #sent = new Map<UserId, number[]>();
  #loss = 0;
  #n = 0;

  private constructor(world: KeysWorld, seed: number) {
    this.#world = world;
    this.#random = seededRandom(seed);
    this.#clients = [world.alice, world.bob].map((user) => new ModelClient(user));
    world.network.passes = () => this.#passes('lostRequests');
    world.network.beforeAnswer = async () => {
      if (!this.#passes('lostAnswers')) throw new FederationError('timeout', 'the answer is lost');
    };
  }

  static async open(seed: number): Promise<KeysRun> {
    const world = await KeysWorld.open();
    const run = new KeysRun(world, seed);
    for (const user of [world.alice, world.bob]) {
      await world.sender(user);
      await world.logIn(user, MAIN);
      run.#devices.set(user, new Set([MAIN]));
      run.#sent.set(user, []);
    }
    return run;
  }

  #below(n: number): number {
    return Math.floor(this.#random.fraction() * n);
  }

  #passes(count: 'lostRequests' | 'lostAnswers'): boolean {
    const passes = this.#random.fraction() >= this.#loss;
    if (!passes) this.counts[count]++;
    return passes;
  }

  #other(user: UserId): UserId {
    return user === this.#world.alice ? this.#world.bob : this.#world.alice;
  }

  async step(): Promise<void> {
    this.#loss = [0, 0.2, 0.5][this.#below(3)]!;
    const client = this.#clients[this.#below(2)]!;
    const { user } = client;
    const kind = this.#below(20);
    if (kind < 1) await this.#forget(user);
    else if (kind < 3) await this.#logIn(user);
    else if (kind < 5) await this.#logOut(user);
    else if (kind < 8) await this.#claim(user);
    else if (kind < 13) await this.#send(user);
    else if (kind < 15) await this.#sync(client);
    else if (kind < 16) await this.#rejoin(user);
    else if (kind < 17) await this.#restart([A, B][this.#below(2)]!);
    else if (kind < 18)
      await this.#world.within(this.#world.side(user).say(user, this.#world.room, `${this.#n++}`));
    else await this.#world.pass(this.#below(10 * MINUTE));
    await this.#track(client);
    await this.#world.pass(this.#below(5_000));
  }

  async #logIn(user: UserId): Promise<void> {
    const devices = this.#devices.get(user)!;
    const device = `D${this.#below(6)}`;
    if (devices.has(device)) return;
    const names = Array.from({ length: this.#below(4) }, () => `k${this.#n++}`);
    await this.#world.logIn(user, device, names);
    for (const name of names) this.#keys.add(`${user} ${device} signed_curve25519:${name}`);
    devices.add(device);
  }

  /** What waits of the user's changes is lost by their server, as other servers lose some: the next change has to show it. */
  async #forget(user: UserId): Promise<void> {
    this.#loss = 1;
    await this.#logIn(user);
    await this.#world.side(user).database.transaction((tx) => tx.run('DELETE FROM outbox_device_lists'));
    this.counts.forgotten++;
  }

  async #logOut(user: UserId): Promise<void> {
    const devices = this.#devices.get(user)!;
    const device = [...devices][this.#below(devices.size)]!;
    if (device === MAIN) return;
    await this.#world.logOut(user, device);
    devices.delete(device);
  }

  /** Somebody claims a key of one of the user's devices: a user of the same server, or of the other. */
  async #claim(user: UserId): Promise<void> {
    const devices = [...this.#devices.get(user)!];
    const device = devices[this.#below(devices.length)]!;
    const claimed = await this.#attempt(
      this.#below(2) === 0 ? this.#world.claim(user, device) : this.#world.claimHere(user, device),
    );
    const [name] = Object.keys(((claimed?.[user] as JsonObject | undefined)?.[device] as JsonObject) ?? {});
    if (name === undefined) {
      this.counts.unclaimed++;
      return;
    }
    const key = `${user} ${device} ${name}`;
    if (!this.#keys.has(key)) this.problems.push(`${key} was never uploaded`);
    if (this.#given.has(key)) this.problems.push(`${key} was given twice`);
    this.#given.add(key);
    this.counts.claimed++;
  }

  async #send(user: UserId): Promise<void> {
    const to = this.#other(user);
    const n = this.#n++;
    const messages = { [to]: { [MAIN]: { n } } };
    for (let times = this.#below(4) === 0 ? 2 : 1; times > 0; times--)
      await this.#world.send(user, messages, `n${n}`);
    this.#sent.get(to)!.push(n);
    this.counts.messages++;
  }

  /** The device asks for its messages, and the answer may be lost. */
  async #sync(client: ModelClient): Promise<void> {
    const { database, toDevice } = this.#world.side(client.user);
    const requester = { user: client.user, device: MAIN as DeviceId };
    await this.#world.within(toDevice.acknowledge(requester, client.since));
    const now = await streamPosition(database);
    const events = await toDevice.events(database, requester, { after: client.since, upTo: now });
    if (this.#below(3) === 0) return;
    for (const { sender, content } of events) {
      const got = client.got.get(sender as UserId) ?? [];
      client.got.set(sender as UserId, [...got, (content as { n: number }).n]);
    }
    client.since = now;
  }

  async #rejoin(user: UserId): Promise<void> {
    const { room } = this.#world;
    const { rooms } = this.#world.side(user);
    this.#loss = 0;
    await this.#world.within(rooms.memberships.leave(user, room));
    // Who comes back before their leaving is known has not left.
    await this.#world.pass(2 * HOUR);
    for (const who of [user, this.#other(user)]) {
      if (this.#below(2) === 0) await this.#logIn(who);
      if (this.#below(2) === 0) await this.#logOut(who);
    }
    await this.#world.within(rooms.memberships.join(user, room, { via: [serverOf(this.#other(user))] }));
    await this.#world.pass(2 * HOUR);
    this.counts.rejoins++;
    // As both are told who share a room anew.
    for (const client of this.#clients) client.isOutdated = true;
  }

  async #restart(server: ServerName): Promise<void> {
    this.#collect(server);
    await this.#world.restart(server);
    this.counts.restarts++;
  }

  #collect(server: ServerName): void {
    const { toDevice, remoteDeviceLists } = this.#world.side(server);
    this.counts.repeated += toDevice.counters.repeated;
    for (const name of ['applied', 'broken', 'fetched'] as const)
      this.counts[name] += remoteDeviceLists.counters[name];
  }

  /** Asks for the other's keys where the client has been told to. */
  async #track(client: ModelClient): Promise<void> {
    const user = this.#other(client.user);
    const told = await this.#world.toldAt(user);
    if (told > client.position) client.isOutdated = true;
    client.position = Math.max(client.position, told);
    if (!client.isOutdated) return;
    client.isOutdated = false;
    this.counts.queries++;
    const answer = await this.#attempt(this.#world.query(user));
    if (answer === undefined) {
      this.counts.failedQueries++;
      client.isOutdated = true;
      return;
    }
    if (!answer.asked) this.counts.fromCopies++;
    client.known = [...(answer.keys?.devices.keys() ?? [])];
  }

  async #attempt<T>(outcome: Promise<T>): Promise<T | undefined> {
    try {
      return await outcome;
    } catch (error) {
      if (error instanceof MatrixError) return undefined;
      throw error;
    }
  }

  /** Lets everything come to rest, and compares what is known with what is true. */
  async end(): Promise<void> {
    this.#loss = 0;
    for (const { user } of this.#clients) {
      await this.#world.logIn(user, 'LAST');
      this.#devices.get(user)!.add('LAST');
    }
    await this.#world.pass(4 * HOUR);
    for (const client of this.#clients) {
      await this.#track(client);
      for (let at = 0; at < 40; at++) await this.#sync(client);
      const other = this.#other(client.user);
      const [known, real] = [[...(client.known ?? [])].sort(), [...this.#devices.get(other)!].sort()];
      if (known.join() !== real.join())
        this.problems.push(`${other} has ${real.join()}, known are ${known.join()}`);
      const [got, sent] = [client.got.get(other) ?? [], this.#sent.get(client.user)!];
      if (got.join() !== sent.join())
        this.problems.push(`${client.user} was sent ${sent.join()}, and got ${got.join()}`);
    }
    for (const server of [A, B]) {
      this.#collect(server);
      for (const table of ['outbox_to_device', 'outbox_device_lists'])
        if ((await this.#world.side(server).database.all(`SELECT 1 FROM ${table}`)).length > 0)
          this.problems.push(`${table} of ${server} is not empty`);
    }
  }
}

import { type Random, seededRandom } from '../../../src/base/random.ts';
import { type Millis, sleep } from '../../../src/base/time.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { Acts, type Login, passwordOf } from './acts.ts';
import type { KeyCounts } from './counts.ts';
import { type Disks, NAMES, type Name, serverName, TwoHomes } from './home.ts';
import { checkKeyCount, checkKnown, checkMessages } from './log.ts';

const USERS: readonly (readonly [Name, string])[] = [
  ['alpha', 'alice'],
  ['alpha', 'bob'],
  ['bravo', 'carol'],
  ['bravo', 'dave'],
];
const STEPS = 16;
const MAX_AT_ONCE = 4;
const MAX_PAUSE_MS: Millis = 60_000;
/** A server dies at one of so many commits after the moment that the dice say. */
const MAX_COMMITS_LEFT = 10;
/** How often it is looked whether a server has died. */
const LOOK_MS: Millis = 2_000;
/** How long the servers have at the end. */
const HEALING_MS: Millis = 2 * 3_600_000;
const MAX_ROUNDS = 20;
const ROUND_MS: Millis = 120_000;

/** Two servers with users in two rooms, as they are on their disks. */
interface Scene {
  readonly disks: Disks;
  readonly logins: readonly (Login & { readonly home: Name })[];
  /** In the first one Alice and Carol stay; in the second one only Alice does. */
  readonly rooms: readonly [string, string];
}

const joinPath = (room: string): string =>
  `/join/${encodeURIComponent(room)}?via=${serverName('alpha')}&server_name=${serverName('alpha')}`;

async function setScene(): Promise<Scene> {
  const homes = await TwoHomes.open(0);
  const ok = async (...request: Parameters<TwoHomes['call']>): Promise<JsonObject> => {
    const { status, json } = await homes.until(homes.call(...request));
    if (status !== 200) throw new Error(`${request[2]}: ${JSON.stringify(json)}`);
    return json;
  };
  const logins: (Login & { readonly home: Name })[] = [];
  for (const [home, username] of USERS) {
    const device = `${username.toUpperCase()}0`;
    const { user_id: user, access_token: token } = await ok(home, 'POST', '/register', undefined, {
      ...{ username, password: passwordOf(username), device_id: device, auth: { type: 'm.login.dummy' } },
    });
    logins.push({ home, user: String(user), device, token: String(token) });
  }
  const makeRoom = async (...members: readonly number[]): Promise<string> => {
    const [alice] = logins;
    const { room_id } = await ok('alpha', 'POST', '/createRoom', alice!.token, { preset: 'public_chat' });
    const room = String(room_id);
    for (const { home, token } of members.map((i) => logins[i]!)) {
      await ok(home, 'POST', joinPath(room), token, {});
      await homes.time.pass(10_000);
    }
    return room;
  };
  const rooms = [await makeRoom(2), await makeRoom(1, 2, 3)] as const;
  return { disks: await homes.close(), logins, rooms };
}

let scene: Promise<Scene> | undefined;

/**
 * Devices of four users on two servers upload keys, claim each other's, send each other messages, come, go and change their
 * names, while datagrams between the servers are lost, answers to clients are lost, and the servers are restarted and
 * killed. Then all is well again, and what the clients have must be what the driver's log says.
 * @throws Error where it is not
 */
export async function simulateKeys(seed: number, counts: KeyCounts): Promise<void> {
  scene ??= setScene();
  const { disks } = await scene;
  const homes = await TwoHomes.open(seed, disks, () => counts.lostDatagrams++);
  try {
    await new World(seed, homes, await scene, counts).run();
  } finally {
    await homes.close();
  }
}

class World {
  readonly #dice: Random;
  readonly #homes: TwoHomes;
  readonly #counts: KeyCounts;
  readonly #rooms: readonly string[];
  readonly #acts: Acts;

  constructor(seed: number, homes: TwoHomes, { logins, rooms }: Scene, counts: KeyCounts) {
    const dice = seededRandom(seed);
    this.#dice = dice;
    this.#homes = homes;
    this.#counts = counts;
    this.#rooms = rooms;
    this.#acts = new Acts({ dice, homes, counts, seed, logins, room: rooms[1], join: joinPath });
  }

  async run(): Promise<void> {
    const acts = this.#acts;
    await this.#during(acts.devices.map((device) => acts.begin(device)));
    for (let step = 0; step < STEPS; step++) {
      await this.#makeTrouble();
      await this.#during(
        Array.from({ length: 1 + this.#dice.integer(MAX_AT_ONCE) }, () => acts.any() ?? Promise.resolve()),
      );
      if (this.#dice.integer(2) === 0) await this.#homes.time.pass(this.#dice.integer(MAX_PAUSE_MS));
    }
    await this.#heal();
    const [failure] = this.#homes.failures;
    if (failure !== undefined) throw new Error(failure);
    checkMessages(acts.users, acts.messages);
    for (const device of acts.devices) {
      checkKeyCount(device);
      const sharers = await this.#sharers(device.client.user);
      checkKnown(
        device,
        acts.users.filter(({ id }) => sharers.has(id)),
      );
    }
    for (const name of NAMES) this.#counts.fetchedLists += this.#homes.counters(name).deviceLists.fetched;
  }

  /** Lets things happen until all are done; a server that has died meanwhile is started again. */
  async #during(acts: readonly Promise<void>[]): Promise<void> {
    let isOver = false;
    const end = (): void => {
      isOver = true;
    };
    const all = Promise.all(acts);
    all.then(end, end);
    for (;;) {
      await this.#homes.until(Promise.race([all, sleep(this.#homes.time.clock, LOOK_MS)]));
      for (const name of NAMES) if (this.#homes.isDead(name)) await this.#restart(name);
      if (isOver) return;
    }
  }

  async #makeTrouble(): Promise<void> {
    const dice = this.#dice;
    const name = NAMES[dice.integer(NAMES.length)]!;
    switch (dice.integer(16)) {
      case 0:
      case 1:
        this.#homes.change({ loss: dice.integer(3) * 0.15 });
        break;
      case 2:
      case 3:
        this.#homes.change({ partitioned: true });
        this.#counts.partitions++;
        break;
      case 4:
      case 5:
      case 6:
        this.#homes.change({ partitioned: false });
        break;
      case 7:
      case 8:
        this.#homes.dieAt(name, {
          transaction: dice.integer(MAX_COMMITS_LEFT),
          when: dice.integer(2) === 0 ? 'before' : 'after',
        });
        break;
      case 9:
        await this.#restart(name);
        break;
    }
  }

  async #restart(name: Name): Promise<void> {
    this.#counts[this.#homes.isDead(name) ? 'kills' : 'restarts']++;
    await this.#homes.restart(name);
  }

  /** All is well, and every client follows until it is told of nothing new. */
  async #heal(): Promise<void> {
    const homes = this.#homes;
    homes.change({ loss: 0, partitioned: false });
    for (const name of NAMES) {
      homes.dieAt(name, undefined);
      if (homes.isDead(name)) await this.#restart(name);
    }
    await homes.time.pass(HEALING_MS);
    for (let round = 0, isQuiet = false; !isQuiet; round++) {
      if (round === MAX_ROUNDS) throw new Error('there is always something new');
      isQuiet = true;
      for (const { client } of this.#acts.devices) {
        const news = await homes.until(client.sync());
        if (news !== false) isQuiet = false;
        await homes.until(client.query());
        if (client.outdated.size > 0) isQuiet = false;
      }
      await homes.time.pass(ROUND_MS);
    }
  }

  /** Those who share a room with a user, the user included, as their server says. */
  async #sharers(user: string): Promise<Set<string>> {
    const { home, devices } = this.#acts.users.find(({ id }) => id === user)!;
    const { token } = devices.find(({ isAlive }) => isAlive)!.client;
    const sharers = new Set([user]);
    for (const room of this.#rooms) {
      const path = `/rooms/${encodeURIComponent(room)}/joined_members`;
      const { json } = await this.#homes.until(this.#homes.call(home, 'GET', path, token));
      const joined = Object.keys((json.joined ?? {}) as JsonObject);
      if (joined.includes(user)) for (const one of joined) sharers.add(one);
    }
    return sharers;
  }
}

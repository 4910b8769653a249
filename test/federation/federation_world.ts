import { type Random, seededRandom } from '../../src/base/random.ts';
import type { Millis } from '../../src/base/time.ts';
import { SIGNATURES_PATH } from '../../src/exchange/pipe_codec.ts';
import { type FederationCall, FederationError } from '../../src/federation/transport.ts';
import type { DeviceId, EventId } from '../../src/matrix/ids.ts';
import type { SqliteDatabase } from '../../src/storage/sqlite.ts';
import { MortalDatabase } from '../doors/mortal_database.ts';
import { checkEnd, checkMoment, checkNobodyHas, checkQuiet } from './federation_checks.ts';
import { Disk, NAMES, SCENES, type Scene, type SimulatedRoom, sceneOf, USERS } from './federation_scene.ts';
import { HOUR, testKey } from './fixtures.ts';
import { Network, openSide, type Side, stopped } from './sides.ts';

const STEPS = 24;
/** Long enough for silence, after which signatures follow, and for most of what is tried again. */
const MAX_PAUSE_MS = 90_000;
/** Requests are slower than others that begin after them. */
const MAX_DELAY_MS = 8_000;
const WITHIN_MS: Millis = 24 * HOUR;
/** How long the servers have at the end, and how often something is said then so that what lies behind a gap is asked for. */
const HEALING_MS: Millis = 6 * HOUR;
const LAST_WORDS = 2;
/** A server dies at one of so many commits after the moment that the dice say. */
const MAX_COMMITS_LEFT = 12;
const MAX_JOIN_ATTEMPTS = 200;

export const noCounts = () => ({
  ...{ events: 0, forks: 0, joins: 0 },
  ...{ written: 0, writtenWhole: 0, read: 0, askedWhole: 0 },
  ...{ deferred: 0, followed: 0, failed: 0, provisional: 0, late: 0, bad: 0, refetched: 0 },
  ...{ lostRequests: 0, lostAnswers: 0, delayed: 0, spoilt: 0, restarts: 0, kills: 0, repeated: 0, held: 0 },
});
/** Of what must hardly ever happen. */
export const noMisreadings = () => ({ ambiguous: 0, misread: 0, stray: 0, overdue: 0 });

/** What has happened, over all seeds. */
export type FederationCounts = ReturnType<typeof noCounts>;

/**
 * Three servers say, change and redact things at the same time, in rooms of two, where signatures may follow their events,
 * and of three. Requests and answers are slow, overtake each other and are lost, batches of signatures are spoilt, servers
 * are restarted and killed, and one may join a room. Then all is well again, and everything has to be the same everywhere.
 * @throws Error where it is not
 */
export async function simulateFederation(
  seed: number,
  counts: FederationCounts,
  misreadings = noMisreadings(),
): Promise<void> {
  const dice = seededRandom(seed);
  const scene = await sceneOf(dice.integer(SCENES.length));
  const disk = new Disk();
  try {
    const world = new World(seed, dice, scene, disk, { counts, misreadings });
    await world.run();
  } finally {
    await disk.close();
    disk.remove();
  }
}

interface Counted {
  readonly counts: FederationCounts;
  readonly misreadings: ReturnType<typeof noMisreadings>;
}

interface SimulatedServer {
  readonly inner: SqliteDatabase;
  side: Side;
  database: MortalDatabase;
}

class World {
  readonly #seed: number;
  readonly #dice: Random;
  readonly #counts: FederationCounts;
  readonly #misreadings: Counted['misreadings'];
  readonly #network: Network;
  readonly #rooms: SimulatedRoom[];
  readonly #scene: Scene;
  readonly #disk: Disk;
  readonly #servers: SimulatedServer[] = [];
  readonly #away = new Set<string>();
  readonly #joinsAt: number;
  #lossPercent = 0;
  #spoilPercent = 0;
  #delayPercent = 0;
  #starts = 0;
  readonly #refused: string[] = [];
  /** Of which a server was told by another that has not got them. */
  readonly #misread = new Set<EventId>();
  /** Transactions that were answered, whether or not the answer arrived, and how many of these came again. */
  readonly #done = new Set<string>();
  #repeatedAtLeast = 0;
  #repeated = 0;

  constructor(seed: number, dice: Random, scene: Scene, disk: Disk, { counts, misreadings }: Counted) {
    this.#seed = seed;
    this.#dice = dice;
    this.#scene = scene;
    this.#disk = disk;
    this.#counts = counts;
    this.#misreadings = misreadings;
    this.#network = new Network(scene.wall);
    this.#network.formed = dice.integer(8) > 0;
    this.#network.deferred = dice.integer(3) > 0;
    this.#rooms = scene.rooms.map((room) => ({ ...room, members: [...room.members], said: new Map() }));
    this.#joinsAt = dice.integer(4) < 3 ? dice.integer(STEPS) : STEPS;
  }

  async run(): Promise<void> {
    for (const [i, name] of NAMES.entries()) {
      const inner = this.#disk.open(name, this.#scene.databases[i]!);
      this.#servers.push({ inner, ...(await this.#open(i, inner)) });
    }
    this.#makeTrouble();
    for (let step = 0; step < STEPS; step++) {
      await this.#step(step);
      for (const { inner } of this.#servers) await checkMoment(inner);
      if (this.#dice.integer(2) === 0) await this.#network.time.pass(this.#dice.integer(MAX_PAUSE_MS));
    }
    await this.#heal();
    await this.#checkRooms(checkQuiet);
    await this.#sayLastWords();
    await this.#checkRooms(async (...room) => {
      this.#counts.events += await checkEnd(...room);
    });
    for (const { side } of this.#servers) {
      this.#count(side);
      await this.#network.time.until(stopped(side), WITHIN_MS);
    }
    if (this.#repeated < this.#repeatedAtLeast)
      throw new Error(`${this.#repeatedAtLeast - this.#repeated} transactions were done twice`);
    for (const { inner } of this.#servers) await checkNobodyHas(inner, this.#misread);
    if (this.#refused.length > 0) throw new Error(`events were refused: ${this.#refused.join(', ')}`);
  }

  async #checkRooms(check: typeof checkQuiet): Promise<void> {
    const databases = new Map(NAMES.map((name, i) => [name, this.#servers[i]!.inner] as const));
    for (const room of this.#rooms) {
      const members = room.members.map((i) => NAMES[i]!);
      await check(databases, room, members);
    }
  }

  async #open(i: number, inner: SqliteDatabase): Promise<{ side: Side; database: MortalDatabase }> {
    const database = new MortalDatabase(inner);
    const seed = this.#seed * 1_000 + this.#starts++;
    return { side: await openSide(this.#network, NAMES[i]!, testKey(i + 1), seed, database), database };
  }

  #makeTrouble(): void {
    const network = this.#network;
    network.passes = (from, to) => {
      const passes = !this.#away.has(`${from} ${to}`) && !this.#happens(this.#lossPercent);
      if (!passes) this.#counts.lostRequests++;
      return passes;
    };
    network.beforeAnswer = async ({ path }, status) => {
      if (path.includes('/send/') && status === 200) {
        if (this.#done.has(path)) this.#repeatedAtLeast++;
        this.#done.add(path);
      }
      if (!this.#happens(this.#lossPercent)) return;
      this.#counts.lostAnswers++;
      throw new FederationError('timeout', 'the answer is lost');
    };
    network.delay = () => {
      if (!this.#happens(this.#delayPercent)) return 0;
      this.#counts.delayed++;
      return 1 + this.#dice.integer(MAX_DELAY_MS);
    };
    network.tamper = (bytes: Uint8Array, call: FederationCall) => {
      if (call.path !== SIGNATURES_PATH || !this.#happens(this.#spoilPercent)) return bytes;
      this.#counts.spoilt++;
      const spoilt = bytes.slice();
      spoilt[this.#dice.integer(bytes.length)]! ^= 1 << this.#dice.integer(8);
      return spoilt;
    };
  }

  #happens(percent: number): boolean {
    return percent > 0 && this.#dice.integer(100) < percent;
  }

  async #step(step: number): Promise<void> {
    const dice = this.#dice;
    this.#lossPercent = [0, 0, 20, 50][dice.integer(4)]!;
    this.#spoilPercent = [0, 0, 30][dice.integer(3)]!;
    this.#delayPercent = [0, 0, 50][dice.integer(3)]!;
    if (step === this.#joinsAt) await this.#comeIn();
    const room = this.#rooms[dice.integer(this.#rooms.length)]!;
    const i = room.members[dice.integer(room.members.length)]!;
    switch (dice.integer(12)) {
      case 0:
        await this.#restart(i);
        break;
      case 1:
        this.#servers[i]!.database.dieAt({
          transaction: dice.integer(MAX_COMMITS_LEFT),
          when: dice.integer(2) === 0 ? 'before' : 'after',
        });
        break;
      case 2:
        this.#away.add(`${NAMES[i]} ${NAMES[dice.integer(3)]}`);
        break;
      case 3:
        this.#away.clear();
        break;
      case 4:
        if (NAMES[i] !== room.joined?.server)
          await this.#did(i, room, undefined, (side) =>
            side.rooms.sending.setState(room.id, this.#user(i), 'm.room.topic', '', { topic: `${step}` }),
          );
        break;
      case 5:
        await this.#redactLast(room, i, step);
        break;
      default: {
        // Together, so that they are built on the same events.
        const others = room.members[dice.integer(room.members.length)]!;
        await Promise.all([i, others].map((who, n) => this.#say(room, who, `${this.#seed} ${step} ${n}`)));
      }
    }
    for (const [who, { database }] of this.#servers.entries()) if (database.isDead) await this.#restart(who);
  }

  #user(i: number) {
    return this.#servers[i]!.side.user(USERS[i]!);
  }

  #say(room: SimulatedRoom, i: number, text: string): Promise<void> {
    return this.#did(i, room, text, (side) => side.say(this.#user(i), room.id, text));
  }

  /** Does what a user of a server asks for; one that is killed meanwhile promises nothing. */
  async #did(
    i: number,
    room: SimulatedRoom,
    text: string | undefined,
    task: (side: Side) => Promise<EventId>,
  ): Promise<void> {
    const { side, database } = this.#servers[i]!;
    try {
      room.said.set(await this.#network.time.until(task(side), WITHIN_MS), text);
    } catch (error) {
      if (!database.isDead) throw error;
    }
  }

  async #redactLast(room: SimulatedRoom, i: number, step: number): Promise<void> {
    const [last] = await this.#servers[i]!.inner.all<{ id: EventId }>(
      `SELECT event_id AS id FROM events WHERE type = 'm.room.message' AND sender = ?
       AND room = (SELECT id FROM rooms WHERE room_id = ?) ORDER BY id DESC LIMIT 1`,
      ...[this.#user(i), room.id],
    );
    if (last === undefined) return;
    const from = { user: this.#user(i), device: 'D' as DeviceId, txnId: `r${step}` };
    await this.#did(i, room, undefined, async (side) => {
      const id = await side.rooms.sending.redact(room.id, last.id, undefined, from);
      // Its text is not to be looked for any more.
      if (room.said.has(last.id)) room.said.set(last.id, undefined);
      return id;
    });
  }

  /** The third server joins the room of two, however often its user has to try. */
  async #comeIn(): Promise<void> {
    const room = this.#rooms.find(({ members }) => members.length === 2)!;
    const via = [NAMES[room.members[this.#dice.integer(2)]!]!];
    const i = [0, 1, 2].find((each) => !room.members.includes(each))!;
    this.#away.clear();
    for (let attempt = 0; ; attempt++) {
      const { memberships } = this.#servers[i]!.side.rooms;
      try {
        await this.#network.time.until(memberships.join(this.#user(i), room.id, { via }), WITHIN_MS);
        room.members.push(i);
        break;
      } catch (error) {
        if (attempt === MAX_JOIN_ATTEMPTS) throw error;
        // A join takes many answers; not all of the run is to be spent on it.
        this.#lossPercent = Math.min(this.#lossPercent, 20);
        // Keys that could not be had are asked for less and less often.
        await this.#network.time.pass(1_000 * (attempt + 1));
        for (const [who, { database }] of this.#servers.entries())
          if (database.isDead) await this.#restart(who);
      }
    }
    const [join] = await this.#servers[i]!.inner.all<{ id: EventId }>(
      `SELECT e.event_id AS id FROM current_state c JOIN events e ON e.id = c.event
       WHERE e.type = 'm.room.member' AND e.state_key = ? AND e.room = (SELECT id FROM rooms WHERE room_id = ?)`,
      ...[this.#user(i), room.id],
    );
    room.joined = { server: NAMES[i]!, event: join!.id };
    this.#counts.joins++;
  }

  async #restart(i: number): Promise<void> {
    const server = this.#servers[i]!;
    const { side, database } = server;
    this.#counts[database.isDead ? 'kills' : 'restarts']++;
    this.#network.sides.delete(side.serverName);
    // What a killed one still waits for comes to nothing.
    const ended = stopped(side).catch((error: unknown) => {
      if (!database.isDead) throw error;
    });
    await this.#network.time.until(ended, WITHIN_MS);
    database.die();
    this.#count(side);
    Object.assign(server, await this.#open(i, server.inner));
  }

  async #heal(): Promise<void> {
    this.#lossPercent = 0;
    this.#spoilPercent = 0;
    this.#delayPercent = 0;
    this.#away.clear();
    for (const [i, { database }] of this.#servers.entries()) {
      database.dieAt(undefined);
      if (database.isDead) await this.#restart(i);
    }
    await this.#network.time.pass(HEALING_MS);
  }

  /** What is not known as a part of the room comes with the next event of each. */
  async #sayLastWords(): Promise<void> {
    for (let n = 0; n < LAST_WORDS; n++) {
      for (const room of this.#rooms) for (const i of room.members) await this.#say(room, i, `the end ${n}`);
      await this.#network.time.pass(HOUR);
    }
  }

  #count({ serverName, sender, forms, owed, deferred, rooms, receiver, log }: Side): void {
    const counts = this.#counts;
    // Nobody here says anything that is not right. What was refused all the same may come back behind a gap, unseen.
    const refused = sender.counters.refused + deferred.counters.rejected + deferred.counters.quarantined;
    if (refused > 0) this.#refused.push(`${refused} by or at ${serverName}`);
    for (const { message, fields } of log.lines)
      if (message.endsWith('its server has not got it'))
        this.#misread.add((fields as { readonly id: EventId }).id);
    for (const key of ['written', 'writtenWhole', 'read', 'askedWhole'] as const)
      counts[key] += forms.counters[key];
    for (const key of ['deferred', 'followed', 'failed'] as const) counts[key] += owed.counters[key];
    for (const key of ['provisional', 'bad', 'refetched'] as const) counts[key] += deferred.counters[key];
    this.#misreadings.ambiguous += forms.counters.ambiguous;
    for (const key of ['misread', 'stray', 'overdue'] as const)
      this.#misreadings[key] += deferred.counters[key];
    counts.late += deferred.counters.verified;
    counts.forks += rooms.counters.forks;
    counts.repeated += receiver.counters.repeated;
    this.#repeated += receiver.counters.repeated;
    counts.held += receiver.counters.held;
  }
}

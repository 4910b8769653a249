import { expect } from 'vitest';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { sleep } from '../../src/base/time.ts';
import { MatrixUser } from '../../src/mesh/matrix_user.ts';
import { Pair, type PairOptions, SIDES, type Side } from '../../src/mesh/pair.ts';

/** The longest pause of somebody who types, in milliseconds. */
const LONGEST_PAUSE_MS = 90_000;
/** After the last message has arrived: what is still under way (a topic, an answer) arrives, and nothing comes twice. */
const QUIET_MS = 1_800_000;

/** What has happened in all runs together. */
export interface Totals {
  seeds: number;
  drops: number;
  resends: number;
  forks: number;
  resolutions: number;
}

export const newTotals = (): Totals => ({ seeds: 0, drops: 0, resends: 0, forks: 0, resolutions: 0 });

/** Alice on alpha and Bob on bravo in one room, and a log of what they have said: the oracle of every check. */
export class Talk {
  readonly pair: Pair;
  readonly room: string;
  readonly random: Random;
  readonly #users: Record<Side, MatrixUser>;
  readonly #said: Record<Side, { id: string; body: string }[]> = { alpha: [], bravo: [] };
  readonly #totals: Totals;
  readonly #drops: () => number;

  private constructor(
    pair: Pair,
    room: string,
    users: Record<Side, MatrixUser>,
    random: Random,
    totals: Totals,
    drops: () => number,
  ) {
    this.pair = pair;
    this.room = room;
    this.random = random;
    this.#users = users;
    this.#totals = totals;
    this.#drops = drops;
  }

  /** Starts two servers, registers both users, and lets Bob join by Alice's invite. */
  static async start(options: Omit<PairOptions, 'observe'>, totals: Totals): Promise<Talk> {
    let drops = 0;
    const observe: PairOptions['observe'] = ({ fate }) => {
      if (fate === 'lost') drops++;
    };
    const pair = await Pair.start({ ...options, observe });
    const alice = await pair.until(MatrixUser.register(pair.alpha.app, 'alice'));
    const bob = await pair.until(MatrixUser.register(pair.bravo.app, 'bob'));
    // Bob may change what Alice changes, so that forks conflict.
    const power_level_content_override = { users: { [bob.id]: 50 } };
    const room = await pair.until(
      alice.createRoom({ preset: 'private_chat', invite: [bob.id], power_level_content_override }),
    );
    await pair.until(bob.syncUntil((user) => user.invitedTo.has(room)));
    await pair.until(bob.join(room));
    const sees = (user: MatrixUser): boolean =>
      user.timelines.get(room)?.some(({ sender }) => sender === bob.id) === true;
    await pair.until(alice.syncUntil(sees));
    return new Talk(
      pair,
      room,
      { alpha: alice, bravo: bob },
      seededRandom(options.seed),
      totals,
      () => drops,
    );
  }

  /** Says `count` things on each of `sides` at the same time, with pauses; each changes the topic once as well. */
  async say(count: number, sides: readonly Side[] = SIDES): Promise<void> {
    const one = async (side: Side): Promise<void> => {
      for (let i = 0; i < count; i++) {
        await sleep(this.pair.clock, this.random.integer(LONGEST_PAUSE_MS));
        const user = this.#users[side];
        const said = this.#said[side];
        const body = `${user.id} says ${said.length}`;
        said.push({ id: await user.say(this.room, body), body });
        if (i === 1) await user.setState(this.room, 'm.room.topic', { topic: `${body}, a topic` });
      }
    };
    await this.pair.until(Promise.all(sides.map(one)));
  }

  /** Stops a side, whatever it is doing. */
  async stop(side: Side): Promise<void> {
    this.#count(side);
    await this.pair.stop(side);
  }

  /** Starts it again on its data. */
  async start(side: Side): Promise<void> {
    const { app } = await this.pair.start(side);
    this.#users[side] = this.#users[side].at(app);
  }

  /** Waits until both have everything; then: each message once, in order per sender, and the same state. */
  async check(seed: number): Promise<void> {
    const total = this.#said.alpha.length + this.#said.bravo.length;
    const users = SIDES.map((side) => this.#users[side]);
    const everything = (user: MatrixUser): boolean => user.messages(this.room).length >= total;
    await this.pair.until(Promise.all(users.map((user) => user.syncUntil(everything))));
    await this.pair.pass(QUIET_MS);
    for (const reader of users) {
      await this.pair.until(reader.syncOnce());
      for (const side of SIDES) {
        const sender = this.#users[side].id;
        const seen = reader.messages(this.room).filter((message) => message.sender === sender);
        const read = seen.map(({ id, body }) => ({ id, body }));
        expect(read, `seed ${seed}: ${reader.id} reads ${sender}`).toEqual(this.#said[side]);
      }
    }
    const [alpha, bravo] = await this.pair.until(Promise.all(users.map((user) => user.state(this.room))));
    expect(bravo, `seed ${seed}: state`).toEqual(alpha);
  }

  async close(): Promise<void> {
    for (const side of SIDES) this.#count(side);
    this.#totals.drops += this.#drops();
    this.#totals.seeds++;
    await this.pair.close();
  }

  #count(side: Side): void {
    const { rooms, exchange } = this.pair.server(side).counters();
    this.#totals.forks += rooms.forks;
    this.#totals.resolutions += rooms.resolutions;
    this.#totals.resends += exchange!.inPipe.resent;
  }
}

/** Runs a scenario; a failure prints how to replay it. */
export async function replayable(seed: number, scenario: () => Promise<void>): Promise<void> {
  try {
    await scenario();
  } catch (error) {
    console.error(
      `replay with: RAVINE_SEEDS=${seed}-${seed} npm run test:simulation -- test/simulation/conversation.test.ts`,
    );
    throw error;
  }
}

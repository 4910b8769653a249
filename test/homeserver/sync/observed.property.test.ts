import { expect, test } from 'vitest';
import { type Random, seededRandom } from '../../../src/base/random.ts';
import { type Account, type ClientCall, callDirectly, register } from '../../../src/cli/bench/clients.ts';
import { World } from '../../../src/cli/bench/world.ts';
import { Device } from '../../../src/device/device.ts';
import type { ServerName } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import type { ClientEvent, Section, SyncBody } from './room_fixture.ts';

const SEEDS = [1, 2, 3];
const STEPS = 60;
const SECOND_MS = 1_000;
/** Longer than anything takes that is under way, and than anybody types. */
const QUIET_MS = 10 * 60 * SECOND_MS;

interface Room {
  readonly id: string;
  /** The events that were sent, in order. */
  readonly log: { readonly id: string; readonly sender: string; readonly isState: boolean }[];
  topic: string;
  readonly receipts: Map<string, { readonly at: number; readonly event: string }>;
  data: Map<string, string>;
}

/** What a device has of a room that applies what it is told. */
interface Shown {
  readonly timeline: string[];
  readonly receipts: Map<string, string>;
  readonly data: Map<string, string>;
  topic: string;
  typing: readonly string[];
}

/** Users who act over HTTP, and Alice's device, which follows /sync through its pipe in the short form. */
class Observed {
  readonly rooms: Room[] = [];
  readonly shown = new Map<string, Shown>();
  readonly data = new Map<string, string>();
  readonly globalData = new Map<string, string>();
  readonly counts: Record<string, number> = {};
  ignored: string | undefined;
  readonly #world: World;
  readonly #random: Random;
  readonly #users: readonly Account[];
  #device!: Device;
  #since: string | undefined;
  #marks = 0;

  constructor(world: World, random: Random, users: readonly Account[]) {
    this.#world = world;
    this.#random = random;
    this.#users = users;
  }

  get alice(): Account {
    return this.#users[0]!;
  }

  async ask(
    who: Account,
    method: ClientCall['method'],
    path: string,
    body?: JsonObject,
  ): Promise<JsonObject> {
    const call = { method, target: `/_matrix/client/v3/${path}`, ...(body && { body }) };
    return this.#world.until(callDirectly(this.#world.server('alpha').app, who, call));
  }

  async createRoom(): Promise<void> {
    const { room_id } = await this.ask(this.alice, 'POST', 'createRoom', { preset: 'public_chat' });
    const id = String(room_id);
    for (const user of this.#users.slice(1))
      await this.ask(user, 'POST', `join/${encodeURIComponent(id)}`, {});
    await this.ask(this.alice, 'PUT', `rooms/${encodeURIComponent(id)}/state/m.room.power_levels`, {
      state_default: 0,
    });
    this.rooms.push({ id, log: [], topic: '', receipts: new Map(), data: new Map() });
  }

  /** The device is switched on, with what it has on its disk: what it has shown, and the position behind that. */
  async switchOn(): Promise<void> {
    const name = `device-${this.#marks++}`;
    const { time } = this.#world;
    this.#device = new Device({
      ...{ link: this.#world.clientLink(name), clock: time.clock, random: seededRandom(this.#marks) },
      secret: seededRandom(this.#marks + 1_000).bytes(32),
      server: 'alpha.example' as ServerName,
      address: 'alpha',
      trust: { decide: async () => ({ trusted: true }) },
    });
    await this.#world.until(this.#device.logIn(this.alice.id, this.alice.password));
    this.#device.follow({
      ...(this.#since !== undefined && { since: this.#since }),
      onSync: (body) => this.#apply(body as unknown as SyncBody),
    });
  }

  async switchOff(): Promise<void> {
    await this.#world.until(this.#device.close());
  }

  #apply(body: SyncBody): void {
    const isFirst = this.#since === undefined;
    this.#since = body.next_batch;
    this.#count('answers');
    for (const { type, content } of body.account_data.events) this.data.set(type, JSON.stringify(content));
    for (const [id, section] of Object.entries(body.rooms.join)) this.#applyRoom(id, section, isFirst);
  }

  #applyRoom(id: string, section: Section, isFirst: boolean): void {
    const shown: Shown = this.shown.get(id) ?? {
      timeline: [],
      receipts: new Map(),
      data: new Map(),
      topic: '',
      typing: [],
    };
    this.shown.set(id, shown);
    if (!isFirst && section.timeline.limited) throw new Error('a gap, where so little is sent at a time');
    for (const event of [...(section.state?.events ?? []), ...section.timeline.events])
      if (event.type === 'm.room.topic') shown.topic = String(event.content.topic);
    if (!isFirst)
      shown.timeline.push(...section.timeline.events.map(({ event_id }: ClientEvent) => event_id));
    for (const { type, content } of section.account_data.events)
      shown.data.set(type, JSON.stringify(content));
    for (const { type, content } of section.ephemeral?.events ?? []) {
      this.#count(type);
      if (type === 'm.typing') shown.typing = content.user_ids as string[];
      else applyReceipts(shown, content as never);
    }
  }

  async act(): Promise<void> {
    const room = this.#pick(this.rooms);
    const user = this.#pick(this.#users);
    const others = this.#users.slice(1);
    const path = `rooms/${encodeURIComponent(room.id)}`;
    const own = `user/${encodeURIComponent(this.alice.id)}`;
    const mark = `mark${++this.#marks}`;
    const say = async (): Promise<void> => {
      const body = { msgtype: 'm.text', body: mark };
      const { event_id } = await this.ask(user, 'PUT', `${path}/send/m.room.message/${mark}`, body);
      room.log.push({ id: String(event_id), sender: user.id, isState: false });
    };
    const setTopic = async (): Promise<void> => {
      const { event_id } = await this.ask(user, 'PUT', `${path}/state/m.room.topic`, { topic: mark });
      room.log.push({ id: String(event_id), sender: user.id, isState: true });
      room.topic = mark;
    };
    const read = async (): Promise<void> => {
      // What is ignored stays untold for good.
      if (room.log.length === 0 || user.id === this.ignored) return;
      const at = this.#random.integer(room.log.length);
      const event = room.log[at]!.id;
      const type = this.#pick(['m.read', 'm.read.private']);
      const thread = this.#pick([{}, { thread_id: 'main' }]);
      await this.ask(user, 'POST', `${path}/receipt/${type}/${encodeURIComponent(event)}`, thread);
      const key = `${user.id} ${type} ${thread.thread_id ?? ''}`;
      if ((room.receipts.get(key)?.at ?? -1) < at) room.receipts.set(key, { at, event });
    };
    const type = async (): Promise<void> => {
      const who = this.#pick(others);
      const body = { typing: this.#pick([true, false]), timeout: 60 * SECOND_MS };
      await this.ask(who, 'PUT', `${path}/typing/${encodeURIComponent(who.id)}`, body);
    };
    const keep = async (): Promise<void> => {
      const content = { mark };
      const isGlobal = this.#pick([true, false]);
      const place = isGlobal ? own : `${own}/${path}`;
      await this.ask(this.alice, 'PUT', `${place}/account_data/x.kept`, content);
      (isGlobal ? this.globalData : room.data).set('x.kept', JSON.stringify(content));
    };
    await this.#pick([say, say, say, setTopic, read, read, type, keep])();
  }

  /** Alice begins or ends to ignore somebody: what they say is told her no more, or again. */
  async ignore(whom: string | undefined): Promise<void> {
    const content = { ignored_users: whom === undefined ? {} : { [whom]: {} } };
    const path = `user/${encodeURIComponent(this.alice.id)}/account_data/m.ignored_user_list`;
    await this.ask(this.alice, 'PUT', path, content);
    this.globalData.set('m.ignored_user_list', JSON.stringify(content));
    this.ignored = whom;
    this.#count('ignored');
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random.integer(from.length)]!;
  }

  #count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }
}

function applyReceipts(
  shown: Shown,
  content: Record<string, Record<string, Record<string, { thread_id?: string }>>>,
): void {
  for (const [event, types] of Object.entries(content))
    for (const [type, users] of Object.entries(types))
      for (const [user, { thread_id: thread = '' }] of Object.entries(users))
        shown.receipts.set(`${user} ${type} ${thread}`, event);
}

test.each(SEEDS)(
  'a device that follows /sync through a pipe ends with what was done, each event once (seed %i)',
  async (seed) => {
    const random = seededRandom(seed);
    const world = await World.open(['alpha'], undefined, seed);
    const { app } = world.server('alpha');
    const users: Account[] = [];
    for (const name of ['alice', 'bob', 'carol']) users.push(await world.until(register(app, name)));
    const observed = new Observed(world, random, users);
    for (let n = 0; n < 2; n++) await observed.createRoom();
    await observed.switchOn();
    await world.time.pass(60 * SECOND_MS);
    const [, bob] = users;
    /** By room: of what was told while somebody was ignored, what they said is missing. */
    const expected = new Map<string, string[]>();
    for (let step = 0; step < STEPS; step++) {
      if (step === 20) await observed.ignore(bob!.id);
      if (step === 35) await observed.ignore(undefined);
      if (step === 50) {
        await observed.switchOff();
        await observed.switchOn();
      }
      const before = observed.rooms.map(({ log }) => log.length);
      await observed.act();
      // Sometimes the next thing happens while the last is on its way.
      await world.time.pass(random.integer(3) === 0 ? 10 : 20 * SECOND_MS);
      if (step === 19 || step === 34) await world.time.pass(QUIET_MS);
      for (const [at, { id, log }] of observed.rooms.entries()) {
        const seen = log
          .slice(before[at])
          .filter((event) => event.isState || event.sender !== observed.ignored);
        expected.set(id, [...(expected.get(id) ?? []), ...seen.map((event) => event.id)]);
      }
    }
    await world.time.pass(QUIET_MS);
    for (const room of observed.rooms) {
      const shown = observed.shown.get(room.id)!;
      const about = `seed ${seed}: ${room.id}`;
      expect(shown.timeline, about).toEqual(expected.get(room.id));
      expect(shown.topic, about).toBe(room.topic);
      expect(shown.typing, about).toEqual([]);
      const mine = [...room.receipts].filter(
        ([key]) => key.startsWith(observed.alice.id) || !key.includes('m.read.private'),
      );
      expect(Object.fromEntries(shown.receipts), about).toEqual(
        Object.fromEntries(mine.map(([key, { event }]) => [key, event])),
      );
      expect(Object.fromEntries(shown.data), about).toEqual(Object.fromEntries(room.data));
    }
    expect(Object.fromEntries(observed.data)).toEqual(Object.fromEntries(observed.globalData));
    expect(observed.counts['m.receipt']).toBeGreaterThan(3);
    expect(observed.counts['m.typing']).toBeGreaterThan(3);
    expect(observed.counts.answers).toBeGreaterThan(20);
    await observed.switchOff();
    await world.close();
  },
  60_000,
);

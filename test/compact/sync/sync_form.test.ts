import { describe, expect, test } from 'vitest';
import { type Random, seededRandom } from '../../../src/base/random.ts';
import { authPlaces, hashesOf, idOf } from '../../../src/compact/pdu/rules.ts';
import { readSync } from '../../../src/compact/sync/read_sync.ts';
import { shownEvent, USUAL_TOP, usualRest } from '../../../src/compact/sync/sync_layout.ts';
import { ToldRoom, toldEvent } from '../../../src/compact/sync/told_room.ts';
import { type SyncToTell, writeSync } from '../../../src/compact/sync/write_sync.ts';
import { CompactReader } from '../../../src/compact/value_reader.ts';
import { CompactWriter } from '../../../src/compact/value_writer.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { type StateKey, stateKey } from '../../../src/matrix/pdu.ts';
import { roomVersion } from '../../../src/matrix/room_version.ts';

const VERSION = roomVersion('12')!;
const SENDERS = ['@alice:a.example', '@bob:b.example', '@carol:a.example'];
const START = 1_700_000_000_000;

interface Made {
  readonly id: string;
  readonly pdu: JsonObject;
}

/** A room of a server: each event is built on the last, or now and then on another. */
class Room {
  readonly id: string;
  readonly events: Made[] = [];
  readonly #random: Random;
  readonly state = new Map<StateKey, string>();
  #ts = START;

  constructor(random: Random, id: string) {
    this.#random = random;
    this.id = id;
  }

  /** The state as /sync would have it: the events that hold a place. */
  get held(): ReadonlySet<string> {
    return new Set(this.state.values());
  }

  add(): Made {
    const random = this.#random;
    const sender = SENDERS[random.integer(SENDERS.length)]!;
    const kind = random.integer(4);
    const isMember = kind === 0;
    const key = isMember ? sender : kind === 1 ? '' : undefined;
    const type = isMember ? 'm.room.member' : kind === 1 ? 'm.room.power_levels' : 'm.room.message';
    const content: JsonObject = isMember
      ? { membership: 'join', displayname: `Name ${random.integer(100)}` }
      : kind === 1
        ? { users_default: random.integer(50) }
        : { msgtype: 'm.text', body: `text ${random.integer(1_000)} ${'é'.repeat(random.integer(5))}` };
    this.#ts +=
      random.integer(random.fraction() < 0.9 ? 60_000 : 1e9) - (random.fraction() < 0.1 ? 5_000 : 0);
    const onLast = random.fraction() < 0.8 || this.events.length < 2;
    const last = onLast ? this.events.at(-1) : this.events[random.integer(this.events.length)];
    const pdu: JsonObject = {
      ...{ type, sender, room_id: this.id, content, origin_server_ts: this.#ts },
      ...(key !== undefined && { state_key: key }),
      depth: last === undefined ? 1 : Number(last.pdu.depth) + 1,
      prev_events: last === undefined ? [] : [last.id],
      auth_events: authPlaces({ type, sender, stateKey: key, content }, VERSION).flatMap(
        (place) => this.state.get(place) ?? [],
      ),
    };
    pdu.hashes = hashesOf(pdu, VERSION);
    const made = { id: idOf(pdu, VERSION), pdu };
    this.events.push(made);
    if (key !== undefined) this.state.set(stateKey(type, key), made.id);
    return made;
  }
}

/** What a server takes a client to have that was told all up to now: the last event, and the state. */
function told(room: Room): ToldRoom {
  const all = new ToldRoom({ version: VERSION, room: room.id });
  const last = room.events.at(-1);
  if (last !== undefined) all.add(toldEvent(last.id, last.pdu));
  for (const [place, id] of room.state) all.setState(place, id);
  return all;
}

const byPlace = (a: Made, b: Made): number =>
  `${a.pdu.type} ${a.pdu.state_key}` < `${b.pdu.type} ${b.pdu.state_key}` ? -1 : 1;

/** Mostly few; now and then more than the form has room for, or with something besides. */
const counts = (random: Random): JsonObject => ({
  highlight_count: random.fraction() < 0.6 ? 0 : random.integer(300),
  notification_count: random.integer(random.fraction() < 0.9 ? 300 : 1 << 26),
  ...(random.fraction() < 0.05 && { other: 1 }),
});

/** An answer that tells what is new in rooms, as /sync has it, and what its writer needs for it. */
function answer(
  random: Random,
  rooms: readonly Room[],
  {
    isFirst,
    since,
    position,
  }: { readonly isFirst: boolean; readonly since: number; readonly position: number },
): SyncToTell {
  const tellings = rooms.map((room) => {
    const before = isFirst ? undefined : told(room);
    const from = room.events.length;
    for (let n = 1 + random.integer(random.fraction() < 0.5 ? 1 : 12); n > 0; n--) room.add();
    const split = isFirst ? random.integer(room.events.length) : from;
    const timeline = room.events.slice(split);
    const state = isFirst ? room.events.slice(0, split).filter(({ id }) => room.held.has(id)) : [];
    return { room, before, state: state.sort(byPlace), timeline };
  });
  const all = tellings.flatMap(({ state, timeline }) => [...state, ...timeline]);
  const isYoung = random.fraction() < 0.5;
  const newest = Math.max(...all.map(({ pdu }) => Number(pdu.origin_server_ts)));
  const now = isYoung && all.length === 1 ? newest : newest + 500_000;
  const show = ({ id, pdu }: Made, membership: boolean): JsonObject => ({
    ...shownEvent(id, pdu),
    unsigned: {
      age: Math.floor((now - Number(pdu.origin_server_ts)) / 1_000) * 1_000,
      ...(membership && { membership: random.fraction() < 0.9 ? 'join' : 'invite' }),
      ...(random.fraction() < 0.1 && { transaction_id: 'own' }),
    },
  });
  const join = Object.fromEntries(
    tellings.map(({ room, state, timeline }) => {
      const rest = usualRest(since) as { timeline: JsonObject };
      return [
        room.id,
        {
          ...rest,
          ...(isFirst && { summary: { 'm.joined_member_count': 2 } }),
          ...(random.fraction() < 0.6 && { unread_notifications: counts(random) }),
          state: { events: state.map((event) => show(event, false)) },
          timeline: {
            ...rest.timeline,
            ...(isFirst && { limited: true }),
            events: timeline.map((event) => show(event, true)),
          },
        },
      ];
    }),
  );
  const { rooms: kinds, ...top } = USUAL_TOP;
  return {
    body: {
      ...{ ...top, ...someKeys(random) },
      ...{ next_batch: `s1_${position}`, rooms: { join, ...(kinds as JsonObject) } },
    },
    since: isFirst ? undefined : since,
    rooms: new Map(tellings.map(({ room, before }) => [room.id, { version: VERSION, before }])),
    known: rooms.map(({ id }) => id),
    // Now and then one that the server has lost; of a room's last event it has the depth for the next time.
    pdus: new Map(
      all
        .filter(({ id }) => random.fraction() < 0.97 || rooms.some(({ events }) => events.at(-1)?.id === id))
        .map(({ id, pdu }) => [id, pdu]),
    ),
    now,
  };
}

/** What is left of a device's keys. */
function someKeys(random: Random): JsonObject {
  if (random.fraction() < 0.5) return {};
  const more = random.fraction() < 0.2 ? { other: random.integer(3) } : {};
  const counts = random.fraction() < 0.9 ? { signed_curve25519: random.integer(200), ...more } : more;
  const unused = [[], ['signed_curve25519'], ['signed_curve25519'], ['other']][random.integer(4)]!;
  return { device_one_time_keys_count: counts, device_unused_fallback_key_types: unused };
}

function written(sync: SyncToTell): CompactReader {
  const writer = new CompactWriter({});
  writeSync(writer, sync);
  return new CompactReader(writer.done(), 0, {});
}

/** What a client knows, which takes over what it has read. */
class Client {
  readonly rooms = new Map<string, ToldRoom>();

  get(room: string): ToldRoom | undefined {
    return this.rooms.get(room);
  }

  ids(): Iterable<string> {
    return this.rooms.keys();
  }

  take(rooms: ReadonlyMap<string, ToldRoom>): void {
    for (const [id, room] of rooms) this.rooms.set(id, room.commit(this.rooms.get(id)));
  }
}

const newRoom = (random: Random): Room => {
  const bytes = random.bytes(32);
  return new Room(random, `!${Buffer.from(bytes).toString('base64url')}`);
};

/** Ages are told to the second: less by one at most. */
function expectSame(read: JsonObject, sent: JsonObject): void {
  const ages = (body: JsonObject): number[] =>
    [...JSON.stringify(body).matchAll(/"age":(\d+)/g)].map(([, age]) => Number(age));
  const without = (body: JsonObject): unknown =>
    JSON.parse(JSON.stringify(body).replaceAll(/"age":\d+/g, '"age":0'));
  expect(without(read)).toEqual(without(sent));
  const [some, others] = [ages(read).sort((a, b) => a - b), ages(sent).sort((a, b) => a - b)];
  for (const [i, age] of some.entries()) expect(others[i]! - age).toBeOneOf([0, 1_000]);
}

describe('answers of /sync in their short form', () => {
  test.each(Array.from({ length: 12 }, (_, i) => i + 1))(
    'are read as they were written, one after another (seed %i)',
    (seed) => {
      const random = seededRandom(seed);
      const rooms = Array.from({ length: 1 + random.integer(4) }, () => newRoom(random));
      const client = new Client();
      let since = 0;
      for (let round = 0; round < 6; round++) {
        const position = since + 1 + random.integer(random.fraction() < 0.8 ? 10 : 1_000);
        const some = round === 0 ? rooms : rooms.filter(() => random.fraction() < 0.6);
        const sync = answer(random, some.length === 0 ? rooms.slice(0, 1) : some, {
          ...{ isFirst: round === 0, since, position },
        });
        const all = { ...sync, known: rooms.map(({ id }) => id), idsAreTold: seed % 4 === 0 };
        const read = readSync(written(all), round === 0 ? undefined : `s1_${since}`, client);
        if (!read.ok) throw new Error(read.problem);
        expectSame(read.value.body, sync.body);
        client.take(read.value.rooms);
        since = position;
      }
    },
  );

  test('take two bytes besides the event where one was sent to a room of one', () => {
    const random = seededRandom(1);
    const room = newRoom(random);
    for (let i = 0; i < 5; i++) room.add();
    const before = told(room);
    const { id, pdu } = room.add();
    const event = { ...shownEvent(id, pdu), unsigned: { age: 0, membership: 'join' } };
    const rest = usualRest(7);
    const section = {
      ...rest,
      state: { events: [] },
      timeline: { ...(rest.timeline as JsonObject), events: [event] },
    };
    const { rooms: kinds, ...top } = USUAL_TOP;
    const sync: SyncToTell = {
      body: { ...top, next_batch: 's1_8', rooms: { join: { [room.id]: section }, ...(kinds as JsonObject) } },
      ...{ since: 7, known: [room.id], pdus: new Map([[id, pdu]]), now: Number(pdu.origin_server_ts) },
      rooms: new Map([[room.id, { version: VERSION, before }]]),
    };
    const { bytes } = written(sync);
    expect(bytes[0]).toBe(0x21);
    expect(bytes.length).toBeLessThan(1 + 1 + 2 + 2 + JSON.stringify(pdu.content).length + 30);
    // What is left of the device's keys takes two bytes more.
    const body = {
      ...sync.body,
      device_one_time_keys_count: { signed_curve25519: 50 },
      device_unused_fallback_key_types: ['signed_curve25519'],
    };
    expect(written({ ...sync, body }).bytes.length).toBe(bytes.length + 2);
  });

  test('are not taken for something else by who knows something else', () => {
    const random = seededRandom(2);
    const room = newRoom(random);
    for (let i = 0; i < 5; i++) room.add();
    const client = new Client();
    client.rooms.set(room.id, told(room));
    room.add();
    const sync = answer(random, [room], { isFirst: false, since: 1, position: 2 });
    expect(readSync(written(sync), 's1_1', client).ok).toBe(false);
    expect(readSync(written(sync), 's1_1', new Client()).ok).toBe(false);
  });

  test('lead to a problem and to nothing else, whatever bytes come', () => {
    const random = seededRandom(3);
    for (let i = 0; i < 400; i++) {
      const room = newRoom(random);
      const client = new Client();
      room.add();
      client.rooms.set(room.id, told(room));
      const { bytes } = written(
        answer(random, [room], { isFirst: random.fraction() < 0.5, since: 1, position: 2 }),
      );
      const hostile = bytes.slice(0, 1 + random.integer(bytes.length));
      for (let n = random.integer(4); n >= 0; n--)
        hostile[random.integer(hostile.length)] = random.integer(256);
      const known = told(room);
      const read = readSync(new CompactReader(hostile, 0, {}), 's1_1', client);
      expect(typeof read.ok).toBe('boolean');
      expect(known.last?.id).toBe(room.events.at(-1)?.id);
    }
  });
});

import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { type ExchangeRequest, jsonOf } from '../../src/exchange/request.ts';
import type { PipeStore } from '../../src/pipe/resumption.ts';
import { pipeSessionStore } from '../../src/storage/pipe_sessions.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { FAST, MINUTE, type Node, World } from './world.ts';

const OPTIONS = { timeoutMs: 10 * MINUTE, priority: 1 } as const;
/** A handler that comes to no answer before the server stops. */
const never: Node['answer'] = (_, signal) =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new Error('stopped')));
  });

const ROOM = '!wJsZMdPUdWbCJMRxHo:b.example';
const say = (room: string, text: string, transaction = '~'): ExchangeRequest => ({
  method: 'PUT',
  path: `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/m.room.message/${transaction}`,
  query: '',
  body: { kind: 'json', value: { msgtype: 'm.text', body: text } },
});
const roomOf = (path: string): string => decodeURIComponent(path.split('/')[5]!);
const transactionIn = (path: string): string => path.split('/').at(-1)!;
const transactionNamed = ({ message }: Node['handled'][number]): string =>
  `~${message!.generation.toString(36)}.${message!.number.toString(36)}`;

/** Two servers with a session, each with a database, so that a restart goes on. */
async function connected(seed: number) {
  const world = new World(seed);
  world.connect('a', 'b', FAST);
  const stores: Record<string, PipeStore> = {
    a: pipeSessionStore(temporaryDatabase(), IN_CLEAR, 'udp'),
    b: pipeSessionStore(temporaryDatabase(), IN_CLEAR, 'udp'),
  };
  const start = (letter: string): Node => world.start(letter, FAST, { store: stores[letter]! });
  const [a, b] = [start('a'), start('b')];
  const ask = (from: Node, to: Node, request: ExchangeRequest) =>
    from.socket.request(to.name, to.address, request, OPTIONS);
  await world.time.until(ask(a, b, say(ROOM, 'first')), 10 * MINUTE);
  return { world, start, a, b, ask };
}

const lastSent = ({ observed }: Node) =>
  observed.findLast(({ direction, label }) => direction === 'sent' && label.startsWith('data CON'))!;

describe('a message to a room', () => {
  test('that is known takes 18 bytes in its record without a model, where the reader gives it its transaction id', async () => {
    const { world, a, b, ask } = await connected(1);
    const sizes: number[] = [];
    for (let n = 0; n < 2; n++) {
      await world.time.until(ask(a, b, say(ROOM, 'Hello World')), MINUTE);
      // Around it are a head of three bytes and a tag.
      sizes.push(lastSent(a).bytes.length - 3 - 16);
    }
    expect(sizes[1]).toBe(18);
    expect(sizes[0]).toBeGreaterThan(30);
    const [first, ...later] = b.handled;
    // Before there was a session there was chance.
    expect(transactionIn(first!.request.path)).toMatch(/^\d+$/);
    for (const one of later) {
      expect(one.request).toEqual(say(ROOM, 'Hello World', transactionNamed(one)));
      expect(roomOf(one.request.path)).toBe(ROOM);
    }
    expect(new Set(b.handled.map(({ request }) => request.path)).size).toBe(3);
  });

  test('has chance for its transaction id, where the peer would have to name it and has no handles', async () => {
    const world = new World(2);
    world.connect('a', 'b', FAST);
    const a = world.start('a', FAST);
    const b = world.start('b', FAST, { dictionaries: [] });
    for (const text of ['one', 'two'])
      await world.time.until(a.socket.request(b.name, b.address, say(ROOM, text), OPTIONS), MINUTE);
    const ids = b.handled.map(({ request }) => transactionIn(request.path));
    expect(ids).toEqual([expect.stringMatching(/^\d+$/), expect.stringMatching(/^\d+$/)]);
    expect(ids[0]).not.toBe(ids[1]);
  });

  test('that the reader has forgotten is written once more under the same name, and means the same', async () => {
    const { world, start, a, b, ask } = await connected(3);
    await world.time.until(ask(a, b, say(ROOM, 'known from here on')), MINUTE);
    // It is begun, and the reader stops before it is answered.
    b.answer = never;
    const asked = ask(a, b, say(ROOM, 'Hello World'));
    await world.time.pass(1_000);
    expect(b.handled).toHaveLength(3);
    await b.socket.close();
    const again = start('b');
    expect(await world.time.until(asked, 10 * MINUTE)).toMatchObject({ status: 200 });
    expect(again.socket.counters.malformedIn).toBe(1);
    expect(again.handled).toEqual([b.handled[2]]);
    // Then the room is introduced anew.
    await world.time.until(ask(a, again, say(ROOM, 'Hello World')), MINUTE);
    expect(again.socket.counters.malformedIn).toBe(1);
    await world.time.until(ask(a, again, say(ROOM, 'Hello World')), MINUTE);
    expect(lastSent(a).bytes.length - 3 - 16).toBe(18);
    expect(again.handled.map(({ request }) => roomOf(request.path))).toEqual([ROOM, ROOM, ROOM]);
  });

  test('of a writer that has started anew means what it meant', async () => {
    const { world, start, a, b, ask } = await connected(4);
    await world.time.until(ask(a, b, say(ROOM, 'known')), MINUTE);
    await a.socket.close();
    const again = start('a');
    const others = ['!x:b.example', '!y:b.example', ROOM, '!x:b.example'];
    for (const room of others) await world.time.until(ask(again, b, say(room, room)), MINUTE);
    expect(b.handled.slice(2).map(({ request }) => roomOf(request.path))).toEqual(others);
    expect(b.socket.counters.malformedIn).toBe(0);
  });
});

/** Both ask each other while the network loses a fifth, and each of them starts anew now and then. */
async function troubled(seed: number) {
  const { world, start, a, b, ask } = await connected(100 + seed);
  world.connect('a', 'b', FAST, { loss: 0.2, duplication: 0.1, reordering: 0.2, reorderingDelay: 3_000 });
  const random = seededRandom(seed);
  const ends = { a, b };
  const lives = { a: [a], b: [b] };
  const counts = { answered: 0, again: 0, unknown: 0, restarts: 0 };
  const asking: Promise<unknown>[] = [];
  for (let n = 0; n < 60; n++) {
    const [from, to] = random.integer(2) === 0 ? (['a', 'b'] as const) : (['b', 'a'] as const);
    const room = `!room${random.integer(6)}:${'ab'[random.integer(2)]}.example`;
    const request = ask(ends[from], ends[to], say(room, `${room} ${n}`));
    asking.push(request.then(() => counts.answered++).catch(() => undefined));
    await world.time.pass(random.integer(4_000));
    if (random.integer(8) > 0) continue;
    const which = random.integer(2) === 0 ? 'a' : 'b';
    await world.time.until(ends[which].socket.close(), MINUTE);
    ends[which] = start(which);
    lives[which].push(ends[which]);
    counts.restarts++;
  }
  await world.time.until(Promise.all(asking), 60 * MINUTE);
  for (const nodes of [lives.a, lives.b]) {
    const byName = new Map<string, ExchangeRequest>();
    for (const { request, message } of nodes.flatMap(({ handled }) => handled)) {
      const { body: text } = jsonOf(request.body) as { body: string };
      if (text !== 'first') expect(text.split(' ')[0]).toBe(roomOf(request.path));
      if (message === undefined) continue;
      const name = `${message.generation}.${message.number}`;
      const before = byName.get(name);
      if (before !== undefined) counts.again++;
      // What comes again is the same, so that a ledger takes it for the same.
      expect(request).toEqual(before ?? request);
      byName.set(name, request);
    }
    // And no other name has it.
    const texts = [...byName.values()].map(({ body }) => JSON.stringify(body));
    expect(new Set(texts).size).toBe(texts.length);
    counts.unknown += nodes.reduce((sum, { socket }) => sum + socket.counters.malformedIn, 0);
  }
  return counts;
}

test('with loss and restarts handles name the room that was meant, and one request has one name', async () => {
  const total = { answered: 0, again: 0, unknown: 0, restarts: 0 };
  for (let seed = 1; seed <= 4; seed++) {
    const counts = await troubled(seed);
    for (const name of ['answered', 'again', 'unknown', 'restarts'] as const) total[name] += counts[name];
  }
  expect(total.answered).toBeGreaterThan(130);
  // Whatever this is there for has happened.
  for (const name of ['again', 'unknown', 'restarts'] as const) expect(total[name], name).toBeGreaterThan(2);
});

import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { packCompact, unpackCompact } from '../../src/compact/container.ts';
import type { CompactContext } from '../../src/compact/context.ts';
import { contextClassOf } from '../../src/compact/context_class.ts';
import { COMPACT_DICTIONARY } from '../../src/compact/dictionary.ts';
import { Model } from '../../src/compact/mixer/model.ts';
import { PeerCoders } from '../../src/exchange/coders.ts';
import { decodeCompactRequest, encodeCompactParts } from '../../src/exchange/compact_payload.ts';
import type { ExchangeRequest } from '../../src/exchange/request.ts';
import { pipeSessionStore } from '../../src/storage/pipe_sessions.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { FAST, MINUTE, type Node, World } from './world.ts';

const ROOM = '!wJsZMdPUdWbCJMRxHo:a.example';
const SESSION = 7;
/** The room has a handle, as after the first message in it. */
const CONTEXT: CompactContext = {
  handles: {
    write: (kind, text) => (kind === 'room' && text === ROOM ? { kind: 'known', slot: 0 } : undefined),
    read: (kind, slot) => (kind === 'room' && slot === 0 ? ROOM : { kind: 'unknown handle' }),
    introduce: () => true,
  },
};

const said = (body: string, room = ROOM, transaction = '~'): ExchangeRequest => ({
  method: 'PUT',
  path: `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/m.room.message/${transaction}`,
  query: '',
  body: { kind: 'json', value: { msgtype: 'm.text', body } },
});

let models: Readonly<Record<'small' | 'large', Model>>;
beforeAll(() => {
  const read = (name: string): Model => {
    const parsed = Model.parse(
      readFileSync(new URL(`../../src/compact/artifacts/${name}.mix`, import.meta.url)),
    );
    if (!parsed.ok) throw new Error(parsed.problem);
    return parsed.value;
  };
  models = { small: read('small'), large: read('large') };
});

/** A device that says one thing after another in a room, and its server, which answers each. */
function conversation(model: Model) {
  const [device, server] = [new PeerCoders([model]), new PeerCoders([model])];
  let number = 0;
  return (body: string): Uint8Array => {
    const request = said(body);
    const way = { dictionaries: [...device.models, COMPACT_DICTIONARY], session: SESSION };
    const { packing, written } = device.request('server', contextClassOf(request), way);
    const payload = packCompact(encodeCompactParts(CONTEXT, request, request.body), packing);
    const end = written(payload);
    const { coders, understood } = server.reading('device', { generation: SESSION, number: number++ });
    const opened = unpackCompact(payload, 10_000, coders);
    if (!opened.ok) throw new Error(opened.problem.kind);
    const decoded = decodeCompactRequest(opened.value, CONTEXT);
    expect(decoded).toMatchObject({
      ok: true,
      value: { target: { path: request.path }, body: request.body },
    });
    understood();
    end('read');
    return payload;
  };
}

describe('what is said in a room with a handle', () => {
  test.each(['small', 'large'] as const)(
    '"Hello World" is at most 12 bytes with the model "%s", beginning a history',
    (name) => {
      const payload = conversation(models[name])('Hello World');
      expect(payload.length).toBeLessThanOrEqual(12);
    },
  );

  test.each(['small', 'large'] as const)(
    'the third "Hello?" is at most 4 bytes with the model "%s"',
    (name) => {
      const say = conversation(models[name]);
      const lengths = ['Hello?', 'Hello?', 'Hello?', 'Hello?'].map((body) => say(body).length);
      expect(lengths[2]).toBeLessThanOrEqual(4);
      expect(lengths[3]).toBeLessThanOrEqual(4);
      expect(lengths[0]).toBeGreaterThan(lengths[2]!);
    },
  );

  test('a conversation goes on within the bounds of a history, and is read as it was', () => {
    const say = conversation(models.small);
    for (let i = 0; i < 120; i++)
      say(`Message ${i}: shall we meet at the harbour ${'again '.repeat(i % 9)}?`);
  });
});

describe('between two servers with models', () => {
  const ask = (world: World, from: Node, to: Node, request: ExchangeRequest) =>
    world.time.until(
      from.socket.request(to.name, to.address, request, { timeoutMs: 10 * MINUTE, priority: 1 }),
      20 * MINUTE,
    );
  /** The lengths of the requests that were sent, as CON PUT. */
  const sent = ({ observed }: Node): number[] =>
    observed.filter(({ label }) => label === 'data CON PUT').map(({ bytes }) => bytes.length);

  test('a conversation is learnt from, and each room by itself', async () => {
    const world = new World(1);
    world.connect('a', 'b', FAST);
    const [a, b] = ['a', 'b'].map((name) => world.start(name, FAST, { models: [models.small] })) as [
      Node,
      Node,
    ];
    for (let i = 0; i < 5; i++) await ask(world, a, b, said('Is anybody there?', ROOM, `t${i}`));
    const [, second = 0, third = 0, fourth = 0] = sent(a);
    expect(third).toBeLessThan(second - 10);
    expect(fourth).toBeLessThanOrEqual(third);
    await ask(world, a, b, said('Is anybody there?', '!other:a.example', 't6'));
    expect(sent(a).at(-1)).toBeGreaterThan(third + 10);
    expect(b.handled.map(({ request }) => request)).toEqual([
      ...[0, 1, 2, 3, 4].map((i) => said('Is anybody there?', ROOM, `t${i}`)),
      said('Is anybody there?', '!other:a.example', 't6'),
    ]);
  });

  test.each([
    ['the one that reads', 'b'],
    ['the one that writes', 'a'],
  ])('%s starts anew, and what is said next is read', async (_, restarted) => {
    const world = new World(2);
    world.connect('a', 'b', FAST);
    const start = (name: string): Node => world.start(name, FAST, { models: [models.small] });
    const nodes = { a: start('a'), b: start('b') };
    for (let i = 0; i < 4; i++) await ask(world, nodes.a, nodes.b, said('Hello?', ROOM, `t${i}`));
    await nodes[restarted as 'a' | 'b'].socket.close();
    nodes[restarted as 'a' | 'b'] = start(restarted);
    for (let i = 4; i < 8; i++)
      expect(await ask(world, nodes.a, nodes.b, said('Hello?', ROOM, `t${i}`))).toMatchObject({
        status: 200,
      });
    const { handled } = nodes.b;
    expect(handled.slice(-4).map(({ request }) => request)).toEqual(
      [4, 5, 6, 7].map((i) => said('Hello?', ROOM, `t${i}`)),
    );
  });

  test('a server that has lost its models since is told everything without them', async () => {
    const world = new World(5);
    world.connect('a', 'b', FAST);
    const store = pipeSessionStore(temporaryDatabase(), IN_CLEAR, 'udp');
    const a = world.start('a', FAST, { models: [models.small] });
    const b = world.start('b', FAST, { models: [models.small], store });
    for (let i = 0; i < 3; i++) await ask(world, a, b, said('Hello?', ROOM, `t${i}`));
    await b.socket.close();
    const without = world.start('b', FAST, { store });
    for (let i = 3; i < 6; i++)
      expect(await ask(world, a, without, said('Hello?', ROOM, `t${i}`))).toMatchObject({ status: 200 });
    expect(without.handled.map(({ request }) => request)).toEqual(
      [3, 4, 5].map((i) => said('Hello?', ROOM, `t${i}`)),
    );
    // Each was written twice at most, until the session was renewed.
    expect(without.socket.counters.malformedIn).toBe(2);
  });

  test('with another model each, what both have is used; with none in common, none', async () => {
    const lengthsWith = async (ofA: readonly Model[], ofB: readonly Model[]): Promise<number> => {
      const world = new World(3);
      world.connect('a', 'b', FAST);
      const a = world.start('a', FAST, { models: ofA });
      const b = world.start('b', FAST, { models: ofB });
      for (let i = 0; i < 2; i++)
        await ask(world, a, b, said('Shall we meet at the harbour?', ROOM, `t${i}`));
      expect(b.handled).toHaveLength(2);
      return sent(a).at(-1)!;
    };
    const { small, large } = models;
    const [both, mixed, none] = [
      await lengthsWith([large, small], [large, small]),
      await lengthsWith([large, small], [small]),
      await lengthsWith([large], [small]),
    ];
    expect(both).toBeLessThanOrEqual(mixed);
    expect(mixed).toBeLessThan(none - 5);
  });

  test('nothing is lost or done twice where a tenth of everything is lost, repeated and late', async () => {
    const world = new World(4);
    world.connect('a', 'b', FAST, { loss: 0.1, duplication: 0.1, jitter: 3_000 });
    const [a, b] = ['a', 'b'].map((name) => world.start(name, FAST, { models: [models.small] })) as [
      Node,
      Node,
    ];
    const rooms = [ROOM, '!other:a.example', '!third:a.example'];
    await ask(world, a, b, said('first', ROOM, 'first'));
    const all = Array.from({ length: 60 }, (_, i) => said(`This is ${i} of sixty`, rooms[i % 3], `t${i}`));
    const answers = await world.time.until(
      Promise.all(
        all.map((request) =>
          a.socket.request(b.name, b.address, request, { timeoutMs: 60 * MINUTE, priority: 1 }),
        ),
      ),
      60 * MINUTE,
    );
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    const read = b.handled.slice(1).map(({ request }) => request);
    expect(read.toSorted(byPath)).toEqual(all.toSorted(byPath));
  });
});

const byPath = (a: ExchangeRequest, b: ExchangeRequest): number => (a.path < b.path ? -1 : 1);

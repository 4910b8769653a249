import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import type { Millis } from '../../src/base/time.ts';
import type { CoapEvent, CoapStep } from '../../src/coap/api.ts';
import { blockOption } from '../../src/coap/block.ts';
import { code, METHOD } from '../../src/coap/codes.ts';
import { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { FittedTiming } from '../../src/coap/fitted_timing.ts';
import { decode, encode, type Message, NO_BYTES } from '../../src/coap/message.ts';
import { encodeMissing, missingBlocks } from '../../src/coap/missing_blocks.ts';
import { OPTION, stringOption, uintOption } from '../../src/coap/options.ts';
import { modelledTiming, type Timing } from '../../src/coap/timing.ts';
import { bodyOf, same } from './bad_links.ts';
import { type Host, OVERHEAD, type Pair, pair } from './host.ts';

const LINK = { rate: 1_200, latency: 300 };
const SLOW = { rate: 100, latency: 1_000 };
const DEADLINE: Millis = 20_000_000;
const CHANGED = code(2, 4);
const FORMAT = uintOption(OPTION.contentFormat, 60);
const PATH = stringOption(OPTION.uriPath, 'x');
const MODEL = { rate: 1_200, delay: 300, overhead: OVERHEAD, mtu: 1_200 };

const put = (body: Uint8Array) => ({ code: METHOD.put, options: [PATH, FORMAT], payload: body });
const get = { code: METHOD.get, options: [PATH], payload: NO_BYTES };

const answering =
  (payload: Uint8Array, after: Millis = 0): Host['handler'] =>
  () => ({ after, response: { code: CHANGED, options: [FORMAT], payload } });

const selectivePair = (options: Omit<Parameters<typeof pair>[0], 'selective'>): Pair =>
  pair({ conditions: LINK, ...options, selective: true });

const sent = ({ seen }: Pair): string[] =>
  seen.filter(({ fate }) => fate === 'sent').map(({ from, label }) => `${from}: ${label}`);

/** Lets everything be forgotten; then nothing is held but what has no end. */
function expectNothingHeld({ clock, run, a, b }: Pair): void {
  run(clock.monotonic() + 30_000_000);
  for (const { endpoint } of [a, b]) {
    expect(Object.entries(endpoint.held).filter(([, count]) => count > 0)).toEqual([]);
  }
}

function change({ network }: Pair, partitioned: boolean): void {
  network.change('a', 'b', { partitioned });
  network.change('b', 'a', { partitioned });
}

describe('large bodies between two endpoints that speak selective repeat', () => {
  it('go both ways with each block once, few acknowledgements, and the options of the whole', () => {
    const [body, answer] = [bodyOf('body', 9_000), bodyOf('answer', 12_000)];
    const world = selectivePair({ seed: 1, handler: answering(answer) });
    const handle = world.a.request('b', put(body), DEADLINE);
    world.run(600_000);
    expect(world.b.delivered).toHaveLength(1);
    expect(world.b.delivered[0]).toMatchObject({ code: METHOD.put, options: [PATH, FORMAT] });
    expect(same(world.b.delivered[0]!.payload, body)).toBe(true);
    const response = world.a.outcomes.get(handle)?.response;
    expect(response).toMatchObject({ code: CHANGED, options: [FORMAT] });
    expect(same(response!.payload, answer)).toBe(true);
    const put9 = Array.from({ length: 9 }, (_, i) => `PUT q-block1 ${i + 1}/9`);
    const answer12 = Array.from({ length: 12 }, (_, i) => `2.04 q-block2 ${i + 1}/12`);
    const of = (host: string, what: RegExp) =>
      sent(world)
        .filter((label) => label.startsWith(host) && what.test(label))
        .map((label) => label.slice('a: CON '.length));
    expect(of('a', /PUT/)).toEqual(put9);
    expect(of('b', /q-block2/)).toEqual(answer12);
    // Beside the blocks: acknowledgements of checkpoints, the last one empty.
    const others = sent(world).filter((label) => !/q-block/.test(label));
    expect(others).toEqual(['b: ACK 2.31', 'b: ACK 2.31', 'a: ACK 2.31', 'a: ACK 2.31', 'a: ACK']);
    expect(world.a.endpoint.counters).toMatchObject({ resent: 0, blocksAgain: 0, selectiveTransfers: 1 });
    expectNothingHeld(world);
  });

  it('go undivided where they are small, and block by block where the other end does not say otherwise', () => {
    const world = pair({ seed: 1, conditions: LINK, handler: answering(bodyOf('answer', 3_000)) });
    world.a.request('b', put(bodyOf('body', 3_000)), DEADLINE);
    world.run(600_000);
    expect(sent(world).some((label) => /q-block/.test(label))).toBe(false);
    const small = selectivePair({ seed: 1, handler: answering(bodyOf('answer', 1_000)) });
    small.a.request('b', put(bodyOf('body', 1_100)), DEADLINE);
    small.run(600_000);
    expect(sent(small)).toEqual(['a: CON PUT', 'b: ACK 2.04']);
  });

  it('cross each other in both directions at once', () => {
    const bodies = [bodyOf('one', 8_000), bodyOf('two', 8_000)];
    const world = selectivePair({ seed: 2, handler: (request) => answering(request.payload)(request) });
    const handles = [
      world.a.request('b', put(bodies[0]!), DEADLINE),
      world.b.request('a', put(bodies[1]!), DEADLINE),
    ];
    world.run(600_000);
    for (const [i, host] of [world.a, world.b].entries()) {
      expect(same(host.outcomes.get(handles[i]!)!.response!.payload, bodies[i]!)).toBe(true);
      expect(host.endpoint.counters).toMatchObject({ resent: 0, blocksAgain: 0 });
    }
    expectNothingHeld(world);
  });

  it.each([
    ['at once', 0],
    ['separately, after a minute', 60_000],
  ])('survive the loss of any one datagram, with an answer %s', (_, after) => {
    const [body, answer] = [bodyOf('body', 5_000), bodyOf('answer', 6_000)];
    const transfer = (lose: number): number => {
      const world = selectivePair({ seed: 3, handler: answering(answer, after) });
      const handle = world.a.request('b', put(body), DEADLINE);
      let count = 0;
      for (let at = 0; !world.a.outcomes.has(handle) && at < DEADLINE; at += 20) {
        world.run(at);
        count = world.seen.filter(({ fate }) => fate !== 'delivered').length;
        // The dice are not needed: the way is closed for the one datagram.
        change(world, count === lose);
      }
      expect(
        world.b.delivered.map(({ payload }) => same(payload, body)),
        `loss of ${lose}`,
      ).toEqual([true]);
      const response = world.a.outcomes.get(handle)?.response;
      expect(response && same(response.payload, answer), `loss of ${lose}`).toBe(true);
      return count;
    };
    const all = transfer(-1);
    expect(all).toBeGreaterThan(12);
    for (let lose = 0; lose < all; lose++) transfer(lose);
  });

  it('let other requests pass: they wait for one block at the most, and take no place of theirs', () => {
    const world = selectivePair({ seed: 4, conditions: SLOW, handler: answering(NO_BYTES) });
    world.a.request('b', put(bodyOf('body', 8_000)), DEADLINE);
    for (let n = 1; n <= 5; n++) {
      const at = n * 100_000;
      world.run(at);
      const handle = world.a.request('b', get, DEADLINE);
      world.run(at + 60_000);
      expect(world.a.outcomes.get(handle)?.response).toBeDefined();
    }
  });

  it('are at most four to a peer at a time; the others wait, the most urgent first', () => {
    const world = selectivePair({ seed: 5, handler: answering(NO_BYTES) });
    const handles = Array.from({ length: 9 }, (_, n) =>
      world.a.request('b', put(bodyOf(`${n}`, 4_000)), DEADLINE, n === 8 ? 1 : 4),
    );
    let most = 0;
    for (let at = 0; at < 900_000; at += 1_000) {
      world.run(at);
      most = Math.max(most, world.b.endpoint.held.uploads!);
    }
    expect(most).toBe(4);
    expect(handles.map((handle) => world.a.outcomes.get(handle)?.response?.code)).toEqual(
      handles.map(() => CHANGED),
    );
    const order = [...world.a.outcomes]
      .sort(([, one], [, other]) => one.at - other.at)
      .map(([handle]) => handle);
    expect(order.indexOf(handles[8]!)).toBeLessThan(5);
    expectNothingHeld(world);
  });

  it('start over when the server has restarted, whether it was receiving or answering', () => {
    const [body, answer] = [bodyOf('body', 9_000), bodyOf('answer', 9_000)];
    for (const restartAt of [20_000, 120_000]) {
      const world = selectivePair({ seed: 6, handler: answering(answer) });
      const handle = world.a.request('b', put(body), DEADLINE);
      world.run(restartAt);
      expect(world.b.endpoint.held[restartAt === 20_000 ? 'uploads' : 'responses']).toBe(1);
      const now = world.clock.monotonic();
      // What the new process would not know either.
      world.b.apply(world.b.endpoint.forget('a', now));
      expect(world.b.endpoint.held).toMatchObject({ uploads: 0, responses: 0 });
      world.a.apply(world.a.endpoint.restarted('b', now));
      world.run(2_000_000);
      expect(same(world.a.outcomes.get(handle)!.response!.payload, answer)).toBe(true);
      expect(world.b.delivered).toHaveLength(restartAt === 20_000 ? 1 : 2);
      expect(world.b.delivered.every(({ payload }) => same(payload, body))).toBe(true);
      expectNothingHeld(world);
    }
  });

  it('are given up when they are cancelled, and the other end stops sending', () => {
    for (const cancelAt of [20_000, 120_000]) {
      const world = selectivePair({ seed: 7, handler: answering(bodyOf('answer', 50_000)) });
      const handle = world.a.request('b', put(bodyOf('body', 9_000)), DEADLINE);
      world.run(cancelAt);
      world.a.apply(world.a.endpoint.cancel(handle, world.clock.monotonic()));
      expect(world.a.outcomes.get(handle)?.reason).toBe('cancelled');
      const before = sent(world).length;
      world.run(cancelAt + 300_000);
      // Of the answer no more than up to the next checkpoint, with what was under way when the reset came.
      expect(sent(world).length - before).toBeLessThan(10);
      expect(world.b.endpoint.held.responses).toBe(0);
      expectNothingHeld(world);
    }
  });

  it('end with the deadline where the peer is gone, and nothing stays', () => {
    for (const goneAt of [20_000, 120_000]) {
      const world = selectivePair({ seed: 8, handler: answering(bodyOf('answer', 20_000)) });
      const handle = world.a.request('b', put(bodyOf('body', 9_000)), 1_000_000);
      world.run(goneAt);
      change(world, true);
      world.run(1_000_001);
      expect(world.a.outcomes.get(handle)?.reason).toBe('timeout');
      expectNothingHeld(world);
    }
  });

  it('go on after the link was gone for a while', () => {
    const [body, answer] = [bodyOf('body', 9_000), bodyOf('answer', 9_000)];
    for (const goneAt of [20_000, 120_000]) {
      const world = selectivePair({ seed: 9, handler: answering(answer) });
      const handle = world.a.request('b', put(body), DEADLINE);
      world.run(goneAt);
      change(world, true);
      world.run(goneAt + 240_000);
      change(world, false);
      world.run(goneAt + 1_200_000);
      expect(world.b.delivered).toHaveLength(1);
      expect(same(world.a.outcomes.get(handle)!.response!.payload, answer)).toBe(true);
      expectNothingHeld(world);
    }
  });

  it('are refused beyond the bounds of the one who receives them', () => {
    const answer = bodyOf('answer', 9_000);
    const world = selectivePair({
      seed: 10,
      handler: answering(answer),
      limits: { bodyBytes: 10_000, assemblyBytes: 8_000 },
    });
    const first = world.a.request('b', put(bodyOf('body', 9_000)), DEADLINE);
    const second = world.a.request('b', get, DEADLINE);
    world.run(600_000);
    // No room to put it together: the answer of the server, and the failure of the client.
    expect(world.a.outcomes.get(first)?.response?.code).toBe(code(5, 3));
    expect(world.a.outcomes.get(second)?.reason).toBe('too_large');
    expectNothingHeld(world);
  });

  it('that are answers are fetched block by block beyond the bound of those on their way', () => {
    const answer = bodyOf('answer', 4_000);
    const world = selectivePair({
      seed: 11,
      handler: answering(answer),
      limits: { cachedBodyBytes: 17_000 },
    });
    const handles = Array.from({ length: 4 }, () => world.a.request('b', get, DEADLINE));
    world.run(900_000);
    const labels = sent(world).join('\n');
    expect(labels).toMatch(/q-block2/);
    expect(labels).toMatch(/ACK 2.04 block2 4/);
    for (const handle of handles)
      expect(same(world.a.outcomes.get(handle)!.response!.payload, answer)).toBe(true);
    expectNothingHeld(world);
  });

  it('that observers are told of still go block by block', () => {
    const options = [uintOption(OPTION.maxAge, 10_000)];
    const states = [bodyOf('1', 3_000), bodyOf('2', 3_000)];
    const state = (n: number) => ({ code: CHANGED, options, payload: states[n]! });
    const world = selectivePair({ seed: 12, handler: () => ({ after: 0, response: state(0) }) });
    world.b.observable = true;
    const handle = world.a.observe('b', get, DEADLINE);
    world.run(300_000);
    world.b.notify(state(1));
    world.run(600_000);
    const told = world.a.told.get(handle)!;
    expect(told.map(({ payload }, n) => same(payload, states[n]!))).toEqual([true, true]);
    expect(sent(world).some((label) => /q-block/.test(label))).toBe(false);
  });

  it('come block by block to one who wanted to observe and may not', () => {
    const answer = bodyOf('answer', 3_000);
    const world = selectivePair({ seed: 12, handler: answering(answer) });
    const handle = world.a.observe('b', get, DEADLINE);
    world.run(300_000);
    expect(same(world.a.outcomes.get(handle)!.response!.payload, answer)).toBe(true);
    expect(sent(world).some((label) => /q-block/.test(label))).toBe(false);
  });

  it('count as what they are for the timers: only the block that completes a request is replied to like one', () => {
    const [asked, replied]: [number[], number[]] = [[], []];
    const timing: Timing = {
      ...modelledTiming(MODEL),
      retransmitAfter: (_attempt, _bytes, _random, message) => {
        asked.push(message!.code);
        return 60_000;
      },
      replied: (delivery) => replied.push(delivery.code),
    };
    const world = selectivePair({ seed: 14, timing, handler: answering(bodyOf('answer', 6_000)) });
    world.a.request('b', put(bodyOf('body', 9_000)), DEADLINE);
    world.run(600_000);
    const checkpoint = code(2, 31);
    const expected = [checkpoint, checkpoint, METHOD.put, checkpoint, checkpoint];
    expect(asked).toEqual(expected);
    expect(replied).toEqual(expected);
  });

  it('teach the timers nothing wrong: with fitted ones nothing is sent twice without a loss', () => {
    for (const [rate, delay] of [
      [100, 1_000],
      [1_200, 300],
      [50_000, 300],
    ] as const) {
      const model = { rate, delay, overhead: OVERHEAD, mtu: 1_200 };
      const world = selectivePair({
        seed: 13,
        conditions: { rate, latency: delay },
        timing: () => new FittedTiming(model),
        handler: (request) => answering(request.payload, (request.payload.length % 7) * 1_500)(request),
      });
      const random = seededRandom(13);
      const handles: [Host, number][] = [];
      for (let n = 0; n < 60; n++) {
        const [host, other] = n % 2 === 0 ? ([world.a, 'b'] as const) : ([world.b, 'a'] as const);
        const length = random.integer(3) === 0 ? 600 + random.integer(5_000) : random.integer(400);
        handles.push([host, host.request(other, put(bodyOf(`${n}`, length)), DEADLINE)]);
        if (random.integer(3) === 0)
          world.run(world.clock.monotonic() + random.integer(2_000_000_000 / (rate * 100)));
      }
      world.run(DEADLINE - 1);
      expect(handles.every(([host, handle]) => host.outcomes.get(handle)?.response !== undefined)).toBe(true);
      for (const { endpoint } of [world.a, world.b]) {
        expect(endpoint.counters.selectiveTransfers).toBeGreaterThan(8);
        expect(endpoint.counters, `${rate} bit/s`).toMatchObject({
          resent: 0,
          blocksAgain: 0,
          duplicates: 0,
        });
      }
    }
  });
});

/** One endpoint, with the messages that it gets made by hand. */
class ByHand {
  readonly endpoint: CoapEndpoint;
  readonly events: CoapEvent[] = [];
  readonly out: Message[] = [];
  /** Whether what it sends leaves at once, or is never told to have left. */
  leaves = true;
  now: Millis = 0;

  constructor(selective = true, timing: Timing = modelledTiming(MODEL)) {
    this.endpoint = new CoapEndpoint({ random: seededRandom(1), timing: () => timing, selective });
  }

  get(message: Partial<Message>): void {
    const whole = {
      code: 3,
      id: 1,
      token: TOKEN,
      options: [],
      payload: NO_BYTES,
      type: 'CON',
      ...message,
    } as const;
    this.apply(this.endpoint.receive('p', encode(whole), this.now));
  }

  apply(step: CoapStep): void {
    this.events.push(...step.events);
    for (const { bytes, receipt } of step.datagrams) {
      const message = decode(bytes);
      if (message.ok) this.out.push(message.value);
      if (receipt !== null && this.leaves) this.apply(this.endpoint.left(receipt, this.now));
    }
  }

  /** What has been sent since the last call. */
  sent(): Message[] {
    return this.out.splice(0);
  }
}

const TOKEN = Uint8Array.of(0x70, 0x71);
const block1 = (num: number, more = true) => blockOption(OPTION.qBlock1, { num, more, size: 16 });
const block2 = (num: number, more = true) => blockOption(OPTION.qBlock2, { num, more, size: 16 });
const bytes16 = (byte: number): Uint8Array => new Uint8Array(16).fill(byte);

describe('an endpoint that speaks selective repeat', () => {
  it('answers in a message of its own where a non-confirmable block has completed the body', () => {
    const server = new ByHand();
    server.get({ type: 'CON', id: 1, options: [block1(1, false)], payload: bytes16(1) });
    expect(server.sent()).toMatchObject([{ type: 'ACK', id: 1, code: code(2, 31), token: TOKEN }]);
    server.get({ type: 'NON', id: 2, options: [PATH, block1(0)], payload: bytes16(0) });
    expect(server.events).toMatchObject([{ kind: 'request', request: { options: [PATH] } }]);
    expect(server.sent()).toEqual([]);
    server.apply(server.endpoint.respond(0, { code: CHANGED, options: [], payload: NO_BYTES }, 0));
    expect(server.sent()).toMatchObject([{ type: 'CON', code: CHANGED, token: TOKEN }]);
    // A checkpoint that comes late is told that all is here.
    server.get({ type: 'CON', id: 3, options: [block1(1, false)], payload: bytes16(1) });
    expect(server.sent()).toMatchObject([{ type: 'ACK', id: 3, code: 0 }]);
    expect(server.events).toHaveLength(1);
  });

  it('repeats a piggybacked answer to another checkpoint, since that ends the copies of the one that was answered', () => {
    const server = new ByHand();
    server.get({ type: 'NON', id: 1, options: [PATH, block1(0)], payload: bytes16(0) });
    server.get({ type: 'CON', id: 2, options: [block1(1, false)], payload: bytes16(1) });
    server.apply(server.endpoint.respond(0, { code: CHANGED, options: [], payload: bytes16(9) }, 0));
    server.get({ type: 'CON', id: 3, options: [block1(0)], payload: bytes16(0) });
    const answers = server.sent();
    expect(answers).toMatchObject([2, 3].map((id) => ({ type: 'ACK', id, code: CHANGED, token: TOKEN })));
    expect(answers.every(({ payload }) => same(payload, bytes16(9)))).toBe(true);
    expect(server.events).toHaveLength(1);
  });

  it('acknowledges a later checkpoint while the application works, and answers separately then', () => {
    const server = new ByHand();
    server.get({ type: 'CON', id: 2, options: [PATH, block1(0)], payload: bytes16(0) });
    server.sent();
    server.get({ type: 'CON', id: 3, options: [block1(1, false)], payload: bytes16(1) });
    server.get({ type: 'CON', id: 4, options: [block1(0)], payload: bytes16(0) });
    expect(server.sent()).toMatchObject([{ type: 'ACK', id: 4, code: 0 }]);
    server.apply(server.endpoint.respond(0, { code: CHANGED, options: [], payload: NO_BYTES }, 0));
    expect(server.sent()).toMatchObject([{ type: 'CON', code: CHANGED }]);
  });

  it('remembers no blocks but checkpoints', () => {
    const server = new ByHand();
    for (let num = 0; num < 100; num++)
      server.get({ type: 'NON', id: num, options: [block1(num)], payload: bytes16(0) });
    expect(server.endpoint.held).toMatchObject({ remembered: 0, uploads: 1 });
  });

  it('rejects checkpoints of a response that nobody waits for, and ignores its other blocks', () => {
    const client = new ByHand();
    client.get({ type: 'NON', id: 1, code: CHANGED, options: [block2(0)], payload: bytes16(0) });
    expect(client.sent()).toEqual([]);
    client.get({ type: 'CON', id: 2, code: CHANGED, options: [block2(1)], payload: bytes16(0) });
    expect(client.sent()).toMatchObject([{ type: 'RST', id: 2 }]);
  });

  it('fails a request whose checkpoints are acknowledged with what cannot be true', () => {
    const failed = [{ kind: 'failed', reason: 'bad_response' }];
    for (const [payload, expected] of [
      [encodeMissing(missingBlocks(9, [])), []],
      [NO_BYTES, failed],
      [Uint8Array.of(0xff), failed],
      // All of them, before all were sent.
      [encodeMissing(missingBlocks(40, [])), failed],
    ] as const) {
      const client = new ByHand();
      const request = put(bodyOf('body', 40_000));
      client.apply(client.endpoint.request('p', request, { deadline: 1e6, priority: 1 }, 0).step);
      const first = client.sent()[0]!;
      expect(first.type).toBe('CON');
      client.get({ type: 'ACK', id: first.id, code: code(2, 31), token: first.token, payload });
      expect(client.events).toMatchObject(expected);
      expect(client.events).toHaveLength(expected.length);
    }
  });

  it('asks again under another token after a restart: blocks from before do not meet those from after', () => {
    const client = new ByHand();
    client.apply(client.endpoint.request('p', get, { deadline: 1e6, priority: 1 }, 0).step);
    const first = client.sent()[0]!;
    const old = { code: CHANGED, token: first.token, options: [block2(0)], payload: bytes16(1) };
    client.get({ ...old, type: 'ACK', id: first.id });
    client.apply(client.endpoint.restarted('p', 0));
    const second = client.sent()[0]!;
    expect(same(second.token, first.token)).toBe(false);
    client.get({ ...old, type: 'NON', id: 70, options: [block2(1, false)] });
    client.get({ ...old, type: 'ACK', id: second.id, token: second.token, payload: bytes16(2) });
    client.get({
      ...old,
      type: 'NON',
      id: 71,
      token: second.token,
      options: [block2(1, false)],
      payload: bytes16(3),
    });
    expect(client.events).toMatchObject([{ kind: 'response' }]);
    const [event] = client.events;
    const expected = new Uint8Array([...bytes16(2), ...bytes16(3)]);
    expect(event?.kind === 'response' && same(event.response.payload, expected)).toBe(true);
  });

  it('lets the token of a body rest, also when it was answered', () => {
    // Dice that would give the same token again and again, now and then another.
    const dice = seededRandom(2);
    const random = {
      ...dice,
      integer: (n: number) => dice.integer(n),
      fraction: () => 0,
      bytes: () => Uint8Array.of(0, dice.integer(4)),
    };
    const timing = modelledTiming(MODEL);
    const endpoint = new CoapEndpoint({ random, timing: () => timing, selective: true });
    const tokens: string[] = [];
    for (let n = 0; n < 4; n++) {
      const { datagrams } = endpoint.request(
        'p',
        put(bodyOf('body', 4_000)),
        { deadline: 1e6, priority: 1 },
        0,
      ).step;
      const first = decode(datagrams[0]!.bytes);
      if (!first.ok) throw new Error('a message was sent');
      const { token } = first.value;
      tokens.push(`${token}`);
      const answer = { type: 'CON', id: n, token, code: CHANGED, options: [], payload: NO_BYTES } as const;
      expect(endpoint.receive('p', encode(answer), 0).events).toMatchObject([{ kind: 'response' }]);
    }
    expect(new Set(tokens).size).toBe(4);
  });

  it('goes on when a checkpoint is answered before it is told to have left', () => {
    const client = new ByHand();
    client.leaves = false;
    client.apply(
      client.endpoint.request('p', put(bodyOf('body', 4_000)), { deadline: 1e6, priority: 1 }, 0).step,
    );
    const [first, ...others] = client.sent();
    expect(others).toEqual([]);
    const payload = encodeMissing(missingBlocks(1, []));
    client.get({ type: 'ACK', id: first!.id, code: code(2, 31), token: first!.token, payload });
    expect(client.sent()).toMatchObject([{ type: 'NON', code: METHOD.put, token: first!.token }]);
  });

  it('takes any other answer to a checkpoint as the answer to the request, and a reset as its end', () => {
    for (const [reply, expected] of [
      [
        { type: 'ACK', code: code(4, 3) },
        { kind: 'response', response: { code: code(4, 3) } },
      ],
      [
        { type: 'RST', code: 0, token: NO_BYTES },
        { kind: 'failed', reason: 'reset' },
      ],
    ] as const) {
      const client = new ByHand();
      client.apply(
        client.endpoint.request('p', put(bodyOf('body', 40_000)), { deadline: 1e6, priority: 1 }, 0).step,
      );
      const { id, token } = client.sent()[0]!;
      client.get({ token, ...reply, id });
      expect(client.events).toMatchObject([expected]);
      client.apply(client.endpoint.tick(500_000));
      expect(client.sent()).toEqual([]);
    }
  });
});

describe('an endpoint that does not speak selective repeat', () => {
  it('answers its options with 4.02, and takes no response that has them', () => {
    const server = new ByHand(false);
    server.get({ type: 'CON', id: 1, options: [PATH, block1(0)], payload: bytes16(0) });
    server.get({ type: 'CON', id: 2, code: 1, options: [PATH, block2(0)] });
    expect(server.sent()).toMatchObject([1, 2].map((id) => ({ type: 'ACK', id, code: code(4, 2) })));
    server.get({ type: 'NON', id: 3, options: [PATH, block1(0)], payload: bytes16(0) });
    expect([server.sent(), server.events]).toEqual([[], []]);
    server.apply(server.endpoint.request('p', get, { deadline: 1e6, priority: 1 }, 0).step);
    const { id, token } = server.sent()[0]!;
    server.get({ type: 'ACK', id, token, code: CHANGED, options: [block2(0)], payload: bytes16(0) });
    expect(server.events).toMatchObject([{ kind: 'failed', reason: 'bad_response' }]);
  });
});

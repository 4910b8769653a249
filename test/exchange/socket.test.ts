import { describe, expect, test } from 'vitest';
import { concat, utf8 } from '../../src/base/bytes.ts';
import { decode, encode } from '../../src/coap/message.ts';
import { OPTION, stringOption, uintOption } from '../../src/coap/options.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import type { PlainPolicy } from '../../src/exchange/plain_policy.ts';
import { MatrixError } from '../../src/matrix/error.ts';
import { FAST, MINUTE, put, SLOW, serverName, World } from './world.ts';

const OPTIONS = { timeoutMs: 10 * MINUTE, priority: 1 } as const;

describe('a request through the pipe', () => {
  test('is answered, and the handler knows which server has made it', async () => {
    const world = new World(1);
    world.connect('a', 'b', FAST);
    const a = world.start('a', FAST);
    const b = world.start('b', FAST);
    const response = await world.time.until(
      a.socket.request(b.name, b.address, put('hello'), OPTIONS),
      MINUTE,
    );
    expect(response).toEqual({ status: 200, headers: {}, body: { kind: 'json', value: { text: 'hello' } } });
    const message = { generation: expect.any(Number), number: 0 };
    expect(b.handled).toEqual([
      { caller: { kind: 'server', name: 'a.example' }, request: put('hello'), message },
    ]);
    expect(a.socket.counters).toMatchObject({
      established: 1,
      requestsOut: 1,
      responsesIn: 1,
      requestsIn: 0,
    });
  });

  test('may be answered by any status, and by an error that the handler throws', async () => {
    const world = new World(2);
    world.connect('a', 'b', FAST);
    const a = world.start('a', FAST);
    const b = world.start('b', FAST);
    const outcome = () => world.time.until(a.socket.request(b.name, b.address, put('x'), OPTIONS), MINUTE);
    b.answer = async () => ({ status: 307, headers: { location: '/elsewhere' } });
    expect(await outcome()).toEqual({ status: 307, headers: { location: '/elsewhere' } });
    b.answer = async () => {
      throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'slow down', { retry_after_ms: 1500 });
    };
    expect(await outcome()).toMatchObject({
      status: 429,
      headers: { 'retry-after': '2' },
      body: { value: { retry_after_ms: 1500 } },
    });
    b.answer = async () => {
      throw new Error('the secret is 42');
    };
    const failed = await outcome();
    expect(failed).toMatchObject({ status: 500, body: { value: { errcode: 'M_UNKNOWN' } } });
    expect(JSON.stringify(failed)).not.toContain('42');
  });

  test('without loss at 100 bit/s crosses the link once each way', async () => {
    const world = new World(3);
    world.connect('a', 'b', SLOW);
    const a = world.start('a', SLOW);
    const b = world.start('b', SLOW);
    await world.time.until(a.socket.request(b.name, b.address, put('first'), OPTIONS), 10 * MINUTE);
    const before = world.seen.length;
    await world.time.until(a.socket.request(b.name, b.address, put('second'), OPTIONS), 10 * MINUTE);
    const sent = world.seen.slice(before).filter(({ fate }) => fate === 'sent');
    expect(sent.map(({ from, label }) => `${from}: ${label}`)).toEqual([
      'a: data CON PUT',
      'b: data ACK 2.04',
    ]);
    expect(a.socket.counters.inPipe.resent + b.socket.counters.inPipe.resent).toBe(0);
  });

  test.each([1, 2, 3, 4, 5, 6])(
    'at 100 bit/s with loss is answered once and handled once (seed %i)',
    async (seed) => {
      const world = new World(seed);
      world.connect('a', 'b', SLOW, { loss: 0.3, duplication: 0.1, corruption: 0.05 });
      const a = world.start('a', SLOW);
      const b = world.start('b', SLOW);
      const texts = Array.from({ length: 6 }, (_, i) => `message ${i} of seed ${seed}`);
      const there = texts.map((text) =>
        a.socket.request(b.name, b.address, put(text), { timeoutMs: 60 * MINUTE, priority: 1 }),
      );
      const back = b.socket.request(a.name, a.address, put('the other way'), {
        timeoutMs: 60 * MINUTE,
        priority: 1,
      });
      const answers = await world.time.until(Promise.all([...there, back]), 70 * MINUTE);
      expect(answers.map(({ body }) => (body?.kind === 'json' ? body.value : null))).toEqual(
        [...texts, 'the other way'].map((text) => ({ text })),
      );
      expect(b.handled.map(({ request }) => request)).toHaveLength(texts.length);
      expect(new Set(b.handled.map(({ request }) => JSON.stringify(request.body)))).toHaveLength(
        texts.length,
      );
      expect(a.handled).toHaveLength(1);
      // The link was as bad as it says.
      expect(world.fates()).toMatchObject({ lost: expect.any(Number) });
      expect(a.socket.counters.inPipe.resent + b.socket.counters.inPipe.resent).toBeGreaterThan(0);
    },
  );

  test('may be large in both directions', async () => {
    const world = new World(4);
    world.connect('a', 'b', FAST, { latency: 50, loss: 0.05 });
    const a = world.start('a', FAST);
    const b = world.start('b', FAST);
    const noise = Array.from({ length: 3000 }, (_, i) => Math.imul(i + 1, 0x9e3779b1) >>> 0);
    const request = { ...put('x'), body: { kind: 'json', value: noise } as const };
    const response = await world.time.until(
      a.socket.request(b.name, b.address, request, OPTIONS),
      10 * MINUTE,
    );
    expect(response.body).toEqual(request.body);
    expect(b.handled).toHaveLength(1);
    expect(Math.max(...world.seen.map(({ bytes }) => bytes))).toBeLessThanOrEqual(FAST.mtu);
  });

  test('carries bytes of any media type', async () => {
    const world = new World(5);
    world.connect('a', 'b', FAST);
    const a = world.start('a', FAST);
    const b = world.start('b', FAST);
    const body = {
      kind: 'bytes',
      contentType: 'audio/ogg; codecs=opus',
      bytes: Uint8Array.of(0, 255, 3),
    } as const;
    const response = await world.time.until(
      a.socket.request(b.name, b.address, { ...put('x'), body }, OPTIONS),
      MINUTE,
    );
    expect(response.body).toEqual(body);
  });

  test('that nobody answers fails at its deadline, and the link is left alone after it', async () => {
    const world = new World(6);
    world.connect('a', 'b', FAST, { partitioned: true });
    const a = world.start('a', FAST);
    const outcome = a.socket.request(serverName('b'), 'b', put('x'), { timeoutMs: 5 * MINUTE, priority: 1 });
    outcome.catch(() => undefined);
    await expect(world.time.until(outcome, 6 * MINUTE)).rejects.toMatchObject({ reason: 'timeout' });
    expect(world.time.clock.monotonic()).toBeLessThanOrEqual(5 * MINUTE);
    expect(a.socket.counters.unreachable).toBeGreaterThan(0);
    await world.time.pass(60 * MINUTE);
    const before = world.seen.length;
    await world.time.pass(24 * 60 * MINUTE);
    expect(world.seen.length - before).toBeLessThan(5);
  });

  test('ends when it is aborted, before and after it was sent', async () => {
    const world = new World(7);
    world.connect('a', 'b', SLOW);
    const a = world.start('a', SLOW);
    const b = world.start('b', SLOW);
    const controller = new AbortController();
    const outcome = a.socket.request(b.name, b.address, put('x'), { ...OPTIONS, signal: controller.signal });
    outcome.catch(() => undefined);
    await world.time.pass(1000);
    controller.abort();
    await expect(outcome).rejects.toMatchObject({ reason: 'cancelled' });
    await expect(
      a.socket.request(b.name, b.address, put('x'), { ...OPTIONS, signal: controller.signal }),
    ).rejects.toMatchObject({ reason: 'cancelled' });
  });

  test('that is given up while it waits for a session is never sent, and the handshake ends by itself', async () => {
    const world = new World(8);
    world.connect('a', 'b', FAST);
    const controller = new AbortController();
    const decide = async () => {
      controller.abort();
      return { trusted: true } as const;
    };
    const a = world.start('a', FAST, { trust: { decide } });
    const b = world.start('b', FAST);
    const outcome = a.socket.request(b.name, b.address, put('x'), { ...OPTIONS, signal: controller.signal });
    await expect(world.time.until(outcome, MINUTE)).rejects.toMatchObject({ reason: 'cancelled' });
    await world.time.pass(60 * MINUTE);
    expect(b.handled).toEqual([]);
    const sent = world.seen.filter(({ fate }) => fate === 'sent');
    expect(sent.map(({ from, label }) => `${from} ${label}`)).toEqual([
      'a XX1',
      'b XX2',
      'a XX3',
      'b confirm',
    ]);
    await world.time.until(a.socket.request(b.name, b.address, put('y'), OPTIONS), MINUTE);
    expect(a.socket.counters.established).toBe(1);
  });

  test('waits for the models, and so does what comes from others', async () => {
    const world = new World(8);
    world.connect('a', 'b', FAST);
    const models = { a: Promise.withResolvers<void>(), b: Promise.withResolvers<void>() };
    const a = world.start('a', FAST, { modelsReady: models.a.promise });
    const b = world.start('b', FAST, { modelsReady: models.b.promise });
    const outcome = a.socket.request(b.name, b.address, put('x'), OPTIONS);
    await world.time.pass(MINUTE);
    expect(world.seen).toEqual([]);
    models.a.resolve();
    await world.time.pass(1_000);
    expect(new Set(world.seen.map(({ from }) => from))).toEqual(new Set(['a']));
    models.b.resolve();
    await expect(world.time.until(outcome, MINUTE)).resolves.toMatchObject({ status: 200 });
  });

  test('comes to nothing where the models cannot be read', async () => {
    const world = new World(8);
    world.connect('a', 'b', FAST);
    const a = world.start('a', FAST, { modelsReady: Promise.reject(new Error('unreadable')) });
    const outcome = a.socket.request(serverName('b'), 'b', put('x'), OPTIONS);
    await world.time.pass(60 * MINUTE);
    expect(world.seen).toEqual([]);
    const told = expect(outcome).rejects.toMatchObject({ reason: 'closed' });
    await a.socket.close();
    await told;
  });

  test('that was overtaken before it was sent is never sent', async () => {
    const world = new World(9);
    world.connect('a', 'b', SLOW);
    const a = world.start('a', SLOW);
    const b = world.start('b', SLOW);
    const ask = (text: string, supersedes?: string) =>
      a.socket.request(b.name, b.address, put(text), { ...OPTIONS, ...(supersedes && { supersedes }) });
    await world.time.until(ask('first'), 10 * MINUTE);
    const kept = ask('in front');
    const overtaken = expect(ask('alice types', 'typing')).rejects.toMatchObject({ reason: 'superseded' });
    const newest = ask('alice stops', 'typing');
    await world.time.until(Promise.all([kept, overtaken, newest]), 30 * MINUTE);
    expect(b.handled.map(({ request }) => request.body)).toEqual(
      ['first', 'in front', 'alice stops'].map((text) => ({ kind: 'json', value: { text } })),
    );
  });

  test('that cannot be said in CoAP fails at once', async () => {
    const world = new World(8);
    const a = world.start('a', FAST);
    await expect(
      a.socket.request(serverName('b'), 'b', { ...put('x'), method: 'TRACE' }, OPTIONS),
    ).rejects.toMatchObject({ reason: 'invalid' });
    await expect(
      a.socket.request(serverName('b'), 'b', { ...put('x'), path: 'no slash' }, OPTIONS),
    ).rejects.toMatchObject({ reason: 'invalid' });
  });

  test('is one of a bounded number', async () => {
    const world = new World(9);
    const a = world.start('a', SLOW, { limits: { coap: { requestsPerPeer: 4 } } });
    const outcomes = Array.from({ length: 6 }, (_, i) =>
      a.socket.request(serverName('b'), 'b', put(`${i}`), { timeoutMs: MINUTE, priority: 1 }),
    );
    const settled = world.time.until(Promise.allSettled(outcomes), 2 * MINUTE);
    const reasons = (await settled).map((outcome) =>
      outcome.status === 'rejected' ? outcome.reason.reason : 'answered',
    );
    expect(reasons).toEqual(['timeout', 'timeout', 'timeout', 'timeout', 'queue_full', 'queue_full']);
  });
});

describe('a socket that closes', () => {
  test('rejects what is open, aborts handlers, waits for them, and sends nothing more', async () => {
    const world = new World(10);
    world.connect('a', 'b', FAST, { latency: 10 });
    const a = world.start('a', FAST);
    const b = world.start('b', FAST);
    let aborted = false;
    b.answer = (_, signal) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () => {
          aborted = true;
          resolve({ status: 200, headers: {} });
        });
      });
    const outcome = a.socket.request(b.name, b.address, put('x'), OPTIONS);
    outcome.catch(() => undefined);
    await world.time.pass(5000);
    expect(b.handled).toHaveLength(1);
    const before = world.seen.filter(({ fate }) => fate === 'sent').length;
    await b.socket.close();
    expect(aborted).toBe(true);
    await a.socket.close();
    await expect(outcome).rejects.toMatchObject({ reason: 'closed' });
    await expect(a.socket.request(b.name, b.address, put('x'), OPTIONS)).rejects.toMatchObject({
      reason: 'closed',
    });
    await world.time.pass(60 * MINUTE);
    expect(world.seen.filter(({ fate }) => fate === 'sent')).toHaveLength(before);
    expect(world.time.clock.next()).toBeNull();
  });
});

describe('a peer that restarts', () => {
  test('is found again by requests to it, and asks again itself', async () => {
    const world = new World(11);
    world.connect('a', 'b', SLOW, { loss: 0.1 });
    const a = world.start('a', SLOW);
    let b = world.start('b', SLOW);
    await world.time.until(a.socket.request(b.name, b.address, put('before'), OPTIONS), 10 * MINUTE);
    await b.socket.close();
    b = world.start('b', SLOW);
    const after = await world.time.until(
      a.socket.request(b.name, b.address, put('after'), { timeoutMs: 30 * MINUTE, priority: 1 }),
      30 * MINUTE,
    );
    expect(after.body).toMatchObject({ value: { text: 'after' } });
    expect(b.handled).toHaveLength(1);
    expect(a.socket.counters).toMatchObject({ established: 2, restarts: 1 });
  });

  test('with a request on its way gets it again', async () => {
    const world = new World(12);
    world.connect('a', 'b', SLOW);
    const a = world.start('a', SLOW);
    let b = world.start('b', SLOW);
    b.answer = () => new Promise(() => undefined);
    const outcome = a.socket.request(b.name, b.address, put('again'), {
      timeoutMs: 60 * MINUTE,
      priority: 1,
    });
    while (b.handled.length === 0) await world.time.pass(1000);
    // Long enough for the empty acknowledgement, after which nothing is sent again by a timer.
    await world.time.pass(MINUTE);
    expect(world.seen.some(({ label, fate }) => label === 'data ACK' && fate === 'delivered')).toBe(true);
    // Its handler never ends, so neither does close().
    void b.socket.close();
    await world.time.settle();
    b = world.start('b', SLOW);
    // The new one speaks first, as a server does that has something to send.
    const own = b.socket.request(a.name, a.address, put('I am back'), OPTIONS);
    await world.time.until(own, 10 * MINUTE);
    expect((await world.time.until(outcome, 60 * MINUTE)).body).toMatchObject({ value: { text: 'again' } });
    expect(b.handled).toHaveLength(1);
  });

  // a                         b
  //   PUT ───────────────────>
  //          <──────────── ACK    restarts, and has nothing to say of its own
  //   ping ──────────────────>
  //          <─────────── hint
  //   handshake, PUT ────────>
  test.each([
    ['at 100 bit/s', SLOW, 60],
    ['where no rate is known', FAST, 2],
  ] as const)(
    'after it acknowledged a request, and stays silent, gets it again %s',
    async (_, profile, minutes) => {
      const world = new World(13);
      world.connect('a', 'b', profile);
      const a = world.start('a', profile);
      let b = world.start('b', profile);
      b.answer = () => new Promise(() => undefined);
      const options = { timeoutMs: minutes * MINUTE, priority: 1 } as const;
      const outcome = a.socket.request(b.name, b.address, put('again'), options);
      outcome.catch(() => undefined);
      const acknowledged = (): boolean =>
        world.seen.some(({ label, fate }) => label === 'data ACK' && fate === 'delivered');
      while (!acknowledged()) await world.time.pass(1000);
      // Its handler never ends, so neither does close().
      void b.socket.close();
      await world.time.settle();
      b = world.start('b', profile);
      const answer = await world.time.until(outcome, Math.min(minutes, 6) * MINUTE);
      expect(answer.body).toMatchObject({ value: { text: 'again' } });
      expect(b.handled).toHaveLength(1);
      expect(a.socket.counters).toMatchObject({ restarts: 1, inPipe: { probes: 1 } });
    },
  );
});

describe('trust', () => {
  const trustNobody = { decide: async () => ({ trusted: false, reason: 'unknown server' }) as const };

  test('that the server has not in the caller ends in a refusal on both sides, and nothing is handled', async () => {
    const world = new World(13);
    world.connect('a', 'b', FAST);
    const a = world.start('a', FAST);
    const b = world.start('b', FAST, { trust: trustNobody });
    const outcome = a.socket.request(b.name, b.address, put('x'), { timeoutMs: 2 * MINUTE, priority: 1 });
    outcome.catch(() => undefined);
    await expect(world.time.until(outcome, 3 * MINUTE)).rejects.toMatchObject({ reason: 'refused' });
    expect(b.handled).toEqual([]);
    expect(b.socket.counters.refused).toBeGreaterThan(0);
  });

  test('that the caller has not in the server: another key is refused, and says so', async () => {
    const world = new World(14);
    world.connect('a', 'b', FAST);
    const pinned = world.identity('b').noisePublic;
    const a = world.start('a', FAST, {
      trust: {
        decide: async (claim) =>
          claim.noisePublic.every((byte, i) => byte === pinned[i])
            ? { trusted: true }
            : { trusted: false, reason: 'another key than before' },
      },
    });
    const impostor = world.start('b', FAST, { identity: world.identity('b', 999) });
    const outcome = a.socket.request(impostor.name, 'b', put('secret'), {
      timeoutMs: 2 * MINUTE,
      priority: 1,
    });
    outcome.catch(() => undefined);
    await expect(world.time.until(outcome, 3 * MINUTE)).rejects.toMatchObject({
      reason: 'refused',
      message: 'b.example: another key than before',
    });
    expect(impostor.handled).toEqual([]);
  });

  test('that cannot be decided is a refusal', async () => {
    const world = new World(15);
    world.connect('a', 'b', FAST);
    const a = world.start('a', FAST);
    const b = world.start('b', FAST, {
      trust: { decide: () => Promise.reject(new Error('key server is down')) },
    });
    const outcome = a.socket.request(b.name, b.address, put('x'), { timeoutMs: MINUTE, priority: 1 });
    outcome.catch(() => undefined);
    await expect(world.time.until(outcome, 2 * MINUTE)).rejects.toMatchObject({ reason: 'refused' });
    expect(b.handled).toEqual([]);
  });

  test('that takes its time holds requests back and loses none', async () => {
    const world = new World(16);
    world.connect('a', 'b', FAST);
    const a = world.start('a', FAST);
    const slow = {
      decide: () =>
        new Promise<{ trusted: true }>((resolve) =>
          world.time.clock.after(20_000, () => resolve({ trusted: true })),
        ),
    };
    const b = world.start('b', FAST, { trust: slow });
    const both = [put('one'), put('two')].map((request) =>
      a.socket.request(b.name, b.address, request, OPTIONS),
    );
    await world.time.until(Promise.all(both), 2 * MINUTE);
    expect(b.handled).toHaveLength(2);
    expect(world.time.clock.monotonic()).toBeGreaterThan(20_000);
  });
});

describe('plain CoAP', () => {
  const get = (id: number, ...path: string[]): Uint8Array =>
    encode({
      type: 'CON',
      code: 1,
      id,
      token: Uint8Array.of(7),
      options: [
        ...path.map((segment) => stringOption(OPTION.uriPath, segment)),
        uintOption(OPTION.accept, 50),
      ],
      payload: new Uint8Array(0),
    });

  async function ask(policy: PlainPolicy, from: string, ...datagrams: Uint8Array[]) {
    const world = new World(20);
    world.connect(from, 'b', FAST);
    const b = world.start('b', FAST, { plain: policy });
    const replies: Uint8Array[] = [];
    const link = world.network.join(from, FAST);
    link.onReceive((_, bytes) => replies.push(bytes));
    for (const datagram of datagrams) {
      link.send('b', datagram);
      await world.time.pass(1000);
    }
    const messages = replies.map((bytes) => {
      const message = decode(bytes);
      if (!message.ok) throw new Error(message.problem.reason);
      return { ...message.value, length: bytes.length };
    });
    return { b, messages };
  }

  test.each([
    ['trusted', '192.0.2.1:5683'],
    ['loopback', '127.0.0.1:40000'],
    ['loopback', '127.9.9.9:1'],
    ['loopback', '[::1]:40000'],
  ] as const)('is served under %s from %s', async (policy, from) => {
    const { b, messages } = await ask(policy, from, get(1, '_matrix', 'client', 'versions'));
    expect(b.handled).toEqual([
      {
        caller: { kind: 'plain', address: from },
        request: { method: 'GET', path: '/_matrix/client/versions', query: '' },
      },
    ]);
    expect(messages).toMatchObject([{ type: 'ACK', code: 69, id: 1 }]);
  });

  test.each([
    ['off', '127.0.0.1:40000'],
    ['loopback', '192.0.2.1:5683'],
    ['loopback', '127.0.0.1.evil:5683'],
    ['loopback', '[::2]:5683'],
    ['loopback', '[::ffff:10.0.0.1]:5683'],
  ] as const)('is refused under %s from %s', async (policy, from) => {
    const { b, messages } = await ask(policy, from, get(1, '_matrix', 'client', 'versions'));
    expect(b.handled).toEqual([]);
    expect(b.socket.counters.plainRefused).toBe(1);
    expect(messages).toMatchObject([
      { type: 'ACK', code: (4 << 5) | 3, id: 1, payload: utf8('plain CoAP is not served here') },
    ]);
  });

  test('that is refused is never amplified, nor answered without end', async () => {
    const short = get(1);
    const { messages } = await ask('off', '192.0.2.1:5683', short);
    expect(messages[0]!.length).toBeLessThanOrEqual(3 * short.length);
    const many = await ask('off', '192.0.2.1:5683', concat(short));
    expect(many.messages).toHaveLength(1);
    const world = new World(21);
    world.connect('x', 'b', FAST);
    const b = world.start('b', FAST);
    const link = world.network.join('x', FAST);
    for (let id = 0; id < 100; id++) link.send('b', get(id));
    await world.time.pass(100);
    expect(b.socket.counters.plainRefused).toBe(100 - (world.fates().overflow ?? 0));
    expect(b.socket.counters.datagramsOut).toBeLessThanOrEqual(4);
  });

  test('with a payload that is none gets 4.00 and a Matrix error', async () => {
    const bad = encode({
      type: 'CON',
      code: 3,
      id: 5,
      token: Uint8Array.of(1),
      options: [uintOption(OPTION.contentFormat, 60)],
      payload: Uint8Array.of(0xff),
    });
    const { b, messages } = await ask('trusted', '192.0.2.1:1', bad);
    expect(b.handled).toEqual([]);
    expect(b.socket.counters.malformedIn).toBe(1);
    expect(messages[0]!.code).toBe(4 << 5);
    expect(decodeJson(messages[0]!.payload)).toMatchObject({ ok: true, value: { errcode: 'M_NOT_JSON' } });
  });

  test('is run under proved for whoever repeats the Echo value only, and before that gets three times its bytes at most', async () => {
    const put = (id: number, echo?: Uint8Array): Uint8Array =>
      encode({
        type: 'CON',
        code: 3,
        id,
        token: Uint8Array.of(id),
        options: [
          stringOption(OPTION.uriPath, 'x'),
          ...(echo === undefined ? [] : [{ number: OPTION.echo, value: echo }]),
        ],
        payload: new Uint8Array(0),
      });
    const world = new World(22);
    world.connect('192.0.2.1:1', 'b', FAST);
    const b = world.start('b', FAST, { plain: 'proved' });
    const link = world.network.join('192.0.2.1:1', FAST);
    const replies: Uint8Array[] = [];
    link.onReceive((_, bytes) => replies.push(bytes));
    link.send('b', put(1));
    await world.time.pass(1000);
    const challenge = decode(replies[0]!);
    if (!challenge.ok) throw new Error(challenge.problem.reason);
    expect(challenge.value).toMatchObject({ type: 'ACK', code: (4 << 5) | 1 });
    expect(replies[0]!.length).toBeLessThanOrEqual(3 * put(1).length);
    link.send('b', put(2, Uint8Array.of(1, 2, 3, 4, 5, 6)));
    await world.time.pass(1000);
    expect(b.handled).toEqual([]);
    const echo = challenge.value.options.find(({ number }) => number === OPTION.echo)!.value;
    link.send('b', put(3, echo));
    await world.time.pass(1000);
    expect(b.handled).toHaveLength(1);
    const here = await ask('proved', '127.0.0.1:40000', put(1));
    expect(here.b.handled).toHaveLength(1);
  });

  test('repeated is handled once', async () => {
    const { b, messages } = await ask('trusted', '192.0.2.1:1', get(9, 'a'), get(9, 'a'), get(9, 'a'));
    expect(b.handled).toHaveLength(1);
    expect(messages).toHaveLength(3);
  });

  test('beside noise of all kinds is still served', async () => {
    const noise = Array.from({ length: 256 }, (_, first) => Uint8Array.of(first, 1, 2, 3, 4, 5));
    const { b } = await ask(
      'trusted',
      '192.0.2.1:1',
      new Uint8Array(0),
      ...noise,
      encodeJson('hello'),
      get(77, 'a'),
    );
    expect(b.handled.at(-1)?.request.path).toBe('/a');
    expect(b.socket.counters.ignored).toBeGreaterThanOrEqual(64);
  });
});

test('a server behind a NAT writes to each server with which it has a session, as often as it is told to', async () => {
  const world = new World(21);
  world.connect('a', 'b', FAST);
  const a = world.start('a', FAST, { keepAliveMs: 25_000 });
  const b = world.start('b', FAST);
  await world.time.pass(10 * MINUTE);
  expect(world.seen).toEqual([]);
  await world.time.until(a.socket.request(b.name, b.address, put('x'), OPTIONS), MINUTE);
  await world.time.pass(1_000);
  const before = world.seen.length;
  await world.time.pass(10 * MINUTE);
  const records = world.seen.slice(before).filter(({ fate }) => fate === 'sent');
  expect(records).toHaveLength((10 * MINUTE) / 25_000);
  expect(new Set(records.map(({ from, label, wire }) => `${from} ${label} ${wire}`))).toEqual(
    new Set(['a keep-alive 62']),
  );
});

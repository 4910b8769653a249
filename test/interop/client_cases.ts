import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromUtf8, utf8 } from '../../src/base/bytes.ts';
import { sleep, systemClock } from '../../src/base/time.ts';
import { decode, type Message } from '../../src/coap/message.ts';
import { OPTION, uintOption } from '../../src/coap/options.ts';
import { rfc7252Timing } from '../../src/coap/timing.ts';
import type { ChangeOptions } from '../../src/exchange/observed_resource.ts';
import {
  inverted,
  LARGE_BYTES,
  large,
  type PeerAnswer,
  type PeerClient,
  type PeerMethod,
  type PeerRequest,
  RESERVED,
  until,
} from './peers.ts';
import { answer, TestServer } from './resources.ts';

const text = ({ payload }: PeerAnswer): string | undefined => fromUtf8(payload);

/** What one case works with. */
export interface ClientWorld {
  readonly client: PeerClient;
  readonly server: TestServer;
  /** Another one of ours, which wants small blocks. */
  readonly small: TestServer;
  /** Asks our server. */
  ask(request: PeerRequest): Promise<PeerAnswer>;
  /** Our server's messages since the case began. */
  sent(): Message[];
  /** The peer's. */
  received(): Message[];
}

/** A case in which a peer is known to behave differently, asserted so that a mended peer shows up. */
export interface Exception<World> {
  readonly why: string;
  /** What it does instead; where it is not given, the peer has no such feature. */
  readonly instead?: (world: World) => Promise<void>;
}

const METHODS: readonly PeerMethod[] = ['GET', 'PUT', 'POST', 'DELETE', 'FETCH', 'PATCH', 'iPATCH'];
const AS_TEXT = uintOption(OPTION.contentFormat, 0);

/** Each of several blocks. */
export const BODIES: readonly Uint8Array[] = [3000, 5000, 7000, 9000].map((length) =>
  large().subarray(length, 2 * length),
);

async function burst({ client, server }: ClientWorld, options: ChangeOptions): Promise<void> {
  server.observed.change(answer('2.05', '0'));
  const values: string[] = [];
  const end = await client.observe(server.address, '/obs', (value) => values.push(value));
  await until(() => values.length > 0, 'the first value is reported');
  for (const value of upTo(NOTIFICATIONS).slice(1)) {
    server.observed.change(answer('2.05', value), options);
    await sleep(systemClock, BURST_INTERVAL_MS);
  }
  await until(() => values.at(-1) === String(NOTIFICATIONS), 'the last value is reported');
  await end();
  expect(values).toSatisfy(increasing);
}

async function everyMethod({ ask }: ClientWorld, methods: readonly PeerMethod[]): Promise<void> {
  for (const method of methods) {
    const isPlain = method === 'GET' || method === 'DELETE';
    const request = isPlain ? {} : { payload: utf8('body'), options: [AS_TEXT] };
    const got = await ask({ method, target: '/test', ...request });
    const expected = {
      GET: ['2.05', 'test'],
      PUT: ['2.04', ''],
      DELETE: ['2.02', ''],
      POST: ['2.04', 'POST body'],
      FETCH: ['2.05', 'FETCH body'],
      PATCH: ['2.04', 'PATCH body'],
      iPATCH: ['2.04', 'iPATCH body'],
    }[method];
    expect([method, got.code, text(got)]).toEqual([method, ...expected]);
  }
}

const CASES = {
  ...Object.fromEntries(
    METHODS.map((method) => [method, (world: ClientWorld) => everyMethod(world, [method])]),
  ),
  'a value that it has put, until it deletes it': async ({ ask }: ClientWorld) => {
    await ask({ method: 'PUT', target: '/seg1/seg2/seg3', payload: utf8('kept'), options: [AS_TEXT] });
    expect(text(await ask({ method: 'GET', target: '/seg1/seg2/seg3' }))).toBe('kept');
    await ask({ method: 'DELETE', target: '/seg1/seg2/seg3' });
    expect(text(await ask({ method: 'GET', target: '/seg1/seg2/seg3' }))).toBe('test');
  },
  'a non-confirmable GET': async ({ ask, sent }: ClientWorld) => {
    expect(text(await ask({ method: 'GET', target: '/test', confirmable: false }))).toBe('test');
    expect(sent().map(({ type }) => type)).toEqual(['NON']);
  },
  'a GET of 100 KB': async ({ ask }: ClientWorld) => {
    const { code, payload } = await ask({ method: 'GET', target: '/large' });
    expect(code).toBe('2.05');
    expect(payload).toEqual(large());
  },
  'a GET of 100 KB in blocks of 256 bytes': async ({ ask, sent }: ClientWorld) => {
    expect((await ask({ method: 'GET', target: '/large', blockSize: 256 })).payload).toEqual(large());
    expect(sent().length).toBe(Math.ceil(LARGE_BYTES / 256));
  },
  'a PUT of 100 KB': async ({ ask }: ClientWorld) => {
    const put = await ask({ method: 'PUT', target: '/large-update', payload: large() });
    expect(put.code).toBe('2.04');
    expect((await ask({ method: 'GET', target: '/large-update' })).payload).toEqual(large());
  },
  'a POST of 100 KB with an answer of 100 KB': async ({ ask }: ClientWorld) => {
    const { code, payload } = await ask({ method: 'POST', target: '/large-post', payload: large() });
    expect(code).toBe('2.04');
    expect(payload).toEqual(inverted(large()));
  },
  'a FETCH of 100 KB with an answer of 100 KB': async ({ ask }: ClientWorld) => {
    const { code, payload } = await ask({ method: 'FETCH', target: '/large-post', payload: large() });
    expect(code).toBe('2.05');
    expect(payload).toEqual(inverted(large()));
  },
  'blocks as small as the server wants them, both ways': async ({ client, small }: ClientWorld) => {
    const payload = large().subarray(0, 5000);
    const got = await client.request(small.address, { method: 'POST', target: '/large-post', payload });
    expect(got.payload).toEqual(inverted(payload));
    expect(small.socket.counters.blocksIn).toBeGreaterThan(5000 / 1024 + 1);
    expect(small.socket.counters.blocksOut).toBe(Math.ceil(5000 / 64));
  },
  'four transfers at once to as many resources': async ({ ask }: ClientWorld) => {
    const answers = await Promise.all(
      BODIES.map((payload, i) => ask({ method: 'POST', target: `/large-post?${i}`, payload })),
    );
    expect(answers.map(({ payload }) => payload)).toEqual(BODIES.map(inverted));
  },
  'four transfers at once to one resource': async ({ ask }: ClientWorld) => {
    const answers = await Promise.all(
      BODIES.map((payload) => ask({ method: 'POST', target: '/large-post', payload })),
    );
    expect(answers.map(({ payload }) => payload)).toEqual(BODIES.map(inverted));
  },
  'a separate response': async ({ ask, sent }: ClientWorld) => {
    expect(text(await ask({ method: 'GET', target: '/separate' }))).toBe('separate');
    expect(sent().map(({ type, code }) => [type, code === 0])).toEqual([
      ['ACK', true],
      ['CON', false],
    ]);
  },
  'a path and a query full of reserved characters': async ({ ask }: ClientWorld) => {
    const got = await ask({ method: 'GET', target: RESERVED.target });
    expect(JSON.parse(text(got)!)).toEqual({ path: RESERVED.path, query: RESERVED.query });
  },
  'a path segment and an argument of 255 bytes': async ({ ask }: ClientWorld) => {
    const [path, query] = ['p'.repeat(255), `q=${'v'.repeat(253)}`];
    const got = await ask({ method: 'GET', target: `/echo/${path}?${query}` });
    expect(JSON.parse(text(got)!)).toEqual({ path: ['echo', path], query: [query] });
  },
  '2.03 for the ETag that it knows': async ({ ask }: ClientWorld) => {
    const first = await ask({ method: 'GET', target: '/validate' });
    expect(first).toMatchObject({ code: '2.05', eTag: '0102' });
    const options = [{ number: OPTION.eTag, value: Uint8Array.of(1, 2) }];
    expect(await ask({ method: 'GET', target: '/validate', options })).toMatchObject({
      code: '2.03',
      eTag: '0102',
    });
  },
  '4.12 for an If-Match that does not hold, and for If-None-Match': async ({ ask }: ClientWorld) => {
    const match = (value: Uint8Array) => [{ number: OPTION.ifMatch, value }];
    const put = { method: 'PUT', payload: utf8('x') } as const;
    expect((await ask({ ...put, target: '/validate', options: match(Uint8Array.of(9)) })).code).toBe('4.12');
    expect((await ask({ ...put, target: '/validate', options: match(Uint8Array.of(1, 2)) })).code).toBe(
      '2.04',
    );
    const none = [{ number: OPTION.ifNoneMatch, value: new Uint8Array(0) }];
    expect((await ask({ ...put, target: '/create', options: none })).code).toBe('2.01');
    expect((await ask({ ...put, target: '/create', options: none })).code).toBe('4.12');
  },
  'where the resource is that it has created': async ({ ask }: ClientWorld) => {
    const got = await ask({ method: 'POST', target: '/location', payload: utf8('x') });
    expect(got).toMatchObject({ code: '2.01', location: '/location/1?a=b' });
  },
  '4.04, 4.05, 4.06 and 4.15': async ({ ask }: ClientWorld) => {
    const accept = [uintOption(OPTION.accept, 60)];
    const format = [uintOption(OPTION.contentFormat, 60)];
    expect((await ask({ method: 'GET', target: '/nowhere' })).code).toBe('4.04');
    expect((await ask({ method: 'POST', target: '/large', payload: utf8('x') })).code).toBe('4.05');
    expect((await ask({ method: 'GET', target: '/test', options: accept })).code).toBe('4.06');
    expect((await ask({ method: 'PUT', target: '/test', payload: utf8('x'), options: format })).code).toBe(
      '4.15',
    );
  },
  '4.02 for a critical option that nobody knows': async ({ ask }: ClientWorld) => {
    const options = [{ number: 65_001, value: Uint8Array.of(1) }];
    expect((await ask({ method: 'GET', target: '/test', options })).code).toBe('4.02');
  },
  'no response to a non-confirmable request that wants none': async ({ ask, sent }: ClientWorld) => {
    const put = { method: 'PUT', target: '/large-update', payload: utf8('unanswered') } as const;
    const quiet = { options: [NO_RESPONSE], confirmable: false, timeoutMs: 1000 };
    await expect(ask({ ...put, ...quiet })).rejects.toThrow();
    expect(sent()).toEqual([]);
    expect(text(await ask({ method: 'GET', target: '/large-update' }))).toBe('unanswered');
  },
  'only an acknowledgement to a confirmable request that wants no response': async ({
    ask,
    sent,
  }: ClientWorld) => {
    const put = { method: 'PUT', target: '/large-update', payload: utf8('acknowledged') } as const;
    await expect(ask({ ...put, options: [NO_RESPONSE], timeoutMs: 1000 })).rejects.toThrow();
    expect(sent().map(({ type, code }) => [type, code])).toEqual([['ACK', 0]]);
  },
  'fifty notifications, each before the next change': async ({ client, server }: ClientWorld) => {
    server.observed.change(answer('2.05', '0'));
    const values: string[] = [];
    const end = await client.observe(server.address, '/obs', (value) => values.push(value));
    for (const value of upTo(NOTIFICATIONS)) {
      if (value !== '0') server.observed.change(answer('2.05', value), { confirmable: true });
      await until(() => values.length > Number(value), `value ${value} is reported`);
    }
    await end();
    expect(values).toEqual(upTo(NOTIFICATIONS));
  },
  'the last of fifty changes in a burst, and none older after a newer': (world: ClientWorld) =>
    burst(world, { confirmable: true }),
  'the last of fifty changes in a burst, notified without confirmation': (world: ClientWorld) =>
    burst(world, {}),
  'notifications of 100 KB': async ({ client, server }: ClientWorld) => {
    server.largeObserved.change(answer('2.05', '0'.repeat(LARGE_BYTES)));
    const values: string[] = [];
    const end = await client.observe(server.address, '/obs-large', (value) => values.push(value));
    for (const digit of ['0', '1', '2', '3']) {
      const state = answer('2.05', digit.repeat(LARGE_BYTES));
      if (digit !== '0') server.largeObserved.change(state, { confirmable: true });
      await until(() => values.length > Number(digit), `the state of ${digit}s is reported`);
    }
    await end();
    expect(values).toEqual(['0', '1', '2', '3'].map((digit) => digit.repeat(LARGE_BYTES)));
  },
  'nothing more after it has stopped to observe': async ({ client, server }: ClientWorld) => {
    const values: string[] = [];
    const end = await client.observe(server.address, '/stopped', (value) => values.push(value));
    await until(() => values.length > 0, 'the first value is reported');
    expect(server.stopped.observers).toBe(1);
    await end();
    // Some say so, others reject what comes next.
    await until(() => {
      server.stopped.change(answer('2.05', 'after'), { confirmable: true });
      return server.stopped.observers === 0;
    }, 'it is no observer any more');
    expect(values).toEqual(['before']);
  },
  'an elective option that nobody knows is ignored': async ({ ask }: ClientWorld) => {
    const options = [{ number: 65_000, value: Uint8Array.of(1) }];
    expect(text(await ask({ method: 'GET', target: '/test', options }))).toBe('test');
  },
};

/** RFC 7967, section 2.1: no response of class 2, 4 or 5. */
export const NO_RESPONSE = uintOption(OPTION.noResponse, 26);

const NOTIFICATIONS = 50;
/** Between the changes of a burst. */
const BURST_INTERVAL_MS = 3;

/** The whole numbers from 0 to `last` as text. */
export const upTo = (last: number): string[] => Array.from({ length: last + 1 }, (_, i) => String(i));

export const increasing = (values: readonly string[]): boolean =>
  values.every((value, i) => i === 0 || Number(value) > Number(values[i - 1]));

/** The message in a datagram. */
export function wellFormed(bytes: Uint8Array): Message {
  const message = decode(bytes);
  if (!message.ok) throw new Error(`malformed: ${message.problem.reason}`);
  return message.value;
}

/**
 * Everything that a CoAP client asks of a server, asked by a client of another make of ours.
 * @param exceptions by the case's name.
 */
export function describeClient(
  name: string,
  start: () => Promise<PeerClient> | PeerClient,
  exceptions: Readonly<Partial<Record<string, Exception<ClientWorld>>>> = {},
): void {
  describe(name, () => {
    let client: PeerClient;
    let server: TestServer;
    let small: TestServer;

    beforeAll(async () => {
      server = await TestServer.open();
      small = await TestServer.open({ timing: rfc7252Timing({ blockSize: 64 }) });
      client = await start();
    });
    afterAll(async () => {
      await client?.stop();
      await server?.close();
      await small?.close();
    });

    const world = (): ClientWorld => {
      const first = server.seen.length;
      const messages = (wanted: 'sent' | 'received') =>
        server.seen
          .slice(first)
          .filter(({ direction }) => direction === wanted)
          .map(({ bytes }) => wellFormed(bytes));
      return {
        client,
        server,
        small,
        ask: (request) => client.request(server.address, request),
        sent: () => messages('sent'),
        received: () => messages('received'),
      };
    };

    for (const [gets, run] of Object.entries(CASES)) {
      const exception = exceptions[gets];
      if (exception === undefined) it(`gets: ${gets}`, () => run(world()));
      else if (exception.instead !== undefined) {
        const { instead, why } = exception;
        it(`does not get: ${gets} (${why})`, () => instead(world()));
      } else it.skip(`gets: ${gets} (not tried: ${exception.why})`, () => undefined);
    }
  });
}

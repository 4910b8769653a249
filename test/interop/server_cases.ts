import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromUtf8, utf8 } from '../../src/base/bytes.ts';
import { systemRandom } from '../../src/base/random.ts';
import { sleep, systemClock } from '../../src/base/time.ts';
import { codeLabel, METHOD } from '../../src/coap/codes.ts';
import type { Message } from '../../src/coap/message.ts';
import { firstOption, OPTION, type Option, stringOf, uintOption } from '../../src/coap/options.ts';
import type { Timing } from '../../src/coap/timing.ts';
import { CoapSocket } from '../../src/exchange/coap_socket.ts';
import type { ExchangeObservation } from '../../src/exchange/socket_options.ts';
import { openUdpLink } from '../../src/link/udp.ts';
import { BODIES, type Exception, increasing, NO_RESPONSE, upTo, wellFormed } from './client_cases.ts';
import { inverted, LARGE_BYTES, large, type PeerServer, RESERVED, targetOptions, until } from './peers.ts';

/** What our client is asked to do. */
interface Asked {
  readonly method: keyof typeof METHOD;
  readonly path: readonly string[];
  readonly query?: readonly string[];
  readonly payload?: Uint8Array | string;
  readonly options?: readonly Option[];
  readonly confirmable?: boolean;
  readonly timeoutMs?: number;
}

/** What came of it. */
interface Got {
  readonly code: string;
  readonly text: string | undefined;
  readonly payload: Uint8Array;
  readonly options: readonly Option[];
}

/** What one case works with. */
export interface ServerWorld {
  readonly peer: PeerServer;
  readonly socket: CoapSocket;
  ask(asked: Asked): Promise<Got>;
  /** What has arrived since the case began: `ACK 2.05`, `ACK` where it is empty. */
  arrived(): string[];
}

const TIMEOUT_MS = 30_000;

/** Our client, with a record of every datagram. */
export async function openClient(
  timing?: Timing,
): Promise<{ socket: CoapSocket; seen: ExchangeObservation[] }> {
  const seen: ExchangeObservation[] = [];
  const socket = new CoapSocket({
    link: await openUdpLink({ host: '127.0.0.1', port: 0 }),
    clock: systemClock,
    random: systemRandom,
    observer: (one) => {
      seen.push(one);
    },
    ...(timing === undefined ? {} : { timing }),
  });
  return { socket, seen };
}

/** What has arrived, without belated replies to what was sent before. */
function replies(seen: readonly ExchangeObservation[]): Message[] {
  const asked = new Set<number>();
  const arrived: Message[] = [];
  for (const { direction, bytes } of seen) {
    const message = wellFormed(bytes);
    if (direction === 'sent') asked.add(message.id);
    else if (message.type === 'CON' || message.type === 'NON' || asked.has(message.id)) arrived.push(message);
  }
  return arrived;
}

const labels = (messages: readonly Message[]): string[] =>
  messages.map(({ type, code }) => (code === 0 ? type : `${type} ${codeLabel(code)}`));

/** One request of `socket`, with the text of what it was answered. */
export async function ask(socket: CoapSocket, peer: PeerServer, asked: Asked): Promise<Got> {
  const {
    method,
    path,
    query,
    payload = '',
    options = [],
    confirmable = true,
    timeoutMs = TIMEOUT_MS,
  } = asked;
  const request = {
    code: METHOD[method],
    options: [...targetOptions(path, query), ...options],
    payload: typeof payload === 'string' ? utf8(payload) : payload,
  };
  const response = await socket.request(peer.address, request, { timeoutMs, confirmable });
  return { ...response, code: codeLabel(response.code), text: fromUtf8(response.payload) };
}

const AS_TEXT = uintOption(OPTION.contentFormat, 0);

const NOTIFICATIONS = 50;
/** In which a peer on the same machine would have sent what it has to say. */
const QUIET_MS = 300;

/** Has a peer's observed resource changed; a large one repeats its text. */
async function change({ ask }: ServerWorld, path: readonly string[], value: string): Promise<void> {
  expect((await ask({ method: 'put', path, payload: value })).code).toBe('2.04');
}

/** Observes a resource that starts with `first`, and collects its states; `end` answers how the observation has ended. */
async function observe(
  world: ServerWorld,
  path: readonly string[],
  first: string,
): Promise<{ values: (string | undefined)[]; end: () => Promise<string> }> {
  await change(world, path, first);
  const values: (string | undefined)[] = [];
  const stop = new AbortController();
  const ended = Promise.withResolvers<string>();
  const request = { code: METHOD.get, options: targetOptions(path), payload: new Uint8Array(0) };
  const response = await world.socket.observe(world.peer.address, request, {
    timeoutMs: TIMEOUT_MS,
    signal: stop.signal,
    onNotification: ({ payload }) => values.push(fromUtf8(payload)),
    onEnd: (reason) => ended.resolve(reason),
  });
  expect(response.observing).toBe(true);
  values.unshift(fromUtf8(response.payload));
  return {
    values,
    end: () => {
      stop.abort();
      return ended.promise;
    },
  };
}

/** @param put what has to be put so that the representation is so many of a digit. */
export async function largeNotifications(world: ServerWorld, put: (digit: string) => string): Promise<void> {
  const { values, end } = await observe(world, ['obs-large'], put('0'));
  for (const digit of ['1', '2', '3']) {
    await change(world, ['obs-large'], put(digit));
    await until(() => values.length > Number(digit), `the state of ${digit}s has arrived`);
  }
  await end();
  expect(values).toEqual(['0', '1', '2', '3'].map((digit) => digit.repeat(LARGE_BYTES)));
}

/** Has a resource changed, so often, that is not observed any more. Returns what arrives then. */
export async function afterTheEnd(world: ServerWorld, times = 1): Promise<string[]> {
  const { values, end } = await observe(world, ['obs'], '0');
  expect(await end()).toBe('cancelled');
  await sleep(systemClock, QUIET_MS);
  const { length } = world.arrived();
  for (let n = 1; n <= times; n++) {
    await change(world, ['obs'], String(n));
    await sleep(systemClock, QUIET_MS);
  }
  expect(values).toEqual(['0']);
  return world.arrived().slice(length);
}

const CASES = {
  GET: async ({ ask }: ServerWorld) => {
    expect(await ask({ method: 'get', path: ['test'] })).toMatchObject({ code: '2.05', text: 'test' });
  },
  'PUT, and a GET of what it has put': async ({ ask }: ServerWorld) => {
    const path = ['seg1', 'seg2', 'seg3'];
    const put = await ask({ method: 'put', path, payload: 'kept', options: [AS_TEXT] });
    expect(['2.01', '2.04']).toContain(put.code);
    expect((await ask({ method: 'get', path })).text).toBe('kept');
  },
  DELETE: async ({ ask }: ServerWorld) => {
    const path = ['seg1', 'seg2', 'seg3'];
    await ask({ method: 'put', path, payload: 'doomed', options: [AS_TEXT] });
    expect((await ask({ method: 'delete', path })).code).toBe('2.02');
    expect((await ask({ method: 'get', path })).text).not.toBe('doomed');
  },
  POST: async ({ ask }: ServerWorld) => {
    expect(await ask({ method: 'post', path: ['test'], payload: 'body' })).toMatchObject({
      code: '2.04',
      text: 'POST body',
    });
  },
  FETCH: async ({ ask }: ServerWorld) => {
    const asked = { method: 'fetch', path: ['test'], payload: 'body', options: [AS_TEXT] } as const;
    expect(await ask(asked)).toMatchObject({ code: '2.05', text: 'FETCH body' });
  },
  'PATCH and iPATCH': async ({ ask }: ServerWorld) => {
    const asked = { path: ['test'], payload: 'body', options: [AS_TEXT] } as const;
    expect(await ask({ ...asked, method: 'patch' })).toMatchObject({ code: '2.04', text: 'PATCH body' });
    expect(await ask({ ...asked, method: 'ipatch' })).toMatchObject({ code: '2.04', text: 'iPATCH body' });
  },
  'a non-confirmable GET': async ({ ask, arrived }: ServerWorld) => {
    expect((await ask({ method: 'get', path: ['test'], confirmable: false })).text).toBe('test');
    expect(arrived()).toEqual(['NON 2.05']);
  },
  'a GET of 100 KB': async ({ ask }: ServerWorld) => {
    const { code, payload } = await ask({ method: 'get', path: ['large'] });
    expect(code).toBe('2.05');
    expect(payload).toEqual(large());
  },
  'a PUT of 100 KB': async ({ ask }: ServerWorld) => {
    const path = ['large-update'];
    expect(['2.01', '2.04']).toContain((await ask({ method: 'put', path, payload: large() })).code);
    expect((await ask({ method: 'get', path })).payload).toEqual(large());
  },
  'a POST of 100 KB with an answer of 100 KB': async ({ ask }: ServerWorld) => {
    const { code, payload } = await ask({ method: 'post', path: ['large-post'], payload: large() });
    expect(code).toBe('2.04');
    expect(payload).toEqual(inverted(large()));
  },
  'a FETCH of 100 KB with an answer of 100 KB': async ({ ask }: ServerWorld) => {
    const asked = { method: 'fetch', path: ['large-post'], payload: large(), options: [AS_TEXT] } as const;
    const { code, payload } = await ask(asked);
    expect(code).toBe('2.05');
    expect(payload).toEqual(inverted(large()));
  },
  'four transfers at once to one resource': async ({ ask }: ServerWorld) => {
    const answers = await Promise.all(
      BODIES.map((payload) => ask({ method: 'post', path: ['large-post'], payload })),
    );
    expect(answers.map(({ payload }) => payload)).toEqual(BODIES.map(inverted));
  },
  'a separate response': async ({ ask, arrived }: ServerWorld) => {
    expect((await ask({ method: 'get', path: ['separate'] })).text).toBe('separate');
    expect(arrived()).toEqual(['ACK', 'CON 2.05']);
  },
  'a path and a query full of reserved characters': async ({ ask }: ServerWorld) => {
    const { path, query } = RESERVED;
    const { text } = await ask({ method: 'get', path, query });
    expect(JSON.parse(text!)).toEqual({ path, query });
  },
  'a path segment and an argument of 255 bytes': async ({ ask }: ServerWorld) => {
    const [path, query] = [['echo', 'p'.repeat(255)], [`q=${'v'.repeat(253)}`]];
    const { text } = await ask({ method: 'get', path, query });
    expect(JSON.parse(text!)).toEqual({ path, query });
  },
  '2.03 for the ETag that we know': async ({ ask }: ServerWorld) => {
    const first = await ask({ method: 'get', path: ['validate'] });
    const eTag = firstOption(first.options, OPTION.eTag)!;
    expect(eTag.value).toEqual(Uint8Array.of(1, 2));
    const again = await ask({ method: 'get', path: ['validate'], options: [eTag] });
    expect(again).toMatchObject({ code: '2.03', payload: new Uint8Array(0) });
  },
  'where the resource is that it has created': async ({ ask }: ServerWorld) => {
    const { code, options } = await ask({ method: 'post', path: ['location'], payload: 'x' });
    const texts = (number: number) => options.filter((one) => one.number === number).map(stringOf);
    expect([code, texts(OPTION.locationPath), texts(OPTION.locationQuery)]).toEqual([
      '2.01',
      ['location', '1'],
      ['a=b'],
    ]);
  },
  '4.04, 4.05 and 4.06': async ({ ask }: ServerWorld) => {
    expect((await ask({ method: 'get', path: ['nowhere'] })).code).toBe('4.04');
    expect((await ask({ method: 'post', path: ['large'], payload: 'x' })).code).toBe('4.05');
    const options = [uintOption(OPTION.accept, 60)];
    expect((await ask({ method: 'get', path: ['test'], options })).code).toBe('4.06');
  },
  '4.02 for a critical option that nobody knows': async ({ ask }: ServerWorld) => {
    const options = [{ number: 65_001, value: Uint8Array.of(1) }];
    expect((await ask({ method: 'get', path: ['test'], options })).code).toBe('4.02');
  },
  'no response to a non-confirmable request that wants none': async ({ ask, arrived }: ServerWorld) => {
    const path = ['large-update'];
    const put = {
      method: 'put',
      path,
      payload: 'unanswered',
      confirmable: false,
      options: [NO_RESPONSE],
    } as const;
    expect((await ask(put)).code).toBe('0.00');
    await sleep(systemClock, QUIET_MS);
    expect((await ask({ method: 'get', path })).text).toBe('unanswered');
    expect(arrived()).toEqual(['ACK 2.05']);
  },
  'only an acknowledgement to a confirmable request that wants no response': async ({
    ask,
    arrived,
  }: ServerWorld) => {
    const path = ['large-update'];
    const put = { method: 'put', path, payload: 'acknowledged', options: [NO_RESPONSE] } as const;
    expect((await ask(put)).code).toBe('0.00');
    expect((await ask({ method: 'get', path })).text).toBe('acknowledged');
    expect(arrived()).toEqual(['ACK', 'ACK 2.05']);
  },
  'who has given back its Echo': async ({ ask, arrived }: ServerWorld) => {
    expect((await ask({ method: 'get', path: ['proved'] })).text).toBe('proved');
    expect(arrived()).toEqual(['ACK 4.01', 'ACK 2.05']);
  },
  'a ping': async ({ socket, peer, arrived }: ServerWorld) => {
    await socket.ping(peer.address, { timeoutMs: TIMEOUT_MS });
    expect(arrived()).toEqual(['RST']);
  },
  'fifty notifications, each before the next change': async (world: ServerWorld) => {
    const { values, end } = await observe(world, ['obs'], '0');
    for (const value of upTo(NOTIFICATIONS).slice(1)) {
      await change(world, ['obs'], value);
      await until(() => values.length > Number(value), `value ${value} has arrived`);
    }
    expect(await end()).toBe('cancelled');
    expect(values).toEqual(upTo(NOTIFICATIONS));
  },
  'the last of fifty changes in a burst, and none older after a newer': async (world: ServerWorld) => {
    const { values, end } = await observe(world, ['obs'], '0');
    for (const value of upTo(NOTIFICATIONS).slice(1)) await change(world, ['obs'], value);
    await until(() => values.at(-1) === String(NOTIFICATIONS), 'the last value has arrived');
    expect(await end()).toBe('cancelled');
    expect(values).toSatisfy(increasing);
  },
  'notifications of 100 KB': (world: ServerWorld) => largeNotifications(world, (digit) => digit),
  'nothing more after we have stopped to observe': async (world: ServerWorld) => {
    expect(await afterTheEnd(world)).toEqual(['ACK 2.04']);
  },
  'an elective option that nobody knows is ignored': async ({ ask }: ServerWorld) => {
    const options = [{ number: 65_000, value: Uint8Array.of(1) }];
    expect((await ask({ method: 'get', path: ['test'], options })).text).toBe('test');
  },
};

/**
 * Everything that a CoAP client asks of a server, asked by our client of a server of another make.
 * @param exceptions by the case's name.
 */
export function describeServer(
  name: string,
  start: () => Promise<PeerServer>,
  exceptions: Readonly<Partial<Record<string, Exception<ServerWorld>>>> = {},
): void {
  describe(name, () => {
    let peer: PeerServer;
    let socket: CoapSocket;
    let seen: ExchangeObservation[];

    beforeAll(async () => {
      ({ socket, seen } = await openClient());
      peer = await start();
    });
    afterAll(async () => {
      await peer?.stop();
      await socket?.close();
    });

    const world = (): ServerWorld => {
      const first = seen.length;
      return {
        peer,
        socket,
        ask: (asked) => ask(socket, peer, asked),
        arrived: () => labels(replies(seen.slice(first))),
      };
    };

    for (const [answers, run] of Object.entries(CASES)) {
      const exception = exceptions[answers];
      if (exception === undefined) it(`answers: ${answers}`, () => run(world()));
      else if (exception.instead !== undefined) {
        const { instead, why } = exception;
        it(`does not answer: ${answers} (${why})`, () => instead(world()));
      } else it.skip(`answers: ${answers} (not tried: ${exception.why})`, () => undefined);
    }
  });
}

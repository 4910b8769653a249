import { describe, expect, it } from 'vitest';
import { fromUtf8, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { sleep } from '../../src/base/time.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import type { CoapRequest, CoapResponse } from '../../src/coap/api.ts';
import { METHOD } from '../../src/coap/codes.ts';
import { OPTION, stringOption, uintOption } from '../../src/coap/options.ts';
import { type CoapHandler, CoapSocket, type CoapSocketOptions } from '../../src/exchange/coap_socket.ts';
import type { ExchangeError } from '../../src/exchange/exchange_error.ts';
import { ObservedResource } from '../../src/exchange/observed_resource.ts';
import type { LinkProfile } from '../../src/link/link.ts';
import { type Conditions, SimulatedNetwork } from '../../src/link/simulated.ts';
import { FAST, MINUTE, SLOW } from './world.ts';

const get = (path = 'a', ...options: CoapRequest['options']): CoapRequest => ({
  code: METHOD.get,
  options: [stringOption(OPTION.uriPath, path), ...options],
  payload: new Uint8Array(0),
});

const content = (text: string): CoapResponse => ({ code: 0x45, options: [], payload: utf8(text) });
const GONE: CoapResponse = { code: 0x84, options: [], payload: new Uint8Array(0) };
const textOf = ({ payload }: CoapResponse): string => fromUtf8(payload)!;

/** A client `a` and a server `b` on one emulated link. */
function pair({
  profile = FAST,
  conditions = {},
  options = {},
}: {
  readonly profile?: LinkProfile;
  readonly conditions?: Partial<Conditions>;
  readonly options?: Partial<CoapSocketOptions>;
} = {}) {
  const time = new VirtualTime();
  const { clock } = time;
  const network = new SimulatedNetwork({ clock, random: seededRandom(7) });
  network.connect('a', 'b', { rate: profile.rate, latency: profile.delay, ...conditions });
  const socket = (name: string, seed: number): CoapSocket =>
    new CoapSocket({ link: network.join(name, profile), clock, random: seededRandom(seed), ...options });
  const [client, server] = [socket('a', 1), socket('b', 2)];
  const ask = (request: CoapRequest, timeoutMs = MINUTE): Promise<CoapResponse> =>
    time.until(client.request('b', request, { timeoutMs }), 2 * timeoutMs);
  return { time, network, client, server, ask };
}

/** An observer of `b` that notes what it is told. */
function observer(client: CoapSocket, timeoutMs = MINUTE) {
  const stop = new AbortController();
  const seen: string[] = [];
  const ends: string[] = [];
  const first = client.observe('b', get(), {
    timeoutMs,
    onNotification: (response) => seen.push(textOf(response)),
    onEnd: (reason) => ends.push(reason),
    signal: stop.signal,
  });
  return { seen, ends, first, stop };
}

const reasonOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'answered',
    (error: ExchangeError) => error.reason,
  );

describe('a CoAP socket', () => {
  it('sends a request to the handler of another, and its response back', async () => {
    const { server, ask } = pair();
    const peers: string[] = [];
    server.onRequest(async (request, { peer }) => {
      peers.push(peer);
      return { code: 0x44, options: [], payload: request.payload };
    });
    const large = new Uint8Array(100_000).map((_, i) => i % 251);
    const request = { code: METHOD.put, options: [stringOption(OPTION.uriPath, 'x')], payload: large };
    const response = await ask(request);
    expect(response).toMatchObject({ code: 0x44, payload: large });
    expect(peers).toEqual(['a']);
    expect(server.counters).toMatchObject({ requestsIn: 1 });
  });

  it('answers 4.04 without a handler, and 5.00 where the handler fails', async () => {
    const errors: unknown[] = [];
    const log = {
      debug: () => undefined,
      warn: () => undefined,
      error: (fields: object) => errors.push(fields),
    };
    const { server, ask } = pair({ options: { log } });
    expect((await ask(get())).code).toBe(0x84);
    server.onRequest(() => Promise.reject(new Error('a secret')));
    const failed = await ask(get());
    expect(failed.code).toBe(0xa0);
    expect(textOf(failed)).not.toContain('secret');
    expect(errors).toHaveLength(1);
  });

  it('answers separately what takes long, on a slow link with timers that fit it', async () => {
    const { server, ask, time } = pair({ profile: SLOW });
    server.onRequest(async () => {
      await sleep(time.clock, 30_000);
      return content('late');
    });
    expect(textOf(await ask(get(), 10 * MINUTE))).toBe('late');
    expect(server.counters).toMatchObject({ separateResponses: 1, duplicates: 0, resent: 0 });
  });

  it('sends a non-confirmable request once', async () => {
    const { time, client, network, server } = pair();
    network.change('a', 'b', { loss: 1 });
    const lost = client.request('b', get(), { timeoutMs: MINUTE, confirmable: false });
    expect(await time.until(reasonOf(lost), 2 * MINUTE)).toBe('timeout');
    expect(client.counters).toMatchObject({ datagramsOut: 1 });
    network.change('a', 'b', { loss: 0 });
    server.onRequest(async () => content('here'));
    const found = client.request('b', get(), { timeoutMs: MINUTE, confirmable: false });
    expect(textOf(await time.until(found, MINUTE))).toBe('here');
  });

  it('pings, and tells whether anybody is there', async () => {
    const { time, client, server } = pair();
    await time.until(client.ping('b', { timeoutMs: MINUTE }), MINUTE);
    expect(server.counters).toMatchObject({ resetsOut: 1, requestsIn: 0 });
    await server.close();
    expect(await time.until(reasonOf(client.ping('b', { timeoutMs: MINUTE })), 2 * MINUTE)).toBe('timeout');
  });

  it('resolves to an empty response where No-Response keeps the real one away', async () => {
    const { server, ask } = pair();
    server.onRequest(async () => content('unwanted'));
    const response = await ask(get('a', uintOption(OPTION.noResponse, 26)));
    expect(response).toMatchObject({ code: 0, payload: new Uint8Array(0) });
  });

  it('rejects what times out, is given up, or is open when it closes', async () => {
    const { client, server, time } = pair();
    const signals: AbortSignal[] = [];
    server.onRequest((_, { signal }) => {
      signals.push(signal);
      return new Promise((resolve) => signal.addEventListener('abort', () => resolve(GONE)));
    });
    const giveUp = new AbortController();
    const outcomes = [
      reasonOf(client.request('b', get('1'), { timeoutMs: 5_000 })),
      reasonOf(client.request('b', get('2'), { timeoutMs: MINUTE, signal: giveUp.signal })),
      reasonOf(client.request('b', get('3'), { timeoutMs: MINUTE })),
    ];
    await time.pass(10_000);
    giveUp.abort();
    await time.settle();
    await client.close();
    expect(await Promise.all(outcomes)).toEqual(['timeout', 'cancelled', 'closed']);
    expect(await reasonOf(client.request('b', get(), { timeoutMs: 1 }))).toBe('closed');
    expect(await reasonOf(client.request('b', get(), { timeoutMs: 1, signal: giveUp.signal }))).toBe(
      'cancelled',
    );
    await server.close();
    expect(signals.length).toBeGreaterThan(0);
    expect(signals.every(({ aborted }) => aborted)).toBe(true);
  });

  it('goes on after datagrams that are nothing', async () => {
    const { server, network, ask } = pair();
    server.onRequest(async () => content('here'));
    const stranger = network.join('c', FAST);
    network.connect('c', 'b', {});
    for (const bytes of [[], [0xff], [0x40], [0x4f, 1, 0, 1], [0x40, 1, 0, 1, 0xff]])
      stranger.send('b', Uint8Array.from(bytes));
    expect(textOf(await ask(get()))).toBe('here');
    expect(server.counters.malformed).toBeGreaterThan(0);
  });
});

describe('an observed resource', () => {
  const observable =
    (resource: ObservedResource, signals: AbortSignal[] = []): CoapHandler =>
    async (_, { observe, signal }) => {
      if (observe) signals.push(signal);
      return resource;
    };

  it('tells its observers of each of 50 changes, in order', async () => {
    const { time, client, server } = pair();
    const resource = new ObservedResource(content('0'));
    server.onRequest(observable(resource));
    const { seen, first, stop, ends } = observer(client);
    expect(await time.until(first, MINUTE)).toMatchObject({ observing: true, payload: utf8('0') });
    for (let i = 1; i <= 50; i++) {
      resource.change(content(String(i)));
      await time.pass(10_000);
    }
    expect(seen).toEqual(Array.from({ length: 50 }, (_, i) => String(i + 1)));
    stop.abort();
    await time.pass(10_000);
    expect(ends).toEqual(['cancelled']);
    expect(resource.observers).toBe(0);
  });

  it('tells of the newest where it changes faster than the link', async () => {
    const { time, client, server } = pair({ profile: SLOW, conditions: { loss: 0.2 } });
    const state = (i: number): CoapResponse => ({
      ...content(String(i)),
      options: [uintOption(OPTION.maxAge, 86_400)],
    });
    const resource = new ObservedResource(state(0));
    server.onRequest(observable(resource));
    const { seen, first } = observer(client, 10 * MINUTE);
    await time.until(first, 10 * MINUTE);
    for (let i = 1; i <= 50; i++) {
      resource.change(state(i));
      await time.pass(1_000);
    }
    await time.pass(60 * MINUTE);
    expect(seen.at(-1)).toBe('50');
    expect(seen.map(Number)).toEqual(seen.map(Number).toSorted((a, b) => a - b));
    expect(seen.length).toBeLessThan(25);
  });

  it('answers who does not want to observe', async () => {
    const { server, ask } = pair();
    const resource = new ObservedResource(content('now'));
    server.onRequest(observable(resource));
    expect(textOf(await ask(get()))).toBe('now');
    expect(resource.observers).toBe(0);
  });

  it('misses no change that comes while the handler is thinking', async () => {
    const { time, client, server } = pair();
    const resource = new ObservedResource(content('old'));
    server.onRequest(async () => {
      await sleep(time.clock, 500);
      return resource;
    });
    const { first, seen } = observer(client);
    await time.pass(300);
    resource.change(content('new'));
    expect(textOf(await time.until(first, MINUTE))).toBe('new');
    resource.change(content('newer'));
    await time.pass(10_000);
    expect(seen).toEqual(['newer']);
  });

  it('ends its observations when it is gone', async () => {
    const { time, client, server } = pair();
    const resource = new ObservedResource(content('here'));
    const signals: AbortSignal[] = [];
    server.onRequest(observable(resource, signals));
    const { first, ends } = observer(client);
    await time.until(first, MINUTE);
    resource.change(GONE);
    await time.pass(10_000);
    expect(ends).toEqual(['ended']);
    expect(resource.observers).toBe(0);
    expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    const again = observer(client);
    expect(await time.until(again.first, MINUTE)).toMatchObject({ code: GONE.code, observing: false });
    expect(again.ends).toEqual([]);
  });

  it('lets go of an observer that is no longer there', async () => {
    const { time, client, server } = pair();
    const resource = new ObservedResource(content('0'));
    const signals: AbortSignal[] = [];
    server.onRequest(observable(resource, signals));
    const { first, ends } = observer(client);
    await time.until(first, MINUTE);
    await client.close();
    expect(ends).toEqual(['closed']);
    resource.change(content('1'), { confirmable: true });
    await time.pass(5 * MINUTE);
    expect(resource.observers).toBe(0);
    expect(signals[0]!.aborted).toBe(true);
  });

  it('is let go of when the server closes', async () => {
    const { time, client, server } = pair();
    const resource = new ObservedResource(content('0'));
    const signals: AbortSignal[] = [];
    server.onRequest(observable(resource, signals));
    await time.until(observer(client).first, MINUTE);
    await server.close();
    expect(resource.observers).toBe(0);
    expect(signals[0]!.aborted).toBe(true);
  });

  it('that cannot be observed answers, and says so', async () => {
    const { time, client, server } = pair();
    server.onRequest(async () => content('just this'));
    const { first, ends } = observer(client);
    expect(await time.until(first, MINUTE)).toMatchObject({ observing: false, payload: utf8('just this') });
    expect(ends).toEqual([]);
  });
});

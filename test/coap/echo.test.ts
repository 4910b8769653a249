import { describe, expect, it } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import type { CoapConfig, CoapStep } from '../../src/coap/api.ts';
import type { CoapEndpoint } from '../../src/coap/endpoint.ts';
import type { Message } from '../../src/coap/message.ts';
import { firstOption, OPTION, type Option, uintOption } from '../../src/coap/options.ts';
import { rfc7252Timing } from '../../src/coap/timing.ts';
import {
  ask,
  bytesOf,
  CHANGED,
  CONTENT,
  content,
  endpointWith,
  eventsOf,
  leave,
  PATH,
  passing,
  requestIn,
  sent,
  summary,
  wanted,
} from './conformance/raw.ts';

const UNAUTHORIZED = 0x81;
const PUT = 3;

const echoOf = ({ options }: Message): Uint8Array | undefined => firstOption(options, OPTION.echo)?.value;
const echo = (value: Uint8Array): Option => ({ number: OPTION.echo, value });

/** A server to which nobody has proved anything, and how it is asked. */
function distrustful(config: Partial<CoapConfig> = { mustProve: () => true }) {
  const server = endpointWith(config);
  let id = 0;
  const asked = (code: number, options: readonly Option[] = [], payload = utf8('')): CoapStep =>
    server.receive('c', bytesOf('CON', code, ++id, { options: [PATH, ...options], payload }), id * 100);
  const answered = (step: CoapStep, length: number): CoapStep =>
    server.respond(requestIn(step).exchange, content(new Uint8Array(length)), id * 100);
  return { server, asked, answered };
}

describe('a server that wants a proof of the address', () => {
  it('answers up to three times of what it was sent, and a larger answer by a question of no more than that', () => {
    const { asked, answered } = distrustful();
    const bytes = bytesOf('CON', 1, 1, { options: [PATH] }).length;
    const small = answered(asked(1), 3 * bytes - 6);
    expect(summary(small)).toEqual(['ACK 2.05']);
    expect(small.datagrams[0]!.bytes.length).toBe(3 * bytes);
    const large = answered(asked(1), 3 * bytes - 5);
    expect(summary(large)).toEqual(['ACK 4.01']);
    expect(large.datagrams[0]!.bytes.length).toBeLessThanOrEqual(3 * bytes);
    const proved = answered(asked(1, [echo(echoOf(sent(large)[0]!)!)]), 500);
    expect(summary(proved)).toEqual(['ACK 2.05']);
    // From now on it is known to be there.
    expect(summary(answered(asked(1), 500))).toEqual(['ACK 2.05']);
  });

  it('asks the shortest request there is with no more than three times its bytes', () => {
    const server = endpointWith({ mustProve: () => true });
    const step = server.receive('c', bytesOf('CON', 1, 1, { token: new Uint8Array(0) }), 0);
    const answer = server.respond(requestIn(step).exchange, content(new Uint8Array(50)), 1);
    expect(summary(answer)).toEqual(['ACK 4.01']);
    expect(answer.datagrams[0]!.bytes.length).toBeLessThanOrEqual(12);
  });

  it('runs nothing that is not safe and registers nobody before that', () => {
    const { asked } = distrustful();
    for (const step of [asked(PUT), asked(1, [uintOption(OPTION.observe, 0)])]) {
      expect(summary(step)).toEqual(['ACK 4.01']);
      expect(eventsOf(step, 'request')).toEqual([]);
      const value = echoOf(sent(step)[0]!)!;
      expect(value.length).toBeGreaterThanOrEqual(6);
    }
    const value = echoOf(sent(asked(PUT))[0]!)!;
    expect(requestIn(asked(PUT, [echo(value)])).request.options.map(({ number }) => number)).toEqual([11]);
    expect(requestIn(asked(1, [uintOption(OPTION.observe, 0)])).observe).toBe(true);
  });

  it('sends no answer of its own, which would be repeated: it asks where the handler takes its time', () => {
    const { server, asked } = distrustful();
    const step = asked(1);
    const { exchange } = requestIn(step);
    const late = server.tick(step.deadline!);
    expect(summary(late)).toEqual(['ACK 4.01']);
    expect(server.respond(exchange, content(), 5_000).datagrams).toEqual([]);
    expect(passing(server, late, 300_000).sent).toEqual([]);
  });

  it('takes no value of another peer, none that is made up, and none after its time', () => {
    const { server, asked } = distrustful();
    const value = echoOf(sent(asked(PUT))[0]!)!;
    const put = (peer: string, id: number, with_: Uint8Array, at: number): string[] =>
      summary(server.receive(peer, bytesOf('CON', PUT, id, { options: [PATH, echo(with_)] }), at));
    expect(put('d', 1, value, 200)).toEqual(['ACK 4.01']);
    expect(
      put(
        'c',
        50,
        Uint8Array.from(value, (byte) => byte ^ 1),
        200,
      ),
    ).toEqual(['ACK 4.01']);
    expect(put('c', 51, value.subarray(1), 200)).toEqual(['ACK 4.01']);
    expect(put('c', 52, value, 200 + 247_000)).toEqual(['ACK 4.01']);
    const { server: other, asked: again } = distrustful();
    const fresh = echoOf(sent(again(PUT))[0]!)!;
    const step = other.receive('c', bytesOf('CON', PUT, 60, { options: [PATH, echo(fresh)] }), 246_000);
    expect(eventsOf(step, 'request')).toHaveLength(1);
  });

  it('gives a peer one value at a time, and takes the one before as well', () => {
    const { server, asked } = distrustful();
    const first = echoOf(sent(asked(PUT))[0]!)!;
    expect(echoOf(sent(asked(PUT))[0]!)).toEqual(first);
    const later = server.receive('c', bytesOf('CON', PUT, 40, { options: [PATH] }), 200_000);
    expect(echoOf(sent(later)[0]!)).not.toEqual(first);
    const step = server.receive('c', bytesOf('CON', PUT, 41, { options: [PATH, echo(first)] }), 200_001);
    expect(eventsOf(step, 'request')).toHaveLength(1);
  });

  it('wants a new proof after an hour', () => {
    const { server, asked } = distrustful();
    const value = echoOf(sent(asked(PUT))[0]!)!;
    expect(eventsOf(asked(PUT, [echo(value)]), 'request')).toHaveLength(1);
    const put = (id: number, at: number) =>
      eventsOf(server.receive('c', bytesOf('CON', PUT, id, { options: [PATH] }), at), 'request').length;
    expect([put(80, 3_600_000), put(81, 3_600_300)]).toEqual([1, 0]);
  });
});

describe('a server that wants a request to be fresh', () => {
  it('lets it run only with a value that it has given out', () => {
    const freshness = (_peer: string, { code }: { code: number }): boolean => code === PUT;
    const { asked } = distrustful({ freshness });
    expect(eventsOf(asked(1), 'request')).toHaveLength(1);
    const step = asked(PUT);
    expect(summary(step)).toEqual(['ACK 4.01']);
    const value = echoOf(sent(step)[0]!)!;
    expect(eventsOf(asked(PUT, [echo(value)]), 'request')).toHaveLength(1);
    // Having been there once says nothing about the next request.
    expect(summary(asked(PUT))).toEqual(['ACK 4.01']);
  });
});

describe('a client that is asked for an echo', () => {
  it('repeats the request with it, once, and hands on what comes then', () => {
    const client = endpointWith();
    const { handle, message } = ask(client, 0, {}, { code: PUT, options: [PATH], payload: utf8('hi') });
    const value = Uint8Array.of(1, 2, 3);
    const challenge = (to: Message, with_: Uint8Array): CoapStep =>
      client.receive(
        'server',
        bytesOf('ACK', UNAUTHORIZED, to.id, { token: to.token, options: [echo(with_)] }),
        10,
      );
    const again = challenge(message, value);
    expect(again.events).toEqual([]);
    const repeated = sent(again)[0]!;
    expect(repeated).toMatchObject({ type: 'CON', code: PUT, payload: utf8('hi') });
    expect(echoOf(repeated)).toEqual(value);
    expect(repeated.id).not.toBe(message.id);
    expect(repeated.token).not.toEqual(message.token);
    expect(challenge(repeated, Uint8Array.of(4)).events).toMatchObject([
      { kind: 'response', handle, response: { code: UNAUTHORIZED } },
    ]);
    // Nothing of it is left for the next request.
    expect(echoOf(ask(client, 20).message)).toBeUndefined();
  });

  it('hands on a 4.01 without one', () => {
    const client = endpointWith();
    const { message } = ask(client);
    const step = client.receive(
      'server',
      bytesOf('ACK', UNAUTHORIZED, message.id, { token: message.token }),
      1,
    );
    expect(step.events).toMatchObject([{ kind: 'response', response: { code: UNAUTHORIZED } }]);
  });

  it.each(['mustProve', 'freshness'] as const)(
    'gets a body in blocks to a server with %s, and its answer back',
    (policy) => {
      const timing = () => rfc7252Timing({ blockSize: 32 });
      const client = endpointWith({ timing });
      const server = endpointWith({ timing, [policy]: () => true });
      const body = Uint8Array.from({ length: 100 }, (_, i) => i);
      const { handle, step } = client.request('s', { code: PUT, options: [PATH], payload: body }, wanted, 0);
      const runs: Uint8Array[] = [];
      const ends = converse(client, server, step, (one, exchange, payload) => {
        runs.push(payload);
        return one.respond(exchange, { code: CHANGED, options: [], payload: body }, 5);
      });
      expect(runs).toEqual([body]);
      expect(ends).toMatchObject([{ kind: 'response', handle, response: { code: CHANGED, payload: body } }]);
      expect(client.counters.challenges).toBe(1);
    },
  );

  it('registers as an observer of a server that wants a proof', () => {
    const client = endpointWith();
    const server = endpointWith({ mustProve: () => true });
    const { handle, step } = client.observe('s', { code: 1, options: [PATH], payload: utf8('') }, wanted, 0);
    const ends = converse(client, server, step, (one, exchange) =>
      one.respond(exchange, { code: CONTENT, options: [], payload: utf8('x') }, 5, 1, { observe: true }),
    );
    expect(ends).toMatchObject([{ kind: 'response', handle, observing: true }]);
    expect(server.held.observers).toBe(1);
  });
});

/** Carries all that is sent to and fro, and lets `answer` handle the requests. Returns the client's events. */
function converse(
  client: CoapEndpoint,
  server: CoapEndpoint,
  first: CoapStep,
  answer: (server: CoapEndpoint, exchange: number, payload: Uint8Array) => CoapStep,
): CoapStep['events'] {
  const events: CoapStep['events'][number][] = [];
  for (let step = first; step.datagrams.length > 0; ) {
    leave(client, step, 1);
    const replies = step.datagrams.flatMap(({ bytes }) => {
      const arrived = server.receive('c', bytes, 2);
      const served = arrived.events.flatMap((event) =>
        event.kind === 'request' ? answer(server, event.exchange, event.request.payload).datagrams : [],
      );
      return [...arrived.datagrams, ...served];
    });
    const steps = replies.map(({ bytes }) => client.receive('s', bytes, 3));
    events.push(...steps.flatMap((one) => one.events));
    step = { ...first, datagrams: steps.flatMap((one) => one.datagrams) };
  }
  return events;
}

import { describe, expect, it } from 'vitest';
import type { CoapStep } from '../../src/coap/api.ts';
import type { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { NO_BYTES } from '../../src/coap/message.ts';
import { firstOption, OPTION, type Option, uintOption } from '../../src/coap/options.ts';
import {
  bytesOf,
  content,
  endpointWith,
  eventsOf,
  GET,
  PATH,
  PUT,
  requestIn,
  sent,
  summary,
} from './conformance/raw.ts';

const NOTHING = { datagrams: [], events: [] };
const padding = (length: number): Option => ({ number: 65_000, value: new Uint8Array(length) });
const CONTINUE = 'ACK 2.31';
const FETCH = 5;

/** A block of a body of three or more. */
const block = (
  peer: string,
  id: number,
  num: number,
  { code = PUT, path = PATH, echo = [] as Option[] } = {},
) => ({
  peer,
  bytes: bytesOf('CON', code, id, {
    options: [path, uintOption(OPTION.block1, num * 16 + 8), ...echo],
    payload: new Uint8Array(16).fill(num),
  }),
});

const arrives = (server: CoapEndpoint, { peer, bytes }: ReturnType<typeof block>, now: number): string[] =>
  summary(server.receive(peer, bytes, now));

const get = (server: CoapEndpoint, peer: string, id: number, now: number): CoapStep =>
  server.receive(peer, bytesOf('CON', GET, id, { options: [PATH] }), now);

/** A request that is answered at once: nothing but its id is left of it. */
function answered(server: CoapEndpoint, peer: string, id: number, now: number): string[] {
  const step = get(server, peer, id, now);
  return step.events.length === 0
    ? summary(step)
    : summary(server.respond(requestIn(step).exchange, content(), now));
}

describe('copies from an address that has proved nothing', () => {
  const long = bytesOf('CON', GET, 1, { options: [PATH, padding(400)] });
  const short = bytesOf('CON', GET, 1, { token: NO_BYTES });

  // stranger                 server
  //   CON GET, 400 bytes ───>
  //                <──────── ACK 2.05, 1,000 bytes
  //   CON GET, 4 bytes ─────>          the same id
  it('get no more than three times of what each of them brings', () => {
    const server = endpointWith({ mustProve: () => true });
    const first = server.receive('c', long, 0);
    const answer = server.respond(requestIn(first).exchange, content(new Uint8Array(1_000)), 1);
    expect(summary(answer)).toEqual(['ACK 2.05']);
    expect(server.receive('c', short, 2)).toMatchObject(NOTHING);
    expect(summary(server.receive('c', long, 3))).toEqual(['ACK 2.05']);
    expect(server.counters.duplicates).toBe(2);
  });

  it('get no long challenge while the handler works, and a true copy does', () => {
    const server = endpointWith({ mustProve: () => true });
    const token = new Uint8Array(64);
    const request = bytesOf('CON', GET, 1, { token, options: [PATH] });
    const { exchange } = requestIn(server.receive('c', request, 0));
    expect(server.receive('c', short, 1)).toMatchObject(NOTHING);
    expect(server.held.exchanges).toBe(1);
    expect(summary(server.receive('c', request, 2))).toEqual(['ACK 4.01']);
    expect(server.respond(exchange, content(), 3)).toMatchObject(NOTHING);
  });

  it('are answered in full where nobody has to prove anything', () => {
    const server = endpointWith();
    const { exchange } = requestIn(server.receive('c', long, 0));
    server.respond(exchange, content(new Uint8Array(1_000)), 1);
    expect(summary(server.receive('c', short, 2))).toEqual(['ACK 2.05']);
  });
});

describe('a server that knows as many peers as it may', () => {
  it('lets the least recently used one with which nothing is open give way', () => {
    const server = endpointWith({ limits: { peers: 3 } });
    get(server, 'open', 1, 0);
    for (const peer of ['a', 'b']) answered(server, peer, 1, 1);
    expect(answered(server, 'a', 2, 2)).toEqual(['ACK 2.05']);
    expect(answered(server, 'new', 1, 3)).toEqual(['ACK 2.05']);
    expect(server.held).toMatchObject({ peers: 3, exchanges: 1, remembered: 4 });
    expect(server.counters).toMatchObject({ displaced: 1, refused: 0 });
    // What a still does not run again, what b had asked does: it was forgotten.
    expect(eventsOf(get(server, 'a', 1, 4), 'request')).toEqual([]);
    expect(eventsOf(get(server, 'b', 1, 4), 'request')).toHaveLength(1);
  });

  it('drops what comes from one more where something is open with all of them', () => {
    const server = endpointWith({ limits: { peers: 2 } });
    for (const peer of ['a', 'b']) get(server, peer, 1, 0);
    expect(get(server, 'c', 1, 1)).toMatchObject(NOTHING);
    expect(server.counters).toMatchObject({ displaced: 0, refused: 1 });
  });

  it('keeps a peer that has proved its address before strangers', () => {
    const unproved = new Set<string>();
    const server = endpointWith({ limits: { peers: 4 }, mustProve: (peer) => unproved.has(peer) });
    answered(server, 'proved', 1, 0);
    for (let i = 0; i < 20; i++) {
      unproved.add(`stranger ${i}`);
      expect(answered(server, `stranger ${i}`, 1, i)).toEqual(['ACK 2.05']);
    }
    expect(answered(server, 'proved', 1, 30)).toEqual(['ACK 2.05']);
    expect(server.counters).toMatchObject({ requestsIn: 21, duplicates: 1, displaced: 17 });
  });

  it('keeps a peer of which a body is in assembly', () => {
    const server = endpointWith({ limits: { peers: 4 } });
    arrives(server, block('slow', 1, 0), 0);
    for (let i = 0; i < 20; i++) answered(server, `stranger ${i}`, 1, i);
    expect(arrives(server, block('slow', 2, 1), 31)).toEqual([CONTINUE]);
  });

  it('is not kept shut by datagrams of 4,096 addresses', () => {
    const server = endpointWith();
    for (let i = 0; i < 4_096; i++) answered(server, `stranger ${i}`, 1, i);
    expect(answered(server, 'honest', 1, 5_000)).toEqual(['ACK 2.05']);
    expect(server.held).toMatchObject({ peers: 4_096 });
  });
});

describe('a server that assembles as many requests as it may', () => {
  it('lets one of which only the first block has come give way, so that a slow upload goes on', () => {
    const server = endpointWith({ limits: { assemblies: 4 } });
    for (const num of [0, 1]) expect(arrives(server, block('slow', num, num), num)).toEqual([CONTINUE]);
    for (let i = 0; i < 20; i++)
      expect(arrives(server, block(`stranger ${i}`, 1, 0), 2 + i)).toEqual([CONTINUE]);
    expect(server.held.uploads).toBe(4);
    expect(server.counters.displaced).toBe(17);
    expect(arrives(server, block('slow', 2, 2), 100)).toEqual([CONTINUE]);
    expect(arrives(server, block('stranger 0', 2, 1), 101)).toEqual(['ACK 4.08']);
    expect(arrives(server, block('stranger 19', 2, 1), 102)).toEqual([CONTINUE]);
  });

  it('lets one of a peer that has proved nothing give way before others', () => {
    const server = endpointWith({ limits: { assemblies: 2 }, mustProve: (peer) => peer === 'stranger' });
    for (const peer of ['proved', 'stranger'])
      for (const num of [0, 1])
        expect(arrives(server, block(peer, num, num, { code: FETCH }), 0)).toEqual([CONTINUE]);
    expect(arrives(server, block('new', 1, 0), 1)).toEqual([CONTINUE]);
    expect(arrives(server, block('stranger', 2, 2, { code: FETCH }), 2)).toEqual(['ACK 4.08']);
    expect(arrives(server, block('proved', 2, 2, { code: FETCH }), 3)).toEqual([CONTINUE]);
  });

  it('lets the least recently touched one of the peer with the most give way', () => {
    const server = endpointWith({ limits: { assemblies: 3 } });
    const path = (letter: string): Option => ({
      number: OPTION.uriPath,
      value: new TextEncoder().encode(letter),
    });
    const two = (peer: string, id: number, letter: string): void => {
      for (const num of [0, 1]) arrives(server, block(peer, id + num, num, { path: path(letter) }), id);
    };
    two('one', 1, 'x');
    two('many', 1, 'x');
    two('many', 3, 'y');
    expect(arrives(server, block('new', 1, 0), 5)).toEqual([CONTINUE]);
    expect(arrives(server, block('many', 6, 2, { path: path('x') }), 6)).toEqual(['ACK 4.08']);
    expect(arrives(server, block('many', 7, 2, { path: path('y') }), 7)).toEqual([CONTINUE]);
    expect(arrives(server, block('one', 8, 2, { path: path('x') }), 8)).toEqual([CONTINUE]);
  });
});

describe('a server that is asked to keep much for an observer', () => {
  it('answers as if it had not been asked to', () => {
    const server = endpointWith();
    const ask = (id: number, queries: number) => {
      const query = { number: OPTION.uriQuery, value: new Uint8Array(250).fill(97) };
      const options = [uintOption(OPTION.observe, 0), ...new Array<Option>(queries).fill(query)];
      const bytes = bytesOf('CON', GET, id, { options, token: Uint8Array.of(id) });
      const { exchange, observe } = requestIn(server.receive('c', bytes, id));
      const [message] = sent(server.respond(exchange, content(), id, 1, { observe }));
      return [observe, message!.code, firstOption(message!.options, OPTION.observe) !== undefined];
    };
    expect(ask(1, 5)).toEqual([false, 0x45, false]);
    expect(ask(2, 4)).toEqual([true, 0x45, true]);
    expect(server.held.observers).toBe(1);
  });
});

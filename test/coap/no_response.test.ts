import { describe, expect, it } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import { blockOption } from '../../src/coap/block.ts';
import { OPTION, uintOption } from '../../src/coap/options.ts';
import { rfc7252Timing } from '../../src/coap/timing.ts';
import {
  ask,
  bytesOf,
  CHANGED,
  endpointWith,
  get,
  leave,
  PATH,
  passing,
  requestIn,
  sent,
  summary,
  wanted,
} from './conformance/raw.ts';

const PUT = 3;
const ALL = 26;
const unwanted = (classes: number) => uintOption(OPTION.noResponse, classes);
const put = (classes: number) => ({ code: PUT, options: [PATH, unwanted(classes)], payload: utf8('x') });

describe('a server asked not to respond', () => {
  const outcome = (type: 'CON' | 'NON', classes: number, code: number, late = false): string[] => {
    const server = endpointWith();
    const options = [PATH, unwanted(classes)];
    const step = server.receive('c', bytesOf(type, PUT, 1, { options }), 0);
    const { exchange, request } = requestIn(step);
    expect(request.options.map(({ number }) => number)).toEqual([OPTION.uriPath]);
    const acknowledged = late ? summary(server.tick(1_000)) : [];
    const answer = server.respond(exchange, { code, options: [], payload: utf8('hi') }, 1_500);
    expect(server.held.exchanges).toBe(0);
    return [...acknowledged, ...summary(answer)];
  };

  it('keeps back the classes that are named, and no others', () => {
    const codes = [0x44, 0x84, 0xa0];
    const sentFor = (classes: number) => codes.map((code) => outcome('NON', classes, code).length);
    expect([0, 2, 8, 16, ALL].map(sentFor)).toEqual([
      [1, 1, 1],
      [0, 1, 1],
      [1, 0, 1],
      [1, 1, 0],
      [0, 0, 0],
    ]);
  });

  it('acknowledges a confirmable request all the same, once', () => {
    expect(outcome('CON', 2, 0x44)).toEqual(['ACK 0.00']);
    expect(outcome('CON', 2, 0x84)).toEqual(['ACK 4.04']);
    expect(outcome('CON', 2, 0x44, true)).toEqual(['ACK 0.00']);
  });

  it('repeats that acknowledgement for a copy', () => {
    const server = endpointWith();
    const bytes = bytesOf('CON', PUT, 1, { options: [PATH, unwanted(ALL)] });
    const { exchange } = requestIn(server.receive('c', bytes, 0));
    server.respond(exchange, { code: CHANGED, options: [], payload: utf8('') }, 1);
    const copy = server.receive('c', bytes, 100);
    expect(summary(copy)).toEqual(['ACK 0.00']);
    expect(copy.events).toEqual([]);
  });

  it('keeps its own errors back too', () => {
    const server = endpointWith();
    const method = bytesOf('NON', 31, 1, { options: [unwanted(8)] });
    expect(server.receive('c', method, 0).datagrams).toEqual([]);
    expect(summary(server.receive('c', bytesOf('NON', 31, 2, { options: [unwanted(2)] }), 0))).toEqual([
      'NON 4.05',
    ]);
  });

  it('answers each block but the last, without which the client cannot go on', () => {
    const server = endpointWith();
    const block = (id: number, num: number, more: boolean) =>
      server.receive(
        'c',
        bytesOf('CON', PUT, id, {
          options: [PATH, unwanted(ALL), blockOption(OPTION.block1, { num, more, size: 16 })],
          payload: new Uint8Array(16),
        }),
        0,
      );
    expect(summary(block(1, 0, true))).toEqual(['ACK 2.31']);
    expect(summary(block(2, 5, true))).toEqual(['ACK 4.08']);
    const last = requestIn(block(3, 1, false));
    expect(
      summary(server.respond(last.exchange, { code: CHANGED, options: [], payload: utf8('') }, 1)),
    ).toEqual(['ACK 0.00']);
  });

  it('tells an observer that it is registered, whatever the option says', () => {
    const server = endpointWith();
    const options = [PATH, uintOption(OPTION.observe, 0), unwanted(ALL)];
    const { exchange } = requestIn(server.receive('c', bytesOf('CON', 1, 1, { options }), 0));
    const answer = server.respond(exchange, { code: 0x45, options: [], payload: utf8('') }, 1, 1, {
      observe: true,
    });
    expect(summary(answer)).toEqual(['ACK 2.05']);
  });
});

describe('a client that wants no response', () => {
  it('is done with a CON when it is acknowledged, and with a NON when it has left', () => {
    const client = endpointWith();
    const con = ask(client, 0, {}, put(ALL));
    expect(con.step.events).toEqual([]);
    expect(client.receive('server', bytesOf('ACK', 0, con.message.id), 5).events).toEqual([
      { kind: 'sent', handle: con.handle },
    ]);
    const non = client.request('server', put(ALL), { ...wanted, confirmable: false }, 10);
    expect(summary(non.step)).toEqual(['NON 0.03']);
    expect(non.step.events).toEqual([]);
    expect(client.left(non.step.datagrams[0]!.receipt!, 700).events).toEqual([
      { kind: 'sent', handle: non.handle },
    ]);
    expect(client.held).toMatchObject({ peers: 1 });
  });

  it('fails as ever where the request is not acknowledged, is reset, or cannot be sent', () => {
    const client = endpointWith();
    const { handle, step } = ask(client, 0, {}, put(ALL));
    expect(passing(client, step, 200_000).events.at(-1)).toEqual({
      kind: 'failed',
      handle,
      reason: 'timeout',
    });
    const other = ask(client, 200_000, {}, put(ALL));
    expect(client.receive('server', bytesOf('RST', 0, other.message.id), 200_001).events).toMatchObject([
      { reason: 'reset' },
    ]);
  });

  it('does not keep others waiting, since nothing is expected', () => {
    const client = endpointWith();
    const { step } = client.request('server', put(ALL), { ...wanted, confirmable: false }, 0);
    client.request('server', get, wanted, 1);
    expect(summary(client.left(step.datagrams[0]!.receipt!, 2))).toEqual(['CON 0.01']);
  });

  it('waits to its deadline for a response of a class that it does want', () => {
    for (const confirmable of [true, false]) {
      const client = endpointWith();
      const options = { deadline: 30_000, confirmable };
      const silent = ask(client, 0, options, put(2));
      const step = confirmable
        ? client.receive('server', bytesOf('ACK', 0, silent.message.id), 5)
        : silent.step;
      expect(step.events).toEqual([]);
      const { sent: more, events } = passing(client, step, 29_999);
      expect([...more, ...events]).toEqual([]);
      expect(client.tick(30_000).events).toEqual([{ kind: 'sent', handle: silent.handle }]);
      const refused = ask(client, 50_000, { deadline: 80_000, confirmable }, put(2));
      const { id, token } = refused.message;
      const answer = bytesOf(confirmable ? 'ACK' : 'NON', 0x84, confirmable ? id : 77, { token });
      expect(client.receive('server', answer, 50_001).events).toMatchObject([
        { kind: 'response', handle: refused.handle },
      ]);
    }
  });

  it('sends the blocks of a body one after another, and is done when the last is acknowledged', () => {
    const client = endpointWith({ timing: () => rfc7252Timing({ blockSize: 16 }) });
    const { step, handle } = client.request(
      'server',
      { ...put(ALL), payload: new Uint8Array(20) },
      wanted,
      0,
    );
    leave(client, step, 0);
    const { id, token } = sent(step)[0]!;
    const options = [blockOption(OPTION.block1, { num: 0, more: true, size: 16 })];
    const next = client.receive('server', bytesOf('ACK', 0x5f, id, { token, options }), 5);
    expect(next.datagrams[0]!.label).toBe('CON PUT block1 2/2');
    expect(client.receive('server', bytesOf('ACK', 0, sent(next)[0]!.id), 9).events).toEqual([
      { kind: 'sent', handle },
    ]);
  });
});

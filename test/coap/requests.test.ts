import { describe, expect, it } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import type { CoapStep } from '../../src/coap/api.ts';
import { type Block, blockOf, blockOption } from '../../src/coap/block.ts';
import { NO_BYTES } from '../../src/coap/message.ts';
import { firstUint, OPTION, type Option, stringOption, uintOption } from '../../src/coap/options.ts';
import { modelledTiming, rfc7252Timing } from '../../src/coap/timing.ts';
import {
  ask,
  bytesOf,
  CHANGED,
  CONTENT,
  content,
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

const unconfirmed = { confirmable: false } as const;
const state = (name: string, key?: string) => ({
  request: { code: 3, options: [stringOption(OPTION.uriPath, name)], payload: utf8(name) },
  options: key === undefined ? wanted : { ...wanted, supersedes: key },
});

describe('a non-confirmable request', () => {
  it('is sent once, and takes an answer in any message of its own', () => {
    for (const type of ['NON', 'CON'] as const) {
      const client = endpointWith();
      const { handle, message } = ask(client, 0, unconfirmed);
      expect(message.type).toBe('NON');
      const { token } = message;
      const step = client.receive('server', bytesOf(type, CONTENT, 500, { token }), 50);
      expect(summary(step)).toEqual(type === 'CON' ? ['ACK 0.00'] : []);
      expect(step.events).toMatchObject([{ kind: 'response', handle }]);
    }
  });

  it('fails at its deadline, and on a reset, but ends by no acknowledgement', () => {
    const client = endpointWith();
    const first = ask(client, 0, { ...unconfirmed, deadline: 30_000 });
    expect(client.receive('server', bytesOf('ACK', 0, first.message.id), 5).events).toEqual([]);
    const { sent: copies, events } = passing(client, first.step, 60_000);
    expect(copies).toEqual([]);
    expect(events).toEqual([{ kind: 'failed', handle: first.handle, reason: 'timeout' }]);
    const second = ask(client, 100_000, unconfirmed);
    // Also when it does not count as outstanding any more.
    client.tick(190_000);
    expect(client.receive('server', bytesOf('RST', 0, second.message.id), 200_000).events).toEqual([
      { kind: 'failed', handle: second.handle, reason: 'reset' },
    ]);
  });

  it('waits for its turn where the peer does not answer, and for nothing but the pacer where the rate is known', () => {
    const third = (timing: () => ReturnType<typeof rfc7252Timing>): number => {
      const client = endpointWith({ timing });
      ask(client, 0, unconfirmed);
      return client.request('server', get, { ...wanted, ...unconfirmed }, 1).step.datagrams.length;
    };
    expect(third(() => rfc7252Timing())).toBe(0);
    expect(third(() => modelledTiming({ rate: 1_200, delay: 300, overhead: 62, mtu: 1200 }))).toBe(1);
  });

  it('asks no peer whether it lives', () => {
    const client = endpointWith();
    ask(client, 0, unconfirmed);
    const { message, handle } = ask(endpointWith());
    expect(handle).toBe(0);
    expect(message.type).toBe('CON');
    expect(passing(client, client.tick(1), 500_000).sent).toEqual([]);
    expect(client.counters.probes).toBe(0);
  });
});

describe('a request that supersedes another', () => {
  it('may observe what that was to observe', () => {
    const client = endpointWith();
    const { request, options } = { ...state('x', 'k'), request: { ...state('x').request, code: 1 } };
    client.request('s', request, wanted, 0);
    const older = client.observe('s', request, options, 0);
    const newer = client.observe('s', request, options, 1);
    expect(newer.step.events).toEqual([{ kind: 'failed', handle: older.handle, reason: 'superseded' }]);
    expect(client.held).toMatchObject({ observations: 1 });
  });

  it('takes the place of one that waits, and leaves alone what was sent, has another key, or another peer', () => {
    const client = endpointWith();
    const start = (name: string, key?: string, peer = 's') => {
      const { request, options } = state(name, key);
      return client.request(peer, request, options, 0);
    };
    const sending = start('sending', 'k');
    const [older, between, other] = [start('older', 'k'), start('between'), start('other', 'l')];
    start('elsewhere', 'k', 't');
    const newer = start('newer', 'k');
    expect(newer.step.events).toEqual([{ kind: 'failed', handle: older.handle, reason: 'superseded' }]);
    const order: string[] = [];
    for (let step: CoapStep = sending.step; step.datagrams.length > 0; ) {
      const { id, token, payload } = sent(step)[0]!;
      order.push(new TextDecoder().decode(payload));
      step = client.receive('s', bytesOf('ACK', CHANGED, id, { token }), 5);
      expect(step.events).toHaveLength(1);
    }
    expect(order).toEqual(['sending', 'newer', 'between', 'other']);
    expect([between, other].map(({ step }) => step.events)).toEqual([[], []]);
  });

  it('goes by its own class where that differs, and needs no room beyond that of the one before', () => {
    const client = endpointWith({ limits: { requestsPerPeer: 3 } });
    const start = (name: string, priority: 1 | 3, key?: string) =>
      client.request('s', state(name).request, { ...state(name, key).options, priority }, 0);
    const first = start('first', 1);
    start('message', 1);
    const older = start('older', 1, 'k');
    expect(start('one too many', 3).step.events).toMatchObject([{ reason: 'queue_full' }]);
    expect(start('newer', 3, 'k').step.events).toMatchObject([
      { handle: older.handle, reason: 'superseded' },
    ]);
    const { id, token } = sent(first.step)[0]!;
    const next = client.receive('s', bytesOf('ACK', CHANGED, id, { token }), 5);
    expect(next.datagrams[0]!.priority).toBe(1);
  });
});

describe('a ping of the application', () => {
  it('ends with the reset, or the acknowledgement, and fails where there is none', () => {
    for (const type of ['RST', 'ACK'] as const) {
      const client = endpointWith();
      const { handle, step } = client.ping('s', wanted, 0);
      expect(step.datagrams).toMatchObject([{ label: 'CON ping', bytes: { length: 4 } }]);
      expect(client.receive('s', bytesOf(type, 0, sent(step)[0]!.id), 5).events).toEqual([
        { kind: 'sent', handle },
      ]);
    }
    const client = endpointWith();
    const { handle, step } = client.ping('s', wanted, 0);
    const { events } = passing(client, leave(client, step, 0), 200_000);
    expect(events.at(-1)).toEqual({ kind: 'failed', handle, reason: 'timeout' });
    const given = client.ping('s', wanted, 200_000);
    expect(client.cancel(given.handle, 200_001).events).toEqual([
      { kind: 'failed', handle: given.handle, reason: 'cancelled' },
    ]);
    const last = client.ping('s', wanted, 200_002);
    expect(client.forget('s', 200_003).events).toMatchObject([{ handle: last.handle, reason: 'cancelled' }]);
  });
});

describe('block-wise transfer at a server', () => {
  const block1 = (block: Partial<Block>): Option =>
    blockOption(OPTION.block1, { num: 0, more: true, size: 16, ...block });
  const block2 = (block: Partial<Block>): Option =>
    blockOption(OPTION.block2, { num: 0, more: false, size: 16, ...block });

  it('says how large a response is when it is asked, divided or not', () => {
    const sizeOf = (length: number): number | undefined => {
      const server = endpointWith();
      const options = [PATH, uintOption(OPTION.size2, 0), block2({ size: 64 })];
      const { exchange } = requestIn(server.receive('c', bytesOf('CON', 1, 1, { options }), 0));
      return firstUint(
        sent(server.respond(exchange, content(new Uint8Array(length)), 1))[0]!.options,
        OPTION.size2,
      );
    };
    expect([10, 200].map(sizeOf)).toEqual([10, 200]);
  });

  it('takes a block that comes twice in messages of its own once, and not another in its place', () => {
    const put = (fills: readonly number[]) => {
      const server = endpointWith();
      return fills.map((fill, i) =>
        server.receive(
          'c',
          bytesOf('CON', 3, i, {
            options: [PATH, block1({ num: Math.min(i, 1) })],
            payload: new Uint8Array(16).fill(fill),
          }),
          0,
        ),
      );
    };
    expect(put([1, 2, 2]).flatMap(summary)).toEqual(['ACK 2.31', 'ACK 2.31', 'ACK 2.31']);
    expect(put([1, 2, 3]).flatMap(summary)).toEqual(['ACK 2.31', 'ACK 2.31', 'ACK 4.08']);
  });

  it('answers a body of one message that is too large with its bound', () => {
    const server = endpointWith({ limits: { bodyBytes: 100 } });
    const step = server.receive('c', bytesOf('CON', 3, 1, { payload: new Uint8Array(101) }), 0);
    expect(summary(step)).toEqual(['ACK 4.13']);
    expect(firstUint(sent(step)[0]!.options, OPTION.size1)).toBe(100);
  });

  it('takes a Request-Tag that is empty for another than none', () => {
    const server = endpointWith();
    const put = (id: number, tags: readonly Option[], block: Partial<Block>) =>
      summary(
        server.receive(
          'c',
          bytesOf('CON', 3, id, { options: [PATH, block1(block), ...tags], payload: new Uint8Array(16) }),
          0,
        ),
      );
    const empty = { number: OPTION.requestTag, value: new Uint8Array(0) };
    const one = { number: OPTION.requestTag, value: Uint8Array.of(1) };
    expect(put(1, [empty], {})).toEqual(['ACK 2.31']);
    expect(put(2, [], { num: 1 })).toEqual(['ACK 4.08']);
    expect(put(3, [empty, one], { num: 1 })).toEqual(['ACK 4.08']);
    expect(put(4, [empty], { num: 1 })).toEqual(['ACK 2.31']);
  });

  it('keeps what a FETCH has selected apart from what another has', () => {
    const server = endpointWith();
    const fetch = (id: number, selector: string, num: number) =>
      server.receive(
        'c',
        bytesOf('CON', 5, id, { options: [PATH, block2({ num })], payload: utf8(selector) }),
        0,
      );
    const first = server.respond(
      requestIn(fetch(1, 'a', 0)).exchange,
      content(new Uint8Array(40).fill(1)),
      0,
    );
    expect(blockOf(sent(first)[0]!.options, OPTION.block2)).toMatchObject({ value: { more: true } });
    // Safe and whole: it can be asked anew at any block.
    expect(requestIn(fetch(2, 'b', 1)).request.payload).toEqual(utf8('b'));
    expect(sent(fetch(3, 'a', 1))[0]!.payload).toEqual(new Uint8Array(16).fill(1));
    expect(sent(fetch(4, '', 2))[0]!.payload).toEqual(new Uint8Array(8).fill(1));
  });

  it('rejects no token that is long, and keeps none that is very long', () => {
    const server = endpointWith();
    const long = new Uint8Array(64).fill(7);
    const { exchange } = requestIn(server.receive('c', bytesOf('CON', 1, 1, { token: long }), 0));
    expect(sent(server.respond(exchange, content(), 0))[0]!.token).toEqual(long);
    const longer = server.receive('c', bytesOf('CON', 1, 2, { token: new Uint8Array(65) }), 0);
    expect(summary(longer)).toEqual(['ACK 4.00']);
    expect(sent(longer)[0]!.token).toHaveLength(65);
    expect(longer.events).toEqual([]);
  });
});

describe('a response', () => {
  it('may carry a critical option that the request has, and no other', () => {
    const unusual = (number: number) => ({ number, value: Uint8Array.of(1) });
    for (const [number, kind] of [
      [65_001, 'response'],
      [65_003, 'failed'],
    ] as const) {
      const client = endpointWith();
      const { message } = ask(client, 0, {}, { ...get, options: [PATH, unusual(65_001)] });
      const { id, token } = message;
      const step = client.receive(
        'server',
        bytesOf('ACK', 0x82, id, { token, options: [unusual(number)] }),
        5,
      );
      expect(step.events).toMatchObject([{ kind }]);
    }
  });
});

describe('a request with options larger than a message that arrives', () => {
  const option = (length: number) => ({ number: OPTION.uriQuery, value: new Uint8Array(length).fill(97) });
  const starting = (options: readonly Option[], payload: Uint8Array, mtu = 300) => {
    const client = endpointWith({ mtu });
    return client.request('s', { code: 3, options, payload }, wanted, 0).step;
  };

  it('fails at once, and so does an observation', () => {
    const large = [option(200), option(200)];
    expect(starting(large, NO_BYTES)).toMatchObject({ datagrams: [], events: [{ reason: 'too_large' }] });
    expect(starting(large, NO_BYTES, 500).datagrams).toHaveLength(1);
    const client = endpointWith({ mtu: 300 });
    const { step } = client.observe('s', { code: 1, options: large, payload: NO_BYTES }, wanted, 0);
    expect(step).toMatchObject({ datagrams: [], events: [{ reason: 'too_large' }] });
    expect(client.held).toMatchObject({ observations: 0 });
  });

  it('is none where smaller blocks leave room for them', () => {
    for (const length of [0, 100, 180, 240, 250]) {
      for (const body of [10, 290, 2_000]) {
        const step = starting([option(length)], new Uint8Array(body));
        if (step.datagrams.length === 0) expect(step.events).toMatchObject([{ reason: 'too_large' }]);
        else expect(step.datagrams[0]!.bytes.length).toBeLessThanOrEqual(300);
        expect(step.datagrams.length, `${length} and ${body}`).toBe(length < 250 ? 1 : 0);
      }
    }
  });
});

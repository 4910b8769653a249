import { describe, expect, it } from 'vitest';
import type { CoapStep } from '../../../src/coap/api.ts';
import { BLOCK_SIZES, type Block, type BlockSize, blockOf, blockOption } from '../../../src/coap/block.ts';
import { code } from '../../../src/coap/codes.ts';
import type { CoapEndpoint } from '../../../src/coap/endpoint.ts';
import type { Message } from '../../../src/coap/message.ts';
import { firstUint, OPTION, type Option, uintOption } from '../../../src/coap/options.ts';
import { rfc7252Timing } from '../../../src/coap/timing.ts';
import { BLOCKS, Checklist } from './clauses.ts';
import { Plugtest } from './plugtest.ts';
import { large } from './plugtest_server.ts';
import {
  ask,
  bytesOf,
  CONTENT,
  content,
  endpointWith,
  eventsOf,
  GET,
  get,
  leave,
  PATH,
  POST,
  PUT,
  requestIn,
  sent,
  summary,
  wanted,
} from './raw.ts';

const clauses = new Checklist(BLOCKS);

const block = (which: 1 | 2, num: number, more: boolean, size: BlockSize): Option =>
  blockOption(which === 1 ? OPTION.block1 : OPTION.block2, { num, more, size });

function blockIn({ options }: Message, which: 1 | 2): Block | undefined {
  const result = blockOf(options, which === 1 ? OPTION.block1 : OPTION.block2);
  if (!result.ok) throw new Error(result.problem);
  return result.value;
}

/** The raw value of the Block options of a message, and what its three low bits say. */
const sizeExponents = ({ options }: Message): number[] =>
  options
    .filter(({ number }) => number === OPTION.block1 || number === OPTION.block2)
    .map(({ value }) => (value.at(-1) ?? 0) & 7);

/** GET, PUT and POST of large bodies both ways, whatever the two sides prefer. */
function transfers(client: BlockSize, server: BlockSize): Message[] {
  const timings = [client, server].map((blockSize) => rfc7252Timing({ blockSize }));
  const test = new Plugtest(client + server, {
    client: { timing: () => timings[0]! },
    server: { timing: () => timings[1]! },
  });
  expect(test.exchange(GET, { uri: '/large' }, 60_000).payload).toEqual(large('large'));
  expect(test.exchange(PUT, { uri: '/large-update', payload: large('new') }, 60_000).code).toBe(code(2, 4));
  const answer = test.exchange(POST, { uri: '/large-post', payload: large('question') }, 60_000);
  expect(answer.payload).toEqual(large('answer'));
  return test.wire.messages;
}

const PAIRS: readonly (readonly [BlockSize, BlockSize])[] = [
  [1024, 1024],
  [1024, 64],
  [64, 1024],
  [16, 512],
];

const everything = (): Message[] => PAIRS.flatMap(([client, server]) => transfers(client, server));

/** A server with a body of 100 bytes, of which the client asks for blocks. */
function serving(blockSize: BlockSize = 1024): { fetch: (id: number, option: Option | null) => Message } {
  const timing = rfc7252Timing({ blockSize });
  const server = endpointWith({ timing: () => timing });
  return {
    fetch(id, option) {
      const options = option === null ? [PATH] : [PATH, option];
      const step = server.receive('client', bytesOf('CON', GET, id, { options }), id);
      const asked = eventsOf(step, 'request');
      const body = Uint8Array.from({ length: 100 }, (_, at) => at);
      const answer = asked.length > 0 ? server.respond(requestIn(step).exchange, content(body), id) : step;
      return sent(answer)[0]!;
    },
  };
}

/** The client gets a response, and what it asks for then. */
function answered(
  client: CoapEndpoint,
  to: Message,
  options: readonly Option[],
  length: number,
  now = 1,
): CoapStep {
  const payload = new Uint8Array(length).fill(now);
  return client.receive('server', bytesOf('ACK', CONTENT, to.id, { token: to.token, options, payload }), now);
}

describe('RFC 7959', () => {
  it(clauses.name('7959/2.1/processed'), () => {
    const server = endpointWith();
    const partial = bytesOf('CON', PUT, 1, { options: [block(1, 0, true, 16)], payload: new Uint8Array(16) });
    const step = server.receive('client', partial, 0);
    expect(step.events).toEqual([]);
    expect(sent(step).map((message) => [message.code, blockIn(message, 1)])).toEqual([
      [code(2, 31), { num: 0, more: true, size: 16 }],
    ]);
    expect(serving().fetch(1, block(2, 1, false, 32)).payload[0]).toBe(32);
    // In a response likewise: what is but one block is never taken for the whole.
    const client = endpointWith();
    const { message } = ask(client);
    const next = answered(client, message, [block(2, 0, true, 16)], 16);
    expect(next.events).toEqual([]);
    expect(blockIn(sent(next)[0]!, 2)).toEqual({ num: 1, more: false, size: 16 });
  });

  it(clauses.name('7959/2.1/once'), () => {
    for (const { options } of everything()) {
      for (const number of [OPTION.block1, OPTION.block2])
        expect(options.filter((option) => option.number === number).length).toBeLessThanOrEqual(1);
    }
    const twice = [block(1, 0, true, 16), block(1, 0, true, 16)];
    const request = bytesOf('CON', PUT, 1, { options: twice, payload: new Uint8Array(16) });
    expect(summary(endpointWith().receive('client', request, 0))).toEqual(['ACK 4.02']);
  });

  it(clauses.name('7959/2.2/size-7-sent'), () => {
    const exponents = everything().flatMap(sizeExponents);
    expect(exponents.length).toBeGreaterThan(100);
    expect(Math.max(...exponents)).toBe(BLOCK_SIZES.length - 1);
  });

  it(clauses.name('7959/2.2/size-7-received'), () => {
    for (const number of [OPTION.block1, OPTION.block2]) {
      for (const value of [7, 15, 16 + 7, 2 ** 20 + 15]) {
        const request = bytesOf('CON', PUT, 1, { options: [uintOption(number, value)] });
        const step = endpointWith().receive('client', request, 0);
        expect(summary(step), `option ${number} value ${value}`).toEqual(['ACK 4.00']);
        expect(step.events).toEqual([]);
      }
    }
  });

  it(clauses.name('7959/2.2/more-sent'), () => {
    const requests = everything().filter((message) => message.code >> 5 === 0);
    const asked = requests.map((message) => blockIn(message, 2)).filter((one) => one !== undefined);
    expect(asked.length).toBeGreaterThan(50);
    expect(asked.filter(({ more }) => more)).toEqual([]);
  });

  it(clauses.name('7959/2.2/more-received'), () => {
    for (const num of [0, 1]) {
      const [without, withMore] = [false, true].map((more) => {
        const { fetch } = serving();
        fetch(1, null);
        return fetch(2, block(2, num, more, 32));
      });
      expect(withMore?.payload).toEqual(without?.payload);
      expect(withMore?.payload[0]).toBe(32 * num);
    }
  });

  it(clauses.name('7959/2.3/full'), () => {
    const partial = everything().flatMap((message) =>
      ([1, 2] as const)
        // Block1 describes the payload of a request, Block2 that of a response.
        .filter((which) => (message.code >> 5 === 0) === (which === 1))
        .map((which) => ({ block: blockIn(message, which), length: message.payload.length }))
        .filter((one) => one.block?.more === true),
    );
    expect(partial.length).toBeGreaterThan(100);
    for (const one of partial) expect(one.length).toBe(one.block?.size);
  });

  it(clauses.name('7959/2.3/content-format'), () => {
    const format = uintOption(OPTION.contentFormat, 60);
    const formatsOf = (messages: readonly Message[], which: 1 | 2): (number | undefined)[] =>
      messages
        .filter((message) => blockIn(message, which) !== undefined)
        .map(({ options }) => firstUint(options, OPTION.contentFormat));
    const requests: Message[] = [];
    const client = endpointWith({ timing: () => rfc7252Timing({ blockSize: 16 }) });
    let { message } = ask(client, 0, {}, { code: PUT, options: [PATH, format], payload: new Uint8Array(48) });
    for (let num = 0; num < 2; num++) {
      requests.push(message);
      const { id, token } = message;
      const options = [block(1, num, true, 16)];
      const step = client.receive('server', bytesOf('ACK', code(2, 31), id, { token, options }), num + 1);
      message = sent(step)[0]!;
    }
    expect(formatsOf([...requests, message], 1)).toEqual([60, 60, 60]);

    const server = endpointWith({ timing: () => rfc7252Timing({ blockSize: 16 }) });
    const responses = [0, 1, 2].map((num) => {
      const options = num === 0 ? [PATH] : [PATH, block(2, num, false, 16)];
      const step = server.receive('client', bytesOf('CON', GET, num, { options }), num);
      if (num > 0) return sent(step)[0]!;
      return sent(server.respond(requestIn(step).exchange, content(new Uint8Array(48), [format]), num))[0]!;
    });
    expect(formatsOf(responses, 2)).toEqual([60, 60, 60]);
  });

  it(clauses.name('7959/2.3/mismatched'), () => {
    const format = (value: number): Option => uintOption(OPTION.contentFormat, value);
    const formats: readonly (readonly [Option | null, Option | null])[] = [
      [format(50), format(60)],
      [format(50), null],
      [null, format(60)],
      [format(0), null],
    ];
    for (const [one, other] of formats) {
      const server = endpointWith();
      const put = (num: number, more: boolean, option: Option | null): CoapStep => {
        const options = [PATH, ...(option === null ? [] : [option]), block(1, num, more, 16)];
        return server.receive(
          'client',
          bytesOf('CON', PUT, num, { options, payload: new Uint8Array(16) }),
          num,
        );
      };
      expect(summary(put(0, true, one))).toEqual(['ACK 2.31']);
      const mismatched = put(1, false, other);
      expect(summary(mismatched)).toEqual(['ACK 4.08']);
      expect(mismatched.events).toEqual([]);
    }
  });

  it(clauses.name('7959/2.3/down'), () => {
    const timing = rfc7252Timing({ blockSize: 128, announceBlockSize: true });
    const client = endpointWith({ timing: () => timing });
    const { message } = ask(client);
    expect(blockIn(message, 2)).toEqual({ num: 0, more: false, size: 128 });
    const second = sent(answered(client, message, [block(2, 0, true, 32)], 32))[0]!;
    expect(blockIn(second, 2)).toEqual({ num: 1, more: false, size: 32 });
    const third = sent(answered(client, second, [block(2, 1, true, 32)], 32, 2))[0]!;
    expect(blockIn(third, 2)).toEqual({ num: 2, more: false, size: 32 });
  });

  it(clauses.name('7959/2.4/no-larger'), () => {
    for (const preferred of [16, 64, 1024] as const) {
      for (const asked of [16, 32, 64] as const) {
        const response = serving(preferred).fetch(1, block(2, 0, false, asked));
        expect(blockIn(response, 2)?.size).toBe(Math.min(preferred, asked));
        expect(response.payload).toHaveLength(Math.min(preferred, asked));
      }
    }
  });

  it(clauses.name('7959/2.4/actual-size'), () => {
    const client = endpointWith();
    let { message } = ask(client);
    expect(blockIn(message, 2)).toBeUndefined();
    for (let num = 0; num < 4; num++) {
      message = sent(answered(client, message, [block(2, num, true, 64)], 64, num + 1))[0]!;
      expect(blockIn(message, 2)).toEqual({ num: num + 1, more: false, size: 64 });
    }
  });

  it(clauses.name('7959/2.4/same-size'), () => {
    const { fetch } = serving(32);
    const sizes = [fetch(1, null), fetch(2, block(2, 1, false, 32)), fetch(3, block(2, 2, false, 32))].map(
      (response) => blockIn(response, 2)?.size,
    );
    expect(sizes).toEqual([32, 32, 32]);
    // A client that sticks to its own size gets what begins where its block does.
    const stubborn = fetch(4, block(2, 1, false, 64));
    expect([blockIn(stubborn, 2), stubborn.payload[0]]).toEqual([{ num: 2, more: true, size: 32 }, 64]);
  });

  it(clauses.name('7959/2.4/etag'), () => {
    const tag = (value: number): Option => uintOption(OPTION.eTag, value);
    const client = endpointWith();
    const { message, handle } = ask(client);
    const second = sent(answered(client, message, [tag(1), block(2, 0, true, 16)], 16))[0]!;
    const restarted = answered(client, second, [tag(2), block(2, 1, false, 16)], 16, 2);
    expect(restarted.events).toEqual([]);
    const again = sent(restarted)[0]!;
    expect(blockIn(again, 2)?.num ?? 0).toBe(0);
    const next = sent(answered(client, again, [tag(2), block(2, 0, true, 16)], 16, 3))[0]!;
    const last = answered(client, next, [tag(2), block(2, 1, false, 16)], 16, 4);
    const whole = Uint8Array.from({ length: 32 }, (_, at) => (at < 16 ? 3 : 4));
    expect(last.events).toMatchObject([{ kind: 'response', handle, response: { payload: whole } }]);
  });

  it(clauses.name('7959/2.5/incomplete'), () => {
    const put = (server: CoapEndpoint, id: number, num: number, more: boolean): CoapStep => {
      const payload = new Uint8Array(more ? 16 : 5);
      return server.receive(
        'client',
        bytesOf('CON', PUT, id, { options: [PATH, block(1, num, more, 16)], payload }),
        id,
      );
    };
    const never = put(endpointWith(), 1, 3, false);
    const gap = endpointWith();
    put(gap, 1, 0, true);
    const missing = put(gap, 2, 2, false);
    for (const step of [never, missing]) {
      expect(summary(step)).toEqual(['ACK 4.08']);
      expect(step.events).toEqual([]);
    }
  });

  it(clauses.name('7959/2.6/etag-observed'), () => {
    const tag = (value: number): Option => uintOption(OPTION.eTag, value);
    const first = [uintOption(OPTION.observe, 2), block(2, 0, true, 16)];
    // The rest is of the state that was notified, or of the one after it.
    for (const rest of [1, 2]) {
      const client = endpointWith();
      const begun = client.observe('server', get, wanted, 0);
      leave(client, begun.step, 0);
      const registration = sent(begun.step)[0]!;
      answered(client, registration, [uintOption(OPTION.observe, 1)], 3);
      const notification = {
        token: registration.token,
        options: [...first, tag(1)],
        payload: new Uint8Array(16),
      };
      const notified = client.receive('server', bytesOf('NON', CONTENT, 500, notification), 2);
      const [asked] = sent(notified);
      expect([notified.events, blockIn(asked!, 2)?.num]).toEqual([[], 1]);
      const last = answered(client, asked!, [block(2, 1, false, 16), tag(rest)], 5, 3);
      expect(eventsOf(last, 'notification'), `rest of state ${rest}`).toHaveLength(rest === 1 ? 1 : 0);
    }
  });

  it(clauses.name('7959/2.7/sequential'), () => {
    const test = new Plugtest(27, { client: { timing: () => timing }, server: { timing: () => timing } });
    test.exchange(POST, { uri: '/large-post', payload: large('question') }, 60_000);
    const asked = test.wire.messages
      .filter((message) => message.code >> 5 === 0 && blockIn(message, 1) === undefined)
      .map((message) => blockIn(message, 2)?.num);
    expect(asked.length).toBeGreaterThan(10);
    expect(asked).toEqual(asked.map((_, at) => at + 1));
  });

  const timing = rfc7252Timing({ blockSize: 128 });

  it(clauses.name('7959/4/size2-zero'), () => {
    const requests = everything().filter((message) => message.code >> 5 === 0);
    const asked = requests.flatMap(({ options }) => options.filter(({ number }) => number === OPTION.size2));
    for (const { value } of asked) expect(value.every((byte) => byte === 0)).toBe(true);
  });

  it(clauses.name('7959/4/size2-ignored'), () => {
    const client = endpointWith();
    const { message, handle } = ask(client);
    const second = sent(answered(client, message, [block(2, 0, true, 16)], 16))[0]!;
    const last = answered(client, second, [block(2, 1, false, 16)], 3, 2);
    expect(last.events).toMatchObject([{ kind: 'response', handle }]);
  });

  it(clauses.name('7959/4/size-once'), () => {
    const messages = everything();
    for (const number of [OPTION.size1, OPTION.size2]) {
      const counts = messages.map(
        ({ options }) => options.filter((option) => option.number === number).length,
      );
      expect(Math.max(...counts)).toBeLessThanOrEqual(1);
    }
    expect(messages.some(({ options }) => options.some(({ number }) => number === OPTION.size1))).toBe(true);
  });

  it('has a test for each clause of the list', () => {
    expect(clauses.missing).toEqual([]);
  });
});

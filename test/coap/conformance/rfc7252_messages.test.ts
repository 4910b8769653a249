import { describe, expect, it } from 'vitest';
import { hex } from '../../../src/base/bytes.ts';
import type { CoapStep } from '../../../src/coap/api.ts';
import { decode, encode, NO_BYTES } from '../../../src/coap/message.ts';
import { OPTION, uintOption } from '../../../src/coap/options.ts';
import { rfc7252Timing } from '../../../src/coap/timing.ts';
import { Checklist, MESSAGES } from './clauses.ts';
import {
  ask,
  bytes,
  bytesOf,
  CONTENT,
  content,
  endpointWith,
  eventsOf,
  GET,
  get,
  leave,
  NOTHING,
  PATH,
  parsed,
  passing,
  requestIn,
  sent,
  summary,
  wanted,
} from './raw.ts';

const clauses = new Checklist(MESSAGES);

/** RFC 7252, section 4.8. */
const ACK_TIMEOUT = 2_000;
const ACK_RANDOM_FACTOR = 1.5;
const MAX_RETRANSMIT = 4;
const MAX_TRANSMIT_SPAN = 45_000;
const EXCHANGE_LIFETIME = 247_000;
const PROBING_RATE = 1;

/** A CON that is a format error gets a reset with its id, a NON nothing but that, other types nothing at all. */
function expectFormatError(con: string): void {
  const datagram = bytes(con);
  const id = (datagram[2]! << 8) | datagram[3]!;
  expect(decode(datagram).ok, con).toBe(false);
  const ofType = (type: number): CoapStep => {
    const copy = new Uint8Array(datagram);
    copy[0] = (copy[0]! & 0xcf) | (type << 4);
    return endpointWith().receive('client', copy, 0);
  };
  expect(sent(ofType(0)), con).toMatchObject([{ type: 'RST', code: 0, id }]);
  for (const { type } of sent(ofType(1))) expect(type).toBe('RST');
  for (const type of [2, 3]) expect(ofType(type), con).toMatchObject(NOTHING);
  for (const type of [0, 1, 2, 3]) expect(ofType(type).events, con).toEqual([]);
}

describe('RFC 7252, message format', () => {
  it(clauses.name('7252/3/version-sent'), () => {
    const endpoint = endpointWith();
    const steps = [
      ask(endpoint).step,
      endpoint.request('server', get, wanted, 0).step,
      endpoint.receive('server', bytesOf('CON', 0, 1), 0),
      endpoint.receive('server', bytesOf('CON', 31, 2), 0),
    ];
    const request = endpointWith().request('server', get, wanted, 0).step;
    const datagrams = [...steps, request].flatMap((step) => step.datagrams);
    expect(datagrams.length).toBeGreaterThan(2);
    expect(datagrams.map((one) => one.bytes[0]! >> 6)).toEqual(datagrams.map(() => 1));
  });

  it(clauses.name('7252/3/version-received'), () => {
    for (const first of ['00', '80', 'c0', '10', 'b0']) {
      const endpoint = endpointWith();
      expect(endpoint.receive('client', bytes(`${first} 01 00 01`), 0)).toMatchObject(NOTHING);
      expect(endpoint.held.peers).toBe(0);
    }
  });

  it(clauses.name('7252/3/token-length'), () => {
    // RFC 8974 has given 9 to 14 a meaning; 15 is what is left of the reserved ones.
    expectFormatError('4f 01 00 07 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f');
    expectFormatError('44 01 00 07 01 02 03');
    for (const tokenBytes of [2, 8]) {
      const { message } = ask(endpointWith({ tokenBytes }));
      expect(message.token).toHaveLength(tokenBytes);
    }
    expect(() => endpointWith({ tokenBytes: 15 })).toThrow();
  });

  it(clauses.name('7252/3/empty-payload'), () => {
    expectFormatError('40 01 00 07 ff');
    expectFormatError('41 01 00 07 aa b1 78 ff');
  });

  it(clauses.name('7252/3.1/option-order'), () => {
    const options = [
      uintOption(OPTION.size1, 5),
      { number: OPTION.uriQuery, value: Uint8Array.of(0x71) },
      PATH,
      { number: OPTION.ifNoneMatch, value: NO_BYTES },
      { number: 2049, value: NO_BYTES },
      { number: OPTION.uriPath, value: Uint8Array.of(0x79) },
    ];
    const message = { type: 'CON', code: GET, id: 7, token: NO_BYTES, options, payload: NO_BYTES } as const;
    // 5; 11 as 6, twice; 15 as 4; 60 as 45 = 13 + 32; 2049 as 1989 = 269 + 1720.
    const tail = hex(encode(message)).slice(8);
    expect(tail).toBe(['50', '6178', '0179', '4171', 'd12005', 'e006b8'].join(''));
  });

  it(clauses.name('7252/3.1/delta-15'), () => {
    for (const head of ['f0', 'f1', 'fe']) expectFormatError(`40 01 00 07 ${head} 01 02`);
  });

  it(clauses.name('7252/3.1/length-15'), () => {
    for (const head of ['0f', 'bf', 'df']) expectFormatError(`40 01 00 07 ${head} 01 02`);
  });

  it(clauses.name('7252/3.2/leading-zeros'), () => {
    // Block2 with number 1 of 16 bytes, in one byte and in three.
    const answers = ['d1 0a 10', 'd3 0a 00 00 10'].map((option) => {
      const server = endpointWith();
      const body = Uint8Array.from({ length: 40 }, (_, at) => at);
      const first = server.receive('client', bytes(`40 01 00 01 d1 0a 00`), 0);
      server.respond(requestIn(first).exchange, content(body), 0);
      const [block] = sent(server.receive('client', bytes(`40 01 00 02 ${option}`), 0));
      return block?.payload;
    });
    expect(answers[0]).toEqual(Uint8Array.from({ length: 16 }, (_, at) => 16 + at));
    expect(answers[1]).toEqual(answers[0]);
  });
});

describe('RFC 7252, message transmission', () => {
  it(clauses.name('7252/4.1/empty-sent'), () => {
    const endpoint = endpointWith();
    const reset = endpoint.receive('client', bytesOf('CON', 0, 0x0102), 0);
    const asked = endpoint.receive('client', bytesOf('CON', GET, 0x0304), 0);
    const acknowledged = endpoint.tick(asked.deadline!);
    expect([reset, acknowledged].flatMap((step) => step.datagrams.map((one) => hex(one.bytes)))).toEqual([
      '70000102',
      '60000304',
    ]);
  });

  it(clauses.name('7252/4.1/empty-received'), () => {
    for (const datagram of ['41 00 00 07 aa', '40 00 00 07 00', '40 00 00 07 ff 01', '42 00 00 07'])
      expectFormatError(datagram);
  });

  it(clauses.name('7252/4.2/con-answered'), () => {
    const [reset, answered] = [['RST 0.00'], ['ACK 4.05']];
    const cases: [Uint8Array, string[]][] = [
      [bytesOf('CON', 0, 1), reset],
      [bytesOf('CON', 0x20, 1), reset],
      [bytesOf('CON', 0x65, 1), reset],
      [bytesOf('CON', 0xc0, 1), reset],
      [bytesOf('CON', 0xe1, 1), reset],
      [bytesOf('CON', CONTENT, 1), reset],
      [bytes('40 01 00 01 ff'), reset],
      [bytesOf('CON', 30, 1), answered],
    ];
    for (const [datagram, expected] of cases) {
      expect(summary(endpointWith().receive('client', datagram, 0)), hex(datagram)).toEqual(expected);
    }
    const server = endpointWith();
    const asked = server.receive('client', bytesOf('CON', GET, 1), 0);
    expect(passing(server, asked, 10_000).sent.map((one) => hex(one.bytes))).toEqual(['60000001']);
  });

  it(clauses.name('7252/4.2/ack-id'), () => {
    for (const id of [0, 1, 0x00ff, 0xff00, 0xffff]) {
      const server = endpointWith();
      const asked = server.receive('client', bytesOf('CON', GET, id), 0);
      expect(sent(server.respond(requestIn(asked).exchange, content(), 0))).toMatchObject([
        { type: 'ACK', id },
      ]);
    }
  });

  it(clauses.name('7252/4.2/ack-content'), () => {
    const server = endpointWith();
    const first = server.receive('client', bytesOf('CON', GET, 1), 0);
    const acknowledgements = [
      ...sent(server.respond(requestIn(first).exchange, content(), 0)),
      ...sent(server.receive('client', bytesOf('CON', 31, 2), 0)),
      ...sent(
        server.receive('client', bytesOf('CON', GET, 3, { options: [{ number: 9, value: NO_BYTES }] }), 0),
      ),
      ...sent(server.tick(server.receive('client', bytesOf('CON', GET, 4), 0).deadline!)),
    ];
    expect(acknowledgements.map(({ type, code }) => [type, code >> 5])).toEqual([
      ['ACK', 2],
      ['ACK', 4],
      ['ACK', 4],
      ['ACK', 0],
    ]);
    expect(acknowledgements.at(-1)?.code).toBe(0);
  });

  it(clauses.name('7252/4.2/rst-id'), () => {
    for (const id of [0, 1, 0x00ff, 0xff00, 0xffff]) {
      for (const code of [0, CONTENT, 0xe1]) {
        const step = endpointWith().receive('client', bytesOf('CON', code, id), 0);
        expect(sent(step)).toMatchObject([{ type: 'RST', id }]);
      }
    }
  });

  it(clauses.name('7252/4.2/rst-empty'), () => {
    const rejected = [
      bytesOf('CON', 0, 1),
      bytesOf('CON', CONTENT, 1, { payload: Uint8Array.of(1) }),
      bytesOf('CON', 0xe1, 1, { options: [PATH] }),
      bytes('48 45 00 01 01 02 03 04 05 06 07 08 ff'),
    ];
    for (const datagram of rejected) {
      const [reset] = endpointWith().receive('client', datagram, 0).datagrams;
      expect(hex(reset!.bytes)).toBe('70000001');
    }
  });

  it(clauses.name('7252/4.2/ack-rst-unanswered'), () => {
    const endpoint = endpointWith();
    const { message } = ask(endpoint);
    const { id, token } = message;
    const contents = [
      bytesOf('ACK', 0, 99),
      bytesOf('RST', 0, 99),
      bytesOf('ACK', CONTENT, 99),
      bytesOf('ACK', GET, 99, { options: [PATH] }),
      bytesOf('ACK', 0xe1, 99),
      bytesOf('RST', GET, 99),
      bytesOf('RST', CONTENT, id, { token }),
      bytesOf('ACK', GET, id, { token }),
      bytesOf('ACK', 0xe1, id, { token }),
      bytesOf('ACK', CONTENT, id, { token: Uint8Array.of(1, 2, 3) }),
      bytesOf('ACK', CONTENT, id, { token, options: [{ number: 9, value: NO_BYTES }] }),
      bytes('60 45 00 63 ff'),
      bytes('70 00 00 63 00'),
    ];
    for (const datagram of contents) {
      expect(endpoint.receive('server', datagram, 1).datagrams, hex(datagram)).toEqual([]);
    }
  });

  it(clauses.name('7252/4.2/timer-and-counter'), () => {
    const client = endpointWith();
    const { handle, step } = ask(client);
    const first = step.deadline!;
    expect(first).toBeGreaterThanOrEqual(ACK_TIMEOUT);
    expect(first).toBeLessThanOrEqual(ACK_TIMEOUT * ACK_RANDOM_FACTOR);
    const { sent: copies, events } = passing(client, step, 600_000);
    expect(copies).toHaveLength(MAX_RETRANSMIT);
    const gaps = [0, ...copies.map(({ at }) => at)].map((at, n, all) => at - (all[n - 1] ?? 0)).slice(1);
    for (const [n, gap] of gaps.entries()) {
      expect(gap).toBeGreaterThanOrEqual(ACK_TIMEOUT * 2 ** n);
      expect(gap).toBeLessThanOrEqual(ACK_TIMEOUT * ACK_RANDOM_FACTOR * 2 ** n);
    }
    expect(events.filter((event) => event.kind === 'failed')).toEqual([
      { kind: 'failed', handle, reason: 'timeout' },
    ]);
  });

  it(clauses.name('7252/4.2/transmit-span'), () => {
    for (let late = 0; late <= 60_000; late += 7_000) {
      const client = endpointWith();
      let { step } = ask(client);
      let last = 0;
      while (step.deadline !== null && step.deadline < 600_000) {
        const at = step.deadline + late;
        step = client.tick(at);
        if (step.datagrams.length > 0) last = at;
        step = leave(client, step, at);
      }
      expect(last, `timers ${late} ms late`).toBeLessThanOrEqual(MAX_TRANSMIT_SPAN);
    }
  });

  it(clauses.name('7252/4.2/ack-state'), () => {
    const server = endpointWith();
    const request = bytesOf('CON', GET, 1);
    const { exchange } = requestIn(server.receive('client', request, 0));
    server.tick(1_000);
    const answer = server.respond(exchange, content(), 2_000);
    leave(server, answer, 2_000);
    const [response] = sent(answer);
    server.receive('client', bytesOf('ACK', 0, response!.id), 2_100);
    const copy = server.receive('client', request, 2_200);
    expect(copy.datagrams.map((one) => hex(one.bytes))).toEqual(['60000001']);
    expect(copy.events).toEqual([]);
  });

  it(clauses.name('7252/4.3/non-not-empty'), () => {
    const server = endpointWith();
    const asked = server.receive('client', bytesOf('NON', GET, 1), 0);
    const steps = [
      server.respond(requestIn(asked).exchange, content(), 0),
      server.receive('client', bytesOf('NON', 0, 2), 0),
      server.receive('client', bytesOf('NON', 31, 3), 0),
    ];
    const others = steps.flatMap(sent).filter(({ type }) => type === 'NON');
    expect(others.length).toBeGreaterThan(0);
    for (const { code } of others) expect(code).not.toBe(0);
  });

  it(clauses.name('7252/4.3/non-not-acknowledged'), () => {
    const server = endpointWith();
    const asked = server.receive('client', bytesOf('NON', GET, 1), 0);
    const again = server.receive('client', bytesOf('NON', GET, 1), 500);
    const waited = passing(server, again, 60_000).sent.map((one) => parsed(one.bytes));
    const answered = sent(server.respond(requestIn(asked).exchange, content(), 61_000));
    const all = [...sent(asked), ...sent(again), ...waited, ...answered];
    expect(all.filter(({ type }) => type === 'ACK')).toEqual([]);
    expect(answered).toMatchObject([{ type: 'NON' }]);
  });

  const senseless = [
    bytesOf('NON', 0, 1),
    bytesOf('NON', 0x21, 1),
    bytesOf('NON', 0xc1, 1),
    bytesOf('NON', 0xe1, 1),
    bytesOf('NON', CONTENT, 1),
    bytes('50 01 00 01 ff'),
    bytes('51 00 00 01 aa'),
  ];

  it(clauses.name('7252/4.3/non-rejected'), () => {
    for (const datagram of senseless) {
      expect(endpointWith().receive('client', datagram, 0).events, hex(datagram)).toEqual([]);
    }
  });

  it(clauses.name('7252/4.3/non-silently'), () => {
    for (const datagram of senseless) {
      const endpoint = endpointWith();
      const step = endpoint.receive('client', datagram, 0);
      for (const one of step.datagrams) expect(hex(one.bytes)).toBe('70000001');
      expect(step.datagrams.length).toBeLessThanOrEqual(1);
      expect(passing(endpoint, step, 600_000)).toEqual({ sent: [], events: [] });
    }
  });

  it(clauses.name('7252/4.4/id-echoed'), () => {
    const endpoint = endpointWith();
    const confirmable = endpoint.receive('client', bytesOf('CON', CONTENT, 0x4321), 0);
    const other = endpoint.receive('client', bytesOf('NON', CONTENT, 0x1234), 0);
    expect(sent(confirmable)).toMatchObject([{ type: 'RST', id: 0x4321 }]);
    // A reset is optional here.
    for (const { id } of sent(other)) expect(id).toBe(0x1234);
    const server = endpointWith();
    const acknowledged = server.tick(server.receive('client', bytesOf('CON', GET, 0xabcd), 0).deadline!);
    expect(sent(acknowledged)).toMatchObject([{ type: 'ACK', id: 0xabcd }]);
  });

  it(clauses.name('7252/4.4/id-reuse'), () => {
    const client = endpointWith();
    const lastUse = new Map<number, number>();
    let earliest = Number.POSITIVE_INFINITY;
    // Requests that are rejected at once, so that ids are used faster than they get free.
    for (let n = 0; n < 70_000; n++) {
      const now = n * 2;
      const { step } = client.request('server', get, { deadline: now + 1_000, priority: 1 }, now);
      for (const one of step.datagrams) {
        const { id } = parsed(one.bytes);
        earliest = Math.min(earliest, now - (lastUse.get(id) ?? Number.NEGATIVE_INFINITY));
        lastUse.set(id, now);
        client.receive('server', bytesOf('RST', 0, id), now);
      }
    }
    expect(lastUse.size).toBeGreaterThan(60_000);
    expect(earliest).toBeGreaterThanOrEqual(EXCHANGE_LIFETIME);
  });

  it(clauses.name('7252/4.4/reply-matching'), () => {
    const client = endpointWith();
    const { handle, message } = ask(client);
    const { id } = message;
    for (const [peer, other] of [
      ['server', id ^ 1],
      ['elsewhere', id],
    ] as const) {
      for (const type of ['ACK', 'RST'] as const) {
        expect(client.receive(peer, bytesOf(type, 0, other), 1)).toMatchObject(NOTHING);
      }
    }
    expect(client.receive('server', bytesOf('RST', 0, id), 2).events).toEqual([
      { kind: 'failed', handle, reason: 'reset' },
    ]);
  });

  it(clauses.name('7252/4.7/nstart'), () => {
    for (const confirmable of [true, false]) {
      const client = endpointWith();
      const first = ask(client, 0, { confirmable });
      const second = client.request('server', get, { ...wanted, confirmable }, 0);
      expect(second.step.datagrams, confirmable ? 'CON' : 'NON').toEqual([]);
      const { id, token } = first.message;
      const response = confirmable
        ? bytesOf('ACK', CONTENT, id, { token })
        : bytesOf('NON', CONTENT, 77, { token });
      const answered = client.receive('server', response, 100);
      expect(eventsOf(answered, 'response')).toMatchObject([{ handle: first.handle }]);
      expect(sent(answered)).toMatchObject([{ type: confirmable ? 'CON' : 'NON', code: GET }]);
    }
  });

  it(clauses.name('7252/4.7/probing-rate'), () => {
    const client = endpointWith();
    let total = 0;
    // An application that always has one more to ask, of a server that is not there.
    for (let now = 0; now < 4 * 3_600_000; now += 1_000) {
      const options = { deadline: now + 30_000, priority: 1, confirmable: false } as const;
      const steps = [
        { at: now, step: client.request('server', get, options, now).step },
        { at: now + 500, step: client.tick(now + 500) },
      ];
      for (const { at, step } of steps) {
        for (const one of step.datagrams) {
          // At no moment has more gone out than the rate allows until then.
          expect(total).toBeLessThanOrEqual((PROBING_RATE * at) / 1_000);
          total += one.bytes.length;
        }
        leave(client, step, at);
      }
    }
    expect(total).toBeGreaterThan(1_000);
  });

  it(clauses.name('7252/4.8.1/ack-timeout'), () => {
    const timing = rfc7252Timing();
    expect(timing.nstart).toBe(1);
    for (const random of [0, 0.25, 0.5, 0.999]) {
      expect(timing.retransmitAfter(0, 100, random)).toBeGreaterThanOrEqual(ACK_TIMEOUT);
    }
  });

  it(clauses.name('7252/4.8.1/random-factor'), () => {
    const timing = rfc7252Timing();
    const [least, most] = [0, 1 - 2 ** -32].map((random) => timing.retransmitAfter(0, 100, random));
    expect(least).toBe(ACK_TIMEOUT);
    expect(most! / least!).toBeCloseTo(ACK_RANDOM_FACTOR, 6);
  });

  it('has a test for each clause of the list', () => {
    expect(clauses.missing).toEqual([]);
  });
});

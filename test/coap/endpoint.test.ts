import { describe, expect, it } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { CoapConfig, CoapEvent, CoapStep } from '../../src/coap/api.ts';
import { blockOption } from '../../src/coap/block.ts';
import { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { decode, encode, type Message } from '../../src/coap/message.ts';
import { OPTION, type Option, stringOption, uintOption } from '../../src/coap/options.ts';
import { rfc7252Timing } from '../../src/coap/timing.ts';

const none = new Uint8Array(0);
const PATH = stringOption(OPTION.uriPath, 'x');
const CONTENT = 0x45;

const endpointWith = (config: Partial<CoapConfig> = {}): CoapEndpoint =>
  new CoapEndpoint({ random: seededRandom(7), timing: () => rfc7252Timing(), ...config });

const message = (type: Message['type'], code: number, id: number, rest: Partial<Message> = {}): Uint8Array =>
  encode({
    type,
    code,
    id,
    token: code === 0 ? none : Uint8Array.of(9),
    options: [],
    payload: none,
    ...rest,
  });

/** The messages that a step sends. */
function sent(step: CoapStep): Message[] {
  return step.datagrams.map(({ bytes }) => {
    const result = decode(bytes);
    if (!result.ok) throw new Error(result.problem.reason);
    const options = result.value.options.map(({ number, value }) => ({ number, value }));
    return { ...result.value, options };
  });
}

const summary = (step: CoapStep): string[] =>
  sent(step).map(({ type, code }) => `${type} ${code >> 5}.${code & 31}`);

function exchangeOf(step: CoapStep): number {
  const event = step.events.find((one) => one.kind === 'request');
  if (event?.kind !== 'request') throw new Error('no request was delivered');
  return event.exchange;
}

const requests = (step: CoapStep): CoapEvent[] => step.events.filter(({ kind }) => kind === 'request');
const content = (payload: Uint8Array, options: readonly Option[] = []) => ({
  code: CONTENT,
  options,
  payload,
});
const get = { code: 1, options: [PATH], payload: none };
const wanted = { deadline: 60_000, priority: 1 } as const;
const size = { num: 0, more: true, size: 16 } as const;
const block1 = (num: number, more: boolean): Option => blockOption(OPTION.block1, { ...size, num, more });

describe('a server', () => {
  // client                server
  //   CON GET [1] ────────>        handler works
  //   CON GET [1] ────────>        no second event
  //          <──────── ACK [1]
  //          <──────── CON 2.05    separately
  it('acknowledges a copy while the handler works, and delivers the request once', () => {
    const server = endpointWith();
    const first = server.receive('c', message('CON', 1, 1, { options: [PATH] }), 0);
    const exchange = exchangeOf(first);
    expect(first.datagrams).toEqual([]);
    const copy = server.receive('c', message('CON', 1, 1, { options: [PATH] }), 10);
    expect(requests(copy)).toEqual([]);
    expect(summary(copy)).toEqual(['ACK 0.0']);
    const answer = server.respond(exchange, content(utf8('hi')), 20);
    expect(summary(answer)).toEqual(['CON 2.5']);
    expect(sent(answer)[0]).toMatchObject({ token: Uint8Array.of(9), payload: utf8('hi') });
    expect(summary(server.receive('c', message('CON', 1, 1, { options: [PATH] }), 30))).toEqual(['ACK 0.0']);
  });

  it('piggybacks an answer in time, and repeats it to the byte for a copy', () => {
    const server = endpointWith();
    const exchange = exchangeOf(server.receive('c', message('CON', 1, 1), 0));
    const answer = server.respond(exchange, content(utf8('hi')), 500);
    expect(summary(answer)).toEqual(['ACK 2.5']);
    const copy = server.receive('c', message('CON', 1, 1), 2_000);
    expect(copy.datagrams[0]?.bytes).toEqual(answer.datagrams[0]?.bytes);
    expect(requests(copy)).toEqual([]);
    expect(server.counters.duplicates).toBe(1);
  });

  it('acknowledges empty after separateAfter, and sends the separate answer until it is acknowledged', () => {
    const server = endpointWith();
    const first = server.receive('c', message('CON', 1, 1), 0);
    expect(first.deadline).toBe(1_000);
    expect(summary(server.tick(1_000))).toEqual(['ACK 0.0']);
    const answer = server.respond(exchangeOf(first), content(utf8('late')), 5_000);
    const again = server.left(answer.datagrams[0]!.receipt!, 5_000);
    const resent = server.tick(again.deadline!);
    expect(resent.datagrams[0]?.bytes).toEqual(answer.datagrams[0]?.bytes);
    expect(resent.events).toEqual([{ kind: 'unanswered', peer: 'c', attempts: 1 }]);
    server.left(resent.datagrams[0]!.receipt!, 9_000);
    server.receive('c', message('ACK', 0, sent(answer)[0]!.id), 9_500);
    expect(server.tick(60_000).datagrams).toEqual([]);
  });

  it('answers a NON with a NON and its copy with nothing', () => {
    const server = endpointWith();
    const exchange = exchangeOf(server.receive('c', message('NON', 1, 1), 0));
    expect(summary(server.respond(exchange, content(none), 5_000))).toEqual(['NON 2.5']);
    expect(server.receive('c', message('NON', 1, 1), 6_000)).toMatchObject({ datagrams: [], events: [] });
  });

  it('delivers a message id again once its lifetime is over', () => {
    const server = endpointWith();
    server.respond(exchangeOf(server.receive('c', message('CON', 1, 1), 0)), content(none), 0);
    expect(requests(server.receive('c', message('CON', 1, 1), 246_000))).toHaveLength(0);
    expect(requests(server.receive('c', message('CON', 1, 1), 246_000 + 247_000))).toHaveLength(1);
  });

  it.each([
    ['an unknown critical option', message('CON', 1, 1, { options: [{ number: 9, value: none }] }), '4.2'],
    [
      'a critical option that is too long',
      message('CON', 1, 1, { options: [{ number: 11, value: new Uint8Array(256) }] }),
      '4.2',
    ],
    [
      'If-Match, which nobody here acts on',
      message('CON', 3, 1, { options: [{ number: 1, value: none }] }),
      '4.2',
    ],
    ['Proxy-Uri', message('CON', 1, 1, { options: [stringOption(35, 'coap://x')] }), '5.5'],
    ['an unknown method', message('CON', 31, 1), '4.5'],
    ['the reserved block size', message('CON', 3, 1, { options: [uintOption(OPTION.block1, 7)] }), '4.0'],
    [
      'a block of the wrong length',
      message('CON', 3, 1, { options: [block1(0, true)], payload: new Uint8Array(15) }),
      '4.0',
    ],
    [
      'a block without those before it',
      message('CON', 3, 1, { options: [block1(2, true)], payload: new Uint8Array(16) }),
      '4.8',
    ],
    [
      'a body announced as too large',
      message('CON', 3, 1, {
        options: [block1(0, true), uintOption(60, 2 ** 30)],
        payload: new Uint8Array(16),
      }),
      '4.13',
    ],
  ])('refuses %s by itself', (_name, bytes, code) => {
    const step = endpointWith().receive('c', bytes, 0);
    expect(summary(step)).toEqual([`ACK ${code}`]);
    expect(step.events).toEqual([]);
  });

  it('rejects in silence a NON with an unknown critical option, and takes a critical one that the application knows', () => {
    const bad = message('NON', 1, 1, { options: [{ number: 9, value: none }] });
    expect(endpointWith().receive('c', bad, 0)).toMatchObject({ datagrams: [], events: [] });
    expect(requests(endpointWith({ understood: [9] }).receive('c', bad, 0))).toHaveLength(1);
  });

  it('answers a ping and a malformed CON with RST, and everything else that makes no sense with nothing', () => {
    const server = endpointWith();
    expect(summary(server.receive('c', message('CON', 0, 5), 0))).toEqual(['RST 0.0']);
    expect(summary(server.receive('c', Uint8Array.of(0x40, 1, 0, 1, 0xff), 0))).toEqual(['RST 0.0']);
    expect(summary(server.receive('c', message('CON', 0xe1, 6), 0))).toEqual(['RST 0.0']);
    const silent = [
      message('RST', 0, 1),
      message('ACK', 0, 1),
      message('NON', 0, 2),
      message('ACK', CONTENT, 3),
      message('NON', CONTENT, 4),
      Uint8Array.of(0x80, 1, 0, 1),
      none,
    ];
    for (const bytes of silent)
      expect(server.receive('c', bytes, 0)).toMatchObject({ datagrams: [], events: [] });
    expect(server.held.peers).toBe(1);
  });

  it('keeps transfers apart by Request-Tag, whatever their tokens, and assembles each atomically', () => {
    const server = endpointWith();
    const put = (id: number, tag: number, num: number, more: boolean, fill: number): CoapStep =>
      server.receive(
        'c',
        message('CON', 3, id, {
          token: Uint8Array.of(id),
          options: [PATH, block1(num, more), uintOption(OPTION.requestTag, tag)],
          payload: new Uint8Array(more ? 16 : 3).fill(fill),
        }),
        0,
      );
    expect(summary(put(1, 1, 0, true, 1))).toEqual(['ACK 2.31']);
    expect(summary(put(2, 2, 0, true, 2))).toEqual(['ACK 2.31']);
    const one = put(3, 1, 1, false, 1).events[0];
    const two = put(4, 2, 1, false, 2).events[0];
    expect(one).toMatchObject({ request: { payload: new Uint8Array(19).fill(1), options: [PATH] } });
    expect(two).toMatchObject({ request: { payload: new Uint8Array(19).fill(2) } });
    expect(server.held.assembling).toBe(0);
  });

  it('asks for smaller blocks than it is offered, and goes on where those begin', () => {
    const server = endpointWith({ timing: () => rfc7252Timing({ blockSize: 32 }) });
    const options = [blockOption(OPTION.block1, { num: 0, more: true, size: 128 })];
    const step = server.receive('c', message('CON', 3, 1, { options, payload: new Uint8Array(128) }), 0);
    expect(sent(step)[0]?.options).toEqual([blockOption(OPTION.block1, { num: 0, more: true, size: 32 })]);
    const rest = [blockOption(OPTION.block1, { num: 4, more: false, size: 32 })];
    const last = server.receive('c', message('CON', 3, 2, { options: rest, payload: new Uint8Array(1) }), 0);
    expect(last.events[0]).toMatchObject({ request: { payload: new Uint8Array(129) } });
  });

  it('serves the blocks of a large answer from one execution, with one ETag', () => {
    const server = endpointWith();
    const ask = (id: number, num: number, more = {}): CoapStep =>
      server.receive(
        'c',
        message('CON', 2, id, {
          options: [PATH, blockOption(OPTION.block2, { num, more: false, size: 64 })],
          ...more,
        }),
        0,
      );
    const answer = server.respond(exchangeOf(ask(1, 0)), content(new Uint8Array(150).fill(7)), 0);
    const second = ask(2, 1);
    const third = ask(3, 2);
    expect([answer, second, third].map((step) => sent(step)[0]?.payload.length)).toEqual([64, 64, 22]);
    expect([...requests(second), ...requests(third)]).toEqual([]);
    const tags = [answer, second, third].map(
      (step) => sent(step)[0]?.options.find((one) => one.number === OPTION.eTag)?.value,
    );
    expect(tags[1]).toEqual(tags[0]);
    expect(tags[2]).toEqual(tags[0]);
    expect(summary(ask(4, 3))).toEqual(['ACK 4.0']);
    // Another client, and what is not kept: a POST is not done again for the sake of a block.
    expect(
      summary(
        server.receive(
          'd',
          message('CON', 2, 4, {
            options: [PATH, blockOption(OPTION.block2, { num: 1, more: false, size: 64 })],
          }),
          0,
        ),
      ),
    ).toEqual(['ACK 4.8']);
  });

  it('does not let the late answer to an older request take the place of a newer one that is being fetched', () => {
    const server = endpointWith({ timing: () => rfc7252Timing({ blockSize: 16 }) });
    const older = exchangeOf(server.receive('c', message('CON', 2, 1), 0));
    const newer = exchangeOf(server.receive('c', message('CON', 2, 2), 0));
    server.respond(newer, content(new Uint8Array(40).fill(2)), 1);
    server.respond(older, content(new Uint8Array(40).fill(1)), 2);
    const options = [blockOption(OPTION.block2, { num: 1, more: false, size: 16 })];
    const next = server.receive('c', message('CON', 2, 3, { options }), 3);
    expect(sent(next)[0]?.payload).toEqual(new Uint8Array(16).fill(2));
  });

  it('forgets the oldest replies beyond its bytes, and resets their copies instead of doing them again', () => {
    const server = endpointWith({ limits: { replyBytes: 100 } });
    for (let id = 1; id <= 4; id++) {
      server.respond(
        exchangeOf(server.receive('c', message('CON', 2, id), 0)),
        content(new Uint8Array(40)),
        0,
      );
    }
    const oldest = server.receive('c', message('CON', 2, 1), 1);
    expect(summary(oldest)).toEqual(['RST 0.0']);
    expect(oldest.events).toEqual([]);
    expect(summary(server.receive('c', message('CON', 2, 4), 1))).toEqual(['ACK 2.5']);
    expect(server.held.replyBytes).toBeLessThanOrEqual(100);
    expect(server.counters.shed).toBeGreaterThan(0);
  });

  it('answers 5.03 beyond its open exchanges and drops messages beyond what it can remember', () => {
    const server = endpointWith({ limits: { exchangesPerPeer: 1, rememberedPerPeer: 3, peers: 2 } });
    server.receive('c', message('CON', 1, 1), 0);
    expect(summary(server.receive('c', message('CON', 1, 2), 0))).toEqual(['ACK 5.3']);
    server.receive('c', message('CON', 1, 3), 0);
    expect(server.receive('c', message('CON', 1, 4), 0)).toMatchObject({ datagrams: [], events: [] });
    expect(requests(server.receive('d', message('CON', 1, 1), 0))).toHaveLength(1);
    expect(server.receive('e', message('CON', 1, 1), 0)).toMatchObject({ datagrams: [], events: [] });
    // Two answers of 5.03, a message too many, a peer too many.
    expect(server.counters.refused).toBe(4);
  });

  it('forgets what a restarted peer sent before: the same message id is new, and its old exchange goes nowhere', () => {
    const server = endpointWith();
    const exchange = exchangeOf(server.receive('c', message('CON', 2, 1), 0));
    server.restarted('c', 1);
    expect(server.respond(exchange, content(none), 2).datagrams).toEqual([]);
    expect(requests(server.receive('c', message('CON', 2, 1), 3))).toHaveLength(1);
  });
});

describe('a client', () => {
  // client                server
  //   CON GET ───────────>
  //          lost ─── ACK
  //          <──────── CON 2.05
  //   ACK ──────────────>          and again for each copy
  it('takes a separate answer that comes before the acknowledgement, and acknowledges every copy of it', () => {
    const client = endpointWith();
    const { handle, step } = client.request('s', get, wanted, 0);
    const { token, id } = sent(step)[0]!;
    client.left(step.datagrams[0]!.receipt!, 0);
    const separate = message('CON', CONTENT, 77, { token, payload: utf8('hi') });
    const answered = client.receive('s', separate, 100);
    expect(summary(answered)).toEqual(['ACK 0.0']);
    expect(answered.events).toEqual([
      { kind: 'response', handle, response: content(utf8('hi')), observing: false },
    ]);
    const copy = client.receive('s', separate, 200);
    expect(summary(copy)).toEqual(['ACK 0.0']);
    expect(copy.events).toEqual([]);
    expect(client.receive('s', message('ACK', 0, id), 300)).toMatchObject({ datagrams: [], events: [] });
    expect(client.tick(50_000)).toMatchObject({ datagrams: [], events: [] });
  });

  it('stops sending once acknowledged, and fails at its deadline where no answer follows', () => {
    const client = endpointWith();
    const { handle, step } = client.request('s', get, wanted, 0);
    client.left(step.datagrams[0]!.receipt!, 0);
    client.receive('s', message('ACK', 0, sent(step)[0]!.id), 100);
    expect(client.tick(59_000)).toMatchObject({ datagrams: [], events: [] });
    expect(client.tick(60_000).events).toEqual([{ kind: 'failed', handle, reason: 'timeout' }]);
  });

  describe('that was promised an answer', () => {
    const patient = { deadline: 5_000_000, priority: 1 } as const;
    const acknowledgedAt = (now: number, client: CoapEndpoint) => {
      const { handle, step } = client.request('s', get, patient, now);
      client.left(step.datagrams[0]!.receipt!, now);
      return { handle, token: sent(step)[0]!.token, step: client.receive('s', ack(step), now) };
    };
    const ack = (step: CoapStep): Uint8Array => message('ACK', 0, sent(step)[0]!.id);
    const pong = (step: CoapStep): Uint8Array => message('RST', 0, sent(step)[0]!.id);

    // client                server
    //   CON GET ───────────>
    //          <──────── ACK
    //   CON empty ─────────>           after 60 s, 120 s …
    //          <──────── RST
    //          <──────── CON 2.05
    it('asks now and then, one ping at a time, whether the server lives, until the answer comes', () => {
      const client = endpointWith();
      const server = endpointWith();
      let { token, step } = acknowledgedAt(0, client);
      acknowledgedAt(0, client);
      const gaps: number[] = [];
      for (let pongAt = 0; gaps.length < 6; ) {
        expect(step.events).toEqual([]);
        const now = step.deadline!;
        step = client.tick(now);
        if (step.datagrams.length === 0) continue;
        gaps.push(now - pongAt);
        expect(step.datagrams).toMatchObject([{ bytes: { length: 4 }, label: 'CON ping' }]);
        client.left(step.datagrams[0]!.receipt!, now);
        pongAt = now + 100;
        const answer = server.receive('c', step.datagrams[0]!.bytes, pongAt);
        expect(answer.events).toEqual([]);
        step = client.receive('s', answer.datagrams[0]!.bytes, pongAt);
      }
      expect(gaps).toEqual([60_000, 120_000, 240_000, 480_000, 600_000, 600_000]);
      expect(client.receive('s', message('CON', CONTENT, 70, { token }), 2_200_000).events).toHaveLength(1);
      expect(client.counters.probes).toBe(6);
    });

    it('sends nothing once the last such request has ended, also with a ping on its way', () => {
      for (const pingFirst of [false, true]) {
        const client = endpointWith();
        const { handle } = acknowledgedAt(0, client);
        if (pingFirst) expect(client.tick(60_000).datagrams).toHaveLength(1);
        expect(client.cancel(handle, 60_000).events).toHaveLength(1);
        const after = client.tick(4_000_000);
        expect(after).toMatchObject({ datagrams: [], events: [], deadline: null });
        expect(client.held.peers).toBe(0);
      }
    });

    it('reports pings without an answer, asks again later, and fails at the deadline only', () => {
      const client = endpointWith();
      let { handle, step } = acknowledgedAt(0, client);
      const attempts: number[] = [];
      const failed: CoapEvent[] = [];
      while (failed.length === 0) {
        const now = step.deadline!;
        step = client.tick(now);
        for (const event of step.events) {
          if (event.kind === 'unanswered') attempts.push(event.attempts);
          else failed.push(event);
        }
        for (const { receipt } of step.datagrams) step = client.left(receipt!, now);
      }
      expect(attempts.slice(0, 7)).toEqual([1, 2, 3, 4, 5, 1, 2]);
      expect(failed).toEqual([{ kind: 'failed', handle, reason: 'timeout' }]);
    });

    it('lets a message take the place of a ping, and asks again after its acknowledgement', () => {
      const client = endpointWith();
      acknowledgedAt(0, client);
      const ping = client.tick(60_000);
      const { step } = client.request('s', get, patient, 60_001);
      expect(summary(step)).toEqual(['CON 0.1']);
      expect(client.receive('s', pong(ping), 60_002)).toMatchObject({ datagrams: [], events: [] });
      client.receive('s', ack(step), 61_000);
      expect(client.tick(120_999).datagrams).toEqual([]);
      expect(client.tick(121_000).datagrams).toMatchObject([{ label: 'CON ping' }]);
    });

    it('pings no longer after a restart of the server, which gets the request again instead', () => {
      const client = endpointWith();
      acknowledgedAt(0, client);
      client.tick(60_000);
      const again = client.restarted('s', 61_000);
      expect(again.datagrams).toMatchObject([{ label: 'CON GET' }]);
      // It waits to leave, and beside clearing up every minute nothing is due.
      const due: (number | null)[] = [];
      for (let { deadline } = again; deadline! < 184_000; { deadline } = client.tick(deadline!))
        due.push(deadline);
      expect(due).toEqual([120_000, 180_000]);
      expect(client.counters.probes).toBe(1);
    });
  });

  it('starts its timer when the datagram has left, backs off, and gives up after the fourth copy', () => {
    const client = endpointWith({
      timing: () => ({ ...rfc7252Timing(), retransmitAfter: (n: number) => 2_000 * 2 ** n }),
    });
    const { handle, step } = client.request('s', get, { deadline: 1_000_000, priority: 1 }, 0);
    // In the pacer for a minute: nothing happens.
    expect(client.tick(59_999).datagrams).toEqual([]);
    let last = client.left(step.datagrams[0]!.receipt!, 59_999);
    const at: number[] = [];
    const events: CoapEvent[] = [];
    for (let n = 0; n < 10 && last.deadline !== null && last.deadline < 900_000; n++) {
      const now = last.deadline;
      last = client.tick(now);
      events.push(...last.events);
      for (const { receipt } of last.datagrams) {
        at.push(now);
        last = client.left(receipt!, now);
      }
      if (events.some(({ kind }) => kind === 'failed')) break;
    }
    expect(at.map((now) => now - 59_999)).toEqual([2_000, 6_000, 14_000, 30_000].filter((t) => t));
    expect(events).toEqual([
      ...[1, 2, 3, 4, 5].map((attempts) => ({ kind: 'unanswered', peer: 's', attempts })),
      { kind: 'failed', handle, reason: 'timeout' },
    ]);
  });

  it('fails at its deadline even where the datagram never leaves', () => {
    const client = endpointWith();
    const { handle } = client.request('s', get, wanted, 0);
    const second = client.request('s', get, { deadline: 5_000, priority: 1 }, 0);
    expect(client.tick(5_000).events).toEqual([{ kind: 'failed', handle: second.handle, reason: 'timeout' }]);
    expect(client.tick(60_000).events).toEqual([{ kind: 'failed', handle, reason: 'timeout' }]);
  });

  it('fails on RST, and resets an answer that nobody waits for', () => {
    const client = endpointWith();
    const { handle, step } = client.request('s', get, wanted, 0);
    const { id, token } = sent(step)[0]!;
    expect(client.receive('s', message('RST', 0, id), 1).events).toEqual([
      { kind: 'failed', handle, reason: 'reset' },
    ]);
    expect(summary(client.receive('s', message('CON', CONTENT, 5, { token }), 2))).toEqual(['RST 0.0']);
    expect(client.receive('s', message('NON', CONTENT, 6, { token }), 2).datagrams).toEqual([]);
  });

  it('takes a piggybacked answer only with its own token and from its own peer', () => {
    const client = endpointWith();
    const { step } = client.request('s', get, wanted, 0);
    const { id, token } = sent(step)[0]!;
    expect(client.receive('s', message('ACK', CONTENT, id, { token: Uint8Array.of(1) }), 1).events).toEqual(
      [],
    );
    expect(client.receive('t', message('ACK', CONTENT, id, { token }), 1).events).toEqual([]);
    expect(client.receive('s', message('ACK', 1, id, { token }), 1).events).toEqual([]);
    expect(client.receive('s', message('ACK', CONTENT, id, { token }), 1).events).toHaveLength(1);
  });

  it('rejects an answer with an unknown critical option: RST for a CON, and the request has failed', () => {
    for (const type of ['CON', 'ACK'] as const) {
      const client = endpointWith();
      const { handle, step } = client.request('s', get, wanted, 0);
      const { id, token } = sent(step)[0]!;
      const options = [{ number: 65_001, value: none }];
      const result = client.receive(
        's',
        message(type, CONTENT, type === 'ACK' ? id : 9, { token, options }),
        1,
      );
      expect(summary(result)).toEqual(type === 'CON' ? ['RST 0.0'] : []);
      expect(result.events).toEqual([{ kind: 'failed', handle, reason: 'bad_response' }]);
    }
  });

  it('keeps NSTART, and sends what waits by priority, then by age', () => {
    const client = endpointWith();
    const priorities = [4, 1, 5, 1, 0] as const;
    const steps = priorities.map((priority) => {
      const request = { code: 1, options: [uintOption(OPTION.accept, priority)], payload: none };
      return client.request('s', request, { deadline: 60_000, priority }, 0).step;
    });
    expect(steps.map(({ datagrams }) => datagrams.length)).toEqual([1, 0, 0, 0, 0]);
    const order: number[] = [];
    let step = steps[0]!;
    while (step.datagrams.length > 0) {
      order.push(step.datagrams[0]!.priority);
      const { id, token } = sent(step)[0]!;
      step = client.receive('s', message('ACK', CONTENT, id, { token }), 1);
    }
    expect(order).toEqual([4, 0, 1, 1, 5]);
  });

  it('refuses requests beyond its bounds, and cancels', () => {
    const client = endpointWith({ limits: { requestsPerPeer: 1, bodyBytes: 100 } });
    const large = client.request('s', { ...get, payload: new Uint8Array(101) }, wanted, 0);
    expect(large.step.events).toEqual([{ kind: 'failed', handle: large.handle, reason: 'too_large' }]);
    const first = client.request('s', get, wanted, 0);
    const second = client.request('s', get, wanted, 0);
    expect(second.step.events).toEqual([{ kind: 'failed', handle: second.handle, reason: 'queue_full' }]);
    expect(client.cancel(first.handle, 1).events).toEqual([
      { kind: 'failed', handle: first.handle, reason: 'cancelled' },
    ]);
    expect(client.cancel(first.handle, 1).events).toEqual([]);
    expect(client.tick(60_000).events).toEqual([]);
  });

  it('marks concurrent requests that look alike, and each block of a transfer, with a Request-Tag', () => {
    const client = endpointWith({ timing: () => rfc7252Timing({ nstart: 4, blockSize: 16 }) });
    const tagsOf = (step: CoapStep) =>
      sent(step)[0]!.options.filter(({ number }) => number === OPTION.requestTag).length;
    expect(tagsOf(client.request('s', get, wanted, 0).step)).toBe(0);
    expect(tagsOf(client.request('s', get, wanted, 0).step)).toBe(1);
    expect(
      tagsOf(client.request('t', { code: 3, options: [], payload: new Uint8Array(17) }, wanted, 0).step),
    ).toBe(1);
  });

  it('follows the server to smaller blocks, from 4.13 or within 2.31', () => {
    const client = endpointWith();
    const body = Uint8Array.from({ length: 2_000 }, (_, i) => i & 0xff);
    const start = client.request('s', { code: 3, options: [PATH], payload: body }, wanted, 0).step;
    const answer = (step: CoapStep, code: number, options: Option[]): CoapStep => {
      const { id, token } = sent(step)[0]!;
      return client.receive('s', message('ACK', code, id, { token, options }), 1);
    };
    const smallerBlocks = answer(start, 0x8d, [
      blockOption(OPTION.block1, { num: 0, more: true, size: 512 }),
    ]);
    expect(sent(smallerBlocks)[0]?.payload).toEqual(body.subarray(0, 512));
    const next = answer(smallerBlocks, 0x5f, [blockOption(OPTION.block1, { num: 0, more: true, size: 256 })]);
    expect(next.datagrams[0]?.label).toBe('CON PUT block1 3/8');
    expect(sent(next)[0]?.payload).toEqual(body.subarray(512, 768));
    // The server has lost the beginning: once more, with another tag.
    const again = answer(next, 0x88, []);
    expect(sent(again)[0]?.payload).toEqual(body.subarray(0, 256));
    const early = answer(again, 0x81, []);
    expect(early.events).toMatchObject([{ kind: 'response', response: { code: 0x81 } }]);
  });

  it.each([
    ['a block that was not asked for', { num: 2, more: true, size: 16 } as const, 16, 'bad_response'],
    ['a short block in the middle', { num: 1, more: true, size: 16 } as const, 9, 'bad_response'],
    ['no block option', null, 16, 'bad_response'],
    ['more than it may assemble', { num: 1, more: true, size: 16 } as const, 16, 'too_large'],
  ])('fails on %s in a large answer', (name, block, length, reason) => {
    const client = endpointWith(name.startsWith('more') ? { limits: { bodyBytes: 31 } } : {});
    const { handle, step } = client.request('s', { ...get, code: 2 }, wanted, 0);
    const first = sent(step)[0]!;
    const options = [blockOption(OPTION.block2, size)];
    const second = client.receive(
      's',
      message('ACK', CONTENT, first.id, { token: first.token, options, payload: new Uint8Array(16) }),
      1,
    );
    const { id, token } = sent(second)[0]!;
    const wrong = block === null ? [] : [blockOption(OPTION.block2, block)];
    const end = client.receive(
      's',
      message('ACK', CONTENT, id, { token, options: wrong, payload: new Uint8Array(length) }),
      2,
    );
    expect(end.events).toEqual([{ kind: 'failed', handle, reason }]);
    expect(client.held.assembling).toBe(0);
  });

  it('fetches anew what changed under it, and does so only with a safe method', () => {
    for (const code of [1, 2]) {
      const client = endpointWith();
      const { step } = client.request('s', { ...get, code }, wanted, 0);
      const part = (before: CoapStep, tag: number): CoapStep => {
        const { id, token } = sent(before)[0]!;
        const num = before === step ? 0 : 1;
        const options = [
          blockOption(OPTION.block2, { num, more: true, size: 16 }),
          { number: OPTION.eTag, value: Uint8Array.of(tag) },
        ];
        return client.receive(
          's',
          message('ACK', CONTENT, id, { token, options, payload: new Uint8Array(16) }),
          1,
        );
      };
      const result = part(part(step, 1), 2);
      if (code === 1)
        expect(sent(result)[0]?.options.some(({ number }) => number === OPTION.block2)).toBe(false);
      else expect(result.events).toMatchObject([{ kind: 'failed', reason: 'bad_response' }]);
    }
  });

  it('sends its requests again, from their first block, to a peer that restarted', () => {
    const client = endpointWith({ timing: () => rfc7252Timing({ blockSize: 16, nstart: 2 }) });
    const put = { code: 3, options: [PATH], payload: new Uint8Array(40) };
    const { step } = client.request('s', put, wanted, 0);
    const { id, token } = sent(step)[0]!;
    client.receive('s', message('ACK', 0x5f, id, { token, options: [block1(0, true)] }), 1);
    const waiting = client.request('s', get, wanted, 1);
    client.receive('s', message('ACK', 0, sent(waiting.step)[0]!.id), 2);
    const again = client.restarted('s', 3);
    expect(again.datagrams.map(({ label }) => label)).toEqual(['CON PUT block1 1/3', 'CON GET']);
    const [before, after] = [sent(waiting.step)[0]!, sent(again)[1]!];
    expect(after).toMatchObject({ token: before.token, options: before.options });
    expect(after.id).not.toBe(before.id);
    const answer = message('ACK', CONTENT, after.id, { token: after.token });
    expect(client.receive('s', answer, 4).events).toMatchObject([
      { kind: 'response', handle: waiting.handle },
    ]);
    expect(client.forget('s', 5).events).toMatchObject([{ reason: 'cancelled' }]);
    expect(client.held.peers).toBe(0);
  });

  it('sends nothing more once the deadline has passed with blocks on their way', () => {
    const client = endpointWith({ timing: () => rfc7252Timing({ blockSize: 16 }) });
    const { handle, step } = client.request(
      's',
      { code: 3, options: [], payload: new Uint8Array(40) },
      { deadline: 10, priority: 1 },
      0,
    );
    const { id, token } = sent(step)[0]!;
    client.receive('s', message('ACK', 0x5f, id, { token, options: [block1(0, true)] }), 1);
    expect(client.tick(10).events).toEqual([{ kind: 'failed', handle, reason: 'timeout' }]);
    expect(client.tick(1_000).datagrams).toEqual([]);
  });
});

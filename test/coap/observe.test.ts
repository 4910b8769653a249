import { describe, expect, it } from 'vitest';
import { fromUtf8, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { CoapEvent, CoapStep } from '../../src/coap/api.ts';
import { blockOf, blockOption } from '../../src/coap/block.ts';
import type { CoapEndpoint } from '../../src/coap/endpoint.ts';
import type { Message } from '../../src/coap/message.ts';
import { firstOption, firstUint, OPTION, stringOption, uintOption } from '../../src/coap/options.ts';
import { modelledTiming, rfc7252Timing } from '../../src/coap/timing.ts';
import { bodyOf, same } from './bad_links.ts';
import {
  bytesOf,
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
  TOKEN,
  wanted,
} from './conformance/raw.ts';
import { OVERHEAD, pair } from './host.ts';

const REGISTER = uintOption(OPTION.observe, 0);
const DEREGISTER = uintOption(OPTION.observe, 1);
const observe = (sequence: number) => uintOption(OPTION.observe, sequence);
const sequenceOf = ({ options }: Message) => firstUint(options, OPTION.observe);
const textOf = ({ payload }: { readonly payload: Uint8Array }) => fromUtf8(payload);
const registration = (id: number, token = TOKEN, more: readonly (typeof PATH)[] = []) =>
  bytesOf('CON', 1, id, { token, options: [PATH, REGISTER, ...more] });
const modelled = () => modelledTiming({ rate: 1_200, delay: 300, overhead: OVERHEAD, mtu: 1200 });
/** Notifications are confirmable, although the timers are those of RFC 7252. */
const confirmable = { confirmable: true } as const;

/** A server with one observer, `c`. */
function observed(config: ConstructorParameters<typeof CoapEndpoint>[0] | object = {}, token = TOKEN) {
  const server = endpointWith(config);
  const { exchange } = requestIn(server.receive('c', registration(1, token), 0));
  const accepted = server.respond(exchange, content(utf8('0')), 0, 1, { observe: true });
  return { server, exchange, accepted, first: sequenceOf(sent(accepted)[0]!)! };
}

/** A client that observes at `s`, and the registration that it has sent. */
function observing(config: object = {}, request = get) {
  const client = endpointWith(config);
  const { handle, step } = client.observe('s', request, wanted, 0);
  const registered = sent(step)[0]!;
  leave(client, step, 0);
  const { id, token } = registered;
  const answer = (type: 'ACK' | 'CON' | 'NON', sequence: number, text: string, at: number, as = id) =>
    client.receive(
      's',
      bytesOf(type, CONTENT, as, { token, options: [observe(sequence)], payload: utf8(text) }),
      at,
    );
  return { client, handle, token, id, registered, answer };
}

const told = (step: CoapStep): (string | undefined)[] =>
  step.events.flatMap((event) =>
    event.kind === 'notification' || event.kind === 'response' ? [textOf(event.response)] : [],
  );

describe('a server with observers', () => {
  // client                       server
  //   CON GET observe 0 ──────────>
  //          <────── ACK 2.05 observe n
  //          <────── CON 2.05 observe n+1
  it('tells whether a request wants to observe, and numbers what follows upwards', () => {
    const { server, exchange, accepted, first } = observed();
    expect(summary(accepted)).toEqual(['ACK 2.05']);
    const next = server.notify(exchange, content(utf8('1')), 10, confirmable);
    expect(summary(next)).toEqual(['CON 2.05']);
    expect(sent(next)[0]!.token).toEqual(TOKEN);
    expect(sequenceOf(sent(next)[0]!)).toBeGreaterThan(first);
    const acknowledged = server.receive('c', bytesOf('ACK', 0, sent(next)[0]!.id), 20);
    expect(acknowledged.events).toEqual([{ kind: 'notified', exchange }]);
    const plain = requestIn(server.receive('c', bytesOf('CON', 1, 9, { options: [PATH] }), 30));
    expect(plain.observe).toBe(false);
    expect(plain.request.options.map(({ number }) => number)).toEqual([OPTION.uriPath]);
  });

  it('accepts FETCH as a registration, and neither PUT nor a number that means nothing', () => {
    const asks = (method: number, value: number) =>
      requestIn(
        endpointWith().receive('c', bytesOf('CON', method, 1, { options: [PATH, observe(value)] }), 0),
      ).observe;
    expect([asks(5, 0), asks(1, 0), asks(1, 1), asks(1, 2), asks(3, 0)]).toEqual([
      true,
      true,
      false,
      false,
      false,
    ]);
  });

  // server
  //   CON 2.05 "1" [7] ───────>    lost; "2" and "3" meanwhile
  //   CON 2.05 "3" [8] ───────>    the same transmission, its second copy
  it('sends what is newest instead of a copy, under another id, and the count of copies goes on', () => {
    const { server, exchange } = observed();
    const first = server.notify(exchange, content(utf8('1')), 0, confirmable);
    let step = leave(server, first, 0);
    expect(server.notify(exchange, content(utf8('2')), 10, confirmable).datagrams).toEqual([]);
    expect(server.notify(exchange, content(utf8('3')), 20, confirmable).datagrams).toEqual([]);
    const copies: Message[] = [];
    let end: CoapEvent[] = [];
    while (end.length === 0) {
      const now = step.deadline!;
      step = server.tick(now);
      copies.push(...sent(step));
      end = step.events.filter(({ kind }) => kind === 'observer_gone');
      for (const { receipt } of step.datagrams) step = server.left(receipt!, now);
    }
    expect(copies.map(textOf)).toEqual(['3', '3', '3', '3']);
    expect(new Set(copies.map(({ id }) => id)).size).toBe(1);
    expect(copies[0]!.id).not.toBe(sent(first)[0]!.id);
    expect(sequenceOf(copies[0]!)).toBeGreaterThan(sequenceOf(sent(first)[0]!)!);
    expect(end).toEqual([{ kind: 'observer_gone', exchange, reason: 'timeout' }]);
    expect(server.notify(exchange, content(), 1_000_000).datagrams).toEqual([]);
    expect(server.held.observers).toBe(0);
  });

  it('sends what has changed meanwhile once the one before is acknowledged, and only then says that it has arrived', () => {
    const { server, exchange } = observed();
    const first = server.notify(exchange, content(utf8('1')), 0, confirmable);
    server.notify(exchange, content(utf8('2')), 1, confirmable);
    server.notify(exchange, content(utf8('3')), 2, confirmable);
    const second = server.receive('c', bytesOf('ACK', 0, sent(first)[0]!.id), 5);
    expect(sent(second).map(textOf)).toEqual(['3']);
    expect(second.events).toEqual([]);
    const last = server.receive('c', bytesOf('ACK', 0, sent(second)[0]!.id), 6);
    expect(last).toMatchObject({ datagrams: [], events: [{ kind: 'notified', exchange }] });
  });

  it('ends on a reset of any notification: confirmable, overtaken, or not confirmable', () => {
    for (const kind of ['CON', 'overtaken', 'NON'] as const) {
      const { server, exchange } = observed();
      const step = server.notify(exchange, content(), 0, { confirmable: kind !== 'NON' });
      expect(summary(step)).toEqual([kind === 'NON' ? 'NON 2.05' : 'CON 2.05']);
      if (kind === 'overtaken') {
        const { deadline } = leave(server, step, 0);
        server.notify(exchange, content(utf8('newer')), 1, confirmable);
        server.tick(deadline!);
      }
      const reset = server.receive('c', bytesOf('RST', 0, sent(step)[0]!.id), 50_000);
      expect(reset.events, kind).toEqual([{ kind: 'observer_gone', exchange, reason: 'reset' }]);
      expect(server.notify(exchange, content(), 60_000).datagrams).toEqual([]);
    }
  });

  it('sends NON at most every three seconds, the newest then, and one CON in a while', () => {
    const { server, exchange } = observed();
    const all: { at: number; type: string; text: string | undefined }[] = [];
    for (let now = 0; now < 60_000; now += 500) {
      const changed = server.notify(exchange, content(utf8(String(now))), now);
      for (const step of [changed, server.tick(now)]) {
        leave(server, step, now);
        for (const one of sent(step)) {
          all.push({ at: now, type: one.type, text: textOf(one) });
          if (one.type === 'CON') server.receive('c', bytesOf('ACK', 0, one.id), now);
        }
      }
    }
    expect(all.filter(({ type }) => type === 'CON').length).toBeGreaterThan(1);
    expect(all.every(({ at, text }) => text === String(at))).toBe(true);
    const unconfirmed = all.filter(({ type }) => type === 'NON').map(({ at }) => at);
    for (const [i, at] of unconfirmed.slice(1).entries())
      expect(at - unconfirmed[i]!).toBeGreaterThanOrEqual(3_000);
  });

  it('wants each notification acknowledged where the timers come from a model', () => {
    const { server, exchange } = observed({ timing: modelled });
    expect(summary(server.notify(exchange, content(), 10))).toEqual(['CON 2.05']);
    const other = observed({ timing: modelled });
    expect(summary(other.server.notify(other.exchange, content(), 10, { confirmable: false }))).toEqual([
      'NON 2.05',
    ]);
  });

  it('ends by an error, which says so without a number, and by the will of the application in silence', () => {
    const { server, exchange } = observed();
    const gone = server.notify(exchange, { code: 0x84, options: [], payload: utf8('gone') }, 10);
    expect(summary(gone)).toEqual(['CON 4.04']);
    expect(sequenceOf(sent(gone)[0]!)).toBeUndefined();
    expect(gone.events).toEqual([]);
    expect(server.notify(exchange, content(), 20).datagrams).toEqual([]);
    const silent = observed();
    expect(silent.server.endObservation(silent.exchange, 10)).toMatchObject({ datagrams: [], events: [] });
    expect(silent.server.notify(silent.exchange, content(), 20).datagrams).toEqual([]);
  });

  it('lets a registration with the same token take the place of the one before, and goes on counting', () => {
    const { server, exchange, first } = observed();
    const again = requestIn(server.receive('c', registration(2), 100));
    expect(again.observe).toBe(true);
    const accepted = server.respond(again.exchange, content(), 110, 1, { observe: true });
    expect(accepted.events).toEqual([{ kind: 'observer_gone', exchange, reason: 'replaced' }]);
    expect(sequenceOf(sent(accepted)[0]!)).toBeGreaterThan(first);
    expect(server.held.observers).toBe(1);
    // Not accepted this time: the client is told by the missing option, and is off the list.
    const third = requestIn(server.receive('c', registration(3), 200));
    const refused = server.respond(third.exchange, content(), 210);
    expect(refused.events).toMatchObject([{ exchange: again.exchange, reason: 'replaced' }]);
    expect(server.held.observers).toBe(0);
  });

  it('keeps two observations of one resource apart by their tokens', () => {
    const { server, exchange } = observed();
    const other = Uint8Array.of(1, 2);
    const second = requestIn(server.receive('c', registration(2, other), 0)).exchange;
    server.respond(second, content(), 0, 1, { observe: true });
    const step = server.receive('c', bytesOf('CON', 1, 3, { options: [PATH, DEREGISTER] }), 5);
    expect(step.events).toMatchObject([
      { kind: 'observer_gone', exchange, reason: 'deregistered' },
      { kind: 'request', observe: false },
    ]);
    expect(server.notify(exchange, content(), 10).datagrams).toEqual([]);
    expect(sent(server.notify(second, content(), 10))[0]!.token).toEqual(other);
  });

  it('does not register who has deregistered before the answer', () => {
    const server = endpointWith();
    const { exchange } = requestIn(server.receive('c', registration(1), 0));
    server.receive('c', bytesOf('CON', 1, 2, { options: [PATH, DEREGISTER] }), 5);
    const late = server.respond(exchange, content(), 10, 1, { observe: true });
    expect(late.events).toEqual([{ kind: 'observer_gone', exchange, reason: 'forgotten' }]);
    expect(sequenceOf(sent(late)[0]!)).toBeUndefined();
  });

  it('answers beyond its bounds as if nobody had wanted to observe, and tells where an acceptance comes to nothing', () => {
    const server = endpointWith({ limits: { observersPerPeer: 2 } });
    const exchanges = [1, 2, 3].map((id) =>
      requestIn(server.receive('c', registration(id, Uint8Array.of(id)), 0)),
    );
    expect(exchanges.map((one) => one.observe)).toEqual([true, true, true]);
    const steps = exchanges.map((one) => server.respond(one.exchange, content(), 1, 1, { observe: true }));
    expect(steps.map((step) => sequenceOf(sent(step)[0]!) !== undefined)).toEqual([true, true, false]);
    expect(steps[2]!.events).toMatchObject([{ kind: 'observer_gone', reason: 'forgotten' }]);
    expect(requestIn(server.receive('c', registration(4, Uint8Array.of(4)), 2)).observe).toBe(false);
    // Whoever is in may renew.
    expect(requestIn(server.receive('c', registration(5, Uint8Array.of(1)), 2)).observe).toBe(true);
    const failed = requestIn(server.receive('d', registration(1), 0)).exchange;
    const error = server.respond(failed, { code: 0x84, options: [], payload: utf8('') }, 1, 1, {
      observe: true,
    });
    expect(error.events).toMatchObject([{ reason: 'forgotten' }]);
    expect(sequenceOf(sent(error)[0]!)).toBeUndefined();
  });

  it('forgets the observers of a peer that has restarted', () => {
    const { server, exchange } = observed();
    expect(server.restarted('c', 5).events).toEqual([
      { kind: 'observer_gone', exchange, reason: 'forgotten' },
    ]);
    const other = observed();
    expect(other.server.forget('c', 5).events).toHaveLength(1);
    expect(other.server.held).toMatchObject({ peers: 0, observers: 0 });
  });

  it('pushes the first block of what is large, and serves the others of the same from what it has pushed', () => {
    const { server, exchange } = observed({ timing: () => rfc7252Timing({ blockSize: 64 }) });
    const body = bodyOf('large', 150);
    const pushed = sent(server.notify(exchange, content(body), 10, confirmable))[0]!;
    expect(blockOf(pushed.options, OPTION.block2)).toMatchObject({ value: { num: 0, more: true, size: 64 } });
    const rest = [1, 2].map((num) => {
      const options = [PATH, blockOption(OPTION.block2, { num, more: false, size: 64 })];
      const step = server.receive(
        'c',
        bytesOf('CON', 1, 10 + num, { token: Uint8Array.of(num), options }),
        20,
      );
      expect(step.events).toEqual([]);
      return sent(step)[0]!;
    });
    const parts = [pushed, ...rest];
    expect(same(Buffer.concat(parts.map(({ payload }) => payload)), body)).toBe(true);
    const tags = parts.map(({ options }) => firstOption(options, OPTION.eTag)!.value);
    expect(tags[1]).toEqual(tags[0]);
    expect(tags[2]).toEqual(tags[0]);
    // RFC 7959, section 2.6: only the notification itself is numbered.
    expect(rest.map(sequenceOf)).toEqual([undefined, undefined]);
  });

  it('divides notifications as small as the registration has asked for', () => {
    const server = endpointWith();
    const block2 = blockOption(OPTION.block2, { num: 0, more: false, size: 32 });
    const { exchange } = requestIn(server.receive('c', registration(1, TOKEN, [block2]), 0));
    server.respond(exchange, content(), 0, 1, { observe: true });
    const pushed = sent(server.notify(exchange, content(new Uint8Array(40)), 10, confirmable))[0]!;
    expect(pushed.payload.length).toBe(32);
  });
});

describe('a client that observes', () => {
  it('gets the first response, then what is newer, in an order that reordering does not change', () => {
    const { answer, client, handle } = observing();
    const first = answer('ACK', 5, 'a', 10);
    expect(first.events).toMatchObject([
      { kind: 'response', handle, observing: true, response: { options: [] } },
    ]);
    const steps = [
      answer('CON', 7, 'c', 20, 101),
      answer('CON', 6, 'b', 30, 102),
      answer('NON', 7, 'c', 40, 103),
      answer('NON', 8, 'd', 50, 104),
      // Much later every number is newer.
      answer('NON', 3, 'e', 50 + 128_001, 105),
    ];
    expect(steps.flatMap(told)).toEqual(['c', 'd', 'e']);
    expect(steps.map((step) => summary(step))).toEqual([['ACK 0.00'], ['ACK 0.00'], [], [], []]);
    expect(client.counters.notificationsStale).toBe(2);
  });

  it('takes the numbers as a circle', () => {
    const { answer } = observing();
    answer('ACK', 2 ** 24 - 1, 'a', 10);
    expect(told(answer('NON', 2, 'b', 20, 100))).toEqual(['b']);
    expect(told(answer('NON', 2 ** 24 - 1, 'old', 30, 101))).toEqual([]);
    expect(told(answer('NON', 2 + 2 ** 23, 'too far', 40, 102))).toEqual([]);
    expect(told(answer('NON', 1 + 2 ** 23, 'c', 50, 103))).toEqual(['c']);
  });

  it('is over with the first response where the server does not register', () => {
    for (const code of [CONTENT, 0x84]) {
      const { client, handle, id, token } = observing();
      const step = client.receive('s', bytesOf('ACK', code, id, { token }), 10);
      expect(step.events).toMatchObject([{ kind: 'response', handle, observing: false, response: { code } }]);
      expect(client.held.observations).toBe(0);
    }
  });

  it('ends with the error, or the representation without a number, that the server ends it with', () => {
    for (const code of [CONTENT, 0x84]) {
      const { client, handle, token, answer } = observing();
      answer('ACK', 5, 'a', 10);
      const step = client.receive('s', bytesOf('CON', code, 100, { token, payload: utf8('end') }), 20);
      expect(summary(step)).toEqual(['ACK 0.00']);
      expect(step.events).toMatchObject([
        { kind: 'notification', handle, response: { code } },
        { kind: 'failed', handle, reason: 'ended' },
      ]);
      expect(summary(answer('CON', 9, 'late', 30, 101))).toEqual(['RST 0.00']);
    }
  });

  it('deregisters with its own token when it is cancelled, and rejects what still comes, NON as well', () => {
    const { client, handle, token, answer } = observing();
    answer('ACK', 5, 'a', 10);
    const step = client.cancel(handle, 20);
    expect(step.events).toEqual([{ kind: 'failed', handle, reason: 'cancelled' }]);
    const message = sent(step)[0]!;
    expect(message).toMatchObject({ type: 'CON', code: 1, token });
    expect(sequenceOf(message)).toBe(1);
    leave(client, step, 20);
    // On its way since before.
    expect(summary(answer('CON', 6, 'b', 30, 101))).toEqual(['RST 0.00']);
    expect(summary(answer('NON', 7, 'c', 30, 102))).toEqual(['RST 0.00']);
    const end = client.receive('s', bytesOf('ACK', CONTENT, message.id, { token }), 40);
    expect(end).toMatchObject({ datagrams: [], events: [] });
    expect(summary(answer('CON', 8, 'd', 50, 103))).toEqual(['RST 0.00']);
    expect(client.held.observations).toBe(0);
    expect(passing(client, end, 400_000)).toEqual({ sent: [], events: [] });
  });

  it('wants no answer to that where the timers come from a model, and sends nothing where nothing was sent', () => {
    const { client, handle, answer } = observing({ timing: modelled });
    answer('ACK', 5, 'a', 10);
    const { id, options } = sent(client.cancel(handle, 20))[0]!;
    expect(firstUint(options, OPTION.noResponse)).toBe(26);
    expect(client.receive('s', bytesOf('ACK', 0, id), 30)).toMatchObject({ datagrams: [], events: [] });
    const busy = endpointWith();
    busy.request('s', get, wanted, 0);
    const waiting = busy.observe('s', get, wanted, 0);
    expect(waiting.step.datagrams).toEqual([]);
    expect(busy.cancel(waiting.handle, 1)).toMatchObject({
      datagrams: [],
      events: [{ reason: 'cancelled' }],
    });
  });

  it('asks again, with the same token, 5 to 15 s after what it knows has become too old', () => {
    const { client, token, handle, id, registered } = observing();
    const options = [observe(5), uintOption(OPTION.maxAge, 100)];
    let step = client.receive('s', bytesOf('ACK', CONTENT, id, { token, options }), 1_000);
    while (step.datagrams.length === 0) {
      const now = step.deadline!;
      expect(now).toBeLessThanOrEqual(1_000 + 115_000);
      step = client.tick(now);
      if (step.datagrams.length > 0) expect(now).toBeGreaterThanOrEqual(1_000 + 105_000);
    }
    const again = sent(step)[0]!;
    expect(again.token).toEqual(token);
    expect(again.options.map(({ number, value }) => ({ number, value }))).toEqual(
      registered.options.map(({ number, value }) => ({ number, value })),
    );
    // The server has restarted, and counts from the beginning.
    const payload = utf8('b');
    const answer = client.receive(
      's',
      bytesOf('ACK', CONTENT, again.id, { token, options: [observe(1)], payload }),
      110_000,
    );
    expect(answer.events).toMatchObject([{ kind: 'notification', handle }]);
  });

  it('fails when its renewal has no answer', () => {
    const { client, handle, answer } = observing({ limits: {} });
    const first = answer('ACK', 5, 'a', 10);
    const { events, sent: copies } = passing(client, first, 900_000);
    expect(copies).toHaveLength(5);
    expect(events.at(-1)).toEqual({ kind: 'failed', handle, reason: 'timeout' });
    expect(client.held.observations).toBe(0);
  });

  it('registers again at a peer that has restarted, whatever numbers that begins with', () => {
    const { client, token, answer } = observing();
    answer('ACK', 500, 'a', 10);
    const again = client.restarted('s', 20);
    expect(sent(again)).toMatchObject([{ code: 1, token }]);
    const { id } = sent(again)[0]!;
    expect(told(answer('CON', 1, 'b', 30, 100))).toEqual(['b']);
    expect(client.receive('s', bytesOf('ACK', 0, id), 30).events).toEqual([]);
  });

  // server                             client
  //   CON 2.05 observe block2 0/1 ─────>
  //          <───────────────────── CON GET block2 1      new token, no Observe
  //   CON 2.05 observe block2 0/1 ─────>                  newer
  //          <───────────────────── CON GET block2 1
  it('fetches the rest of what is large, from the newest on', () => {
    const { client, handle, token, answer } = observing();
    answer('ACK', 5, 'a', 10);
    const part = (text: string, num: number, more: boolean, tag: number) => ({
      options: [
        blockOption(OPTION.block2, { num, more, size: 16 }),
        { number: OPTION.eTag, value: Uint8Array.of(tag) },
      ],
      payload: utf8(text.padEnd(more ? 16 : 1)),
    });
    const push = (sequence: number, text: string, tag: number, id: number): CoapStep => {
      const { options, payload } = part(text, 0, true, tag);
      return client.receive(
        's',
        bytesOf('NON', CONTENT, id, { token, options: [...options, observe(sequence)], payload }),
        20,
      );
    };
    const older = sent(push(6, 'old', 1, 100))[0]!;
    expect(sequenceOf(older)).toBeUndefined();
    expect(older.token).not.toEqual(token);
    const step = push(7, 'new', 2, 101);
    // The answer to what is not wanted any more comes late.
    const late = client.receive(
      's',
      bytesOf('ACK', CONTENT, older.id, { token: older.token, ...part('x', 1, false, 1) }),
      25,
    );
    expect(late.events).toEqual([]);
    const newer = [...sent(step), ...sent(late)].at(-1)!;
    expect(blockOf(newer.options, OPTION.block2)).toMatchObject({ value: { num: 1, size: 16 } });
    const end = client.receive(
      's',
      bytesOf('ACK', CONTENT, newer.id, { token: newer.token, ...part('y', 1, false, 2) }),
      30,
    );
    expect(end.events).toMatchObject([
      { kind: 'notification', handle, response: { payload: utf8(`${'new'.padEnd(16)}y`) } },
    ]);
  });

  it('registers again where the rest is of something newer, so that no late notification can follow it', () => {
    const { client, handle, token, answer } = observing();
    answer('ACK', 5, 'old', 10);
    const block = (num: number, tag: number) => [
      blockOption(OPTION.block2, { num, more: true, size: 16 }),
      { number: OPTION.eTag, value: Uint8Array.of(tag) },
    ];
    const payload = new Uint8Array(16);
    const pushed = client.receive(
      's',
      bytesOf('NON', CONTENT, 100, { token, options: [...block(0, 1), observe(6)], payload }),
      20,
    );
    const fetch = sent(pushed)[0]!;
    const changed = client.receive(
      's',
      bytesOf('ACK', CONTENT, fetch.id, { token: fetch.token, options: block(1, 2), payload }),
      30,
    );
    const again = sent(changed)[0]!;
    expect(again.token).toEqual(token);
    expect(sequenceOf(again)).toBe(0);
    expect(told(answer('ACK', 9, 'newest', 40, again.id))).toEqual(['newest']);
    expect(told(answer('NON', 7, 'late', 50, 101))).toEqual([]);
    expect(client.cancel(handle, 60).events).toHaveLength(1);
  });

  it('ends its observations when it forgets the peer', () => {
    const { client, handle, answer } = observing();
    answer('ACK', 5, 'a', 10);
    expect(client.forget('s', 20).events).toEqual([{ kind: 'failed', handle, reason: 'cancelled' }]);
    expect(client.held).toMatchObject({ peers: 0, observations: 0 });
  });

  it('counts observations among the requests that a peer may have', () => {
    const { client, answer } = observing({ limits: { requestsPerPeer: 1 } });
    answer('ACK', 5, 'a', 10);
    expect(client.request('s', get, wanted, 20).step.events).toMatchObject([{ reason: 'queue_full' }]);
  });
});

describe('observation over a bad link', () => {
  it('ends in the newest state, whatever is lost, doubled or late: 40 seeds', () => {
    const totals = { told: 0, changes: 0, resent: 0, large: 0, stale: 0, fetches: 0, ended: 0, confirmed: 0 };
    for (let seed = 0; seed < 40; seed++) {
      const random = seededRandom(seed + 77);
      const slow = seed % 2 === 0;
      const conditions = {
        rate: slow ? 20_000 : null,
        latency: 50 + random.integer(400),
        jitter: random.integer(300),
        loss: (seed % 4) / 10,
        duplication: random.fraction() / 4,
        reordering: random.fraction() / 3,
        reorderingDelay: 4_000,
      };
      const { a, b, run, clock } = pair({
        seed,
        conditions,
        ...(slow ? {} : { timing: rfc7252Timing({ blockSize: 64 }) }),
      });
      let state = 0;
      const size = seed % 3 === 0 ? 700 : 30;
      const response = () => ({
        code: CONTENT,
        options: [uintOption(OPTION.maxAge, 120)],
        payload: bodyOf(`state ${state}`, size),
      });
      b.observable = true;
      b.handler = () => ({ after: 0, response: response() });
      const handles = ['x', 'y'].map((path) => {
        const options = [stringOption(OPTION.uriPath, path)];
        return a.observe('b', { code: 1, options, payload: new Uint8Array(0) }, 900_000);
      });
      const changes = 30;
      for (let n = 1; n <= changes; n++) {
        clock.after(20_000 + n * 4_000 + random.integer(8_000), () => {
          state++;
          b.notify(response());
        });
      }
      run(1_200_000);
      totals.changes += changes;
      for (const handle of handles) {
        const where = `seed ${seed}`;
        const outcome = a.outcomes.get(handle);
        if (outcome !== undefined) {
          totals.ended++;
          expect(conditions.loss, `${where} ${outcome.reason}`).toBeGreaterThan(0);
          continue;
        }
        const seen = a.told.get(handle)!.map(({ payload }) => payload);
        const numbers = seen.map((payload) => {
          const found = Array.from({ length: changes + 1 }, (_, i) => i).find((i) =>
            same(payload, bodyOf(`state ${i}`, size)),
          );
          expect(found, where).toBeDefined();
          return found!;
        });
        expect(numbers.at(-1), `${where}: ${numbers.join()}`).toBe(state);
        expect(numbers, where).toEqual([...numbers].sort((x, y) => x - y));
        totals.told += numbers.length;
        if (size === 700) totals.large += numbers.length;
      }
      totals.resent += b.endpoint.counters.resent;
      totals.stale += a.endpoint.counters.notificationsStale;
      totals.fetches += a.endpoint.counters.blocksIn;
      totals.confirmed += b.observers.size;
      expect(b.endpoint.held.observers, `seed ${seed}`).toBe(b.observers.size);
    }
    expect(Object.entries(totals).filter(([name, count]) => count === 0 && name !== 'ended')).toEqual([]);
    expect(totals.ended).toBeLessThan(10);
  });
});

import { describe, expect, it } from 'vitest';
import { utf8 } from '../../../src/base/bytes.ts';
import type { CoapConfig, CoapStep } from '../../../src/coap/api.ts';
import { code } from '../../../src/coap/codes.ts';
import type { CoapEndpoint } from '../../../src/coap/endpoint.ts';
import { hasAttribute, parseLinks } from '../../../src/coap/link_format.ts';
import { type Message, NO_BYTES } from '../../../src/coap/message.ts';
import { firstUint, OPTION, type Option, stringOption, uintOption } from '../../../src/coap/options.ts';
import { Checklist, OBSERVE } from './clauses.ts';
import {
  bytesOf,
  CONTENT,
  content,
  endpointWith,
  eventsOf,
  GET,
  leave,
  PATH,
  parsed,
  passing,
  plain,
  requestIn,
  sent,
  summary,
  TOKEN,
  wanted,
} from './raw.ts';

const clauses = new Checklist(OBSERVE);

const FETCH = 5;
const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** RFC 7252, section 4.8.2: by then a message that nobody acknowledges is given up. */
const MAX_TRANSMIT_WAIT = 93_000;

const observe = (value: number): Option => uintOption(OPTION.observe, value);
const numberOf = ({ options }: Message): number | undefined => firstUint(options, OPTION.observe);
const isNotification = ({ code: value }: Message): boolean => value >> 5 !== 0;

/** A server with a client on its list of observers. Message ids of the client count up. */
class Observed {
  readonly server: CoapEndpoint;
  exchange: number;
  /** The response to the registration. */
  readonly first: Message;
  #ids = 1;

  constructor(
    config: Partial<CoapConfig> = {},
    options: readonly Option[] = [],
    response = content(utf8('0')),
  ) {
    this.server = endpointWith(config);
    const step = this.ask(0, [observe(0), ...options]);
    const asked = requestIn(step);
    expect(asked.observe).toBe(true);
    this.exchange = asked.exchange;
    this.first = sent(this.server.respond(this.exchange, response, 0, 1, { observe: true }))[0]!;
  }

  /** A GET of the client. */
  ask(now: number, options: readonly Option[], token = TOKEN, type: 'CON' | 'NON' = 'CON'): CoapStep {
    const request = bytesOf(type, GET, this.#ids++, { token, options: [PATH, ...options] });
    return this.server.receive('client', request, now);
  }

  /** The resource has changed: what is sent at once. Everything leaves without delay. */
  notify(text: string, now: number, confirmable = true, exchange = this.exchange): Message[] {
    const step = this.server.notify(exchange, content(utf8(text)), now, { confirmable });
    this.next = leave(this.server, step, now);
    return sent(step);
  }

  /** The newest step, whose deadline holds. */
  next: CoapStep | null = null;

  /** What is sent until then by itself. */
  until(at: number): Message[] {
    const { sent: all } = passing(this.server, this.next!, at);
    return all.map((one) => parsed(one.bytes));
  }

  reply(type: 'ACK' | 'RST', to: Message, now: number): CoapStep {
    const step = this.server.receive('client', bytesOf(type, 0, to.id), now);
    this.next = leave(this.server, step, now);
    return step;
  }

  /** A notification of some state a while later leads to nothing: nobody observes any more. */
  expectForgotten(now: number): void {
    expect(this.notify('nobody listens', now)).toEqual([]);
    expect(this.until(now + DAY).filter(isNotification)).toEqual([]);
  }
}

/** A client with an observation, and the response to its registration. */
function observingClient(
  options: readonly Option[] = [],
  first = 10,
  responseOptions: readonly Option[] = [],
): { client: CoapEndpoint; handle: number; registration: Message; step: CoapStep } {
  const client = endpointWith();
  const request = { code: GET, options: [PATH, ...options], payload: NO_BYTES };
  const begun = client.observe('server', request, wanted, 0);
  leave(client, begun.step, 0);
  const registration = sent(begun.step)[0]!;
  const { id, token } = registration;
  const response = { token, options: [observe(first), ...responseOptions], payload: utf8('0') };
  const step = client.receive('server', bytesOf('ACK', CONTENT, id, response), 100);
  expect(eventsOf(step, 'response')).toMatchObject([{ handle: begun.handle, observing: true }]);
  return { client, handle: begun.handle, registration, step };
}

/** A notification reaches the client. Answers the payloads that its application is told. */
let ids = 1;
function notified(
  client: CoapEndpoint,
  token: Uint8Array,
  number: number,
  text: string,
  now: number,
): string[] {
  const options = [observe(number)];
  const step = client.receive(
    'server',
    bytesOf('NON', CONTENT, ids++, { token, options, payload: utf8(text) }),
    now,
  );
  return step.events.flatMap((event) =>
    event.kind === 'notification' ? Buffer.from(event.response.payload).toString() : [],
  );
}

const withoutObserve = ({ options }: Message): Option[] =>
  options.filter(({ number }) => number !== OPTION.observe).map(plain);

describe('RFC 7641, client', () => {
  const more = [stringOption(OPTION.uriQuery, 'a=1'), uintOption(OPTION.accept, 50)];

  it(clauses.name('7641/3.1/once'), () => {
    const { client, handle } = observingClient(more);
    const request = { code: GET, options: [PATH, ...more], payload: NO_BYTES };
    const second = client.observe('server', request, wanted, 200);
    expect(second.step.events).toEqual([
      { kind: 'failed', handle: second.handle, reason: 'already_observed' },
    ]);
    expect(second.step.datagrams).toEqual([]);
    expect(client.observe('other server', request, wanted, 200).step.datagrams).toHaveLength(1);
    // When the first is over there may be another.
    client.cancel(handle, 300);
    expect(client.observe('server', request, wanted, 400).step.events).toEqual([]);
  });

  it(clauses.name('7641/3.1/target'), () => {
    const { client } = observingClient(more);
    const failures = (code: number, options: readonly Option[], payload: Uint8Array = NO_BYTES): number =>
      client.observe('server', { code, options, payload }, wanted, 200).step.events.length;
    // The same in another order, and with an option that is no part of the cache-key.
    expect(failures(GET, [...more, PATH])).toBe(1);
    expect(failures(GET, [PATH, ...more, uintOption(28 + 32 * 64, 1)])).toBe(1);
    expect(failures(GET, [PATH])).toBe(0);
    expect(failures(FETCH, [PATH, ...more])).toBe(0);
    expect(failures(FETCH, [PATH, ...more], utf8('a'))).toBe(0);
    expect(failures(FETCH, [PATH, ...more], utf8('a'))).toBe(1);
  });

  it(clauses.name('7641/3.3.1/renewal'), () => {
    const { client, registration, step } = observingClient(more, 10, [uintOption(OPTION.maxAge, 30)]);
    const renewals = passing(client, step, 60_000).sent;
    const renewal = parsed(renewals[0]!.bytes);
    expect(renewals[0]!.at).toBeGreaterThan(30_000);
    expect([renewal.token, numberOf(renewal)]).toEqual([registration.token, 0]);
    expect(withoutObserve(renewal)).toEqual(withoutObserve(registration));
    expect(renewal.id).not.toBe(registration.id);
  });

  it(clauses.name('7641/3.4/freshest'), () => {
    const { client, registration } = observingClient([], 10);
    const told = (number: number, text: string, now: number): string[] =>
      notified(client, registration.token, number, text, now);
    expect(told(12, 'b', 1_000)).toEqual(['b']);
    expect(told(11, 'a', 2_000)).toEqual([]);
    expect(told(12, 'b again', 3_000)).toEqual([]);
    expect(told(12 + 2 ** 23 - 1, 'c', 4_000)).toEqual(['c']);
    expect(told(2 ** 24 - 1, 'd', 5_000)).toEqual(['d']);
    expect(told(0, 'e', 6_000)).toEqual(['e']);
    expect(told(2 ** 24 - 2, 'late', 7_000)).toEqual([]);
    // More than 128 seconds later whatever comes is newer.
    expect(told(2 ** 24 - 2, 'f', 6_000 + 129_000)).toEqual(['f']);
  });

  it(clauses.name('7641/3.5/unknown-token'), () => {
    const { client, registration } = observingClient();
    const token = Uint8Array.from(registration.token, (byte) => byte ^ 1);
    const notification = bytesOf('CON', CONTENT, 500, { token, options: [observe(11)] });
    expect(summary(client.receive('server', notification, 1_000))).toEqual(['RST 0.00']);
  });

  it(clauses.name('7641/3.5/acknowledged'), () => {
    const { client, registration } = observingClient([], 10);
    const { token } = registration;
    for (const [id, number] of [
      [500, 12],
      [501, 11],
      [502, 13],
    ] as const) {
      const notification = bytesOf('CON', CONTENT, id, { token, options: [observe(number)] });
      expect(sent(client.receive('server', notification, 1_000))).toMatchObject([
        { type: 'ACK', code: 0, id },
      ]);
    }
  });

  it(clauses.name('7641/3.6/deregistration'), () => {
    const { client, handle, registration } = observingClient(more);
    const [deregistration] = sent(client.cancel(handle, 1_000));
    expect([deregistration?.code, numberOf(deregistration!)]).toEqual([GET, 1]);
    expect(deregistration?.token).toEqual(registration.token);
    expect(withoutObserve(deregistration!)).toEqual(withoutObserve(registration));
  });
});

describe('RFC 7641, server', () => {
  it(clauses.name('7641/4.1/updated'), () => {
    const observed = new Observed();
    const [lost] = observed.notify('1', 1_000);
    expect(observed.notify('2', 1_100)).toEqual([]);
    expect(observed.notify('3', 1_200)).toEqual([]);
    // Nobody acknowledges; the next that is sent shows the state that has lasted.
    const later = observed.until(10_000).filter(isNotification);
    expect(later.length).toBeGreaterThan(0);
    expect([lost, ...later].map((one) => Buffer.from(one!.payload).toString())).toEqual([
      '1',
      ...later.map(() => '3'),
    ]);
  });

  it(clauses.name('7641/4.1/not-added'), () => {
    const observed = new Observed();
    const before = observed.exchange;
    const again = observed.ask(1_000, [observe(0)]);
    observed.exchange = requestIn(again).exchange;
    observed.server.respond(observed.exchange, content(), 1_000, 1, { observe: true });
    expect(observed.notify('1', 2_000, true, before)).toEqual([]);
    expect(observed.notify('1', 2_000)).toMatchObject([{ type: 'CON', token: TOKEN }]);
  });

  it(clauses.name('7641/4.1/replaced'), () => {
    const observed = new Observed();
    const before = observed.exchange;
    const again = observed.ask(1_000, [observe(0)]);
    const { exchange } = requestIn(again);
    const accepted = observed.server.respond(exchange, content(), 1_000, 1, { observe: true });
    const gone = [...again.events, ...accepted.events].filter((event) => event.kind === 'observer_gone');
    expect(gone).toEqual([{ kind: 'observer_gone', exchange: before, reason: 'replaced' }]);
    expect(numberOf(sent(accepted)[0]!)).toBeDefined();
  });

  it(clauses.name('7641/4.1/unwilling'), () => {
    const server = endpointWith();
    const request = bytesOf('CON', GET, 1, { options: [PATH, observe(0)] });
    const { exchange } = requestIn(server.receive('client', request, 0));
    const [response] = sent(server.respond(exchange, content(), 0));
    expect(numberOf(response!)).toBeUndefined();
    expect(server.notify(exchange, content(), 1_000).datagrams).toEqual([]);
    // One more than there is room for.
    const observed = new Observed({ limits: { observersPerPeer: 1 } });
    const second = requestIn(observed.ask(1_000, [observe(0)], Uint8Array.of(8)));
    const accepted = observed.server.respond(second.exchange, content(), 1_000, 1, { observe: true });
    expect(numberOf(sent(accepted)[0]!)).toBeUndefined();
  });

  it(clauses.name('7641/4.1/deregistered'), () => {
    const observed = new Observed();
    const other = requestIn(observed.ask(500, [observe(0)], Uint8Array.of(8))).exchange;
    observed.server.respond(other, content(), 500, 1, { observe: true });
    const step = observed.ask(1_000, [observe(1)]);
    const gone = step.events.filter((event) => event.kind === 'observer_gone');
    expect(gone).toMatchObject([{ exchange: observed.exchange, reason: 'deregistered' }]);
    observed.server.respond(requestIn(step).exchange, content(), 1_000);
    expect(observed.notify('1', 2_000, true, other)).toMatchObject([{ token: Uint8Array.of(8) }]);
    expect(observed.notify('1', 2_000)).toEqual([]);
  });

  it(clauses.name('7641/4.1/deregistered-response'), () => {
    for (const registered of [true, false]) {
      const observed = new Observed();
      const token = registered ? TOKEN : Uint8Array.of(8);
      const asked = requestIn(observed.ask(1_000, [observe(1)], token));
      expect(asked.observe).toBe(false);
      const step = observed.server.respond(asked.exchange, content(utf8('0')), 1_000, 1, { observe: true });
      expect(sent(step)).toMatchObject([{ type: 'ACK', code: CONTENT, payload: utf8('0') }]);
      expect(numberOf(sent(step)[0]!)).toBeUndefined();
    }
  });

  it(clauses.name('7641/4.2/token'), () => {
    for (const token of [NO_BYTES, Uint8Array.of(0), Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)]) {
      const observed = new Observed();
      const { exchange } = requestIn(observed.ask(500, [observe(0)], token));
      const first = sent(observed.server.respond(exchange, content(), 500, 1, { observe: true }));
      const second = observed.notify('1', 5_000, true, exchange);
      observed.reply('ACK', second[0]!, 5_100);
      const third = observed.notify('2', 10_000, false, exchange);
      const tokens = [...first, ...second, ...third].map((one) => one.token);
      expect(tokens).toEqual([token, token, token]);
    }
  });

  /** A notification with that code, and what comes after it. */
  function endedBy(value: number): Message {
    const observed = new Observed();
    const step = observed.server.notify(observed.exchange, { ...content(), code: value }, 1_000);
    leave(observed.server, step, 1_000);
    const [last] = sent(step);
    observed.reply('ACK', last!, 1_100);
    observed.expectForgotten(5_000);
    return last!;
  }

  it(clauses.name('7641/4.2/error-removes'), () => {
    for (const value of [code(4, 4), code(4, 3), code(5, 0)]) expect(endedBy(value).code).toBe(value);
  });

  it(clauses.name('7641/4.2/not-acceptable-removes'), () => {
    expect(endedBy(code(4, 6)).code).toBe(code(4, 6));
  });

  it(clauses.name('7641/4.2/success-numbered'), () => {
    const observed = new Observed();
    expect(numberOf(observed.first)).toBeDefined();
    const [changed] = observed.notify('1', 1_000);
    expect(numberOf(changed!)).toBeDefined();
    observed.reply('ACK', changed!, 1_100);
    const valid = observed.server.notify(observed.exchange, { ...content(), code: code(2, 3) }, 5_000);
    expect(sent(valid).map((one) => [one.code, numberOf(one) !== undefined])).toEqual([[code(2, 3), true]]);
  });

  it(clauses.name('7641/4.2/error-unnumbered'), () => {
    for (const value of [code(4, 4), code(4, 6), code(5, 3)])
      expect(numberOf(endedBy(value))).toBeUndefined();
    // Nor has the response to a registration that fails.
    const server = endpointWith();
    const request = bytesOf('CON', GET, 1, { options: [PATH, observe(0)] });
    const { exchange } = requestIn(server.receive('client', request, 0));
    const error = server.respond(exchange, { ...content(), code: code(4, 4) }, 0, 1, { observe: true });
    expect(sent(error).map((one) => [one.code, numberOf(one)])).toEqual([[code(4, 4), undefined]]);
  });

  it(clauses.name('7641/4.3.1/in-sync'), () => {
    const observed = new Observed();
    for (let n = 1; n <= 5; n++) {
      const now = n * 10_000;
      const [notification] = observed.notify(String(n), now);
      expect(Buffer.from(notification!.payload).toString()).toBe(String(n));
      observed.reply('ACK', notification!, now + 100);
    }
  });

  it(clauses.name('7641/4.3.1/max-age'), () => {
    const observed = new Observed();
    const response = content(utf8('1'), [uintOption(OPTION.maxAge, 17)]);
    const [notification] = sent(observed.server.notify(observed.exchange, response, 1_000));
    expect(firstUint(notification!.options, OPTION.maxAge)).toBe(17);
  });

  /** Many states, each acknowledged: the numbers of all notifications. */
  function numbers(count: number, interval: number): { observed: Observed; all: number[] } {
    const observed = new Observed();
    const all = [numberOf(observed.first)!];
    for (let n = 1; n <= count; n++) {
      const [notification] = observed.notify(String(n), n * interval);
      all.push(numberOf(notification!)!);
      observed.reply('ACK', notification!, n * interval);
    }
    return { observed, all };
  }

  const ahead = (a: number, b: number): number => (b - a + 2 ** 24) % 2 ** 24;

  it(clauses.name('7641/4.4/sequence'), () => {
    const { all } = numbers(500, 1_000);
    expect(all).toHaveLength(501);
    for (const number of all) expect(number).toBeLessThan(2 ** 24);
    for (const [at, number] of all.slice(1).entries()) {
      expect(ahead(all[at]!, number)).toBeGreaterThan(0);
      expect(ahead(all[at]!, number)).toBeLessThan(2 ** 23);
    }
  });

  it(clauses.name('7641/4.4/sequence-rate'), () => {
    const { all } = numbers(2_560, 100);
    const total = all.slice(1).reduce((sum, number, at) => sum + ahead(all[at]!, number), 0);
    expect(total).toBeLessThanOrEqual(2 ** 23);
  });

  it(clauses.name('7641/4.4/sequence-renewal'), () => {
    const { observed, all } = numbers(10, 1_000);
    const { exchange } = requestIn(observed.ask(20_000, [observe(0)]));
    const [renewed] = sent(observed.server.respond(exchange, content(), 20_000, 1, { observe: true }));
    const step = ahead(all.at(-1)!, numberOf(renewed!)!);
    expect(step).toBeGreaterThan(0);
    expect(step).toBeLessThan(2 ** 23);
  });

  it(clauses.name('7641/4.4/number-current'), () => {
    const observed = new Observed();
    const other = requestIn(observed.ask(500, [observe(0)], Uint8Array.of(8))).exchange;
    observed.server.respond(other, content(), 500, 1, { observe: true });
    // Two observations of one client: the second notification waits for the first.
    const [first] = observed.notify('1', 1_000, true, other);
    expect(observed.notify('old', 1_100)).toEqual([]);
    expect(observed.notify('new', 1_200)).toEqual([]);
    const waited = sent(observed.reply('ACK', first!, 1_300));
    expect(waited.map((one) => Buffer.from(one.payload).toString())).toEqual(['new']);
    observed.reply('ACK', waited[0]!, 1_400);
    const [next] = observed.notify('newer', 5_000);
    const order = [observed.first, waited[0]!, next!].map((one) => numberOf(one)!);
    expect(ahead(order[0]!, order[1]!)).toBeGreaterThan(0);
    expect(ahead(order[0]!, order[1]!)).toBeLessThan(2 ** 23);
    expect(ahead(order[1]!, order[2]!)).toBeGreaterThan(0);
    expect(ahead(order[1]!, order[2]!)).toBeLessThan(2 ** 23);
  });

  it(clauses.name('7641/4.4/number-of-copy'), () => {
    const observed = new Observed();
    const [first] = observed.notify('1', 1_000);
    expect(observed.notify('2', 1_100)).toEqual([]);
    const [copy] = observed.until(6_000).filter(isNotification);
    expect(ahead(numberOf(first!)!, numberOf(copy!)!)).toBeGreaterThan(0);
    expect(ahead(numberOf(first!)!, numberOf(copy!)!)).toBeLessThan(2 ** 23);
  });

  it(clauses.name('7641/4.5/daily'), () => {
    const observed = new Observed();
    const confirmed: number[] = [0];
    for (let now = HOUR; now <= 4 * DAY; now += HOUR) {
      for (const notification of observed.notify(String(now), now, false)) {
        if (notification.type !== 'CON') continue;
        confirmed.push(now);
        observed.reply('ACK', notification, now + 100);
      }
    }
    const gaps = confirmed.slice(1).map((at, n) => at - confirmed[n]!);
    expect(confirmed.length).toBeGreaterThanOrEqual(4);
    expect(Math.max(...gaps)).toBeLessThanOrEqual(DAY);
  });

  it(clauses.name('7641/4.5/reset'), () => {
    for (const confirmable of [true, false]) {
      const observed = new Observed();
      const [notification] = observed.notify('1', 1_000, confirmable);
      expect(notification?.type).toBe(confirmable ? 'CON' : 'NON');
      const step = observed.reply('RST', notification!, 1_100);
      expect(eventsOf(step, 'observer_gone')).toMatchObject([
        { exchange: observed.exchange, reason: 'reset' },
      ]);
      observed.expectForgotten(5_000);
    }
  });

  it(clauses.name('7641/4.5/given-up'), () => {
    const observed = new Observed();
    observed.notify('1', 1_000);
    const { sent: copies, events } = passing(observed.server, observed.next!, 2_000 + MAX_TRANSMIT_WAIT);
    expect(copies).toHaveLength(4);
    const gone = events.filter((event) => event.kind === 'observer_gone');
    expect(gone).toMatchObject([{ exchange: observed.exchange, reason: 'timeout' }]);
    observed.expectForgotten(200_000);
  });

  it(clauses.name('7641/4.5.1/nstart'), () => {
    const observed = new Observed();
    const other = requestIn(observed.ask(500, [observe(0)], Uint8Array.of(8))).exchange;
    observed.server.respond(other, content(), 500, 1, { observe: true });
    const [first] = observed.notify('1', 1_000);
    expect(observed.notify('2', 1_100)).toEqual([]);
    expect(observed.notify('1', 1_200, true, other)).toEqual([]);
    const second = sent(observed.reply('ACK', first!, 1_300));
    expect(second).toHaveLength(1);
    expect(sent(observed.reply('ACK', second[0]!, 1_400))).toHaveLength(1);
    // Of those that nobody acknowledges one counts as outstanding for a while.
    const quick = new Observed();
    expect(quick.notify('1', 5_000, false)).toHaveLength(1);
    expect(quick.notify('2', 5_010, false)).toEqual([]);
    expect(quick.until(60_000).filter(isNotification)).toHaveLength(1);
  });

  it(clauses.name('7641/6/obs-value'), () => {
    const links = parseLinks('</a>;obs="1",</b>;obs=x,</c>;obs,</d>');
    expect(links.ok && links.value.map((link) => hasAttribute(link, 'obs'))).toEqual([
      true,
      true,
      true,
      false,
    ]);
  });

  it(clauses.name('7641/6/obs-once'), () => {
    const links = parseLinks('</a>;obs;rt="x";obs');
    expect(links.ok && links.value.map((link) => hasAttribute(link, 'obs'))).toEqual([true]);
  });

  /** A server that would like to send non-confirmable notifications only: the types of what it sends in an hour. */
  function hour(acknowledging: boolean): string[] {
    const observed = new Observed();
    const types: string[] = [];
    for (let now = 5_000; now < HOUR; now += 5_000) {
      for (const notification of [
        ...observed.notify(String(now), now, false),
        ...observed.until(now + 4_999),
      ]) {
        types.push(notification.type);
        if (acknowledging && notification.type === 'CON') observed.reply('ACK', notification, now + 4_999);
      }
    }
    return types;
  }

  it(clauses.name('7641/7/unconfirmed'), () => {
    const types = hour(false);
    expect(types.length).toBeGreaterThan(0);
    expect(types.length).toBeLessThan(HOUR / 5_000 / 2);
  });

  it(clauses.name('7641/7/interspersed'), () => {
    const types = hour(true);
    expect(types.filter((type) => type === 'NON').length).toBeGreaterThan(types.length / 2);
    expect(types.filter((type) => type === 'CON').length).toBeGreaterThan(1);
  });

  it('has a test for each clause of the list', () => {
    expect(clauses.missing).toEqual([]);
  });
});

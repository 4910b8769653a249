import { describe, expect, it } from 'vitest';
import { fromUtf8 } from '../../../src/base/bytes.ts';
import type { CoapResponse } from '../../../src/coap/api.ts';
import { code, METHOD } from '../../../src/coap/codes.ts';
import { firstUint, OPTION, uintOption } from '../../../src/coap/options.ts';
import { rfc7252Timing } from '../../../src/coap/timing.ts';
import { Plugtest, type PlugtestOptions } from './plugtest.ts';
import { content, large, TEXT, XML } from './plugtest_server.ts';
import { Party } from './wire.ts';

/** How often the resources change. */
const PERIOD = 5_000;
/** RFC 7252, section 4.8. */
const ACK_TIMEOUT = 2_000;
const MAX_TRANSMIT_WAIT = 93_000;
/** RFC 7641, section 3.3.1: a client waits for 5 to 15 seconds after Max-Age. */
const LONGEST_PATIENCE = 15_000;

const text = ({ payload }: CoapResponse): string => fromUtf8(payload)!;
const shown = (test: Plugtest, handle: number): string[] => test.observed(handle).map(text);

const REGISTERED = ['CON GET /obs obs=0 ->', '<- ACK 2.05 obs'];
const NOTIFIED = ['<- CON 2.05 obs', 'ACK ->'];

/** The client observes /obs, which shows `0` and then, each a period later, the values. */
function observing(seed: number, values: readonly string[], options: PlugtestOptions = {}) {
  const test = new Plugtest(seed, options);
  test.resources.observable('/obs', content('0'));
  const handle = test.observe('/obs');
  test.wire.run(PERIOD);
  for (const value of values) changed(test, value);
  return { test, handle };
}

function changed(test: Plugtest, value: string): void {
  test.resources.change('/obs', content(value));
  test.wire.run(PERIOD);
}

/**
 * The Observe options of the responses, oldest first, and that each is newer than the one before. A copy of a message,
 * of which the state is still the newest, has the same.
 */
function expectIncreasing(test: Plugtest): number[] {
  const { messages } = test.wire;
  const numbers = messages
    .filter(
      ({ code: value, id }, at) =>
        value >> 5 === 2 && !messages.slice(0, at).some((one) => one.id === id && one.code === value),
    )
    .flatMap(({ options }) => firstUint(options, OPTION.observe) ?? []);
  for (const [at, number] of numbers.slice(1).entries()) {
    const ahead = (number - numbers[at]! + 2 ** 24) % 2 ** 24;
    expect(ahead, test.wire.trace).toBeGreaterThan(0);
    expect(ahead, test.wire.trace).toBeLessThan(2 ** 23);
  }
  return numbers;
}

/** All messages about one observation have the token of its registration, every notification its format. */
function expectOneObservation(test: Plugtest): void {
  const { token } = test.message(0);
  const format = test.format(1);
  for (const [at, message] of test.wire.messages.entries()) {
    if (message.code === 0) continue;
    expect(message.token, test.wire.trace).toEqual(token);
    if (message.code === code(2, 5)) expect(test.format(at), test.wire.trace).toBe(format);
  }
}

/** A change after which nothing crosses. */
function expectSilence(test: Plugtest, act: () => void): void {
  const before = test.wire.ladder;
  act();
  test.wire.run(60_000);
  test.expectLadder(...before);
}

describe('ETSI test descriptions, observe', () => {
  it('TD_COAP_OBS_01: confirmable notifications', () => {
    const { test, handle } = observing(1, ['1', '2', '3']);
    test.expectLadder(...REGISTERED, ...NOTIFIED, ...NOTIFIED, ...NOTIFIED);
    expect(test.raw(0, OPTION.observe), test.wire.trace).toEqual([new Uint8Array(0)]);
    test.expectPiggybacked(0, 1);
    expectOneObservation(test);
    expect(expectIncreasing(test)).toHaveLength(4);
    for (const at of [2, 4, 6]) test.expectEmpty('ACK', at, at + 1);
    expect(shown(test, handle)).toEqual(['0', '1', '2', '3']);
  });

  it('TD_COAP_OBS_02: non-confirmable notifications', () => {
    const test = new Plugtest(2);
    test.resources.observable('/obs-non', content('0'), false);
    const handle = test.observe('/obs-non', false);
    test.wire.run(PERIOD);
    for (const value of ['1', '2', '3']) {
      test.resources.change('/obs-non', content(value));
      test.wire.run(PERIOD);
    }
    const notified = '<- NON 2.05 obs';
    test.expectLadder('NON GET /obs-non obs=0 ->', notified, notified, notified, notified);
    expectOneObservation(test);
    expect(expectIncreasing(test)).toHaveLength(4);
    expect(shown(test, handle)).toEqual(['0', '1', '2', '3']);
  });

  // There is no 03, and none after 14.
  it('TD_COAP_OBS_04: the client notices that it is not notified any more, by Max-Age', () => {
    const test = new Plugtest(4);
    const maxAge = 20;
    const state = (value: string) => content(value, uintOption(OPTION.maxAge, maxAge));
    test.resources.observable('/obs', state('0'));
    const handle = test.observe('/obs');
    test.wire.run(PERIOD);
    test.resources.change('/obs', state('1'));
    test.wire.run(PERIOD);
    test.server.reboot();
    test.resources.forgetObservers();
    test.resources.change('/obs', state('2'));
    test.wire.run(maxAge * 1000 - PERIOD - 100);
    expect(shown(test, handle)).toEqual(['0', '1']);
    test.expectLadder(...REGISTERED, ...NOTIFIED);
    test.wire.run(LONGEST_PATIENCE + 1_000);
    test.expectLadder(...REGISTERED, ...NOTIFIED, ...REGISTERED);
    expect(test.raw(4, OPTION.observe), test.wire.trace).toEqual([new Uint8Array(0)]);
    test.expectPiggybacked(4, 5);
    test.resources.change('/obs', state('3'));
    test.wire.run(PERIOD);
    test.expectLadder(...REGISTERED, ...NOTIFIED, ...REGISTERED, ...NOTIFIED);
    expectOneObservation(test);
    expect(shown(test, handle)).toEqual(['0', '1', '2', '3']);
  });

  it('TD_COAP_OBS_05: the server notices that the client is off', () => {
    const { test } = observing(5, ['1']);
    test.client.switchOff();
    for (let period = 0; period < MAX_TRANSMIT_WAIT / PERIOD + 1; period++) changed(test, `off ${period}`);
    const copy = '<- CON 2.05 obs';
    test.expectLadder(...REGISTERED, ...NOTIFIED, copy, copy, copy, copy, copy);
    // The state changes all the time, so at most one copy shows what the message before it does.
    expect(expectIncreasing(test).length).toBeGreaterThanOrEqual(6);
    expect(test.resources.observers('/obs')).toBe(0);
    expect(test.server.events, test.wire.trace).toContainEqual(
      expect.objectContaining({ kind: 'observer_gone', reason: 'timeout' }),
    );
    expectSilence(test, () => changed(test, 'nobody listens'));
  });

  it('TD_COAP_OBS_06: the server notices that the client rejects notifications', () => {
    const { test, handle } = observing(6, ['1']);
    test.client.reboot();
    changed(test, '2');
    test.expectLadder(...REGISTERED, ...NOTIFIED, '<- CON 2.05 obs', 'RST ->');
    test.expectEmpty('RST', 4, 5);
    expect(shown(test, handle)).toEqual(['0', '1']);
    expect(test.resources.observers('/obs')).toBe(0);
    expectSilence(test, () => changed(test, '3'));
  });

  /** Another client does something to /obs, which ends the observation with that code. */
  function ended(seed: number, method: number, options: Parameters<Plugtest['ask']>[1], last: string): void {
    const { test, handle } = observing(seed, ['1']);
    const other = new Party(test.wire, 'other', seed + 77);
    test.ask(method, options, other);
    test.wire.run(PERIOD);
    const ladder = test.wire.ladder.filter((line) => !line.startsWith('other') && line !== '<- ACK 2.04');
    expect(ladder, test.wire.trace).toEqual([...REGISTERED, ...NOTIFIED, `<- CON ${last}`, 'ACK ->']);
    const end = test.wire.messages.find((message) => message.type === 'CON' && message.code >> 5 === 4);
    expect(end?.token).toEqual(test.message(0).token);
    expect(firstUint(end!.options, OPTION.observe)).toBeUndefined();
    const displayed = test.observed(handle);
    expect(displayed.slice(0, 2).map(text)).toEqual(['0', '1']);
    expect(displayed.slice(2).filter((one) => one.code >> 5 === 2)).toEqual([]);
    expect(test.failure(handle)).toBe('ended');
    expectSilence(test, () => changed(test, 'nobody listens'));
  }

  it('TD_COAP_OBS_07: deletion of the resource ends its observation', () => {
    ended(7, METHOD.delete, { uri: '/obs' }, '4.04');
  });

  it('TD_COAP_OBS_08: another Content-Format ends the observation', () => {
    const options = [uintOption(OPTION.contentFormat, XML)];
    ended(8, METHOD.put, { uri: '/obs', payload: '<obs/>', options }, '4.06');
  });

  it('TD_COAP_OBS_09: an update of the resource by another client is notified', () => {
    const { test, handle } = observing(9, ['1']);
    const other = new Party(test.wire, 'other', 77);
    const options = [uintOption(OPTION.contentFormat, TEXT)];
    test.ask(METHOD.put, { uri: '/obs', payload: 'updated', options }, other);
    test.wire.run(PERIOD);
    changed(test, '2');
    const ladder = test.wire.ladder.filter((line) => !line.startsWith('other') && line !== '<- ACK 2.04');
    expect(ladder, test.wire.trace).toEqual([...REGISTERED, ...NOTIFIED, ...NOTIFIED, ...NOTIFIED]);
    expect(expectIncreasing(test)).toHaveLength(4);
    expect(shown(test, handle)).toEqual(['0', '1', 'updated', '2']);
  });

  it('TD_COAP_OBS_10: a GET without Observe does not end the observation', () => {
    const { test, handle } = observing(10, ['1']);
    expect(text(test.exchange(METHOD.get, { uri: '/obs' }, PERIOD))).toBe('1');
    changed(test, '2');
    test.expectLadder(...REGISTERED, ...NOTIFIED, 'CON GET /obs ->', '<- ACK 2.05', ...NOTIFIED);
    test.expectPiggybacked(4, 5);
    expect(test.message(4).token, test.wire.trace).not.toEqual(test.message(0).token);
    expect(test.message(6).token, test.wire.trace).toEqual(test.message(0).token);
    expect([test.format(5), test.format(6)]).toEqual([test.format(1), test.format(1)]);
    expect(expectIncreasing(test)).toHaveLength(3);
    expect(shown(test, handle)).toEqual(['0', '1', '2']);
  });

  it('TD_COAP_OBS_11: on a lossy network there is never more than one notification under way', () => {
    for (let seed = 110; seed < 130; seed++) {
      const test = new Plugtest(seed);
      test.resources.observable('/obs', content('0'));
      const handle = test.observe('/obs');
      test.wire.run(PERIOD);
      let count = seed;
      test.wire.lose = () => count++ % 5 < 2;
      for (let value = 1; value <= 20; value++) changed(test, String(value));
      test.wire.lose = () => false;
      test.wire.run(MAX_TRANSMIT_WAIT);
      expect(test.wire.crossings.filter(({ lost }) => lost).length).toBeGreaterThan(3);
      expectOneAtATime(test);
      expectIncreasing(test);
      const values = shown(test, handle).map(Number);
      expect(values, test.wire.trace).toEqual([...values].sort((a, b) => a - b));
      expect(values.at(-1), test.wire.trace).toBe(20);
    }
  });

  /** A notification leaves when the one before is acknowledged, or its time is up. */
  function expectOneAtATime(test: Plugtest): void {
    let active: { readonly id: number; readonly at: number } | undefined;
    for (const { at, from, message, lost } of test.wire.crossings) {
      if (from === 'server' && message.type === 'CON') {
        expect(at - (active?.at ?? Number.NEGATIVE_INFINITY), test.wire.trace).toBeGreaterThanOrEqual(
          ACK_TIMEOUT,
        );
        active = { id: message.id, at };
      } else if (message.type === 'ACK' && !lost && message.id === active?.id) active = undefined;
    }
  }

  it('TD_COAP_OBS_12: a GET with Observe 1 ends the observation', () => {
    const { test, handle } = observing(12, ['1']);
    test.client.do((endpoint, now) => endpoint.cancel(handle, now));
    test.wire.run(PERIOD);
    test.expectLadder(...REGISTERED, ...NOTIFIED, 'CON GET /obs obs=1 ->', '<- ACK 2.05');
    test.expectPiggybacked(4, 5);
    expectOneObservation(test);
    expect(test.resources.observers('/obs')).toBe(0);
    expectSilence(test, () => changed(test, '2'));
    expect(shown(test, handle)).toEqual(['0', '1']);
  });

  const blocks = rfc7252Timing({ blockSize: 256 });
  const inBlocks: PlugtestOptions = { server: { timing: () => blocks } };

  /** The rest of a body of that many blocks, after the first. */
  const rest = (path: string, count: number): string[] =>
    Array.from({ length: count - 1 }, (_, at) => at + 1).flatMap((num) => [
      `CON GET ${path} 2:${num}/0/256 ->`,
      `<- ACK 2.05 2:${num}/${num < count - 1 ? 1 : 0}/256`,
    ]);

  it('TD_COAP_OBS_13: a large resource, in blocks', () => {
    const test = new Plugtest(13, inBlocks);
    const body = (name: string) => large(name, 700);
    test.resources.observable('/obs-large', content(body('zero')));
    const handle = test.observe('/obs-large');
    test.wire.run(PERIOD);
    for (const name of ['one', 'two']) {
      test.resources.change('/obs-large', content(body(name)));
      test.wire.run(PERIOD);
    }
    const notified = ['<- CON 2.05 obs 2:0/1/256', 'ACK ->', ...rest('/obs-large', 3)];
    test.expectLadder(
      'CON GET /obs-large obs=0 ->',
      '<- ACK 2.05 obs 2:0/1/256',
      ...rest('/obs-large', 3),
      ...notified,
      ...notified,
    );
    const partial = test.wire.messages.filter(({ code: value }) => value === code(2, 5));
    expect(new Set(partial.map(({ payload }) => payload.length))).toEqual(new Set([256, 700 - 512]));
    expect(expectIncreasing(test)).toHaveLength(3);
    expect(shown(test, handle)).toEqual(['zero', 'one', 'two'].map((name) => fromUtf8(body(name))));
  });

  it.each([[['large', 'small', 'large']], [['small', 'large', 'small']]])(
    'TD_COAP_OBS_14: a resource of varying size: %s',
    (sizes) => {
      const test = new Plugtest(14, inBlocks);
      const state = (size: string, at: number) => large(`${size} ${at}`, size === 'large' ? 700 : 70);
      const [first, ...others] = sizes.map((size, at) => content(state(size, at)));
      test.resources.observable('/obs-pumping', first!);
      const handle = test.observe('/obs-pumping');
      test.wire.run(PERIOD);
      for (const other of others) {
        test.resources.change('/obs-pumping', other);
        test.wire.run(PERIOD);
      }
      const expected = sizes.flatMap((size, at) => {
        const head = at === 0 ? '<- ACK 2.05 obs' : '<- CON 2.05 obs';
        const asked = at === 0 ? ['CON GET /obs-pumping obs=0 ->'] : [];
        const acknowledged = at === 0 ? [] : ['ACK ->'];
        return size === 'large'
          ? [...asked, `${head} 2:0/1/256`, ...acknowledged, ...rest('/obs-pumping', 3)]
          : [...asked, head, ...acknowledged];
      });
      test.expectLadder(...expected);
      expect(expectIncreasing(test)).toHaveLength(3);
      expect(shown(test, handle)).toEqual(sizes.map((size, at) => fromUtf8(state(size, at))));
    },
  );
});

import { describe, expect, it } from 'vitest';
import { equal, fromUtf8, utf8 } from '../../../src/base/bytes.ts';
import { code, METHOD } from '../../../src/coap/codes.ts';
import { encode, NO_BYTES } from '../../../src/coap/message.ts';
import { firstUint, OPTION, type Option, stringOption, uintOption } from '../../../src/coap/options.ts';
import { Plugtest } from './plugtest.ts';
import { content, SEPARATE_DELAY, TEXT, XML } from './plugtest_server.ts';
import { texts } from './wire.ts';

const format = (value: number): Option => uintOption(OPTION.contentFormat, value);
const text = (payload: Uint8Array): string => fromUtf8(payload)!;
/** What a client sends with a body: both are wanted by the descriptions. */
const body = { payload: 'something', options: [format(TEXT)] };

/** The four methods in the order of the descriptions, with the codes that they allow in the answer. */
const METHODS = [
  { name: 'GET', method: METHOD.get, extra: {}, answer: '2.05' },
  { name: 'DELETE', method: METHOD.delete, extra: {}, answer: '2.02' },
  { name: 'PUT', method: METHOD.put, extra: body, answer: '2.04' },
  { name: 'POST', method: METHOD.post, extra: body, answer: '2.01' },
];

describe('ETSI test descriptions, core', () => {
  METHODS.forEach(({ name, method, extra, answer }, at) => {
    it(`TD_COAP_CORE_0${at + 1}: ${name}, confirmable`, () => {
      const test = new Plugtest(at);
      const response = test.exchange(method, { uri: '/test', ...extra });
      test.expectLadder(`CON ${name} /test ->`, `<- ACK ${answer}`);
      test.expectPiggybacked(0, 1);
      expect(response.payload).toEqual(test.message(1).payload);
      if (method === METHOD.get) expect([test.format(1), text(response.payload)]).toEqual([TEXT, 'test']);
      if ('payload' in extra) {
        expect(test.format(0)).toBe(TEXT);
        expect(test.resources.received).toMatchObject([{ payload: utf8(body.payload) }]);
      }
    });
  });

  METHODS.forEach(({ name, method, extra, answer }, at) => {
    it(`TD_COAP_CORE_0${at + 5}: ${name}, non-confirmable`, () => {
      const test = new Plugtest(at + 4);
      const response = test.exchange(method, { uri: '/test', confirmable: false, ...extra });
      test.expectLadder(`NON ${name} /test ->`, `<- NON ${answer}`);
      test.expectSeparate('NON', 0, 1);
      expect(response.payload).toEqual(test.message(1).payload);
      if (method === METHOD.get) expect([test.format(1), text(response.payload)]).toEqual([TEXT, 'test']);
      if ('payload' in extra) {
        expect(test.resources.received).toMatchObject([{ payload: utf8(body.payload) }]);
      }
    });
  });

  it.each(['TD_COAP_CORE_09: GET with a separate response', 'TD_COAP_CORE_11: the same with a token'])(
    '%s, confirmable',
    () => {
      const test = new Plugtest(9);
      const response = test.exchange(METHOD.get, { uri: '/separate' });
      test.expectLadder('CON GET /separate ->', '<- ACK', '<- CON 2.05', 'ACK ->');
      test.expectToken(0);
      test.expectEmpty('ACK', 0, 1);
      test.expectSeparate('CON', 0, 2);
      test.expectEmpty('ACK', 2, 3);
      const { crossings } = test.wire;
      expect(crossings[2]!.at - crossings[0]!.at, test.wire.trace).toBeGreaterThanOrEqual(SEPARATE_DELAY);
      expect([test.format(2), text(response.payload)]).toEqual([TEXT, 'separate']);
    },
  );

  it('TD_COAP_CORE_10: GET with a token, confirmable', () => {
    const test = new Plugtest(10);
    const response = test.exchange(METHOD.get, { uri: '/test' });
    test.expectLadder('CON GET /test ->', '<- ACK 2.05');
    test.expectToken(0);
    test.expectPiggybacked(0, 1);
    expect([test.format(1), text(response.payload)]).toEqual([TEXT, 'test']);
  });

  it('TD_COAP_CORE_12: GET with the empty token, by a client that is not ours, since ours always has one', () => {
    const test = new Plugtest(12);
    const options = [stringOption(OPTION.uriPath, 'test')];
    const request = { type: 'CON', code: METHOD.get, id: 0x1234, token: NO_BYTES, options } as const;
    test.client.sendRaw('server', encode({ ...request, payload: NO_BYTES }));
    test.wire.run(1_000);
    test.expectLadder('CON GET /test ->', '<- ACK 2.05');
    test.expectPiggybacked(0, 1);
    expect(test.message(1).token).toHaveLength(0);
    expect([test.format(1), text(test.message(1).payload)]).toEqual([TEXT, 'test']);
  });

  it('TD_COAP_CORE_13: GET with several Uri-Path options', () => {
    const test = new Plugtest(13);
    const response = test.exchange(METHOD.get, { uri: '/seg1/seg2/seg3' });
    test.expectLadder('CON GET /seg1/seg2/seg3 ->', '<- ACK 2.05');
    expect(test.values(0, OPTION.uriPath), test.wire.trace).toEqual(['seg1', 'seg2', 'seg3']);
    test.expectPiggybacked(0, 1);
    expect([test.format(1), text(response.payload)]).toEqual([TEXT, 'segments']);
  });

  it('TD_COAP_CORE_14: GET with several Uri-Query options', () => {
    const test = new Plugtest(14);
    const response = test.exchange(METHOD.get, { uri: '/query?first=1&second=2&third=3' });
    test.expectLadder('CON GET /query?first=1&second=2&third=3 ->', '<- ACK 2.05');
    expect(test.values(0, OPTION.uriQuery), test.wire.trace).toEqual(['first=1', 'second=2', 'third=3']);
    test.expectPiggybacked(0, 1);
    expect([test.format(1), text(response.payload)]).toEqual([TEXT, 'first=1&second=2&third=3']);
  });

  describe('TD_COAP_CORE_15: GET on a lossy network, piggybacked', () => {
    it('the request is lost, and sent again', () => {
      const test = new Plugtest(15);
      test.wire.lose = () => test.wire.crossings.length === 0;
      expect(text(test.exchange(METHOD.get, { uri: '/test' }).payload)).toBe('test');
      test.expectLadder('CON GET /test -x', 'CON GET /test ->', '<- ACK 2.05');
      test.expectCopies(0, 1);
      test.expectPiggybacked(0, 2);
    });

    it('the response is lost: the copy of the request gets it again, and is not acted on', () => {
      const test = new Plugtest(15);
      test.wire.lose = () => test.wire.crossings.length === 1;
      expect(text(test.exchange(METHOD.get, { uri: '/test' }).payload)).toBe('test');
      test.expectLadder('CON GET /test ->', 'x- ACK 2.05', 'CON GET /test ->', '<- ACK 2.05');
      test.expectCopies(0, 2);
      test.expectCopies(1, 3);
      expect(test.resources.received).toHaveLength(1);
    });
  });

  describe('TD_COAP_CORE_16: GET on a lossy network, separate', () => {
    const lossy = (...lost: number[]): Plugtest => {
      const test = new Plugtest(16);
      test.wire.lose = () => lost.includes(test.wire.crossings.length);
      expect(text(test.exchange(METHOD.get, { uri: '/separate' }, 60_000).payload)).toBe('separate');
      expect(test.resources.received, test.wire.trace).toHaveLength(1);
      return test;
    };

    it('the request is lost, and sent again', () => {
      const test = lossy(0);
      test.expectLadder('CON GET /separate -x', 'CON GET /separate ->', '<- ACK', '<- CON 2.05', 'ACK ->');
      test.expectCopies(0, 1);
      test.expectSeparate('CON', 0, 3);
    });

    it('its acknowledgement is lost: it is sent again until the response has arrived, and no more', () => {
      const test = lossy(1);
      test.expectLadder(
        'CON GET /separate ->',
        'x- ACK',
        'CON GET /separate ->',
        '<- ACK',
        '<- CON 2.05',
        'ACK ->',
      );
      test.expectCopies(0, 2);
      test.expectCopies(1, 3);
    });

    it('every acknowledgement is lost: the response by itself ends the copies', () => {
      const test = new Plugtest(16);
      test.wire.lose = ({ message }) => message.type === 'ACK' && message.code === 0;
      const handle = test.ask(METHOD.get, { uri: '/separate' });
      test.wire.run(SEPARATE_DELAY + 1_000);
      const upTo = test.wire.crossings.length;
      expect(text(test.displayed(handle).payload)).toBe('separate');
      test.wire.run(200_000);
      const later = test.wire.ladder.slice(upTo);
      expect(new Set(later), test.wire.trace).toEqual(new Set(['<- CON 2.05', 'ACK -x']));
    });

    it('the response is lost, and sent again', () => {
      const test = lossy(2);
      test.expectLadder('CON GET /separate ->', '<- ACK', 'x- CON 2.05', '<- CON 2.05', 'ACK ->');
      test.expectCopies(2, 3);
    });

    it("the response's acknowledgement and its copy are lost: the response is sent until one arrives", () => {
      const test = lossy(3, 5);
      test.expectLadder(
        'CON GET /separate ->',
        '<- ACK',
        '<- CON 2.05',
        'ACK -x',
        '<- CON 2.05',
        'ACK -x',
        '<- CON 2.05',
        'ACK ->',
      );
      test.expectCopies(2, 4, 6);
      test.expectCopies(3, 5, 7);
    });
  });

  it('TD_COAP_CORE_17: GET with a separate response, non-confirmable', () => {
    const test = new Plugtest(17);
    const response = test.exchange(METHOD.get, { uri: '/separate', confirmable: false });
    test.expectLadder('NON GET /separate ->', '<- NON 2.05');
    test.expectSeparate('NON', 0, 1);
    expect([test.format(1), text(response.payload)]).toEqual([TEXT, 'separate']);
  });

  it('TD_COAP_CORE_18: POST answered with several Location-Path options', () => {
    const test = new Plugtest(18);
    const response = test.exchange(METHOD.post, { uri: '/test', ...body });
    test.expectLadder('CON POST /test ->', '<- ACK 2.01');
    expect(test.format(0)).toBe(TEXT);
    const location = ['location1', 'location2', 'location3'];
    expect(test.values(1, OPTION.locationPath), test.wire.trace).toEqual(location);
    expect(texts(response.options, OPTION.locationPath)).toEqual(location);
  });

  it('TD_COAP_CORE_19: POST answered with several Location-Query options', () => {
    const test = new Plugtest(19);
    const response = test.exchange(METHOD.post, { uri: '/location-query', ...body });
    test.expectLadder('CON POST /location-query ->', '<- ACK 2.01');
    test.expectPiggybacked(0, 1);
    expect(test.values(1, OPTION.locationQuery), test.wire.trace).toEqual(['first=1', 'second=2']);
    expect(texts(response.options, OPTION.locationQuery)).toEqual(['first=1', 'second=2']);
  });

  it('TD_COAP_CORE_20: GET with the Accept option', () => {
    const test = new Plugtest(20);
    const accepting = (value: number) => ({
      uri: '/multi-format',
      options: [uintOption(OPTION.accept, value)],
    });
    expect(text(test.exchange(METHOD.get, accepting(TEXT)).payload)).toBe('text');
    expect(text(test.exchange(METHOD.get, accepting(XML)).payload)).toBe('<xml/>');
    test.expectLadder('CON GET /multi-format ->', '<- ACK 2.05', 'CON GET /multi-format ->', '<- ACK 2.05');
    const accepted = [0, 2].map((at) => firstUint(test.message(at).options, OPTION.accept));
    expect(accepted, test.wire.trace).toEqual([TEXT, XML]);
    expect([test.format(1), test.format(3)], test.wire.trace).toEqual([TEXT, XML]);
    test.expectPiggybacked(0, 1);
    test.expectPiggybacked(2, 3);
    test.expectOtherIds(0, 2);
  });

  it('TD_COAP_CORE_21: GET with the ETag option', () => {
    const test = new Plugtest(21);
    const first = test.exchange(METHOD.get, { uri: '/validate' });
    const [tag] = test.raw(1, OPTION.eTag);
    const known = { uri: '/validate', options: [{ number: OPTION.eTag, value: tag! }] };
    const second = test.exchange(METHOD.get, known);
    test.resources.stored.set('/validate', utf8('another'));
    const third = test.exchange(METHOD.get, known);
    test.expectLadder(
      'CON GET /validate ->',
      '<- ACK 2.05',
      'CON GET /validate ->',
      '<- ACK 2.03',
      'CON GET /validate ->',
      '<- ACK 2.05',
    );
    expect([0, 2, 4].map((at) => test.raw(at, OPTION.eTag).length)).toEqual([0, 1, 1]);
    for (const at of [0, 2, 4]) test.expectPiggybacked(at, at + 1);
    test.expectOtherIds(0, 2, 4);
    expect(test.raw(3, OPTION.eTag), test.wire.trace).toEqual([tag]);
    expect(test.message(3).payload).toHaveLength(0);
    expect(equal(test.raw(5, OPTION.eTag)[0]!, tag!), test.wire.trace).toBe(false);
    expect([first, second, third].map(({ payload }) => text(payload))).toEqual(['first', '', 'another']);
  });

  it('TD_COAP_CORE_22: PUT with If-Match', () => {
    const test = new Plugtest(22);
    const put = (payload: string, tag?: Uint8Array) =>
      test.exchange(METHOD.put, {
        uri: '/validate',
        payload,
        options: [format(TEXT), ...(tag === undefined ? [] : [{ number: OPTION.ifMatch, value: tag }])],
      }).code;
    test.exchange(METHOD.get, { uri: '/validate' });
    const [first] = test.raw(1, OPTION.eTag);
    expect(put('second', first)).toBe(code(2, 4));
    expect(text(test.exchange(METHOD.get, { uri: '/validate' }).payload)).toBe('second');
    const [second] = test.raw(5, OPTION.eTag);
    expect(equal(first!, second!)).toBe(false);
    expect(put('third')).toBe(code(2, 4));
    expect(put('fourth', second)).toBe(code(4, 12));
    test.expectLadder(
      'CON GET /validate ->',
      '<- ACK 2.05',
      'CON PUT /validate ->',
      '<- ACK 2.04',
      'CON GET /validate ->',
      '<- ACK 2.05',
      'CON PUT /validate ->',
      '<- ACK 2.04',
      'CON PUT /validate ->',
      '<- ACK 4.12',
    );
    expect([2, 6, 8].map((at) => test.raw(at, OPTION.ifMatch))).toEqual([[first], [], [second]]);
    expect([2, 6, 8].map((at) => test.format(at))).toEqual([TEXT, TEXT, TEXT]);
    for (const at of [0, 2, 4, 6, 8]) test.expectPiggybacked(at, at + 1);
    test.expectOtherIds(0, 2, 4, 6, 8);
    expect(text(test.resources.stored.get('/validate')!)).toBe('third');
  });

  it('TD_COAP_CORE_23: PUT with If-None-Match', () => {
    const test = new Plugtest(23);
    const create = (payload: string) =>
      test.exchange(METHOD.put, {
        uri: '/create1',
        payload,
        options: [format(TEXT), { number: OPTION.ifNoneMatch, value: NO_BYTES }],
      }).code;
    expect([create('one'), create('two')]).toEqual([code(2, 1), code(4, 12)]);
    test.expectLadder('CON PUT /create1 ->', '<- ACK 2.01', 'CON PUT /create1 ->', '<- ACK 4.12');
    expect([0, 2].map((at) => test.raw(at, OPTION.ifNoneMatch))).toEqual([[NO_BYTES], [NO_BYTES]]);
    test.expectPiggybacked(0, 1);
    test.expectPiggybacked(2, 3);
    test.expectOtherIds(0, 2);
    expect(text(test.resources.stored.get('/create1')!)).toBe('one');
  });

  // 24 to 29 put a reverse proxy between the two, which there is none here; there is no 30.
  it('TD_COAP_CORE_31: ping', () => {
    const test = new Plugtest(31);
    const handle = test.ping();
    test.wire.run(1_000);
    test.expectLadder('CON ->', '<- RST');
    expect(test.wire.crossings[0]!.bytes).toHaveLength(4);
    test.expectEmpty('RST', 0, 1);
    expect(test.client.events).toEqual([{ kind: 'sent', handle }]);
  });

  it('TD_COAP_CORE_31: the ping of a client that waits for a separate response', () => {
    const test = new Plugtest(31);
    test.resources.handlers.set('/slow', () => ({ response: content('slow'), after: 90_000 }));
    expect(text(test.exchange(METHOD.get, { uri: '/slow' }, 100_000).payload)).toBe('slow');
    test.expectLadder('CON GET /slow ->', '<- ACK', 'CON ->', '<- RST', '<- CON 2.05', 'ACK ->');
    test.expectEmpty('RST', 2, 3);
  });
});

import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concat, fromUtf8, utf8 } from '../../src/base/bytes.ts';
import { OPTION, type Option, stringOption, uintOption } from '../../src/coap/options.ts';
import { decodeJson, encodeByteString, encodeJson } from '../../src/compact/cbor.ts';
import { NO_CODERS, pack, packCompact } from '../../src/compact/container.ts';
import { HandleReader, HandleWriter } from '../../src/compact/handles.ts';
import { MAX_UNPACKED_BYTES, pipeCodec, pipeCodecFor } from '../../src/exchange/pipe_codec.ts';
import { plainCodec } from '../../src/exchange/plain_codec.ts';
import type { Body, ExchangeRequest } from '../../src/exchange/request.ts';
import { MAX_TARGET_LENGTH } from '../../src/exchange/target.ts';
import type { JsonValue } from '../../src/matrix/json.ts';
import { requests, responses } from './generators.ts';

const compactCodec = pipeCodecFor({ writing: { context: {}, packing: { kind: 'static' } } });
const CODECS = { plain: plainCodec, pipe: pipeCodec, compact: compactCodec };
const MSC3079 = new URL('../../../shared/reference/msc3079-v1.json', import.meta.url);
const GET = { code: 1, options: [], payload: new Uint8Array(0) };
const NO_BYTES = new Uint8Array(0);

/** JSON compared as text, so that -0 and own __proto__ keys cannot hide. */
const text = (value: unknown): string =>
  JSON.stringify(value, (_, inner) => (inner instanceof Uint8Array ? `bytes ${inner.join()}` : inner));

const mustBeOk = <T>(result: { ok: true; value: T } | { ok: false; problem: unknown }): T => {
  if (!result.ok) throw new Error(String(result.problem));
  return result.value;
};

describe.each(Object.entries(CODECS))('the %s codec', (name, codec) => {
  test('gives every request back as it was', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const coap = mustBeOk(codec.encodeRequest(request));
        expect(text(mustBeOk(codec.decodeRequest(coap)))).toBe(text(inFieldOrder(request)));
      }),
      { seed: 1, numRuns: 300 },
    );
  });

  test('gives every answer back with its exact status', () => {
    fc.assert(
      fc.property(responses, requests, (response, request) => {
        const to = mustBeOk(codec.encodeRequest(request));
        const coap = codec.encodeResponse(response, to);
        expect([2, 4, 5]).toContain(coap.code >> 5);
        const back = mustBeOk(codec.decodeResponse(coap));
        expect(back.status).toBe(response.status);
        expect(back.headers).toEqual(response.headers);
        expect(text(back.body)).toBe(text(response.body));
      }),
      { seed: 2, numRuns: 300 },
    );
  });

  test('writes options in ascending order', () => {
    fc.assert(
      fc.property(requests, responses, (request, response) => {
        const coap = mustBeOk(codec.encodeRequest(request));
        for (const { options } of [coap, codec.encodeResponse(response, coap)]) {
          const numbers = options.map((option) => option.number);
          expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
        }
      }),
      { seed: 3, numRuns: 200 },
    );
  });

  test('is never thrown at, whatever a peer sends', () => {
    const options = fc.array(
      fc.record({
        number: fc.oneof(
          fc.constantFrom(...Object.values(OPTION), 256, 65000, 65004, 65008, 65012, 65016),
          fc.nat(65535),
        ),
        value: fc.oneof(
          fc.uint8Array({ maxLength: 9 }),
          fc.constantFrom(utf8('..'), utf8('a=b'), Uint8Array.of(50), Uint8Array.of(60)),
        ),
      }),
      { maxLength: 8 },
    );
    const payload = fc.oneof(
      fc.uint8Array({ maxLength: 60 }),
      fc.uint8Array({ maxLength: 60 }).map((bytes) => pack(concat(encodeJson('/x'), bytes))),
      fc.uint8Array({ maxLength: 60 }).map((bytes) => concat(Uint8Array.of(0x82), bytes)),
    );
    let accepted = 0;
    fc.assert(
      fc.property(fc.nat(255), options, payload, (code, some, bytes) => {
        const coap = { code, options: some.toSorted((a, b) => a.number - b.number), payload: bytes };
        if (codec.decodeRequest(coap).ok) accepted++;
        codec.decodeResponse(coap);
        codec.encodeResponse({ status: 200, headers: {}, body: { kind: 'json', value: {} } }, coap);
      }),
      { seed: 4, numRuns: 1500 },
    );
    expect(accepted).toBeGreaterThan(10);
  });

  test('takes the status of an error whose payload it cannot read, and of nothing else', () => {
    const told = { options: [], payload: utf8('option 9') };
    expect(codec.decodeResponse({ code: (4 << 5) | 2, ...told })).toEqual({
      ok: true,
      value: { status: 400, headers: {} },
    });
    expect(codec.decodeResponse({ code: (2 << 5) | 5, ...told })).toMatchObject({ ok: false });
  });

  test('refuses a method that CoAP has not', () => {
    expect(codec.encodeRequest({ method: 'BREW', path: '/', query: '' })).toMatchObject({ ok: false });
    expect(codec.decodeRequest({ ...GET, code: 5 })).toMatchObject({ ok: false, problem: { status: 405 } });
  });

  test('refuses to send what is nested too deeply to be read', () => {
    let value: JsonValue = 1;
    for (let i = 0; i < 1000; i++) value = [value];
    expect(
      codec.encodeRequest({ method: 'PUT', path: '/a', query: '', body: { kind: 'json', value } }),
    ).toMatchObject({ ok: false });
    expect(() =>
      codec.encodeResponse({ status: 200, headers: {}, body: { kind: 'json', value } }, GET),
    ).not.toThrow();
  });

  test('keeps a token out of everything that is compressed', () => {
    const coap = mustBeOk(
      codec.encodeRequest({ method: 'GET', path: '/a', query: '', authorization: 'Bearer secret' }),
    );
    expect(coap.options.filter(({ number }) => number === 256)).toEqual([stringOption(256, 'secret')]);
    expect(name === 'plain' ? 0 : coap.payload.length).toBeLessThan(8);
  });

  test('takes no header that would begin another header', () => {
    const options = [stringOption(65008, '/a\r\nset-cookie: x'), stringOption(65016, 'ok\u0000')];
    expect(mustBeOk(codec.decodeResponse({ code: 69, options, payload: NO_BYTES })).headers).toEqual({});
    const split = [stringOption(256, 'a\r\nb: c')];
    const target = name === 'plain' ? NO_BYTES : pack(encodeJson('/'));
    expect(mustBeOk(codec.decodeRequest({ code: 1, options: split, payload: target }))).toEqual({
      method: 'GET',
      path: '/',
      query: '',
    });
  });
});

describe('plain CoAP', () => {
  const path = (...segments: string[]): Option[] =>
    segments.map((segment) => stringOption(OPTION.uriPath, segment));
  const put = (payload: Uint8Array, ...options: Option[]) =>
    plainCodec.decodeRequest({ code: 3, options: [...path('a'), ...options], payload });

  test('has a path of options that becomes a URL again', () => {
    const request = mustBeOk(
      plainCodec.decodeRequest({
        ...GET,
        options: [
          ...path('_matrix', 'client', '!room:a/b', ''),
          stringOption(OPTION.uriQuery, 'from=a b+c&d'),
          stringOption(OPTION.uriQuery, 'x'),
        ],
      }),
    );
    expect(request.path).toBe('/_matrix/client/!room%3Aa%2Fb/');
    expect(request.query).toBe('from=a%20b%2Bc%26d&x');
    expect(mustBeOk(plainCodec.decodeRequest(GET)).path).toBe('/');
  });

  test('reads a plus in our own queries as the space that it is in HTTP', () => {
    const coap = mustBeOk(plainCodec.encodeRequest({ method: 'GET', path: '/', query: 'q=a+b%2B' }));
    expect(coap.options).toEqual([stringOption(OPTION.uriQuery, 'q=a b+')]);
  });

  test.each([
    ['/0', '/_matrix/client/versions'],
    ['/7', '/_matrix/client/v3/sync'],
    ['/9/!a:b/m.room.message/1', '/_matrix/client/v3/rooms/!a%3Ab/send/m.room.message/1'],
    ['/8/!a:b/m.room.name', '/_matrix/client/v3/rooms/!a%3Ab/state/m.room.name/'],
    ['/n', '/_matrix/client/v3/pushrules/'],
    ['/u/!a:b/$c', '/_matrix/client/v3/rooms/!a%3Ab/report/%24c'],
    ['/u/!a:b/$c/d', '/u/!a%3Ab/%24c/d'],
    ['/u/!a:b', '/u/!a%3Ab'],
    ['/v', '/v'],
  ])('reads the short path %s of MSC3079 as %s', (short, long) => {
    const segments = short.slice(1).split('/');
    const request = mustBeOk(plainCodec.decodeRequest({ ...GET, options: path(...segments) }));
    expect(request.path).toBe(long);
  });

  test('says a path that only looks like a short one in a way that is read as it is', () => {
    const request = { method: 'GET', path: '/9/a/b/c', query: 'd=e' };
    const coap = mustBeOk(plainCodec.encodeRequest(request));
    expect(coap.options.map(({ number }) => number)).toEqual([65003]);
    expect(mustBeOk(plainCodec.decodeRequest(coap))).toEqual(request);
  });

  test.skipIf(!existsSync(MSC3079))(
    'reads every short path of MSC3079 (needs the reference files beside the project)',
    () => {
      const { coap_path_enums: enums } = JSON.parse(readFileSync(MSC3079, 'utf8')) as {
        coap_path_enums: Record<string, string>;
      };
      expect(Object.keys(enums)).toHaveLength(57);
      for (const [short, template] of Object.entries(enums)) {
        const names = template.match(/\{\w+\}/g) ?? [];
        const long = template.replace('/r0/', '/v3/').replaceAll(/\{\w+\}/g, 'x');
        const options = path(short, ...names.map(() => 'x'));
        expect(mustBeOk(plainCodec.decodeRequest({ ...GET, options })).path).toBe(long);
      }
    },
  );

  test.each(['.', '..'])('refuses the segment %s', (segment) => {
    expect(plainCodec.decodeRequest({ ...GET, options: path('a', segment) })).toMatchObject({
      ok: false,
      problem: { status: 400 },
    });
    expect(plainCodec.encodeRequest({ method: 'GET', path: `/a/${segment}`, query: '' })).toMatchObject({
      ok: false,
    });
    expect(
      plainCodec.encodeRequest({ method: 'GET', path: `/a/${segment.replaceAll('.', '%2E')}`, query: '' }),
    ).toMatchObject({ ok: false });
  });

  test('refuses text that is not UTF-8, and percent signs that encode nothing', () => {
    expect(
      plainCodec.decodeRequest({ ...GET, options: [{ number: OPTION.uriPath, value: Uint8Array.of(0xff) }] }),
    ).toMatchObject({ ok: false });
    expect(
      plainCodec.decodeRequest({
        ...GET,
        options: [{ number: OPTION.uriQuery, value: Uint8Array.of(0xff) }],
      }),
    ).toMatchObject({ ok: false });
    expect(plainCodec.encodeRequest({ method: 'GET', path: '/%zz', query: '' })).toMatchObject({ ok: false });
  });

  test('takes a path and a query of 4 KB in ordinary options', () => {
    const path = `/_matrix${`/${'s'.repeat(255)}`.repeat(15)}`;
    const query = Array.from({ length: 16 }, (_, n) => `k${n % 10}=${'v'.repeat(252)}`).join('&');
    const request = { method: 'GET', path, query };
    const coap = mustBeOk(plainCodec.encodeRequest(request));
    expect(new Set(coap.options.map(({ number }) => number))).toEqual(
      new Set([OPTION.uriPath, OPTION.uriQuery]),
    );
    expect(mustBeOk(plainCodec.decodeRequest(coap))).toEqual(request);
  });

  test('carries what is too long for an Uri-Path or Uri-Query in an option of its own, unchanged', () => {
    for (const [path, query] of [
      [`/${'a'.repeat(256)}`, ''],
      ['/_matrix/client/v3/sync', `filter=${encodeURIComponent(JSON.stringify({ x: 'y'.repeat(4000) }))}`],
    ] as const) {
      const request = { method: 'GET', path, query };
      const coap = mustBeOk(plainCodec.encodeRequest(request));
      expect(coap.options.map(({ number }) => number)).toEqual([65003]);
      expect(mustBeOk(plainCodec.decodeRequest(coap))).toEqual(request);
    }
    const tooLong = { method: 'GET', path: `/${'a'.repeat(MAX_TARGET_LENGTH)}`, query: '' };
    expect(plainCodec.encodeRequest(tooLong)).toMatchObject({ ok: false });
  });

  test.each(['a', '/a b', '/a/../b', '/a/%2e%2E/b', '/%zz', ''])(
    'refuses %j in the option for long targets',
    (target) => {
      expect(plainCodec.decodeRequest({ ...GET, options: [stringOption(65003, target)] })).toMatchObject({
        ok: false,
        problem: { status: 400 },
      });
    },
  );

  test('names longer answers to a GET, and says no more than their name to whoever has them', () => {
    const response = {
      status: 200,
      headers: {},
      body: { kind: 'json', value: { a: 'b'.repeat(100) } } as Body,
    };
    const first = plainCodec.encodeResponse(response, GET);
    const tag = first.options.find(({ number }) => number === OPTION.eTag)!;
    expect(tag.value).toHaveLength(8);
    const again = plainCodec.encodeResponse(response, {
      ...GET,
      options: [{ number: OPTION.eTag, value: Uint8Array.of(1) }, tag],
    });
    expect(again).toEqual({
      code: (2 << 5) | 3,
      options: [tag, uintOption(OPTION.maxAge, 0)],
      payload: NO_BYTES,
    });
    // Another representation, another form of it, and whatever is no GET, come whole.
    const other = { ...response, body: { kind: 'json', value: { a: 'c'.repeat(100) } } as Body };
    expect(plainCodec.encodeResponse(other, { ...GET, options: [tag] }).code).toBe((2 << 5) | 5);
    const asJson = [tag, uintOption(OPTION.accept, 50)];
    expect(plainCodec.encodeResponse(response, { ...GET, options: asJson }).code).toBe((2 << 5) | 5);
    expect(plainCodec.encodeResponse(response, { ...GET, code: 2, options: [tag] }).code).toBe((2 << 5) | 4);
  });

  test('lets no cache between keep an answer to a GET', () => {
    for (const status of [200, 404, 429]) {
      const coap = plainCodec.encodeResponse({ status, headers: {} }, GET);
      expect(coap.options).toEqual([uintOption(OPTION.maxAge, 0)]);
      expect(mustBeOk(plainCodec.decodeResponse(coap)).headers).toEqual({});
    }
  });

  test('reads JSON and CBOR, and without a Content-Format whichever it is', () => {
    const value = { msgtype: 'm.text' };
    const expected = { kind: 'json', value };
    expect(mustBeOk(put(utf8(JSON.stringify(value)), uintOption(OPTION.contentFormat, 50))).body).toEqual(
      expected,
    );
    expect(mustBeOk(put(encodeJson(value), uintOption(OPTION.contentFormat, 60))).body).toEqual(expected);
    expect(mustBeOk(put(utf8(JSON.stringify(value)))).body).toEqual(expected);
    expect(mustBeOk(put(encodeJson(value))).body).toEqual(expected);
    expect(mustBeOk(put(NO_BYTES, uintOption(OPTION.contentFormat, 60))).body).toBeUndefined();
  });

  test.each([
    ['JSON that is none', utf8('{"a":'), 50, 400, 'M_NOT_JSON'],
    ['JSON that is not UTF-8', Uint8Array.of(0x22, 0xff, 0x22), 50, 400, 'M_NOT_JSON'],
    ['CBOR that is none', Uint8Array.of(0xff), 60, 400, 'M_NOT_JSON'],
    ['an unknown format', utf8('x'), 9999, 415, 'M_UNRECOGNIZED'],
  ])('answers %s with a Matrix error', (_, payload, format, status, errcode) => {
    expect(put(payload, uintOption(OPTION.contentFormat, format))).toMatchObject({
      ok: false,
      problem: { status, errcode },
    });
  });

  test('answers in the form that Accept asks for, else in that of the request, else in CBOR', () => {
    const response = { status: 200, headers: {}, body: { kind: 'json', value: { a: 1 } } as Body };
    const formOf = (...options: Option[]): string => {
      const coap = plainCodec.encodeResponse(response, { ...GET, options });
      return fromUtf8(coap.payload) === '{"a":1}' ? 'json' : decodeJson(coap.payload).ok ? 'cbor' : 'neither';
    };
    expect(formOf()).toBe('cbor');
    expect(formOf(uintOption(OPTION.accept, 50))).toBe('json');
    expect(formOf(uintOption(OPTION.contentFormat, 50))).toBe('json');
    expect(formOf(uintOption(OPTION.contentFormat, 50), uintOption(OPTION.accept, 60))).toBe('cbor');
    expect(plainCodec.decodeRequest({ ...GET, options: [uintOption(OPTION.accept, 9999)] })).toMatchObject({
      ok: false,
      problem: { status: 406 },
    });
  });

  test('says in Max-Age when to come again', () => {
    const coap = plainCodec.encodeResponse({ status: 429, headers: { 'retry-after': '300' } }, GET);
    expect(coap).toMatchObject({ code: (4 << 5) | 29, options: [uintOption(OPTION.maxAge, 300)] });
  });
});

describe('the pipe codec', () => {
  const request = (bytes: Uint8Array) => pipeCodec.decodeRequest({ code: 1, options: [], payload: bytes });

  test('has the bytes that its documentation says', () => {
    const put: ExchangeRequest = {
      method: 'PUT',
      path: '/x',
      query: 'y=1',
      body: { kind: 'json', value: { a: 1 } },
    };
    expect(mustBeOk(pipeCodec.encodeRequest(put))).toEqual({
      code: 3,
      options: [],
      payload: Uint8Array.of(0, 0x66, ...utf8('/x?y=1'), 0xa1, 0x61, ...utf8('a'), 1),
    });
    const image: Body = { kind: 'bytes', contentType: 'image/png', bytes: Uint8Array.of(1, 2) };
    expect(pipeCodec.encodeResponse({ status: 200, headers: {}, body: image }, GET)).toEqual({
      code: (2 << 5) | 5,
      options: [],
      payload: Uint8Array.of(0, 0x42, 1, 2, 23),
    });
    expect(pipeCodec.encodeResponse({ status: 200, headers: {} }, GET).payload).toEqual(NO_BYTES);
  });

  test.each([
    ['no container', NO_BYTES],
    ['an unknown format', Uint8Array.of(0x7f, 1)],
    ['no target', pack(encodeJson({}))],
    ['a target that is no path', pack(encodeJson('x'))],
    ['a target with a space', pack(encodeJson('/a b'))],
    ['a target with a fragment', pack(encodeJson('/a#b'))],
    ['a target with a line break', pack(encodeJson('/a\r\nx: y'))],
    ['a target without end', pack(encodeJson(`/${'a'.repeat(MAX_TARGET_LENGTH)}`))],
    ['two bodies', pack(concat(encodeJson('/a'), encodeJson({}), encodeJson({})))],
    ['bytes without a media type', pack(concat(encodeJson('/a'), encodeByteString(utf8('x'))))],
    [
      'bytes with a strange media type',
      pack(concat(encodeJson('/a'), encodeByteString(utf8('x')), encodeJson(9999))),
    ],
    [
      'bytes with too much after them',
      pack(concat(encodeJson('/a'), encodeByteString(utf8('x')), encodeJson(42), encodeJson(1))),
    ],
  ])('answers %s with 400', (_, payload) => {
    expect(request(payload)).toMatchObject({ ok: false, problem: { status: 400, errcode: 'M_NOT_JSON' } });
  });

  test('answers a bomb with 413', () => {
    const bomb = pack(new Uint8Array(MAX_UNPACKED_BYTES + 1));
    expect(bomb.length).toBeLessThan(10_000);
    expect(request(bomb)).toMatchObject({ ok: false, problem: { status: 413, errcode: 'M_TOO_LARGE' } });
  });
});

describe('the compact form of the pipe codec', () => {
  const ROOM = '!wJsZMdPUdWbCJMRxHo:a.example';
  const message: ExchangeRequest = {
    method: 'PUT',
    path: `/_matrix/client/v3/rooms/${encodeURIComponent(ROOM)}/send/m.room.message/7`,
    query: '',
    body: { kind: 'json', value: { msgtype: 'm.text', body: 'Hello World' } },
  };
  const eventId = '$aHpt0OlHvpPvGRbJeSvrfr4cKVJnFVFf6KHQPHqE0Mg';
  const answer = { status: 200, headers: {}, body: { kind: 'json', value: { event_id: eventId } } as Body };

  /** Two ends of a session, whose messages are numbered from both. */
  function session() {
    const writer = new HandleWriter();
    const reader = new HandleReader();
    let number = 0;
    return {
      /** Sends a request, and has its arrival acknowledged. */
      exchange(request: ExchangeRequest): number {
        const written = writer.message(1, 0);
        const writing = { context: { handles: written }, packing: { kind: 'static' } } as const;
        const handles = reader.message({ generation: 1, number });
        const reading = { context: { handles }, coders: NO_CODERS };
        const coap = mustBeOk(pipeCodecFor({ writing }).encodeRequest(request));
        expect(mustBeOk(pipeCodecFor({ reading }).decodeRequest(coap))).toEqual(request);
        number++;
        writer.over(written, 'read', 0);
        return coap.payload.length;
      },
    };
  }

  test('takes six bytes and the text for a message to a known room (W1: without the mixer)', () => {
    const { exchange } = session();
    const first = exchange(message);
    expect(exchange(message)).toBe(17);
    expect(first).toBe(45);
    const coap = mustBeOk(pipeCodec.encodeRequest(message));
    expect(coap.payload.length).toBe(56);
    expect(compactCodec.encodeResponse(answer, coap).payload.length).toBe(36);
    expect(pipeCodec.encodeResponse(answer, coap).payload.length).toBe(48);
  });

  test('takes so many bytes for these', () => {
    const { exchange } = session();
    exchange(message);
    const put = (path: string, value: JsonValue): ExchangeRequest => ({
      method: 'PUT',
      path: `/_matrix/client/v3/rooms/${encodeURIComponent(ROOM)}/${path}`,
      query: '',
      body: { kind: 'json', value },
    });
    const sizes = [
      exchange({ method: 'GET', path: '/_matrix/client/v3/sync', query: 'since=s1_4711&timeout=30000' }),
      exchange(put('typing/%40alice%3Aa.example', { typing: true, timeout: 30000 })),
      exchange(put('typing/%40alice%3Aa.example', { typing: true, timeout: 30000 })),
      exchange(put(`redact/${encodeURIComponent(eventId)}/8`, {})),
      exchange(
        put('send/m.reaction/9', {
          'm.relates_to': { rel_type: 'm.annotation', event_id: eventId, key: '👍' },
        }),
      ),
    ];
    expect(sizes).toEqual([14, 23, 13, 38, 48]);
  });

  test('has the bytes that its documentation says', () => {
    const { exchange } = session();
    exchange(message);
    const image: Body = { kind: 'bytes', contentType: 'image/png', bytes: Uint8Array.of(1, 2) };
    const packing = { kind: 'nothing' } as const;
    const codec = pipeCodecFor({ writing: { context: {}, packing } });
    expect(codec.encodeResponse({ status: 200, headers: {}, body: image }, GET).payload).toEqual(
      Uint8Array.of(0x82, 0xff, 23, 1, 2),
    );
    expect(codec.encodeResponse({ status: 200, headers: {} }, GET).payload).toEqual(NO_BYTES);
    expect(
      mustBeOk(codec.encodeRequest({ method: 'GET', path: '/_matrix/client/versions', query: '' })).payload,
    ).toHaveLength(2);
  });

  test('tells a peer that names what is not known here to say it in full', () => {
    const writer = new HandleWriter();
    const before = writer.message(1, 0);
    before.write('room', ROOM);
    writer.over(before, 'read', 0);
    const writing = { context: { handles: writer.message(1, 0) }, packing: { kind: 'static' } } as const;
    const coap = mustBeOk(pipeCodecFor({ writing }).encodeRequest(message));
    const handles = new HandleReader().message({ generation: 1, number: 1 });
    expect(
      pipeCodecFor({ reading: { context: { handles }, coders: NO_CODERS } }).decodeRequest(coap),
    ).toMatchObject({
      ok: false,
      problem: { status: 422, errcode: 'ORG_RAVINE_UNKNOWN_HANDLE' },
    });
    // Whoever reads without handles knows none either.
    expect(pipeCodec.decodeRequest(coap)).toMatchObject({ ok: false, problem: { status: 422 } });
  });

  test.each([
    ['no target', []],
    ['a method that is not its code', [0x00, 0x61, 0x61, 0x07]],
    ['a path with a space', [0xff, 0x00, 0x62, 0x2f, 0x20]],
    ['a path with a question mark', [0xff, 0x00, 0x63, 0x2f, 0x61, 0x3f]],
    ['no path', [0xff, 0x00, 0x61, 0x61]],
    ['two bodies', [0xff, 0x00, 0x61, 0x2f, 0xa0, 0xa0]],
    ['bytes without a media type', [0xff, 0x00, 0x61, 0x2f, 0xff]],
    ['bytes with a strange media type', [0xff, 0x00, 0x61, 0x2f, 0xff, 0x19, 0x27, 0x0f]],
  ])('answers %s with 400', (_, bytes) => {
    const payload = packCompact({ bytes: Uint8Array.from(bytes), blobs: [] }, { kind: 'nothing' });
    expect(compactCodec.decodeRequest({ code: 1, options: [], payload })).toMatchObject({
      ok: false,
      problem: { status: 400, errcode: 'M_NOT_JSON' },
    });
  });
});

function inFieldOrder({ method, path, query, authorization, body }: ExchangeRequest): ExchangeRequest {
  return {
    method,
    path,
    query,
    ...(authorization === undefined ? {} : { authorization }),
    ...(body === undefined ? {} : { body }),
  };
}

import { concat, utf8 } from '../../src/base/bytes.ts';
import type { Message } from '../../src/coap/message.ts';
import { OPTION, type Option, stringOption, uintOption } from '../../src/coap/options.ts';
import { encodeJson } from '../../src/compact/cbor.ts';

/* Input of bad_input.test.ts that is answered without any state: what it is, the input, the answer. */

export const bytesOf = (text: string): Uint8Array =>
  Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));

/** CoAP messages and what comes back, in hexadecimal. */
export const MESSAGES: readonly (readonly [what: string, datagram: string, answers: readonly string[]])[] = [
  ['three bytes', '40 01 00', []],
  ['version 0', '00 01 00 01', []],
  ['version 2', '80 01 00 01', []],
  ['a token length of 15', '4f 01 00 01 00 00 00 00 00 00 00 00 00', ['70 00 00 01']],
  ['a token that is cut off', '44 01 00 02 00', ['70 00 00 02']],
  ['an empty message with more behind it', '40 00 00 03 00', ['70 00 00 03']],
  ['a payload marker without payload', '40 01 00 04 ff', ['70 00 00 04']],
  ['an option delta of 15', '40 01 00 05 f0', ['70 00 00 05']],
  ['an option length of 15', '40 01 00 06 0f', ['70 00 00 06']],
  ['an option that is cut off', '40 01 00 07 b4 61', ['70 00 00 07']],
  ['an option number over 65535', '40 01 00 08 e0 ff f0 e0 ff f0', ['70 00 00 08']],
  ['the same, non-confirmable', '50 01 00 09 f0', []],
  ['code 1.00', '40 20 00 0a', ['70 00 00 0a']],
  ['code 7.31', '40 ff 00 0b', ['70 00 00 0b']],
  ['an answer that nobody waits for', '40 45 00 0c', ['70 00 00 0c']],
  ['the same, non-confirmable', '50 45 00 0d', []],
  ['an acknowledgement of nothing', '60 00 00 0e', []],
  ['a reset of nothing', '70 00 00 0f', []],
  ['method 0.31', '40 1f 00 10', ['60 85 00 10']],
  ['Proxy-Uri', '40 01 00 11 d1 16 61', ['60 a5 00 11']],
  ['an unknown critical option', '40 01 00 12 d0 fc', ['60 82 00 12 ff 6f 70 74 69 6f 6e 20 32 36 35']],
  ['the same, non-confirmable', '50 01 00 13 d0 fc', []],
  ['Accept twice', '40 01 00 14 d1 04 32 01 3c', ['60 82 00 14 ff 6f 70 74 69 6f 6e 20 31 37']],
  ['If-None-Match', '40 01 00 15 50', ['60 82 00 15 ff 6f 70 74 69 6f 6e 20 35']],
  ['Block1 with the reserved size', '40 02 00 16 d1 0e 0f', ['60 80 00 16']],
  ['the sixth block of nothing', '40 02 00 17 d1 0e 50', ['60 88 00 17']],
  ['Block2 in the middle of nothing', '40 02 00 18 d1 0a 50', ['60 88 00 18']],
  ['Size1 of 16 MiB', '40 02 00 19 d1 0e 08 d4 14 01 00 00 00', ['60 8d 00 19 d3 2f 80 00 00']],
];

const segments = (...names: string[]): Option[] => names.map((name) => stringOption(OPTION.uriPath, name));
const login = segments('_matrix', 'client', 'v3', 'login');
export const whoami = segments('_matrix', 'client', 'v3', 'account', 'whoami');
export const token = (value: string): Option => stringOption(256, value);
const [JSON_TEXT, CBOR] = [50, 60].map((format) => uintOption(OPTION.contentFormat, format)) as [
  Option,
  Option,
];
const deep = (levels: number, open: number): Uint8Array => new Uint8Array(levels).fill(open);

/** Well-formed requests over plain CoAP; the code and errcode of the answer. */
export const REQUESTS: readonly (readonly [
  what: string,
  request: Partial<Message>,
  code: string,
  errcode: string,
])[] = [
  ['a path that is not there', { options: segments('nothing', 'here') }, '4.04', 'M_UNRECOGNIZED'],
  ['a method that is not taken', { code: 4, options: login }, '4.05', 'M_UNRECOGNIZED'],
  ['FETCH', { code: 5, options: login }, '4.05', 'M_UNRECOGNIZED'],
  ['a segment of two dots', { options: segments('_matrix', '..', 'client') }, '4.00', 'M_UNRECOGNIZED'],
  ['a slash inside a segment', { options: segments('_matrix/client', 'versions') }, '4.04', 'M_UNRECOGNIZED'],
  [
    'a segment that is not UTF-8',
    { options: [{ number: 11, value: Uint8Array.of(0xff) }] },
    '4.00',
    'M_UNRECOGNIZED',
  ],
  ['a zero byte in a segment', { options: segments('_matrix', '\0') }, '4.04', 'M_UNRECOGNIZED'],
  [
    'an Accept that nobody knows',
    { options: [...login, uintOption(OPTION.accept, 9999)] },
    '4.06',
    'M_UNRECOGNIZED',
  ],
  [
    'a Content-Format that nobody knows',
    { code: 2, options: [...login, uintOption(12, 9999)], payload: utf8('x') },
    '4.15',
    'M_UNRECOGNIZED',
  ],
  [
    'a picture',
    { code: 2, options: [...login, uintOption(12, 23)], payload: utf8('x') },
    '4.15',
    'M_NOT_JSON',
  ],
  [
    'JSON that is cut off',
    { code: 2, options: [...login, JSON_TEXT], payload: utf8('{"type":') },
    '4.00',
    'M_NOT_JSON',
  ],
  [
    'JSON that is not UTF-8',
    { code: 2, options: [...login, JSON_TEXT], payload: Uint8Array.of(0x22, 0xff, 0x22) },
    '4.00',
    'M_NOT_JSON',
  ],
  [
    'JSON of 1,000 levels',
    { code: 2, options: [...login, JSON_TEXT], payload: concat(deep(1000, 0x5b), deep(1000, 0x5d)) },
    '4.00',
    'M_NOT_JSON',
  ],
  [
    'CBOR that is cut off',
    { code: 2, options: [...login, CBOR], payload: bytesOf('a1 64 74') },
    '4.00',
    'M_NOT_JSON',
  ],
  [
    'CBOR with a key twice',
    { code: 2, options: [...login, CBOR], payload: bytesOf('a2 61 61 01 61 61 02') },
    '4.00',
    'M_NOT_JSON',
  ],
  [
    'CBOR with a tag',
    { code: 2, options: [...login, CBOR], payload: bytesOf('c1 00') },
    '4.00',
    'M_NOT_JSON',
  ],
  [
    'CBOR with more behind it',
    { code: 2, options: [...login, CBOR], payload: bytesOf('a0 00') },
    '4.00',
    'M_NOT_JSON',
  ],
  [
    'CBOR of 1,000 levels',
    { code: 2, options: [...login, CBOR], payload: deep(1000, 0x81) },
    '4.00',
    'M_NOT_JSON',
  ],
  [
    'CBOR of a huge array',
    { code: 2, options: [...login, CBOR], payload: bytesOf('9a ff ff ff ff') },
    '4.00',
    'M_NOT_JSON',
  ],
  ['no body', { code: 2, options: login }, '4.00', 'M_NOT_JSON'],
  [
    'a body of the wrong type',
    { code: 2, options: [...login, CBOR], payload: encodeJson([1]) },
    '4.00',
    'M_BAD_JSON',
  ],
  [
    'a field of the wrong type',
    { code: 2, options: [...login, CBOR], payload: encodeJson({ type: 7 }) },
    '4.00',
    'M_BAD_JSON',
  ],
  ['no token', { options: whoami }, '4.01', 'M_MISSING_TOKEN'],
  ['a wrong token', { options: [...whoami, token('nonsense')] }, '4.01', 'M_UNKNOWN_TOKEN'],
  ['a token with a line break', { options: [...whoami, token('a\r\nx: y')] }, '4.01', 'M_MISSING_TOKEN'],
  [
    'a server speaking for itself',
    {
      code: 3,
      options: [...segments('_matrix', 'federation', 'v1', 'send', '1'), CBOR],
      payload: encodeJson({ origin: 'friend.test', origin_server_ts: 1, pdus: [] }),
    },
    '4.01',
    'M_UNAUTHORIZED',
  ],
];

export const LOGIN = '/_matrix/client/v3/login';
export const LOG_IN = `POST ${LOGIN} HTTP/1.1`;
const WHO = 'GET /_matrix/client/v3/account/whoami';

/** HTTP: the request's line and headers, its body, the status and errcode of the answer. */
export const HTTP_REQUESTS: readonly (readonly [
  what: string,
  head: string,
  body: string | Uint8Array,
  status: number,
  errcode: string,
])[] = [
  ['no JSON', LOG_IN, '{"type":', 400, 'M_NOT_JSON'],
  ['JSON that is not UTF-8', LOG_IN, Uint8Array.of(0x22, 0xff, 0x22), 400, 'M_NOT_JSON'],
  ['no body', LOG_IN, '', 400, 'M_NOT_JSON'],
  ['an array', LOG_IN, '[]', 400, 'M_BAD_JSON'],
  ['a field of the wrong type', LOG_IN, '{"type":7}', 400, 'M_BAD_JSON'],
  ['200 levels', LOG_IN, `${'['.repeat(200)}${']'.repeat(200)}`, 400, 'M_BAD_JSON'],
  ['a million levels', LOG_IN, '['.repeat(1_000_000), 400, 'M_BAD_JSON'],
  ['CBOR that is cut off', `${LOG_IN}\r\nContent-Type: application/cbor`, bytesOf('a1'), 400, 'M_NOT_JSON'],
  [
    'CBOR with a key twice',
    `${LOG_IN}\r\nContent-Type: application/cbor`,
    bytesOf('a2 61 61 01 61 61 02'),
    400,
    'M_NOT_JSON',
  ],
  ['CBOR of the wrong type', `${LOG_IN}\r\nContent-Type: application/cbor`, bytesOf('80'), 400, 'M_BAD_JSON'],
  [
    'CBOR of a million levels',
    `${LOG_IN}\r\nContent-Type: application/cbor`,
    new Uint8Array(1_000_000).fill(0x81),
    400,
    'M_NOT_JSON',
  ],
  ['XML', `${LOG_IN}\r\nContent-Type: text/xml`, '<a/>', 415, 'M_NOT_JSON'],
  ['a type that is none', `${LOG_IN}\r\nContent-Type: ;;`, '{}', 415, 'M_NOT_JSON'],
  ['no token', `${WHO} HTTP/1.1`, '', 401, 'M_MISSING_TOKEN'],
  ['a wrong token', `${WHO} HTTP/1.1\r\nAuthorization: Bearer x`, '', 401, 'M_UNKNOWN_TOKEN'],
  ['another scheme', `${WHO} HTTP/1.1\r\nAuthorization: Basic eDp4`, '', 401, 'M_UNKNOWN_TOKEN'],
  [
    'a federation request that is not signed',
    'PUT /_matrix/federation/v1/send/1 HTTP/1.1',
    '{"origin":"friend.test","origin_server_ts":1,"pdus":[]}',
    401,
    'M_UNAUTHORIZED',
  ],
  ['dots in the path', 'GET /_matrix/client/v3/../versions HTTP/1.1', '', 404, 'M_UNRECOGNIZED'],
  [
    'encoded dots in the path',
    'GET /_matrix/client/%2e%2e/client/versions HTTP/1.1',
    '',
    404,
    'M_UNRECOGNIZED',
  ],
  ['a doubled slash', 'GET //_matrix/client/versions HTTP/1.1', '', 404, 'M_UNRECOGNIZED'],
  ['a zero byte in the path', 'GET /_matrix/client/v3/profile/%00 HTTP/1.1', '', 400, 'M_INVALID_PARAM'],
  ['a path that is not UTF-8', 'GET /_matrix/client/v3/profile/%ff HTTP/1.1', '', 400, 'M_INVALID_PARAM'],
  ['half an escape', 'GET /_matrix/client/v3/profile/%4 HTTP/1.1', '', 400, 'M_INVALID_PARAM'],
  [
    'a parameter of 2,000 characters',
    `GET /_matrix/client/v3/profile/${'x'.repeat(2_000)} HTTP/1.1`,
    '',
    414,
    'M_TOO_LARGE',
  ],
  ['a method that is not taken', 'DELETE /_matrix/client/versions HTTP/1.1', '', 405, 'M_UNRECOGNIZED'],
  ['a method that is none', 'BREW /_matrix/client/versions HTTP/1.1', '', 400, 'M_UNKNOWN'],
  ['headers of 20,000 bytes', `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}`, '', 431, 'M_TOO_LARGE'],
  ['two lengths', `${LOG_IN}\r\nContent-Length: 4`, '{"a":1}', 400, 'M_UNKNOWN'],
  ['a length and chunks', `${LOG_IN}\r\nTransfer-Encoding: chunked`, '0\r\n\r\n', 400, 'M_UNKNOWN'],
  ['no HTTP', 'hello', '', 400, 'M_UNKNOWN'],
];

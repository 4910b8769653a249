import fc from 'fast-check';
import { base64, base64url } from '../../src/base/bytes.ts';
import type { JsonValue } from '../../src/matrix/json.ts';

const hash = fc.uint8Array({ minLength: 32, maxLength: 32 });
const local = fc.oneof(
  fc.constantFrom('alice', 'bob', '', '42', 'Al:ice', 'ärger'),
  fc.string({ maxLength: 12 }),
);
export const serverNames = fc.constantFrom(
  'a.example',
  'b.example:8448',
  '[::1]:80',
  'matrix.org',
  'not a server',
);

/** Ids of every shape, and what only looks like one. */
export const ids: fc.Arbitrary<string> = fc.oneof(
  fc
    .tuple(fc.constantFrom('@', '!', '#', '$', '%'), local, serverNames)
    .map(([sigil, one, server]) => `${sigil}${one}:${server}`),
  fc.tuple(fc.constantFrom('$', '!'), hash).map(([sigil, bytes]) => sigil + base64url(bytes)),
  fc.tuple(serverNames, fc.string({ maxLength: 30 })).map(([server, media]) => `mxc://${server}/${media}`),
  fc.tuple(fc.nat(2 ** 31 - 1), fc.nat(2000)).map(([time, n]) => `m${1_700_000_000_000 + time}.${n}`),
);

/** Base64 of both alphabets, with and without padding, and texts whose last bits say nothing. */
const base64s = fc.oneof(
  fc.uint8Array({ maxLength: 90 }).map(base64),
  fc.uint8Array({ maxLength: 90 }).map(base64url),
  fc.uint8Array({ minLength: 64, maxLength: 64 }).map(base64),
  hash.map(base64),
  hash.map((bytes) => Buffer.from(bytes).toString('base64')),
  fc.stringMatching(/^[A-Za-z0-9+/_-]{18,50}$/),
  fc.stringMatching(/^[$!][A-Za-z0-9_-]{43}$/),
);

const words = fc.constantFrom(
  ...[
    'm.text',
    'm.room.message',
    'join',
    'msgtype',
    'body',
    'device_id',
    'ed25519:1',
    'ed25519:',
    's1_0',
    's1_01',
    'h1_5_7',
  ],
  ...[
    'm1700000000000.01',
    'm0700000000000.1',
    '0',
    '00',
    '1',
    '-1',
    '9007199254740991',
    '9007199254740992',
    '1e3',
    '28',
  ],
  ...[
    '$',
    '@',
    '!',
    '@:',
    '@a:',
    'mxc://',
    'mxc://a',
    'mxc://a/',
    'https://',
    'https://https://https://https://a',
    '@room: hi',
  ],
  ...[
    'ed25519:ed25519:ed25519:ed25519:ed25519:ed25519:1',
    '__proto__',
    'constructor',
    'toJSON',
    '',
    '\ud800',
    'a\udc00',
    '\ufeffbom',
  ],
);

export const texts: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 300 }),
  fc.array(fc.nat(0xffff), { maxLength: 10 }).map((units) => String.fromCharCode(...units)),
  words,
  ids,
  base64s,
);

const numbers = fc.oneof(
  fc.integer(),
  fc.maxSafeInteger(),
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc.integer({ min: 1_600_000_000_000, max: 1_900_000_000_000 }),
  fc.constantFrom(
    0,
    -0,
    1.5,
    0.1,
    1e300,
    5e-324,
    2 ** 31,
    2 ** 32,
    2 ** 39,
    2 ** 43,
    2 ** 43 - 1,
    2 ** 53 - 1,
    -(2 ** 53) + 1,
    2 ** 53,
    2 ** 64,
  ),
);

/** Any JSON value, with the texts, numbers and keys that encoders get wrong, and what Matrix's messages are made of. */
export const values: fc.Arbitrary<JsonValue> = fc.letrec<{ value: JsonValue; leaf: JsonValue }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    tie('leaf'),
    fc.array(tie('value'), { maxLength: 20 }),
    fc.dictionary(texts, tie('value'), { maxKeys: 20, noNullPrototype: true }),
    fc.record({
      msgtype: fc.constantFrom('m.text', 'm.notice', 1),
      body: tie('value'),
    }) as fc.Arbitrary<JsonValue>,
  ),
  leaf: fc.oneof(texts, texts, numbers, fc.boolean(), fc.constant(null)),
})).value;

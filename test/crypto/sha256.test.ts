import { sha256 as noble } from '@noble/hashes/sha2.js';
import { expect, it } from 'vitest';
import { fromHex, hex, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { sha256 } from '../../src/crypto/sha256.ts';

it.each([
  // FIPS 180-4, examples of SHA-256.
  ['abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
  [
    'abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq',
    '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
  ],
  ['', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
])('SHA-256 of %j is that of the standard, as text and as bytes', (message, digest) => {
  expect(hex(sha256(message))).toBe(digest);
  expect(sha256(utf8(message))).toStrictEqual(fromHex(digest));
});

it('SHA-256 agrees with its twin, and takes text as UTF-8', () => {
  const random = seededRandom(180);
  for (const length of [1, 55, 56, 63, 64, 65, 1_000, 70_000]) {
    const bytes = random.bytes(length);
    expect(hex(sha256(bytes))).toBe(hex(noble(bytes)));
  }
  expect(hex(sha256('日本語 \u{1f600}'))).toBe(hex(noble(utf8('日本語 \u{1f600}'))));
});

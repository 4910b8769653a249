import { ed25519 as noble } from '@noble/curves/ed25519.js';
import { describe, expect, it } from 'vitest';
import { fromHex, hex, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { publicKeyOf, sign, verify } from '../../src/crypto/ed25519.ts';

// RFC 8032, section 7.1: TEST 1 to 3.
const vectors = [
  [
    '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
    'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    '',
    'e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b',
  ],
  [
    '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
    '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    '72',
    '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
  ],
  [
    'c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7',
    'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
    'af82',
    '6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a',
  ],
].map((row) => row.map((text) => fromHex(text)!) as [Uint8Array, Uint8Array, Uint8Array, Uint8Array]);

describe('Ed25519', () => {
  it.each(vectors)('matches the vectors of RFC 8032 (%#)', (secret, publicKey, message, signature) => {
    expect(hex(publicKeyOf(secret))).toBe(hex(publicKey));
    expect(hex(sign(secret, message))).toBe(hex(signature));
    expect(verify(publicKey, message, signature)).toBe(true);
  });

  it('agrees with its twin on random keys, messages and broken signatures', () => {
    const random = seededRandom(8032);
    for (let i = 0; i < 25; i++) {
      const secret = random.bytes(32);
      const message = random.bytes(random.integer(200));
      const [publicKey, signature] = [publicKeyOf(secret), sign(secret, message)];
      expect(hex(publicKey)).toBe(hex(noble.getPublicKey(secret)));
      expect(hex(signature)).toBe(hex(noble.sign(message, secret)));
      const broken = signature.slice();
      const bit = random.integer(512);
      broken[bit >> 3]! ^= 1 << (bit & 7);
      expect(verify(publicKey, message, signature)).toBe(true);
      expect(verify(publicKey, message, broken)).toBe(false);
      expect(noble.verify(broken, message, publicKey)).toBe(false);
    }
  });

  it('answers false, and never throws, for what is no key or no signature', () => {
    const random = seededRandom(1);
    for (const keyLength of [0, 31, 32, 33, 64]) {
      for (const signatureLength of [0, 63, 64, 65]) {
        expect(verify(random.bytes(keyLength), utf8('message'), random.bytes(signatureLength))).toBe(false);
      }
    }
    for (let i = 0; i < 200; i++)
      expect(verify(random.bytes(32), random.bytes(8), random.bytes(64))).toBe(false);
    expect(verify(new Uint8Array(32).fill(255), utf8('x'), new Uint8Array(64).fill(255))).toBe(false);
  });

  it('does not mistake one key for another once there are more than it keeps', () => {
    const random = seededRandom(2);
    const message = utf8('message');
    const secrets = Array.from({ length: 1_100 }, () => random.bytes(32));
    const signed = secrets.map((secret) => [publicKeyOf(secret), sign(secret, message)] as const);
    expect(signed.every(([publicKey, signature]) => verify(publicKey, message, signature))).toBe(true);
    expect(verify(signed[0]![0], message, signed[1]![1])).toBe(false);
    expect(verify(signed[0]![0], message, signed[0]![1])).toBe(true);
  });

  it('takes arrays that are part of a larger one, and returns plain ones', () => {
    const [secret, publicKey, message, signature] = vectors[1]!;
    const inside = (bytes: Uint8Array): Uint8Array =>
      Uint8Array.of(9, ...bytes, 9).subarray(1, bytes.length + 1);
    expect(sign(inside(secret), inside(message))).toStrictEqual(signature);
    expect(verify(inside(publicKey), inside(message), inside(signature))).toBe(true);
    expect(publicKeyOf(secret)).toStrictEqual(publicKey);
  });

  it('asserts the length of a secret of ours', () => {
    expect(() => sign(new Uint8Array(31), utf8('x'))).toThrow('assertion');
    expect(() => publicKeyOf(new Uint8Array(33))).toThrow('assertion');
  });
});

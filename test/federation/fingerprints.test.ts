import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { base64, hex } from '../../src/base/bytes.ts';
import { sha256 } from '../../src/crypto/sha256.ts';
import { fingerprintGroups, fingerprintWords, parseFingerprint } from '../../src/federation/fingerprints.ts';

/** All words: those of sixteen fingerprints that hold each byte once. */
const words = Array.from({ length: 16 }, (_, row) =>
  fingerprintWords(hex(Uint8Array.from({ length: 32 }, (_, i) => 16 * row + (i % 16)))),
).flat();

function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length]!;
}

describe('the words of a fingerprint', () => {
  it('are 256 short ones that nobody mistakes for each other', () => {
    expect(words).toHaveLength(256);
    for (const word of words) expect(word).toMatch(/^[a-z]{4,7}$/);
    expect(new Set(words.map((word) => word.slice(0, 3))).size).toBe(256);
    for (const [i, word] of words.entries())
      for (const another of words.slice(i + 1)) expect(distance(word, another)).toBeGreaterThanOrEqual(3);
  });

  it('never change', () => {
    expect(hex(sha256(words.join(' ')))).toBe(
      '016f7ad00bdfb78902032f134f13571c7dc94b9f51761ce963b8f425fc7cb908',
    );
  });

  it('are of the first sixteen bytes, one each', () => {
    expect(fingerprintWords(`000102ff${'00'.repeat(28)}`).slice(0, 5)).toEqual([
      'acid',
      'adult',
      'agent',
      'zinc',
      'acid',
    ]);
    expect(fingerprintWords('ab'.repeat(32))).toHaveLength(16);
  });
});

describe('a fingerprint', () => {
  it('is read as it is shown, and in every other form', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (digest) => {
        const wanted = { ok: true, value: hex(digest) };
        expect(parseFingerprint(hex(digest))).toEqual(wanted);
        expect(parseFingerprint(hex(digest).toUpperCase())).toEqual(wanted);
        expect(parseFingerprint(fingerprintGroups(hex(digest)))).toEqual(wanted);
        expect(parseFingerprint(hex(digest).replace(/(..)(?!$)/g, '$1:'))).toEqual(wanted);
        expect(parseFingerprint(base64(digest))).toEqual(wanted);
        const ofKey = { ok: true, value: hex(sha256(digest)) };
        expect(parseFingerprint(`ed25519:${base64(digest)}`)).toEqual(ofKey);
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  it.each(['', 'ed25519:', 'ed25519:AAAA', 'abcd', 'x'.repeat(64), '0'.repeat(63), '0'.repeat(66)])(
    'is not %j',
    (text) => {
      expect(parseFingerprint(text).ok).toBe(false);
    },
  );
});

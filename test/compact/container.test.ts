import { createHash } from 'node:crypto';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { base64, base64url, concat, hex, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { encodeJson } from '../../src/compact/cbor.ts';
import { pack, unpack } from '../../src/compact/container.ts';
import { DICTIONARIES } from '../../src/compact/dictionary.ts';
import { deflate, inflate } from '../../src/compact/flate.ts';

const DICTIONARY = DICTIONARIES[1];
const LIMIT = 100_000;

describe('the preset dictionary', () => {
  test('1 has the bytes that it has always had', () => {
    expect(createHash('sha256').update(DICTIONARY).digest('hex')).toBe(
      '892e20ae4bcbd677c78fd1c40477bb5de8b26504e25e52509214c46658edeb35',
    );
    expect(DICTIONARY.length).toBeLessThan(32 * 1024);
  });
});

describe('Deflate with a preset dictionary', () => {
  const inputs = fc.oneof(
    fc.uint8Array({ maxLength: 3000 }),
    fc
      .array(fc.constantFrom('m.room.member', '"', 'event_id', 'aaaaaaaaaaaa', '{}'), { maxLength: 800 })
      .map((words) => utf8(words.join(''))),
  );

  test('comes back as it was and is what zlib means by it, both ways', () => {
    fc.assert(
      fc.property(inputs, (bytes) => {
        const packed = deflate(bytes, DICTIONARY);
        expect(inflate(packed, DICTIONARY, LIMIT)).toStrictEqual({ ok: true, value: bytes });
        expect(hex(inflateRawSync(packed, { dictionary: DICTIONARY }))).toBe(hex(bytes));
        const theirs = deflateRawSync(bytes, { dictionary: DICTIONARY, level: 9 });
        expect(inflate(theirs, DICTIONARY, LIMIT)).toStrictEqual({ ok: true, value: bytes });
      }),
      { seed: 1, numRuns: 400 },
    );
  });

  test('is the same bytes each time', () => {
    const bytes = utf8('m.room.message m.room.message hello');
    expect(hex(deflate(bytes, DICTIONARY))).toBe(hex(deflate(bytes, DICTIONARY)));
  });

  test('stops at the limit: a bomb of a gigabyte is neither held nor waited for', () => {
    // A gigabyte of zeros, as a block of zeros repeated: Deflate blocks may simply follow each other.
    const million = deflateRawSync(new Uint8Array(1_000_000), { finishFlush: 2 });
    const bomb = concat(...Array.from({ length: 1000 }, () => million));
    const before = process.memoryUsage().arrayBuffers;
    const result = inflate(bomb, new Uint8Array(0), 1_000_000);
    expect(result).toStrictEqual({ ok: false, problem: 'too large' });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16_000_000);
    // The bomb is one: without a limit in the way it goes on and on.
    const large = inflate(bomb, new Uint8Array(0), 20_000_000);
    expect(large).toStrictEqual({ ok: false, problem: 'too large' });
  });

  test('gives exactly the limit and not a byte more', () => {
    const bytes = new Uint8Array(5000).fill(7);
    const packed = deflate(bytes, DICTIONARY);
    expect(inflate(packed, DICTIONARY, 5000)).toMatchObject({ ok: true });
    expect(inflate(packed, DICTIONARY, 4999)).toStrictEqual({ ok: false, problem: 'too large' });
  });

  test('that is cut off or damaged is a problem or other bytes, never an exception', () => {
    const packed = deflate(
      utf8('The quick brown fox jumps over the lazy dog, again and again and again'),
      DICTIONARY,
    );
    for (let length = 0; length < packed.length; length++)
      expect(inflate(packed.subarray(0, length), DICTIONARY, LIMIT)).toMatchObject({ ok: false });
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        inflate(bytes, DICTIONARY, LIMIT);
      }),
      { seed: 5, numRuns: 5000 },
    );
  });
});

describe('a container', () => {
  test('comes back as it was and costs at most one byte more', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
        const packed = pack(bytes);
        expect(packed.length).toBeLessThanOrEqual(bytes.length + 1);
        expect(unpack(packed, LIMIT)).toStrictEqual({ ok: true, value: bytes });
      }),
      { seed: 6, numRuns: 300 },
    );
  });

  test('says which format it does not know', () => {
    expect(unpack(Uint8Array.of(2, 1, 2, 3), LIMIT)).toStrictEqual({
      ok: false,
      problem: { kind: 'unknown format', id: 2 },
    });
    expect(unpack(Uint8Array.of(255), LIMIT)).toStrictEqual({
      ok: false,
      problem: { kind: 'unknown format', id: 255 },
    });
    expect(unpack(new Uint8Array(0), LIMIT)).toStrictEqual({ ok: false, problem: { kind: 'empty' } });
    expect(unpack(Uint8Array.of(1, 0xff, 0xff), LIMIT)).toStrictEqual({
      ok: false,
      problem: { kind: 'malformed' },
    });
  });

  test('is bounded in both formats', () => {
    expect(unpack(pack(new Uint8Array(1000)), 999)).toStrictEqual({
      ok: false,
      problem: { kind: 'too large' },
    });
    expect(unpack(concat(Uint8Array.of(0), new Uint8Array(1000)), 999)).toStrictEqual({
      ok: false,
      problem: { kind: 'too large' },
    });
  });

  test('of a transaction with one message takes little more than its hashes and signature', () => {
    const random = seededRandom(7);
    const eventId = (): string => `$${base64url(random.bytes(32))}`;
    const pdu = {
      auth_events: [eventId(), eventId()],
      content: { body: 'Hello World', msgtype: 'm.text' },
      depth: 17,
      hashes: { sha256: base64(random.bytes(32)) },
      origin_server_ts: 1_795_000_000_000,
      prev_events: [eventId()],
      room_id: `!${base64url(random.bytes(32))}`,
      sender: '@alice:north.ravine.test',
      signatures: { 'north.ravine.test': { 'ed25519:a1': base64(random.bytes(64)) } },
      type: 'm.room.message',
    };
    const bytes = encodeJson({
      edus: [],
      origin: 'north.ravine.test',
      origin_server_ts: 1_795_000_000_123,
      pdus: [pdu],
    });
    const incompressible = 5 * 32 + 64;
    expect(pack(bytes).length).toBeLessThan(incompressible + 160);
  });
});

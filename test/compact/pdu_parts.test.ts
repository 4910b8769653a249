import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { base64, fromBase64, hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { ByteReader } from '../../src/compact/pdu/byte_reader.ts';
import { ByteWriter, unzigzag, varint, zigzag } from '../../src/compact/pdu/byte_writer.ts';
import {
  choose,
  isAll,
  listOf,
  MAX_CANDIDATES,
  readChoice,
  writeChoice,
} from '../../src/compact/pdu/choice.ts';
import { literalContents, literalNames } from '../../src/compact/pdu/literal.ts';
import { idOf } from '../../src/compact/pdu/rules.ts';
import type { NameKind } from '../../src/compact/pdu/view.ts';
import { referenceHash } from '../../src/matrix/hashes.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import type { Pdu } from '../../src/matrix/pdu.ts';
import { PduRoom, ROOM_VERSIONS, randomSaid } from './pdu_rooms.ts';

const codecs = { names: literalNames, contents: literalContents };

describe('a varint', () => {
  test('has seven bits a byte, the lowest first', () => {
    expect([0, 1, 127, 128, 300, 2 ** 53 - 1].map((value) => hex(varint(value)))).toEqual([
      ...['00', '01', '7f', '8001', 'ac02', 'ffffffffffffff0f'],
    ]);
  });

  test('of a signed number comes back, small numbers of either sign in one byte', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: -(2n ** 55n), max: 2n ** 55n }), (value) => {
        expect(new ByteReader(varint(zigzag(value)), codecs).bigVarint()).toBe(zigzag(value));
        expect(unzigzag(zigzag(value))).toBe(value);
      }),
      { seed: 1, numRuns: 200 },
    );
    expect([0n, -1n, 1n, -64n, 63n].map((value) => Number(zigzag(value)))).toEqual([0, 1, 2, 127, 126]);
  });

  test('is refused past ten bytes, and past what its field may be', () => {
    const long = new ByteReader(Uint8Array.from([...Array<number>(10).fill(0x80), 0]), codecs);
    long.bigVarint();
    expect(long.problem).toEqual({ kind: 'malformed', reason: 'a number is too long' });
    expect(long.take(1)).toHaveLength(0);
    const large = new ByteReader(varint(256), codecs);
    expect(large.varint(255)).toBe(0);
    expect(large.problem).toEqual({ kind: 'malformed', reason: 'a number is too large' });
  });
});

describe('a list told by candidates', () => {
  const write = (list: string[], candidates: string[]): Uint8Array => {
    const writer = new ByteWriter(codecs);
    writeChoice(writer, choose(list, candidates), (other) =>
      writer.bytes(literalNames.write('event', String(other))),
    );
    return writer.done();
  };
  const read = (bytes: Uint8Array, candidates: string[]): unknown => {
    const reader = new ByteReader(bytes, codecs);
    const choice = readChoice(reader, () => reader.name('event'));
    return reader.problem?.kind ?? listOf(choice, candidates);
  };
  const ids = fc.uniqueArray(fc.constantFrom(...'abcdefghijkl'), { maxLength: MAX_CANDIDATES });

  test('comes back, whatever it has in common with them', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...'abcdefgxyz'), { maxLength: 12 }), ids, (list, candidates) => {
        expect(read(write(list, candidates), candidates)).toEqual(list);
        expect(isAll(choose(list, candidates))).toBe(list.join() === candidates.join());
      }),
      { seed: 2, numRuns: 500 },
    );
  });

  test('is one varint where it is a part of them in their order', () => {
    expect(hex(write(['a', 'c'], ['a', 'b', 'c']))).toBe('14');
    expect(hex(write(['c', 'a'], ['a', 'b', 'c']))).toBe('160100');
  });

  test('has an order without repetitions', () => {
    expect(read(Uint8Array.of(0x0e, 1, 0), ['a', 'b'])).toEqual(['b', 'a']);
    expect(read(Uint8Array.of(0x0e, 1, 1), ['a', 'b'])).toBe('malformed');
    expect(read(Uint8Array.of(0x0e, 1, 2), ['a', 'b'])).toBe('malformed');
  });

  test('is none where the reader lacks a candidate', () => {
    expect(read(Uint8Array.of(0x0c), ['a'])).toBe(undefined);
  });
});

test('a literal name comes back, and an event id that is a hash takes 33 bytes', () => {
  const kinds = fc.constantFrom<NameKind>('user', 'server', 'type', 'state_key', 'event', 'key');
  const hashes = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((hash) => `$${base64(hash)}`);
  fc.assert(
    fc.property(kinds, fc.oneof(fc.string({ unit: 'grapheme', maxLength: 300 }), hashes), (kind, name) => {
      const bytes = literalNames.write(kind, name);
      const back = literalNames.read(kind, Uint8Array.from([9, ...bytes, 9]), 1);
      expect(back).toEqual({ ok: true, value: { name, end: 1 + bytes.length } });
    }),
    { seed: 3, numRuns: 300 },
  );
  expect(literalNames.write('event', `$${'A'.repeat(43)}`)).toHaveLength(33);
});

test('an event id is chosen in versions 1 and 2, and then the reference hash, URL-safe from version 4', () => {
  const random = seededRandom(4);
  for (const version of ROOM_VERSIONS) {
    const room = new PduRoom(version, random);
    const seen = Array.from({ length: 20 }, () => room.make(randomSaid(random))).map((pdu: JsonObject) => {
      const id = idOf(pdu, version);
      if (Number(version.id) <= 2) expect(id).toBe(pdu.event_id);
      else expect(fromBase64(id.slice(1))).toEqual(referenceHash(pdu as unknown as Pdu, version));
      return id;
    });
    if (version.id === '3') expect(seen.join('')).toMatch(/[+/]/);
    else expect(seen.join('')).not.toMatch(/[+/]/);
  }
});

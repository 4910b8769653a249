import { createHash } from 'node:crypto';
import { deflateRawSync, inflateRawSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { base64, base64url, concat, fromHex, hex, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { encodeJson } from '../../src/compact/cbor.ts';
import {
  type Coder,
  type Coders,
  isCompact,
  isCompactRequest,
  isHistory,
  type LearntCoder,
  MAX_FREE_BYTES,
  MAX_RATIO,
  NO_CODERS,
  needsModel,
  pack,
  packAsItIs,
  packCompact,
  partsOfContainer,
  unpack,
  unpackCompact,
} from '../../src/compact/container.ts';
import { contextClassOf } from '../../src/compact/context_class.ts';
import { DICTIONARIES } from '../../src/compact/dictionary.ts';
import { deflate, inflate } from '../../src/compact/flate.ts';
import { byteOf } from '../../src/compact/history_name.ts';
import { encodeCompact } from '../../src/compact/value.ts';
import { CompactReader } from '../../src/compact/value_reader.ts';
import { CompactWriter } from '../../src/compact/value_writer.ts';

const DICTIONARY = DICTIONARIES[1];
const LIMIT = 100_000;

describe('the preset dictionary', () => {
  test('1 has the bytes that it has always had', () => {
    expect(createHash('sha256').update(DICTIONARY).digest('hex')).toBe(
      '892e20ae4bcbd677c78fd1c40477bb5de8b26504e25e52509214c46658edeb35',
    );
    expect(DICTIONARY.length).toBeLessThan(32 * 1024);
  });

  test('2 has the bytes that it has always had', () => {
    expect(createHash('sha256').update(DICTIONARIES[2]).digest('hex')).toBe(
      '7db277806d269acac34ad459009e66475db2df1d9f56cd68d416cb181af79b04',
    );
    expect(DICTIONARIES[2].length).toBeLessThan(32 * 1024);
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

  test('of secrets is as it is, and is read like any other', () => {
    const secret = utf8('password password password password password');
    expect(packAsItIs(secret)).toEqual(concat(Uint8Array.of(0), secret));
    expect(unpack(packAsItIs(secret), LIMIT)).toStrictEqual({ ok: true, value: secret });
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

/** Stands for the mixer: a list of contents, of which it tells the place. */
class ListCoder implements Coder {
  readonly id: number;
  readonly generation: number;
  readonly #contents: readonly string[];

  constructor(id: number, contents: readonly string[], generation = 0) {
    this.id = id;
    this.generation = generation;
    this.#contents = contents;
  }

  encode(bytes: Uint8Array): Uint8Array | undefined {
    const place = this.#contents.indexOf(hex(bytes));
    return place < 0 ? undefined : Uint8Array.of(place);
  }

  decode(bytes: Uint8Array, maxBytes: number): ReturnType<Coder['decode']> {
    const content = fromHex(this.#contents[bytes[0] ?? -1] ?? 'none');
    if (content === undefined) return { ok: false, problem: 'none' };
    return content.length > maxBytes ? { ok: false, problem: 'too large' } : { ok: true, value: content };
  }
}

describe('a compact container', () => {
  const content = encodeCompact({ msgtype: 'm.text', body: 'Good morning, how are you today?' });
  const primed = new ListCoder(5, [hex(content)]);
  const far = new ListCoder(200, [hex(content)]);
  const learnt = new ListCoder(5, [hex(utf8('again'))], 3) satisfies LearntCoder;
  const plain = (bytes: Uint8Array) => ({ bytes, blobs: [] });
  const coders: Coders = {
    coder: (id) => [primed, far].find((one) => one.id === id),
    learnt: (id, generation) => (id === 5 && generation === 3 ? learnt : undefined),
  };
  const problem = (bytes: readonly number[], max = LIMIT): unknown => {
    const result = unpackCompact(Uint8Array.from(bytes), max, coders);
    return result.ok ? 'accepted' : result.problem.kind;
  };

  test('comes back as it was, whatever it was packed with, and costs at most one byte more', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), fc.boolean(), (bytes, nothing) => {
        const packed = packCompact(
          plain(bytes),
          nothing ? { kind: 'nothing' } : { kind: 'static', coder: primed },
        );
        expect(isCompact(packed)).toBe(true);
        expect(packed.length).toBeLessThanOrEqual(bytes.length + 1);
        expect(unpackCompact(packed, LIMIT, coders)).toStrictEqual({
          ok: true,
          value: { bytes, blobs: undefined },
        });
        expect(unpack(packed, LIMIT)).toMatchObject({ ok: false, problem: { kind: 'unknown format' } });
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  test('is in whatever is shortest, and says in what', () => {
    const again = utf8('again');
    expect(hex(packCompact(plain(content), { kind: 'static', coder: primed }))).toBe('c500');
    expect(hex(packCompact(plain(content), { kind: 'static', coder: far }))).toBe('c0c800');
    expect(hex(packCompact(plain(again), { kind: 'static', coder: primed }))).toBe(`82${hex(again)}`);
    expect(hex(packCompact(plain(again), { kind: 'history', coder: primed, learnt }))).toBe('e50300');
    // What both ends learn from may cost a byte more, as where it begins a history; two bytes are too many.
    const first = new ListCoder(5, [hex(content)], 0x80) satisfies LearntCoder;
    expect(hex(packCompact(plain(content), { kind: 'history', coder: primed, learnt: first }))).toBe(
      'e58000',
    );
    const longer = { ...first, id: 5, generation: 0x80, encode: () => Uint8Array.of(0, 1) };
    expect(hex(packCompact(plain(content), { kind: 'history', coder: primed, learnt: longer }))).toBe('c500');
    const event = encodeCompact({ type: 'm.room.member', content: { membership: 'join' }, signatures: {} });
    const long = concat(event, event, event);
    const deflated = packCompact(plain(long), { kind: 'static' });
    expect(deflated[0]).toBe(0xa2);
    for (const packed of [
      deflated,
      Uint8Array.of(0xc5, 0),
      Uint8Array.of(0xc0, 200, 0),
      Uint8Array.of(0xe5, 3, 0),
    ])
      expect(unpackCompact(packed, LIMIT, coders)).toMatchObject({ ok: true });
  });

  test('of a request that goes on with one of the first histories has one byte in front of it, or two', () => {
    const opened = { bytes: content, blobs: undefined as Uint8Array | undefined };
    for (const slot of [0, 3, 4]) {
      for (const generation of [0, 1, 7]) {
        for (const learns of [true, false]) {
          for (const [shape, bytes] of [0, 4, 63, 200].entries()) {
            const name = byteOf({ slot, generation, learns });
            const coder = new ListCoder(5, [hex(content)], name) satisfies LearntCoder;
            const blob = seededRandom(bytes).bytes(bytes);
            const written = {
              bytes: concat(content, blob),
              blobs: [[content.length, content.length + bytes]] as const,
            };
            const packed = packCompact(written, { kind: 'history', learnt: coder });
            const isShort = learns && generation > 0 && slot < 4;
            if (isShort) expect(packed[0]).toBe(2 + 28 * shape + 7 * slot + generation - 1);
            else expect([...packed.subarray(0, 2)]).toEqual([bytes === 0 ? 0xe5 : 0xf5, name]);
            if (isShort) expect(packed).toHaveLength((shape === 3 ? 2 : 1) + bytes + 1);
            expect(isCompactRequest(packed) && isHistory(packed) && needsModel(packed)).toBe(true);
            expect(partsOfContainer(packed)).toMatchObject({ generation: name, form: 3 });
            const asked: unknown[] = [];
            const known: Coders = {
              coder: () => undefined,
              learnt: (id, byte) => {
                asked.push(id, byte);
                return coder;
              },
            };
            expect(unpackCompact(packed, LIMIT, known)).toEqual({
              ok: true,
              value: { ...opened, blobs: bytes === 0 ? undefined : blob },
            });
            expect(asked).toEqual([isShort ? undefined : 5, name]);
            if (shape === 1 || shape === 2)
              expect(unpackCompact(packed.subarray(0, bytes), LIMIT, known)).toMatchObject({ ok: false });
          }
        }
      }
    }
    expect(unpackCompact(Uint8Array.of(114, 0), LIMIT, coders)).toMatchObject({
      problem: { kind: 'unknown format', id: 114 },
    });
  });

  test('has hashes, keys and signatures apart, where that is shorter, and gives them back in their order', () => {
    const random = seededRandom(2);
    const values = fc.array(
      fc.oneof(
        fc.constantFrom(1, 2, 3).map((n) => base64(random.bytes(32 * n))),
        fc.constantFrom(1, 2).map((n) => `$${base64url(random.bytes(32 * n))}`),
        fc.constantFrom('m.room.message', 'hello', 'signatures signatures'),
      ),
      { maxLength: 12 },
    );
    let apart = 0;
    fc.assert(
      fc.property(values, (value) => {
        const writer = new CompactWriter({});
        writer.value(value);
        const packed = packCompact(writer.content(), { kind: 'static' });
        const opened = unpackCompact(packed, LIMIT);
        if (!opened.ok) throw new Error(opened.problem.kind);
        if (opened.value.blobs !== undefined) apart++;
        const reader = new CompactReader(opened.value.bytes, 0, {}, opened.value.blobs);
        expect(reader.value()).toEqual(value);
        expect(reader.atEnd).toBe(true);
      }),
      { seed: 3, numRuns: 150 },
    );
    expect(apart).toBeGreaterThan(20);
    // One blob too many is not overlooked, and one too few is not read.
    const writer = new CompactWriter({});
    writer.value(Array.from({ length: 5 }, () => base64(random.bytes(32))));
    const { bytes, blobs } = writer.content();
    const all = concat(...blobs.map(([start, end]) => bytes.subarray(start, end)));
    const rest = Uint8Array.of(0x85, 0xc6, 0xc6, 0xc6, 0xc6, 0xc6);
    const over = new CompactReader(rest, 0, {}, concat(all, Uint8Array.of(1)));
    expect([over.value() !== undefined, over.atEnd]).toEqual([true, false]);
    const under = new CompactReader(rest, 0, {}, all.subarray(1));
    expect([under.value(), under.problem]).toEqual([undefined, 'truncated']);
  });

  test('of a secret is not compressed', () => {
    const secret = utf8('password password password password password');
    expect(packCompact(plain(secret), { kind: 'nothing' })).toEqual(concat(Uint8Array.of(0x82), secret));
  });

  test.each([
    [[], 'empty'],
    [[0x01, 0], 'unknown format'],
    [[0x80], 'malformed'],
    [[0x80, 77], 'unknown format'],
    [[0x81], 'unknown format'],
    [[0x83, 0], 'unknown format'],
    [[0x92], 'malformed'],
    [[0x92, 2, 0], 'malformed'],
    [[0x92, 0x80, 0x80, 0x80, 0x80, 0x80, 0], 'malformed'],
    [[0x92, 0, 1], 'accepted'],
    [[0xa2, 0xff, 0xff], 'malformed'],
    [[0xc6, 0], 'unknown model'],
    [[0xc5, 9], 'malformed'],
    [[0xe5], 'malformed'],
    [[0xe5, 4, 0], 'unknown history'],
  ])('%j is refused: %s', (bytes, expected) => {
    expect(problem(bytes)).toBe(expected);
  });

  test('is bounded in every form', () => {
    expect(problem([0x82, 1, 2, 3], 2)).toBe('too large');
    expect(problem([0xc5, 0], 10)).toBe('too large');
    const long = new Uint8Array(MAX_FREE_BYTES + 1);
    // Half a kilobyte could stand for 64 KiB and one byte of zeros, but a reader would not believe it.
    const bomb = concat(Uint8Array.of(0xa2), deflate(long, DICTIONARIES[2]));
    expect(bomb.length * MAX_RATIO).toBeLessThan(long.length);
    expect(unpackCompact(bomb, 10 * LIMIT, coders)).toMatchObject({
      ok: false,
      problem: { kind: 'too large' },
    });
    const packed = packCompact(plain(long), { kind: 'static' });
    expect(packed.length).toBe(long.length + 1);
    expect(unpackCompact(packed, LIMIT, NO_CODERS)).toMatchObject({ ok: true });
  });
});

describe('a federation transaction is packed with the history of a room', () => {
  const target = { method: 'PUT', path: '/_matrix/federation/v1/send/1', query: '' };
  const [a, b] = [{ room_id: '!a:b' }, { room_id: '!b:b' }];
  test.each([
    ['where all is said in one room', { pdus: [a, a] }, true],
    ['where there are no ephemeral events', { pdus: [a], edus: [] }, true],
    ['not where there are two rooms', { pdus: [a, b] }, false],
    ['not where there are other things, such as to-device messages', { pdus: [a], edus: [{}] }, false],
    ['not where there is no event', { pdus: [] }, false],
    ['not where it is something else', { pdus: [{ room_id: 7 }] }, false],
    ['not where nothing is known of it', undefined, false],
  ])('%s', (_, body, isHistory) => {
    const expected = isHistory ? { kind: 'history', roomId: '!a:b' } : { kind: 'static' };
    expect(contextClassOf(target, body)).toEqual(expected);
  });
});

describe('what a request may be packed with', () => {
  const room = '/_matrix/client/v3/rooms/!a%3Ab';
  test.each([
    ['POST', '/_matrix/client/v3/login', 'nothing'],
    ['POST', '/_matrix/client/r0/login', 'nothing'],
    ['POST', '/_matrix/client/v3/refresh', 'nothing'],
    ['POST', '/_matrix/client/v3/register', 'nothing'],
    ['POST', '/_matrix/client/v3/account/password', 'nothing'],
    ['POST', '/_matrix/client/v3/keys/device_signing/upload', 'nothing'],
    ['POST', '/_matrix/client/v3/user/%40a%3Ab/openid/request_token', 'nothing'],
    ['DELETE', '/_matrix/client/v3/devices/X', 'nothing'],
    ['GET', '/_matrix/federation/v1/openid/userinfo', 'nothing'],
    ['GET', '/_matrix/client/v3/something/new', 'nothing'],
    ['GET', '/_matrix/client/v3/voip/turnServer', 'nothing'],
    ['PUT', '/_matrix/client/v3/user/%40a%3Ab/account_data/m.direct', 'static'],
    ['PUT', '/_matrix/client/v3/sendToDevice/m.room.encrypted/1', 'static'],
    ['POST', '/_matrix/client/v3/keys/upload', 'static'],
    ['GET', '/_matrix/client/v3/sync', 'static'],
    ['PUT', '/_matrix/federation/v1/send/1', 'static'],
    ['PUT', `${room}/typing/%40a%3Ab`, 'static'],
    ['PUT', `${room}/send/m.room.message/1`, 'history'],
    ['GET', `${room}/messages`, 'history'],
    ['GET', '/_matrix/client/v3/rooms/%zz/messages', 'nothing'],
  ])('%s %s: %s', (method, path, kind) => {
    const found = contextClassOf({ method, path, query: '' });
    expect(found.kind).toBe(kind);
    if (found.kind === 'history') expect(found.roomId).toBe('!a:b');
  });
});

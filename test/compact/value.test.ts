import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { base64, base64url, fromHex, hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { encodeJson, MAX_JSON_DEPTH } from '../../src/compact/cbor.ts';
import type { CompactContext } from '../../src/compact/context.ts';
import { HANDLE_KINDS, MAX_EXPANDED_LENGTH, MAX_REMEMBERED_LENGTH } from '../../src/compact/forms.ts';
import { HandleReader, HandleWriter } from '../../src/compact/handles.ts';
import { decodeCompact, encodeCompact } from '../../src/compact/value.ts';
import { CompactReader } from '../../src/compact/value_reader.ts';
import { CompactWriter } from '../../src/compact/value_writer.ts';
import { CODE_OF_KEY, KEY_OF_CODE, PREFIXES, TEXT_OF_SIMPLE } from '../../src/compact/vocabulary.ts';
import { type JsonValue, parseJson } from '../../src/matrix/json.ts';
import { ids, values } from './generators.ts';
import { told } from './told.ts';
import { ValuesUnderFire } from './values_under_fire.ts';

const NOW = 1_795_000_000_000;
const CONTEXT: CompactContext = { now: NOW, servers: ['a.example', 'b.example:8448'] };
const MSC3079 = new URL('../../../shared/reference/msc3079-v1.json', import.meta.url);

const bytesOf = (text: string): Uint8Array => fromHex(text.replaceAll(' ', ''))!;
const written = (value: JsonValue, context?: CompactContext): string => hex(encodeCompact(value, context));
const problem = (text: string): unknown => {
  const result = decodeCompact(bytesOf(text));
  if (result.ok) return `accepted ${JSON.stringify(result.value)}`;
  return result.problem.kind === 'malformed' ? result.problem.reason : result.problem.kind;
};

describe('a compact value', () => {
  test.each([
    ['without a context', {}],
    ['in a context', CONTEXT],
  ])('comes back as it was, whatever it is, %s', (_, context) => {
    fc.assert(
      fc.property(values, (value) => {
        const back = decodeCompact(encodeCompact(value, context), context);
        expect(back.ok ? told(back.value) : back.problem).toBe(told(value));
      }),
      { seed: 1, numRuns: 600 },
    );
  });

  test('has numbers as they were written, where they are such that JavaScript does not tell them from others', () => {
    const json =
      '{"a":[1.0,1e3,-0.0,0.5,-9007199254740993],"m.text":123456789012345678901234567890,"z":1E-0}';
    const value = parseJson(json);
    for (const context of [{}, CONTEXT]) {
      const back = decodeCompact(encodeCompact(value, context), context);
      expect(back.ok && JSON.stringify(back.value)).toBe(json);
    }
    expect(written(parseJson('1.0'))).toBe('f97e0063312e30');
    for (const [bytes, reason] of [
      ['f97e00', 'not a text'],
      ['f97e0001', 'not a text'],
      ['f97e006130', 'accepted 0'],
      ['f97e00626161', 'number out of range'],
      ['f97e0064302e2e30', 'number out of range'],
      ['f97e00653165333939', 'number out of range'],
    ] as const)
      expect(problem(bytes), bytes).toBe(reason);
  });

  test('comes back in a session, whichever handles its messages introduce and name', () => {
    const names = fc.oneof(ids, ids, fc.constantFrom('DEVICE', '@a:b.example', '!a:b.example', 'm.text'));
    const message = fc.record({ device_id: names, who: fc.array(names, { maxLength: 6 }), any: values });
    let known = 0;
    fc.assert(
      fc.property(
        fc.array(fc.tuple(message, names, fc.boolean()), { minLength: 3, maxLength: 8 }),
        (messages) => {
          const writer = new HandleWriter(HANDLE_KINDS);
          const peer = new HandleReader();
          for (const [number, [value, room, acknowledged]] of messages.entries()) {
            const writing = writer.message(1, 0);
            const written = new CompactWriter({ handles: writing });
            written.named(room, 'room');
            written.value(value as JsonValue);
            const handles = peer.message({ generation: 1, number });
            const reading = new CompactReader(written.done(), 0, { handles });
            const back = reading.named('room');
            if (handles.read('room', 0) === room) known++;
            expect(back).toBe(room);
            expect(told(reading.value()!)).toBe(told(value as JsonValue));
            writer.over(writing, acknowledged ? 'read' : 'unsure', 0);
          }
        },
      ),
      { seed: 5, numRuns: 100 },
    );
    expect(known).toBeGreaterThan(20);
  });

  test('counts what it has said before rightly where a text gets two handles', () => {
    const written = new CompactWriter({ handles: new HandleWriter().message(1, 0) });
    written.named('@a:b', 'room');
    const texts = ['@a:b', '#c:b', '#d:b', '#c:b'];
    for (const text of texts) written.item(text);
    const handles = new HandleReader().message({ generation: 1, number: 0 });
    const reading = new CompactReader(written.done(), 0, { handles });
    expect(['@a:b', ...texts].map((_, i) => (i === 0 ? reading.named('room') : reading.item()))).toEqual([
      '@a:b',
      ...texts,
    ]);
  });

  test.each([
    ['{"msgtype":"m.text","body":"Hello"}', 'd7 65 48656c6c6f'],
    ['{"body":"Hello","msgtype":"m.text"}', 'a2 20 65 48656c6c6f 00 e0'],
    ['{"body":"Hello","msgtype":"m.notice"}', 'a2 20 65 48656c6c6f 00 f842'],
    ['{"membership":"join","28":1}', 'a2 cb 1c 01 21 e3'],
    [
      '["@alice:a.example","@bob:a.example","@alice:a.example"]',
      '83 c0 65 616c696365 69 612e6578616d706c65 c0 63 626f62 00 ce 00',
    ],
    [
      `["$${'A'.repeat(43)}","!${'A'.repeat(43)}","${'A'.repeat(43)}"]`,
      `83 c4 ${'00'.repeat(32)} c5 ${'00'.repeat(32)} c6 ${'00'.repeat(32)}`,
    ],
    ['[1795000000000,1795000000005]', '82 ca 80f8b2e5bd68 ca 0a'],
    ['["123456","0123"]', '82 cb c0c407 64 30313233'],
    ['["s1_300","ed25519:1"]', '82 cd 03 cb ac02 cd 00 61 31'],
    ['["m1795000000000.7"]', '81 d6 80f8b2e5bd68 07'],
    ['"\\ud800"', 'cc 01 d800'],
    ['[1.5,true,null,-1]', '84 fa3fc00000 f5 f6 20'],
    ['{"errcode":"M_FORBIDDEN","error":""}', 'a2 36 f8ad 37 60'],
  ])('%s is %s', (json, expected) => {
    expect(written(JSON.parse(json) as JsonValue)).toBe(expected.replaceAll(' ', ''));
  });

  test('takes server names and times from its context', () => {
    expect(written(['@al:a.example', NOW + 1, '@al:b.example:8448'], CONTEXT)).toBe(
      '83c062616c00ca02c062616c01',
    );
    const other = decodeCompact(encodeCompact('@al:a.example', CONTEXT));
    expect(other).toStrictEqual({ ok: false, problem: { kind: 'malformed', reason: 'unknown server' } });
  });

  test('turns only base64 into bytes that is written as encoders write it, and looks like chance', () => {
    const random = seededRandom(3);
    const bytes = random.bytes(31);
    const sizes = (text: string): number => encodeCompact(text).length;
    expect(sizes(base64(bytes))).toBe(2 + 31);
    expect(sizes(base64url(Uint8Array.of(0xff, 0xff, ...bytes)))).toBe(2 + 33);
    // The last bits of the last character are not zero: another text of the same bytes.
    const last = base64(bytes);
    expect(sizes(`${last.slice(0, -1)}${String.fromCharCode(last.charCodeAt(last.length - 1) + 1)}`)).toBe(
      2 + 42,
    );
    expect(sizes('averylongwordofonlysmallletters')).toBe(2 + 31);
  });

  test.each([
    ['', 'truncated'],
    ['18', 'truncated'],
    ['41', 'truncated'],
    ['62 61', 'truncated'],
    ['61 ff', 'not UTF-8'],
    ['81', 'truncated'],
    ['9f 01 ff', 'reserved header'],
    ['a1 14 01 01', 'trailing bytes'],
    ['a1 81 01 01', 'not a text'],
    ['a1 19 ffff 01', 'unknown key'],
    ['a1 38 ff 01', 'unknown key'],
    ['a2 01 00 01 00', 'duplicate key'],
    ['a2 18 1c 00 00 00', 'duplicate key'],
    ['f8 1f', 'unknown text'],
    ['f8 ff', 'unknown text'],
    ['f8', 'truncated'],
    ['f7', 'simple value'],
    ['c4 00', 'truncated'],
    ['c0 61 61 05', 'unknown server'],
    ['c0 61 61', 'truncated'],
    ['ce 00', 'nothing to repeat'],
    ['cd 7f 61 61', 'unknown text'],
    ['cb ff ff ff ff ff ff ff ff ff 01', 'number out of range'],
    ['ca ff ff ff ff ff ff ff 7f', 'number out of range'],
    ['cc 02 d8 00', 'truncated'],
    ['cf 00 61 61', 'handle out of bounds'],
    ['d0 00', 'unknown handle'],
    ['d5 00 01', 'unknown handle'],
    ['d8 18 61', 'unknown form'],
    ['cd 00 cd 00 cd 00 cd 00 cd 00 cd 00 61 61', 'too deep'],
  ])('%s is refused: %s', (text, expected) => {
    expect(problem(text)).toBe(expected);
  });

  test('has a bound for everything', () => {
    const nested = (depth: number): JsonValue => (depth === 0 ? 1 : [nested(depth - 1)]);
    expect(decodeCompact(encodeCompact(nested(MAX_JSON_DEPTH)))).toMatchObject({ ok: true });
    expect(() => encodeCompact(nested(MAX_JSON_DEPTH + 1))).toThrow('assertion');
    for (const head of [0x81, 0xa1]) {
      const result = decodeCompact(new Uint8Array(100_000).fill(head));
      expect(result.ok).toBe(false);
    }
    // 40,000 names of two bytes for a text of 500 characters.
    const id = `@${'a'.repeat(MAX_REMEMBERED_LENGTH - 3)}:b`;
    const many = Math.ceil(MAX_EXPANDED_LENGTH / id.length) + 2;
    const flood = encodeCompact(new Array<string>(many).fill(id));
    expect(flood.length).toBeLessThan(3 * many);
    expect(decodeCompact(flood)).toStrictEqual({
      ok: false,
      problem: { kind: 'malformed', reason: 'too large' },
    });
  });

  test('is never thrown at, whatever the bytes', () => {
    let read = 0;
    const edits = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(values, edits, (value, changes) => {
        const bytes = encodeCompact(value, CONTEXT);
        for (const [at, byte] of changes) bytes[at % bytes.length] = byte;
        if (decodeCompact(bytes, CONTEXT).ok) read++;
      }),
      { seed: 3, numRuns: 1000 },
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const value = decodeCompact(bytes);
        // Whatever is read can be written again.
        if (value.ok) expect(told(mustRead(encodeCompact(value.value)))).toBe(told(value.value));
      }),
      { seed: 4, numRuns: 3000 },
    );
    expect(read).toBeGreaterThan(150);
  });

  test('goes there and back, changed or not, 20,000 times (npm run bench -- fuzz: a million times)', () => {
    const fire = new ValuesUnderFire(seededRandom(1));
    for (let n = 0; n < 18_000; n++) fire.shoot();
    for (let n = 0; n < 2_000; n++) fire.mutate();
    expect(fire.counts.insideForms).toBeGreaterThan(500);
    expect(fire.counts.stillRead).toBeGreaterThan(500);
  });

  test('of an event is little more than its hashes and its signature, 224 bytes', () => {
    const random = seededRandom(7);
    const eventId = (): string => `$${base64url(random.bytes(32))}`;
    const pdu = {
      auth_events: [eventId(), eventId()],
      content: { body: 'Hello World', msgtype: 'm.text' },
      depth: 17,
      hashes: { sha256: base64(random.bytes(32)) },
      origin_server_ts: NOW,
      prev_events: [eventId()],
      room_id: `!${base64url(random.bytes(32))}`,
      sender: '@alice:north.ravine.test',
      signatures: { 'north.ravine.test': { 'ed25519:a1': base64(random.bytes(64)) } },
      type: 'm.room.message',
    };
    expect(JSON.stringify(pdu).length).toBe(592);
    expect(encodeJson(pdu).length).toBe(536);
    expect(encodeCompact(pdu).length).toBe(320);
  });
});

describe('the tables', () => {
  test('of version 1 are what they have always been', () => {
    const tables = JSON.stringify([[...KEY_OF_CODE], [...TEXT_OF_SIMPLE], PREFIXES]);
    expect(createHash('sha256').update(tables).digest('hex')).toBe(
      '2547734d9b9e4385f6f1c85af31c6ad272182f4ac72d8a30b74741099bed5242',
    );
  });

  test.skipIf(!existsSync(MSC3079))(
    'have the keys of MSC3079 (needs the reference files beside the project)',
    () => {
      const { cbor_integer_keys: keys } = JSON.parse(readFileSync(MSC3079, 'utf8')) as {
        cbor_integer_keys: Record<string, number>;
      };
      expect(Object.keys(keys)).toHaveLength(104);
      for (const [key, code] of Object.entries(keys)) expect(KEY_OF_CODE.get(code)).toBe(key);
    },
  );

  test('give each word one code, and the most frequent ones one byte', () => {
    for (const [key, code] of CODE_OF_KEY) expect(KEY_OF_CODE.get(code)).toBe(key);
    expect(new Set(TEXT_OF_SIMPLE.values()).size).toBe(TEXT_OF_SIMPLE.size);
    for (const key of [
      'type',
      'content',
      'sender',
      'event_id',
      'body',
      'msgtype',
      'membership',
      'signatures',
    ])
      expect(Math.abs(CODE_OF_KEY.get(key)!)).toBeLessThan(25);
  });
});

function mustRead(bytes: Uint8Array): JsonValue {
  const result = decodeCompact(bytes);
  if (!result.ok) throw new Error(JSON.stringify(result.problem));
  return result.value;
}

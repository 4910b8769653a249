import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { concat, hex, utf8 } from '../../../src/base/bytes.ts';
import { seededRandom } from '../../../src/base/random.ts';
import { BucketTable } from '../../../src/compact/mixer/buckets.ts';
import { MAX_MESSAGE_BYTES } from '../../../src/compact/mixer/contexts.ts';
import {
  append,
  MAX_HISTORY_BYTES,
  MAX_HISTORY_MESSAGES,
  NO_HISTORY,
} from '../../../src/compact/mixer/history.ts';
import { type Adaptation, Model } from '../../../src/compact/mixer/model.ts';
import { Predictor, type Weights } from '../../../src/compact/mixer/predictor.ts';
import { encodeCompact } from '../../../src/compact/value.ts';
import type { JsonValue } from '../../../src/matrix/json.ts';
import { SlowMixer } from './slow_mixer.ts';
import { madeUpBuckets, madeUpState, randomTables } from './synthetic.ts';

const SEED = 5;
const artifact = readFileSync(join(import.meta.dirname, '../../../src/compact/artifacts/small.mix'));

const LINES = [
  'The ferry leaves from the north pier at half past six',
  'Le bac part du quai nord à six heures et demie',
  'Die Fähre fährt um halb sieben vom Nordkai ab',
  'El transbordador sale del muelle norte a las seis y media',
  'A balsa parte do cais norte às seis e meia',
  'Паром отходит от северного причала в половине седьмого',
  'تغادر العبارة من الرصيف الشمالي في السادسة والنصف',
  '渡轮六点半从北码头出发',
  '👍🏽 ok',
  '\u{FEFF}',
];

let model: Model;
beforeAll(() => {
  const parsed = Model.parse(artifact);
  if (!parsed.ok) throw new Error(parsed.problem);
  model = parsed.value;
});

const encoded = (message: Uint8Array, adaptation?: Adaptation): Uint8Array =>
  model.encode(message, 'text', adaptation)!;
const decoded = (bytes: Uint8Array, maxBytes: number, adaptation?: Adaptation) =>
  model.decode(bytes, maxBytes, 'text', adaptation);
const digestOf = (parts: readonly Uint8Array[]): string => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(`${part.length} `).update(part);
  return hash.digest('hex');
};

/** What a predictor says before each decision of a message, which it learns. */
function probabilities(predictor: Predictor, message: Uint8Array): number[] {
  const said: number[] = [];
  for (let i = 0; ; i++) {
    if (predictor.contexts.mayEnd) {
      said.push(predictor.endProbability());
      predictor.learnEnd(i === message.length ? 1 : 0);
    }
    if (i === message.length) return said;
    for (let place = 7; place >= 0; place--) {
      said.push(predictor.probability());
      predictor.learn((message[i]! >> place) & 1);
    }
  }
}

describe('the mixer', () => {
  it('gives back any bytes, whatever form they are said to have', () => {
    const messages = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.string({ unit: 'grapheme', maxLength: 60 }).map(utf8),
      fc
        .jsonValue()
        .map((value) => encodeCompact(value as JsonValue))
        .filter(({ length }) => length <= MAX_MESSAGE_BYTES),
    );
    fc.assert(
      fc.property(messages, fc.constantFrom('text', 'answer', 'request'), (message, form) => {
        const packed = model.encode(message, form)!;
        expect(model.decode(packed, MAX_MESSAGE_BYTES, form)).toEqual({ ok: true, value: message });
      }),
      { seed: SEED, numRuns: 150 },
    );
  });

  it('gives back a request or an answer whatever its first byte would be the head of', () => {
    for (let first = 0; first < 256; first++) {
      for (const rest of ['a', 'aa', '\u0001']) {
        const message = concat(Uint8Array.of(first), utf8(rest));
        for (const form of ['request', 'answer'] as const) {
          const opened = model.decode(model.encode(message, form)!, message.length, form);
          expect(opened).toEqual({ ok: true, value: message });
        }
      }
    }
  });

  it('gives back the longest message, and refuses a longer one', () => {
    const random = seededRandom(SEED);
    const longest = random.bytes(MAX_MESSAGE_BYTES);
    expect(decoded(encoded(longest), MAX_MESSAGE_BYTES)).toEqual({ ok: true, value: longest });
    expect(model.encode(random.bytes(MAX_MESSAGE_BYTES + 1), 'text')).toBeUndefined();
  });

  it('gives back a line of each language in less than two thirds of its bytes', () => {
    for (const line of LINES.slice(0, 8)) {
      const message = utf8(line);
      const packed = encoded(message);
      expect(decoded(packed, message.length)).toEqual({ ok: true, value: message });
      expect(packed.length, line).toBeLessThan((2 * message.length) / 3);
    }
  });

  it('spends little more than their length on bytes that say nothing', () => {
    const message = seededRandom(SEED).bytes(1000);
    expect(encoded(message).length).toBeLessThan(1080);
  });

  it('spends little on what is around a text in a request, and on its end', () => {
    // The route of "send", the room's slot, the transaction's number, the content.
    const event = encodeCompact({ msgtype: 'm.text', body: LINES[0]! });
    const request = concat(Uint8Array.of(0, 2, 7), event);
    const rest = model.encode(request, 'request')!.length - encoded(utf8(LINES[0]!)).length;
    expect(rest).toBeLessThanOrEqual(4);
  });

  it('tells by the number of bytes where a message ends: one that is not used is no part of it', () => {
    for (const line of LINES) {
      const longer = decoded(concat(encoded(utf8(line)), new Uint8Array(8)), MAX_MESSAGE_BYTES);
      expect(longer).not.toEqual({ ok: true, value: utf8(line) });
    }
  });

  it('answers any bytes with a message or a problem, never longer than was asked for', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(300), (bytes, maxBytes) => {
        const opened = decoded(bytes, maxBytes);
        if (opened.ok) expect(opened.value.length).toBeLessThanOrEqual(maxBytes);
        else expect(['too large', 'not canonical']).toContain(opened.problem);
      }),
      { seed: SEED, numRuns: 150 },
    );
  });

  it('never stops the work of hostile bytes later than at the longest message', () => {
    const opened = decoded(seededRandom(SEED).bytes(100_000), Number.MAX_SAFE_INTEGER);
    expect(opened.ok).toBe(false);
  });

  it('says the same of every message whatever it coded before', () => {
    const first = LINES.map((line) => encoded(utf8(line)));
    for (let i = 0; i < 20; i++) decoded(seededRandom(i).bytes(40), 200);
    model.learn(utf8(LINES[3]!), 'text');
    expect(LINES.map((line) => encoded(utf8(line)))).toEqual(first);
  });

  it('agrees to the bit with the slow twin, with and without earlier messages', () => {
    const tables = randomTables(SEED);
    const fast = new Predictor(tables);
    const messages = [
      ...['Hi!', 'Привет, 你好', 'Hi! Hi!', 'Hi!'].map((text) => ({
        bytes: utf8(text),
        form: 'text' as const,
      })),
      { bytes: encodeCompact({ a: ['x', 1, { b: 'Hi!' }] }), form: 'answer' as const },
      { bytes: concat(Uint8Array.of(0x8a), encodeCompact({ a: 'Hi!' })), form: 'request' as const },
    ];
    for (const learning of [false, true]) {
      const slow = new SlowMixer(tables, { state: madeUpState });
      const learnt = new BucketTable(4096);
      let history = NO_HISTORY;
      let weights: Weights = tables;
      for (const { bytes, form } of messages) {
        fast.begin([learnt, madeUpBuckets], history, form, weights);
        const expected = slow.decisions(bytes, form, learning).map(({ probability }) => probability);
        expect(probabilities(fast, bytes)).toEqual(expected);
        if (!learning) continue;
        learnt.absorb(fast.touched);
        weights = { mixers: fast.mixers.slice(), finals: fast.finals.slice() };
        history = append(history, bytes);
      }
    }
  });

  it('writes the bytes that it has always written', () => {
    const trained = { id: 9, tables: randomTables(SEED), buckets: madeUpBuckets };
    const synthetic = new Model(trained);
    let adaptation: Adaptation | undefined;
    const parts: Uint8Array[] = [];
    for (const line of [...LINES, ...LINES]) {
      parts.push(synthetic.encode(utf8(line), 'text', adaptation)!);
      adaptation = synthetic.learn(utf8(line), 'text', adaptation);
    }
    for (const line of LINES) parts.push(synthetic.encode(encodeCompact({ body: line }), 'answer')!);
    expect(digestOf(parts)).toMatchInlineSnapshot(
      `"c2e68abf0fa41d9cba07f9b4254e532aa5ea051b5512bf6720784fa076774441"`,
    );
  });
});

describe('what is learnt from a conversation', () => {
  it('makes the third greeting cost two bytes at most', () => {
    let adaptation: Adaptation | undefined;
    for (let i = 0; i < 2; i++) adaptation = model.learn(utf8('Hello?'), 'text', adaptation);
    const third = encoded(utf8('Hello?'), adaptation);
    expect(third.length).toBeLessThanOrEqual(2);
    expect(decoded(third, 100, adaptation)).toEqual({ ok: true, value: utf8('Hello?') });
  });

  it('is the same for both ends, and does not change what others know', () => {
    const alone = encoded(utf8(LINES[0]!));
    const ends = [0, 1].map(() =>
      LINES.reduce<Adaptation | undefined>(
        (known, line) => model.learn(utf8(line), 'text', known),
        undefined,
      ),
    );
    const [one, other] = ends.map((known) => encoded(utf8(LINES[0]!), known));
    expect(one).toEqual(other);
    expect(one!.length).toBeLessThan(alone.length / 3);
    expect(encoded(utf8(LINES[0]!))).toEqual(alone);
  });

  it('leaves an older generation as it was', () => {
    const older = model.learn(utf8(LINES[0]!), 'text');
    const before = hex(encoded(utf8(LINES[1]!), older));
    model.learn(utf8(LINES[1]!), 'text', older);
    expect(hex(encoded(utf8(LINES[1]!), older))).toBe(before);
  });

  it('stays within its bounds however long the conversation is', () => {
    const random = seededRandom(SEED);
    let adaptation: Adaptation | undefined;
    for (let i = 0; i < 8; i++) {
      const message = random.bytes(random.integer(MAX_MESSAGE_BYTES + 100));
      adaptation = model.learn(message, 'text', adaptation);
      expect(adaptation.history.bytes.length).toBeLessThanOrEqual(MAX_HISTORY_BYTES);
      expect(adaptation.history.starts.length).toBeLessThanOrEqual(MAX_HISTORY_MESSAGES + 1);
    }
    const line = utf8(LINES[0]!);
    expect(decoded(encoded(line, adaptation), 100, adaptation)).toEqual({ ok: true, value: line });
  });
});

describe('an artifact', () => {
  it('that was damaged is a problem or another model, never an exception', () => {
    fc.assert(
      fc.property(fc.nat(artifact.length - 1), fc.nat(254), (at, change) => {
        const damaged = Uint8Array.from(artifact);
        damaged[at] = (damaged[at]! + 1 + change) & 255;
        const parsed = Model.parse(damaged);
        if (parsed.ok) expect(parsed.value.encode(utf8(LINES[0]!), 'text')).toBeDefined();
      }),
      { seed: SEED, numRuns: 10 },
    );
  });

  it('that was cut off is a problem', () => {
    for (const length of [0, 5, 7, 8, 1000, artifact.length - 1]) {
      expect(Model.parse(artifact.subarray(0, length)).ok).toBe(false);
    }
  });
});

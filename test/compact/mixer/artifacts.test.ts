import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { utf8 } from '../../../src/base/bytes.ts';
import { Model } from '../../../src/compact/mixer/model.ts';
import { PrimedTrees } from '../../../src/compact/mixer/primed_buckets.ts';
import { readCorpus } from '../../train/corpus.ts';
import { PLANS } from '../../train/train.ts';

const read = (name: string): Uint8Array =>
  readFileSync(join(import.meta.dirname, '../../../src/compact/artifacts', name));

describe('the trained artifacts', () => {
  it('are the bytes that their ids name', () => {
    const digests = PLANS.map(({ id, name }) => {
      const bytes = read(`${name}.mix`);
      const model = Model.parse(bytes);
      expect(model.ok && model.value.id).toBe(id);
      return `${id} ${createHash('sha256').update(bytes).digest('hex')}`;
    });
    expect(digests).toMatchInlineSnapshot(`
      [
        "1 9d126c5a69e8b0346a4564e3d1660ea1f2f8b051d6376941e42d83981b524bb7",
        "2 4401b62b5cd92572b4068bf94d864dfc4130a9f97d21c11f414cb149c9096d33",
      ]
    `);
  });

  it('are read in many steps as well, to the same model', () => {
    const bytes = read('small.mix');
    const steps = Model.parseInSteps(bytes);
    let count = 0;
    let step = steps.next();
    for (; step.done !== true; step = steps.next()) count++;
    expect(count).toBeGreaterThan(2);
    const [whole, slow] = [Model.parse(bytes), step.value];
    if (!whole.ok || !slow.ok) throw new Error('not a model');
    const message = utf8('Shall we meet at the harbour?');
    expect(slow.value.encode(message, 'text')).toEqual(whole.value.encode(message, 'text'));
  });

  it('fit: three megabytes together, 200 KB the small one', () => {
    const all = PLANS.map(({ name }) => read(`${name}.mix`).length);
    expect(all.reduce((sum, length) => sum + length, 0)).toBeLessThanOrEqual(3_000_000);
    expect(read('small.mix').length).toBeLessThanOrEqual(200_000);
  });

  it('were trained on nothing that they are judged by', () => {
    const { training, said, heldOut } = readCorpus();
    const learnt = [...training, ...said];
    const like = (text: string): string =>
      text
        .toLowerCase()
        .replace(/[\p{P}\p{Z}\p{S}]+/gu, ' ')
        .trim();
    const known = new Set(learnt.map(({ text }) => like(text)));
    expect(heldOut.filter(({ text }) => known.has(like(text)))).toEqual([]);
    expect(heldOut.length).toBeGreaterThanOrEqual(1000);
    // What the scenarios of the bench say.
    expect(learnt.filter(({ text }) => text === 'Hello World' || text === 'Hello?')).toEqual([]);
    expect(known.has(like('Hello World'))).toBe(false);
  });
});

describe('trees of contexts', () => {
  const root = Uint8Array.of(2 + 11);
  const pruning = { rootLevel: 0, branchLevel: 1 };
  const parse = (count: number, deltas: readonly number[], states: Uint8Array) =>
    PrimedTrees.parse(2, pruning, count, Uint8Array.from(deltas), states).next().value!;

  it('are read where every key has its bits and every root its state', () => {
    expect(parse(1, [255, 255, 1], root).ok).toBe(true);
    expect(parse(1, [255, 255, 10], root)).toEqual({ ok: false, problem: 'a key has too many bits' });
    expect(parse(1, [255], root)).toEqual({ ok: false, problem: 'fewer keys than trees' });
    expect(parse(1, [3, 3], root)).toEqual({ ok: false, problem: 'more keys or states than trees' });
    expect(parse(1, [3], Uint8Array.of(1))).toEqual({ ok: false, problem: 'no state of a root' });
    expect(parse(1, [3], Uint8Array.of(2))).toEqual({ ok: false, problem: 'no state of a node' });
    expect(parse(1, [3], Uint8Array.of(255))).toEqual({ ok: false, problem: 'no state of a node' });
    expect(parse(2, [3, 3], root)).toEqual({ ok: false, problem: 'no state of a root' });
  });
});

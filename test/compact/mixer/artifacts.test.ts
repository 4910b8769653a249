import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
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
        "1 52ccf028f84bdd8d7883142b7d1d8ca9789af4363cf51e32acf487cba35698aa",
        "2 e35ee4c604a6d41de3a82d7a9e1aecd67f668f94db359db27e2460e0eff28f1b",
      ]
    `);
  });

  it('fit: three megabytes together, 200 KB the small one', () => {
    const all = PLANS.map(({ name }) => read(`${name}.mix`).length);
    expect(all.reduce((sum, length) => sum + length, 0)).toBeLessThanOrEqual(3_000_000);
    expect(read('small.mix').length).toBeLessThanOrEqual(200_000);
  });

  it('were trained on nothing that they are judged by', () => {
    const { training, heldOut } = readCorpus();
    const like = (text: string): string =>
      text
        .toLowerCase()
        .replace(/[\p{P}\p{Z}\p{S}]+/gu, ' ')
        .trim();
    const known = new Set(training.map(({ text }) => like(text)));
    expect(heldOut.filter(({ text }) => known.has(like(text)))).toEqual([]);
    expect(heldOut.length).toBeGreaterThanOrEqual(1000);
    // What the scenarios of the bench say.
    for (const { text } of training) expect(['Hello World', 'Hello?']).not.toContain(text);
    expect(known.has(like('Hello World'))).toBe(false);
  });
});

describe('trees of contexts', () => {
  const root = Uint8Array.of(2 + 11);
  const pruning = { rootLevel: 0, branchLevel: 1 };
  const parse = (count: number, deltas: readonly number[], states: Uint8Array) =>
    PrimedTrees.parse(2, pruning, count, Uint8Array.from(deltas), states);

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

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, it } from 'vitest';
import type { LinkObservation } from '../../src/link/simulated.ts';
import { runDemo } from '../../src/mesh/demo.ts';

/** The defaults of `ravine demo`. */
const DEFAULTS = { rate: 100, latency: 1000, loss: 0, seed: 1 };

it("README's table is what the demo measures today", async () => {
  const readme = readFileSync(resolve(import.meta.dirname, '../../README.md'), 'utf8');
  const rows = [...readme.matchAll(/^\| (invite|join|message): [^|]* \| (\d+) \| (\d+) \| (\d+) \|/gm)];
  const quoted = rows.map(([, phase, ...numbers]) => [phase, ...numbers.map(Number)]);
  const labels: string[] = [];
  const observe = ({ fate, label }: LinkObservation): void => {
    if (fate === 'sent') labels.push(label);
  };
  const costs = await runDemo({ ...DEFAULTS, observe });
  const measured = costs.map(({ phase, datagrams, bytes, duration }) => [
    phase,
    datagrams,
    bytes,
    Math.round(duration / 1000),
  ]);
  // Without a loss, nothing is sent twice.
  expect(labels.filter((label) => label.includes('copy'))).toEqual([]);
  expect(labels.filter((label) => label.startsWith('XX'))).toEqual(['XX1', 'XX2', 'XX3']);
  expect(quoted, 'run `npx ravine demo` and put its table into README.md').toEqual(measured);
});

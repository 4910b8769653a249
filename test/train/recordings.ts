import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert } from '../../src/base/assert.ts';
import { base64, fromBase64 } from '../../src/base/bytes.ts';
import type { Corpus } from './corpus.ts';
import type { Sample } from './samples.ts';
import { recordShapes } from './shapes.ts';
import { recordTraffic } from './traffic.ts';

// Requests, answers and events as our own servers have packed them once. They are kept, since what a server says changes
// from one commit to the next, and with it the bytes of the models: a sample a line, its form and its bytes in base64.

const FILE = join(import.meta.dirname, 'corpus/recorded.tsv');

/** Records them anew, out of whole servers in virtual time, and keeps them. */
export async function record({ said }: Corpus): Promise<readonly Sample[]> {
  const isOdd = (_: unknown, i: number): boolean => i % 2 === 1;
  const samples = [
    ...(await recordShapes(said.filter((line, i) => !isOdd(line, i)))),
    ...(await recordTraffic(said.filter(isOdd))),
  ];
  writeFileSync(FILE, samples.map(({ form, bytes }) => `${form}\t${base64(bytes)}\n`).join(''));
  return samples;
}

export function readRecordings(): readonly Sample[] {
  const lines = readFileSync(FILE, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => {
    const [form, text = ''] = line.split('\t');
    const bytes = fromBase64(text);
    assert(
      (form === 'request' || form === 'answer') && bytes !== undefined,
      'a recording is a form and bytes',
    );
    return { form, bytes, worth: 'usual' };
  });
}

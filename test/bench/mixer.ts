import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/base/time.ts';
import { type Adaptation, Model } from '../../src/compact/mixer/model.ts';
import { readCorpus } from '../train/corpus.ts';

const ARTIFACTS = join(import.meta.dirname, '../../src/compact/artifacts');

/** Milliseconds: all models together before a server is ready; 100 bytes of chat. */
const LOAD_BUDGET_MS = 300;
const MESSAGE_BUDGET_MS = 2;
const MESSAGE_BYTES = 100;
/** Lines of chat that are put together to messages of that length, and how often the load is repeated for its median. */
const LINES = 1_000;
const LOADS = 5;
const WARM_UP_MESSAGES = 40;

interface Row {
  readonly model: string;
  /** Milliseconds: until the model can be used, and the longest step of that. */
  readonly load: number;
  readonly longestStep: number;
  /** Milliseconds a message of MESSAGE_BYTES. */
  readonly encode: number;
  readonly decode: number;
  readonly learn: number;
  readonly encodeLearnt: number;
}

const median = (of: readonly number[]): number => of.toSorted((a, b) => a - b)[Math.floor(of.length / 2)]!;

function load(bytes: Uint8Array): {
  readonly model: Model;
  readonly total: number;
  readonly longest: number;
} {
  const steps = Model.parseInSteps(bytes);
  let total = 0;
  let longest = 0;
  for (;;) {
    const start = systemClock.monotonic();
    const { done, value } = steps.next();
    const took = systemClock.monotonic() - start;
    total += took;
    longest = Math.max(longest, took);
    if (done !== true) continue;
    if (!value.ok) throw new Error(value.problem);
    return { model: value.value, total, longest };
  }
}

function timed(messages: readonly Uint8Array[], work: (message: Uint8Array, i: number) => unknown): number {
  messages.slice(0, WARM_UP_MESSAGES).forEach(work);
  const each = messages.map((message, i) => {
    const start = systemClock.monotonic();
    work(message, i);
    return systemClock.monotonic() - start;
  });
  return median(each);
}

function measure(name: string, messages: readonly Uint8Array[]): Row {
  const bytes = readFileSync(join(ARTIFACTS, `${name}.mix`));
  const loads = Array.from({ length: LOADS }, () => load(bytes));
  const { model } = loads[0]!;
  const packed = messages.map((message) => model.encode(message, 'text')!);
  let learnt: Adaptation | undefined;
  for (const message of messages.slice(0, WARM_UP_MESSAGES)) learnt = model.learn(message, 'text', learnt);
  return {
    model: name,
    load: median(loads.map(({ total }) => total)),
    longestStep: median(loads.map(({ longest }) => longest)),
    encode: timed(messages, (message) => model.encode(message, 'text')),
    decode: timed(messages, (_, i) => model.decode(packed[i]!, MESSAGE_BYTES, 'text')),
    learn: timed(messages, (message) => model.learn(message, 'text', learnt)),
    encodeLearnt: timed(messages, (message) => model.encode(message, 'text', learnt)),
  };
}

/** What the mixer's models take: to load, and for 100 bytes of chat that they have not learnt. @returns whether the budgets are kept */
export async function run({ json }: { readonly json: boolean }): Promise<boolean> {
  const text = readCorpus()
    .heldOut.slice(0, LINES)
    .map(({ bytes }) => Buffer.from(bytes).toString('latin1'))
    .join(' ');
  const all = Buffer.from(text, 'latin1');
  const messages = Array.from({ length: Math.floor(all.length / MESSAGE_BYTES) }, (_, i) =>
    Uint8Array.from(all.subarray(i * MESSAGE_BYTES, (i + 1) * MESSAGE_BYTES)),
  ).slice(0, 200);
  const rows = ['small', 'large'].map((name) => measure(name, messages));
  const loaded = rows.reduce((sum, row) => sum + row.load, 0);
  const kept =
    loaded < LOAD_BUDGET_MS &&
    rows.every(
      ({ encode, decode, encodeLearnt }) => Math.max(encode, decode, encodeLearnt) < MESSAGE_BUDGET_MS,
    );
  if (json) process.stdout.write(`${JSON.stringify({ kept, rows })}\n`);
  else process.stdout.write(`${table(rows)}\n${verdict(kept, loaded)}\n`);
  return kept;
}

const verdict = (kept: boolean, loaded: number): string =>
  `Both load in ${loaded.toFixed(0)} ms (budget ${LOAD_BUDGET_MS}), a message takes less than ${MESSAGE_BUDGET_MS} ms: ${kept ? 'kept' : 'not kept'}.`;

function table(rows: readonly Row[]): string {
  const columns = ['load', 'longestStep', 'encode', 'decode', 'learn', 'encodeLearnt'] as const;
  const head = ['milliseconds'.padEnd(14), ...columns.map((name) => name.padStart(13))].join('');
  const lines = rows.map((row) =>
    [row.model.padEnd(14), ...columns.map((name) => row[name].toFixed(2).padStart(13))].join(''),
  );
  return [head, ...lines].join('\n');
}

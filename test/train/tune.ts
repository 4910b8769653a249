import type { Random } from '../../src/base/random.ts';
import { BucketTable, bucketHash, ROOT } from '../../src/compact/mixer/buckets.ts';
import { Contexts, MAX_MESSAGE_BYTES } from '../../src/compact/mixer/contexts.ts';
import { append, type History, NO_HISTORY, RUN_CLASSES } from '../../src/compact/mixer/history.ts';
import { ONE } from '../../src/compact/mixer/logistic.ts';
import { firstGuess, NEXT_STATE, STATES } from '../../src/compact/mixer/node_state.ts';
import {
  FINAL_SETS,
  INPUTS,
  KINDS,
  MIXER_SETS,
  MIXERS,
  Predictor,
  type Tables,
  WEIGHT_ONE,
} from '../../src/compact/mixer/predictor.ts';
import { type Counts, walk } from './counts.ts';
import type { Sample } from './samples.ts';

/** Samples that stand for one conversation: predicted without each other, and with what the earlier ones taught. */
export const CONVERSATION = 12;
const MAX_ADAPTED = 6144;
/** How much the first guess weighs against what was counted. */
const GUESS_WEIGHT = 4;

const bounded = (ones: number, total: number, guess: number): number => {
  const p = Math.trunc((ONE * ones + GUESS_WEIGHT * guess) / (total + GUESS_WEIGHT));
  return Math.min(Math.max(p, 24), ONE - 24);
};

/** Samples that are next to each other, in random order. */
function* conversations(samples: readonly Sample[], random: Random): Generator<readonly Sample[]> {
  const starts = Array.from({ length: Math.ceil(samples.length / CONVERSATION) }, (_, i) => i * CONVERSATION);
  for (let i = starts.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [starts[i], starts[j]] = [starts[j]!, starts[i]!];
  }
  for (const start of starts) yield samples.slice(start, start + CONVERSATION);
}

/** What each state has meant, by context: predicted from all samples but its own conversation. */
export function countStates(samples: readonly Sample[], counts: Counts, random: Random): Uint16Array {
  const seen = new Uint32Array(2 * KINDS * STATES);
  const contexts = new Contexts();
  const touched = new BucketTable(MAX_MESSAGE_BYTES * (2 * KINDS));
  for (const conversation of conversations(samples, random)) {
    for (const sample of conversation) counts.remove(sample);
    for (const sample of conversation) {
      touched.clear();
      walk(contexts, sample, (kind, hash, part, bits, count) => {
        const key = bucketHash(hash, part);
        let at = touched.find(key);
        if (at < 0) {
          at = touched.add(key);
          counts.read(kind, hash, part, touched.states, at);
        }
        let node = ROOT;
        for (let i = count - 1; i >= 0; i--) {
          const bit = (bits >> i) & 1;
          const state = touched.states[at + node]!;
          seen[2 * (kind * STATES + state) + bit]!++;
          touched.states[at + node] = NEXT_STATE[2 * state + bit]!;
          node = 2 * node + bit;
        }
      });
    }
    for (const sample of conversation) counts.add(sample);
  }
  return Uint16Array.from({ length: KINDS * STATES }, (_, i) => {
    const [zeros, ones] = [seen[2 * i]!, seen[2 * i + 1]!];
    return bounded(ones, zeros + ones, firstGuess(i % STATES));
  });
}

export function firstTables(states: Uint16Array): Tables {
  const runs = Uint16Array.from({ length: 2 * RUN_CLASSES }, (_, i) => {
    const sure = ONE - Math.trunc(ONE / (2 + 4 * (i >> 1)));
    return i < 2 ? ONE / 2 : (i & 1) === 1 ? Math.min(sure, ONE - 64) : ONE - Math.min(sure, ONE - 64);
  });
  return {
    states,
    runs,
    mixers: new Int32Array(MIXER_SETS * INPUTS).fill(Math.trunc(WEIGHT_ONE / 5)),
    finals: new Int32Array(FINAL_SETS * MIXERS).fill(Math.trunc(WEIGHT_ONE / 3)),
  };
}

/** Bits, of 65536, that a prediction of `probability` costs. */
const LOG2 = Float64Array.from({ length: ONE }, (_, p) => -Math.log2(Math.max(p, 1) / ONE));

/** Codes a sample without writing it, and returns what it would cost in bits. */
export function cost(predictor: Predictor, { bytes }: Sample): number {
  let bits = 0;
  const { contexts } = predictor;
  for (let i = 0; ; i++) {
    if (contexts.mayEnd) {
      const ends = i === bytes.length ? 1 : 0;
      const p = predictor.endProbability();
      bits += LOG2[ends === 1 ? p : ONE - p]!;
      predictor.learnEnd(ends);
    }
    if (i === bytes.length) return bits;
    for (let place = 7; place >= 0; place--) {
      const bit = (bytes[i]! >> place) & 1;
      const p = predictor.probability();
      bits += LOG2[bit === 1 ? p : ONE - p]!;
      predictor.learn(bit);
    }
  }
}

/** One pass over all samples that teaches the weights; returns bits per byte. */
export function tune(
  tables: Tables,
  samples: readonly Sample[],
  counts: Counts,
  random: Random,
  shift: number,
): number {
  const predictor = new Predictor(tables, { mixer: shift, final: shift + 1 });
  const adapted = new BucketTable(MAX_ADAPTED);
  let bits = 0;
  let bytes = 0;
  for (const conversation of conversations(samples, random)) {
    for (const sample of conversation) counts.remove(sample);
    adapted.clear();
    let history: History = NO_HISTORY;
    const said: Sample[] = [];
    for (const sample of conversation) {
      const repeated =
        said.length > 1 && random.integer(8) === 0 ? said[random.integer(said.length)]! : undefined;
      for (const one of repeated === undefined ? [sample] : [repeated, sample]) {
        if (one === sample && random.integer(2) === 0) {
          predictor.resume([counts], NO_HISTORY, one.form);
          bits += cost(predictor, one);
          bytes += one.bytes.length;
        }
        predictor.resume([adapted, counts], history, one.form);
        cost(predictor, one);
        adapted.absorb(predictor.touched);
        history = append(history, one.bytes);
        said.push(one);
      }
    }
    for (const sample of conversation) counts.add(sample);
  }
  tables.mixers.set(predictor.mixers);
  tables.finals.set(predictor.finals);
  return bits / bytes;
}

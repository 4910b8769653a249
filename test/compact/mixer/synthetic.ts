import { seededRandom } from '../../../src/base/random.ts';
import {
  BUCKET_BYTES,
  type BucketSource,
  END_PART,
  FIRST_HALF,
  ROOT,
} from '../../../src/compact/mixer/buckets.ts';
import { RUN_CLASSES } from '../../../src/compact/mixer/history.ts';
import { STATES } from '../../../src/compact/mixer/node_state.ts';
import {
  FINAL_SETS,
  INPUTS,
  KINDS,
  MIXER_SETS,
  MIXERS,
  type Tables,
} from '../../../src/compact/mixer/predictor.ts';

/** Tables of random numbers: no training, but the same ones each time. */
export function randomTables(seed: number): Tables {
  const random = seededRandom(seed);
  const probability = (): number => 1 + random.integer(65535);
  const weight = (): number => random.integer(120_000) - 40_000;
  return {
    states: Uint16Array.from({ length: KINDS * STATES }, probability),
    runs: Uint16Array.from({ length: 2 * RUN_CLASSES }, probability),
    mixers: Int32Array.from({ length: MIXER_SETS * INPUTS }, weight),
    finals: Int32Array.from({ length: FINAL_SETS * MIXERS }, weight),
  };
}

/** What training would have left at a node, made up from the hash: nothing in every third context. */
export function madeUpState(kind: number, hash: number, path: string): number {
  if ((hash >>> 4) % 3 === 0) return 0;
  let mixed = Math.imul(hash ^ kind, 0x9e37_79b1);
  for (const bit of path) mixed = Math.imul(mixed ^ (bit === '1' ? 0x51 : 0x1f), 0x85eb_ca6b) >>> 1;
  return 1 + ((mixed >>> 8) % (STATES - 1));
}

export const madeUpBuckets: BucketSource = {
  read(kind, hash, part, target, at) {
    const before = part === FIRST_HALF || part === END_PART ? '' : part.toString(2).padStart(4, '0');
    for (let node = ROOT; node < BUCKET_BYTES; node++) {
      target[at + node] = madeUpState(kind, hash, before + node.toString(2).slice(1));
    }
    return true;
  },
};

import { Inflate } from 'fflate';
import { fromUtf8 } from '../../base/bytes.ts';
import { bad, ok, type Result } from '../../base/result.ts';
import type { BucketSource } from './buckets.ts';
import { RUN_CLASSES } from './history.ts';
import { STATES } from './node_state.ts';
import { FINAL_SETS, INPUTS, KINDS, MAX_WEIGHT, MIXER_SETS, MIXERS, type Tables } from './predictor.ts';
import { NO_LEVEL, nodesOf, PrimedContexts, PrimedTrees } from './primed_buckets.ts';

/** The first bytes of an artifact; the digit is the version of its layout. */
export const MAGIC = 'RVNMIX1';
/** How many of the lowest bits of a weight an artifact leaves out. */
export const WEIGHT_SHIFT = 8;
/** Bytes of the length of what is packed. */
const LENGTH_BYTES = 4;
/** The most that an artifact may unpack to, in bytes. */
const MAX_ARTIFACT_BYTES = 32 * 1024 * 1024;

/** Compressed bytes that are inflated in one step. */
const STEP_BYTES = 64 * 1024;

/** What an artifact holds. */
export interface Trained {
  readonly id: number;
  readonly tables: Tables;
  readonly buckets: BucketSource;
}

/**
 * Reads an artifact: the magic, the model's id (1 byte) and the length of the rest (4), which is raw Deflate of all numbers,
 * big endian: the probabilities of states and runs (2 bytes each), the weights of the mixers and of the last one (2 bytes
 * each), how trees were pruned (2 bytes), and for each kind of context how many trees, bytes of keys and states it has (4 bytes each), the keys and the states.
 */
export function parseArtifact(bytes: Uint8Array): Result<Trained> {
  const steps = parseArtifactInSteps(bytes);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

/** The same, in steps of a few milliseconds at most, between which others may work. */
export function* parseArtifactInSteps(bytes: Uint8Array): Generator<void, Result<Trained>> {
  if (fromUtf8(bytes.subarray(0, MAGIC.length)) !== MAGIC) return bad('not a model of this version');
  const id = bytes[MAGIC.length];
  if (id === undefined || id === 0) return bad('a model has an id from 1 to 255');
  const length = new Reader(bytes.subarray(MAGIC.length + 1)).uint32();
  if (length > MAX_ARTIFACT_BYTES) return bad('too large');
  const unpacked = yield* inflate(bytes.subarray(MAGIC.length + 1 + LENGTH_BYTES), length);
  if (unpacked === undefined) return bad('not Deflate');
  const reader = new Reader(unpacked);
  const states = reader.probabilities(KINDS * STATES);
  const runs = reader.probabilities(2 * RUN_CLASSES);
  const mixers = reader.weights(MIXER_SETS * INPUTS);
  const finals = reader.weights(FINAL_SETS * MIXERS);
  const pruning = { rootLevel: reader.byte(), branchLevel: reader.byte() };
  if (pruning.branchLevel === NO_LEVEL) return bad('a branch that was never taken is kept');
  const kinds: PrimedTrees[] = [];
  for (let kind = 0; kind < KINDS; kind++) {
    const [count, keyBytes, stateBytes] = [reader.uint32(), reader.uint32(), reader.uint32()];
    if (count > keyBytes || count > stateBytes) return bad('more trees than bytes');
    const trees = yield* PrimedTrees.parse(
      nodesOf(kind),
      pruning,
      count,
      reader.bytes(keyBytes),
      reader.bytes(stateBytes),
    );
    if (!trees.ok) return trees;
    kinds.push(trees.value);
  }
  if (!reader.exact) return bad('not as long as it says');
  if (states.includes(0) || runs.includes(0)) return bad('a probability is certain');
  return ok({ id, tables: { states, runs, mixers, finals }, buckets: new PrimedContexts(kinds) });
}

/** Inflates into an array of the length that is said, so that what is longer costs nothing. */
function* inflate(packed: Uint8Array, length: number): Generator<void, Uint8Array | undefined> {
  const unpacked = new Uint8Array(length);
  let at = 0;
  let ends = false;
  const inflater = new Inflate((part, isLast) => {
    if (at + part.length <= length) unpacked.set(part, at);
    at += part.length;
    ends = isLast;
  });
  try {
    for (let fed = 0; fed < packed.length && at <= length; fed += STEP_BYTES) {
      inflater.push(packed.subarray(fed, fed + STEP_BYTES), fed + STEP_BYTES >= packed.length);
      yield;
    }
  } catch {
    return undefined;
  }
  return ends && at === length ? unpacked : undefined;
}

/** Reads numbers, zeros beyond the end, and remembers whether there was one. */
class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get exact(): boolean {
    return this.#at === this.#bytes.length;
  }

  byte(): number {
    return this.#bytes[this.#at++] ?? 0;
  }

  uint32(): number {
    return this.#uint16() * 0x1_0000 + this.#uint16();
  }

  bytes(length: number): Uint8Array {
    const from = this.#at;
    this.#at += length;
    return this.#bytes.subarray(from, from + length);
  }

  probabilities(length: number): Uint16Array {
    const read = new Uint16Array(length);
    for (let i = 0; i < length; i++) read[i] = this.#uint16();
    return read;
  }

  /** Weights are written with their sign in the highest bit. */
  weights(length: number): Int32Array {
    const read = new Int32Array(length);
    for (let i = 0; i < length; i++) {
      const weight = ((this.#uint16() << 16) >> 16) * (1 << WEIGHT_SHIFT);
      read[i] = Math.max(weight, -MAX_WEIGHT);
    }
    return read;
  }

  #uint16(): number {
    const value = ((this.#bytes[this.#at] ?? 0) << 8) | (this.#bytes[this.#at + 1] ?? 0);
    this.#at += 2;
    return value;
  }
}

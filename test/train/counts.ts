import { assert } from '../../src/base/assert.ts';
import {
  BUCKET_BYTES,
  type BucketSource,
  bucketHash,
  END_PART,
  FIRST_HALF,
  ROOT,
} from '../../src/compact/mixer/buckets.ts';
import { CONTEXTS, Contexts, NO_CONTEXT } from '../../src/compact/mixer/contexts.ts';
import { LEVEL_OF_COUNT, MAX_COUNT, stateOf } from '../../src/compact/mixer/node_state.ts';
import { END_CONTEXTS, KINDS } from '../../src/compact/mixer/predictor.ts';
import { leastLevel, NO_LEVEL, type Pruning } from '../../src/compact/mixer/primed_buckets.ts';
import { type Sample, WORTHS } from './samples.ts';

/** Counts of a bucket: of a 0 and of a 1 at each of its nodes. */
const ROW = 2 * BUCKET_BYTES;

/** Visits every bucket that a message touches, with the four bits (one, for its end) that follow there. */
export function walk(
  contexts: Contexts,
  { bytes, form }: Sample,
  visit: (kind: number, hash: number, part: number, bits: number, count: number) => void,
): void {
  contexts.begin(form);
  for (let i = 0; i <= bytes.length; i++) {
    if (contexts.mayEnd) {
      const ends = i === bytes.length ? 1 : 0;
      for (const [i, context] of END_CONTEXTS.entries()) {
        const hash = contexts.hashes[context]!;
        if (hash !== NO_CONTEXT) visit(CONTEXTS + i, hash, END_PART, ends, 1);
      }
    }
    if (i === bytes.length) return;
    const byte = bytes[i]!;
    for (let context = 0; context < CONTEXTS; context++) {
      const hash = contexts.hashes[context]!;
      if (hash === NO_CONTEXT) continue;
      visit(context, hash, FIRST_HALF, byte >> 4, 4);
      visit(context, hash, byte >> 4, byte & 0xf, 4);
    }
    contexts.advance(byte);
  }
}

/** How often each bit followed in each context of all training samples. */
export class Counts implements BucketSource {
  readonly #capacity: number;
  readonly #mask: number;
  readonly #keys: Int32Array;
  readonly #rows: Int32Array;
  readonly counts: Uint8Array;
  /** The hash of each row's context, its kind, and which part of a byte it is about. */
  readonly hashes: Int32Array;
  readonly kinds: Uint8Array;
  readonly parts: Int8Array;
  /** What the most precious sample is worth that a row was seen in: index of WORTHS. */
  readonly #worths: Uint8Array;
  length = 0;
  /** How often a context must have been seen to be kept, by its worth (index of WORTHS) and kind. */
  minima: readonly (readonly number[])[] = WORTHS.map(() => new Array<number>(KINDS).fill(1));
  pruning: Pruning = { rootLevel: 0, branchLevel: NO_LEVEL + 1 };
  readonly #contexts = new Contexts();

  constructor(capacity: number) {
    let slots = 1024;
    while (slots < 1.7 * capacity) slots *= 2;
    this.#capacity = capacity;
    this.#mask = slots - 1;
    this.#keys = new Int32Array(slots);
    this.#rows = new Int32Array(slots).fill(-1);
    this.counts = new Uint8Array(capacity * ROW);
    this.hashes = new Int32Array(capacity);
    this.kinds = new Uint8Array(capacity);
    this.parts = new Int8Array(capacity);
    this.#worths = new Uint8Array(capacity);
  }

  add(sample: Sample): void {
    const worth = WORTHS.indexOf(sample.worth);
    walk(this.#contexts, sample, (kind, hash, part, bits, count) => {
      const row = this.#findOrAdd(kind, hash, part);
      if (worth > this.#worths[row]!) this.#worths[row] = worth;
      this.#step(row, bits, count, 1);
    });
  }

  /** Takes a sample's own part out, so that it can be predicted from the others alone. */
  remove(sample: Sample): void {
    walk(this.#contexts, sample, (_, hash, part, bits, count) =>
      this.#step(this.find(hash, part), bits, count, -1),
    );
  }

  total(row: number): number {
    return this.counts[row * ROW + 2 * ROOT]! + this.counts[row * ROW + 2 * ROOT + 1]!;
  }

  /** The state of a node of a row. */
  state(row: number, node: number): number {
    return stateOf(this.counts[row * ROW + 2 * node]!, this.counts[row * ROW + 2 * node + 1]!);
  }

  /** Whether the artifact has a context's tree; `row` is that of the first half of a byte, or of the end. */
  kept(row: number): boolean {
    return this.total(row) >= this.minima[this.#worths[row]!]![this.kinds[row]!]!;
  }

  read(_kind: number, hash: number, part: number, target: Uint8Array, at: number): boolean {
    const first = this.find(hash, part === END_PART ? END_PART : FIRST_HALF);
    if (first < 0 || !this.kept(first)) return false;
    const least = leastLevel(this.state(first, ROOT), this.pruning);
    const row = part === END_PART ? first : this.find(hash, part);
    if (row < 0 || (row !== first && LEVEL_OF_COUNT[Math.min(this.total(row), MAX_COUNT)]! < least))
      return false;
    target[at + ROOT] = this.state(row, ROOT);
    for (let node = ROOT + 1; node < BUCKET_BYTES; node++) {
      // The count of a branch is at the node that it leaves.
      const taken = LEVEL_OF_COUNT[this.counts[row * ROW + node]!]!;
      if (taken >= least) target[at + node] = this.state(row, node);
    }
    return true;
  }

  /** The row of a bucket, -1 where there is none. */
  find(hash: number, part: number): number {
    return this.#rows[this.#locate(hash, part)]!;
  }

  /** The slot of a bucket, or the empty one where it belongs. Keys alone could be those of two. */
  #locate(hash: number, part: number): number {
    const key = bucketHash(hash, part);
    for (let slot = this.#slot(key); ; slot = (slot + 1) & this.#mask) {
      const row = this.#rows[slot]!;
      if (row < 0) return slot;
      if (this.#keys[slot] === key && this.hashes[row] === hash && this.parts[row] === part) return slot;
    }
  }

  #step(row: number, bits: number, count: number, change: 1 | -1): void {
    let node = ROOT;
    for (let i = count - 1; i >= 0; i--) {
      const bit = (bits >> i) & 1;
      const at = row * ROW + 2 * node + bit;
      const before = this.counts[at]!;
      // A count that has reached its limit has lost the number, and stays.
      if (before < MAX_COUNT) this.counts[at] = before + change;
      node = 2 * node + bit;
    }
  }

  #findOrAdd(kind: number, hash: number, part: number): number {
    const slot = this.#locate(hash, part);
    if (this.#rows[slot]! >= 0) return this.#rows[slot]!;
    assert(this.length < this.#capacity, 'the table has room for all contexts of the corpus');
    this.#keys[slot] = bucketHash(hash, part);
    this.#rows[slot] = this.length;
    this.hashes[this.length] = hash;
    this.kinds[this.length] = kind;
    this.parts[this.length] = part;
    return this.length++;
  }

  #slot(hash: number): number {
    return (Math.imul(hash, 0x85eb_ca6b) >>> 8) & this.#mask;
  }
}

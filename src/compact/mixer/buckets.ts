/** Bytes of a bucket: what was seen of half a byte in one context. Nodes 1 to 15 of its tree; byte 0 is unused. */
export const BUCKET_BYTES = 16;
/** The root of a bucket's tree: the first of the four bits. */
export const ROOT = 1;

/** Where what was learnt in training, or from earlier messages, is found. */
export interface BucketSource {
  /**
   * Copies a bucket to `target` at `at`, and says whether there is one; else leaves `target` as it is.
   * @param kind which context it is, or which one asked whether the message ends: below KINDS
   * @param part FIRST_HALF, END_PART, or for the second half of a byte the first one
   */
  read(kind: number, hash: number, part: number, target: Uint8Array, at: number): boolean;
}

/**
 * Buckets by the hash of their context, with room for a fixed number. Emptied in O(1), so that what a message has
 * changed is forgotten with it.
 */
export class BucketTable implements BucketSource {
  readonly states: Uint8Array;
  readonly #capacity: number;
  readonly #mask: number;
  readonly #keys: Int32Array;
  readonly #rows: Int32Array;
  /** The hash of each row. */
  readonly #hashes: Int32Array;
  /** In which round each entry was made: one of an older round is none. */
  readonly #rounds: Int32Array;
  #round = 1;
  #count = 0;

  constructor(capacity: number) {
    let slots = 16;
    while (slots < 2 * capacity) slots *= 2;
    this.#capacity = capacity;
    this.#mask = slots - 1;
    this.#keys = new Int32Array(slots);
    this.#rows = new Int32Array(slots);
    this.#rounds = new Int32Array(slots);
    this.#hashes = new Int32Array(capacity);
    this.states = new Uint8Array(capacity * BUCKET_BYTES);
  }

  get count(): number {
    return this.#count;
  }

  get full(): boolean {
    return this.#count >= this.#capacity;
  }

  clear(): void {
    this.#round++;
    this.#count = 0;
  }

  /** Where in `states` the bucket of this hash begins; -1 where there is none. */
  find(hash: number): number {
    for (let slot = this.#slot(hash); this.#rounds[slot] === this.#round; slot = (slot + 1) & this.#mask) {
      if (this.#keys[slot] === hash) return this.#rows[slot]! * BUCKET_BYTES;
    }
    return -1;
  }

  /** Makes an entry for a hash that has none; its bytes are what was left there. */
  add(hash: number): number {
    let slot = this.#slot(hash);
    while (this.#rounds[slot] === this.#round) slot = (slot + 1) & this.#mask;
    this.#keys[slot] = hash;
    this.#rounds[slot] = this.#round;
    this.#rows[slot] = this.#count;
    this.#hashes[this.#count] = hash;
    return this.#count++ * BUCKET_BYTES;
  }

  read(_kind: number, hash: number, part: number, target: Uint8Array, at: number): boolean {
    const from = this.find(bucketHash(hash, part));
    if (from < 0) return false;
    target.set(this.states.subarray(from, from + BUCKET_BYTES), at);
    return true;
  }

  /** Takes over every bucket of another table, as far as there is room. */
  absorb(other: BucketTable): void {
    for (let row = 0; row < other.#count; row++) {
      const hash = other.#hashes[row]!;
      let to = this.find(hash);
      if (to < 0) {
        if (this.full) continue;
        to = this.add(hash);
      }
      const from = row * BUCKET_BYTES;
      this.states.set(other.states.subarray(from, from + BUCKET_BYTES), to);
    }
  }

  #slot(hash: number): number {
    return (Math.imul(hash, 0x85eb_ca6b) >>> 12) & this.#mask;
  }
}

/** What a bucket is about besides the second half of a byte, whose first half is a number from 0 to 15. */
export const FIRST_HALF = -1;
export const END_PART = 16;

/** The hash of a bucket: that of its context, and which part of a byte it is about. */
export function bucketHash(hash: number, part: number): number {
  if (part === FIRST_HALF) return hash;
  const h = Math.imul(hash ^ (part + 1), 0xc2b2_ae35);
  return h ^ (h >>> 13);
}

/** Bytes of a bucket: what was seen of half a byte in one context. Nodes 1 to 15 of its tree; byte 0 is unused. */
export const BUCKET_BYTES = 16;
/** The root of a bucket's tree: the first of the four bits. */
export const ROOT = 1;

/** Numbers of a slot of the table; a power of two, so that a slot is in one line of the cache. */
const SLOT = 4;
const ROW = 1;
const ROUND = 2;

/** Where what was learnt in training, or from earlier messages, is found. */
export interface BucketSource {
  /**
   * Copies a bucket to `target` at `at`, where zeros are, and says whether there is one.
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
  /** Of each slot the key, the row and in which round it was made (one of an older round is none), side by side. */
  readonly #slots: Int32Array;
  /** The key of each row. */
  readonly #keys: Int32Array;
  #round = 1;
  #count = 0;

  constructor(capacity: number) {
    let slots = 16;
    while (slots < 2 * capacity) slots *= 2;
    this.#capacity = capacity;
    this.#mask = slots - 1;
    this.#slots = new Int32Array(slots * SLOT);
    this.#keys = new Int32Array(capacity);
    this.states = new Uint8Array(capacity * BUCKET_BYTES);
  }

  /** How many buckets there are. */
  get size(): number {
    return this.#count;
  }

  /** The memory that it takes. */
  get bytes(): number {
    return this.states.byteLength + this.#keys.byteLength + this.#slots.byteLength;
  }

  get full(): boolean {
    return this.#count >= this.#capacity;
  }

  clear(): void {
    this.#round++;
    this.#count = 0;
  }

  /** Where in `states` the bucket of this key begins; -1 where there is none. */
  find(key: number): number {
    const slot = this.#locate(key);
    return this.#slots[slot + ROUND] === this.#round ? this.#slots[slot + ROW]! * BUCKET_BYTES : -1;
  }

  /** Makes a bucket of zeros for a key that has none, and returns where it begins. */
  add(key: number): number {
    const slot = this.#locate(key);
    const row = this.#count++;
    this.#slots[slot] = key;
    this.#slots[slot + ROW] = row;
    this.#slots[slot + ROUND] = this.#round;
    this.#keys[row] = key;
    const at = row * BUCKET_BYTES;
    for (let i = at; i < at + BUCKET_BYTES; i++) this.states[i] = 0;
    return at;
  }

  read(_kind: number, hash: number, part: number, target: Uint8Array, at: number): boolean {
    const from = this.find(bucketHash(hash, part));
    if (from < 0) return false;
    for (let i = 0; i < BUCKET_BYTES; i++) target[at + i] = this.states[from + i]!;
    return true;
  }

  /** Takes over every bucket of another table, as far as there is room. */
  absorb(other: BucketTable): void {
    for (let row = 0; row < other.#count; row++) {
      const key = other.#keys[row]!;
      let to = this.find(key);
      if (to < 0) {
        if (this.full) continue;
        to = this.add(key);
      }
      const from = row * BUCKET_BYTES;
      this.states.set(other.states.subarray(from, from + BUCKET_BYTES), to);
    }
  }

  /** The slot of a key, or the empty one where it belongs. */
  #locate(key: number): number {
    let slot = (Math.imul(key, 0x85eb_ca6b) >>> 12) & this.#mask;
    while (this.#slots[slot * SLOT + ROUND] === this.#round && this.#slots[slot * SLOT] !== key) {
      slot = (slot + 1) & this.#mask;
    }
    return slot * SLOT;
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

// The numbers of RFC 8949, section 3.
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
const TAG = 6;
const ONE_BYTE_ARGUMENT = 24;
const EIGHT_BYTE_ARGUMENT = 27;

// Ours.
/** Arrays and maps inside each other that are followed; what is deeper counts as single items. */
const MAX_DEPTH = 16;
/** Longer strings and arrays than a message can hold are no strings and arrays. */
const MAX_ITEMS = 4096;

/** What the next byte is: where an item begins, a byte of its argument, a byte of a text or byte string. */
export type Place = 'head' | 'argument' | 'text' | 'bytes';

/**
 * Follows a CBOR sequence (RFC 8742) byte by byte, so that a byte can be predicted from where it stands. It takes any
 * bytes: what is no CBOR counts as items of one byte.
 */
export class Structure {
  place: Place = 'head';
  /** Bytes of the string that are still to come; 0 outside strings. */
  remaining = 0;
  depth = 0;
  /** The argument of the item so far, and how many bytes of it are to come. */
  #argument = 0;
  #argumentLeft = 0;
  #major = 0;
  readonly #itemsLeft = new Int32Array(MAX_DEPTH);
  readonly #isMap = new Uint8Array(MAX_DEPTH);
  readonly #key = new Int32Array(MAX_DEPTH + 1);
  /** A hash of the item that is being read. */
  #item = 0;

  reset(): void {
    this.place = 'head';
    this.remaining = 0;
    this.depth = 0;
    this.#key[0] = 0;
    this.#item = 0;
  }

  /** Whether a message may end here: no item is open. */
  get complete(): boolean {
    return this.place === 'head' && this.depth === 0;
  }

  /** A hash of the key whose value is being read; of its place in the order, outside maps. */
  get key(): number {
    return this.#key[this.depth]!;
  }

  /** Whether the item being read is a key of a map. */
  get isKey(): boolean {
    const top = this.depth - 1;
    return top >= 0 && this.#isMap[top] === 1 && (this.#itemsLeft[top]! & 1) === 0;
  }

  advance(byte: number): void {
    this.#item = Math.imul(this.#item ^ byte, 0x2c1b_3c6d) + 1;
    if (this.place === 'head') this.#head(byte);
    else if (this.place === 'argument') this.#argumentByte(byte);
    else if (--this.remaining === 0) this.#itemDone();
  }

  #head(byte: number): void {
    const size = byte & 0x1f;
    this.#major = byte >> 5;
    this.#argument = size;
    if (size < ONE_BYTE_ARGUMENT || size > EIGHT_BYTE_ARGUMENT) {
      this.#headDone(size < ONE_BYTE_ARGUMENT);
    } else {
      this.place = 'argument';
      this.#argument = 0;
      this.#argumentLeft = 1 << (size - ONE_BYTE_ARGUMENT);
    }
  }

  #argumentByte(byte: number): void {
    this.#argument = this.#argument > MAX_ITEMS ? this.#argument : this.#argument * 256 + byte;
    if (--this.#argumentLeft === 0) this.#headDone(this.#argument <= MAX_ITEMS);
  }

  /** The head of an item is complete: what follows are its bytes, the items in it, or the next item. */
  #headDone(sane: boolean): void {
    const count = this.#argument;
    const major = this.#major;
    this.place = 'head';
    if (!sane || count === 0) this.#itemDone();
    else if (major === TEXT || major === BYTES) {
      this.place = major === TEXT ? 'text' : 'bytes';
      this.remaining = count;
    } else if ((major === ARRAY || major === MAP) && this.depth < MAX_DEPTH) {
      this.#itemsLeft[this.depth] = major === MAP ? 2 * count : count;
      this.#isMap[this.depth] = major === MAP ? 1 : 0;
      this.depth++;
      this.#key[this.depth] = this.#key[this.depth - 1]!;
      this.#item = 0;
    } else if (major !== TAG) this.#itemDone();
  }

  #itemDone(): void {
    this.place = 'head';
    this.remaining = 0;
    while (this.depth > 0) {
      const top = this.depth - 1;
      if (this.isKey) this.#key[this.depth] = this.#item;
      this.#item = 0;
      if (--this.#itemsLeft[top]! > 0) return;
      this.depth--;
    }
    // Outside of everything, the key is which item of the sequence this is.
    this.#key[0]!++;
    this.#item = 0;
  }
}

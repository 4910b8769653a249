import { assert } from '../base/assert.ts';
import { fromUtf8 } from '../base/bytes.ts';

// The numbers of RFC 8949, section 3.
export const UNSIGNED = 0;
export const NEGATIVE = 1;
export const BYTES = 2;
export const TEXT = 3;
export const ARRAY = 4;
export const MAP = 5;
export const TAG = 6;
export const SIMPLE = 7;
export const FALSE = 20;
export const TRUE = 21;
export const NULL = 22;
const HALF = 25;
const SINGLE = 26;
const DOUBLE = 27;

/** Bytes of an initial byte and the longest argument (RFC 8949, section 3). */
const LONGEST_HEAD = 9;

// Ours.
const FIRST_BUFFER_BYTES = 256;

const headLength = (count: number): number =>
  count < 24 ? 1 : count < 0x100 ? 2 : count < 0x10000 ? 3 : count < 0x1_0000_0000 ? 5 : LONGEST_HEAD;

const encoder = new TextEncoder();

/** Puts CBOR's parts into bytes that grow as they have to. */
export class CborWriter {
  #bytes = new Uint8Array(FIRST_BUFFER_BYTES);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  done(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  /** An item's head: major type and argument, in its shortest form. */
  head(major: number, count: number): void {
    this.#need(LONGEST_HEAD);
    const at = this.#length;
    if (count < 24) {
      this.#bytes[at] = (major << 5) | count;
      this.#length += 1;
    } else if (count < 0x100) {
      this.#bytes[at] = (major << 5) | 24;
      this.#bytes[at + 1] = count;
      this.#length += 2;
    } else if (count < 0x10000) {
      this.#bytes[at] = (major << 5) | 25;
      this.#view.setUint16(at + 1, count);
      this.#length += 3;
    } else if (count < 0x1_0000_0000) {
      this.#bytes[at] = (major << 5) | 26;
      this.#view.setUint32(at + 1, count);
      this.#length += 5;
    } else {
      this.#bytes[at] = (major << 5) | 27;
      this.#view.setUint32(at + 1, Math.floor(count / 0x1_0000_0000));
      this.#view.setUint32(at + 5, count % 0x1_0000_0000);
      this.#length += 9;
    }
  }

  byte(value: number): void {
    this.#need(1);
    this.#bytes[this.#length++] = value;
  }

  raw(bytes: Uint8Array): void {
    this.#need(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** A text string; half a surrogate pair becomes U+FFFD. */
  text(text: string): void {
    // UTF-8 takes at most three bytes for a unit of UTF-16. Written in place: a new array for each text costs more.
    this.#need(LONGEST_HEAD + 3 * text.length);
    const room = headLength(text.length);
    const start = this.#length + room;
    const { written } = encoder.encodeInto(text, this.#bytes.subarray(start));
    const needed = headLength(written);
    if (needed !== room) this.#bytes.copyWithin(this.#length + needed, start, start + written);
    this.head(TEXT, written);
    this.#length += written;
  }

  /** An integer up to 2^53-1 exactly, everything else as the shortest float of 32 or 64 bits that is exact. */
  number(value: number): void {
    if (Number.isSafeInteger(value)) {
      if (value >= 0) this.head(UNSIGNED, value);
      else this.head(NEGATIVE, -1 - value);
      return;
    }
    this.float(value);
  }

  float(value: number): void {
    assert(Number.isFinite(value), 'JSON has no infinity and no NaN');
    this.#need(LONGEST_HEAD);
    if (Math.fround(value) === value) {
      this.#bytes[this.#length] = (SIMPLE << 5) | SINGLE;
      this.#view.setFloat32(this.#length + 1, value);
      this.#length += 5;
    } else {
      this.#bytes[this.#length] = (SIMPLE << 5) | DOUBLE;
      this.#view.setFloat64(this.#length + 1, value);
      this.#length += 9;
    }
  }

  #need(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + count));
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}

/** Takes CBOR's parts out of bytes. What fails returns undefined and sets `problem`, of which the first one stays. */
export class CborReader<Problem> {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  at: number;
  problem: Problem | CborPartProblem | undefined;

  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = at;
  }

  fail(problem: Problem | CborPartProblem): undefined {
    this.problem ??= problem;
    return undefined;
  }

  /** The next `length` bytes, as a view of them. */
  take(length: number): Uint8Array | undefined {
    if (length > this.bytes.length - this.at) return this.fail('truncated');
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  /** The argument of the head (RFC 8949, section 3) that is next, of definite length. */
  argument(): number | undefined {
    const head = this.bytes[this.at];
    if (head === undefined) return this.fail('truncated');
    const info = head & 31;
    const width = info < 24 ? 0 : 1 << (info - 24);
    if (info > 27) return this.fail('reserved header');
    if (this.at + 1 + width > this.bytes.length) return this.fail('truncated');
    const at = this.at + 1;
    this.at += 1 + width;
    if (width === 0) return info;
    if (width === 1) return this.#view.getUint8(at);
    if (width === 2) return this.#view.getUint16(at);
    if (width === 4) return this.#view.getUint32(at);
    const count = this.#view.getUint32(at) * 0x1_0000_0000 + this.#view.getUint32(at + 4);
    return Number.isSafeInteger(count) ? count : this.fail('number out of range');
  }

  /** The value of a negative integer's head (major type 1). */
  negative(): number | undefined {
    const count = this.argument();
    if (count === undefined) return undefined;
    return count === Number.MAX_SAFE_INTEGER ? this.fail('number out of range') : -1 - count;
  }

  /** The content of a byte string, whose head is next. */
  byteString(): Uint8Array | undefined {
    const length = this.argument();
    return length === undefined ? undefined : this.take(length);
  }

  /** The text of a text string of definite length, whose head is next. */
  text(): string | undefined {
    const bytes = this.byteString();
    if (bytes === undefined) return undefined;
    return fromUtf8(bytes) ?? this.fail('not UTF-8');
  }

  /** true, false, null, or a float, whose initial byte (major type 7) is next. */
  simple(): boolean | null | number | undefined {
    const info = this.bytes[this.at]! & 31;
    if (info === FALSE || info === TRUE || info === NULL) {
      this.at++;
      return info === NULL ? null : info === TRUE;
    }
    if (info < HALF || info > DOUBLE) return this.fail('simple value');
    const width = 1 << (info - 24);
    if (this.at + 1 + width > this.bytes.length) return this.fail('truncated');
    const at = this.at + 1;
    this.at = at + width;
    const number =
      info === HALF
        ? half(this.#view.getUint16(at))
        : info === SINGLE
          ? this.#view.getFloat32(at)
          : this.#view.getFloat64(at);
    return Number.isFinite(number) ? number : this.fail('number out of range');
  }
}

/** Why a part cannot be read. */
export type CborPartProblem =
  | 'truncated'
  | 'reserved header'
  | 'number out of range'
  | 'not UTF-8'
  | 'simple value';

/** The value of an IEEE 754 half-precision number (RFC 8949, appendix D). */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (mantissa + 1024) * 2 ** (exponent - 25);
}

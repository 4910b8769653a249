import { assert } from '../base/assert.ts';
import { fromHex, fromUtf8, hex } from '../base/bytes.ts';
import { isLooseInteger, type LooseNumber, numberFrom, numberOf } from '../matrix/json.ts';

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

/** Tags (sections 3.4.3 and 3.4.4). */
const UNSIGNED_BIGNUM = 2;
const NEGATIVE_BIGNUM = 3;
const DECIMAL_FRACTION = 4;
/** -0.0 in half precision; otherwise -0 is not told from 0. */
const MINUS_ZERO = Uint8Array.of(0xf9, 0x80, 0x00);

/** NaN in half precision, which no JSON is: a compact value that is the text of a loose number follows. */
export const LOOSE_NUMBER = Uint8Array.of(0xf9, 0x7e, 0x00);

/** Bytes of an initial byte and the longest argument (RFC 8949, section 3). */
const LONGEST_HEAD = 9;

/** Bytes of the largest integer in the range of binary64, which is that of JSON's numbers here. */
const LONGEST_BIGNUM = 128;

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

  /** A loose number: an integer as one of any size (RFC 8949, section 3.4.3), others as decimal fractions (3.4.4). */
  loose(number: LooseNumber): void {
    if (isLooseInteger(number)) {
      this.#integer(BigInt(number.rawJSON));
      return;
    }
    const value = numberOf(number);
    if (Object.is(value, -0)) {
      this.raw(MINUS_ZERO);
      return;
    }
    const [digits, exponent] = value.toExponential().split('e') as [string, string];
    const [whole, fraction = ''] = digits.split('.') as [string, string?];
    this.head(TAG, DECIMAL_FRACTION);
    this.head(ARRAY, 2);
    this.number(Number(exponent) - fraction.length);
    this.#integer(BigInt(whole + fraction));
  }

  #integer(value: bigint): void {
    const argument = value < 0n ? -1n - value : value;
    const major = value < 0n ? NEGATIVE : UNSIGNED;
    if (argument <= BigInt(Number.MAX_SAFE_INTEGER)) this.head(major, Number(argument));
    else if (argument < 2n ** 64n) {
      this.#need(LONGEST_HEAD);
      this.#bytes[this.#length] = (major << 5) | 27;
      this.#view.setBigUint64(this.#length + 1, argument);
      this.#length += LONGEST_HEAD;
    } else {
      const digits = argument.toString(16);
      const bytes = fromHex(digits.padStart(digits.length + (digits.length % 2), '0'))!;
      this.head(TAG, value < 0n ? NEGATIVE_BIGNUM : UNSIGNED_BIGNUM);
      this.head(BYTES, bytes.length);
      this.raw(bytes);
    }
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

  /** The integer of any size that is next (major types 0 and 1, and bignums), or the decimal fraction. */
  exactNumber(): number | LooseNumber | undefined {
    const head = this.bytes[this.at]!;
    if (head >> 5 === TAG) return this.#tagged();
    const isNegative = head >> 5 === NEGATIVE;
    if ((head & 31) !== 27) return isNegative ? this.negative() : this.argument();
    const bytes = this.take(LONGEST_HEAD);
    if (bytes === undefined) return undefined;
    const argument = this.#view.getBigUint64(this.at - LONGEST_HEAD + 1);
    return this.#number((isNegative ? -1n - argument : argument).toString());
  }

  #tagged(): number | LooseNumber | undefined {
    const tag = this.argument();
    if (tag === undefined) return undefined;
    const next = this.bytes[this.at];
    if (next === undefined) return this.fail('truncated');
    if (tag === DECIMAL_FRACTION && next === ((ARRAY << 5) | 2)) {
      this.at++;
      const [exponent, mantissa] = [this.#integer(), this.#integer()];
      return mantissa === undefined ? undefined : this.#number(`${mantissa}e${exponent}`);
    }
    if ((tag !== UNSIGNED_BIGNUM && tag !== NEGATIVE_BIGNUM) || next >> 5 !== BYTES) return this.fail('tag');
    const bytes = this.byteString();
    if (bytes === undefined) return undefined;
    if (bytes.length > LONGEST_BIGNUM) return this.fail('number out of range');
    const value = BigInt(`0x0${hex(bytes)}`);
    return this.#number((tag === NEGATIVE_BIGNUM ? -1n - value : value).toString());
  }

  /** The text of an integer, which is no bignum. */
  #integer(): string | undefined {
    const head = this.bytes[this.at];
    if (head === undefined) return this.fail('truncated');
    if (head >> 5 > NEGATIVE) return this.fail('tag');
    const value = this.exactNumber();
    return typeof value === 'object' ? value.rawJSON : value?.toString();
  }

  #number(text: string): number | LooseNumber | undefined {
    return numberFrom(text) ?? this.fail('number out of range');
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
  simple(): boolean | null | number | LooseNumber | undefined {
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
    if (info === HALF && this.#view.getUint16(at) === 0x8000) return numberFrom('-0.0');
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
  | 'simple value'
  | 'tag';

/** The value of an IEEE 754 half-precision number (RFC 8949, appendix D). */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (mantissa + 1024) * 2 ** (exponent - 25);
}

import { assert } from '../base/assert.ts';
import { fromUtf8 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { type JsonObject, type JsonValue, nestsDeeperThan } from '../matrix/json.ts';

// The numbers of RFC 8949, section 3.
const UNSIGNED = 0;
const NEGATIVE = 1;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
const SIMPLE = 7;
const FALSE = 20;
const TRUE = 21;
const NULL = 22;
const HALF = 25;
const SINGLE = 26;
const DOUBLE = 27;
const INDEFINITE = 31;
const BREAK = 0xff;

// Ours.
/** How deeply arrays and objects may be nested, on both ways. */
export const MAX_JSON_DEPTH = 256;
/** The longest item that is read, in bytes, where the caller sets no other limit. */
export const MAX_CBOR_BYTES = 16 * 1024 * 1024;

/** Why bytes are not JSON in CBOR; for log lines and the text of errors. */
export type CborProblem =
  | 'truncated'
  | 'trailing bytes'
  | 'too large'
  | 'too deep'
  | 'byte string'
  | 'tag'
  | 'simple value'
  | 'reserved header'
  | 'number out of range'
  | 'not UTF-8'
  | 'key is not text'
  | 'duplicate key';

/**
 * A JSON value in CBOR (RFC 8949): lengths and integers in their shortest form, definite lengths, keys in the
 * object's order; integers are exact up to 2^53-1, every other number is a float of 32 bits where that is exact and of
 * 64 where it is not. Nesting beyond MAX_JSON_DEPTH is an assertion: see `tooDeep`.
 */
export function encodeJson(value: JsonValue): Uint8Array {
  const writer = new Writer();
  writer.value(value, 0);
  return writer.done();
}

/** A byte string (RFC 8949, major type 2), which no JSON value can be mistaken for. */
export function encodeByteString(bytes: Uint8Array): Uint8Array {
  const writer = new Writer();
  writer.head(BYTES, bytes.length);
  writer.raw(bytes);
  return writer.done();
}

/** Whether a value is nested more deeply than CBOR may carry. */
export const tooDeep = (value: JsonValue): boolean => nestsDeeperThan(MAX_JSON_DEPTH, value);

/**
 * Reads exactly one JSON value out of CBOR. Everything that JSON cannot say is a problem: byte strings, tags,
 * undefined, numbers beyond 2^53-1 that are integers, NaN, keys that are not text or occur twice, bytes after the end.
 * Indefinite lengths are read, since common encoders write them.
 */
export function decodeJson(bytes: Uint8Array, maxBytes = MAX_CBOR_BYTES): Result<JsonValue, CborProblem> {
  const first = decodeJsonAt(bytes, 0, maxBytes);
  if (!first.ok) return first;
  return first.value.end === bytes.length ? ok(first.value.value) : bad('trailing bytes');
}

/** Reads the JSON value that starts at `at`, in a CBOR sequence (RFC 8742), and says where it ends. */
export function decodeJsonAt(
  bytes: Uint8Array,
  at: number,
  maxBytes = MAX_CBOR_BYTES,
): Result<{ readonly value: JsonValue; readonly end: number }, CborProblem> {
  if (bytes.length - at > maxBytes) return bad('too large');
  const reader = new Reader(bytes, at);
  const value = reader.value(0);
  return value === undefined ? bad(reader.problem ?? 'truncated') : ok({ value, end: reader.at });
}

/** Whether the item that starts at `at` is a byte string. */
export const isByteString = (bytes: Uint8Array, at: number): boolean => (bytes[at] ?? 0) >> 5 === BYTES;

/** Reads the byte string of definite length that starts at `at`, in a CBOR sequence. */
export function decodeByteStringAt(
  bytes: Uint8Array,
  at: number,
): Result<{ readonly value: Uint8Array; readonly end: number }, CborProblem> {
  const reader = new Reader(bytes, at);
  const value = isByteString(bytes, at) ? reader.byteString() : undefined;
  return value === undefined ? bad(reader.problem ?? 'truncated') : ok({ value, end: reader.at });
}

/** Bytes of an initial byte and the longest argument (RFC 8949, section 3). */
const LONGEST_HEAD = 9;

const headLength = (count: number): number =>
  count < 24 ? 1 : count < 0x100 ? 2 : count < 0x10000 ? 3 : count < 0x1_0000_0000 ? 5 : LONGEST_HEAD;

const encoder = new TextEncoder();

class Writer {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  done(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  value(value: JsonValue, depth: number): void {
    if (value === null) this.#simple(NULL);
    else if (typeof value === 'string') this.#text(value);
    else if (typeof value === 'number') this.#number(value);
    else if (typeof value === 'boolean') this.#simple(value ? TRUE : FALSE);
    else {
      assert(depth < MAX_JSON_DEPTH, `JSON is nested at most ${MAX_JSON_DEPTH} levels deep`);
      if (Array.isArray(value)) {
        this.head(ARRAY, value.length);
        for (const item of value) this.value(item, depth + 1);
      } else this.#map(value, depth);
    }
  }

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

  raw(bytes: Uint8Array): void {
    this.#need(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #map(value: JsonObject, depth: number): void {
    // An absent property of our own objects is the same as none, as in JSON.stringify.
    const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
    this.head(MAP, entries.length);
    for (const [key, inner] of entries) {
      this.#text(key);
      this.value(inner, depth + 1);
    }
  }

  #text(text: string): void {
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

  #simple(value: number): void {
    this.head(SIMPLE, value);
  }

  #number(value: number): void {
    if (Number.isSafeInteger(value)) {
      if (value >= 0) this.head(UNSIGNED, value);
      else this.head(NEGATIVE, -1 - value);
      return;
    }
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

/** Reads items one after another. A method that fails returns undefined, which no JSON value is, and sets `problem`. */
class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  at: number;
  problem: CborProblem | undefined;

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = at;
  }

  value(depth: number): JsonValue | undefined {
    const head = this.#bytes[this.at];
    if (head === undefined) return this.#fail('truncated');
    const info = head & 31;
    switch (head >> 5) {
      case UNSIGNED:
        return this.#count();
      case NEGATIVE: {
        const count = this.#count();
        if (count === undefined) return undefined;
        return count === Number.MAX_SAFE_INTEGER ? this.#fail('number out of range') : -1 - count;
      }
      case BYTES:
        return this.#fail('byte string');
      case TEXT:
        return this.#text();
      case ARRAY:
        return depth === MAX_JSON_DEPTH ? this.#fail('too deep') : this.#array(depth);
      case MAP:
        return depth === MAX_JSON_DEPTH ? this.#fail('too deep') : this.#map(depth);
      case SIMPLE:
        return this.#simple(info);
      default:
        return this.#fail('tag');
    }
  }

  byteString(): Uint8Array | undefined {
    const length = this.#count();
    return length === undefined ? undefined : this.#take(length);
  }

  #fail(problem: CborProblem): undefined {
    this.problem ??= problem;
    return undefined;
  }

  #take(length: number): Uint8Array | undefined {
    if (length > this.#bytes.length - this.at) return this.#fail('truncated');
    this.at += length;
    return this.#bytes.subarray(this.at - length, this.at);
  }

  /** The argument of the item's head (RFC 8949, section 3), of definite length. */
  #count(): number | undefined {
    const info = this.#bytes[this.at]! & 31;
    const width = info < 24 ? 0 : 1 << (info - 24);
    if (info > 27) return this.#fail('reserved header');
    if (this.at + 1 + width > this.#bytes.length) return this.#fail('truncated');
    const at = this.at + 1;
    this.at += 1 + width;
    if (width === 0) return info;
    if (width === 1) return this.#view.getUint8(at);
    if (width === 2) return this.#view.getUint16(at);
    if (width === 4) return this.#view.getUint32(at);
    const count = this.#view.getUint32(at) * 0x1_0000_0000 + this.#view.getUint32(at + 4);
    return Number.isSafeInteger(count) ? count : this.#fail('number out of range');
  }

  /** The number of items in an array or map, or Infinity where a break ends it. */
  #items(): number | undefined {
    if ((this.#bytes[this.at]! & 31) !== INDEFINITE) return this.#count();
    this.at++;
    return Number.POSITIVE_INFINITY;
  }

  /** Whether a break follows; it is consumed. */
  #ended(): boolean {
    if (this.#bytes[this.at] !== BREAK) return false;
    this.at++;
    return true;
  }

  #text(): string | undefined {
    if ((this.#bytes[this.at]! & 31) !== INDEFINITE) {
      const bytes = this.byteString();
      if (bytes === undefined) return undefined;
      return fromUtf8(bytes) ?? this.#fail('not UTF-8');
    }
    this.at++;
    let text = '';
    while (!this.#ended()) {
      const head = this.#bytes[this.at];
      if (head === undefined) return this.#fail('truncated');
      if (head >> 5 !== TEXT || (head & 31) === INDEFINITE) return this.#fail('reserved header');
      const piece = this.#text();
      if (piece === undefined) return undefined;
      text += piece;
    }
    return text;
  }

  #array(depth: number): JsonValue[] | undefined {
    const count = this.#items();
    if (count === undefined) return undefined;
    const items: JsonValue[] = [];
    while (items.length < count) {
      if (count === Number.POSITIVE_INFINITY && this.#ended()) break;
      const item = this.value(depth + 1);
      if (item === undefined) return undefined;
      items.push(item);
    }
    return items;
  }

  #map(depth: number): JsonObject | undefined {
    const count = this.#items();
    if (count === undefined) return undefined;
    const map: JsonObject = {};
    for (let read = 0; read < count; read++) {
      if (count === Number.POSITIVE_INFINITY && this.#ended()) break;
      const head = this.#bytes[this.at];
      if (head === undefined) return this.#fail('truncated');
      if (head >> 5 !== TEXT) return this.#fail('key is not text');
      const key = this.#text();
      if (key === undefined) return undefined;
      if (Object.hasOwn(map, key)) return this.#fail('duplicate key');
      const value = this.value(depth + 1);
      if (value === undefined) return undefined;
      if (key === '__proto__') defineOwn(map, key, value);
      else map[key] = value;
    }
    return map;
  }

  #simple(info: number): JsonValue | undefined {
    if (info === FALSE || info === TRUE || info === NULL) {
      this.at++;
      return info === NULL ? null : info === TRUE;
    }
    if (info < HALF || info > DOUBLE) return this.#fail('simple value');
    const width = 1 << (info - 24);
    if (this.at + 1 + width > this.#bytes.length) return this.#fail('truncated');
    const at = this.at + 1;
    this.at = at + width;
    const number =
      info === HALF
        ? half(this.#view.getUint16(at))
        : info === SINGLE
          ? this.#view.getFloat32(at)
          : this.#view.getFloat64(at);
    return Number.isFinite(number) ? number : this.#fail('number out of range');
  }
}

/** Assignment to `__proto__` would change the object's prototype instead. JSON.parse makes an own property as well. */
function defineOwn(object: JsonObject, key: string, value: JsonValue): void {
  Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

/** The value of an IEEE 754 half-precision number (RFC 8949, appendix D). */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const mantissa = bits & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (mantissa + 1024) * 2 ** (exponent - 25);
}

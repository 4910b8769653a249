import { assert } from '../base/assert.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { isLooseNumber, type JsonObject, type JsonValue, nestsDeeperThan } from '../matrix/json.ts';
import {
  ARRAY,
  BYTES,
  type CborPartProblem,
  CborReader,
  CborWriter,
  FALSE,
  MAP,
  NEGATIVE,
  NULL,
  SIMPLE,
  TAG,
  TEXT,
  TRUE,
  UNSIGNED,
} from './cbor_bytes.ts';

// The specification's (RFC 8949, section 3.2.1).
const INDEFINITE = 31;
const BREAK = 0xff;

// Ours.
/** How deeply arrays and objects may be nested, on both ways. */
export const MAX_JSON_DEPTH = 256;
/** The longest item that is read, in bytes, where the caller sets no other limit. */
export const MAX_CBOR_BYTES = 16 * 1024 * 1024;

/** Why bytes are not JSON in CBOR; for log lines and the text of errors. */
export type CborProblem =
  | CborPartProblem
  | 'trailing bytes'
  | 'too large'
  | 'too deep'
  | 'byte string'
  | 'key is not text'
  | 'duplicate key';

/**
 * A JSON value in CBOR (RFC 8949): lengths and integers in their shortest form, definite lengths, keys in the
 * object's order; integers of every size, other numbers as floats of 32 bits where that is exact and of 64 where it is
 * not; what was written as a fraction and is an integer as a decimal fraction. Nesting beyond MAX_JSON_DEPTH is an assertion: see `tooDeep`.
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
 * Reads exactly one JSON value out of CBOR. Everything that JSON cannot say is a problem: byte strings, tags other than
 * those of numbers, undefined, NaN, keys that are not text or occur twice, bytes after the end. A float that is an integer
 * counts as one, since common encoders write large integers so. Indefinite lengths are read, since common encoders write them.
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

class Writer extends CborWriter {
  value(value: JsonValue, depth: number): void {
    if (value === null) this.head(SIMPLE, NULL);
    else if (typeof value === 'string') this.text(value);
    else if (typeof value === 'number') this.number(value);
    else if (typeof value === 'boolean') this.head(SIMPLE, value ? TRUE : FALSE);
    else if (isLooseNumber(value)) this.loose(value);
    else {
      assert(depth < MAX_JSON_DEPTH, `JSON is nested at most ${MAX_JSON_DEPTH} levels deep`);
      if (Array.isArray(value)) {
        this.head(ARRAY, value.length);
        for (const item of value) this.value(item, depth + 1);
      } else this.#map(value, depth);
    }
  }

  #map(value: JsonObject, depth: number): void {
    // An absent property of our own objects is the same as none, as in JSON.stringify.
    const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
    this.head(MAP, entries.length);
    for (const [key, inner] of entries) {
      this.text(key);
      this.value(inner, depth + 1);
    }
  }
}

/** Reads items one after another. A method that fails returns undefined, which no JSON value is, and sets `problem`. */
class Reader extends CborReader<CborProblem> {
  value(depth: number): JsonValue | undefined {
    const head = this.bytes[this.at];
    if (head === undefined) return this.fail('truncated');
    switch (head >> 5) {
      case UNSIGNED:
      case NEGATIVE:
      case TAG:
        return this.exactNumber();
      case BYTES:
        return this.fail('byte string');
      case TEXT:
        return this.#anyText();
      case ARRAY:
        return depth === MAX_JSON_DEPTH ? this.fail('too deep') : this.#array(depth);
      case MAP:
        return depth === MAX_JSON_DEPTH ? this.fail('too deep') : this.#map(depth);
      default:
        return this.simple();
    }
  }

  /** The number of items in an array or map, or Infinity where a break ends it. */
  #items(): number | undefined {
    if ((this.bytes[this.at]! & 31) !== INDEFINITE) return this.argument();
    this.at++;
    return Number.POSITIVE_INFINITY;
  }

  /** Whether a break follows; it is consumed. */
  #ended(): boolean {
    if (this.bytes[this.at] !== BREAK) return false;
    this.at++;
    return true;
  }

  /** A text string, whole or in pieces. */
  #anyText(): string | undefined {
    if ((this.bytes[this.at]! & 31) !== INDEFINITE) return this.text();
    this.at++;
    let text = '';
    while (!this.#ended()) {
      const head = this.bytes[this.at];
      if (head === undefined) return this.fail('truncated');
      if (head >> 5 !== TEXT || (head & 31) === INDEFINITE) return this.fail('reserved header');
      const piece = this.text();
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
      const head = this.bytes[this.at];
      if (head === undefined) return this.fail('truncated');
      if (head >> 5 !== TEXT) return this.fail('key is not text');
      const key = this.#anyText();
      if (key === undefined) return undefined;
      if (Object.hasOwn(map, key)) return this.fail('duplicate key');
      const value = this.value(depth + 1);
      if (value === undefined) return undefined;
      setOwn(map, key, value);
    }
    return map;
  }
}

/** Plain assignment to `__proto__` would change the object's prototype. JSON.parse makes an own property as well. */
export function setOwn(object: JsonObject, key: string, value: JsonValue): void {
  if (key === '__proto__')
    Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
  else object[key] = value;
}

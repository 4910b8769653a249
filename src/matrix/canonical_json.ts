import { assert } from '../base/assert.ts';
import { utf8 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { isLooseInteger, isLooseNumber, type LooseNumber } from './json.ts';

// Ours: what keeps the recursion off the end of the stack, whoever wrote the JSON.
const MAX_DEPTH = 1_000;

/** Text, or what is wrong with the value. An object is what tells the two apart. */
type Written = string | { readonly problem: string };

/** The exponents from and up to which Python writes a number that is no integer without one. */
const PYTHON_FIRST_PLAIN_EXPONENT = -4;
const PYTHON_LAST_PLAIN_EXPONENT = 15;

/** Which numbers may be written: integers within ±(2^53 - 1), or any ("Canonical JSON" of the room versions). */
export type NumberRange = 'integers' | 'any';

/** A code unit from which on UTF-16 order and code point order may differ. */
const FIRST_SURROGATE = 0xd800;

const LONE_SURROGATE = { problem: 'a string has a lone surrogate, which UTF-8 cannot carry' };
const NO_INTEGER = { problem: 'a number is not an integer within ±(2^53 - 1)' };
const TOO_DEEP = { problem: `nested deeper than ${MAX_DEPTH} levels` };

/**
 * The canonical JSON of a value (appendices, "Canonical JSON"): shortest encoding, keys in code point order, integers
 * within ±(2^53 - 1) only. Negative zero is written as 0, as in the specification's example.
 * `numbers`: `any` for events of room versions that do not enforce canonical JSON.
 * A problem where the value has no such encoding: a fraction, a number out of range, a lone surrogate, something
 * that is not JSON, or nesting past our limit.
 */
export function canonicalJson(value: unknown, numbers: NumberRange = 'integers'): Result<string> {
  const written = write(value, 0, numbers);
  return typeof written === 'string' ? ok(written) : bad(written.problem);
}

/** The UTF-8 of `canonicalJson` for a value that is known to have one. */
export function canonicalBytes(value: unknown, numbers: NumberRange = 'integers'): Uint8Array {
  return utf8(canonicalText(value, numbers));
}

/** The text of `canonicalJson` for a value that is known to have one. */
export function canonicalText(value: unknown, numbers: NumberRange = 'integers'): string {
  const written = write(value, 0, numbers);
  assert(typeof written === 'string', 'the value has a canonical form');
  return written;
}

function write(value: unknown, depth: number, numbers: NumberRange): Written {
  switch (typeof value) {
    case 'string':
      return writeString(value);
    case 'number':
      // String() of -0 is "0".
      if (Number.isSafeInteger(value)) return String(value);
      if (numbers === 'integers' || !Number.isFinite(value)) return NO_INTEGER;
      // Nobody keeps an integer so large as a number whose text is still known.
      return Number.isInteger(value) ? BigInt(value).toString() : writeFloat(value);
    case 'boolean':
      return value ? 'true' : 'false';
    case 'object':
      if (value === null) return 'null';
      if (isLooseNumber(value)) return numbers === 'integers' ? NO_INTEGER : writeLoose(value);
      if (depth === MAX_DEPTH) return TOO_DEEP;
      return Array.isArray(value)
        ? writeArray(value, depth + 1, numbers)
        : writeObject(value, depth + 1, numbers);
    default:
      return { problem: `a ${typeof value} is not JSON` };
  }
}

/**
 * A number that only rooms of versions 1 to 5 may have. The specification has no canonical form for it; this is how Python
 * writes it, in which nearly all of these rooms' events were hashed: an integer in full, everything else as `writeFloat`.
 */
function writeLoose(number: LooseNumber): Written {
  if (isLooseInteger(number)) return number.rawJSON;
  const value = Number(number.rawJSON);
  return Number.isFinite(value) ? writeFloat(value) : NO_INTEGER;
}

/** As Python's `repr`: the fewest digits, always with a point or an exponent, and that of at least two digits. */
function writeFloat(value: number): string {
  if (Object.is(value, -0)) return '-0.0';
  const [digits, exponent] = value.toExponential().split('e') as [string, string];
  const power = Number(exponent);
  if (power < PYTHON_FIRST_PLAIN_EXPONENT || power > PYTHON_LAST_PLAIN_EXPONENT) {
    return `${digits}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}

/** JSON.stringify escapes exactly what the grammar wants escaped, as the grammar wants it, once surrogates are paired. */
function writeString(text: string): Written {
  return text.isWellFormed() ? JSON.stringify(text) : LONE_SURROGATE;
}

function writeArray(values: readonly unknown[], depth: number, numbers: NumberRange): Written {
  let text = '[';
  for (let i = 0; i < values.length; i++) {
    const written = write(values[i], depth, numbers);
    if (typeof written !== 'string') return written;
    text += i === 0 ? written : `,${written}`;
  }
  return `${text}]`;
}

function writeObject(object: object, depth: number, numbers: NumberRange): Written {
  const keys = sortByCodePoint(Object.keys(object));
  let text = '{';
  for (let i = 0; i < keys.length; i++) {
    const key = writeString(keys[i]!);
    if (typeof key !== 'string') return key;
    const value = write((object as Record<string, unknown>)[keys[i]!], depth, numbers);
    if (typeof value !== 'string') return value;
    text += i === 0 ? `${key}:${value}` : `,${key}:${value}`;
  }
  return `${text}}`;
}

function sortByCodePoint(keys: string[]): string[] {
  // The built-in order is that of UTF-16 code units: the same unless a key has a character from U+D800 up.
  keys.sort();
  return keys.some(reachesSurrogates) ? keys.sort(compareCodePoints) : keys;
}

function reachesSurrogates(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) >= FIRST_SURROGATE) return true;
  return false;
}

/** Below, at or above zero as `a` comes before, with or after `b` in the order of their code points. */
export function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const [x, y] = [a.charCodeAt(i), b.charCodeAt(i)];
    if (x === y) continue;
    const surrogate = (unit: number): boolean => unit >= 0xd800 && unit <= 0xdfff;
    // A surrogate stands for a code point past U+FFFF, so past every unit that is none.
    return surrogate(x) === surrogate(y) ? x - y : surrogate(x) ? 1 : -1;
  }
  return a.length - b.length;
}

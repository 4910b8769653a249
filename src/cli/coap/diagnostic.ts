import { fromUtf8, hex } from '../../base/bytes.ts';
import { bad, ok, type Result } from '../../base/result.ts';

/** How deeply what is printed may be nested. */
const MAX_DEPTH = 256;
const INDENT = '  ';
/** What is nested more deeply is indented no further: a few bytes of a peer would become very many. */
const DEEPEST_INDENT = 32;

const newLine = (depth: number): string => `\n${INDENT.repeat(Math.min(depth, DEEPEST_INDENT))}`;

const BREAK = 0xff;
const INDEFINITE = 31;

/**
 * One CBOR item as people read it: JSON as far as JSON goes, and for the rest the diagnostic notation of RFC 8949,
 * section 8 (`h'ab01'`, `32("a")`, `undefined`, keys of any type). Integers are exact.
 * @param pretty whether on several lines.
 */
export function cborText(bytes: Uint8Array, pretty: boolean): Result<string> {
  const printer = new Printer(bytes, pretty);
  const text = printer.item(0);
  if (text === undefined) return bad(printer.problem);
  return printer.ended ? ok(text) : bad('there are bytes after its end');
}

/** JSON text with one member or element a line. Numbers and strings stay as they were written. */
export function jsonText(text: string): Result<string> {
  try {
    JSON.parse(text);
  } catch {
    return bad('it is not JSON');
  }
  let depth = 0;
  let out = '';
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{[]\s*[}\]]|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    if (token === '{' || token === '[') {
      depth++;
      out += token + newLine(depth);
    } else if (token === '}' || token === ']') {
      depth--;
      out += newLine(depth) + token;
    } else if (token === ',') out += token + newLine(depth);
    else if (token === ':') out += ': ';
    else out += /^[{[]/.test(token) ? token.replace(/\s+/, '') : token;
  }
  return ok(out);
}

class Printer {
  problem = 'it ends in the middle';
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #pretty: boolean;
  #at = 0;

  constructor(bytes: Uint8Array, pretty: boolean) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#pretty = pretty;
  }

  get ended(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** The item here; undefined where there is none: then `problem` says why. */
  item(depth: number): string | undefined {
    if (depth > MAX_DEPTH) return this.#fail('it is nested too deeply');
    const first = this.#bytes[this.#at];
    if (first === undefined) return undefined;
    const [major, info] = [first >> 5, first & 31];
    if (major === 7) return this.#simple(info);
    if (info === INDEFINITE && major >= 2 && major <= 5) {
      this.#at++;
      return this.#content(major, undefined, depth);
    }
    const argument = this.#argument(info);
    if (argument === undefined) return undefined;
    if (major === 0) return String(argument);
    if (major === 1) return String(-1n - argument);
    if (major !== 6) return this.#content(major, Number(argument), depth);
    const tagged = this.item(depth + 1);
    return tagged === undefined ? undefined : `${argument}(${tagged})`;
  }

  /** @param count undefined: up to a break. */
  #content(major: number, count: number | undefined, depth: number): string | undefined {
    if (major === 4 || major === 5) return this.#collection(major === 5, count, depth);
    const bytes = count === undefined ? this.#chunks(major) : this.#take(count);
    if (bytes === undefined) return undefined;
    if (major === 2) return `h'${hex(bytes)}'`;
    const text = fromUtf8(bytes);
    return text === undefined ? this.#fail('a text in it is not UTF-8') : JSON.stringify(text);
  }

  #collection(isMap: boolean, count: number | undefined, depth: number): string | undefined {
    const parts: string[] = [];
    while (count === undefined ? !this.#takeBreak() : parts.length < count) {
      const first = this.item(depth + 1);
      if (first === undefined) return undefined;
      if (!isMap) {
        parts.push(first);
        continue;
      }
      const value = this.item(depth + 1);
      if (value === undefined) return undefined;
      parts.push(`${first}:${this.#pretty ? ' ' : ''}${value}`);
    }
    const [open, close] = isMap ? '{}' : '[]';
    if (parts.length === 0 || !this.#pretty) return `${open}${parts.join(',')}${close}`;
    return `${open}${parts.map((part) => newLine(depth + 1) + part).join(',')}${newLine(depth)}${close}`;
  }

  #chunks(major: number): Uint8Array | undefined {
    const chunks: Uint8Array[] = [];
    while (!this.#takeBreak()) {
      const first = this.#bytes[this.#at];
      if (first === undefined) return undefined;
      if (first >> 5 !== major || (first & 31) === INDEFINITE)
        return this.#fail('a string in it is malformed');
      const length = this.#argument(first & 31);
      const chunk = length === undefined ? undefined : this.#take(Number(length));
      if (chunk === undefined) return undefined;
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }

  #simple(info: number): string | undefined {
    const names: Readonly<Record<number, string>> = { 20: 'false', 21: 'true', 22: 'null', 23: 'undefined' };
    const at = this.#at + 1;
    if (info < 25) {
      const value = this.#argument(info);
      return value === undefined ? undefined : (names[Number(value)] ?? `simple(${value})`);
    }
    const length = 2 ** (info - 24);
    if (info > 27) return this.#fail('it is malformed');
    if (at + length > this.#bytes.length) return undefined;
    this.#at = at + length;
    if (info === 25) return floatText(this.#view.getFloat16(at));
    return floatText(info === 26 ? this.#view.getFloat32(at) : this.#view.getFloat64(at));
  }

  #argument(info: number): bigint | undefined {
    const at = this.#at + 1;
    if (info > 27) return this.#fail('it is malformed');
    const length = info < 24 ? 0 : 2 ** (info - 24);
    if (at + length > this.#bytes.length) return undefined;
    this.#at = at + length;
    if (length === 0) return BigInt(info);
    return BigInt(`0x${hex(this.#bytes.subarray(at, at + length))}`);
  }

  #take(length: number): Uint8Array | undefined {
    if (this.#at + length > this.#bytes.length) return undefined;
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  #takeBreak(): boolean {
    if (this.#bytes[this.#at] !== BREAK) return false;
    this.#at++;
    return true;
  }

  #fail(problem: string): undefined {
    this.problem = problem;
    return undefined;
  }
}

/** A float that is a whole number keeps its point, so that it is not taken for an integer. */
const floatText = (value: number): string =>
  Number.isInteger(value) && Math.abs(value) < 1e21
    ? `${Object.is(value, -0) ? '-0' : value}.0`
    : String(value);

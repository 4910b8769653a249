import { base64, base64url } from '../../src/base/bytes.ts';
import type { Random } from '../../src/base/random.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import type { CompactContext } from '../../src/compact/context.ts';
import { decodeTarget } from '../../src/compact/target.ts';
import { decodeCompact, encodeCompact } from '../../src/compact/value.ts';
import { KEY_OF_CODE, TEXT_OF_SIMPLE } from '../../src/compact/vocabulary.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { told } from './told.ts';

const KEYS = [...KEY_OF_CODE.values()];
const WORDS = [...TEXT_OF_SIMPLE.values()];
const SERVERS = ['a.example', 'b.example:8448', '[::1]', 'nobody knows'];
const ODD = [
  '__proto__',
  'constructor',
  '28',
  '-1',
  '1',
  '',
  '\ud800',
  '\udc00x',
  '\u0000',
  '\ufeff',
  '@',
  '$',
  's1_',
  'ed25519:',
  'mxc://a/',
];
const NOW = 1_795_000_000_000;
const CONTEXT: CompactContext = { now: NOW, servers: ['a.example'] };
/** The heads of forms are 0xc0 to 0xd7. */
const isForm = (byte: number): boolean => byte >= 0xc0 && byte < 0xd8;

/** Random values through both codecs, and random changes of what they have written. Whatever goes wrong is thrown. */
export class ValuesUnderFire {
  readonly #random: Random;
  readonly counts = { values: 0, mutations: 0, insideForms: 0, stillRead: 0 };

  constructor(random: Random) {
    this.#random = random;
  }

  /** One value there and back. */
  shoot(): void {
    const value = this.#value(3);
    const back = decodeCompact(encodeCompact(value, CONTEXT), CONTEXT);
    if (!back.ok || told(back.value) !== told(value)) throw new Error(`compact: ${told(value)}`);
    const plain = decodeJson(encodeJson(value));
    // In UTF-8 half a surrogate pair is U+FFFD, and two keys may become one.
    if (!plain.ok && JSON.stringify(value).isWellFormed() && !/\\ud[89a-f]/.test(JSON.stringify(value)))
      throw new Error(`plain: ${told(value)}`);
    this.counts.values++;
  }

  /** One encoding, changed in a few places. What is read nevertheless can be written, and is read again as the same. */
  mutate(): void {
    const inside = this.#random.integer(2) === 0;
    const { bytes, forms } = this.#encoding(inside);
    for (let n = this.#random.integer(3); n >= 0; n--) {
      const at = inside ? this.#of(forms) + 1 : this.#random.integer(bytes.length);
      bytes[at] = this.#random.integer(256);
    }
    const result = decodeCompact(bytes, CONTEXT);
    if (result.ok) {
      this.counts.stillRead++;
      const again = decodeCompact(encodeCompact(result.value, CONTEXT), CONTEXT);
      if (!again.ok || told(again.value) !== told(result.value))
        throw new Error(`mutated: ${told(result.value)}`);
    }
    decodeTarget(bytes, CONTEXT);
    decodeJson(bytes);
    this.counts.mutations++;
    if (inside) this.counts.insideForms++;
  }

  /** Any value, with what is hard to write in it. */
  value(): JsonValue {
    return this.#value(3);
  }

  /** An encoding, and where its forms begin; `withForms`: it has some. */
  #encoding(withForms: boolean): { readonly bytes: Uint8Array; readonly forms: readonly number[] } {
    for (;;) {
      const bytes = encodeCompact(this.#value(3), CONTEXT);
      const forms = [...bytes.keys()].filter((at) => isForm(bytes[at]!) && at + 1 < bytes.length);
      if (!withForms || forms.length > 0) return { bytes, forms };
    }
  }

  #of<T>(list: readonly T[]): T {
    return list[this.#random.integer(list.length)]!;
  }

  #value(depth: number): JsonValue {
    switch (this.#random.integer(depth > 0 ? 9 : 6)) {
      case 0:
        return this.#number();
      case 1:
        return this.#of([true, false, null]);
      case 6:
        return Array.from({ length: this.#random.integer(5) }, () => this.#value(depth - 1));
      case 7:
      case 8:
        return this.#object(depth);
      default:
        return this.#text();
    }
  }

  #object(depth: number): JsonObject {
    const entries = Array.from({ length: this.#random.integer(6) }, () => {
      const key = this.#random.integer(3) > 0 ? this.#of(KEYS) : this.#text();
      return [key, this.#value(depth - 1)] as const;
    });
    return Object.fromEntries(entries);
  }

  #number(): number {
    const integer = (below: number): number => this.#random.integer(below);
    switch (integer(6)) {
      case 0:
        return integer(300) - 100;
      case 1:
        return NOW + integer(2 ** 31) - 2 ** 30;
      case 2:
        return this.#of([
          0,
          -0,
          2 ** 53 - 1,
          1 - 2 ** 53,
          2 ** 53,
          2 ** 64,
          2 ** 39,
          2 ** 43,
          0.1,
          1.5,
          5e-324,
          1e300,
        ]);
      case 3:
        return integer(2 ** 31) * 2 ** integer(22);
      case 4:
        return -integer(2 ** 31) / 2 ** integer(40);
      default: {
        const any = new DataView(this.#random.bytes(8).slice().buffer).getFloat64(0);
        return Number.isFinite(any) ? any : 1;
      }
    }
  }

  #text(): string {
    const bytes = (): Uint8Array => this.#random.bytes(this.#of([1, 8, 15, 16, 18, 31, 32, 32, 33, 64, 70]));
    switch (this.#random.integer(10)) {
      case 0:
        return this.#of(WORDS);
      case 1:
        return this.#of(ODD) + this.#of(['', '1', 'a', ':a', '7:b.example', 'ed25519:']);
      case 2:
        return `${this.#of(['@', '!', '#', '$', ''])}${this.#random.integer(5)}:${this.#of(SERVERS)}`;
      case 3:
        return this.#of(['$', '!', '']) + base64url(bytes());
      case 4:
        return base64(bytes()) + this.#of(['', '', '=', 'A']);
      case 5:
        return `mxc://${this.#of(SERVERS)}/${base64url(bytes())}`;
      case 6:
        return `${this.#of(['s1_', 'h1_', 'm1795000000000.', '', '0', 'ed25519:', 'https://'])}${this.#random.integer(100_000)}`;
      case 7:
        return String.fromCharCode(
          ...Array.from({ length: this.#random.integer(6) }, () => this.#random.integer(0x1_0000)),
        );
      default:
        return this.#of([
          'Hello World',
          'Wie geht es dir?',
          'مرحبا',
          '你好',
          '👍🏽',
          'a'.repeat(300),
          '<b>x</b>',
        ]);
    }
  }
}

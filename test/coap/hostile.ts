import type { Random } from '../../src/base/random.ts';
import { BLOCK_SIZES, blockOption } from '../../src/coap/block.ts';
import { decode, encode, type Message, NO_BYTES } from '../../src/coap/message.ts';
import { OPTION, OPTION_RULES, type Option, stringOption, uintOption } from '../../src/coap/options.ts';

const TYPES = ['CON', 'NON', 'ACK', 'RST'] as const;
const METHODS = [1, 2, 3, 4, 5, 6, 7];
const RESPONSES = [0x41, 0x43, 0x44, 0x45, 0x5f, 0x80, 0x81, 0x84, 0x88, 0x8d, 0xa0, 0xa3];
const PATHS = ['a', 'b', 'observed', 'large'].map((name) => stringOption(OPTION.uriPath, name));
const KNOWN = [...OPTION_RULES.values()];

/** How many of each are remembered to be aimed at or repeated. */
const REMEMBERED = 64;
/** Most traffic is of a few, so that exchanges get somewhere; the others are there to be many. */
const REGULARS = 8;
const MOST_BYTES = 80;

export interface Shot {
  readonly from: string;
  readonly bytes: Uint8Array;
}

interface Transfer {
  readonly from: string;
  readonly options: readonly Option[];
  readonly size: (typeof BLOCK_SIZES)[number];
  num: number;
}

/**
 * Datagrams of somebody who knows CoAP and wishes no good: requests of every kind, transfers in blocks that go on, are
 * left, or jump, answers to what the victim has sent, true and false ones, repetitions from the same address and from
 * others, all of it also mutated, and noise.
 */
export class Hostile {
  readonly #random: Random;
  readonly #strangers: number;
  readonly #addressOf: (index: number) => string;
  /** What the victim has sent last, and to whom. */
  readonly #aims: { readonly to: string; readonly message: Message }[] = [];
  readonly #shots: Shot[] = [];
  readonly #transfers: Transfer[] = [];
  #count = 0;

  /** @param strangers how many addresses there are beside a few that are used often. */
  constructor(random: Random, strangers: number, addressOf: (index: number) => string) {
    this.#random = random;
    this.#strangers = strangers;
    this.#addressOf = addressOf;
  }

  /** Tells what the victim has sent. */
  observe(to: string, bytes: Uint8Array): void {
    const result = decode(bytes);
    if (!result.ok) throw new Error(`the victim has sent what is no message: ${result.problem.reason}`);
    // Acknowledgements and resets are not answered by anybody.
    if (result.value.type === 'ACK' || result.value.type === 'RST') return;
    this.#aims[this.#count % REMEMBERED] = { to, message: result.value };
  }

  next(): Shot {
    this.#count++;
    const { from, bytes } = this.#one();
    const shot = this.#dice(3) === 0 ? { from, bytes: this.#mutated(bytes) } : { from, bytes };
    this.#shots[this.#count % REMEMBERED] = shot;
    return shot;
  }

  #dice(sides: number): number {
    return this.#random.integer(sides);
  }

  #any<T>(values: readonly T[]): T {
    return values[this.#dice(values.length)]!;
  }

  #address(): string {
    const regular = this.#dice(4) > 0;
    return this.#addressOf(regular ? this.#dice(REGULARS) : REGULARS + this.#dice(this.#strangers));
  }

  #one(): Shot {
    switch (this.#dice(16)) {
      case 0:
        return { from: this.#address(), bytes: this.#random.bytes(this.#dice(MOST_BYTES)) };
      case 1: {
        const earlier = this.#shots[this.#dice(REMEMBERED)];
        if (earlier === undefined) return this.#request();
        return { from: this.#dice(4) > 0 ? earlier.from : this.#address(), bytes: earlier.bytes };
      }
      case 2:
      case 3:
      case 4:
      case 5:
        return this.#answer();
      case 6:
      case 7:
      case 8:
        return this.#block();
      default:
        return this.#request();
    }
  }

  /** An answer to something that the victim has sent, as it would be, or nearly. */
  #answer(): Shot {
    const aim = this.#aims[this.#dice(REMEMBERED)];
    if (aim === undefined) return this.#request();
    const { message } = aim;
    const from = this.#dice(16) > 0 ? aim.to : this.#address();
    const id = this.#dice(16) > 0 ? message.id : this.#dice(2 ** 16);
    const token = this.#dice(16) > 0 ? message.token : this.#token();
    const bare = { id, token: NO_BYTES, code: 0, options: [], payload: NO_BYTES };
    if (this.#dice(4) === 0) return { from, bytes: encode({ ...bare, type: this.#any(['ACK', 'RST']) }) };
    const options = this.#options(RESPONSES);
    // The block that was asked for, or that was sent, is answered with one of the same number.
    for (const number of [OPTION.block1, OPTION.block2]) {
      const asked = message.options.find((option) => option.number === number);
      if (asked !== undefined && this.#dice(4) > 0) options.push({ number, value: asked.value });
    }
    const type = this.#any(['ACK', 'ACK', 'CON', 'NON'] as const);
    const payload = new Uint8Array(this.#any([0, 5, 16, 32, 64]));
    return {
      from,
      bytes: encode({ type, id, token, code: this.#any(RESPONSES), options, payload }),
    };
  }

  /** The next block of an upload, or of the download of a large answer. */
  #block(): Shot {
    const transfer = this.#transfers[this.#dice(REMEMBERED)];
    if (transfer === undefined || this.#dice(16) === 0) {
      this.#transfers[this.#dice(REMEMBERED)] = {
        from: this.#address(),
        options: [
          this.#any(PATHS),
          ...(this.#dice(2) > 0 ? [uintOption(OPTION.requestTag, this.#dice(4))] : []),
        ],
        size: this.#any(BLOCK_SIZES.slice(0, 4)),
        num: 0,
      };
      return this.#request();
    }
    const { from, options, size } = transfer;
    if (this.#dice(32) === 0) transfer.num = this.#dice(2 ** this.#dice(21));
    const num = transfer.num++ % 2 ** 20;
    const upload = this.#dice(2) === 0;
    const more = upload && this.#dice(8) > 0;
    const block = blockOption(upload ? OPTION.block1 : OPTION.block2, { num, more, size });
    const message = {
      type: this.#any(['CON', 'CON', 'NON'] as const),
      code: upload ? 3 : 1,
      id: this.#dice(2 ** 16),
      token: this.#token(),
      options: [...options, block],
      payload: upload ? new Uint8Array(more ? size : this.#dice(size)) : NO_BYTES,
    };
    return { from, bytes: encode(message) };
  }

  #request(): Shot {
    const code = this.#dice(32) > 0 ? this.#any(METHODS) : this.#dice(256);
    const id = this.#dice(4) > 0 ? this.#dice(2 ** 16) : this.#dice(64);
    const type = this.#dice(8) > 0 ? this.#any(['CON', 'NON'] as const) : this.#any(TYPES);
    if (code === 0) {
      const empty = { type, code, id, token: NO_BYTES, options: [], payload: NO_BYTES };
      return { from: this.#address(), bytes: encode(empty) };
    }
    const options = [this.#any(PATHS), ...this.#options(METHODS)];
    if (this.#dice(4) === 0) options.push(uintOption(OPTION.observe, this.#dice(8) > 0 ? this.#dice(2) : 7));
    const payload = this.#dice(2) === 0 ? NO_BYTES : new Uint8Array(this.#any([1, 16, 32, 64]));
    return {
      from: this.#address(),
      bytes: encode({ type, code, id, token: this.#token(), options, payload }),
    };
  }

  /** A few tokens that are used again and again, seldom a long one. */
  #token(): Uint8Array {
    if (this.#dice(4) > 0) return Uint8Array.of(this.#dice(16));
    return new Uint8Array(this.#dice(16) > 0 ? this.#dice(9) : this.#dice(300)).fill(this.#dice(2));
  }

  /** Options that fit their rules, and some that do not. */
  #options(codes: readonly number[]): Option[] {
    const options: Option[] = [];
    for (let n = this.#dice(4); n > 0; n--) {
      const { number, min, max } = this.#any(KNOWN);
      // What is critical and of the other kind of message would only be refused, mostly.
      const odd = this.#dice(8) === 0;
      if (codes === METHODS && !odd && (number === OPTION.proxyUri || number === OPTION.oscore)) continue;
      const length = odd ? this.#dice(MOST_BYTES) : Math.min(min + this.#dice(max - min + 1), 16);
      options.push({ number, value: this.#random.bytes(length) });
    }
    if (this.#dice(16) === 0) options.push({ number: this.#dice(2 ** 16), value: NO_BYTES });
    return options;
  }

  #mutated(bytes: Uint8Array): Uint8Array {
    const copy = new Uint8Array(bytes);
    if (copy.length === 0) return copy;
    switch (this.#dice(5)) {
      case 0:
        return copy.subarray(0, this.#dice(copy.length)).slice();
      case 1: {
        const longer = new Uint8Array(copy.length + 1 + this.#dice(8));
        longer.set(copy);
        return longer;
      }
      case 2: {
        const other = this.#shots[this.#dice(REMEMBERED)]?.bytes ?? copy;
        const at = this.#dice(Math.min(copy.length, other.length) + 1);
        const spliced = new Uint8Array(other);
        spliced.set(copy.subarray(0, at));
        return spliced;
      }
      default:
        for (let n = this.#dice(3); n >= 0; n--) copy[this.#dice(copy.length)]! ^= 1 << this.#dice(8);
        return copy;
    }
  }
}

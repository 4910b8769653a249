import { PROBABILITY_BITS } from './logistic.ts';

const TOP = 0xff00_0000;
const CODE_BYTES = 4;

/** Where between `low` and `high` the next decision divides them: never at `high`, so that both halves hold something. */
function split(low: number, high: number, probability: number): number {
  const range = high - low;
  // (range * probability) >> 16 without leaving 32 bits.
  const upper = (range >>> PROBABILITY_BITS) * probability;
  const lower = ((range & 0xffff) * probability) >>> PROBABILITY_BITS;
  return low + upper + lower;
}

/**
 * A binary arithmetic coder with a range of 32 bits and without carries: a byte leaves as soon as both ends of the
 * range share it. What has left is read back as if zeros followed for ever, so the end costs as little as it can.
 */
export class ArithmeticEncoder {
  #low = 0;
  #high = 0xffff_ffff;
  #bytes = new Uint8Array(64);
  #length = 0;

  /** @param probability that `bit` is 1, of 65536; from 1 to 65535. */
  encode(bit: number, probability: number): void {
    const middle = split(this.#low, this.#high, probability);
    if (bit === 1) this.#high = middle;
    else this.#low = middle + 1;
    while (((this.#low ^ this.#high) & TOP) === 0) {
      this.#put(this.#high >>> 24);
      this.#low = (this.#low << 8) >>> 0;
      this.#high = ((this.#high << 8) | 0xff) >>> 0;
    }
  }

  /** How many bits the decisions so far have taken, in whole bits. */
  get spent(): number {
    return spentBits(this.#length, this.#low, this.#high);
  }

  /** The fewest bytes that, with zeros after them, lie in the range. */
  finish(): Uint8Array {
    if (this.#low > 0) {
      for (let kept = 8; kept <= 32; kept += 8) {
        const unit = 2 ** (32 - kept);
        const value = this.#low % unit === 0 ? this.#low : this.#low - (this.#low % unit) + unit;
        if (value > this.#high) continue;
        for (let shift = 24; shift >= 32 - kept; shift -= 8) this.#put((value >>> shift) & 0xff);
        break;
      }
    }
    let length = this.#length;
    while (length > 0 && this.#bytes[length - 1] === 0) length--;
    return this.#bytes.slice(0, length);
  }

  #put(byte: number): void {
    if (this.#length === this.#bytes.length) {
      const grown = new Uint8Array(2 * this.#bytes.length);
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    this.#bytes[this.#length++] = byte;
  }
}

const spentBits = (bytes: number, low: number, high: number): number => 8 * bytes + Math.clz32(high - low);

/** Reads what an ArithmeticEncoder wrote, given the same probabilities. Any bytes are decisions of some kind. */
export class ArithmeticDecoder {
  readonly #bytes: Uint8Array;
  #low = 0;
  #high = 0xffff_ffff;
  #code = 0;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    for (let i = 0; i < CODE_BYTES; i++) this.#code = ((this.#code << 8) | this.#next()) >>> 0;
  }

  /** Whether all bytes have been looked at: more of them would have been of no use. */
  get exact(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** As `ArithmeticEncoder.spent`. */
  get spent(): number {
    return spentBits(this.#at - CODE_BYTES, this.#low, this.#high);
  }

  decode(probability: number): number {
    const middle = split(this.#low, this.#high, probability);
    const bit = this.#code <= middle ? 1 : 0;
    if (bit === 1) this.#high = middle;
    else this.#low = middle + 1;
    while (((this.#low ^ this.#high) & TOP) === 0) {
      this.#low = (this.#low << 8) >>> 0;
      this.#high = ((this.#high << 8) | 0xff) >>> 0;
      this.#code = ((this.#code << 8) | this.#next()) >>> 0;
    }
    return bit;
  }

  #next(): number {
    return this.#bytes[this.#at++] ?? 0;
  }
}

import { concat } from '../../base/bytes.ts';
import { ArithmeticEncoder } from './arithmetic_coder.ts';
import { endProbability } from './end.ts';

/** The decisions that a message is, before they are coded: how probable its end is depends on how many bytes it will take. */
export class Decisions {
  readonly #bits: number[] = [];
  readonly #probabilities: number[] = [];
  readonly #ends: boolean[] = [];

  /** @param isEnd whether the decision is if the message ends */
  add(bit: number, probability: number, isEnd: boolean): void {
    this.#bits.push(bit);
    this.#probabilities.push(probability);
    this.#ends.push(isEnd);
  }

  /** The fewest bytes that are decisions again where their number is known. */
  encoded(): Uint8Array {
    // No message is shorter than without its end, but by chance.
    for (let length = Math.max(0, this.#coded(undefined).length - 1); ; length++) {
      const bytes = this.#coded(length);
      if (bytes.length <= length) return concat(bytes, new Uint8Array(length - bytes.length));
    }
  }

  /** @param length how many bytes it will be; undefined: nothing is said about ends */
  #coded(length: number | undefined): Uint8Array {
    const encoder = new ArithmeticEncoder();
    for (let i = 0; i < this.#bits.length; i++) {
      const [bit, probability] = [this.#bits[i]!, this.#probabilities[i]!];
      if (!this.#ends[i]) encoder.encode(bit, probability);
      else if (length !== undefined)
        encoder.encode(bit, endProbability(probability, 8 * length - encoder.spent));
    }
    return encoder.finish();
  }
}

import { concat } from '../../base/bytes.ts';

/** The bytes of a number from 0 up in groups of seven bits, the lowest first, all but the last with the top bit set. */
export function varint(value: number | bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = BigInt(value);
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

/** Integers of either sign as integers from 0 up, small ones small: 0, -1, 1, -2, ... */
export const zigzag = (value: bigint): bigint => (value < 0n ? -2n * value - 1n : 2n * value);

/** The inverse of `zigzag`. */
export const unzigzag = (value: bigint): bigint => (value & 1n ? -(value >> 1n) - 1n : value >> 1n);

/** Bytes under construction. */
export class ByteWriter {
  readonly #parts: Uint8Array[] = [];

  bytes(bytes: Uint8Array): void {
    this.#parts.push(bytes);
  }

  byte(value: number): void {
    this.#parts.push(Uint8Array.of(value));
  }

  varint(value: number | bigint): void {
    this.#parts.push(varint(value));
  }

  done(): Uint8Array {
    return concat(...this.#parts);
  }
}

import { type NameKind, type NameReader, type PduProblem, problemOfName } from './view.ts';

/** A varint is at most this long: 64 bits. */
const MAX_VARINT_BYTES = 10;

/**
 * Reads bytes from the front. After the first problem every method returns something harmless, so that a caller looks
 * at `problem` once behind a run of fields, and before it trusts a count.
 */
export class ByteReader {
  problem: PduProblem | undefined;
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  byte(): number {
    return this.take(1)[0] ?? 0;
  }

  /** A view of the next `count` bytes; fewer where there is a problem. */
  take(count: number): Uint8Array {
    if (this.problem !== undefined) return new Uint8Array(0);
    if (count > this.#bytes.length - this.#at) {
      this.fail({ kind: 'malformed', reason: 'truncated' });
      return new Uint8Array(0);
    }
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  /** Everything that is left. */
  rest(): Uint8Array {
    return this.take(this.#bytes.length - this.#at);
  }

  bigVarint(): bigint {
    let value = 0n;
    for (let i = 0; i < MAX_VARINT_BYTES; i++) {
      const byte = this.byte();
      value |= BigInt(byte & 0x7f) << BigInt(7 * i);
      if (byte < 0x80) return value;
    }
    this.fail({ kind: 'malformed', reason: 'a number is too long' });
    return 0n;
  }

  /** A varint within `max`, which is at most 2^53-1. */
  varint(max: number): number {
    const value = this.bigVarint();
    if (value <= BigInt(max)) return Number(value);
    this.fail({ kind: 'malformed', reason: 'a number is too large' });
    return 0;
  }

  name(kind: NameKind, names: NameReader): string {
    if (this.problem !== undefined) return '';
    const read = names.read(kind, this.#bytes, this.#at);
    if (read.ok) {
      this.#at = read.value.end;
      return read.value.name;
    }
    this.fail(problemOfName(read.problem));
    return '';
  }

  /** Keeps the first problem. */
  fail(problem: PduProblem): void {
    this.problem ??= problem;
  }
}

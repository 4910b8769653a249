import { fromUtf8 } from '../../base/bytes.ts';
import type { JsonValue } from '../../matrix/json.ts';
import type { CompactReader } from '../value_reader.ts';
import {
  type ContentReader,
  type NameKind,
  type NameReader,
  type PduProblem,
  problemOfName,
} from './view.ts';

/** A varint is at most this long: 64 bits. */
const MAX_VARINT_BYTES = 10;

/** Kinds of names that handles may stand for. */
export const hasHandles = (kind: NameKind): kind is 'user' | 'server' | 'event' =>
  kind === 'user' || kind === 'server' || kind === 'event';

/**
 * Reads the parts of an event from the front. After the first problem every method returns something harmless, so that a
 * caller looks at `problem` once behind a run of fields, and before it trusts a count.
 */
export abstract class PduReader {
  problem: PduProblem | undefined;

  /** The next `count` bytes; fewer where there is a problem. */
  abstract take(count: number): Uint8Array;
  /** The same, of bytes that nothing compresses. */
  abstract blob(count: number): Uint8Array;
  abstract name(kind: NameKind): string;
  /** The body of a message, which is the last field. */
  abstract text(): string;
  /** A value, which is the last field. */
  abstract json(): JsonValue;

  byte(): number {
    return this.take(1)[0] ?? 0;
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

  /** Keeps the first problem. */
  fail(problem: PduProblem): void {
    this.problem ??= problem;
  }
}

/** How names and contents are read that stand among bytes. */
export interface PduCodecs {
  readonly names: NameReader;
  readonly contents: ContentReader;
}

/** Reads an event that is all of some bytes. */
export class ByteReader extends PduReader {
  readonly #bytes: Uint8Array;
  readonly #codecs: PduCodecs;
  #at = 0;

  constructor(bytes: Uint8Array, codecs: PduCodecs) {
    super();
    this.#bytes = bytes;
    this.#codecs = codecs;
  }

  take(count: number): Uint8Array {
    if (this.problem !== undefined) return new Uint8Array(0);
    if (count > this.#bytes.length - this.#at) {
      this.fail({ kind: 'malformed', reason: 'truncated' });
      return new Uint8Array(0);
    }
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  blob(count: number): Uint8Array {
    return this.take(count);
  }

  /** Everything that is left. */
  rest(): Uint8Array {
    return this.take(this.#bytes.length - this.#at);
  }

  name(kind: NameKind): string {
    if (this.problem !== undefined) return '';
    const read = this.#codecs.names.read(kind, this.#bytes, this.#at);
    if (read.ok) {
      this.#at = read.value.end;
      return read.value.name;
    }
    this.fail(problemOfName(read.problem));
    return '';
  }

  text(): string {
    const bytes = this.rest();
    if (this.problem !== undefined) return '';
    const text = this.#codecs.contents.readText(bytes);
    if (!text.ok) this.fail(problemOfName(text.problem));
    return text.ok ? text.value : '';
  }

  json(): JsonValue {
    const bytes = this.rest();
    if (this.problem !== undefined) return null;
    const value = this.#codecs.contents.readJson(bytes);
    if (!value.ok) this.fail(problemOfName(value.problem));
    return value.ok ? value.value : null;
  }
}

/** Reads an event that stands among the parts of a compact content. */
export class InnerReader extends PduReader {
  readonly #reader: CompactReader;
  readonly #isLast: boolean;

  /** @param isLast whether the event goes to the end of the content */
  constructor(reader: CompactReader, isLast: boolean) {
    super();
    this.#reader = reader;
    this.#isLast = isLast;
  }

  take(count: number): Uint8Array {
    return this.#taken(this.problem === undefined ? this.#reader.take(count) : undefined);
  }

  blob(count: number): Uint8Array {
    return this.#taken(this.problem === undefined ? this.#reader.blob(count) : undefined);
  }

  name(kind: NameKind): string {
    if (this.problem !== undefined) return '';
    return this.#done(hasHandles(kind) ? this.#reader.named(kind) : this.#reader.item()) ?? '';
  }

  text(): string {
    if (this.problem !== undefined) return '';
    if (!this.#isLast) return this.#done(this.#reader.item()) ?? '';
    const text = fromUtf8(this.take(this.#reader.bytes.length - this.#reader.at));
    if (text === undefined) this.fail({ kind: 'malformed', reason: 'a name or a content cannot be read' });
    return text ?? '';
  }

  json(): JsonValue {
    return this.problem === undefined ? (this.#done(this.#reader.value()) ?? null) : null;
  }

  #taken(bytes: Uint8Array | undefined): Uint8Array {
    return this.#done(bytes) ?? new Uint8Array(0);
  }

  #done<T>(value: T | undefined): T | undefined {
    const { problem } = this.#reader;
    if (value !== undefined || this.problem !== undefined) return value;
    if (typeof problem === 'object') this.fail(problemOfName(problem));
    else this.fail({ kind: 'malformed', reason: problem ?? 'truncated' });
    return undefined;
  }
}

import { concat, utf8 } from '../../base/bytes.ts';
import type { JsonValue } from '../../matrix/json.ts';
import type { CompactWriter } from '../value_writer.ts';
import { hasHandles } from './byte_reader.ts';
import type { ContentWriter, NameKind, NameWriter } from './view.ts';

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

/** Where the parts of an event are written to. */
export abstract class PduWriter {
  abstract bytes(bytes: Uint8Array): void;
  /** Bytes that nothing compresses. */
  abstract blob(bytes: Uint8Array): void;
  abstract name(kind: NameKind, name: string): void;
  /** The body of a message, which is the last field. */
  abstract text(text: string): void;
  /** A value, which is the last field. */
  abstract json(value: JsonValue): void;

  byte(value: number): void {
    this.bytes(Uint8Array.of(value));
  }

  varint(value: number | bigint): void {
    this.bytes(varint(value));
  }
}

/** Bytes under construction. */
export class ByteWriter extends PduWriter {
  readonly #parts: Uint8Array[] = [];
  readonly #codecs: { readonly names: NameWriter; readonly contents: ContentWriter };

  constructor(codecs: { readonly names: NameWriter; readonly contents: ContentWriter }) {
    super();
    this.#codecs = codecs;
  }

  bytes(bytes: Uint8Array): void {
    this.#parts.push(bytes);
  }

  blob(bytes: Uint8Array): void {
    this.#parts.push(bytes);
  }

  name(kind: NameKind, name: string): void {
    this.#parts.push(this.#codecs.names.write(kind, name));
  }

  text(text: string): void {
    this.#parts.push(this.#codecs.contents.writeText(text));
  }

  json(value: JsonValue): void {
    this.#parts.push(this.#codecs.contents.writeJson(value));
  }

  done(): Uint8Array {
    return concat(...this.#parts);
  }
}

/** Writes an event among the parts of a compact content. */
export class InnerWriter extends PduWriter {
  readonly #writer: CompactWriter;
  readonly #isLast: boolean;

  /** @param isLast whether the event goes to the end of the content */
  constructor(writer: CompactWriter, isLast: boolean) {
    super();
    this.#writer = writer;
    this.#isLast = isLast;
  }

  bytes(bytes: Uint8Array): void {
    this.#writer.raw(bytes);
  }

  blob(bytes: Uint8Array): void {
    this.#writer.blob(bytes);
  }

  name(kind: NameKind, name: string): void {
    if (hasHandles(kind)) this.#writer.named(name, kind);
    else this.#writer.item(name);
  }

  text(text: string): void {
    if (this.#isLast) this.#writer.raw(utf8(text));
    else this.#writer.item(text);
  }

  json(value: JsonValue): void {
    if (this.#isLast) this.#writer.last(value);
    else this.#writer.value(value);
  }
}

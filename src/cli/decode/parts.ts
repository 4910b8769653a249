import { hex } from '../../base/bytes.ts';

/** One thing in a datagram, and how many bytes it takes. */
export interface Part {
  readonly name: string;
  readonly value: string;
  readonly bytes: number;
  /** What is in it: of a packed content, once it is unpacked. Their bytes add up to `insideBytes`. */
  readonly inside?: readonly Part[];
  readonly insideBytes?: number;
}

/** The parts of one protocol. */
export interface Layer {
  readonly name: string;
  readonly bytes: number;
  readonly parts: readonly Part[];
}

export interface Explained {
  /** In one line. */
  readonly what: string;
  /** From the outside in. Their bytes add up to what the datagram takes on the wire. */
  readonly layers: readonly Layer[];
}

/** The longest value that is shown whole. */
const LONGEST_HEX_BYTES = 32;

export const sizeOf = (parts: readonly { readonly bytes: number }[]): number =>
  parts.reduce((sum, { bytes }) => sum + bytes, 0);

/** What takes no bytes is left out. */
export const layer = (name: string, parts: readonly Part[]): Layer => ({
  name,
  bytes: sizeOf(parts),
  parts: parts.filter(({ bytes }) => bytes > 0),
});

export const short = (bytes: Uint8Array): string =>
  bytes.length <= LONGEST_HEX_BYTES ? hex(bytes) : `${hex(bytes.subarray(0, LONGEST_HEX_BYTES))}...`;

/** Takes parts off the front of some bytes, so that none is left out. Where they end too early a part is shorter. */
export class Cutter {
  readonly parts: Part[] = [];
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  /** The byte that is next. */
  get next(): number | undefined {
    return this.#bytes[this.#at];
  }

  /** @param value what is shown; left out: the bytes */
  cut(name: string, length: number, value: (bytes: Uint8Array) => string = short): Uint8Array {
    const bytes = this.#bytes.subarray(this.#at, this.#at + Math.max(0, length));
    this.#at += bytes.length;
    if (bytes.length > 0) this.parts.push({ name, value: value(bytes), bytes: bytes.length });
    return bytes;
  }

  /** What is left, as one part. */
  rest(name: string, value?: (bytes: Uint8Array) => string): Uint8Array {
    return this.cut(name, this.left, value);
  }
}

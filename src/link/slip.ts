/** RFC 1055: the byte that ends a frame, the one that escapes, and what stands for both behind it. KISS has the same. */
const END = 0xc0;
const ESC = 0xdb;
const ESC_END = 0xdc;
const ESC_ESC = 0xdd;

/**
 * One frame on a serial line (RFC 1055), with an END on both sides, so that noise in front of it ends up in a frame of
 * its own.
 */
export function encodeSlip(frame: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(2 * frame.length + 2);
  let at = 0;
  bytes[at++] = END;
  for (const byte of frame) {
    if (byte === END || byte === ESC) {
      bytes[at++] = ESC;
      bytes[at++] = byte === END ? ESC_END : ESC_ESC;
    } else bytes[at++] = byte;
  }
  bytes[at++] = END;
  return bytes.slice(0, at);
}

/**
 * Finds the frames in a stream of bytes, however it is cut. Any bytes may come: a frame that is too long or has an
 * escape that means nothing is dropped and counted, and the next END begins anew. An empty frame is none.
 */
export class SlipDecoder {
  /** Frames that were dropped. */
  dropped = 0;
  readonly #frame: Uint8Array;
  #length = 0;
  #escaped = false;
  #broken = false;

  /** @param maxBytes the longest frame that is taken, escapes not counted. */
  constructor(maxBytes: number) {
    this.#frame = new Uint8Array(maxBytes);
  }

  /** Takes what has arrived and returns the frames that it completes. */
  push(chunk: Uint8Array): Uint8Array[] {
    const frames: Uint8Array[] = [];
    for (const byte of chunk) {
      if (byte === END) this.#end(frames);
      else if (!this.#broken) this.#take(byte);
    }
    return frames;
  }

  #end(frames: Uint8Array[]): void {
    if (this.#broken || this.#escaped) this.dropped++;
    else if (this.#length > 0) frames.push(this.#frame.slice(0, this.#length));
    this.#length = 0;
    this.#escaped = false;
    this.#broken = false;
  }

  #take(byte: number): void {
    let value = byte;
    if (this.#escaped) {
      this.#escaped = false;
      if (byte !== ESC_END && byte !== ESC_ESC) {
        this.#broken = true;
        return;
      }
      value = byte === ESC_END ? END : ESC;
    } else if (byte === ESC) {
      this.#escaped = true;
      return;
    }
    if (this.#length === this.#frame.length) this.#broken = true;
    else this.#frame[this.#length++] = value;
  }
}

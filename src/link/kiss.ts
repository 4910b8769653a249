import { assert } from '../base/assert.ts';
import { encodeSlip, SlipDecoder } from './slip.ts';

/** What a modem is told to do with a frame (KISS, section 4): 0 sends it; the others set parameters. */
const DATA = 0;

/** What a host and a radio modem say to each other (Chepponis and Karn, "The KISS TNC", 1987): SLIP with a command byte. */
export interface KissFrame {
  /** Which of the modem's ports, 0 to 15. */
  readonly port: number;
  readonly data: Uint8Array;
}

/** A data frame for one of the modem's ports. */
export function encodeKiss({ port, data }: KissFrame): Uint8Array {
  assert(Number.isInteger(port) && port >= 0 && port <= 15, 'a modem has 16 ports');
  const frame = new Uint8Array(1 + data.length);
  frame[0] = (port << 4) | DATA;
  frame.set(data, 1);
  return encodeSlip(frame);
}

/** Finds the data frames in what comes from a modem, as SlipDecoder does; other commands are ignored. */
export class KissDecoder {
  /** Frames that are no data. */
  ignored = 0;
  readonly #frames: SlipDecoder;

  /** @param maxBytes the longest data that is taken. */
  constructor(maxBytes: number) {
    this.#frames = new SlipDecoder(1 + maxBytes);
  }

  /** Frames that were dropped: too long, or damaged. */
  get dropped(): number {
    return this.#frames.dropped;
  }

  push(chunk: Uint8Array): KissFrame[] {
    return this.#frames.push(chunk).flatMap((frame) => {
      const [command = 0] = frame;
      if ((command & 0x0f) === DATA) return [{ port: command >> 4, data: frame.subarray(1) }];
      this.ignored++;
      return [];
    });
  }
}

import { fromHex, fromUtf8 } from '../../base/bytes.ts';
import { bad, ok, type Result } from '../../base/result.ts';
import type { Millis } from '../../base/time.ts';
import { isCapture, readCapture } from '../../link/pcap.ts';
import { udpOfFrame } from '../../link/udp_frame.ts';

/** A datagram, and what is known around it. */
export interface Given {
  readonly bytes: Uint8Array;
  /** Unix time in milliseconds. */
  readonly at?: Millis | undefined;
  readonly from?: string;
  readonly to?: string;
  readonly comment?: string | undefined;
}

/** What an input holds. */
export interface Input {
  readonly datagrams: readonly Given[];
  /** Frames of a capture that hold no whole UDP datagram, by the reason. */
  readonly skipped: ReadonlyMap<string, number>;
}

/** The datagrams of a capture, or of text with one in hexadecimal on each line. */
export function readInput(bytes: Uint8Array): Result<Input> {
  if (isCapture(bytes)) return readFrames(bytes);
  const text = fromUtf8(bytes);
  return text === undefined ? bad('neither a capture nor text') : readHex(text.split('\n'));
}

/** One datagram a line, in hexadecimal; spaces and colons between the bytes do not count, empty lines neither. */
export function readHex(lines: readonly string[]): Result<Input> {
  const datagrams: Given[] = [];
  for (const line of lines) {
    const digits = line.replace(/^0x|[\s:]+/g, '');
    if (digits === '') continue;
    const bytes = fromHex(digits);
    if (bytes === undefined) return bad('not hexadecimal digits, two for each byte');
    datagrams.push({ bytes });
  }
  return ok({ datagrams, skipped: new Map() });
}

function readFrames(bytes: Uint8Array): Result<Input> {
  const frames = readCapture(bytes);
  if (!frames.ok) return frames;
  const datagrams: Given[] = [];
  const skipped = new Map<string, number>();
  for (const { at, linkType, bytes: frame, comment } of frames.value) {
    const udp = udpOfFrame(frame, linkType);
    if (udp.ok)
      datagrams.push({ bytes: udp.value.payload, at, from: udp.value.from, to: udp.value.to, comment });
    else skipped.set(udp.problem, (skipped.get(udp.problem) ?? 0) + 1);
  }
  return ok({ datagrams, skipped });
}

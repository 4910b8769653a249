import { fromUtf8 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Millis } from '../base/time.ts';

// The formats' (pcap: draft-ietf-opsawg-pcap, section 4; pcapng: draft-ietf-opsawg-pcapng, sections 3 and 4).
const PCAP_MICROSECONDS = 0xa1b2c3d4;
const PCAP_NANOSECONDS = 0xa1b23c4d;
const PCAP_HEADER_BYTES = 24;
const PCAP_RECORD_BYTES = 16;
const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE = 1;
const SIMPLE_PACKET = 3;
const ENHANCED_PACKET = 6;
const BYTE_ORDER = 0x1a2b3c4d;
/** Type and length at the start of a block, the length again at its end. */
const BLOCK_BYTES = 12;
const OPTION_END = 0;
const OPTION_COMMENT = 1;
const OPTION_RESOLUTION = 9;
/** Of a link type, the low bits; the others tell of a frame check sequence. */
const LINK_TYPE_MASK = 0xffff;

// Ours.
export const MAX_CAPTURE_BYTES = 256 * 1024 * 1024;
const MAX_PACKETS = 1_000_000;
const MAX_INTERFACES = 1_024;
/** The largest frame that a capture may hold; what libpcap's own limit is. */
const MAX_FRAME_BYTES = 262_144;
const MAX_OPTIONS = 64;

/** One frame of a capture. */
export interface CapturedFrame {
  /** Unix time in milliseconds; undefined where the capture does not say. */
  readonly at: Millis | undefined;
  /** What the frame begins with: one of LINKTYPE_*, as tcpdump.org/linktypes.html lists them. */
  readonly linkType: number;
  readonly bytes: Uint8Array;
  /** How long it was on the link, where more than `bytes`. */
  readonly length: number;
  readonly comment: string | undefined;
}

interface Interface {
  readonly linkType: number;
  readonly snapLength: number;
  /** Units of time in a second. */
  readonly resolution: number;
}

/** Where a file may be read, in its own byte order. */
class Bytes {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  littleEndian = true;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** @returns NaN past the end: no comparison with it holds */
  uint32(at: number): number {
    return at + 4 <= this.bytes.length ? this.#view.getUint32(at, this.littleEndian) : Number.NaN;
  }

  uint16(at: number): number {
    return at + 2 <= this.bytes.length ? this.#view.getUint16(at, this.littleEndian) : Number.NaN;
  }
}

/** Whether bytes begin as a capture does, in either format and byte order. */
export function isCapture(bytes: Uint8Array): boolean {
  const file = new Bytes(bytes);
  const big = new Bytes(bytes);
  big.littleEndian = false;
  const known = (first: number): boolean =>
    first === SECTION_HEADER || first === PCAP_MICROSECONDS || first === PCAP_NANOSECONDS;
  return known(file.uint32(0)) || known(big.uint32(0));
}

/**
 * Reads a capture of tcpdump's or Wireshark's: pcap or pcapng. Blocks of other kinds are skipped.
 * @returns the frames, in the file's order; a problem where it is no capture, breaks off, or is beyond the bounds
 */
export function readCapture(bytes: Uint8Array): Result<readonly CapturedFrame[]> {
  if (bytes.length > MAX_CAPTURE_BYTES) return bad('the capture is too large');
  if (!isCapture(bytes)) return bad('it is no capture');
  const file = new Bytes(bytes);
  return file.uint32(0) === SECTION_HEADER ? readBlocks(file) : readRecords(file);
}

function readRecords(file: Bytes): Result<readonly CapturedFrame[]> {
  const first = file.uint32(0);
  file.littleEndian = first === PCAP_MICROSECONDS || first === PCAP_NANOSECONDS;
  const perSecond = file.uint32(0) === PCAP_NANOSECONDS ? 1e9 : 1e6;
  const linkType = file.uint32(20) & LINK_TYPE_MASK;
  const { length } = file.bytes;
  if (length < PCAP_HEADER_BYTES) return bad('the capture breaks off');
  const frames: CapturedFrame[] = [];
  for (let at = PCAP_HEADER_BYTES; at < length; ) {
    const [captured, original] = [file.uint32(at + 8), file.uint32(at + 12)];
    const start = at + PCAP_RECORD_BYTES;
    if (!(captured <= MAX_FRAME_BYTES) || start + captured > length) return bad('the capture breaks off');
    if (frames.length >= MAX_PACKETS) return bad('the capture holds too many frames');
    frames.push({
      at: file.uint32(at) * 1000 + (file.uint32(at + 4) * 1000) / perSecond,
      linkType,
      bytes: file.bytes.subarray(start, start + captured),
      length: original,
      comment: undefined,
    });
    at = start + captured;
  }
  return ok(frames);
}

function readBlocks(file: Bytes): Result<readonly CapturedFrame[]> {
  const frames: CapturedFrame[] = [];
  let interfaces: Interface[] = [];
  const { length } = file.bytes;
  for (let at = 0; at < length; ) {
    // The same in both byte orders, and says which one the section is in.
    if (file.uint32(at) === SECTION_HEADER) {
      file.littleEndian = true;
      if (file.uint32(at + 8) !== BYTE_ORDER) file.littleEndian = false;
      if (file.uint32(at + 8) !== BYTE_ORDER) return bad('the capture has a section of no byte order');
      interfaces = [];
    }
    const type = file.uint32(at);
    const size = file.uint32(at + 4);
    if (!(size >= BLOCK_BYTES) || size % 4 !== 0 || at + size > length) return bad('the capture breaks off');
    const [start, end] = [at + 8, at + size - 4];
    if (type === INTERFACE) {
      if (interfaces.length >= MAX_INTERFACES) return bad('the capture has too many interfaces');
      interfaces.push(interfaceOf(file, start, end));
    }
    if (type === ENHANCED_PACKET || type === SIMPLE_PACKET) {
      if (frames.length >= MAX_PACKETS) return bad('the capture holds too many frames');
      const frame = (type === ENHANCED_PACKET ? enhanced : simple)(file, start, end, interfaces);
      if (frame === undefined) return bad('a frame of the capture is malformed');
      frames.push(frame);
    }
    at += size;
  }
  return ok(frames);
}

function interfaceOf(file: Bytes, start: number, end: number): Interface {
  let resolution = 1e6;
  for (const { code, at } of optionsOf(file, start + 8, end)) {
    if (code !== OPTION_RESOLUTION) continue;
    const value = file.bytes[at] ?? 6;
    resolution = (value & 0x80) === 0 ? 10 ** value : 2 ** (value & 0x7f);
  }
  return { linkType: file.uint16(start), snapLength: file.uint32(start + 4), resolution };
}

type FrameReader = (
  file: Bytes,
  start: number,
  end: number,
  interfaces: readonly Interface[],
) => CapturedFrame | undefined;

const enhanced: FrameReader = (file, start, end, interfaces) => {
  const of = interfaces[file.uint32(start)];
  const captured = file.uint32(start + 12);
  const at = start + 20;
  if (of === undefined || !(captured <= MAX_FRAME_BYTES) || at + captured > end) return undefined;
  const units = file.uint32(start + 4) * 2 ** 32 + file.uint32(start + 8);
  const comment = optionsOf(file, at + Math.ceil(captured / 4) * 4, end).find(
    ({ code }) => code === OPTION_COMMENT,
  );
  return {
    at: units / (of.resolution / 1000),
    linkType: of.linkType,
    bytes: file.bytes.subarray(at, at + captured),
    length: file.uint32(start + 16),
    comment: comment && fromUtf8(file.bytes.subarray(comment.at, comment.at + comment.size)),
  };
};

const simple: FrameReader = (file, start, end, [of]) => {
  const length = file.uint32(start);
  if (of === undefined || Number.isNaN(length)) return undefined;
  const most = of.snapLength === 0 ? length : Math.min(length, of.snapLength);
  const at = start + 4;
  if (most > MAX_FRAME_BYTES || at + most > end) return undefined;
  return {
    at: undefined,
    linkType: of.linkType,
    bytes: file.bytes.subarray(at, at + most),
    length,
    comment: undefined,
  };
};

/** Options that are whole; a malformed one ends the list. */
function optionsOf(
  file: Bytes,
  start: number,
  end: number,
): readonly { readonly code: number; readonly at: number; readonly size: number }[] {
  const options = [];
  let at = start;
  while (at + 4 <= end && options.length < MAX_OPTIONS) {
    const [code, size] = [file.uint16(at), file.uint16(at + 2)];
    if (code === OPTION_END || at + 4 + size > end) break;
    options.push({ code, at: at + 4, size });
    at += 4 + Math.ceil(size / 4) * 4;
  }
  return options;
}

import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';

// docs/protocol.md, "Negotiation".
/** In the byte in front of capabilities. Two bits are flags of single messages: of XX2 and IK2; of IK1 and IK2. */
const FLAG_OPENING = 0x01;
const FLAG_EARLY = 0x20;
const SPEAKS = 0x02;
const COMPACT_HEADER = 0x04;
const DEVICE = 0x08;
const EARLY_DATA = 0x10;
/** Said by a bit; and with it, as long as no parameter says otherwise, that the models are the usual ones. */
const USUAL_DICTIONARY = 2;
const HAS_USUAL_DICTIONARY = 0x40;
/** Models 1 and 2, as dictionaries. */
const USUAL_MODELS: readonly number[] = [129, 130];
const DEFERRED_SIGNATURES = 0x80;
const END = 0;
const PARAMETERS = { mtu: 1, rate: 2, parallelism: 3 } as const;
const DICTIONARIES = 4;
const MAX_INTEGER_BYTES = 4;
/** A longest datagram of so many bytes, or a greater one, is not told. */
export const USUAL_MTU = 1_200;

// Ours.
/** What is kept of a peer's capabilities at most; longer ones are malformed. */
const MAX_CAPABILITIES_BYTES = 255;
/** A peer that says to take less is taken to take this. */
const SHORTEST_MTU = 128;
const LOWEST_RATE = 10;

/** What the two sides of a session have agreed in its handshake (docs/protocol.md, "Negotiation"). */
export interface Agreement {
  /** CoAP's headers are compressed inside records, and packet numbers are message ids. */
  readonly compactHeader: boolean;
  /** The longest datagram that the peer can take, in bytes; null: it has said nothing. */
  readonly mtu: number | null;
  /** What the peer can take in a second, in bits; null: it has said nothing. */
  readonly rate: number | null;
  /** Requests that the peer wants to have open at a time; null: it has said nothing. */
  readonly parallelism: number | null;
  /** Ids of the dictionaries and models that both have, the sender's best first, the usual one last. */
  readonly dictionaries: readonly number[];
  /** A request may go in an IK1 (docs/protocol.md, "Early data"). */
  readonly earlyData: boolean;
  /** Signatures of events may follow the events (docs/protocol.md, "Deferred signatures"). */
  readonly deferredSignatures: boolean;
}

/** What a side says of itself: the same fields, with its own MTU, rate, parallelism and dictionaries in them. */
export type Capabilities = Agreement;

/** What the two sides of a session have said in its handshake, as bytes. */
export interface Said {
  /** This side's capabilities at that time. */
  readonly own: Uint8Array;
  /** The peer's; none where it knows of no negotiation. */
  readonly peer: Uint8Array;
}

/** With a peer that knows of no negotiation. */
export const NOTHING_AGREED: Agreement = {
  compactHeader: false,
  mtu: null,
  rate: null,
  parallelism: null,
  dictionaries: [],
  earlyData: false,
  deferredSignatures: false,
};

/** The capabilities of a side that knows of no negotiation. */
export const NO_CAPABILITIES = new Uint8Array(0);

function parameter(type: number, value: Uint8Array): Uint8Array {
  return concat(Uint8Array.of(type, value.length), value);
}

/** Big-endian, without zeros in front. */
function encodeInteger(value: number): Uint8Array {
  const bytes = new Uint8Array(MAX_INTEGER_BYTES);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes.subarray(bytes.findIndex((byte) => byte !== 0));
}

const isTold = (value: number | null, below = 2 ** 32): value is number =>
  value !== null && Number.isFinite(value) && value >= 1 && value < below;

/**
 * The form in which they are sent, and by which both sides remember them: a byte of features, then parameters. What
 * finds no room is left out, the dictionaries first.
 * @param room bytes for the parameters
 */
export function encodeCapabilities(
  { compactHeader, mtu, rate, parallelism, dictionaries, earlyData, deferredSignatures }: Capabilities,
  { isDevice, room }: { readonly isDevice: boolean; readonly room: number },
): Uint8Array {
  assert(
    dictionaries.every((id) => Number.isInteger(id) && id >= 1 && id <= 255),
    'the id of a dictionary is 1 to 255',
  );
  const hasUsual = dictionaries.includes(USUAL_DICTIONARY);
  const others = dictionaries.filter((id) => id !== USUAL_DICTIONARY);
  const isUsual = hasUsual && USUAL_MODELS.join() === others.join();
  // Where no room is left for what the bit would say too much: it is not set.
  const least = hasUsual && !isUsual ? [parameter(DICTIONARIES, new Uint8Array(0))] : [];
  const hasRoomForLeast = lengthOf(least) <= room;
  const parts = [
    ...(isTold(mtu, USUAL_MTU) ? [parameter(PARAMETERS.mtu, encodeInteger(Math.floor(mtu)))] : []),
    ...(isTold(rate) ? [parameter(PARAMETERS.rate, encodeInteger(Math.floor(rate)))] : []),
    ...(isTold(parallelism) ? [parameter(PARAMETERS.parallelism, encodeInteger(parallelism))] : []),
  ];
  const all = others.length > 0 && !isUsual ? [parameter(DICTIONARIES, Uint8Array.from(others))] : least;
  const listed = lengthOf([...parts, ...all]) <= room ? all : hasRoomForLeast ? least : [];
  while (lengthOf([...parts, ...listed]) > room) parts.pop();
  const features =
    SPEAKS |
    (compactHeader ? COMPACT_HEADER : 0) |
    (isDevice ? DEVICE : 0) |
    (earlyData ? EARLY_DATA : 0) |
    (deferredSignatures ? DEFERRED_SIGNATURES : 0) |
    (hasUsual && hasRoomForLeast ? HAS_USUAL_DICTIONARY : 0);
  return concat(Uint8Array.of(features), ...parts, ...listed);
}

const lengthOf = (parts: readonly Uint8Array[]): number => parts.reduce((sum, { length }) => sum + length, 0);

/**
 * Takes capabilities out of a payload whose byte at `at` has features.
 * @param parametersAt where the parameters begin; they end with the payload, or with a zero
 * @returns none where that byte, or the bit that tells of them, is missing
 */
export function capabilitiesAt(
  payload: Uint8Array,
  at: number,
  parametersAt: number = at + 1,
): Result<Uint8Array> {
  const features = (payload[at] ?? 0) & ~(FLAG_OPENING | FLAG_EARLY);
  if ((features & SPEAKS) === 0) return ok(NO_CAPABILITIES);
  let end = parametersAt;
  while ((payload[end] ?? END) !== END) {
    end += 2 + (payload[end + 1] ?? MAX_CAPABILITIES_BYTES);
    if (end > payload.length || end - parametersAt >= MAX_CAPABILITIES_BYTES)
      return bad('a parameter without an end');
  }
  return ok(concat(Uint8Array.of(features), payload.subarray(parametersAt, end)));
}

/** What the features of single messages say beside the capabilities. */
export interface Flags {
  /** Of XX2 and IK2: the sender is opening a session itself. */
  readonly opening?: boolean;
  /** Of IK1: early data follows; of IK2: it was taken. */
  readonly early?: boolean;
}

/** The same bytes with flags among them. Where there are neither flags nor capabilities they are none. */
export function withFlags(capabilities: Uint8Array, { opening = false, early = false }: Flags): Uint8Array {
  const flags = (opening ? FLAG_OPENING : 0) | (early ? FLAG_EARLY : 0);
  if (flags === 0) return capabilities;
  const bytes = capabilities.length === 0 ? new Uint8Array(1) : capabilities.slice();
  bytes[0]! |= flags;
  return bytes;
}

export const flagsOf = (features = 0): Required<Flags> => ({
  opening: (features & FLAG_OPENING) !== 0,
  early: (features & FLAG_EARLY) !== 0,
});

/** Whether the side that says this is a client. It may lie: the identity in its handshake decides. */
export const isOfDevice = (capabilities: Uint8Array): boolean => ((capabilities[0] ?? 0) & DEVICE) !== 0;

/** What is meant by capabilities of the form that `capabilitiesAt` returns. What is not known is ignored. */
function decodeCapabilities(bytes: Uint8Array): Capabilities {
  const values = new Map<number, Uint8Array>();
  for (let at = 1; at < bytes.length; at += 2 + bytes[at + 1]!) {
    const value = bytes.subarray(at + 2, at + 2 + bytes[at + 1]!);
    if (!values.has(bytes[at]!)) values.set(bytes[at]!, value);
  }
  const integer = (type: number, lowest: number): number | null => {
    const value = values.get(type);
    if (value === undefined || value.length > MAX_INTEGER_BYTES) return null;
    return Math.max(
      lowest,
      value.reduce((sum, byte) => sum * 256 + byte, 0),
    );
  };
  const hasUsual = ((bytes[0] ?? 0) & HAS_USUAL_DICTIONARY) !== 0;
  const others = values.get(DICTIONARIES) ?? (hasUsual ? USUAL_MODELS : []);
  return {
    compactHeader: ((bytes[0] ?? 0) & COMPACT_HEADER) !== 0,
    mtu: integer(PARAMETERS.mtu, SHORTEST_MTU),
    rate: integer(PARAMETERS.rate, LOWEST_RATE),
    parallelism: integer(PARAMETERS.parallelism, 1),
    dictionaries: [...new Set([...others, ...(hasUsual ? [USUAL_DICTIONARY] : [])])].filter((id) => id !== 0),
    earlyData: ((bytes[0] ?? 0) & EARLY_DATA) !== 0,
    deferredSignatures: ((bytes[0] ?? 0) & DEFERRED_SIGNATURES) !== 0,
  };
}

/** What follows from what both sides have said. */
export function agreementOf({ own, peer }: Said): Agreement {
  if (own.length === 0 || peer.length === 0) return NOTHING_AGREED;
  const [ours, theirs] = [decodeCapabilities(own), decodeCapabilities(peer)];
  const compactHeader = ours.compactHeader && theirs.compactHeader;
  return {
    ...theirs,
    compactHeader,
    // Its message is named as those with compact headers are.
    earlyData: compactHeader && ours.earlyData && theirs.earlyData,
    deferredSignatures: ours.deferredSignatures && theirs.deferredSignatures,
    dictionaries: ours.dictionaries.filter((id) => theirs.dictionaries.includes(id)),
  };
}

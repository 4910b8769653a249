// The codec as it was before version 1 was completed; it is not to be changed.
import { assert } from '../../../src/base/assert.ts';
import { concat } from '../../../src/base/bytes.ts';
import { bad, ok, type Result } from '../../../src/base/result.ts';
import { TAG_BYTES } from '../../../src/crypto/aead.ts';

// docs/protocol.md, "Records". The first byte: 1 | kind (3 bits) | key phase | resend | length of the number (2 bits).
const PIPE_BIT = 0x80;
const KINDS = { data: 0, XX1: 1, XX2: 2, XX3: 3, control: 6, hint: 7 } as const;
/** The low four bits of a record with an eight-byte number: key phase and resend are not used by this version. */
const EIGHT_BYTE_NUMBER = 0b0011;
const NUMBER_BYTES = 8;

/** Version 1, suite 1: Noise_XX_25519_ChaChaPoly_SHA256. */
export const VERSION_AND_SUITE = 0x11;
/** A sender never uses a higher packet number, a receiver drops them. */
export const LAST_PACKET_NUMBER = 2 ** 32 - 1;
/** The longest plaintext of a record. */
export const MAX_PLAINTEXT_BYTES = 65_000;

/**
 * Names a session to the one who receives it, and who has chosen it. The value is that of its bytes, big-endian:
 * `0.......` is one byte, `10......` two, `11......` four, so that no two ids share a value.
 */
export type ConnectionId = number & { readonly __brand: 'ConnectionId' };

export type RecordProblem =
  | 'not_a_record'
  | 'too_short'
  | 'reserved_bits'
  | 'unknown_kind'
  | 'unsupported_version'
  | 'number_too_high';

export type TransportKind = 'data' | 'control';

export type PipeRecord =
  /** `header` goes into the prologue; `message` is Noise's. */
  | {
      readonly kind: 'XX1';
      readonly source: ConnectionId;
      readonly header: Uint8Array;
      readonly message: Uint8Array;
    }
  | { readonly kind: 'XX2'; readonly destination: ConnectionId; readonly message: Uint8Array }
  | { readonly kind: 'XX3'; readonly destination: ConnectionId; readonly message: Uint8Array }
  | {
      readonly kind: TransportKind;
      readonly destination: ConnectionId;
      readonly number: number;
      /** The associated data of `sealed`. */
      readonly header: Uint8Array;
      readonly sealed: Uint8Array;
    }
  /** The sender of this hint does not know the connection of a record with that number. Authenticated by nothing. */
  | { readonly kind: 'hint'; readonly destination: ConnectionId; readonly number: number };

export function connectionIdLength(id: ConnectionId): 1 | 2 | 4 {
  return id < 0x80 ? 1 : id < 0x1_0000 ? 2 : 4;
}

export function encodeConnectionId(id: ConnectionId): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, id);
  return bytes.slice(4 - connectionIdLength(id));
}

/** The id at `at`, or undefined where the bytes end before it does. */
export function decodeConnectionId(bytes: Uint8Array, at: number): ConnectionId | undefined {
  const first = bytes[at];
  if (first === undefined) return undefined;
  const length = first < 0x80 ? 1 : first < 0xc0 ? 2 : 4;
  if (at + length > bytes.length) return undefined;
  let value = 0;
  for (let i = 0; i < length; i++) value = value * 256 + bytes[at + i]!;
  return value as ConnectionId;
}

const flags = (kind: keyof typeof KINDS, low = 0): Uint8Array =>
  Uint8Array.of(PIPE_BIT | (KINDS[kind] << 4) | low);

/** The clear start of XX1: flags, version and suite, the initiator's connection id. */
export function firstHeader(source: ConnectionId): Uint8Array {
  return concat(flags('XX1'), Uint8Array.of(VERSION_AND_SUITE), encodeConnectionId(source));
}

/** The clear start of XX2 and XX3: flags, the receiver's connection id. */
export function handshakeHeader(kind: 'XX2' | 'XX3', destination: ConnectionId): Uint8Array {
  return concat(flags(kind), encodeConnectionId(destination));
}

function numbered(kind: TransportKind | 'hint', destination: ConnectionId, number: number): Uint8Array {
  assert(number >= 0 && number <= LAST_PACKET_NUMBER, 'packet numbers are not used up');
  const eight = new Uint8Array(NUMBER_BYTES);
  new DataView(eight.buffer).setBigUint64(0, BigInt(number));
  return concat(flags(kind, EIGHT_BYTE_NUMBER), encodeConnectionId(destination), eight);
}

/** The clear start of a data or control record: all of it is associated data. */
export const transportHeader = (kind: TransportKind, destination: ConnectionId, number: number): Uint8Array =>
  numbered(kind, destination, number);

/** How long a data or control record is. */
export const transportLength = (destination: ConnectionId, plaintextLength: number): number =>
  1 + connectionIdLength(destination) + NUMBER_BYTES + plaintextLength + TAG_BYTES;

/** A whole hint: it repeats the header of the record that it answers, so it is always shorter than that record. */
export const encodeHint = (destination: ConnectionId, number: number): Uint8Array =>
  numbered('hint', destination, number);

/** Parses the clear part of a datagram. Nothing in it is authenticated yet. */
export function decodeRecord(bytes: Uint8Array): Result<PipeRecord, RecordProblem> {
  const first = bytes[0];
  if (first === undefined || (first & PIPE_BIT) === 0) return bad('not_a_record');
  const low = first & 0x0f;
  switch ((first >> 4) & 0b111) {
    case KINDS.XX1:
      return low === 0 ? decodeFirst(bytes) : bad('reserved_bits');
    case KINDS.XX2:
      return low === 0 ? decodeHandshake('XX2', bytes) : bad('reserved_bits');
    case KINDS.XX3:
      return low === 0 ? decodeHandshake('XX3', bytes) : bad('reserved_bits');
    case KINDS.data:
      return low === EIGHT_BYTE_NUMBER ? decodeNumbered('data', bytes) : bad('reserved_bits');
    case KINDS.control:
      return low === EIGHT_BYTE_NUMBER ? decodeNumbered('control', bytes) : bad('reserved_bits');
    case KINDS.hint:
      return low === EIGHT_BYTE_NUMBER ? decodeNumbered('hint', bytes) : bad('reserved_bits');
    default:
      return bad('unknown_kind');
  }
}

function decodeFirst(bytes: Uint8Array): Result<PipeRecord, RecordProblem> {
  if (bytes.length < 2) return bad('too_short');
  if (bytes[1] !== VERSION_AND_SUITE) return bad('unsupported_version');
  const source = decodeConnectionId(bytes, 2);
  if (source === undefined) return bad('too_short');
  const length = 2 + connectionIdLength(source);
  return ok({ kind: 'XX1', source, header: bytes.slice(0, length), message: bytes.slice(length) });
}

function decodeHandshake(kind: 'XX2' | 'XX3', bytes: Uint8Array): Result<PipeRecord, RecordProblem> {
  const destination = decodeConnectionId(bytes, 1);
  if (destination === undefined) return bad('too_short');
  return ok({ kind, destination, message: bytes.slice(1 + connectionIdLength(destination)) });
}

function decodeNumbered(kind: TransportKind | 'hint', bytes: Uint8Array): Result<PipeRecord, RecordProblem> {
  const destination = decodeConnectionId(bytes, 1);
  if (destination === undefined) return bad('too_short');
  const length = 1 + connectionIdLength(destination) + NUMBER_BYTES;
  if (bytes.length < length + (kind === 'hint' ? 0 : TAG_BYTES)) return bad('too_short');
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const high = view.getUint32(length - NUMBER_BYTES);
  const number = view.getUint32(length - NUMBER_BYTES / 2);
  if (high !== 0) return bad('number_too_high');
  if (kind === 'hint') return ok({ kind, destination, number });
  return ok({ kind, destination, number, header: bytes.slice(0, length), sealed: bytes.slice(length) });
}

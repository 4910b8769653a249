import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { TAG_BYTES } from '../crypto/aead.ts';
import type { NumberLength } from './packet_number.ts';

// docs/protocol.md, "Records". The first byte: 1 | kind (3 bits) | key phase | resend | length of the number (2 bits).
const PIPE_BIT = 0x80;
const KINDS = { data: 0, XX1: 1, XX2: 2, XX3: 3, IK1: 4, IK2: 5, control: 6, hint: 7 } as const;
const PHASE_BIT = 0b1000;
const RESEND_BIT = 0b0100;
/** Code 3: a salt, then a number of four bytes. */
const SALTED = 3;
const NUMBER_LENGTHS = [1, 2, 4, 4] as const;
/** Low bits of XX1 and IK1: a cookie follows the header; how many versions were refused before. */
const COOKIE_BIT = 0b0001;
const REFUSED_SHIFT = 1;
export const MAX_REFUSED_OFFERS = 3;
/** Low bits of the kind of hints that answer a first message instead of a record. */
const COOKIE = 0b1000;
const VERSIONS = 0b1001;
export const COOKIE_BYTES = 8;
const MAX_VERSIONS = 15;
export const SALT_BYTES = 8;

/** Version 1, suite 1: 25519, ChaChaPoly, SHA256. */
export const VERSION_AND_SUITE = 0x11;
/** The longest plaintext of a record. */
export const MAX_PLAINTEXT_BYTES = 65_000;

/**
 * Names a session to the one who receives it, and who has chosen it. The value is that of its bytes, big-endian:
 * `0.......` is one byte, `10......` two, `11......` four, so that no two ids share a value.
 */
export type ConnectionId = number & { readonly __brand: 'ConnectionId' };

export type RecordProblem = 'not_a_record' | 'too_short' | 'reserved_bits' | 'unknown_kind';

export type TransportKind = 'data' | 'control';

/** The low bytes of a packet number. */
export interface TruncatedNumber {
  readonly truncated: number;
  readonly numberLength: NumberLength;
}

/** What is in clear in a data or control record behind its kind and connection id. */
export interface TransportClear extends TruncatedNumber {
  /** The lowest bit of the epoch. */
  readonly phase: 0 | 1;
  /** Whether a message in it was sent before (docs/protocol.md, "CoAP in records"); false in a control record. */
  readonly isResend: boolean;
  /** Of a sender that has started anew and does not know yet that the receiver has noticed. */
  readonly salt: Uint8Array | undefined;
}

export type FirstKind = 'XX1' | 'IK1';
/** A handshake's other messages. */
export type LaterKind = 'XX2' | 'XX3' | 'IK2';

/** The clear start of a first message. In every version it is laid out like this, so that any can be refused. */
export interface Offered {
  /** The version in the high four bits, the suite in the low ones. */
  readonly version: number;
  /** Versions that this initiator has offered before and that were refused. */
  readonly refused: readonly number[];
  readonly source: ConnectionId;
}

export interface FirstRecord extends Offered {
  readonly kind: FirstKind;
  /** Without the cookie, and as if there were none: goes into the prologue. */
  readonly header: Uint8Array;
  readonly cookie: Uint8Array | undefined;
  readonly message: Uint8Array;
}

export type PipeRecord =
  | FirstRecord
  | { readonly kind: LaterKind; readonly destination: ConnectionId; readonly message: Uint8Array }
  /** Asks to have the first message again with this cookie. Authenticated by nothing. */
  | { readonly kind: 'cookie'; readonly destination: ConnectionId; readonly cookie: Uint8Array }
  /** Refuses the version of a first message and names others. Authenticated by nothing. */
  | { readonly kind: 'versions'; readonly destination: ConnectionId; readonly versions: readonly number[] }
  | {
      readonly kind: TransportKind;
      readonly destination: ConnectionId;
      readonly clear: TransportClear;
      /** The associated data of `sealed`. */
      readonly header: Uint8Array;
      readonly sealed: Uint8Array;
    }
  /**
   * The sender of this hint does not know the connection of a record whose number ends like that. Authenticated by
   * nothing.
   */
  | ({ readonly kind: 'hint'; readonly destination: ConnectionId } & TruncatedNumber);

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
  return readInteger(bytes, at, length) as ConnectionId;
}

const flags = (kind: keyof typeof KINDS, low = 0): Uint8Array =>
  Uint8Array.of(PIPE_BIT | (KINDS[kind] << 4) | low);

/** The clear start of a first message: flags, version and suite, refused versions, the initiator's connection id. */
export function firstHeader(kind: FirstKind, { version, refused, source }: Offered): Uint8Array {
  assert(refused.length <= MAX_REFUSED_OFFERS, 'at most three offers were refused');
  const low = refused.length << REFUSED_SHIFT;
  return concat(flags(kind, low), Uint8Array.of(version, ...refused), encodeConnectionId(source));
}

/** The whole datagram of a first message. */
export function encodeFirst(header: Uint8Array, message: Uint8Array, cookie?: Uint8Array): Uint8Array {
  if (cookie === undefined) return concat(header, message);
  const bytes = concat(header, cookie, message);
  bytes[0]! |= COOKIE_BIT;
  return bytes;
}

/** The clear start of the other handshake messages: flags, the receiver's connection id. */
export function handshakeHeader(kind: LaterKind, destination: ConnectionId): Uint8Array {
  return concat(flags(kind), encodeConnectionId(destination));
}

export const encodeCookie = (destination: ConnectionId, cookie: Uint8Array): Uint8Array =>
  concat(flags('hint', COOKIE), encodeConnectionId(destination), cookie);

export function encodeVersions(destination: ConnectionId, versions: readonly number[]): Uint8Array {
  assert(versions.length <= MAX_VERSIONS, 'there are at most fifteen versions');
  return concat(flags('hint', VERSIONS), encodeConnectionId(destination), Uint8Array.from(versions));
}

const codeOf = ({ numberLength }: TruncatedNumber): number => NUMBER_LENGTHS.indexOf(numberLength);

function encodeTruncated({ truncated, numberLength }: TruncatedNumber): Uint8Array {
  const four = new Uint8Array(4);
  new DataView(four.buffer).setUint32(0, truncated);
  return four.subarray(4 - numberLength);
}

/** The clear start of a data or control record: all of it is associated data. */
export function transportHeader(
  kind: TransportKind,
  destination: ConnectionId,
  clear: TransportClear,
): Uint8Array {
  const { phase, isResend, salt } = clear;
  assert(salt === undefined || clear.numberLength === 4, 'a number behind a salt has four bytes');
  const length = salt === undefined ? codeOf(clear) : SALTED;
  const low = (phase === 1 ? PHASE_BIT : 0) | (isResend ? RESEND_BIT : 0) | length;
  const id = encodeConnectionId(destination);
  return concat(flags(kind, low), id, salt ?? new Uint8Array(0), encodeTruncated(clear));
}

/** How long a data or control record is at most. */
export const longestTransport = (destination: ConnectionId, plaintextLength: number): number =>
  1 + connectionIdLength(destination) + SALT_BYTES + 4 + plaintextLength + TAG_BYTES;

/** A whole hint: it repeats the number of the record that it answers, so it is always shorter than that record. */
export const encodeHint = (destination: ConnectionId, number: TruncatedNumber): Uint8Array =>
  concat(flags('hint', codeOf(number)), encodeConnectionId(destination), encodeTruncated(number));

/** Parses the clear part of a datagram. Nothing in it is authenticated yet. */
export function decodeRecord(bytes: Uint8Array): Result<PipeRecord, RecordProblem> {
  const first = bytes[0];
  if (first === undefined || (first & PIPE_BIT) === 0) return bad('not_a_record');
  const low = first & 0x0f;
  switch ((first >> 4) & 0b111) {
    case KINDS.XX1:
      return decodeFirst('XX1', bytes);
    case KINDS.IK1:
      return decodeFirst('IK1', bytes);
    case KINDS.XX2:
      return low === 0 ? decodeLater('XX2', bytes) : bad('reserved_bits');
    case KINDS.XX3:
      return low === 0 ? decodeLater('XX3', bytes) : bad('reserved_bits');
    case KINDS.IK2:
      return low === 0 ? decodeLater('IK2', bytes) : bad('reserved_bits');
    case KINDS.data:
      return decodeTransport('data', bytes);
    case KINDS.control:
      return (low & RESEND_BIT) === 0 ? decodeTransport('control', bytes) : bad('reserved_bits');
    case KINDS.hint:
      if (low === COOKIE) return decodeCookie(bytes);
      if (low === VERSIONS) return decodeVersions(bytes);
      return low < SALTED ? decodeHint(bytes) : bad('reserved_bits');
    default:
      return bad('unknown_kind');
  }
}

function decodeFirst(kind: FirstKind, bytes: Uint8Array): Result<PipeRecord, RecordProblem> {
  const low = bytes[0]! & 0x0f;
  const count = low >> REFUSED_SHIFT;
  if (count > MAX_REFUSED_OFFERS) return bad('reserved_bits');
  const version = bytes[1];
  const source = decodeConnectionId(bytes, 2 + count);
  if (version === undefined || source === undefined) return bad('too_short');
  const length = 2 + count + connectionIdLength(source);
  const cookieEnd = length + ((low & COOKIE_BIT) === 0 ? 0 : COOKIE_BYTES);
  if (cookieEnd > bytes.length) return bad('too_short');
  const header = bytes.slice(0, length);
  header[0]! &= ~COOKIE_BIT;
  return ok({
    kind,
    version,
    refused: [...bytes.subarray(2, 2 + count)],
    source,
    header,
    cookie: cookieEnd === length ? undefined : bytes.slice(length, cookieEnd),
    message: bytes.slice(cookieEnd),
  });
}

function decodeLater(kind: LaterKind, bytes: Uint8Array): Result<PipeRecord, RecordProblem> {
  const destination = decodeConnectionId(bytes, 1);
  if (destination === undefined) return bad('too_short');
  return ok({ kind, destination, message: bytes.slice(1 + connectionIdLength(destination)) });
}

function decodeCookie(bytes: Uint8Array): Result<PipeRecord, RecordProblem> {
  const destination = decodeConnectionId(bytes, 1);
  if (destination === undefined) return bad('too_short');
  const cookie = bytes.slice(1 + connectionIdLength(destination));
  return cookie.length < COOKIE_BYTES
    ? bad('too_short')
    : ok({ kind: 'cookie', destination, cookie: cookie.subarray(0, COOKIE_BYTES) });
}

function decodeVersions(bytes: Uint8Array): Result<PipeRecord, RecordProblem> {
  const destination = decodeConnectionId(bytes, 1);
  if (destination === undefined) return bad('too_short');
  const at = 1 + connectionIdLength(destination);
  return ok({ kind: 'versions', destination, versions: [...bytes.subarray(at, at + MAX_VERSIONS)] });
}

function decodeTransport(kind: TransportKind, bytes: Uint8Array): Result<PipeRecord, RecordProblem> {
  const destination = decodeConnectionId(bytes, 1);
  if (destination === undefined) return bad('too_short');
  const code = bytes[0]! & 0b11;
  const saltAt = 1 + connectionIdLength(destination);
  const numberAt = saltAt + (code === SALTED ? SALT_BYTES : 0);
  const numberLength = NUMBER_LENGTHS[code]!;
  const length = numberAt + numberLength;
  if (bytes.length < length + TAG_BYTES) return bad('too_short');
  const clear: TransportClear = {
    phase: (bytes[0]! & PHASE_BIT) === 0 ? 0 : 1,
    isResend: (bytes[0]! & RESEND_BIT) !== 0,
    salt: code === SALTED ? bytes.slice(saltAt, numberAt) : undefined,
    truncated: readInteger(bytes, numberAt, numberLength),
    numberLength,
  };
  return ok({ kind, destination, clear, header: bytes.slice(0, length), sealed: bytes.slice(length) });
}

function decodeHint(bytes: Uint8Array): Result<PipeRecord, RecordProblem> {
  const destination = decodeConnectionId(bytes, 1);
  if (destination === undefined) return bad('too_short');
  const numberLength = NUMBER_LENGTHS[bytes[0]! & 0b11]!;
  const at = 1 + connectionIdLength(destination);
  if (bytes.length < at + numberLength) return bad('too_short');
  return ok({
    kind: 'hint',
    destination,
    truncated: readInteger(bytes, at, numberLength),
    numberLength,
  });
}

function readInteger(bytes: Uint8Array, at: number, length: number): number {
  let value = 0;
  for (let i = 0; i < length; i++) value = value * 256 + bytes[at + i]!;
  return value;
}

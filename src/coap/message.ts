import { assert } from '../base/assert.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { EMPTY } from './codes.ts';
import type { Option } from './options.ts';

/** The order is that of the two type bits (RFC 7252, section 3). */
const TYPES = ['CON', 'NON', 'ACK', 'RST'] as const;
export type MessageType = (typeof TYPES)[number];

export interface Message {
  readonly type: MessageType;
  /** 0..255: class << 5 | detail. */
  readonly code: number;
  /** 0..65535. */
  readonly id: number;
  /** 0 to 65,804 bytes (RFC 8974, section 2); a peer that knows only RFC 7252 takes no more than 8. */
  readonly token: Uint8Array;
  /** By number; those of one number in the order in which they came. */
  readonly options: readonly Option[];
  readonly payload: Uint8Array;
}

/** Why bytes are no message, and what is needed to reject them (RFC 7252, section 4.2). */
export interface MessageProblem {
  readonly reason: 'short' | 'version' | 'token' | 'empty' | 'option' | 'payload';
  /** Type and id where the header is readable and of our version; what has another version is ignored silently. */
  readonly header: { readonly type: MessageType; readonly id: number } | null;
}

// The specification's.
const VERSION = 1;
const HEADER_BYTES = 4;
export const PAYLOAD_MARKER = 0xff;
const HIGHEST_OPTION_NUMBER = 0xffff;
/** What four bits and their one or two extension bytes express: RFC 7252, section 3.1, and RFC 8974, section 2.1. */
const ONE_BYTE_FORM = 13;
const TWO_BYTE_FORM = 14;
const ONE_BYTE_BASE = 13;
const TWO_BYTE_BASE = 269;
const MOST_EXTENDED = TWO_BYTE_BASE + 0xffff;

// Ours.
/** More than any datagram has, and still a small integer. */
const BEYOND = 2 ** 30;
/** Measured: up to here a loop is faster than a copy by the engine, which needs a second array. */
const SHORT_BYTES = 24;

export const NO_BYTES = new Uint8Array(0);

/** An option as it stands in a datagram. Most are looked at for their number only: a value is cut out when it is read. */
class ReceivedOption implements Option {
  readonly number: number;
  readonly #datagram: Uint8Array;
  readonly #start: number;
  readonly #end: number;
  #value: Uint8Array | undefined;

  constructor(number: number, datagram: Uint8Array, start: number, end: number) {
    this.number = number;
    this.#datagram = datagram;
    this.#start = start;
    this.#end = end;
  }

  get value(): Uint8Array {
    this.#value ??= cut(this.#datagram, this.#start, this.#end);
    return this.#value;
  }
}

/**
 * Reads one datagram as a CoAP message (RFC 7252, section 3; RFC 8974, section 2). Never throws. Takes `bytes` over: the
 * payload may be a part of them, and option values are read from them later, so nobody may write into them any more.
 * Options come as they are on the wire: `recognised` judges them.
 */
export function decode(bytes: Uint8Array): Result<Message, MessageProblem> {
  const { length } = bytes;
  if (length < HEADER_BYTES) return bad({ reason: 'short', header: null });
  const first = bytes[0]!;
  if (first >> 6 !== VERSION) return bad({ reason: 'version', header: null });
  const type = TYPES[(first >> 4) & 3]!;
  const id = (bytes[2]! << 8) | bytes[3]!;
  const code = bytes[1]!;
  const nibble = first & 0x0f;
  if (code === EMPTY) {
    if (nibble !== 0 || length !== HEADER_BYTES) return bad({ reason: 'empty', header: { type, id } });
    return ok({ type, code, id, token: NO_BYTES, options: [], payload: NO_BYTES });
  }
  const tokenAt = HEADER_BYTES + extensionBytes(nibble);
  const optionsAt = tokenAt + extended(bytes, HEADER_BYTES, nibble);
  if (optionsAt > length) return bad({ reason: 'token', header: { type, id } });
  const token = cut(bytes, tokenAt, optionsAt);
  const options: Option[] = [];
  const payloadAt = decodeOptions(bytes, optionsAt, options);
  if (typeof payloadAt !== 'number') return bad({ reason: payloadAt, header: { type, id } });
  return ok({ type, code, id, token, options, payload: payloadOf(bytes, payloadAt) });
}

/** A message of which options and payload stay as they are. */
export interface MessageParts extends Pick<Message, 'type' | 'code' | 'id' | 'token'> {
  /** Options, payload marker and payload. */
  readonly rest: Uint8Array;
}

/** Cuts header and token off; undefined where there is no header of our version, or no end of the token. */
export function partMessage(bytes: Uint8Array): MessageParts | undefined {
  if (bytes.length < HEADER_BYTES || bytes[0]! >> 6 !== VERSION) return undefined;
  const nibble = bytes[0]! & 0x0f;
  const tokenAt = HEADER_BYTES + extensionBytes(nibble);
  const end = tokenAt + extended(bytes, HEADER_BYTES, nibble);
  if (end > bytes.length) return undefined;
  return {
    type: TYPES[(bytes[0]! >> 4) & 3]!,
    code: bytes[1]!,
    id: (bytes[2]! << 8) | bytes[3]!,
    token: cut(bytes, tokenAt, end),
    rest: bytes.subarray(end),
  };
}

/** The opposite of `partMessage`. */
export function joinMessage({ type, code, id, token, rest }: MessageParts): Uint8Array {
  const nibble = nibbleOf(token.length);
  const tokenAt = HEADER_BYTES + extensionBytes(nibble);
  const bytes = new Uint8Array(tokenAt + token.length + rest.length);
  putHeader(bytes, { type, code, id, token });
  bytes.set(rest, tokenAt + token.length);
  return bytes;
}

/** Adds what it reads to `options`. Returns where the payload starts, which may be the end, or what is wrong. */
function decodeOptions(bytes: Uint8Array, start: number, options: Option[]): number | 'option' | 'payload' {
  const { length } = bytes;
  let at = start;
  let number = 0;
  while (at < length) {
    const head = bytes[at]!;
    at++;
    if (head === PAYLOAD_MARKER) return at < length ? at : 'payload';
    const delta = head >> 4;
    number += extended(bytes, at, delta);
    at += extensionBytes(delta);
    const size = head & 0x0f;
    const valueAt = at + extensionBytes(size);
    at = valueAt + extended(bytes, at, size);
    if (number > HIGHEST_OPTION_NUMBER || at > length) return 'option';
    options.push(new ReceivedOption(number, bytes, valueAt, at));
  }
  return length;
}

/**
 * The payload: the datagram's own bytes where those are most of what stays in memory for it; otherwise a copy, so that
 * a few bytes that are kept do not hold many.
 */
function payloadOf(bytes: Uint8Array, start: number): Uint8Array {
  const length = bytes.length - start;
  const { buffer, byteOffset } = bytes;
  if (length > SHORT_BYTES && 2 * length >= buffer.byteLength)
    return new Uint8Array(buffer, byteOffset + start, length);
  return cut(bytes, start, bytes.length);
}

/** A copy of a part. */
function cut(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const length = end - start;
  if (length === 0) return NO_BYTES;
  if (length > SHORT_BYTES) return new Uint8Array(bytes.subarray(start, end));
  const part = new Uint8Array(length);
  for (let i = 0; i < length; i++) part[i] = bytes[start + i]!;
  return part;
}

/** How many bytes follow a nibble: one for 13, two for 14. */
const extensionBytes = (nibble: number): number => (nibble < ONE_BYTE_FORM ? 0 : nibble - ONE_BYTE_FORM + 1);

/** The value of a nibble with its extension at `at`; beyond everything where that is reserved or cut off. */
function extended(bytes: Uint8Array, at: number, nibble: number): number {
  if (nibble < ONE_BYTE_FORM) return nibble;
  if (nibble > TWO_BYTE_FORM || at + extensionBytes(nibble) > bytes.length) return BEYOND;
  if (nibble === ONE_BYTE_FORM) return ONE_BYTE_BASE + bytes[at]!;
  return TWO_BYTE_BASE + ((bytes[at]! << 8) | bytes[at + 1]!);
}

/** The bytes of a message. Options may come in any order; those of one number keep theirs. */
export function encode(message: Message): Uint8Array {
  const { type, code, id, token, options, payload } = message;
  assert(Number.isInteger(code) && code >= 0 && code <= 0xff, 'a code has eight bits');
  assert(Number.isInteger(id) && id >= 0 && id <= 0xffff, 'a message id has sixteen bits');
  assert(token.length <= MOST_EXTENDED, 'a token fits its length field');
  assert(
    code !== EMPTY || token.length + options.length + payload.length === 0,
    'an empty message has four bytes',
  );
  const sorted = inOrder(options);
  const payloadBytes = payload.length === 0 ? 0 : 1 + payload.length;
  const tokenNibble = nibbleOf(token.length);
  const tokenAt = HEADER_BYTES + extensionBytes(tokenNibble);
  const bytes = new Uint8Array(tokenAt + token.length + encodedLength(sorted) + payloadBytes);
  let at = putHeader(bytes, { type, code, id, token });
  let previous = 0;
  for (const { number, value } of sorted) {
    const delta = nibbleOf(number - previous);
    const size = nibbleOf(value.length);
    bytes[at] = (delta << 4) | size;
    at = putExtension(bytes, at + 1, delta, number - previous);
    at = putExtension(bytes, at, size, value.length);
    at = put(bytes, at, value);
    previous = number;
  }
  if (payloadBytes > 0) {
    bytes[at] = PAYLOAD_MARKER;
    put(bytes, at + 1, payload);
  }
  return bytes;
}

/** Writes header and token, and returns where to go on. */
function putHeader(bytes: Uint8Array, { type, code, id, token }: Omit<MessageParts, 'rest'>): number {
  const nibble = nibbleOf(token.length);
  bytes[0] = (VERSION << 6) | (TYPES.indexOf(type) << 4) | nibble;
  bytes[1] = code;
  bytes[2] = id >> 8;
  bytes[3] = id & 0xff;
  return put(bytes, putExtension(bytes, HEADER_BYTES, nibble, token.length), token);
}

/** The options by number; nearly always they are given that way. */
function inOrder(options: readonly Option[]): readonly Option[] {
  for (let i = 1; i < options.length; i++) {
    if (options[i]!.number < options[i - 1]!.number) return options.toSorted((a, b) => a.number - b.number);
  }
  return options;
}

/** What options in order take, heads included. */
function encodedLength(options: readonly Option[]): number {
  let length = 0;
  let previous = 0;
  for (const { number, value } of options) {
    assert(
      Number.isInteger(number) && number >= 0 && number <= HIGHEST_OPTION_NUMBER,
      'an option number has 16 bits',
    );
    assert(value.length <= MOST_EXTENDED, 'an option value fits its length field');
    const extensions = extensionBytes(nibbleOf(number - previous)) + extensionBytes(nibbleOf(value.length));
    length += 1 + extensions + value.length;
    previous = number;
  }
  return length;
}

const nibbleOf = (value: number): number =>
  value < ONE_BYTE_BASE ? value : value < TWO_BYTE_BASE ? ONE_BYTE_FORM : TWO_BYTE_FORM;

/** Writes what a nibble leaves to its extension, and returns where to go on. */
function putExtension(bytes: Uint8Array, at: number, nibble: number, value: number): number {
  if (nibble === ONE_BYTE_FORM) {
    bytes[at] = value - ONE_BYTE_BASE;
    return at + 1;
  }
  if (nibble === TWO_BYTE_FORM) {
    bytes[at] = (value - TWO_BYTE_BASE) >> 8;
    bytes[at + 1] = (value - TWO_BYTE_BASE) & 0xff;
    return at + 2;
  }
  return at;
}

/** Writes a part, and returns where to go on. */
function put(bytes: Uint8Array, at: number, part: Uint8Array): number {
  const { length } = part;
  if (length > SHORT_BYTES) bytes.set(part, at);
  else for (let i = 0; i < length; i++) bytes[at + i] = part[i]!;
  return at + length;
}

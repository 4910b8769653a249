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
  /** 0 to 8 bytes. */
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

const VERSION = 1;
const HEADER_BYTES = 4;
const LONGEST_TOKEN_BYTES = 8;
const PAYLOAD_MARKER = 0xff;
const HIGHEST_OPTION_NUMBER = 0xffff;
/** What four bits and their one or two extension bytes express (section 3.1). */
const ONE_BYTE_FORM = 13;
const TWO_BYTE_FORM = 14;
const ONE_BYTE_BASE = 13;
const TWO_BYTE_BASE = 269;
const LONGEST_OPTION_BYTES = TWO_BYTE_BASE + 0xffff;

export const NO_BYTES = new Uint8Array(0);

/**
 * Reads one datagram as a CoAP message (RFC 7252, section 3). Never throws; the result shares no memory with `bytes`.
 * Options come as they are on the wire: `recognised` judges them.
 */
export function decode(bytes: Uint8Array): Result<Message, MessageProblem> {
  if (bytes.length < HEADER_BYTES) return bad({ reason: 'short', header: null });
  const copy = new Uint8Array(bytes);
  const first = copy[0]!;
  if (first >> 6 !== VERSION) return bad({ reason: 'version', header: null });
  const header = { type: TYPES[(first >> 4) & 3]!, id: (copy[2]! << 8) | copy[3]! };
  const tokenLength = first & 0x0f;
  const code = copy[1]!;
  if (code === EMPTY) {
    if (tokenLength !== 0 || copy.length !== HEADER_BYTES) return bad({ reason: 'empty', header });
    return ok({ ...header, code, token: NO_BYTES, options: [], payload: NO_BYTES });
  }
  const optionsAt = HEADER_BYTES + tokenLength;
  if (tokenLength > LONGEST_TOKEN_BYTES || optionsAt > copy.length) return bad({ reason: 'token', header });
  const rest = decodeOptions(copy, optionsAt);
  if (!rest.ok) return bad({ reason: rest.problem, header });
  return ok({ ...header, code, token: copy.slice(HEADER_BYTES, optionsAt), ...rest.value });
}

function decodeOptions(
  bytes: Uint8Array,
  start: number,
): Result<Pick<Message, 'options' | 'payload'>, 'option' | 'payload'> {
  const options: Option[] = [];
  let at = start;
  let number = 0;
  /** The value of a nibble with its extension, or undefined where that is reserved or cut off. */
  const extended = (nibble: number): number | undefined => {
    if (nibble < ONE_BYTE_FORM) return nibble;
    const length = nibble - ONE_BYTE_FORM + 1;
    if (nibble > TWO_BYTE_FORM || at + length > bytes.length) return undefined;
    at += length;
    return nibble === ONE_BYTE_FORM
      ? ONE_BYTE_BASE + bytes[at - 1]!
      : TWO_BYTE_BASE + ((bytes[at - 2]! << 8) | bytes[at - 1]!);
  };
  while (at < bytes.length) {
    const head = bytes[at++]!;
    if (head === PAYLOAD_MARKER) {
      return at < bytes.length ? ok({ options, payload: bytes.slice(at) }) : bad('payload');
    }
    const delta = extended(head >> 4);
    const length = delta === undefined ? undefined : extended(head & 0x0f);
    if (delta === undefined || length === undefined || at + length > bytes.length) return bad('option');
    number += delta;
    if (number > HIGHEST_OPTION_NUMBER) return bad('option');
    options.push({ number, value: bytes.slice(at, at + length) });
    at += length;
  }
  return ok({ options, payload: NO_BYTES });
}

/** The bytes of a message. Options may come in any order; those of one number keep theirs. */
export function encode(message: Message): Uint8Array {
  const { type, code, id, token, options, payload } = message;
  assert(Number.isInteger(code) && code >= 0 && code <= 0xff, 'a code has eight bits');
  assert(Number.isInteger(id) && id >= 0 && id <= 0xffff, 'a message id has sixteen bits');
  assert(token.length <= LONGEST_TOKEN_BYTES, 'a token has at most eight bytes');
  assert(
    code !== EMPTY || token.length + options.length + payload.length === 0,
    'an empty message has four bytes',
  );
  const sorted = [...options].sort((a, b) => a.number - b.number);
  const longest = sorted.reduce((sum, option) => sum + 5 + option.value.length, 0);
  const bytes = new Uint8Array(HEADER_BYTES + token.length + longest + 1 + payload.length);
  bytes[0] = (VERSION << 6) | (TYPES.indexOf(type) << 4) | token.length;
  bytes[1] = code;
  bytes[2] = id >> 8;
  bytes[3] = id & 0xff;
  bytes.set(token, HEADER_BYTES);
  let at = HEADER_BYTES + token.length;
  let previous = 0;
  for (const { number, value } of sorted) {
    assert(
      Number.isInteger(number) && number >= 0 && number <= HIGHEST_OPTION_NUMBER,
      'an option number has 16 bits',
    );
    assert(value.length <= LONGEST_OPTION_BYTES, 'an option value fits its length field');
    const head = at++;
    const delta = nibbleOf(number - previous);
    const length = nibbleOf(value.length);
    bytes[head] = (delta << 4) | length;
    at = putExtension(bytes, at, delta, number - previous);
    at = putExtension(bytes, at, length, value.length);
    bytes.set(value, at);
    at += value.length;
    previous = number;
  }
  if (payload.length > 0) {
    bytes[at++] = PAYLOAD_MARKER;
    bytes.set(payload, at);
    at += payload.length;
  }
  return bytes.slice(0, at);
}

const nibbleOf = (value: number): number =>
  value < ONE_BYTE_BASE ? value : value < TWO_BYTE_BASE ? ONE_BYTE_FORM : TWO_BYTE_FORM;

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

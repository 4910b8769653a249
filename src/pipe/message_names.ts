import { concat } from '../base/bytes.ts';
import type { MessageId } from '../base/message_id.ts';
import type { Millis } from '../base/time.ts';

/** How the two directions of a session name it: see MessageId. */
export interface SessionNames {
  readonly own: number;
  readonly peer: number;
}

/** The place of a message in a record: what it is named by, and how its reply may name it. */
export interface MessagePlace extends SessionNames {
  readonly number: number;
  /** Whether the number of the record has one byte. */
  readonly isShort: boolean;
}

/** How long messages matter. */
export interface MessageTimes {
  /** How long a message may be repeated and its id is not used again (RFC 7252, section 4.8.2). */
  readonly exchangeLifetime: Millis;
  /** How long after a copy its reply may come. */
  readonly longestReply: Millis;
}

const SESSION_BYTES = 7;
const NUMBER_BYTES = 6;
const NAME_BYTES = SESSION_BYTES + NUMBER_BYTES;

export const sessionNames = (generation: number, isInitiator: boolean): SessionNames => ({
  own: 2 * generation + (isInitiator ? 1 : 0),
  peer: 2 * generation + (isInitiator ? 0 : 1),
});

/** A message's name as a key. */
export const keyOf = ({ generation, number }: MessageId): string => `${generation}:${number}`;

export const isSame = (a: MessageId, b: MessageId): boolean =>
  a.generation === b.generation && a.number === b.number;

function encodeName({ generation, number }: MessageId): Uint8Array {
  const bytes = new Uint8Array(NAME_BYTES);
  put(bytes, 0, SESSION_BYTES, generation);
  put(bytes, SESSION_BYTES, NUMBER_BYTES, number);
  return bytes;
}

function put(bytes: Uint8Array, at: number, length: number, value: number): void {
  let rest = value;
  for (let i = at + length - 1; i >= at; i--) {
    bytes[i] = rest % 256;
    rest = Math.floor(rest / 256);
  }
}

const integerOf = (bytes: Uint8Array): number => bytes.reduce((sum, byte) => sum * 256 + byte, 0);

const nameAt = (bytes: Uint8Array, at: number): MessageId => ({
  generation: integerOf(bytes.subarray(at, at + SESSION_BYTES)),
  number: integerOf(bytes.subarray(at + SESSION_BYTES, at + NAME_BYTES)),
});

/**
 * What CoAP gets as the token of a received request: its name, and behind that, where it is another one, the message that the
 * token is of. So whoever answers need remember nothing.
 * @param name the message that the request is named by, however often it was begun anew
 * @param owner the first message with the token
 */
export const tokenOf = (name: MessageId, owner: MessageId): Uint8Array =>
  isSame(name, owner) ? encodeName(name) : concat(encodeName(name), encodeName(owner));

/** What `tokenOf` has made a token of; undefined where it is another token, such as the handle of an observation. */
export function partToken(
  token: Uint8Array,
): { readonly name: MessageId; readonly owner: MessageId } | undefined {
  if (token.length !== NAME_BYTES && token.length !== 2 * NAME_BYTES) return undefined;
  return { name: nameAt(token, 0), owner: nameAt(token, token.length - NAME_BYTES) };
}

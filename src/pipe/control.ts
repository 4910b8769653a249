import { concat, fromUtf8, utf8 } from '../base/bytes.ts';
import { decodeSerial, encodeSerial, SERIAL_BYTES } from './identity.ts';
import { CHALLENGE_BYTES } from './path.ts';

// docs/protocol.md, "Control records".
const CLOSE = 1;
const CONFIRM = 2;
const CHALLENGE = 3;
const RESPONSE = 4;
const ASK = 5;
const BEHIND = 6;
const MAX_REASON_BYTES = 120;

export type Control =
  | { readonly kind: 'close'; readonly reason: string }
  /** Asks to have `bytes` repeated, and repeats them. */
  | { readonly kind: 'challenge' | 'response'; readonly bytes: Uint8Array }
  /** Asks for a confirmation. */
  | { readonly kind: 'ask' }
  /** The session is numbered like an old one, and is none: its number has to be above `generation`. */
  | { readonly kind: 'behind'; readonly generation: number }
  | { readonly kind: 'other' };

/** Says nothing but that it could be said: the sender has the session's keys. */
export const CONFIRMATION = Uint8Array.of(CONFIRM);

/** An initiator's first record behind IK2, where it has nothing else to send. */
export const ASK_FOR_CONFIRMATION = Uint8Array.of(ASK);

/** Ends a session. `reason` is for the peer's operator; what is not printable ASCII or too long is cut. */
export const encodeClose = (reason: string): Uint8Array =>
  concat(Uint8Array.of(CLOSE), utf8(printable(reason)).subarray(0, MAX_REASON_BYTES));

/** @param generation below 2^48 */
export const encodeBehind = (generation: number): Uint8Array =>
  concat(Uint8Array.of(BEHIND), encodeSerial(generation));

/** @param bytes eight random ones */
export const encodeChallenge = (bytes: Uint8Array): Uint8Array => concat(Uint8Array.of(CHALLENGE), bytes);

/** @param bytes the challenge's */
export const encodeResponse = (bytes: Uint8Array): Uint8Array => concat(Uint8Array.of(RESPONSE), bytes);

/** Codes of later versions are `other`: they still show that the peer has the keys. */
export function decodeControl(plaintext: Uint8Array): Control {
  const code = plaintext[0];
  if ((code === CHALLENGE || code === RESPONSE) && plaintext.length === 1 + CHALLENGE_BYTES)
    return { kind: code === CHALLENGE ? 'challenge' : 'response', bytes: plaintext.slice(1) };
  if (code === BEHIND && plaintext.length === 1 + SERIAL_BYTES)
    return { kind: 'behind', generation: decodeSerial(plaintext, 1) };
  if (code !== CLOSE) return { kind: code === ASK ? 'ask' : 'other' };
  return { kind: 'close', reason: printable(fromUtf8(plaintext.subarray(1, 1 + MAX_REASON_BYTES)) ?? '') };
}

const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?');

import { concat, fromUtf8, utf8 } from '../base/bytes.ts';

// docs/protocol.md, "Control records".
const CLOSE = 1;
const CONFIRM = 2;
const MAX_REASON_BYTES = 120;

export type Control = { readonly kind: 'close'; readonly reason: string } | { readonly kind: 'other' };

/** Says nothing but that it could be said: the sender has the session's keys. */
export const CONFIRMATION = Uint8Array.of(CONFIRM);

/** Ends a session. `reason` is for the peer's operator; what is not printable ASCII or too long is cut. */
export const encodeClose = (reason: string): Uint8Array =>
  concat(Uint8Array.of(CLOSE), utf8(printable(reason)).subarray(0, MAX_REASON_BYTES));

/** Codes of later versions are `other`: they still show that the peer has the keys. */
export function decodeControl(plaintext: Uint8Array): Control {
  if (plaintext[0] !== CLOSE) return { kind: 'other' };
  return { kind: 'close', reason: printable(fromUtf8(plaintext.subarray(1, 1 + MAX_REASON_BYTES)) ?? '') };
}

const printable = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?');

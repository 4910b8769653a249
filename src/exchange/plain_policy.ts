import { utf8 } from '../base/bytes.ts';
import { code } from '../coap/codes.ts';
import { decode, encode } from '../coap/message.ts';
import type { Address } from '../link/link.ts';

/**
 * Whose plain CoAP is answered. It is neither encrypted nor authenticated: `loopback`: this machine's only; `proved`:
 * everybody's who has shown that he is where his requests come from (Echo, RFC 9175); `trusted`: everybody's, since the
 * network is protected otherwise; `off`: nobody's.
 */
export type PlainPolicy = 'loopback' | 'proved' | 'trusted' | 'off';

export const isAllowed = (policy: PlainPolicy, from: Address): boolean =>
  policy === 'trusted' || policy === 'proved' || (policy === 'loopback' && isLoopback(from));

/** Whether a peer's address may be forged, so that a long answer could hit somebody else. */
export const mustProve = (policy: PlainPolicy, from: Address): boolean =>
  policy === 'proved' && !isLoopback(from);

/** An address of 127.0.0.0/8 or ::1, in the forms in which sockets give it. */
const isLoopback = (address: Address): boolean =>
  /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}:\d+$/.test(address) || /^\[::1\]:\d+$/.test(address);

const SENTENCE = utf8('plain CoAP is not served here');
/** Whoever asks from a forged address must not be able to send its owner more than this times what he spends. */
const MAX_AMPLIFICATION = 3;
const FORBIDDEN = code(4, 3);

/**
 * The answer to a request that is not allowed: 4.03, with a sentence where the request was long enough to pay for it.
 * Made out of the request alone, so that strangers leave nothing behind. Undefined where no answer is due.
 */
export function refusal(datagram: Uint8Array): Uint8Array | undefined {
  const decoded = decode(datagram);
  if (!decoded.ok) return undefined;
  const { type, code: method, id, token } = decoded.value;
  if (type !== 'CON' || method === 0 || method >= 32) return undefined;
  const bare = { type: 'ACK', code: FORBIDDEN, id, token, options: [] } as const;
  const full = encode({ ...bare, payload: SENTENCE });
  if (full.length <= MAX_AMPLIFICATION * datagram.length) return full;
  return encode({ ...bare, payload: new Uint8Array(0) });
}

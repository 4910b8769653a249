import { base64, base64url, fromBase64 } from '../base/bytes.ts';

/**
 * What texts are besides texts, where that says the same in fewer bytes: each of these gives the parts of which exactly
 * this text can be made again, or undefined.
 */

/** Bytes of a hash or key, and of a signature. */
export const HASH_BYTES = 32;
export const SIGNATURE_BYTES = 64;

// Ours.
/** A transaction id that its reader replaces by the name of the message (docs/protocol.md, "Transaction ids"). */
export const ANY_TRANSACTION = '~';
/** Characters of HASH_BYTES and SIGNATURE_BYTES in unpadded base64. */
const HASH_LENGTH = Math.ceil((HASH_BYTES * 4) / 3);
const SIGNATURE_LENGTH = Math.ceil((SIGNATURE_BYTES * 4) / 3);
/** What is shorter is more often a word, which compresses better as a text. */
const SHORTEST_BASE64 = 20;
/** Longer ids are not looked at. */
const LONGEST_ID = 512;

export interface SplitId {
  readonly local: string;
  readonly server: string;
}

const SERVER = /^[0-9A-Za-z.:[\]-]{1,255}$/;

/** `?local:server` behind any sigil: what stands before and behind the first colon. */
export function splitId(text: string): SplitId | undefined {
  if (text.length > LONGEST_ID) return undefined;
  const colon = text.indexOf(':');
  if (colon < 1) return undefined;
  const server = text.slice(colon + 1);
  return SERVER.test(server) ? { local: text.slice(1, colon), server } : undefined;
}

/** The 32 bytes of `?` and 43 characters of URL-safe base64. */
export function hashOfId(text: string): Uint8Array | undefined {
  if (text.length !== HASH_LENGTH + 1) return undefined;
  const rest = text.slice(1);
  return /^[\w-]+$/.test(rest) ? exactly(rest, base64url) : undefined;
}

export interface SplitMxc {
  readonly server: string;
  readonly media: string;
}

const MXC = /^mxc:\/\/([0-9A-Za-z.:[\]-]{1,255})\/(.*)$/s;

/** `mxc://server/media`. */
export function splitMxc(text: string): SplitMxc | undefined {
  const [, server, media] = text.length > LONGEST_ID ? [] : (MXC.exec(text) ?? []);
  return server === undefined || media === undefined ? undefined : { server, media };
}

/** A number up to 2^53-1 as it is usually written. */
export function decimalOf(text: string): number | undefined {
  if (!/^(?:0|[1-9]\d{0,15})$/.test(text)) return undefined;
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : undefined;
}

export interface Transaction {
  readonly timeMs: number;
  readonly count: number;
}

const TRANSACTION = /^m([1-9]\d{12})\.(0|[1-9]\d{0,8})$/;

/** `m1700000000000.5`. */
export function transactionOf(text: string): Transaction | undefined {
  const [, timeMs, count] = TRANSACTION.exec(text) ?? [];
  return timeMs === undefined ? undefined : { timeMs: Number(timeMs), count: Number(count) };
}

/** Unpadded base64 in the form that encoders give it, and which looks like chance rather than like words. */
export function base64Of(
  text: string,
): { readonly alphabet: 'standard' | 'url'; readonly bytes: Uint8Array } | undefined {
  if (text.length < SHORTEST_BASE64 || !/^[\w+/-]+$/.test(text)) return undefined;
  const usual = text.length === HASH_LENGTH || text.length === SIGNATURE_LENGTH;
  if (!usual && !(/\d/.test(text) && /[A-Z]/.test(text) && /[a-z]/.test(text))) return undefined;
  const standard = exactly(text, base64);
  if (standard !== undefined) return { alphabet: 'standard', bytes: standard };
  const url = exactly(text, base64url);
  return url === undefined ? undefined : { alphabet: 'url', bytes: url };
}

function exactly(text: string, encode: (bytes: Uint8Array) => string): Uint8Array | undefined {
  const bytes = fromBase64(text);
  return bytes !== undefined && encode(bytes) === text ? bytes : undefined;
}

import { base64url, concat, fromBase64, fromUtf8, utf8 } from '../../base/bytes.ts';
import { bad, ok } from '../../base/result.ts';
import { decodeJson, encodeJson } from '../cbor.ts';
import { varint } from './byte_writer.ts';
import type { ContentReader, ContentWriter, NameKind, NameReader, NameWriter } from './view.ts';

/** The lengths of a SHA-256 in bytes and in base64. */
const HASH_BYTES = 32;
const HASH_CHARACTERS = 43;
/** Leads the 32 bytes of an event id; the empty name has no other use for it. */
const HASHED_EVENT_ID = 0;

/** The 32 bytes of an event id of room version 4 and later, or undefined where it has another form. */
export function hashInEventId(id: string): Uint8Array | undefined {
  if (id.length !== 1 + HASH_CHARACTERS || !id.startsWith('$')) return undefined;
  const hash = fromBase64(id.slice(1));
  return hash !== undefined && `$${base64url(hash)}` === id ? hash : undefined;
}

/**
 * Names as text behind its length in UTF-8, plus one, as a varint. An event id that is a hash goes as 0 and 32 bytes.
 * Needs no history, so that it reads in any order and after any loss.
 */
export const literalNames: NameWriter & NameReader = {
  write(kind, name) {
    const hash = kind === 'event' ? hashInEventId(name) : undefined;
    if (hash !== undefined) return concat(Uint8Array.of(HASHED_EVENT_ID), hash);
    const text = utf8(name);
    return concat(varint(text.length + 1), text);
  },
  read(kind: NameKind, bytes, at) {
    let [count, shift, next] = [0, 0, at];
    for (let more = true; more; shift += 7, next++) {
      const byte = bytes[next];
      // No name comes near 2^21 bytes.
      if (byte === undefined || shift > 14) return bad({ kind: 'malformed' });
      count |= (byte & 0x7f) << shift;
      more = byte >= 0x80;
    }
    const isHash = kind === 'event' && count === HASHED_EVENT_ID;
    if (count === 0 && !isHash) return bad({ kind: 'malformed' });
    const end = next + (isHash ? HASH_BYTES : count - 1);
    if (end > bytes.length) return bad({ kind: 'malformed' });
    const piece = bytes.subarray(next, end);
    const name = isHash ? `$${base64url(piece)}` : fromUtf8(piece);
    return name === undefined ? bad({ kind: 'malformed' }) : ok({ name, end });
  },
};

/** Texts as UTF-8, values as CBOR: static, and readable by anybody. */
export const literalContents: ContentWriter & ContentReader = {
  writeText: utf8,
  readText(bytes) {
    const text = fromUtf8(bytes);
    return text === undefined ? bad({ kind: 'malformed' }) : ok(text);
  },
  writeJson: encodeJson,
  readJson(bytes) {
    const value = decodeJson(bytes);
    return value.ok ? value : bad({ kind: 'malformed' });
  },
};

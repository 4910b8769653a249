import { concat } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { DICTIONARIES, type DictionaryId, NEWEST_DICTIONARY } from './dictionary.ts';
import { deflate, inflate } from './flate.ts';

/** The leading byte of bytes that go as they are; every other value is the id of a dictionary. */
const RAW = 0;

/** Why a container could not be opened. `unknown format` is one that a newer version may know. */
export type ContainerProblem =
  | { readonly kind: 'empty' }
  | { readonly kind: 'unknown format'; readonly id: number }
  | { readonly kind: 'too large' }
  | { readonly kind: 'malformed' };

/**
 * One leading byte that says how the rest is packed (0: as it is; n: raw Deflate with preset dictionary n) and the
 * rest, whichever is shorter. Secrets do not belong in a container: beside text that somebody else has chosen, the
 * length of what is compressed tells about them.
 */
export function pack(bytes: Uint8Array, dictionary: DictionaryId = NEWEST_DICTIONARY): Uint8Array {
  const packed = deflate(bytes, DICTIONARIES[dictionary]);
  return packed.length < bytes.length
    ? concat(Uint8Array.of(dictionary), packed)
    : concat(Uint8Array.of(RAW), bytes);
}

/** What was packed, at most `maxBytes` long. */
export function unpack(container: Uint8Array, maxBytes: number): Result<Uint8Array, ContainerProblem> {
  const id = container[0];
  if (id === undefined) return bad({ kind: 'empty' });
  const rest = container.subarray(1);
  if (id === RAW) return rest.length <= maxBytes ? ok(rest) : bad({ kind: 'too large' });
  if (!isDictionaryId(id)) return bad({ kind: 'unknown format', id });
  const opened = inflate(rest, DICTIONARIES[id], maxBytes);
  if (opened.ok) return opened;
  return bad({ kind: opened.problem === 'too large' ? 'too large' : 'malformed' });
}

const isDictionaryId = (id: number): id is DictionaryId => Object.hasOwn(DICTIONARIES, id);

import { base64, concat, utf8 } from '../base/bytes.ts';
import { encodeJson } from './cbor.ts';
import { ERRORS, PATHS, RULES, SENTENCES, shapesWith, WORDS } from './dictionary_content.ts';
import { encodeCompact } from './value.ts';

/**
 * Preset dictionaries for Deflate (RFC 1951; the use is that of RFC 1950, section 2.2). Both ends must have the same
 * bytes: an id, once released, names these bytes for ever, and a test holds their SHA-256. A change is a new id.
 * The id also says in which form the content is: 1: CBOR as RFC 8949 has it; 2: compact values (`value.ts`) with version 1 of
 * the tables.
 *
 * A dictionary is what messages look like in that form, the most useful last: Deflate spends fewer bits on a near copy.
 */
export type DictionaryId = 1 | 2;
export const PLAIN_DICTIONARY = 1;
export const COMPACT_DICTIONARY = 2;

/** Stands in the shapes for bytes that are different each time; it is cut out of the dictionary. */
const HOLE = 0x7f;
const withoutHoles = (bytes: Uint8Array): Uint8Array => bytes.filter((byte) => byte !== HOLE);
const holes = (count: number): string => String.fromCharCode(HOLE).repeat(count);
const bytesOfHoles = (count: number): string => base64(new Uint8Array(count).fill(HOLE));

const FIRST = concat(
  ...[...WORDS, ...ERRORS].map(encodeJson),
  ...PATHS.map(utf8),
  // 32 bytes in unpadded base64, and 64.
  ...shapesWith(holes(43), holes(86)).map((shape) => withoutHoles(encodeJson(shape))),
);

const SECOND = concat(
  ...RULES.map(utf8),
  ...PATHS.map(utf8),
  ...SENTENCES.map((sentence) => encodeCompact(sentence)),
  ...shapesWith(bytesOfHoles(32), bytesOfHoles(64)).map((shape) => withoutHoles(encodeCompact(shape))),
);

export const DICTIONARIES: Readonly<Record<DictionaryId, Uint8Array>> = { 1: FIRST, 2: SECOND };

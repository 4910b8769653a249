import { utf8 } from '../../base/bytes.ts';
import { compareCodePoints } from '../../matrix/canonical_json.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { hashOfId } from '../text_forms.ts';

// What the writer and the reader of a /sync have to agree on besides its layout.

export type Part = 'state' | 'timeline';

/** By type, then by state key. */
export const byPlace = (a: JsonObject, b: JsonObject): number =>
  compareCodePoints(String(a.type), String(b.type)) ||
  compareCodePoints(String(a.state_key), String(b.state_key));

/** What a membership is that is not told. */
export const usualMembership = (part: Part): string | undefined => (part === 'timeline' ? 'join' : undefined);

/** Bytes of a room's id that tell it from others. */
export const roomHash = (room: string): Uint8Array => hashOfId(room) ?? utf8(room.slice(1));

import { bad, ok, type Result } from '../base/result.ts';
import type { JsonValue } from '../matrix/json.ts';
import type { CborPartProblem } from './cbor_bytes.ts';
import type { CompactContext, HandleProblem } from './context.ts';
import { CompactReader, type CompactReason } from './value_reader.ts';
import { CompactWriter } from './value_writer.ts';

/** Why bytes are no compact value: what is wrong with them, or what is missing here. */
export type CompactProblem =
  | { readonly kind: 'malformed'; readonly reason: CborPartProblem | CompactReason | 'trailing bytes' }
  | HandleProblem;

/**
 * A JSON value in few bytes: CBOR (RFC 8949) whose map keys may be integers and whose texts may be simple values
 * (`vocabulary.ts`) or in forms (`forms.ts`). Everything comes back exactly, half surrogate pairs and negative zero included;
 * the same value in the same context always has the same bytes. Nesting beyond MAX_JSON_DEPTH is an assertion: see `tooDeep`.
 */
export function encodeCompact(value: JsonValue, context: CompactContext = {}): Uint8Array {
  const writer = new CompactWriter(context);
  writer.value(value);
  return writer.done();
}

/** Reads exactly one compact value, written in the same context. */
export function decodeCompact(
  bytes: Uint8Array,
  context: CompactContext = {},
): Result<JsonValue, CompactProblem> {
  const reader = new CompactReader(bytes, 0, context);
  const value = reader.value();
  if (value === undefined) return bad(problemOf(reader));
  return reader.at === bytes.length ? ok(value) : bad({ kind: 'malformed', reason: 'trailing bytes' });
}

/** What a reader that has failed has met. */
export function problemOf({ problem = 'truncated' }: CompactReader): CompactProblem {
  return typeof problem === 'string' ? { kind: 'malformed', reason: problem } : problem;
}

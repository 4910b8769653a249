import { canonicalText } from '../../matrix/canonical_json.ts';
import type { JsonValue } from '../../matrix/json.ts';
import type { PduReader } from './byte_reader.ts';
import type { PduWriter } from './byte_writer.ts';

// A list of references to events, told by what it takes from a list that the reader has as well (the candidates):
//
//   varint   bit 0: others follow; bit 1: an order follows; bit 2 + n: the candidate n is taken
//   others   varint: how many; each reference as its codec writes it
//   order    for each element of the list one byte: its place among the candidates taken and the others behind them
//
// Without an order the list is the candidates that are taken, in their order, and the others behind them.

const HAS_OTHERS = 1;
const HAS_ORDER = 2;
const FLAG_BITS = 2;

// Ours.
/** Candidates beyond these cannot be taken: the specification allows 20 previous events and 10 auth events. */
export const MAX_CANDIDATES = 24;
/** The longest list; an event with a longer one goes whole. */
export const MAX_REFERENCES = 255;

/** A list as it is on the wire. */
export interface Choice {
  /** Whether each candidate is taken; those behind the end are not. */
  readonly taken: readonly boolean[];
  readonly others: readonly JsonValue[];
  /** Places; undefined where they are 0, 1, 2, ... */
  readonly order: readonly number[] | undefined;
}

/** Describes `list`, at most MAX_REFERENCES long, by at most MAX_CANDIDATES candidates. */
export function choose(list: readonly JsonValue[], candidates: readonly JsonValue[]): Choice {
  const free = new Map(candidates.map((candidate, index) => [canonicalText(candidate), index]));
  const others: JsonValue[] = [];
  const sources = list.map((element) => {
    const text = canonicalText(element);
    const candidate = free.get(text);
    // A repetition is no longer free.
    if (candidate !== undefined && free.delete(text)) return { candidate };
    return { other: others.push(element) - 1 };
  });
  const used = sources.flatMap(({ candidate }) => candidate ?? []).sort((a, b) => a - b);
  const order = sources.map(({ candidate, other }) =>
    candidate === undefined ? used.length + other! : used.indexOf(candidate),
  );
  return {
    taken: candidates.map((_, index) => used.includes(index)),
    others,
    order: order.every((place, index) => place === index) ? undefined : order,
  };
}

/** Whether the list is simply all candidates in their order. */
export const isAll = ({ taken, others, order }: Choice): boolean =>
  taken.every((one) => one) && others.length === 0 && order === undefined;

export function writeChoice(
  writer: PduWriter,
  { taken, others, order }: Choice,
  writeOther: (reference: JsonValue) => void,
): void {
  const bits = taken.reduce((sum, one, index) => (one ? sum + 2 ** (index + FLAG_BITS) : sum), 0);
  writer.varint(bits + (others.length > 0 ? HAS_OTHERS : 0) + (order === undefined ? 0 : HAS_ORDER));
  if (others.length > 0) writer.varint(others.length);
  for (const other of others) writeOther(other);
  for (const place of order ?? []) writer.byte(place);
}

export function readChoice(reader: PduReader, readOther: () => JsonValue): Choice {
  const head = reader.varint(2 ** (MAX_CANDIDATES + FLAG_BITS) - 1);
  const taken = Array.from(
    { length: MAX_CANDIDATES },
    (_, index) => ((head >> (index + FLAG_BITS)) & 1) === 1,
  );
  const count = (head & HAS_OTHERS) === 0 ? 0 : reader.varint(MAX_REFERENCES);
  const others: JsonValue[] = [];
  while (others.length < count && reader.problem === undefined) others.push(readOther());
  if ((head & HAS_ORDER) === 0) return { taken, others, order: undefined };
  const order = [...reader.take(taken.filter((one) => one).length + others.length)];
  if (new Set(order).size < order.length || order.some((place) => place >= order.length)) {
    reader.fail({ kind: 'malformed', reason: 'an order that is none' });
  }
  return { taken, others, order };
}

/** The list, or undefined where a candidate is taken that is not there. */
export function listOf(
  { taken, others, order }: Choice,
  candidates: readonly JsonValue[],
): JsonValue[] | undefined {
  if (taken.lastIndexOf(true) >= candidates.length) return undefined;
  const items = [...candidates.filter((_, index) => taken[index] === true), ...others];
  return order === undefined ? items : order.map((place) => items[place]!);
}

import type { HttpsCost } from './https_world.ts';
import type { ExchangeBytes } from './world.ts';

/** Bytes on an Ethernet wire: of both directions, or in all. */
export type Bytes = ExchangeBytes | { readonly total: number };

/** What a scenario may cost. */
export interface Budget {
  /** Undefined: it is judged by its ratios only. */
  readonly bytes?: Bytes;
  /** How many times as much HTTPS and JSON have to take, on kept connections, and with one for each message. */
  readonly ratio?: number;
  readonly ratioPerConnection?: number;
}

/** The median and the 95th percentile over many texts. */
export interface Spread {
  readonly texts: number;
  readonly median: Bytes;
  readonly p95: Bytes;
}

/** What an exchange takes in a pipe with some of the layers. */
export interface Step {
  /** The layer that the step before did not have. */
  readonly name: StepName;
  readonly bytes: Bytes;
}

export type StepName = 'raw' | 'flate' | 'models' | 'handles' | 'forms';

/** One line of the table. */
export interface Row {
  /** `W1`, or `W2b` where a scenario has several. */
  readonly id: string;
  readonly name: string;
  readonly budget: Budget;
  /** What was captured, in the best form that the product has. Undefined: the product cannot do it yet. */
  readonly bytes?: Bytes;
  /** What is missing; such a row is not kept, whatever was measured. */
  readonly notYet?: string;
  /** The same exchange over HTTPS and JSON. */
  readonly https?: HttpsCost;
  /** The same exchange over CoAP with CBOR, outside of any pipe. */
  readonly plain?: Bytes;
  /** The same exchange in a pipe, with more and more of what makes it shorter; the last has all of it. */
  readonly steps?: readonly Step[];
  /** What one has to know to read the figures. */
  readonly note?: string;
  readonly spread?: Spread;
}

export interface MeasureOptions {
  /** Whether the same is measured over HTTPS as well: in real time, and not the same to the byte each time. */
  readonly https: boolean;
  /** Texts that no dictionary and no model was made from. */
  readonly texts: readonly string[];
}

/** Measures some rows with servers and links of its own. */
export type Scenario = (options: MeasureOptions) => Promise<readonly Row[]>;

export const totalOf = (bytes: Bytes): number =>
  'total' in bytes ? bytes.total : bytes.request + bytes.response;

/** How many times as much HTTPS and JSON take, on kept connections and with one for each message. */
export function ratiosOf({ bytes, https }: Row): HttpsCost | undefined {
  if (bytes === undefined || https === undefined) return undefined;
  const total = totalOf(bytes);
  if (total === 0) return undefined;
  return { kept: https.kept / total, perConnection: https.perConnection / total };
}

/** Whether a row is in its budget: each direction, and each ratio. A ratio that was not measured is not kept. */
export function isKept(row: Row): boolean {
  const { budget, bytes, notYet } = row;
  if (notYet !== undefined || bytes === undefined) return false;
  if (budget.bytes !== undefined && !isWithin(bytes, budget.bytes)) return false;
  const ratios = ratiosOf(row);
  return (
    (ratios?.kept ?? 0) >= (budget.ratio ?? 0) &&
    (ratios?.perConnection ?? 0) >= (budget.ratioPerConnection ?? 0)
  );
}

function isWithin(bytes: Bytes, budget: Bytes): boolean {
  if ('total' in bytes || 'total' in budget) return totalOf(bytes) <= totalOf(budget);
  return bytes.request <= budget.request && bytes.response <= budget.response;
}

/** The value below which `share` of the others are; the numbers are of one kind. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0;
}

export function spreadOf(all: readonly ExchangeBytes[]): Spread {
  const at = (share: number): Bytes => ({
    request: percentile(
      all.map(({ request }) => request),
      share,
    ),
    response: percentile(
      all.map(({ response }) => response),
      share,
    ),
  });
  return { texts: all.length, median: at(0.5), p95: at(0.95) };
}

import { assert } from '../base/assert.ts';
import { fromUtf8, utf8 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';

export interface Option {
  readonly number: number;
  readonly value: Uint8Array;
}

/** Option numbers by name. RFC 7252 section 5.10, 7641, 7959, 7967, 8613, 8768, 9175, 9177, 9668. */
export const OPTION = {
  ifMatch: 1,
  uriHost: 3,
  eTag: 4,
  ifNoneMatch: 5,
  observe: 6,
  uriPort: 7,
  locationPath: 8,
  oscore: 9,
  uriPath: 11,
  contentFormat: 12,
  maxAge: 14,
  uriQuery: 15,
  hopLimit: 16,
  accept: 17,
  qBlock1: 19,
  locationQuery: 20,
  edhoc: 21,
  block2: 23,
  block1: 27,
  size2: 28,
  qBlock2: 31,
  proxyUri: 35,
  proxyScheme: 39,
  size1: 60,
  echo: 252,
  noResponse: 258,
  requestTag: 292,
} as const;

interface OptionRule {
  readonly name: string;
  readonly number: number;
  readonly format: 'empty' | 'opaque' | 'uint' | 'string';
  /** Bytes of the value. */
  readonly min: number;
  readonly max: number;
  readonly repeatable: boolean;
}

const rule = (
  name: string,
  number: number,
  format: OptionRule['format'],
  min: number,
  max: number,
  repeatable = false,
): [number, OptionRule] => [number, { name, number, format, min, max, repeatable }];

const RULES: ReadonlyMap<number, OptionRule> = new Map([
  rule('If-Match', OPTION.ifMatch, 'opaque', 0, 8, true),
  rule('Uri-Host', OPTION.uriHost, 'string', 1, 255),
  rule('ETag', OPTION.eTag, 'opaque', 1, 8, true),
  rule('If-None-Match', OPTION.ifNoneMatch, 'empty', 0, 0),
  rule('Observe', OPTION.observe, 'uint', 0, 3),
  rule('Uri-Port', OPTION.uriPort, 'uint', 0, 2),
  rule('Location-Path', OPTION.locationPath, 'string', 0, 255, true),
  rule('OSCORE', OPTION.oscore, 'opaque', 0, 255),
  rule('Uri-Path', OPTION.uriPath, 'string', 0, 255, true),
  rule('Content-Format', OPTION.contentFormat, 'uint', 0, 2),
  rule('Max-Age', OPTION.maxAge, 'uint', 0, 4),
  rule('Uri-Query', OPTION.uriQuery, 'string', 0, 255, true),
  rule('Hop-Limit', OPTION.hopLimit, 'uint', 1, 1),
  rule('Accept', OPTION.accept, 'uint', 0, 2),
  rule('Q-Block1', OPTION.qBlock1, 'uint', 0, 3),
  rule('Location-Query', OPTION.locationQuery, 'string', 0, 255, true),
  rule('EDHOC', OPTION.edhoc, 'empty', 0, 0),
  rule('Block2', OPTION.block2, 'uint', 0, 3),
  rule('Block1', OPTION.block1, 'uint', 0, 3),
  rule('Size2', OPTION.size2, 'uint', 0, 4),
  rule('Q-Block2', OPTION.qBlock2, 'uint', 0, 3, true),
  rule('Proxy-Uri', OPTION.proxyUri, 'string', 1, 1034),
  rule('Proxy-Scheme', OPTION.proxyScheme, 'string', 1, 255),
  rule('Size1', OPTION.size1, 'uint', 0, 4),
  rule('Echo', OPTION.echo, 'opaque', 1, 40),
  rule('No-Response', OPTION.noResponse, 'uint', 0, 1),
  rule('Request-Tag', OPTION.requestTag, 'opaque', 0, 8, true),
]);

/** What the low bits of an option's number say (RFC 7252, section 5.4.6). */
export const isCritical = (number: number): boolean => (number & 1) === 1;
export const isUnsafe = (number: number): boolean => (number & 2) === 2;
export const isNoCacheKey = (number: number): boolean => (number & 0x1e) === 0x1c;

/** `Uri-Path`, or the number in decimal where the option has no name here. */
export const optionName = (number: number): string => RULES.get(number)?.name ?? String(number);

/** An unsigned integer in the fewest bytes; zero is no byte at all (RFC 7252, section 3.2). */
export function uintOption(number: number, value: number): Option {
  assert(Number.isSafeInteger(value) && value >= 0, 'an option holds an unsigned integer');
  const bytes: number[] = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return { number, value: Uint8Array.from(bytes) };
}

export const stringOption = (number: number, value: string): Option => ({ number, value: utf8(value) });

/** The integer in an option's value, leading zero bytes included; undefined where it passes 2^53 - 1. */
export function uintOf(option: Option): number | undefined {
  const value = option.value.reduce((sum, byte) => sum * 256 + byte, 0);
  return Number.isSafeInteger(value) ? value : undefined;
}

/** The text in an option's value, or undefined where it is not UTF-8. */
export const stringOf = (option: Option): string | undefined => fromUtf8(option.value);

export const firstOption = (options: readonly Option[], number: number): Option | undefined =>
  options.find((option) => option.number === number);

/** The integer of the first option of that number; undefined where there is none. */
export function firstUint(options: readonly Option[], number: number): number | undefined {
  const option = firstOption(options, number);
  return option === undefined ? undefined : uintOf(option);
}

export const withoutOptions = (options: readonly Option[], numbers: ReadonlySet<number>): Option[] =>
  options.filter((option) => !numbers.has(option.number));

/**
 * Leaves out what has to be treated as not recognised although its number is known: a value of a wrong length
 * (RFC 7252, section 5.4.3) and the second of an option that is not repeatable (section 5.4.5). An elective option is
 * ignored then; an unknown elective one stays, since the application may know it. A critical one is the problem.
 * @param understood the critical options that somebody here acts on.
 */
export function recognised(
  options: readonly Option[],
  understood: ReadonlySet<number>,
): Result<readonly Option[], { readonly number: number }> {
  const kept: Option[] = [];
  for (const option of options) {
    const { number, value } = option;
    const known = RULES.get(number);
    const second = known !== undefined && !known.repeatable && kept.at(-1)?.number === number;
    const fits = known === undefined || (value.length >= known.min && value.length <= known.max && !second);
    if (isCritical(number) && !(fits && understood.has(number))) return bad({ number });
    if (fits) kept.push(option);
  }
  return ok(kept);
}

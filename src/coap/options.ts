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

/** Kept for further parts of a location (RFC 7252, section 5.10.7). */
const RESERVED_LOCATION: readonly number[] = [128, 132, 136, 140];

/** RFC 7252, section 5.10.5. */
const DEFAULT_MAX_AGE_SECONDS = 60;

type Kind = 'request' | 'response';

interface OptionRule {
  readonly name: string;
  readonly number: number;
  readonly format: 'empty' | 'opaque' | 'uint' | 'string';
  /** Bytes of the value. */
  readonly min: number;
  readonly max: number;
  /** In which messages it has a meaning, and in which it may stand more than once. */
  readonly definedIn: readonly Kind[];
  readonly repeatableIn: readonly Kind[];
}

const BOTH: readonly Kind[] = ['request', 'response'];
const REQUEST: readonly Kind[] = ['request'];
const RESPONSE: readonly Kind[] = ['response'];
const NEVER: readonly Kind[] = [];

const rule = (
  name: string,
  number: number,
  format: OptionRule['format'],
  [min, max]: readonly [number, number],
  definedIn: readonly Kind[],
  repeatableIn: readonly Kind[] = NEVER,
): [number, OptionRule] => [number, { name, number, format, min, max, definedIn, repeatableIn }];

/** RFC 7252, table 4 and sections 5.8 to 5.10, and the tables of the others. */
export const OPTION_RULES: ReadonlyMap<number, OptionRule> = new Map([
  rule('If-Match', OPTION.ifMatch, 'opaque', [0, 8], REQUEST, REQUEST),
  rule('Uri-Host', OPTION.uriHost, 'string', [1, 255], REQUEST),
  // Section 5.10.6.1: at most one in a response.
  rule('ETag', OPTION.eTag, 'opaque', [1, 8], BOTH, REQUEST),
  rule('If-None-Match', OPTION.ifNoneMatch, 'empty', [0, 0], REQUEST),
  rule('Observe', OPTION.observe, 'uint', [0, 3], BOTH),
  rule('Uri-Port', OPTION.uriPort, 'uint', [0, 2], REQUEST),
  rule('Location-Path', OPTION.locationPath, 'string', [0, 255], RESPONSE, RESPONSE),
  rule('OSCORE', OPTION.oscore, 'opaque', [0, 255], BOTH),
  rule('Uri-Path', OPTION.uriPath, 'string', [0, 255], REQUEST, REQUEST),
  rule('Content-Format', OPTION.contentFormat, 'uint', [0, 2], BOTH),
  rule('Max-Age', OPTION.maxAge, 'uint', [0, 4], RESPONSE),
  rule('Uri-Query', OPTION.uriQuery, 'string', [0, 255], REQUEST, REQUEST),
  rule('Hop-Limit', OPTION.hopLimit, 'uint', [1, 1], REQUEST),
  rule('Accept', OPTION.accept, 'uint', [0, 2], REQUEST),
  rule('Q-Block1', OPTION.qBlock1, 'uint', [0, 3], BOTH),
  rule('Location-Query', OPTION.locationQuery, 'string', [0, 255], RESPONSE, RESPONSE),
  rule('EDHOC', OPTION.edhoc, 'empty', [0, 0], REQUEST),
  rule('Block2', OPTION.block2, 'uint', [0, 3], BOTH),
  rule('Block1', OPTION.block1, 'uint', [0, 3], BOTH),
  rule('Size2', OPTION.size2, 'uint', [0, 4], BOTH),
  rule('Q-Block2', OPTION.qBlock2, 'uint', [0, 3], BOTH, REQUEST),
  rule('Proxy-Uri', OPTION.proxyUri, 'string', [1, 1034], REQUEST),
  rule('Proxy-Scheme', OPTION.proxyScheme, 'string', [1, 255], REQUEST),
  rule('Size1', OPTION.size1, 'uint', [0, 4], BOTH),
  rule('Echo', OPTION.echo, 'opaque', [1, 40], BOTH),
  rule('No-Response', OPTION.noResponse, 'uint', [0, 1], REQUEST),
  rule('Request-Tag', OPTION.requestTag, 'opaque', [0, 8], REQUEST, REQUEST),
]);

/** What the low bits of an option's number say (RFC 7252, section 5.4.6). */
export const isCritical = (number: number): boolean => (number & 1) === 1;
export const isUnsafe = (number: number): boolean => (number & 2) === 2;
export const isNoCacheKey = (number: number): boolean => (number & 0x1e) === 0x1c;

/** `Uri-Path`, or the number in decimal where the option has no name here. */
export const optionName = (number: number): string => OPTION_RULES.get(number)?.name ?? String(number);

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
  let value = 0;
  for (const byte of option.value) value = value * 256 + byte;
  return Number.isSafeInteger(value) ? value : undefined;
}

/**
 * The text in an option's value, or undefined where it is not UTF-8. As it was sent: nothing is normalised, and whoever
 * compares compares bytes (RFC 7252, section 3.2).
 */
export const stringOf = (option: Option): string | undefined => fromUtf8(option.value);

export const firstOption = (options: readonly Option[], number: number): Option | undefined =>
  options.find((option) => option.number === number);

/** The integer of the first option of that number; undefined where there is none. */
export function firstUint(options: readonly Option[], number: number): number | undefined {
  const option = firstOption(options, number);
  return option === undefined ? undefined : uintOf(option);
}

/** Seconds for which a response may be taken as current; without the option a minute (RFC 7252, section 5.10.5). */
export const maxAgeOf = (options: readonly Option[]): number =>
  firstUint(options, OPTION.maxAge) ?? DEFAULT_MAX_AGE_SECONDS;

export const withoutOptions = (options: readonly Option[], numbers: ReadonlySet<number>): Option[] =>
  options.filter((option) => !numbers.has(option.number));

/**
 * Leaves out what has to be treated as not recognised although its number is known: what is not defined for this kind
 * of message (RFC 7252, section 5.4), has a value of a wrong length (section 5.4.3), or is the second of an option that
 * is not repeatable (section 5.4.5). An elective option is ignored then; an unknown elective one stays, since the
 * application may know it. A critical one is the problem, and so is a further part of a location, without which that would
 * be another (section 5.10.7). What is kept shares no memory with the datagram.
 * @param options in order, as `decode` gives them.
 * @param understood the critical options that somebody here acts on.
 */
export function recognised(
  options: readonly Option[],
  understood: ReadonlySet<number>,
  kind: Kind,
): Result<readonly Option[], { readonly number: number }> {
  const kept: Option[] = [];
  let previous = -1;
  for (const option of options) {
    const { number } = option;
    const known = OPTION_RULES.get(number);
    const fits = known === undefined || hasItsPlace(option, known, kind, number === previous);
    if (isCritical(number) && !(fits && understood.has(number))) return bad({ number });
    if (fits) kept.push({ number, value: option.value });
    previous = number;
  }
  const unknownPart = kept.find(({ number }) => RESERVED_LOCATION.includes(number));
  if (unknownPart !== undefined && hasLocation(kept)) return bad({ number: unknownPart.number });
  return ok(kept);
}

/** Whether it says where what was created is: a response only, since elsewhere these options have no place. */
const hasLocation = (options: readonly Option[]): boolean =>
  [OPTION.locationPath, OPTION.locationQuery].some((number) => firstOption(options, number) !== undefined);

function hasItsPlace(
  { value }: Option,
  { min, max, definedIn, repeatableIn }: OptionRule,
  kind: Kind,
  again: boolean,
): boolean {
  if (!definedIn.includes(kind) || (again && !repeatableIn.includes(kind))) return false;
  return value.length >= min && value.length <= max;
}

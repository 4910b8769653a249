import { InvalidArgumentError } from 'commander';
import { fromHex, utf8 } from '../../base/bytes.ts';
import { TRANSFER_OPTIONS } from '../../coap/block.ts';
import { METHOD } from '../../coap/codes.ts';
import { OPTION, type Option, optionName, uintOption } from '../../coap/options.ts';
import { formatName, formatNumber } from '../../exchange/content_format.ts';

/** Short names of formats that people type often. */
const FORMAT_NAMES: Readonly<Record<string, string>> = {
  text: 'text/plain; charset=utf-8',
  'text/plain': 'text/plain; charset=utf-8',
  link: 'application/link-format',
  xml: 'application/xml',
  binary: 'application/octet-stream',
  json: 'application/json',
  cbor: 'application/cbor',
};

const HIGHEST_NUMBER = 0xffff;
const MAX_UINT = 2 ** 32;

/** Options whose value is typed as a decimal number (RFC 7252, section 5.10; RFC 7967; RFC 8768). */
const UINTS: ReadonlySet<number> = new Set([
  OPTION.uriPort,
  OPTION.contentFormat,
  OPTION.maxAge,
  OPTION.accept,
  OPTION.hopLimit,
  OPTION.noResponse,
]);

/** What the endpoint adds by itself: typed by hand it would contradict it. */
const OWN: ReadonlySet<number> = new Set([...TRANSFER_OPTIONS, OPTION.observe, OPTION.requestTag]);

const NUMBERS: ReadonlyMap<string, number> = new Map(
  Object.values(OPTION).map((number) => [optionName(number).toLowerCase(), number]),
);

/** The code of a method by its name, in any case; undefined where there is no such method. */
export function methodCode(name: string): number | undefined {
  const key = name.toLowerCase();
  return Object.hasOwn(METHOD, key) ? METHOD[key as keyof typeof METHOD] : undefined;
}

/** A parser of formats: a number, a media type, or a short name. */
export function contentFormat(text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : formatNumber(FORMAT_NAMES[text.toLowerCase()] ?? text);
  if (number !== undefined && number <= HIGHEST_NUMBER) return number;
  const names = Object.keys(FORMAT_NAMES).join(', ');
  throw new InvalidArgumentError(`It takes a number from 0 to 65535, a media type, or one of ${names}.`);
}

/** `application/json`, or the number where it has no name here. */
export const formatLabel = (number: number): string => formatName(number) ?? `format ${number}`;

/**
 * A parser of `number,value` and `name,value` that collects: the value is text, `0x` and hexadecimal digits, or a decimal
 * number where the option is one of RFC 7252's that hold one. Without a comma the option is empty.
 */
export function collectOption(text: string, before: readonly Option[]): readonly Option[] {
  const comma = text.indexOf(',');
  const name = comma < 0 ? text : text.slice(0, comma);
  const value = comma < 0 ? '' : text.slice(comma + 1);
  const number = /^\d+$/.test(name) ? Number(name) : NUMBERS.get(name.toLowerCase());
  if (number === undefined || number > HIGHEST_NUMBER)
    throw new InvalidArgumentError(`${name} is neither the number nor the name of an option.`);
  if (OWN.has(number))
    throw new InvalidArgumentError(`${optionName(number)} is set by the options --observe and --block-size.`);
  return [...before, { number, value: optionValue(number, value) }];
}

function optionValue(number: number, text: string): Uint8Array {
  if (text.startsWith('0x')) {
    const bytes = fromHex(text.slice(2));
    if (bytes !== undefined) return bytes;
    throw new InvalidArgumentError('After 0x come hexadecimal digits, two for each byte.');
  }
  if (!UINTS.has(number) || text === '') return utf8(text);
  if (/^\d+$/.test(text) && Number(text) < MAX_UINT) return uintOption(number, Number(text)).value;
  throw new InvalidArgumentError(`${optionName(number)} takes a whole number.`);
}

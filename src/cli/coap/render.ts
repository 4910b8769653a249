import { fromUtf8, hex } from '../../base/bytes.ts';
import { blockOf } from '../../coap/block.ts';
import { codeLabel, EMPTY } from '../../coap/codes.ts';
import { attributeOf, hasAttribute, type WebLink } from '../../coap/link_format.ts';
import { decode, type Message } from '../../coap/message.ts';
import { OPTION, type Option, optionName, uintOf } from '../../coap/options.ts';
import { CBOR_FORMAT, formatName, JSON_FORMAT } from '../../exchange/content_format.ts';
import { cborText, jsonText } from './diagnostic.ts';
import { formatLabel } from './options.ts';

/** RFC 7252, section 12.1.2; RFC 7959, section 6; RFC 8132, section 6; RFC 8516; RFC 8768. */
const MEANINGS: Readonly<Record<string, string>> = {
  '2.01': 'Created',
  '2.02': 'Deleted',
  '2.03': 'Valid',
  '2.04': 'Changed',
  '2.05': 'Content',
  '2.31': 'Continue',
  '4.00': 'Bad Request',
  '4.01': 'Unauthorized',
  '4.02': 'Bad Option',
  '4.03': 'Forbidden',
  '4.04': 'Not Found',
  '4.05': 'Method Not Allowed',
  '4.06': 'Not Acceptable',
  '4.08': 'Request Entity Incomplete',
  '4.09': 'Conflict',
  '4.12': 'Precondition Failed',
  '4.13': 'Request Entity Too Large',
  '4.15': 'Unsupported Content-Format',
  '4.22': 'Unprocessable Entity',
  '4.29': 'Too Many Requests',
  '5.00': 'Internal Server Error',
  '5.01': 'Not Implemented',
  '5.02': 'Bad Gateway',
  '5.03': 'Service Unavailable',
  '5.04': 'Gateway Timeout',
  '5.05': 'Proxying Not Supported',
  '5.08': 'Hop Limit Reached',
};

/** `4.04 Not Found`. */
export function codeText(code: number): string {
  const label = codeLabel(code);
  const meaning = MEANINGS[label];
  return meaning === undefined ? label : `${label} ${meaning}`;
}

/** The access token of MSC3079: never shown. */
export const ACCESS_TOKEN = 256;
const TEXT_FORMATS: ReadonlySet<number> = new Set([0, 40, 41, 110, 30000]);
const TEXT_OPTIONS: ReadonlySet<number> = new Set([
  OPTION.uriHost,
  OPTION.uriPath,
  OPTION.uriQuery,
  OPTION.locationPath,
  OPTION.locationQuery,
  OPTION.proxyUri,
  OPTION.proxyScheme,
]);
const UINT_OPTIONS: ReadonlySet<number> = new Set([
  OPTION.observe,
  OPTION.uriPort,
  OPTION.maxAge,
  OPTION.hopLimit,
  OPTION.size1,
  OPTION.size2,
  OPTION.noResponse,
]);

/** A longer payload is not indented. */
const LARGEST_INDENTED_BYTES = 2 ** 20;

/** What a terminal would act on: control characters but for tab and line feed, and those that reverse the order. */
const UNSAFE = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

/** Text that a terminal shows and does not obey. */
export const forTerminal = (text: string): string =>
  text.replace(UNSAFE, (character) =>
    character === '\n' || character === '\t'
      ? character
      : `\\u${character.codePointAt(0)!.toString(16).padStart(4, '0')}`,
  );

/** The same in one line, so that nobody can put lines of his own among ours. */
export const forLine = (text: string): string =>
  forTerminal(text).replaceAll('\n', '\\u000a').replaceAll('\t', '\\u0009');

export interface Rendered {
  readonly kind: 'text' | 'binary';
  readonly text: string;
}

/**
 * A payload as people read it: JSON and CBOR indented (where `wantsPretty`, and it is not very long), text as it is.
 * What cannot be read as its Content-Format says, or is no text, is binary: `text` then says what it is.
 */
export function renderPayload(
  payload: Uint8Array,
  format: number | undefined,
  wantsPretty: boolean,
): Rendered {
  const pretty = wantsPretty && payload.length <= LARGEST_INDENTED_BYTES;
  const text = fromUtf8(payload);
  if (format === CBOR_FORMAT) {
    const item = cborText(payload, pretty);
    if (item.ok) return { kind: 'text', text: item.value };
    return { kind: 'binary', text: `${payload.length} bytes that are said to be CBOR, but ${item.problem}` };
  }
  if (format === JSON_FORMAT && text !== undefined) {
    const indented = pretty ? jsonText(text) : undefined;
    return { kind: 'text', text: indented?.ok ? indented.value : text };
  }
  const isText =
    format === undefined
      ? !/[^\P{Cc}\t\n\r]/u.test(text ?? '\0')
      : TEXT_FORMATS.has(format) || isTextual(format);
  if (isText && text !== undefined) return { kind: 'text', text };
  const name = format === undefined ? 'of a kind that is not said' : `of ${formatLabel(format)}`;
  return { kind: 'binary', text: `${payload.length} bytes ${name}` };
}

const isTextual = (format: number): boolean => /^text\/|[+/](?:json|xml)$/.test(formatName(format) ?? '');

/** Whether a datagram is a pipe's (docs/protocol.md, "One port"). */
export const isRecord = (bytes: Uint8Array): boolean => (bytes[0] ?? 0) >= 0x80;

/** One datagram in one line: type, code, id, token, options, length of the payload. */
export function describeDatagram(bytes: Uint8Array): string {
  const message = decode(bytes);
  if (message.ok) return describeMessage(message.value);
  return isRecord(bytes) ? `a record of a pipe, ${bytes.length} B` : `no CoAP message, ${bytes.length} B`;
}

function describeMessage({ type, code, id, token, options, payload }: Message): string {
  const name = code === EMPTY ? (type === 'CON' ? 'ping' : 'empty') : codeText(code);
  const parts = [`${type} ${name}`, `id ${id}`];
  if (token.length > 0) parts.push(`token ${hex(token)}`);
  parts.push(...describeOptions(options));
  if (payload.length > 0) parts.push(`${payload.length} B`);
  return forLine(parts.join(', '));
}

/** One text for each option; Uri-Path, Uri-Query and their like are put together. */
function describeOptions(options: readonly Option[]): string[] {
  const texts: string[] = [];
  const joined: Readonly<Record<number, string>> = {
    [OPTION.uriPath]: '/',
    [OPTION.locationPath]: '/',
    [OPTION.uriQuery]: '&',
    [OPTION.locationQuery]: '&',
  };
  for (const [i, option] of options.entries()) {
    const separator = joined[option.number];
    if (separator !== undefined && options[i - 1]?.number === option.number)
      texts.push(`${texts.pop()}${separator}${optionText(option)}`);
    else texts.push(`${labelOf(option.number)} ${optionText(option)}`.trimEnd());
  }
  return texts;
}

/** The name of an option, as people read it. */
export const labelOf = (number: number): string => {
  if (number === ACCESS_TOKEN) return 'access token';
  const name = optionName(number);
  return name === String(number) ? `option ${name}` : name;
};

/** The value of an option, as people read it; an access token is not shown. */
export function optionText(option: Option): string {
  const { number, value } = option;
  if (number === ACCESS_TOKEN) return `(${value.length} B, not shown)`;
  if (TEXT_OPTIONS.has(number)) return fromUtf8(value) ?? `0x${hex(value)}`;
  if (UINT_OPTIONS.has(number)) return String(uintOf(option) ?? `0x${hex(value)}`);
  if (number === OPTION.contentFormat || number === OPTION.accept) return formatLabel(uintOf(option) ?? -1);
  if (number === OPTION.block1 || number === OPTION.block2) {
    const block = blockOf([option], number);
    if (!block.ok || block.value === undefined) return '(reserved)';
    return `${block.value.num}${block.value.more ? '+' : ''}/${block.value.size}`;
  }
  return value.length === 0 ? '' : `0x${hex(value)}`;
}

const BYTES_A_LINE = 16;

/** Sixteen bytes a line: offset, hexadecimal, ASCII. The bytes of an access token are shown as dots. */
export function hexDump(bytes: Uint8Array): string {
  const hidden = hiddenBytes(bytes);
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += BYTES_A_LINE) {
    const row = [...bytes.subarray(at, at + BYTES_A_LINE)];
    const isHidden = (i: number): boolean => at + i >= hidden.start && at + i < hidden.end;
    const digits = row.map((byte, i) => (isHidden(i) ? '..' : byte.toString(16).padStart(2, '0')));
    const ascii = row.map((byte, i) =>
      isHidden(i) || byte < 0x20 || byte > 0x7e ? '.' : String.fromCharCode(byte),
    );
    lines.push(
      `    ${at.toString(16).padStart(4, '0')}  ${digits.join(' ').padEnd(3 * BYTES_A_LINE - 1)}  ${ascii.join('')}`,
    );
  }
  return lines.join('\n');
}

/** Where in a datagram an access token stands. */
function hiddenBytes(bytes: Uint8Array): { readonly start: number; readonly end: number } {
  const message = decode(bytes);
  const token = message.ok ? message.value.options.find(({ number }) => number === ACCESS_TOKEN) : undefined;
  if (token === undefined || token.value.length === 0) return { start: 0, end: 0 };
  const start = Buffer.from(bytes).indexOf(token.value);
  return { start, end: start + token.value.length };
}

/** The links of a resource directory as columns; columns in which nothing stands are left out. */
export function linkTable(links: readonly WebLink[]): string {
  const formats = (link: WebLink): string =>
    (attributeOf(link, 'ct') ?? '')
      .split(' ')
      .filter((number) => number !== '')
      .map((number) => (/^\d{1,5}$/.test(number) ? (formatName(Number(number)) ?? number) : number))
      .join(' ');
  const columns: [string, (link: WebLink) => string][] = [
    ['path', ({ target }) => target],
    ['type', (link) => attributeOf(link, 'rt') ?? ''],
    ['interface', (link) => attributeOf(link, 'if') ?? ''],
    ['formats', formats],
    ['bytes', (link) => attributeOf(link, 'sz') ?? ''],
    ['observable', (link) => (hasAttribute(link, 'obs') ? 'yes' : '')],
    ['title', (link) => attributeOf(link, 'title') ?? ''],
  ];
  const used = columns.filter(([, cell]) => links.some((link) => cell(link) !== ''));
  const rows = [
    used.map(([name]) => name),
    ...links.map((link) => used.map(([, cell]) => forLine(cell(link)))),
  ];
  const widths = used.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

import { bad, ok, type Result } from '../base/result.ts';
import { NEGATIVE, UNSIGNED } from './cbor_bytes.ts';
import type { CompactContext } from './context.ts';
import {
  ALIAS,
  hasVersion,
  LITERAL,
  type PartKind,
  QUERY_KEY_OF_NUMBER,
  QUERY_KEYS,
  ROUTES,
  routeOf,
  VERSION_SEGMENT,
  VERSIONS,
} from './routes.ts';
import { type CompactProblem, problemOf } from './value.ts';
import { CompactReader } from './value_reader.ts';
import { CompactWriter } from './value_writer.ts';

/** What a request is about: its method, and its path and query as in a URL. */
export interface Target {
  readonly method: string;
  readonly path: string;
  /** Without the question mark; empty where there is none. */
  readonly query: string;
}

/** CBOR's "undefined", which no text begins with: a query follows, or what follows is not percent-encoded as usual. */
const MARK = 0xf7;
const METHODS: readonly string[] = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH'];

/**
 * A target in few bytes, which end by themselves:
 *
 *     target  = route, parameter ...              [query]      route = the number of a route (`routes.ts`)
 *             / ALIAS, version, route, parameter ... [query]   another version than the route's
 *             / LITERAL, method, path             [query]      both texts
 *     query   = MARK, number of parts, part ...
 *     part    = key number, value / text of the key, value / -1, text of a part without "="
 *
 * Parameters and values are texts of their kind without percent-encoding, where encodeURIComponent would make the same
 * characters again; with MARK before them they are the characters themselves. So every path and query come back exactly.
 */
export function encodeTarget(target: Target, context: CompactContext = {}): Uint8Array {
  const writer = new CompactWriter(context);
  writeTarget(writer, target);
  return writer.done();
}

/** Reads exactly one target, written in the same context. */
export function decodeTarget(
  bytes: Uint8Array,
  context: CompactContext = {},
): Result<Target, CompactProblem> {
  const reader = new CompactReader(bytes, 0, context);
  const target = readTarget(reader);
  if (target === undefined) return bad(problemOf(reader));
  return reader.at === bytes.length ? ok(target) : bad({ kind: 'malformed', reason: 'trailing bytes' });
}

/** Writes a target in front of what else the writer writes. */
export function writeTarget(writer: CompactWriter, { method, path, query }: Target): void {
  const segments = path.split('/');
  const exact = routeOf(method, segments, false);
  const route = exact ?? routeOf(method, segments, true);
  if (route === undefined) {
    writer.byte(LITERAL);
    writeListed(writer, METHODS, method);
    writer.item(path);
  } else {
    if (exact === undefined) {
      writer.byte(ALIAS);
      writeListed(writer, VERSIONS, segments[VERSION_SEGMENT]!);
    }
    writer.byte(route.number);
    for (const [i, segment] of route.segments.entries())
      if (typeof segment !== 'string') writePart(writer, segments[i]!, segment.kind);
  }
  if (query !== '') writeQuery(writer, query);
}

/** Reads a target; undefined with the reader's `problem` where there is none. */
export function readTarget(reader: CompactReader): Target | undefined {
  const first = reader.bytes[reader.at++];
  if (first === undefined) return reader.fail('truncated');
  let method: string | undefined;
  let path: string | undefined;
  if (first === LITERAL) {
    method = readListed(reader, METHODS);
    path = method === undefined ? undefined : reader.item();
  } else {
    const version = first === ALIAS ? readListed(reader, VERSIONS) : undefined;
    if (first === ALIAS && version === undefined) return undefined;
    const route = ROUTES[first === ALIAS ? (reader.bytes[reader.at++] ?? LITERAL) : first];
    if (route === undefined || (version !== undefined && !hasVersion(route)))
      return reader.fail('unknown route');
    method = route.method;
    const segments: string[] = [];
    for (const [i, segment] of route.segments.entries()) {
      const text =
        typeof segment !== 'string'
          ? readPart(reader, segment.kind)
          : i === VERSION_SEGMENT
            ? (version ?? segment)
            : segment;
      if (text === undefined) return undefined;
      segments.push(text);
    }
    path = segments.join('/');
  }
  const query = path === undefined ? undefined : readQuery(reader);
  return query === undefined ? undefined : { method: method!, path: path!, query };
}

/** A text's place in a list, or the text. */
function writeListed(writer: CompactWriter, list: readonly string[], text: string): void {
  const index = list.indexOf(text);
  if (index < 0) writer.item(text);
  else writer.head(UNSIGNED, index);
}

function readListed(reader: CompactReader, list: readonly string[]): string | undefined {
  if ((reader.bytes[reader.at] ?? 0) >> 5 !== UNSIGNED) return reader.item();
  const index = reader.argument();
  return index === undefined ? undefined : (list[index] ?? reader.fail('unknown text'));
}

function writeQuery(writer: CompactWriter, query: string): void {
  const parts = query.split('&');
  writer.byte(MARK);
  writer.varint(parts.length);
  for (const part of parts) {
    const equals = part.indexOf('=');
    const key = part.slice(0, equals);
    const known = equals < 0 ? undefined : QUERY_KEYS.get(key);
    if (equals < 0) writer.head(NEGATIVE, 0);
    else if (known !== undefined) writer.head(UNSIGNED, known.number);
    else writer.item(key);
    if (equals < 0) writer.item(part);
    else writePart(writer, part.slice(equals + 1), known?.kind ?? 'text');
  }
}

function readQuery(reader: CompactReader): string | undefined {
  if (reader.bytes[reader.at] !== MARK) return '';
  reader.at++;
  const count = reader.varint();
  if (count === undefined) return undefined;
  const parts: string[] = [];
  while (parts.length < count) {
    const part = readQueryPart(reader);
    if (part === undefined) return undefined;
    parts.push(part);
  }
  return parts.join('&');
}

function readQueryPart(reader: CompactReader): string | undefined {
  const major = (reader.bytes[reader.at] ?? 0) >> 5;
  if (major === NEGATIVE) return reader.negative() === -1 ? reader.item() : reader.fail('unknown key');
  let key: string | undefined;
  let kind: PartKind = 'text';
  if (major === UNSIGNED) {
    const number = reader.argument();
    if (number === undefined) return undefined;
    const known = QUERY_KEY_OF_NUMBER.get(number);
    if (known === undefined) return reader.fail('unknown key');
    ({ key, kind } = known);
  } else key = reader.item();
  const value = key === undefined ? undefined : readPart(reader, kind);
  return value === undefined ? undefined : `${key}=${value}`;
}

/** Part of a path or query, percent-encoded. */
function writePart(writer: CompactWriter, encoded: string, kind: PartKind): void {
  const text = plainOf(encoded);
  if (text === undefined) writer.byte(MARK);
  writeText(writer, text ?? encoded, kind);
}

function readPart(reader: CompactReader, kind: PartKind): string | undefined {
  const asItIs = reader.bytes[reader.at] === MARK;
  if (asItIs) reader.at++;
  const text = readText(reader, kind);
  if (text === undefined || asItIs) return text;
  return text.isWellFormed() ? encodeURIComponent(text) : reader.fail('not a text');
}

function writeText(writer: CompactWriter, text: string, kind: PartKind): void {
  if (kind === 'text') writer.item(text);
  else if (kind === 'digits') writer.digits(text);
  else if (kind === 'transaction') writer.transaction(text);
  else if (kind === 'server') writer.server(text);
  else writer.named(text, kind);
}

function readText(reader: CompactReader, kind: PartKind): string | undefined {
  if (kind === 'text') return reader.item();
  if (kind === 'digits') return reader.digits();
  if (kind === 'transaction') return reader.transaction();
  return kind === 'server' ? reader.server() : reader.named(kind);
}

/** The text that is percent-encoded like this by encodeURIComponent; undefined where there is none. */
function plainOf(encoded: string): string | undefined {
  if (!encoded.isWellFormed()) return undefined;
  try {
    const text = decodeURIComponent(encoded);
    return encodeURIComponent(text) === encoded ? text : undefined;
  } catch {
    return undefined;
  }
}

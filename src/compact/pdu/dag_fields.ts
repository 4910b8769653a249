import { canonicalText, compareCodePoints } from '../../matrix/canonical_json.ts';
import { MAX_DEPTH } from '../../matrix/event_format.ts';
import type { JsonObject, JsonValue } from '../../matrix/json.ts';
import { decodeJson, encodeJson } from '../cbor.ts';
import type { ByteReader } from './byte_reader.ts';
import { ByteWriter, unzigzag, varint, zigzag } from './byte_writer.ts';
import { type Choice, choose, isAll, listOf, MAX_CANDIDATES, readChoice, writeChoice } from './choice.ts';
import { authPlaces, idInReference, referenceTo, refersByPairs, type Subject } from './rules.ts';
import type { KnownEvent, NameReader, NameWriter, PduView, WholeReason } from './view.ts';

/** Where an event stands in the room: what a reader who has the room mostly knows by itself. */
export interface DagFields {
  readonly prev_events: readonly JsonValue[];
  readonly auth_events: readonly JsonValue[];
  readonly depth: number;
  readonly origin_server_ts: number;
}

// Flags: which of the fields are told.
/** `prev_events` is not simply the extremities that both have, in the order of their ids. */
export const TELLS_PREV = 1;
/** `auth_events` is not simply the specification's selection from the state that both have. */
export const TELLS_AUTH = 2;
/** `depth` is not simply one more than the deepest previous event's. */
export const TELLS_DEPTH = 4;
/** `origin_server_ts` is not within the short range around the first previous event's. */
export const TELLS_TS = 8;

/** The short form of a time: 20 bits, of which the upper four stand in the first byte of the event. */
const SHORT_TS_BITS = 20;
const SHORT_TS_BYTES = 2;
const LOW_BITS = 8 * SHORT_TS_BYTES;
/**
 * The short form reaches from 65,536 ms before the previous event, since clocks differ, to 983,039 ms behind it: over
 * 16 minutes.
 */
const SHORT_TS_BIAS_MS = 2 ** LOW_BITS;

/** In the bytes of an element of a list where references are pairs: a name of an event that both know; CBOR. */
const NAMED = 0;
const LITERAL = 1;
const MAX_LITERAL_BYTES = 1024;

/** A part of the fields on the wire. */
export interface WrittenPart {
  /** TELLS_... */
  readonly flags: number;
  readonly bytes: Uint8Array;
}

/** The fields as they were read, before they are understood by what both sides know. */
export interface ReadDag {
  readonly ts: bigint;
  readonly isShortTs: boolean;
  readonly prev: Choice | undefined;
  readonly auth: Choice | undefined;
  readonly depth: number | undefined;
}

/** Writes all but the time of an event that has a canonical form. */
export function writeLists(
  fields: DagFields,
  subject: Subject,
  view: PduView,
  names: NameWriter,
): WrittenPart {
  const writer = new ByteWriter();
  const writeOther = (reference: JsonValue): void => writeReference(writer, reference, view, names);
  const prevIds = idsIn(fields.prev_events, view);
  const prev = choose(fields.prev_events, sharedExtremities(view));
  const tellsPrev = !isAll(prev);
  if (tellsPrev) writeChoice(writer, prev, writeOther);

  const auth = choose(fields.auth_events, selectedAuthEvents(subject, view));
  const tellsAuth = !isAll(auth);
  if (tellsAuth) writeChoice(writer, auth, writeOther);

  const tellsDepth = depthAfter(prevIds, view) !== fields.depth;
  if (tellsDepth) writer.varint(fields.depth);
  const flags = (tellsPrev ? TELLS_PREV : 0) | (tellsAuth ? TELLS_AUTH : 0) | (tellsDepth ? TELLS_DEPTH : 0);
  return { flags, bytes: writer.done() };
}

/**
 * Writes the time, in its short form where `mayBeShort` and the difference allow it. A time that is told is a varint:
 * bit 0 says whether it counts from `referenceTs` instead of the first previous event, the rest is the difference in
 * zigzag form.
 */
export function writeTs(
  fields: DagFields,
  view: PduView,
  mayBeShort = true,
): WrittenPart & { readonly nibble: number } {
  const ts = fields.origin_server_ts;
  const base = eventOf(idsIn(fields.prev_events, view)[0], view);
  const biased = base === undefined ? -1 : ts - base.originServerTs + SHORT_TS_BIAS_MS;
  if (mayBeShort && biased >= 0 && biased < 2 ** SHORT_TS_BITS) {
    const bytes = Uint8Array.of((biased >> 8) & 0xff, biased & 0xff);
    return { flags: 0, nibble: biased >> LOW_BITS, bytes };
  }
  const difference = BigInt(ts) - BigInt(base?.originServerTs ?? view.referenceTs);
  return {
    flags: TELLS_TS,
    nibble: 0,
    bytes: varint(2n * zigzag(difference) + (base === undefined ? 1n : 0n)),
  };
}

export function readTs(reader: ByteReader, flags: number, nibble: number): Pick<ReadDag, 'ts' | 'isShortTs'> {
  if ((flags & TELLS_TS) !== 0) return { ts: reader.bigVarint(), isShortTs: false };
  const low = reader.take(SHORT_TS_BYTES);
  return { ts: BigInt((nibble << LOW_BITS) | ((low[0] ?? 0) << 8) | (low[1] ?? 0)), isShortTs: true };
}

export function readLists(
  reader: ByteReader,
  flags: number,
  view: PduView,
  names: NameReader,
): Pick<ReadDag, 'prev' | 'auth' | 'depth'> {
  const readOther = (): JsonValue => readReference(reader, view, names);
  return {
    prev: (flags & TELLS_PREV) === 0 ? undefined : readChoice(reader, readOther),
    auth: (flags & TELLS_AUTH) === 0 ? undefined : readChoice(reader, readOther),
    depth: (flags & TELLS_DEPTH) === 0 ? undefined : reader.varint(MAX_DEPTH),
  };
}

/** Understands what was read by what the reader knows; a reason where that is not enough. */
export function understandDag(read: ReadDag, subject: Subject, view: PduView): JsonObject | WholeReason {
  const extremities = sharedExtremities(view);
  const prev = read.prev === undefined ? extremities : listOf(read.prev, extremities);
  if (prev === undefined) return 'event';
  const prevIds = idsIn(prev, view);

  const selected = selectedAuthEvents(subject, view);
  const auth = read.auth === undefined ? selected : listOf(read.auth, selected);
  if (auth === undefined) return 'state';

  const depth = read.depth ?? depthAfter(prevIds, view);
  const ts = understandTs(read, eventOf(prevIds[0], view), view);
  if (depth === undefined || ts === undefined) return 'event';
  return { prev_events: prev, auth_events: auth, depth, origin_server_ts: ts };
}

/** The extremities that both sides have, as references, in the order of their ids. */
function sharedExtremities(view: PduView): JsonValue[] {
  return [...view.extremities()]
    .sort((a, b) => compareCodePoints(a.id, b.id))
    .slice(0, MAX_CANDIDATES)
    .flatMap((event) => referenceTo(event.id, event, view.version) ?? []);
}

/** The specification's selection, as references. */
function selectedAuthEvents(subject: Subject, view: PduView): JsonValue[] {
  const places = authPlaces(subject, view.version);
  const ids = places.length === 0 ? [] : view.state(places);
  return ids.slice(0, MAX_CANDIDATES).flatMap((id) => referenceTo(id, view.event(id), view.version) ?? []);
}

const idsIn = (references: readonly JsonValue[], view: PduView): (string | undefined)[] =>
  references.map((reference) => idInReference(reference, view.version));

const eventOf = (id: string | undefined, view: PduView): KnownEvent | undefined =>
  id === undefined ? undefined : view.event(id);

/** One more than the deepest previous event (server-server API, "PDUs"); undefined where one is not known. */
function depthAfter(prevIds: readonly (string | undefined)[], view: PduView): number | undefined {
  const depths = prevIds.map((id) => eventOf(id, view)?.depth);
  if (depths.includes(undefined)) return undefined;
  return Math.min(MAX_DEPTH, Math.max(0, ...depths.map((depth) => depth!)) + 1);
}

function understandTs(
  { ts, isShortTs }: ReadDag,
  base: KnownEvent | undefined,
  view: PduView,
): number | undefined {
  const countsFromReference = !isShortTs && (ts & 1n) === 1n;
  const from = countsFromReference ? view.referenceTs : base?.originServerTs;
  if (from === undefined) return undefined;
  return Number(BigInt(from) + (isShortTs ? ts - BigInt(SHORT_TS_BIAS_MS) : unzigzag(ts >> 1n)));
}

function writeReference(writer: ByteWriter, reference: JsonValue, view: PduView, names: NameWriter): void {
  const id = idInReference(reference, view.version);
  if (!refersByPairs(view.version)) {
    writer.bytes(names.write('event', id!));
    return;
  }
  const known = id === undefined ? undefined : referenceTo(id, view.event(id), view.version);
  if (known !== undefined && canonicalText(known) === canonicalText(reference)) {
    writer.byte(NAMED);
    writer.bytes(names.write('event', id!));
    return;
  }
  const bytes = encodeJson(reference);
  writer.byte(LITERAL);
  writer.varint(bytes.length);
  writer.bytes(bytes);
}

function readReference(reader: ByteReader, view: PduView, names: NameReader): JsonValue {
  if (!refersByPairs(view.version)) return reader.name('event', names);
  const kind = reader.byte();
  if (kind === NAMED) {
    const id = reader.name('event', names);
    const known = referenceTo(id, view.event(id), view.version);
    if (known === undefined) reader.fail({ kind: 'send whole', reason: 'event' });
    return known ?? null;
  }
  const value = decodeJson(reader.take(reader.varint(MAX_LITERAL_BYTES)));
  if (kind !== LITERAL || !value.ok) {
    reader.fail({ kind: 'malformed', reason: 'a reference is malformed' });
    return null;
  }
  return value.value;
}

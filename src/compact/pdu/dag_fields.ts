import { canonicalText, compareCodePoints } from '../../matrix/canonical_json.ts';
import { MAX_DEPTH } from '../../matrix/event_format.ts';
import type { JsonObject, JsonValue } from '../../matrix/json.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import { decodeJson, encodeJson } from '../cbor.ts';
import type { PduReader } from './byte_reader.ts';
import { type PduWriter, unzigzag, varint, zigzag } from './byte_writer.ts';
import { type Choice, choose, isAll, listOf, MAX_CANDIDATES, readChoice, writeChoice } from './choice.ts';
import { authPlaces, idInReference, referenceTo, refersByPairs, type Subject } from './rules.ts';
import type { KnownEvent, PduView, WholeReason } from './view.ts';

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

/** The lists and the depth as they go on the wire; undefined is what is not told. */
export interface ToldLists {
  /** TELLS_... */
  readonly flags: number;
  readonly prev: Choice | undefined;
  readonly auth: Choice | undefined;
  readonly depth: number | undefined;
}

/** The time as it goes on the wire. */
export interface ToldTs {
  /** TELLS_TS or 0. */
  readonly flags: number;
  readonly nibble: number;
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

/** What has to be told, but for the time, of an event that has a canonical form. */
export function listsToTell(fields: DagFields, subject: Subject, view: PduView): ToldLists {
  const prev = choose(fields.prev_events, sharedExtremities(view));
  const auth = choose(fields.auth_events, selectedAuthEvents(subject, view));
  const tellsPrev = !isAll(prev);
  const tellsAuth = !isAll(auth);
  const tellsDepth = depthAfter(idsIn(fields.prev_events, view), view) !== fields.depth;
  return {
    flags: (tellsPrev ? TELLS_PREV : 0) | (tellsAuth ? TELLS_AUTH : 0) | (tellsDepth ? TELLS_DEPTH : 0),
    prev: tellsPrev ? prev : undefined,
    auth: tellsAuth ? auth : undefined,
    depth: tellsDepth ? fields.depth : undefined,
  };
}

export function writeLists(writer: PduWriter, { prev, auth, depth }: ToldLists, view: PduView): void {
  const writeOther = (reference: JsonValue): void => writeReference(writer, reference, view);
  if (prev !== undefined) writeChoice(writer, prev, writeOther);
  if (auth !== undefined) writeChoice(writer, auth, writeOther);
  if (depth !== undefined) writer.varint(depth);
}

/**
 * The time, in its short form where `mayBeShort` and the difference allow it. A time that is told is a varint:
 * bit 0 says whether it counts from `referenceTs` instead of the first previous event, the rest is the difference in
 * zigzag form.
 */
export function tsToTell(fields: DagFields, view: PduView, mayBeShort = true): ToldTs {
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

export function writeTs(writer: PduWriter, { flags, bytes }: ToldTs): void {
  if (flags === 0) writer.blob(bytes);
  else writer.bytes(bytes);
}

export function readTs(reader: PduReader, flags: number, nibble: number): Pick<ReadDag, 'ts' | 'isShortTs'> {
  if ((flags & TELLS_TS) !== 0) return { ts: reader.bigVarint(), isShortTs: false };
  const low = reader.blob(SHORT_TS_BYTES);
  return { ts: BigInt((nibble << LOW_BITS) | ((low[0] ?? 0) << 8) | (low[1] ?? 0)), isShortTs: true };
}

export function readLists(
  reader: PduReader,
  flags: number,
  version: RoomVersion,
): Pick<ReadDag, 'prev' | 'auth' | 'depth'> {
  const readOther = (): JsonValue => readReference(reader, version);
  return {
    prev: (flags & TELLS_PREV) === 0 ? undefined : readChoice(reader, readOther),
    auth: (flags & TELLS_AUTH) === 0 ? undefined : readChoice(reader, readOther),
    depth: (flags & TELLS_DEPTH) === 0 ? undefined : reader.varint(MAX_DEPTH),
  };
}

/** Understands what was read by what the reader knows; a reason where that is not enough. */
export function understandDag(read: ReadDag, subject: Subject, view: PduView): JsonObject | WholeReason {
  const extremities = sharedExtremities(view);
  const prev = read.prev === undefined ? extremities : listOf(named(read.prev, view), extremities);
  if (prev === undefined || prev.includes(null)) return 'event';
  const prevIds = idsIn(prev, view);

  const selected = selectedAuthEvents(subject, view);
  const auth = read.auth === undefined ? selected : listOf(named(read.auth, view), selected);
  if (auth === undefined) return 'state';
  if (auth.includes(null)) return 'event';

  const depth = read.depth ?? depthAfter(prevIds, view);
  const ts = understandTs(read, eventOf(prevIds[0], view), view);
  if (depth === undefined || ts === undefined) return 'event';
  return { prev_events: prev, auth_events: auth, depth, origin_server_ts: ts };
}

/** The extremities that both sides have, as references, the deepest first, those of a depth in the order of their ids. */
function sharedExtremities(view: PduView): JsonValue[] {
  return [...view.extremities()]
    .sort((a, b) => b.depth - a.depth || compareCodePoints(a.id, b.id))
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

function writeReference(writer: PduWriter, reference: JsonValue, view: PduView): void {
  const id = idInReference(reference, view.version);
  if (!refersByPairs(view.version)) {
    writer.name('event', id!);
    return;
  }
  const known = id === undefined ? undefined : referenceTo(id, view.event(id), view.version);
  if (known !== undefined && canonicalText(known) === canonicalText(reference)) {
    writer.byte(NAMED);
    writer.name('event', id!);
    return;
  }
  const bytes = encodeJson(reference);
  writer.byte(LITERAL);
  writer.varint(bytes.length);
  writer.bytes(bytes);
}

/** A reference; where references are pairs, a text is the id of an event that both know. */
function readReference(reader: PduReader, version: RoomVersion): JsonValue {
  if (!refersByPairs(version)) return reader.name('event');
  const kind = reader.byte();
  if (kind === NAMED) return reader.name('event');
  const value = decodeJson(reader.take(reader.varint(MAX_LITERAL_BYTES)));
  if (kind !== LITERAL || !value.ok || typeof value.value === 'string' || value.value === null) {
    reader.fail({ kind: 'malformed', reason: 'a reference is malformed' });
    return null;
  }
  return value.value;
}

/** With pairs in the place of the ids that stand for them; null for those of events that are not known. */
function named(choice: Choice, view: PduView): Choice {
  const { version } = view;
  if (!refersByPairs(version)) return choice;
  const others = choice.others.map((other) =>
    typeof other === 'string' ? (referenceTo(other, view.event(other), version) ?? null) : other,
  );
  return { ...choice, others };
}

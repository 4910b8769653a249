import { bad, ok, type Result } from '../../base/result.ts';
import { ARRAY, MAP } from '../../compact/cbor_bytes.ts';
import { writeInnerPdu } from '../../compact/pdu/compact.ts';
import {
  isProved,
  type ReadPdu,
  type RestoredPdu,
  readInnerPdu,
  understandPdu,
} from '../../compact/pdu/restore.ts';
import { isSame } from '../../compact/pdu/rules.ts';
import type { PduView } from '../../compact/pdu/view.ts';
import type { CompactReader } from '../../compact/value_reader.ts';
import type { CompactWriter } from '../../compact/value_writer.ts';
import { parsePdu } from '../../matrix/event_format.ts';
import { parseRoomId, type RoomId, type ServerName } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, numberOf, own } from '../../matrix/json.ts';
import type { RoomDirection, RoomView, RoomViews } from './room_views.ts';

// The body of PUT /_matrix/federation/v1/send/{txnId} in its short form:
//
//   body  = [f6] events                      f6: usual signatures are short
//   events = entry                         one event and nothing else
//         / array head n, n entries        n events
//         / map head n, n entries, EDUs    and an array of EDUs
//   entry = room, event                    a name; an event that ends itself unless it is the last thing
//
// `origin` is who speaks, `origin_server_ts` is not told: it is the newest event's, or 0.

/** The specification's. */
const MAX_PDUS = 50;
/** In front of events whose usual signatures are short: no name and no head begins with it. */
export const SHORT_SIGNATURES = 0xf6;
/** Events of a transaction that are looked for by every view and not understood, before the others are asked for whole as well. */
const MAX_MISUNDERSTOOD = 4;
/** Looks at the views of one event, with what the last look asked for. */
const MAX_LOOKS = 3;

/** A transaction as it is going to be written. */
export interface PlannedTransaction {
  readonly entries: readonly PlannedPdu[];
  readonly edus: readonly JsonValue[];
}

interface PlannedPdu {
  readonly room: string;
  readonly pdu: JsonObject;
  /** Undefined: it goes whole. */
  readonly view: PduView | undefined;
  readonly deferSignature: boolean;
}

export interface PlanOptions {
  /** Places among the PDUs of those that go whole. */
  readonly whole?: ReadonlySet<number>;
  /** Whether an event is to name its previous events, so that nothing rests on what its reader has of the newest ones. */
  readonly namesPrevious?: (place: number, room: RoomId) => boolean;
  /** Whether the signature of an event may follow later; it goes without where its form allows that. */
  readonly deferSignature?: (pdu: JsonObject) => boolean;
}

/** Loads what the reader is believed to know; undefined where the body is no transaction that has a short form. */
export async function planTransaction(
  views: RoomViews,
  writer: ServerName,
  reader: ServerName,
  body: JsonValue,
  { whole, namesPrevious, deferSignature }: PlanOptions = {},
): Promise<PlannedTransaction | undefined> {
  const pdus = isJsonObject(body) ? own(body, 'pdus') : undefined;
  const edus = isJsonObject(body) ? (own(body, 'edus') ?? []) : [];
  if (!Array.isArray(pdus) || !Array.isArray(edus)) return undefined;
  const directions = new Map<string, RoomDirection | undefined>();
  const entries: PlannedPdu[] = [];
  for (const [place, pdu] of pdus.entries()) {
    if (!isJsonObject(pdu)) return undefined;
    const room = roomOf(pdu);
    if (room !== undefined && !directions.has(room))
      directions.set(room, await views.open(room, writer, reader));
    const direction = room && directions.get(room);
    const parsed = direction && parsePdu(pdu, direction.version);
    const event = parsed?.ok ? parsed.value : undefined;
    const isWhole = event === undefined || whole?.has(place) === true;
    const shared = isWhole ? undefined : await direction!.viewFor(event);
    const view = shared && namesPrevious?.(place, direction!.room) ? withoutExtremities(shared) : shared;
    entries.push({ room: room ?? '', pdu, view, deferSignature: deferSignature?.(pdu) ?? false });
    if (event !== undefined) await direction!.add(event);
  }
  return { entries, edus };
}

/** A view by which all previous events are named. */
const withoutExtremities = (view: PduView): PduView => ({
  version: view.version,
  room: view.room,
  usualSender: view.usualSender,
  referenceTs: view.referenceTs,
  extremities: () => [],
  event: (id) => view.event(id),
  state: (places) => view.state(places),
  usualKey: (server) => view.usualKey(server),
});

/** @returns the places among the PDUs of those that went without their signatures */
export function writeTransaction(
  writer: CompactWriter,
  { entries, edus }: PlannedTransaction,
): ReadonlySet<number> {
  const deferred = new Set<number>();
  const isShort = writer.isSparing && entries.some(({ view, deferSignature }) => view && !deferSignature);
  if (isShort) writer.byte(SHORT_SIGNATURES);
  const signatureIsCheck = isShort ? 'short' : true;
  const isSingle = entries.length === 1 && edus.length === 0;
  if (!isSingle) writer.head(edus.length > 0 ? MAP : ARRAY, entries.length);
  for (const [place, { room, pdu, view, deferSignature }] of entries.entries()) {
    writer.named(room, 'room');
    const isLast = place === entries.length - 1 && edus.length === 0;
    const written = writeInnerPdu(writer, pdu, { view, isLast, signatureIsCheck, deferSignature });
    if (written.deferred !== undefined) deferred.add(place);
  }
  if (edus.length > 0) writer.value([...edus]);
  return deferred;
}

/** Why a transaction was not read. */
export type FormProblem =
  | { readonly kind: 'malformed'; readonly reason: string }
  | { readonly kind: 'unknown handle' }
  /** Places among the PDUs, from 0; how many of them could have been one of several events. */
  | { readonly kind: 'send whole'; readonly places: readonly number[]; readonly ambiguous?: number };

/** A transaction as it was read. */
export interface ReadTransaction {
  readonly body: JsonObject;
  /** Places among the PDUs of those whose signature has to follow. */
  readonly provisional: ReadonlySet<number>;
}

/** Reads what `writeTransaction` wrote, by what is known here. Takes any bytes. */
export async function readTransaction(
  reader: CompactReader,
  views: RoomViews,
  origin: ServerName,
): Promise<Result<ReadTransaction, FormProblem>> {
  const isShort = reader.bytes[reader.at] === SHORT_SIGNATURES;
  if (isShort) reader.at++;
  const major = (reader.bytes[reader.at] ?? 0) >> 5;
  const hasEdus = major === MAP;
  const count = major === ARRAY || hasEdus ? reader.argument() : 1;
  if (count === undefined || count > MAX_PDUS) return bad({ kind: 'malformed', reason: 'too many events' });
  const taken = new TakenPdus(views, origin);
  for (let place = 0; place < count; place++) {
    const room = reader.named('room');
    if (room === undefined) return bad(problemOfReader(reader));
    const version = (await taken.direction(room))?.version;
    const read = readInnerPdu(reader, version, place === count - 1 && !hasEdus, isShort ? 'short' : true);
    if (read.ok) await taken.take(room, read.value);
    else if (read.problem.kind === 'malformed') return bad(read.problem);
    else if (read.problem.reason === 'name') return bad(UNKNOWN_HANDLE);
    else {
      // Of a room that is not known here: where its event ends is not known either.
      taken.fail(count - place);
      return taken.result([]);
    }
  }
  const edus = hasEdus ? reader.value() : [];
  if (edus === undefined) return bad(problemOfReader(reader));
  if (!Array.isArray(edus) || !reader.atEnd) return bad({ kind: 'malformed', reason: 'trailing bytes' });
  return taken.result(edus);
}

const UNKNOWN_HANDLE: FormProblem = { kind: 'unknown handle' };

export function problemOfReader(reader: CompactReader): FormProblem {
  const { problem = 'truncated' } = reader;
  return typeof problem === 'string' ? { kind: 'malformed', reason: problem } : UNKNOWN_HANDLE;
}

/** The events of a transaction that is being read. */
class TakenPdus {
  readonly #views: RoomViews;
  readonly #origin: ServerName;
  readonly #directions = new Map<string, RoomDirection | undefined>();
  readonly #pdus: (JsonObject | undefined)[] = [];
  readonly #provisional = new Set<number>();
  #misunderstood = 0;
  #ambiguous = 0;

  constructor(views: RoomViews, origin: ServerName) {
    this.#views = views;
    this.#origin = origin;
  }

  async direction(room: string): Promise<RoomDirection | undefined> {
    const parsed = parseRoomId(room);
    if (parsed.ok && !this.#directions.has(room))
      this.#directions.set(room, await this.#views.open(parsed.value, this.#origin, undefined));
    return this.#directions.get(room);
  }

  /** Understands the next event, or notes that it is not understood. */
  async take(room: string, read: ReadPdu): Promise<void> {
    const direction = await this.direction(room);
    if (read.kind === 'fields' && this.#misunderstood >= MAX_MISUNDERSTOOD) return this.fail(1);
    const restored =
      read.kind === 'whole'
        ? { kind: 'one' as const, pdu: read.pdu, deferred: undefined }
        : await understood(read, direction!);
    if (restored.kind !== 'one') {
      this.#misunderstood++;
      if (restored.kind === 'ambiguous') this.#ambiguous++;
      return this.fail(1);
    }
    if (restored.deferred !== undefined) this.#provisional.add(this.#pdus.length);
    this.#pdus.push(restored.pdu);
    const parsed = direction && parsePdu(restored.pdu, direction.version);
    if (parsed?.ok === true && parsed.value.room === room) await direction!.add(parsed.value);
  }

  /** The next `count` events are not understood. */
  fail(count: number): void {
    for (let i = 0; i < count; i++) this.#pdus.push(undefined);
  }

  result(edus: readonly JsonValue[]): Result<ReadTransaction, FormProblem> {
    const places = [...this.#pdus.keys()].filter((place) => this.#pdus[place] === undefined);
    if (places.length > 0) return bad({ kind: 'send whole', places, ambiguous: this.#ambiguous });
    const pdus = this.#pdus.map((pdu) => pdu!);
    const times = pdus.map((pdu) => numberOf(own(pdu, 'origin_server_ts')) || 0);
    const body: JsonObject = { origin: this.#origin, origin_server_ts: Math.max(0, ...times), pdus };
    if (edus.length > 0) body.edus = [...edus];
    return ok({ body, provisional: this.#provisional });
  }
}

/** An event by what is known here. */
type Understood =
  | { readonly kind: 'one'; readonly pdu: JsonObject; readonly deferred: unknown }
  | { readonly kind: 'none' }
  /** Two views make two events of it, and both pass the check. */
  | { readonly kind: 'ambiguous' };

/**
 * The event by the first view that fits. Where two bytes are all that shows that it fits, each view is tried: a wrong one passes
 * once in 65,536 times, and where the right one is among them too there are two events, of which one was never written.
 */
export async function understood(read: ReadPdu, direction: RoomDirection): Promise<Understood> {
  let found: JsonObject | undefined;
  let deferred: unknown;
  for await (const view of direction.guesses()) {
    const restored = await understoodBy(read, view);
    if (restored === undefined) continue;
    if (isProved(read)) return { kind: 'one', pdu: restored.pdu, deferred: undefined };
    if (found !== undefined && !isSame(found, restored.pdu)) return { kind: 'ambiguous' };
    found = restored.pdu;
    deferred = restored.deferred;
  }
  return found === undefined ? { kind: 'none' } : { kind: 'one', pdu: found, deferred };
}

async function understoodBy(read: ReadPdu, view: RoomView): Promise<RestoredPdu | undefined> {
  for (let look = 0; look < MAX_LOOKS; look++) {
    const restored = understandPdu(read, view);
    if (restored.ok) return restored.value;
    if (!(await view.learnAsked())) break;
  }
  return undefined;
}

/** The room that a PDU says it is in. */
function roomOf(pdu: JsonObject): RoomId | undefined {
  const room = own(pdu, 'room_id');
  const parsed = typeof room === 'string' ? parseRoomId(room) : undefined;
  return parsed?.ok ? parsed.value : undefined;
}

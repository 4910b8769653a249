import { base64 } from '../../base/bytes.ts';
import { canonicalJson } from '../../matrix/canonical_json.ts';
import { isJsonObject, type JsonObject, type JsonValue, numberOf, own } from '../../matrix/json.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import { writeInnerPdu } from '../pdu/compact.ts';
import { bodyOfText, MESSAGE_TYPE, SIGNATURE_BYTES } from '../pdu/layout.ts';
import { hashInEventId } from '../pdu/literal.ts';
import { refersByPairs } from '../pdu/rules.ts';
import { zigzag } from '../times.ts';
import { CompactWriter } from '../value_writer.ts';
import {
  COUNTED,
  DATED,
  eventsIn,
  FIELDS,
  FRESH,
  GENERAL,
  KEYS,
  keyParts,
  keysIn,
  LITERAL,
  MAX_COUNT,
  MEMBERSHIP,
  NAMED_BY,
  NOTHING_UNREAD,
  ONE,
  parsePosition,
  SHORT_TEXT,
  SHORT_TIME_BIAS_MS,
  SHORT_TIME_END,
  SINGLE,
  SINGLE_COUNTED,
  SINGLE_LITERAL,
  SINGLE_NAME_SHIFT,
  SINGLE_RISE,
  SORTED,
  STATE_KEYS,
  shownEvent,
  TOLD_ORDER,
  UNSIGNED,
  USUAL,
  USUAL_TOP,
  usualRest,
} from './sync_layout.ts';
import { byPlace, type Part, roomHash, usualMembership } from './sync_rules.ts';
import { NO_KEY, ToldRoom, toldEvent } from './told_room.ts';

/** What the writer has to know of a joined room in the answer. */
export interface RoomToTell {
  readonly version: RoomVersion;
  /** What the client has of the room at `since`; undefined: nothing that it could be relied on. */
  readonly before: ToldRoom | undefined;
}

export interface SyncToTell {
  readonly body: JsonObject;
  /** The position that the client has. */
  readonly since: number | undefined;
  /** By id: the joined rooms that the answer tells of. */
  readonly rooms: ReadonlyMap<string, RoomToTell>;
  /** All rooms of which the client may know: how short a name can be. */
  readonly known: readonly string[];
  /** The PDUs of the events in the answer, by id. What is missing goes literally. */
  readonly pdus: ReadonlyMap<string, JsonObject>;
  /** Whether the client cannot compute ids. */
  readonly idsAreTold?: boolean;
  /** Unix time, from which ages count. */
  readonly now: number;
}

/** Writes an answer of /sync; `readSync` is the inverse, but that an age is told to the second. */
export function writeSync(writer: CompactWriter, sync: SyncToTell): void {
  const { body, since } = sync;
  const { next_batch, rooms, ...others } = body;
  const { join = {}, ...kinds } = (rooms ?? {}) as JsonObject;
  const keys = keysIn(others) ?? 0;
  const top: JsonObject = { ...others, rooms: kinds, ...(keys > 0 && keyParts(0)) };
  if (keys > 0) {
    writer.byte(KEYS);
    writer.varint(keys);
  }
  const position = parsePosition(next_batch as string);
  const rise = position === undefined || since === undefined ? -1 : position - since;
  const sections = Object.entries(join as JsonObject) as [string, JsonObject][];
  const ages = sections.flatMap(([, section]) => agesIn(section, sync));
  const told = sections.map(([room, section]) => roomToWrite(sync, room, section));
  if (rise >= 0 && isSame(top, USUAL_TOP)) {
    const isYoung = ages.every((age) => age === 0);
    const [only] = told;
    const single = isYoung && told.length === 1 && rise <= SINGLE_RISE ? only?.singleHead : undefined;
    if (only !== undefined && single !== undefined) {
      writer.byte((only.isCounted ? SINGLE_COUNTED : SINGLE) | (single << SINGLE_NAME_SHIFT) | rise);
      only.writeSingle(writer);
      return;
    }
    if (isYoung && rise < SINGLE) writer.byte(rise);
    else {
      writer.byte(DATED);
      writer.varint(rise);
      writer.varint(ages[0] ?? 0);
    }
  } else {
    writer.byte(GENERAL);
    writer.item(next_batch as string);
    writer.value(sync.now);
    writer.value(top);
  }
  for (const { head, write } of told) {
    writer.byte(head);
    write(writer);
  }
}

function singleHeadOf(name: number, isOne: boolean, isLiteral: boolean): number | undefined {
  if (isLiteral && name === NAMED_BY.nothing) return SINGLE_LITERAL;
  return isOne && name !== NAMED_BY.id ? name : undefined;
}

/** How old the events of a section are, in seconds, in the order in which they are told. */
const agesIn = (section: JsonObject, sync: SyncToTell): number[] =>
  [...chainOf(stateIn(section).events, sync), ...eventsIn(section, 'timeline')].map(({ origin_server_ts }) =>
    Math.max(0, Math.floor((sync.now - Number(origin_server_ts)) / SECOND_MS)),
  );
const SECOND_MS = 1_000;

function stateIn(section: JsonObject): { readonly key: string; readonly events: readonly JsonObject[] } {
  const key = STATE_KEYS.find((name) => own(section, name) !== undefined) ?? STATE_KEYS[0];
  return { key, events: eventsIn(section, key) };
}

/** Events of the state in the order in which they are most likely to be built on each other. */
function chainOf(state: readonly JsonObject[], { pdus }: SyncToTell): JsonObject[] {
  const depthOf = (event: JsonObject): number => numberOf(pdus.get(String(event.event_id))?.depth ?? 0);
  return [...state].sort((a, b) => depthOf(a) - depthOf(b));
}

/** A room's byte, and what follows it. */
interface RoomToWrite {
  /** What of the answer's byte stands for the room's, where nothing but one event is told; undefined: it cannot. */
  readonly singleHead: number | undefined;
  readonly isCounted: boolean;
  readonly writeSingle: (writer: CompactWriter) => void;
  readonly head: number;
  readonly write: (writer: CompactWriter) => void;
}

function roomToWrite(sync: SyncToTell, room: string, section: JsonObject): RoomToWrite {
  const { version, before } = sync.rooms.get(room)!;
  const { key: stateKey, events: state } = stateIn(section);
  const timeline = eventsIn(section, 'timeline');
  const rest = { ...section, [stateKey]: {}, timeline: withoutEvents(section.timeline) };
  const counts = countsIn(section);
  const uncounted = counts === undefined ? rest : { ...rest, unread_notifications: NOTHING_UNREAD };
  const hasUsualRest =
    sync.since !== undefined && state.length === 0 && isSame(uncounted, usualRest(sync.since));
  const isCounted = hasUsualRest && counts !== undefined;
  const told = new ToldRoom({ version, room, ...(before && { before }) });
  const context: EventContext = { sync, told };
  const only = timeline.length === 1 ? timeline[0] : undefined;
  const flags = only === undefined ? undefined : formOf(only, 'timeline', context).flags;
  const isOne = hasUsualRest && only !== undefined && flags === 0;
  const isLiteral = hasUsualRest && flags === LITERAL && before !== undefined;
  const name = nameOf(room, sync.known, before !== undefined);
  return {
    singleHead: singleHeadOf(name.code, isOne, isLiteral),
    isCounted,
    head:
      name.code |
      (hasUsualRest ? USUAL : 0) |
      (isOne ? ONE : 0) |
      (before === undefined ? FRESH : 0) |
      (isCounted ? COUNTED : 0),
    writeSingle: (writer) => {
      writer.raw(name.bytes);
      if (isCounted) writeCounts(writer, counts);
      writeForm(writer, only!, formOf(only!, 'timeline', context), context);
    },
    write: (writer) => {
      if (name.code === NAMED_BY.id) writer.item(room);
      else writer.raw(name.bytes);
      if (before === undefined) writer.item(version.id);
      if (isCounted) writeCounts(writer, counts);
      if (isOne) writeForm(writer, only, formOf(only, 'timeline', context), context);
      else {
        if (!hasUsualRest) writer.value(rest);
        writeEvents(writer, { state, timeline }, context);
      }
    },
  };
}

interface Counts {
  readonly unread: number;
  readonly highlights: number;
}

/** How much of a room is unread; undefined: nothing, or it is told in another way. */
function countsIn(section: JsonObject): Counts | undefined {
  const told = own(section, 'unread_notifications');
  if (!isJsonObject(told) || isSame(told, NOTHING_UNREAD)) return undefined;
  const { notification_count: unread, highlight_count: highlights, ...others } = told;
  if (!isCount(unread) || !isCount(highlights) || Object.keys(others).length > 0) return undefined;
  return { unread, highlights };
}

const isCount = (value: JsonValue | undefined): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_COUNT;

function writeCounts(writer: CompactWriter, { unread, highlights }: Counts): void {
  writer.varint(unread * 2 + (highlights > 0 ? 1 : 0));
  if (highlights > 0) writer.varint(highlights);
}

function writeEvents(
  writer: CompactWriter,
  { state, timeline }: Readonly<Record<Part, readonly JsonObject[]>>,
  context: EventContext,
): void {
  writer.varint(state.length);
  writer.varint(timeline.length);
  const chain = chainOf(state, context.sync);
  if (state.length > 0) writeOrder(writer, state, chain);
  for (const event of chain) writeEvent(writer, event, 'state', context);
  for (const event of timeline) writeEvent(writer, event, 'timeline', context);
}

function writeOrder(writer: CompactWriter, state: readonly JsonObject[], chain: readonly JsonObject[]): void {
  const sorted = [...chain].sort(byPlace);
  if (sorted.every((event, i) => event === state[i])) {
    writer.byte(SORTED);
    return;
  }
  writer.byte(TOLD_ORDER);
  for (const event of chain) writer.varint(state.indexOf(event));
}

interface EventContext {
  readonly sync: SyncToTell;
  readonly told: ToldRoom;
}

/** How an event is told. */
interface EventForm {
  readonly flags: number;
  readonly pdu: JsonObject | undefined;
  readonly membership: JsonValue | undefined;
  readonly unsigned: JsonObject;
}

function formOf(event: JsonObject, part: Part, { sync, told }: EventContext): EventForm {
  const { unsigned = {}, ...shown } = event;
  const { age: _, membership, ...others } = unsigned as JsonObject;
  const id = String(event.event_id);
  const stored = sync.pdus.get(id);
  const pdu = stored === undefined ? undefined : withoutSignatures(stored);
  const isComputed =
    pdu !== undefined &&
    !sync.idsAreTold &&
    !refersByPairs(told.version) &&
    isSame(shown, shownEvent(id, pdu)) &&
    isShorter(pdu, told);
  const isUsualMembership = membership === usualMembership(part);
  const flags =
    (isComputed ? 0 : LITERAL) |
    (isUsualMembership ? 0 : MEMBERSHIP) |
    (Object.keys(others).length === 0 ? 0 : UNSIGNED);
  return { flags, pdu: isComputed ? pdu : undefined, membership, unsigned: others };
}

/** Whether the event is told by what its reader computes, and takes fewer bytes so than its id does. */
function isShorter(pdu: JsonObject, told: ToldRoom): boolean {
  const trial = new CompactWriter({});
  if (writeInnerPdu(trial, pdu, { view: told, isLast: false, deferSignature: true }).isWhole) return false;
  const literal = new CompactWriter({});
  const { event_id: _, ...shown } = shownEvent('', pdu);
  writeLiteral(literal, ID_FOR_LENGTH, shown, numberOf(pdu.depth), told);
  return trial.done().length <= literal.done().length;
}
const ID_FOR_LENGTH = `$${'A'.repeat(43)}`;

function writeEvent(writer: CompactWriter, event: JsonObject, part: Part, context: EventContext): void {
  const form = formOf(event, part, context);
  writer.byte(form.flags);
  if (form.flags & MEMBERSHIP) writer.value(form.membership ?? null);
  if (form.flags & UNSIGNED) writer.value(form.unsigned);
  writeForm(writer, event, form, context);
}

function writeForm(
  writer: CompactWriter,
  event: JsonObject,
  form: EventForm,
  { told, sync }: EventContext,
): void {
  const id = String(event.event_id);
  if (form.pdu !== undefined) {
    writeInnerPdu(writer, form.pdu, { view: told, isLast: false, deferSignature: true });
    told.add(toldEvent(id, form.pdu));
    return;
  }
  const { unsigned: _, event_id: __, ...shown } = event;
  const depth = numberOf(sync.pdus.get(id)?.depth ?? 0);
  writeLiteral(writer, id, shown, depth, told);
  told.add(toldEvent(id, { ...shown, depth }));
}

function writeLiteral(
  writer: CompactWriter,
  id: string,
  event: JsonObject,
  depth: number,
  told: ToldRoom,
): void {
  const { type, sender, origin_server_ts: ts, state_key: key, content } = event;
  const hash = hashInEventId(id);
  const isOther = hash === undefined || !isSame(shownEvent(id, event), { ...event, event_id: id });
  const isUsualSender = sender === told.usualSender;
  const short = Number(ts) - told.referenceTs + SHORT_TIME_BIAS_MS;
  const body =
    isOther || !isUsualSender || key !== undefined
      ? undefined
      : bodyOfText(String(type), content as JsonObject);
  if (body !== undefined && depth === (told.last?.depth ?? 0) + 1 && short >= 0 && short < SHORT_TIME_END) {
    writer.byte(SHORT_TEXT | (short >> 16));
    writer.blob(hash!);
    writer.blob(Uint8Array.of((short >> 8) & 0xff, short & 0xff));
    writer.item(body);
    return;
  }
  const isMessage = type === MESSAGE_TYPE;
  writer.byte(
    (isUsualSender ? FIELDS.usualSender : 0) |
      (isMessage ? FIELDS.message : 0) |
      (key === undefined ? 0 : FIELDS.stateKey) |
      (isOther ? FIELDS.other : 0),
  );
  if (hash === undefined || isOther) writer.item(id);
  else writer.blob(hash);
  writer.varint(zigzag(depth - (told.last?.depth ?? 0)));
  if (isOther) {
    writer.value(event);
    return;
  }
  writer.varint(zigzag(Number(ts) - told.referenceTs));
  if (!isUsualSender) writer.named(String(sender), 'user');
  if (!isMessage) writer.item(String(type));
  if (key !== undefined) writer.item(String(key));
  writer.value(content!);
}

/** With a signature that its reader knows to expect, and never gets. */
function withoutSignatures({ unsigned: _, ...pdu }: JsonObject): JsonObject {
  const server = String(pdu.sender).slice(String(pdu.sender).indexOf(':') + 1);
  return { ...pdu, signatures: { [server]: { [NO_KEY]: NO_SIGNATURE } } };
}
const NO_SIGNATURE = base64(new Uint8Array(SIGNATURE_BYTES));

function withoutEvents(part: JsonValue | undefined): JsonObject {
  if (part === undefined || !isJsonObject(part)) return {};
  const { events: _, ...rest } = part;
  return rest;
}

/** The shortest name of a room among those that are known. */
function nameOf(
  room: string,
  known: readonly string[],
  isKnown: boolean,
): { code: number; bytes: Uint8Array } {
  const others = known.filter((other) => other !== room);
  if (!isKnown) return { code: NAMED_BY.id, bytes: new Uint8Array(0) };
  if (others.length === 0) return { code: NAMED_BY.nothing, bytes: new Uint8Array(0) };
  for (const length of [1, 2] as const) {
    const bytes = roomHash(room).subarray(0, length);
    if (
      others.every((other) =>
        roomHash(other)
          .subarray(0, length)
          .some((byte, i) => byte !== bytes[i]),
      )
    )
      return { code: length, bytes };
  }
  return { code: NAMED_BY.id, bytes: new Uint8Array(0) };
}

function isSame(a: JsonValue, b: JsonValue): boolean {
  const [one, other] = [canonicalJson(a, 'any'), canonicalJson(b, 'any')];
  return one.ok && other.ok && one.value === other.value;
}

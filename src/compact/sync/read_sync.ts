import { base64url } from '../../base/bytes.ts';
import { bad, ok, type Result } from '../../base/result.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import { roomVersion } from '../../matrix/room_version.ts';
import { setOwn } from '../cbor.ts';
import { contentOfText, MESSAGE_TYPE } from '../pdu/layout.ts';
import { readInnerPdu, understandPdu } from '../pdu/restore.ts';
import { idOf } from '../pdu/rules.ts';
import { HASH_BYTES } from '../text_forms.ts';
import { unzigzag } from '../times.ts';
import type { CompactReader } from '../value_reader.ts';
import {
  COUNTED,
  DATED,
  FIELDS,
  FRESH,
  formatPosition,
  GENERAL,
  KEYS,
  keyParts,
  LITERAL,
  MAX_COUNT,
  MAX_EVENTS,
  MEMBERSHIP,
  NAME_BITS,
  NAMED_BY,
  ONE,
  parsePosition,
  SHORT_TEXT,
  SHORT_TIME_BIAS_MS,
  SINGLE,
  SINGLE_COUNTED,
  SINGLE_END,
  SINGLE_LITERAL,
  SINGLE_NAME_SHIFT,
  SINGLE_RISE,
  SORTED,
  shownEvent,
  TOLD_ORDER,
  UNSIGNED,
  USUAL,
  USUAL_TOP,
  usualRest,
} from './sync_layout.ts';
import { byPlace, roomHash, usualMembership } from './sync_rules.ts';
import { ToldRoom, toldEvent } from './told_room.ts';

/** What a client has of its rooms. */
export interface ToldRooms {
  get(room: string): ToldRoom | undefined;
  /** The rooms that it knows. */
  ids(): Iterable<string>;
}

export interface ReadSync {
  /** As the server would have told it over HTTP, with ages to the second. */
  readonly body: JsonObject;
  /** What is known of the rooms behind it, by id: to be taken over once the body has been. */
  readonly rooms: ReadonlyMap<string, ToldRoom>;
}

/**
 * Reads what `writeSync` wrote. The problem is a sentence: the bytes are wrong, or what is known here is not what the server
 * takes it to be; then everything has to be asked for in its long form.
 * @param since the position behind which it goes on
 */
export function readSync(
  reader: CompactReader,
  since: string | undefined,
  known: ToldRooms,
): Result<ReadSync> {
  try {
    return ok(new SyncReader(reader, since, known).read());
  } catch (error) {
    if (error instanceof Unreadable) return bad(error.message);
    throw error;
  }
}

const SECOND_MS = 1_000;

/** Leaves the nested reading at once; never leaves this file. */
class Unreadable extends Error {}

class SyncReader {
  readonly #reader: CompactReader;
  readonly #since: number | undefined;
  readonly #known: ToldRooms;
  readonly #rooms = new Map<string, ToldRoom>();
  /** Unix time from which ages count; undefined before the first event, which is `#firstAge` seconds old. */
  #now: number | undefined;
  #firstAge = 0;
  #areAllYoung = false;

  constructor(reader: CompactReader, since: string | undefined, known: ToldRooms) {
    this.#reader = reader;
    this.#since = parsePosition(since);
    this.#known = known;
  }

  read(): ReadSync {
    const first = this.#byte();
    const keys = first === KEYS ? keyParts(this.#count(Number.MAX_SAFE_INTEGER)) : {};
    const head = first === KEYS ? this.#byte() : first;
    const isSingle = head >= SINGLE && head < SINGLE_END;
    const { next, top } =
      head < SINGLE_END ? this.#usualHead(isSingle ? head & SINGLE_RISE : head) : this.#generalHead(head);
    const join: JsonObject = {};
    while (!this.#reader.atEnd) {
      const { room, section } = isSingle
        ? this.#single((head >> SINGLE_NAME_SHIFT) & NAME_BITS, head >= SINGLE_COUNTED)
        : this.#room(this.#byte(), 0);
      if (Object.hasOwn(join, room)) throw new Unreadable('a room comes twice');
      setOwn(join, room, section);
    }
    const { rooms: kinds = {}, ...others } = top;
    return {
      body: { next_batch: next, ...others, ...keys, rooms: { join, ...(kinds as JsonObject) } },
      rooms: this.#rooms,
    };
  }

  #usualHead(rise: number): { next: string; top: JsonObject } {
    if (this.#since === undefined) throw new Unreadable('a rise of no position');
    this.#areAllYoung = true;
    return { next: formatPosition(this.#since + rise), top: structuredClone(USUAL_TOP) };
  }

  #generalHead(head: number): { next: string; top: JsonObject } {
    if (head === DATED) {
      const dated = this.#usualHead(this.#count(Number.MAX_SAFE_INTEGER));
      this.#areAllYoung = false;
      this.#firstAge = this.#count(Number.MAX_SAFE_INTEGER);
      return dated;
    }
    if (head !== GENERAL) throw new Unreadable('an unknown form');
    const next = this.#item();
    const now = this.#value();
    const top = this.#value();
    if (typeof now !== 'number' || !isJsonObject(top) || !isJsonObject(own(top, 'rooms') ?? null))
      throw new Unreadable('the head is wrong');
    this.#now = now;
    return { next, top };
  }

  #single(name: number, isCounted: boolean): { room: string; section: JsonObject } {
    const isLiteral = name === SINGLE_LITERAL;
    const counted = isCounted ? COUNTED : 0;
    return this.#room((isLiteral ? NAMED_BY.nothing : name) | USUAL | ONE | counted, isLiteral ? LITERAL : 0);
  }

  /** @param oneFlags the byte of the event that has none */
  #room(head: number, oneFlags: number): { room: string; section: JsonObject } {
    const room = this.#roomName(head & NAME_BITS);
    const isFresh = (head & FRESH) !== 0;
    const before = isFresh ? undefined : this.#known.get(room);
    const version = isFresh ? roomVersion(this.#item()) : before?.version;
    if (version === undefined) throw new Unreadable('a room that is not known');
    const told = new ToldRoom({ version, room, ...(before && { before }) });
    this.#rooms.set(room, told);

    if ((head & COUNTED) !== 0 && (head & USUAL) === 0) throw new Unreadable('counts beside a whole section');
    const unread = (head & COUNTED) === 0 ? {} : { unread_notifications: this.#unread() };
    const rest = (head & USUAL) === 0 ? this.#value() : { ...usualRest(this.#since ?? 0), ...unread };
    const isOne = (head & ONE) !== 0;
    if (!isJsonObject(rest)) throw new Unreadable('a section is an object');
    const counts = isOne ? [0, 1] : [this.#count(), this.#count()];
    const order = counts[0]! > 0 ? this.#order(counts[0]!) : [];
    const chain = Array.from({ length: counts[0]! }, () => this.#event(told, 'state', this.#byte()));
    const state = order === undefined ? [...chain].sort(byPlace) : order.map((at) => chain[at]!);
    const timeline = Array.from({ length: counts[1]! }, () =>
      this.#event(told, 'timeline', isOne ? oneFlags : this.#byte()),
    );
    const section: JsonObject = { ...rest };
    const key = Object.hasOwn(rest, 'state_after') ? 'state_after' : 'state';
    setOwn(section, key, { events: state });
    setOwn(section, 'timeline', { events: timeline, ...objectAt(rest, 'timeline') });
    return { room, section };
  }

  #unread(): JsonObject {
    const unread = this.#count(2 * MAX_COUNT + 1);
    const highlights = unread % 2 === 0 ? 0 : this.#count(MAX_COUNT);
    return { highlight_count: highlights, notification_count: Math.floor(unread / 2) };
  }

  #roomName(code: number): string {
    if (code === NAMED_BY.id) return this.#item();
    const bytes = code === NAMED_BY.nothing ? new Uint8Array(0) : this.#take(code);
    const fitting = [...this.#known.ids()].filter((room) =>
      bytes.every((byte, i) => roomHash(room)[i] === byte),
    );
    if (fitting.length !== 1) throw new Unreadable('a name of no room, or of several');
    return fitting[0]!;
  }

  /** At which place of the chain each event of the state stands; undefined: they are sorted. */
  #order(count: number): number[] | undefined {
    const kind = this.#byte();
    if (kind === SORTED) return undefined;
    if (kind !== TOLD_ORDER) throw new Unreadable('an unknown order');
    const places = Array.from({ length: count }, () => this.#count());
    const order = places.map((_, place) => places.indexOf(place));
    if (order.includes(-1)) throw new Unreadable('an order that is none');
    return order;
  }

  #event(told: ToldRoom, part: 'state' | 'timeline', flags: number): JsonObject {
    const membership = flags & MEMBERSHIP ? this.#value() : (usualMembership(part) ?? null);
    const others = flags & UNSIGNED ? this.#value() : {};
    if (!isJsonObject(others)) throw new Unreadable('unsigned is an object');
    const shown = flags & LITERAL ? this.#literal(told) : this.#computed(told);
    const ts = Number(shown.origin_server_ts);
    this.#now ??= ts + this.#firstAge * SECOND_MS;
    const seconds = Math.floor((this.#now - ts) / SECOND_MS);
    const age = this.#areAllYoung ? 0 : Math.max(0, seconds * SECOND_MS);
    return { ...shown, unsigned: { age, ...others, ...(membership === null ? {} : { membership }) } };
  }

  #computed(told: ToldRoom): JsonObject {
    const { version } = told;
    const read = readInnerPdu(this.#reader, version, false);
    const restored = read.ok ? understandPdu(read.value, told) : read;
    if (!restored.ok || restored.value.isWhole) throw new Unreadable('an event cannot be computed');
    const { pdu } = restored.value;
    const id = idOf(pdu, version);
    told.add(toldEvent(id, pdu));
    return shownEvent(id, pdu);
  }

  #literal(told: ToldRoom): JsonObject {
    const fields = this.#byte();
    if ((fields & SHORT_TEXT) !== 0) return this.#shortText(fields, told);
    const isOther = (fields & FIELDS.other) !== 0;
    const id = isOther ? this.#item() : `$${base64url(this.#there(this.#reader.blob(HASH_BYTES)))}`;
    const depth = (told.last?.depth ?? 0) + unzigzag(this.#count(Number.MAX_SAFE_INTEGER));
    const event = isOther ? this.#value() : this.#fields(fields, told);
    if (
      !isJsonObject(event) ||
      typeof own(event, 'sender') !== 'string' ||
      typeof own(event, 'type') !== 'string'
    )
      throw new Unreadable('an event is an object');
    const key = own(event, 'state_key');
    if (typeof own(event, 'origin_server_ts') !== 'number' || (key !== undefined && typeof key !== 'string'))
      throw new Unreadable('an event has a time');
    told.add(toldEvent(id, { ...event, depth }));
    return isOther ? { event_id: id, ...event } : shownEvent(id, event);
  }

  #shortText(fields: number, told: ToldRoom): JsonObject {
    const { last } = told;
    if (last === undefined) throw new Unreadable('no event in front');
    const id = `$${base64url(this.#there(this.#reader.blob(HASH_BYTES)))}`;
    const low = this.#there(this.#reader.blob(2));
    const short = ((fields & 0x0f) << 16) | (low[0]! << 8) | low[1]!;
    const event = {
      ...{ type: MESSAGE_TYPE, sender: last.sender, content: contentOfText(this.#item()) },
      origin_server_ts: last.originServerTs + short - SHORT_TIME_BIAS_MS,
    };
    told.add(toldEvent(id, { ...event, depth: last.depth + 1 }));
    return shownEvent(id, event);
  }

  #fields(fields: number, told: ToldRoom): JsonObject {
    const ts = told.referenceTs + unzigzag(this.#count(Number.MAX_SAFE_INTEGER));
    const usual = (fields & FIELDS.usualSender) !== 0;
    const sender = this.#there(usual ? told.usualSender : this.#reader.named('user'));
    const type = (fields & FIELDS.message) !== 0 ? MESSAGE_TYPE : this.#item();
    const key = (fields & FIELDS.stateKey) !== 0 ? { state_key: this.#item() } : {};
    return { type, sender, origin_server_ts: ts, ...key, content: this.#value() };
  }

  #byte(): number {
    return this.#take(1)[0]!;
  }

  #take(count: number): Uint8Array {
    return this.#there(this.#reader.take(count));
  }

  #item(): string {
    return this.#there(this.#reader.item());
  }

  #value(): JsonValue {
    return this.#there(this.#reader.value());
  }

  #count(most = MAX_EVENTS): number {
    const count = this.#there(this.#reader.varint());
    if (count > most) throw new Unreadable('a number is too large');
    return count;
  }

  #there<T>(value: T | undefined): T {
    if (value === undefined) throw new Unreadable('the bytes are wrong');
    return value;
  }
}

function objectAt(object: JsonObject, key: string): JsonObject {
  const value = own(object, key);
  return value !== undefined && isJsonObject(value) ? value : {};
}

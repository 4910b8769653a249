import { isJsonObject, type JsonObject, own } from '../../matrix/json.ts';

// An answer of /sync (docs/protocol.md, "Answers of /sync"):
//
//   head       1 byte: below SINGLE by how much the position rises from `since`, and there is nothing but joined rooms with
//              events of this second; SINGLE: the same in the low three bits, and one room follows whose byte would be USUAL and
//              ONE, with how it is named in bits 3 and 4; SINGLE_COUNTED: the same with COUNTED; DATED: the rise as a varint, and the age of the first event in
//              seconds as a varint; GENERAL: the position as an item, a time, and everything but joined rooms as a value
//              KEYS in front of it: what is left of the device's keys, as a varint: twice how many one-time keys of
//              signed_curve25519 there are, and one more where its fallback key is unused
//   rooms      to the end
//
//   room       1 byte: how it is named, USUAL, ONE, FRESH, COUNTED
//   name       nothing, 1 or 2 bytes of the SHA-256 of its id, or its id
//   version    an item, with FRESH
//   counts     with COUNTED: twice what is unread, and one more where some of it is highlighted; then how much of it is
//   rest       a value: the section without its events, unless USUAL
//   numbers    of events of the state and of the timeline, unless ONE; where there is state: SORTED, or the order
//   events     the state's, then the timeline's
//
//   event      1 byte: LITERAL, MEMBERSHIP, UNSIGNED; not with ONE
//   membership an item; unsigned: a value
//   pdu        as between servers; or with LITERAL:
//   id         32 bytes; or an item, with OTHER
//   fields     1 byte: USUAL_SENDER, MESSAGE, STATE_KEY, OTHER; or SHORT_TEXT and four bits of the time, where two bytes
//              of the time follow on the id, then the text as an item: the usual sender's, one deeper than the last event
//   depth, time  differences to the last event's, as signed varints
//   sender, type, state key   items, unless told by the byte
//   content    a value; with OTHER the event without its id

export const SINGLE = 0x20;
export const SINGLE_COUNTED = 0x40;
export const SINGLE_END = 0x60;
export const SINGLE_RISE = 0x07;
export const SINGLE_NAME_SHIFT = 3;
export const GENERAL = 0x80;
export const DATED = 0x81;
export const KEYS = 0x82;
/** Of the room's byte. */
export const NAME_BITS = 0x03;
export const NAMED_BY = { nothing: 0, one: 1, two: 2, id: 3 } as const;
/** In the head, of the only room that was ever told of, where the one event's byte would be LITERAL. */
export const SINGLE_LITERAL = NAMED_BY.id;
/** The section has nothing but new events, and its timeline begins where the last one has ended. */
export const USUAL = 0x04;
/** One event, of the timeline, whose byte would be 0 and is left out, as the numbers are. */
export const ONE = 0x08;
/** Nothing that was told of the room before counts. */
export const FRESH = 0x10;
/** The section is USUAL but for how much is unread, which is told. */
export const COUNTED = 0x20;
/** How the events of the state stand: by type and state key, or each at the place that is told. */
export const SORTED = 0;
export const TOLD_ORDER = 1;
/** Of the event's byte. */
export const LITERAL = 1;
export const MEMBERSHIP = 2;
export const UNSIGNED = 4;
/** Of a literal event. */
export const FIELDS = { usualSender: 1, message: 2, stateKey: 4, other: 8 } as const;
export const SHORT_TEXT = 0x20;
/** The time of a short text: what is added to the difference to the last event's, and below what the sum has to be. */
export const SHORT_TIME_BIAS_MS = 1 << 16;
export const SHORT_TIME_END = 1 << 20;

/** Bounds of the reader. */
export const MAX_EVENTS = 1 << 16;
/** Of what is unread; more is told in the rest. */
export const MAX_COUNT = 1 << 24;

/** A position of /sync. */
export const formatPosition = (position: number): string => `s1_${position}`;
export function parsePosition(token: string | undefined): number | undefined {
  const digits = /^s1_(\d{1,15})$/.exec(token ?? '')?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** The parts of a room's section in which events stand. */
export const STATE_KEYS = ['state', 'state_after'] as const;

export const NOTHING_UNREAD: JsonObject = { highlight_count: 0, notification_count: 0 };

/** A section in which nothing but the timeline's events is new, without them. */
export const usualRest = (since: number): JsonObject => ({
  state: {},
  timeline: { limited: false, prev_batch: formatPosition(since) },
  ephemeral: { events: [] },
  account_data: { events: [] },
  unread_notifications: NOTHING_UNREAD,
});

const COUNTS = 'device_one_time_keys_count';
const UNUSED = 'device_unused_fallback_key_types';
const ONE_TIME_KEYS = 'signed_curve25519';

/** Everything but rooms and the position, where there is nothing to tell. */
export const USUAL_TOP: JsonObject = {
  rooms: { invite: {}, knock: {}, leave: {} },
  account_data: { events: [] },
  presence: { events: [] },
  to_device: { events: [] },
  device_lists: { changed: [], left: [] },
  device_one_time_keys_count: { [ONE_TIME_KEYS]: 0 },
  device_unused_fallback_key_types: [],
};

/** The keys of a device in the parts of an answer that count them; undefined where they are of other algorithms. */
export function keysIn(body: JsonObject): number | undefined {
  const [counts, unused] = [own(body, COUNTS), own(body, UNUSED)];
  if (counts === undefined || !isJsonObject(counts) || !Array.isArray(unused)) return undefined;
  const count = own(counts, ONE_TIME_KEYS);
  const isUnused = unused.length === 1 && unused[0] === ONE_TIME_KEYS;
  if (Object.keys(counts).length !== 1 || typeof count !== 'number' || !Number.isSafeInteger(count * 2 + 1))
    return undefined;
  return count >= 0 && (isUnused || unused.length === 0) ? count * 2 + (isUnused ? 1 : 0) : undefined;
}

/** The inverse. */
export const keyParts = (keys: number): JsonObject => ({
  [COUNTS]: { [ONE_TIME_KEYS]: Math.floor(keys / 2) },
  [UNUSED]: keys % 2 === 1 ? [ONE_TIME_KEYS] : [],
});

/** The events in a part of a section. */
export function eventsIn(section: JsonObject, part: string): readonly JsonObject[] {
  const within = own(section, part);
  const events = within !== undefined && isJsonObject(within) ? own(within, 'events') : undefined;
  return Array.isArray(events) ? events.filter(isJsonObject) : [];
}

/** What the client gets of a PDU, but for `unsigned` (client-server API, "Room event format"). */
export function shownEvent(id: string, pdu: JsonObject): JsonObject {
  const { type, sender, origin_server_ts, content, state_key } = pdu;
  const shown: JsonObject = {
    event_id: id,
    type: type!,
    sender: sender!,
    origin_server_ts: origin_server_ts!,
    content: content!,
  };
  if (state_key !== undefined) shown.state_key = state_key;
  const redacts = type === 'm.room.redaction' && isJsonObject(content) ? own(content, 'redacts') : undefined;
  if (redacts !== undefined) shown.redacts = redacts;
  return shown;
}

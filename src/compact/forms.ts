/**
 * What follows a head of major type 6 in a compact value: the head's argument is one of these numbers, always in one byte.
 * In RFC 8949 these would be tags; a compact value has none. "Item" is a text item, "number" a varint (`CompactWriter.varint`).
 */
export const FORM = {
  /** Ids of the older shape, sigil local:server (Matrix, appendices): item, server item. */
  user: 0,
  room: 1,
  alias: 2,
  oldEvent: 3,
  /** `$` and `!` before 32 bytes in URL-safe base64 (room versions 4 and 12): the bytes. */
  event: 4,
  hashRoom: 5,
  /** Unpadded base64 of 32 and of 64 bytes; of any other number it is a byte string. */
  hash: 6,
  signature: 7,
  /** Unpadded URL-safe base64: number of bytes, the bytes. */
  base64url: 8,
  /** `mxc://server/media`: server item, item. */
  mxc: 9,
  /** An integer near a time: the signed difference to the time before it in this value. */
  time: 10,
  /** A text that is a decimal number without leading zeros: the number. */
  decimal: 11,
  /** A text that UTF-8 cannot say (half a surrogate pair): number of UTF-16 units, the units in big-endian. */
  utf16: 12,
  /** A text with a beginning of PREFIXES: its index, item. */
  prefix: 13,
  /** The n-th text that this value has written in a form of REMEMBERED: n. */
  again: 14,
  /** A text that gets a handle: kind and slot (`handleNumber`), item. */
  introduce: 15,
  /** A text that has a handle: slot; one head for each of HANDLE_KINDS. */
  handle: 16,
  /**
   * `{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":...,"session_id":item}`: number of the ciphertext's bytes, the bytes, item;
   * or 0, item, and the bytes up to the end of the content.
   */
  megolm: 21,
  /** `m<milliseconds>.<n>`, a transaction id of common clients: difference as in `time`, n. */
  transaction: 22,
  /** `{"msgtype":"m.text","body":item}`. */
  message: 23,
} as const;

/** Forms whose texts can be named again by a number: long ones, which occur more than once. */
export const REMEMBERED: ReadonlySet<number> = new Set([
  FORM.user,
  FORM.room,
  FORM.alias,
  FORM.oldEvent,
  FORM.event,
  FORM.hashRoom,
  FORM.hash,
  FORM.mxc,
]);

/** What the form `megolm` says (client-server API, "m.room.encrypted"). */
export const MEGOLM = 'm.megolm.v1.aes-sha2';
export const MEGOLM_KEYS = ['algorithm', 'ciphertext', 'session_id'] as const;

/** What handles name. A room's handle 3 and a user's handle 3 are different handles. */
export const HANDLE_KINDS = ['room', 'user', 'event', 'server', 'device'] as const;
export type HandleKind = (typeof HANDLE_KINDS)[number];

/** Kind and slot in one number. */
export const handleNumber = (kind: HandleKind, slot: number): number =>
  slot * HANDLE_KINDS.length + HANDLE_KINDS.indexOf(kind);

export const kindOfHandleNumber = (number: number): HandleKind => HANDLE_KINDS[number % HANDLE_KINDS.length]!;
export const slotOfHandleNumber = (number: number): number => Math.floor(number / HANDLE_KINDS.length);

/** Bounds, the same for every peer: a writer keeps them, a reader refuses what is beyond. */
export const MAX_REMEMBERED = 1 << 14;
/** Longer texts are not remembered, in UTF-16 units. */
export const MAX_REMEMBERED_LENGTH = 512;
/** Characters that names for texts may stand for in one value. */
export const MAX_EXPANDED_LENGTH = 1 << 24;
export const MAX_SERVERS = 1 << 10;
/** How deeply texts are put together from texts. */
export const MAX_TEXT_DEPTH = 5;

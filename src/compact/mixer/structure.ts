import { FORM, HANDLE_KINDS } from '../forms.ts';
import {
  EXTENDED,
  SIGNATURE_LIST,
  STATE_KEY,
  STATE_KEY_NAMED,
  TELLS_DAG,
  TEXT as TEXT_EVENT,
  USUAL_SENDER,
  WHOLE_JSON,
  WHOLE_VALUE,
} from '../pdu/layout.ts';
import { ROUTES } from '../routes.ts';

// The numbers of RFC 8949, section 3.
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
const TAG = 6;
const ONE_BYTE_ARGUMENT = 24;
const EIGHT_BYTE_ARGUMENT = 27;

// Ours.
/** Arrays and maps inside each other that are followed; what is deeper counts as single items. */
const MAX_DEPTH = 16;
/** Longer strings and arrays than a message can hold are no strings and arrays. */
const MAX_ITEMS = 4096;

/** What the next byte is: where an item begins, a byte of the item's argument, a byte of a text. */
export type Place = 'head' | 'argument' | 'text';

// Of compact requests and answers (docs/protocol.md, "Compact contents" and "Events").
/** What a form has written follows, up to the end. */
const FORMED_BODY = 0xfe;
/** In front of a transaction's events: their signatures are short. */
const SHORT_SIGNATURES = 0xf6;
/** The route whose form begins with rooms and events. */
const SEND_ROUTE = ROUTES.find(
  ({ method, segments }) => method === 'PUT' && segments[2] === 'federation' && segments[4] === 'send',
)!.number;
/** Of an event's extension: parts that are not followed. */
const TELLS_MORE = TELLS_DAG | SIGNATURE_LIST;

/** What an item outside of all others is: a transaction's head, or part of an event in it. */
const PARTS_OF_ROOT = [
  'any',
  ...(['transaction', 'room', 'header', 'extension', 'sender', 'type', 'state key', 'content'] as const),
] as const;
type Part = (typeof PARTS_OF_ROOT)[number];

/** Of a form: numbers of seven bits a byte, and items, that follow its head. Its bytes, if any, are not in the message. */
interface Parts {
  readonly varints: number;
  readonly items: number;
}
const NO_PARTS: Parts = { varints: 0, items: 0 };
const PARTS: ReadonlyMap<number, Parts> = new Map([
  [FORM.user, { varints: 0, items: 2 }],
  [FORM.room, { varints: 0, items: 2 }],
  [FORM.alias, { varints: 0, items: 2 }],
  [FORM.oldEvent, { varints: 0, items: 2 }],
  [FORM.base64url, { varints: 1, items: 0 }],
  [FORM.mxc, { varints: 0, items: 2 }],
  [FORM.time, { varints: 1, items: 0 }],
  [FORM.decimal, { varints: 1, items: 0 }],
  [FORM.prefix, { varints: 1, items: 1 }],
  [FORM.again, { varints: 1, items: 0 }],
  [FORM.introduce, { varints: 1, items: 1 }],
  ...HANDLE_KINDS.map((_, kind) => [FORM.handle + kind, { varints: 1, items: 0 }] as const),
  [FORM.transaction, { varints: 2, items: 0 }],
  [FORM.message, { varints: 0, items: 1 }],
  [FORM.megolm, { varints: 1, items: 1 }],
]);

/**
 * Follows a compact content (`compact/value.ts`; a sequence of values without their blobs) byte by byte, so that a byte can
 * be predicted from where it stands. It takes any bytes: what is no such content counts as items of one byte.
 */
export class Structure {
  place: Place = 'head';
  /** Bytes of the text that are still to come; 0 elsewhere. */
  remaining = 0;
  depth = 0;
  /** The argument of the item so far, and how many bytes of it are to come; 0 where it is a varint. */
  #argument = 0;
  #argumentLeft = 0;
  /** Varints and items of the form that are still to come. */
  #varintsLeft = 0;
  #itemsAfter = 0;
  #major = 0;
  readonly #itemsLeft = new Int32Array(MAX_DEPTH);
  readonly #isMap = new Uint8Array(MAX_DEPTH);
  readonly #key = new Int32Array(MAX_DEPTH + 1);
  /** A hash of the item that is being read. */
  #item = 0;
  #route = -1;
  /** What the item outside of all others is that comes next or is being read. */
  #part: Part = 'any';
  /** Header and extension of the event. */
  #header = 0;
  #extension = 0;
  /** Events of a transaction that are still to come after this one, and whether EDUs follow on the last. */
  #eventsAfter = 0;
  #hasEdus = false;
  /** Whether what follows up to the end of the message is one text without a head. */
  toEnd = false;

  reset(): void {
    this.place = 'head';
    this.remaining = 0;
    this.depth = 0;
    this.#key[0] = 0;
    this.#item = 0;
    this.#route = -1;
    this.#part = 'any';
    this.toEnd = false;
  }

  /** Whether a message may end here: no item is open, and none has to follow. */
  get complete(): boolean {
    return this.toEnd || (this.place === 'head' && this.depth === 0 && this.#part === 'any');
  }

  /** A hash of the key whose value is being read; outside maps, of the route and the item's place after it. */
  get key(): number {
    return this.#key[this.depth]!;
  }

  /** Whether the item being read is a key of a map. */
  get isKey(): boolean {
    const top = this.depth - 1;
    return top >= 0 && this.#isMap[top] === 1 && (this.#itemsLeft[top]! & 1) === 0;
  }

  /** Takes the first byte of a request: the number of its route. */
  route(number: number): void {
    this.#route = number;
    this.#key[0] = Math.imul(number + 1, 0x2c1b_3c6d);
  }

  advance(byte: number): void {
    if (this.toEnd) return;
    this.#item = Math.imul(this.#item ^ byte, 0x2c1b_3c6d) + 1;
    if (this.place === 'head' && this.depth === 0 && this.#partByte(byte)) return;
    if (this.place === 'head') this.#head(byte);
    else if (this.place === 'argument') this.#argumentByte(byte);
    else if (--this.remaining === 0) this.#itemDone();
  }

  #head(byte: number): void {
    const size = byte & 0x1f;
    this.#major = byte >> 5;
    this.#argument = size;
    if (this.#major === TAG && size < ONE_BYTE_ARGUMENT) {
      const { varints, items } = PARTS.get(size) ?? NO_PARTS;
      this.#argumentLeft = 0;
      this.#varintsLeft = varints;
      this.#itemsAfter = items;
      this.#formGoesOn();
    } else if (size < ONE_BYTE_ARGUMENT || size > EIGHT_BYTE_ARGUMENT) {
      this.#headDone(size < ONE_BYTE_ARGUMENT);
    } else {
      this.place = 'argument';
      this.#argument = 0;
      this.#argumentLeft = 1 << (size - ONE_BYTE_ARGUMENT);
    }
  }

  #argumentByte(byte: number): void {
    if (this.#argumentLeft === 0) {
      if (byte < 0x80) {
        this.#varintsLeft--;
        this.#formGoesOn();
      }
      return;
    }
    this.#argument = this.#argument > MAX_ITEMS ? this.#argument : this.#argument * 256 + byte;
    if (--this.#argumentLeft === 0) this.#headDone(this.#argument <= MAX_ITEMS);
  }

  /** What of a form follows next: a varint, or its items, or the next item. */
  #formGoesOn(): void {
    if (this.#varintsLeft > 0) this.place = 'argument';
    else {
      this.place = 'head';
      this.#open(this.#itemsAfter, 0);
    }
  }

  /** The head of an item is complete: what follows is its text, the items in it, or the next item. */
  #headDone(sane: boolean): void {
    const count = sane ? this.#argument : 0;
    this.place = 'head';
    if (this.#major === TEXT && count > 0) {
      this.place = 'text';
      this.remaining = count;
    } else if (this.#major === MAP) this.#open(2 * count, 1);
    else this.#open(this.#major === ARRAY ? count : 0, 0);
  }

  /** The item has so many items in it; none: it is complete. */
  #open(items: number, isMap: 0 | 1): void {
    if (items === 0 || this.depth === MAX_DEPTH) {
      this.#itemDone();
      return;
    }
    this.#itemsLeft[this.depth] = items;
    this.#isMap[this.depth] = isMap;
    this.depth++;
    this.#key[this.depth] = this.#key[this.depth - 1]!;
    this.#item = 0;
  }

  #itemDone(): void {
    this.place = 'head';
    this.remaining = 0;
    while (this.depth > 0) {
      const top = this.depth - 1;
      if (this.isKey) this.#key[this.depth] = this.#item;
      this.#item = 0;
      if (--this.#itemsLeft[top]! > 0) return;
      this.depth--;
    }
    this.#key[0]!++;
    this.#item = 0;
    this.#partDone();
  }

  /** Takes a byte that is no head of an item; false where it is one. */
  #partByte(byte: number): boolean {
    const part = this.#part;
    if (part === 'any') {
      if (byte !== FORMED_BODY) return false;
      if (this.#route !== SEND_ROUTE) this.#restIsText();
      else this.#next('transaction');
    } else if (part === 'transaction') {
      if (byte === SHORT_SIGNATURES) return true;
      const major = byte >> 5;
      this.#hasEdus = major === MAP;
      this.#eventsAfter = 0;
      if (major !== ARRAY && major !== MAP) {
        this.#part = 'room';
        return false;
      }
      if ((byte & 0x1f) >= ONE_BYTE_ARGUMENT) this.#restIsText();
      else {
        this.#eventsAfter = byte & 0x1f;
        this.#eventDone();
      }
    } else if (part === 'header') {
      this.#header = byte;
      this.#extension = 0;
      if (byte === WHOLE_VALUE) this.#next('content');
      else if (byte === WHOLE_JSON) this.#restIsText();
      else if (byte & EXTENDED) this.#next('extension');
      else this.#afterHeader();
    } else if (part === 'extension') {
      this.#extension = byte;
      if (byte & TELLS_MORE) this.#restIsText();
      else this.#afterHeader();
    } else return false;
    return true;
  }

  #partDone(): void {
    const part = this.#part;
    if (part === 'room') this.#part = 'header';
    else if (part === 'sender') this.#afterSender();
    else if (part === 'type' && (this.#extension & STATE_KEY) === STATE_KEY_NAMED) this.#part = 'state key';
    else if (part === 'type' || part === 'state key') this.#part = 'content';
    else if (part === 'content') this.#eventDone();
  }

  #afterHeader(): void {
    if (this.#header & USUAL_SENDER) this.#afterSender();
    else this.#next('sender');
  }

  #afterSender(): void {
    if ((this.#header & TEXT_EVENT) === 0) this.#next('type');
    else if (this.#eventsAfter === 0 && !this.#hasEdus) this.#restIsText();
    else this.#next('content');
  }

  #eventDone(): void {
    if (this.#eventsAfter-- > 0) this.#next('room');
    else this.#next('any');
  }

  #next(part: Part): void {
    this.#part = part;
    this.#item = 0;
    this.#key[0] = Math.imul(this.#key[0]! + PARTS_OF_ROOT.indexOf(part), 0x2c1b_3c6d);
  }

  #restIsText(): void {
    this.place = 'text';
    this.toEnd = true;
    this.#key[0] = 0;
  }
}

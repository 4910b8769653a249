import { base64, base64url } from '../base/bytes.ts';
import { type JsonObject, type JsonValue, type LooseNumber, numberFrom } from '../matrix/json.ts';
import { MAX_JSON_DEPTH, setOwn } from './cbor.ts';
import {
  ARRAY,
  BYTES,
  CborReader,
  LOOSE_NUMBER,
  MAP,
  NEGATIVE,
  SIMPLE,
  TAG,
  TEXT,
  UNSIGNED,
} from './cbor_bytes.ts';
import type { CompactContext, HandleProblem } from './context.ts';
import {
  FORM,
  HANDLE_KINDS,
  type HandleKind,
  kindOfHandleNumber,
  MAX_EXPANDED_LENGTH,
  MAX_REMEMBERED,
  MAX_REMEMBERED_LENGTH,
  MAX_SERVERS,
  MAX_TEXT_DEPTH,
  MEGOLM,
  REMEMBERED,
  slotOfHandleNumber,
} from './forms.ts';
import { ANY_TRANSACTION, HASH_BYTES, SIGNATURE_BYTES } from './text_forms.ts';
import { unzigzag } from './times.ts';
import { KEY_OF_CODE, PREFIXES, SHORT_TEXT_COUNT, TEXT_OF_SIMPLE } from './vocabulary.ts';

/** What a compact value can have wrong besides its parts. */
export type CompactReason =
  | 'too deep'
  | 'too large'
  | 'not a text'
  | 'unknown key'
  | 'unknown text'
  | 'unknown form'
  | 'unknown server'
  | 'unknown route'
  | 'duplicate key'
  | 'nothing to repeat'
  | 'handle out of bounds';

const SPLIT_SIGILS: Readonly<Record<number, string>> = {
  [FORM.user]: '@',
  [FORM.room]: '!',
  [FORM.alias]: '#',
  [FORM.oldEvent]: '$',
};

/** Reads what CompactWriter has written. A method that fails returns undefined and sets `problem`. */
export class CompactReader extends CborReader<CompactReason | HandleProblem> {
  readonly #context: CompactContext;
  readonly #remembered: string[] = [];
  readonly #servers: string[] = [];
  readonly #knownServers = new Set<string>();
  readonly #blobs: Uint8Array | undefined;
  #blobsRead = 0;
  #timeMs: number;
  /** Characters that may still come out of names for texts, so that few bytes cannot become a flood of them. */
  #mayExpand = MAX_EXPANDED_LENGTH;

  /**
   * @param blobs the bytes of hashes, keys and signatures, where they are not in their places among the others
   */
  constructor(bytes: Uint8Array, at: number, context: CompactContext, blobs?: Uint8Array) {
    super(bytes, at);
    this.#blobs = blobs;
    this.#context = context;
    this.#timeMs = context.now ?? 0;
    for (const server of context.servers ?? []) this.#addServer(server);
  }

  /** Whether everything has been read. */
  get atEnd(): boolean {
    return this.at === this.bytes.length && this.#blobsRead === (this.#blobs?.length ?? 0);
  }

  value(depth = 0): JsonValue | undefined {
    const head = this.bytes[this.at];
    if (head === undefined) return this.fail('truncated');
    switch (head >> 5) {
      case UNSIGNED:
        return this.argument();
      case NEGATIVE:
        return this.negative();
      case ARRAY:
        return depth === MAX_JSON_DEPTH ? this.fail('too deep') : this.#array(depth);
      case MAP:
        return depth === MAX_JSON_DEPTH ? this.fail('too deep') : this.#map(depth);
      case SIMPLE:
        return isTextHead(head) ? this.item() : this.#isLoose() ? this.#loose() : this.simple();
      case TAG:
        if ((head & 31) === FORM.time) return this.#time();
        if ((head & 31) === FORM.megolm)
          return depth === MAX_JSON_DEPTH ? this.fail('too deep') : this.#megolm();
        if ((head & 31) === FORM.message)
          return depth === MAX_JSON_DEPTH ? this.fail('too deep') : this.#message();
        return this.item();
      default:
        return this.item();
    }
  }

  /** A text in any form. */
  item(nested = 0): string | undefined {
    const head = this.bytes[this.at];
    if (head === undefined) return this.fail('truncated');
    if (nested >= MAX_TEXT_DEPTH) return this.fail('too deep');
    switch (head >> 5) {
      case TEXT:
        return this.text();
      case BYTES: {
        return this.#bytesText(this.argument(), base64);
      }
      case SIMPLE:
        return isTextHead(head) ? this.#simpleText(head) : this.fail('not a text');
      case TAG:
        return this.#form(head & 31, nested);
      default:
        return this.fail('not a text');
    }
  }

  /** A text, or the slot of a handle. */
  named(kind: HandleKind): string | undefined {
    if (!this.#isUnsigned()) return this.item();
    const slot = this.argument();
    return slot === undefined ? undefined : this.#handle(kind, slot);
  }

  /** A text, or the number that its digits are. */
  digits(): string | undefined {
    return this.#isUnsigned() ? this.argument()?.toString() : this.item();
  }

  /** See `CompactWriter.transaction`. */
  transaction(): string | undefined {
    if (!this.#isUnsigned()) return this.item();
    const number = this.argument();
    if (number === undefined) return undefined;
    return number === 0 ? ANY_TRANSACTION : (number - 1).toString();
  }

  /** A server name, or its place among those of this value. */
  server(nested = 0): string | undefined {
    if (this.#isUnsigned()) {
      const index = this.argument();
      if (index === undefined) return undefined;
      const known = this.#servers[index];
      return known === undefined ? this.fail('unknown server') : this.#expanded(known);
    }
    const server = this.item(nested);
    if (server !== undefined) this.#addServer(server);
    return server;
  }

  varint(): number | undefined {
    let number = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const byte = this.bytes[this.at++];
      if (byte === undefined) return this.fail('truncated');
      number += (byte & 0x7f) * factor;
      if (!Number.isSafeInteger(number)) return this.fail('number out of range');
      if (byte < 0x80) return number;
      if (factor > Number.MAX_SAFE_INTEGER) return this.fail('number out of range');
    }
  }

  /** Bytes that look like chance: from among them, where they stand apart. */
  blob(length: number): Uint8Array | undefined {
    if (this.#blobs === undefined) return this.take(length);
    const start = this.#blobsRead;
    if (length > this.#blobs.length - start) return this.fail('truncated');
    this.#blobsRead += length;
    return this.#blobs.subarray(start, this.#blobsRead);
  }

  #isLoose(): boolean {
    return LOOSE_NUMBER.every((byte, i) => this.bytes[this.at + i] === byte);
  }

  #loose(): number | LooseNumber | undefined {
    this.at += LOOSE_NUMBER.length;
    const head = this.bytes[this.at];
    const text = head !== undefined && head >> 5 === TEXT ? this.text() : this.fail('not a text');
    if (text === undefined) return undefined;
    return (JSON_NUMBER.test(text) ? numberFrom(text) : undefined) ?? this.fail('number out of range');
  }

  #restAsBlob(): Uint8Array | undefined {
    const length = (this.#blobs?.length ?? this.bytes.length) - (this.#blobs ? this.#blobsRead : this.at);
    return length === 0 ? this.fail('truncated') : this.blob(length);
  }

  #isUnsigned(): boolean {
    const head = this.bytes[this.at];
    return head !== undefined && head >> 5 === UNSIGNED;
  }

  #array(depth: number): JsonValue[] | undefined {
    const count = this.argument();
    if (count === undefined) return undefined;
    const items: JsonValue[] = [];
    while (items.length < count) {
      const item = this.value(depth + 1);
      if (item === undefined) return undefined;
      items.push(item);
    }
    return items;
  }

  #map(depth: number): JsonObject | undefined {
    const count = this.argument();
    if (count === undefined) return undefined;
    const map: JsonObject = {};
    for (let read = 0; read < count; read++) {
      const key = this.#key();
      if (key === undefined) return undefined;
      if (Object.hasOwn(map, key)) return this.fail('duplicate key');
      const value = this.value(depth + 1);
      if (value === undefined) return undefined;
      setOwn(map, key, value);
    }
    return map;
  }

  #key(): string | undefined {
    const head = this.bytes[this.at];
    if (head === undefined || head >> 5 > NEGATIVE) return this.item();
    const code = head >> 5 === UNSIGNED ? this.argument() : this.negative();
    if (code === undefined) return undefined;
    return KEY_OF_CODE.get(code) ?? this.fail('unknown key');
  }

  #message(): JsonObject | undefined {
    this.at++;
    const body = this.item();
    return body === undefined ? undefined : { msgtype: 'm.text', body };
  }

  #megolm(): JsonObject | undefined {
    this.at++;
    const length = this.varint();
    if (length === undefined) return undefined;
    const before = length === 0 ? undefined : this.blob(length);
    const session = length > 0 && before === undefined ? undefined : this.named('device');
    const ciphertext = session === undefined ? undefined : (before ?? this.#restAsBlob());
    if (ciphertext === undefined || session === undefined) return undefined;
    return { algorithm: MEGOLM, ciphertext: base64(ciphertext), session_id: session };
  }

  #time(): number | undefined {
    this.at++;
    const difference = this.varint();
    if (difference === undefined) return undefined;
    const time = this.#timeMs + unzigzag(difference);
    if (!Number.isSafeInteger(time)) return this.fail('number out of range');
    this.#timeMs = time;
    return time;
  }

  #simpleText(head: number): string | undefined {
    this.at++;
    if (head === LONG_SIMPLE && this.at === this.bytes.length) return this.fail('truncated');
    const number = head === LONG_SIMPLE ? this.bytes[this.at++]! : head & 31;
    // Below 32 the longer head says nothing (RFC 8949, section 3.3).
    const text = head === LONG_SIMPLE && number < 32 ? undefined : TEXT_OF_SIMPLE.get(number);
    return text ?? this.fail('unknown text');
  }

  #form(form: number, nested: number): string | undefined {
    this.at++;
    const text = this.#formText(form, nested);
    if (text !== undefined && REMEMBERED.has(form)) this.#remember(text);
    return text;
  }

  #formText(form: number, nested: number): string | undefined {
    switch (form) {
      case FORM.user:
      case FORM.room:
      case FORM.alias:
      case FORM.oldEvent: {
        const local = this.item(nested + 1);
        const server = local === undefined ? undefined : this.server(nested + 1);
        return server === undefined ? undefined : `${SPLIT_SIGILS[form]}${local}:${server}`;
      }
      case FORM.mxc: {
        const server = this.server(nested + 1);
        const media = server === undefined ? undefined : this.item(nested + 1);
        return media === undefined ? undefined : `mxc://${server}/${media}`;
      }
      case FORM.event:
        return this.#bytesText(HASH_BYTES, (bytes) => `$${base64url(bytes)}`);
      case FORM.hashRoom:
        return this.#bytesText(HASH_BYTES, (bytes) => `!${base64url(bytes)}`);
      case FORM.hash:
        return this.#bytesText(HASH_BYTES, base64);
      case FORM.signature:
        return this.#bytesText(SIGNATURE_BYTES, base64);
      case FORM.base64url:
        return this.#bytesText(this.varint(), base64url);
      case FORM.utf16:
        return this.#utf16();
      case FORM.decimal:
        return this.varint()?.toString();
      case FORM.transaction:
        return this.#transaction();
      default:
        return this.#otherForm(form, nested);
    }
  }

  #otherForm(form: number, nested: number): string | undefined {
    if (form === FORM.prefix) {
      const index = this.varint();
      if (index === undefined) return undefined;
      const prefix = PREFIXES[index];
      const rest = prefix === undefined ? this.fail('unknown text') : this.item(nested + 1);
      return rest === undefined ? undefined : prefix + rest;
    }
    const number =
      form >= FORM.again && form < FORM.handle + HANDLE_KINDS.length
        ? this.varint()
        : this.fail('unknown form');
    if (number === undefined) return undefined;
    if (form === FORM.again) {
      const text = this.#remembered[number];
      return text === undefined ? this.fail('nothing to repeat') : this.#expanded(text);
    }
    if (form === FORM.introduce) {
      const text = this.item(nested + 1);
      if (text === undefined) return undefined;
      const kind = kindOfHandleNumber(number);
      const taken = this.#context.handles?.introduce(kind, slotOfHandleNumber(number), text) ?? false;
      return taken ? text : this.fail('handle out of bounds');
    }
    return this.#handle(HANDLE_KINDS[form - FORM.handle]!, number);
  }

  #handle(kind: HandleKind, slot: number): string | undefined {
    const text = this.#context.handles?.read(kind, slot) ?? ({ kind: 'unknown handle' } as const);
    return typeof text === 'string' ? this.#expanded(text) : this.fail(text);
  }

  #bytesText(length: number | undefined, textOf: (bytes: Uint8Array) => string): string | undefined {
    const bytes = length === undefined ? undefined : this.blob(length);
    return bytes === undefined ? undefined : textOf(bytes);
  }

  #utf16(): string | undefined {
    const length = this.varint();
    const bytes = length === undefined ? undefined : this.take(2 * length);
    if (bytes === undefined) return undefined;
    let text = '';
    for (let i = 0; i < bytes.length; i += 2) text += String.fromCharCode((bytes[i]! << 8) | bytes[i + 1]!);
    return text;
  }

  #transaction(): string | undefined {
    const difference = this.varint();
    const count = difference === undefined ? undefined : this.varint();
    return count === undefined ? undefined : `m${this.#timeMs + unzigzag(difference!)}.${count}`;
  }

  #expanded(text: string): string | undefined {
    this.#mayExpand -= text.length;
    return this.#mayExpand < 0 ? this.fail('too large') : text;
  }

  #remember(text: string): void {
    if (this.#remembered.length < MAX_REMEMBERED && text.length <= MAX_REMEMBERED_LENGTH)
      this.#remembered.push(text);
  }

  #addServer(text: string): void {
    if (this.#servers.length >= MAX_SERVERS || this.#knownServers.has(text)) return;
    this.#knownServers.add(text);
    this.#servers.push(text);
  }
}

/** RFC 8259, section 6. */
const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
/** The initial byte of a simple value in two bytes. */
const LONG_SIMPLE = (SIMPLE << 5) | 24;

const isTextHead = (head: number): boolean =>
  head === LONG_SIMPLE || (head >> 5 === SIMPLE && (head & 31) < SHORT_TEXT_COUNT);

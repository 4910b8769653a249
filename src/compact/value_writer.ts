import { assert } from '../base/assert.ts';
import { base64, fromBase64 } from '../base/bytes.ts';
import { isJsonObject, isLooseNumber, type JsonObject, type JsonValue } from '../matrix/json.ts';
import { MAX_JSON_DEPTH } from './cbor.ts';
import {
  ARRAY,
  BYTES,
  CborWriter,
  FALSE,
  LOOSE_NUMBER,
  MAP,
  NULL,
  SIMPLE,
  TAG,
  TRUE,
  UNSIGNED,
} from './cbor_bytes.ts';
import type { CompactContext, HandleMark } from './context.ts';
import {
  FORM,
  HANDLE_KINDS,
  type HandleKind,
  handleNumber,
  MAX_REMEMBERED,
  MAX_REMEMBERED_LENGTH,
  MAX_SERVERS,
  MAX_TEXT_DEPTH,
  MEGOLM,
  MEGOLM_KEYS,
  REMEMBERED,
} from './forms.ts';
import {
  ANY_TRANSACTION,
  base64Of,
  decimalOf,
  HASH_BYTES,
  hashOfId,
  SIGNATURE_BYTES,
  splitId,
  splitMxc,
  transactionOf,
} from './text_forms.ts';
import { isNearTime, zigzag } from './times.ts';
import { CODE_OF_KEY, PREFIXES, SHORT_TEXT_COUNT, SIMPLE_OF_TEXT } from './vocabulary.ts';

const SPLIT_FORMS = { '@': FORM.user, '!': FORM.room, '#': FORM.alias, $: FORM.oldEvent } as const;
/** Keys under which a handle of a device may stand: what one device says stays under one Megolm session for long. */
const DEVICE_KEYS: ReadonlySet<string> = new Set(['device_id', 'session_id']);
const SIGIL_KINDS: Readonly<Record<string, HandleKind>> = { '@': 'user', '!': 'room', $: 'event' };

/** Compact bytes, with the places of those in them that nothing compresses, in their order. */
export interface CompactContent {
  readonly bytes: Uint8Array;
  readonly blobs: readonly (readonly [start: number, end: number])[];
}

/** Writes compact values and their parts, one after another, which share what they have written before. */
export class CompactWriter extends CborWriter {
  readonly #context: CompactContext;
  readonly #remembered = new Map<string, number>();
  /** How often something was remembered: a text may have been twice, for a handle that it got. */
  #count = 0;
  readonly #servers = new Map<string, number>();
  readonly #blobs: [start: number, end: number][] = [];
  #timeMs: number;

  constructor(context: CompactContext) {
    super();
    this.#context = context;
    this.#timeMs = context.now ?? 0;
    for (const server of context.servers ?? []) this.#addServer(server);
  }

  /** Whether bytes count more than the work of the reader. */
  get isSparing(): boolean {
    return this.#context.isSparing === true;
  }

  /** What is written, and which parts of it are bytes of hashes, keys and signatures. */
  content(): CompactContent {
    return { bytes: this.done(), blobs: this.#blobs };
  }

  /** A JSON value. Nesting beyond MAX_JSON_DEPTH is an assertion. */
  value(value: JsonValue, depth = 0): void {
    if (value === null) this.head(SIMPLE, NULL);
    else if (typeof value === 'string') this.item(value);
    else if (typeof value === 'number') this.#number(value);
    else if (typeof value === 'boolean') this.head(SIMPLE, value ? TRUE : FALSE);
    else if (isLooseNumber(value)) {
      this.raw(LOOSE_NUMBER);
      this.text(value.rawJSON);
    } else {
      assert(depth < MAX_JSON_DEPTH, `JSON is nested at most ${MAX_JSON_DEPTH} levels deep`);
      if (Array.isArray(value)) {
        this.head(ARRAY, value.length);
        for (const inner of value) this.value(inner, depth + 1);
      } else this.#map(value, depth);
    }
  }

  /** A JSON value behind which nothing comes in this content. */
  last(value: JsonValue): void {
    const entries = isJsonObject(value) ? Object.entries(value) : [];
    const megolm = megolmOf(entries);
    if (megolm === undefined) this.value(value);
    else this.#megolm(megolm, true);
  }

  /** A text, in the form that takes the fewest bytes. `kind`: what handles may name it; ids say so themselves. */
  item(text: string, kind?: HandleKind, nested = 0): void {
    const simple = SIMPLE_OF_TEXT.get(text);
    if (simple !== undefined) this.#simpleText(simple);
    else {
      const named = kind ?? kindOf(text);
      const mark = named === undefined ? undefined : this.#context.handles?.write(named, text);
      if (mark === undefined) this.#unnamed(text, nested);
      else this.#marked(text, named!, mark, nested);
    }
  }

  /** As `item`, where only a text can stand: so an integer is a handle's slot. */
  named(text: string, kind: HandleKind): void {
    const mark = this.#context.handles?.write(kind, text);
    if (mark?.kind === 'known') this.head(UNSIGNED, mark.slot);
    else if (mark === undefined) this.item(text);
    else this.#marked(text, kind, mark, 0);
  }

  /** As `item`, where only a text can stand: so an integer is a text of digits. */
  digits(text: string): void {
    const number = decimalOf(text);
    if (number === undefined) this.item(text);
    else this.head(UNSIGNED, number);
  }

  /** As `digits`, where a transaction id stands: ANY_TRANSACTION is 0, and a number one more than itself. */
  transaction(text: string): void {
    const number = text === ANY_TRANSACTION ? -1 : decimalOf(text);
    if (number === undefined || number === Number.MAX_SAFE_INTEGER) this.item(text);
    else this.head(UNSIGNED, number + 1);
  }

  /** As `item`, where only a server name can stand: so an integer is its place among those of this value. */
  server(text: string, nested = 0): void {
    const known = this.#servers.get(text);
    if (known !== undefined) this.head(UNSIGNED, known);
    else {
      this.item(text, 'server', nested);
      this.#addServer(text);
    }
  }

  /** An unsigned number of any size: seven bits a byte, the lowest first; all but the last have the highest bit. */
  varint(number: number): void {
    let rest = number;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.byte(0x80 | (rest % 0x80));
    this.byte(rest);
  }

  /** Bytes that look like chance, and which nothing compresses. */
  blob(bytes: Uint8Array): void {
    this.#blobs.push([this.length, this.length + bytes.length]);
    this.raw(bytes);
  }

  #map(value: JsonObject, depth: number): void {
    const entries = Object.entries(value).filter(([, inner]) => inner !== undefined);
    const body = bodyOfPlainMessage(entries);
    if (body !== undefined) {
      this.#form(FORM.message);
      this.item(body);
      return;
    }
    const megolm = megolmOf(entries);
    if (megolm !== undefined) {
      this.#megolm(megolm, false);
      return;
    }
    this.head(MAP, entries.length);
    for (const [key, inner] of entries) {
      const code = CODE_OF_KEY.get(key);
      if (code === undefined) this.item(key);
      else this.number(code);
      if (DEVICE_KEYS.has(key) && typeof inner === 'string') this.item(inner, 'device');
      else this.value(inner, depth + 1);
    }
  }

  /** A ciphertext up to the end of the content stands behind the session, and its length is not told. */
  #megolm({ ciphertext, session }: Megolm, isLast: boolean): void {
    this.#form(FORM.megolm);
    this.varint(isLast ? 0 : ciphertext.length);
    if (!isLast) this.blob(ciphertext);
    this.named(session, 'device');
    if (isLast) this.blob(ciphertext);
  }

  #number(value: number): void {
    if (Object.is(value, -0)) this.float(value);
    else if (!isNearTime(value)) this.number(value);
    else {
      this.#form(FORM.time);
      this.varint(zigzag(value - this.#timeMs));
      this.#timeMs = value;
    }
  }

  #simpleText(simple: number): void {
    if (simple >= SHORT_TEXT_COUNT) this.byte((SIMPLE << 5) | 24);
    this.byte(simple < SHORT_TEXT_COUNT ? (SIMPLE << 5) | simple : simple);
  }

  #form(form: number): void {
    this.byte((TAG << 5) | form);
  }

  #marked(text: string, kind: HandleKind, mark: HandleMark, nested: number): void {
    if (mark.kind === 'known') {
      this.#form(FORM.handle + HANDLE_KINDS.indexOf(kind));
      this.varint(mark.slot);
    } else {
      this.#form(FORM.introduce);
      this.varint(handleNumber(kind, mark.slot));
      this.#literal(text, nested + 1);
    }
  }

  #unnamed(text: string, nested: number): void {
    const before = this.#remembered.get(text);
    if (before === undefined) this.#literal(text, nested);
    else {
      this.#form(FORM.again);
      this.varint(before);
    }
  }

  #literal(text: string, nested: number): void {
    if (!text.isWellFormed()) {
      this.#utf16(text);
      return;
    }
    // Room for the parts of an id, which are put together from texts as well.
    const form = nested + 2 < MAX_TEXT_DEPTH ? this.#structured(text, nested) : undefined;
    if (form === undefined) this.text(text);
    else if (REMEMBERED.has(form)) this.#remember(text);
  }

  /** Writes the text in a form, and says in which, if there is one. */
  #structured(text: string, nested: number): number | undefined {
    const first = text[0];
    if (first === '@' || first === '!' || first === '#' || first === '$')
      return this.#id(text, first, nested);
    if (first === 'm') {
      const mxc = splitMxc(text);
      if (mxc !== undefined) {
        this.#form(FORM.mxc);
        this.server(mxc.server, nested + 1);
        this.item(mxc.media, undefined, nested + 1);
        return FORM.mxc;
      }
      const transaction = transactionOf(text);
      if (transaction !== undefined) {
        this.#form(FORM.transaction);
        this.varint(zigzag(transaction.timeMs - this.#timeMs));
        this.varint(transaction.count);
        return FORM.transaction;
      }
    }
    const decimal = text.length > 1 ? decimalOf(text) : undefined;
    if (decimal !== undefined) {
      this.#form(FORM.decimal);
      this.varint(decimal);
      return FORM.decimal;
    }
    const prefix = PREFIXES.findIndex((one) => text.startsWith(one));
    if (prefix >= 0) {
      this.#form(FORM.prefix);
      this.varint(prefix);
      this.item(text.slice(PREFIXES[prefix]!.length), undefined, nested + 1);
      return FORM.prefix;
    }
    return this.#base64(text);
  }

  #id(text: string, sigil: keyof typeof SPLIT_FORMS, nested: number): number | undefined {
    const bytes = sigil === '!' || sigil === '$' ? hashOfId(text) : undefined;
    if (bytes !== undefined) {
      const form = sigil === '!' ? FORM.hashRoom : FORM.event;
      this.#form(form);
      this.blob(bytes);
      return form;
    }
    const split = splitId(text);
    if (split === undefined) return undefined;
    const form = SPLIT_FORMS[sigil];
    this.#form(form);
    this.item(split.local, undefined, nested + 1);
    this.server(split.server, nested + 1);
    return form;
  }

  #base64(text: string): number | undefined {
    const found = base64Of(text);
    if (found === undefined) return undefined;
    const { alphabet, bytes } = found;
    if (alphabet === 'url') {
      this.#form(FORM.base64url);
      this.varint(bytes.length);
      this.blob(bytes);
      return FORM.base64url;
    }
    if (bytes.length === HASH_BYTES || bytes.length === SIGNATURE_BYTES) {
      const form = bytes.length === HASH_BYTES ? FORM.hash : FORM.signature;
      this.#form(form);
      this.blob(bytes);
      return form;
    }
    this.head(BYTES, bytes.length);
    this.blob(bytes);
    return BYTE_STRING;
  }

  #utf16(text: string): void {
    this.#form(FORM.utf16);
    this.varint(text.length);
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      this.byte(unit >> 8);
      this.byte(unit & 0xff);
    }
  }

  #remember(text: string): void {
    if (this.#count < MAX_REMEMBERED && text.length <= MAX_REMEMBERED_LENGTH)
      this.#remembered.set(text, this.#count++);
  }

  #addServer(text: string): void {
    if (this.#servers.size < MAX_SERVERS && !this.#servers.has(text))
      this.#servers.set(text, this.#servers.size);
  }
}

/** In place of a form's number, which a byte string has not. */
const BYTE_STRING = -1;

/** What the id is an id of, where it is one. */
function kindOf(text: string): HandleKind | undefined {
  const kind = SIGIL_KINDS[text[0] ?? ''];
  return kind !== undefined && (splitId(text) ?? hashOfId(text)) !== undefined ? kind : undefined;
}

interface Megolm {
  /** Not empty. */
  readonly ciphertext: Uint8Array;
  readonly session: string;
}

/** The parts of the usual content of an m.room.encrypted event, and of nothing else. */
function megolmOf(entries: readonly [string, JsonValue][]): Megolm | undefined {
  if (entries.length !== 3 || entries.some(([key], i) => key !== MEGOLM_KEYS[i])) return undefined;
  const [algorithm, ciphertext, session] = entries.map(([, value]) => value);
  if (algorithm !== MEGOLM || typeof ciphertext !== 'string' || typeof session !== 'string') return undefined;
  const bytes = fromBase64(ciphertext);
  if (bytes === undefined || bytes.length === 0 || base64(bytes) !== ciphertext) return undefined;
  return { ciphertext: bytes, session };
}

/** The body of `{"msgtype":"m.text","body":...}`, and of nothing else. */
function bodyOfPlainMessage(entries: readonly [string, JsonValue][]): string | undefined {
  const [first, second] = entries;
  if (entries.length !== 2 || first![0] !== 'msgtype' || first![1] !== 'm.text') return undefined;
  return second![0] === 'body' && typeof second![1] === 'string' ? second![1] : undefined;
}

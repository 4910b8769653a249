import { fromUtf8, hex } from '../../base/bytes.ts';
import { NO_BYTES } from '../../coap/message.ts';
import { ARRAY, MAP } from '../../compact/cbor_bytes.ts';
import type { Unpacked } from '../../compact/container.ts';
import type { CompactContext } from '../../compact/context.ts';
import type { HandleKind } from '../../compact/forms.ts';
import {
  EXTENDED,
  SIGNATURE_BYTES,
  SIGNED,
  TEXT,
  USUAL_SENDER,
  WHOLE_VALUE,
} from '../../compact/pdu/layout.ts';
import { readInnerPdu } from '../../compact/pdu/restore.ts';
import type { Target } from '../../compact/target.ts';
import { CompactReader } from '../../compact/value_reader.ts';
import { SHORT_SIGNATURES } from '../../federation/forms/transaction_form.ts';
import { QUERY_PATH } from '../../federation/notaries.ts';
import type { JsonValue } from '../../matrix/json.ts';
import { roomVersion } from '../../matrix/room_version.ts';
import { Cutter, type Part, short } from './parts.ts';

/** Which room has which version is known to servers only. A room id without a server is of version 12. */
const NEWEST_VERSION = '12';
const TRANSACTION = /^\/_matrix\/federation\/v1\/send\//;
const MOST_EVENTS = 50;
const KEY_BYTES = 32;
const ROOM = 'room';
/** What blobs of that length are in an event. */
const BLOBS: Readonly<Record<number, string>> = {
  2: 'check, or time',
  32: 'hash',
  61: 'signature, short',
  64: 'signature',
};

/** What a form is read as part of. */
interface Formed {
  /** The request that it is the body of. */
  readonly target: Target | undefined;
  /** The request that it answers. */
  readonly answered: Target | undefined;
}

/** A form as it was read: the parts of the content, and what of it was in front of that. */
interface FormParts {
  readonly parts: readonly Part[];
  /** Such as "2 keys 64 B"; empty: there were none. */
  readonly blobs: string;
}

/**
 * A body in a form of its route, part by part, as far as that can be told without knowing the room; undefined where it cannot.
 * @param at where the form begins in the content
 */
export function formParts(
  { target, answered }: Formed,
  { bytes, blobs }: Unpacked,
  at: number,
  context: CompactContext,
): FormParts | undefined {
  const reader = new TellingReader(bytes, at, context, blobs);
  const isRead = formOf({ target, answered })?.(reader) === true;
  if (!isRead || reader.at !== bytes.length) return undefined;
  return { parts: reader.parts, blobs: blobs === undefined ? '' : reader.blobsText() };
}

function formOf({ target, answered }: Formed): ((reader: TellingReader) => boolean) | undefined {
  if (target === undefined) return answered && isKeyQuery(answered) ? readDocuments : undefined;
  if (isTransaction(target)) return readTransaction;
  return isKeyQuery(target) ? readServers : undefined;
}

const isTransaction = ({ method, path }: Target): boolean => method === 'PUT' && TRANSACTION.test(path);
const isKeyQuery = ({ method, path }: Target): boolean => method === 'POST' && path === QUERY_PATH;

// docs/protocol.md, the answer to a client's send.
const LITERAL_HASH = 0x30;
const LITERAL_TEXT = 0x31;
const ANSWER_CHECK_BYTES = 4;
const TIME_BYTES = 2;

/** An answer in a form that nothing stands in front of (`isBareAnswer`): all of its bytes. */
export function bareAnswerParts({ method }: Target, content: Uint8Array): readonly Part[] {
  const cutter = new Cutter(content);
  if (method === 'GET') {
    cutter.cut('head', 1);
    cutter.rest('rooms');
    return cutter.parts;
  }
  const [header = 0] = cutter.cut('header', 1);
  if (header === LITERAL_HASH) cutter.rest("event id's hash");
  else if (header === LITERAL_TEXT) cutter.rest('event id', (bytes) => JSON.stringify(fromUtf8(bytes) ?? ''));
  else {
    if ((header & EXTENDED) !== 0) cutter.cut('what is told', 1);
    cutter.cut("check of the event's id", ANSWER_CHECK_BYTES);
    cutter.cut('time', (header & EXTENDED) === 0 ? TIME_BYTES : 0);
    cutter.rest('time and lists');
  }
  return cutter.parts;
}

/** Reads the form of a transaction (docs/protocol.md, "Transactions"). */
function readTransaction(reader: TellingReader): boolean {
  const isShort = reader.bytes[reader.at] === SHORT_SIGNATURES;
  if (isShort)
    reader.told(
      'signatures',
      () => reader.take(1),
      () => 'short',
    );
  const major = (reader.bytes[reader.at] ?? 0) >> 5;
  const hasEdus = major === MAP;
  const count = major === ARRAY || hasEdus ? reader.told('events', () => reader.argument()) : 1;
  if (count === undefined || count > MOST_EVENTS) return false;
  for (let place = 0; place < count; place++) {
    const room = reader.told(ROOM, () => reader.named('room'));
    if (room === undefined) return false;
    const version = room.includes(':') ? undefined : roomVersion(NEWEST_VERSION);
    const isLast = place === count - 1 && !hasEdus;
    if (!readInnerPdu(reader, version, isLast, isShort ? 'short' : true).ok) return false;
  }
  return !hasEdus || reader.told('ephemeral events', () => reader.value()) !== undefined;
}

/** Reads whose keys a notary is asked for (docs/protocol.md, "Keys"). */
function readServers(reader: TellingReader): boolean {
  while (!reader.atEnd) if (reader.named('server') === undefined) return false;
  return true;
}

/** Reads what a notary answers, without knowing whom it was asked for. */
function readDocuments(reader: TellingReader): boolean {
  while (!reader.atEnd) {
    const head = reader.told(
      "server's place in the query, form",
      () => reader.varint(),
      (told = 0) => `${Math.floor(told / 2)}, ${told % 2 === 1 ? 'whole' : 'one key'}`,
    );
    if (head === undefined) return false;
    const document =
      head % 2 === 1
        ? [reader.told('document', () => reader.value())]
        : [
            reader.told('key id', () => reader.item()),
            reader.told('valid until', () => reader.varint()),
            reader.toldBlob('key', KEY_BYTES),
            reader.toldBlob("server's signature", SIGNATURE_BYTES),
            reader.told("notary's key id", () => reader.item()),
            reader.toldBlob("notary's signature", SIGNATURE_BYTES),
          ];
    if (document.includes(undefined)) return false;
  }
  return true;
}

/** Tells of everything that is read where it was in the content. Blobs that are in front of it take no bytes there. */
class TellingReader extends CompactReader {
  readonly parts: Part[] = [];
  #depth = 0;
  /** Bytes of each blob, by what it is. */
  readonly #blobs = new Map<string, number[]>();

  /** Reads something that is told as one thing. */
  told<T>(name: string, read: () => T, text: (value: T) => string = textOf): T {
    if (this.#depth > 0) return read();
    const start = this.at;
    this.#depth++;
    const value = read();
    this.#depth--;
    const bytes = Math.min(this.at, this.bytes.length) - start;
    if (bytes > 0) this.parts.push({ name, value: text(value), bytes });
    return value;
  }

  override take(count: number): Uint8Array | undefined {
    const isHeader = count === 1 && this.parts.at(-1)?.name === ROOM;
    const isRest = count === this.bytes.length - this.at;
    if (isHeader) return this.told('event, header', () => super.take(count), headerText);
    return isRest
      ? this.told(
          'text, to the end',
          () => super.take(count),
          (bytes) => JSON.stringify(fromUtf8(bytes ?? NO_BYTES) ?? ''),
        )
      : this.told('event, a field', () => super.take(count));
  }

  override blob(length: number): Uint8Array | undefined {
    return this.toldBlob(BLOBS[length] ?? 'blob', length);
  }

  toldBlob(name: string, length: number): Uint8Array | undefined {
    this.#blobs.set(name, [...(this.#blobs.get(name) ?? []), length]);
    return this.told(name, () => super.blob(length));
  }

  /** All blobs that were read, by what they are. */
  blobsText(): string {
    return [...this.#blobs]
      .map(([name, lengths]) => `${lengths.length} x ${name} ${lengths.reduce((sum, n) => sum + n, 0)} B`)
      .join(', ');
  }

  override item(nested = 0): string | undefined {
    return this.told('text', () => super.item(nested));
  }

  override named(kind: HandleKind): string | undefined {
    return this.told(kind, () => super.named(kind));
  }

  override value(depth = 0): JsonValue | undefined {
    return this.told('content', () => super.value(depth));
  }
}

const textOf = (value: unknown): string =>
  value instanceof Uint8Array ? short(value) : value === undefined ? '' : JSON.stringify(value);

function headerText([header = 0]: Uint8Array = NO_BYTES): string {
  if (header === WHOLE_VALUE) return 'whole';
  const flags = [
    [SIGNED, 'signed'],
    [EXTENDED, 'more is told'],
    [TEXT, 'm.text'],
    [USUAL_SENDER, 'usual sender'],
  ] as const;
  const said = flags.filter(([bit]) => (header & bit) !== 0).map(([, text]) => text);
  return `${hex(Uint8Array.of(header))}: ${said.join(', ')}`;
}

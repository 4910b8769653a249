import { concat, hex } from '../../base/bytes.ts';
import { isRequest } from '../../coap/codes.ts';
import { decode, joinMessage, PAYLOAD_MARKER as MARKER, type Message, NO_BYTES } from '../../coap/message.ts';
import { TAG_BYTES } from '../../crypto/aead.ts';
import { decodeControl } from '../../pipe/control.ts';
import { EPOCH_RECORDS, phaseOf } from '../../pipe/key_schedule.ts';
import {
  type CompactMessage,
  decodeMessage,
  type Ending,
  partMessages,
  type Reference,
  type TokenReference,
} from '../../pipe/message_header.ts';
import { SUITE } from '../../pipe/prologue.ts';
import type { PipeRecord, TransportKind } from '../../pipe/record.ts';
import { partSeen } from '../../pipe/seen.ts';
import { codeText } from '../coap/render.ts';
import type { ReadKeyLog, RecordKey } from '../key_log.ts';
import { messageLayers, NO_MARKER, PAYLOAD_MARKER, restLayers } from './coap_parts.ts';
import { payloadLayers } from './content_parts.ts';
import type { Dialogue } from './dialogues.ts';
import { type Layer, layer, type Part, short } from './parts.ts';

type TransportRecord = Extract<PipeRecord, { kind: TransportKind }>;

/** A record that a key of the log fits. */
export interface OpenedRecord {
  readonly number: number;
  readonly plaintext: Uint8Array;
  /** Of a readable one: its length and the sender's station, in front of the plaintext. */
  readonly station: Uint8Array;
  /** By whom it was sealed for whom. */
  readonly ends: Pick<RecordKey, 'sender' | 'receiver'>;
}

/** RFC 7252's own first bytes, in sessions without compact headers; in others, of messages with options. */
const FIRST_OWN_BYTE = 0x40;
const LAST_OWN_BYTE = 0x7f;

/** @returns undefined where no key fits */
export function openRecord(record: TransportRecord, keys: ReadKeyLog): OpenedRecord | undefined {
  const { destination, clear, header, sealed } = record;
  for (const ends of keys.keysOf(destination)) {
    const { epoch, key } = ends;
    for (const number of numbersOf(epoch, clear.truncated, clear.numberLength)) {
      if (phaseOf(number) !== clear.phase) continue;
      const nonce = SUITE.cipher.nonce(BigInt(number));
      const plaintext = SUITE.cipher.aead.open(key, nonce, header, sealed);
      if (plaintext !== undefined) return { number, plaintext, station: NO_BYTES, ends };
      const readable = sealed.subarray(0, sealed.length - TAG_BYTES);
      const tag = sealed.subarray(readable.length);
      if (SUITE.cipher.aead.open(key, nonce, concat(header, readable), tag) === undefined) continue;
      const end = 1 + (readable[0] ?? 0);
      return { number, plaintext: readable.subarray(end), station: readable.subarray(0, end), ends };
    }
  }
  return undefined;
}

/** The numbers of an epoch that end like that. */
function numbersOf(epoch: number, truncated: number, length: number): readonly number[] {
  const range = 2 ** (8 * length);
  const first = epoch * EPOCH_RECORDS;
  const numbers: number[] = [];
  const ahead = (((truncated - first) % range) + range) % range;
  for (let number = first + ahead; number < first + EPOCH_RECORDS; number += range) numbers.push(number);
  return numbers;
}

/** What a control record says. */
export function controlParts(plaintext: Uint8Array): readonly Part[] {
  const said = decodeControl(plaintext);
  const value =
    said.kind === 'close'
      ? `close: ${said.reason}`
      : said.kind === 'behind'
        ? `behind generation ${said.generation}`
        : 'bytes' in said
          ? `${said.kind} ${hex(said.bytes)}`
          : said.kind === 'other'
            ? short(plaintext)
            : said.kind;
  return [{ name: 'control', value, bytes: plaintext.length }];
}

/** The messages of a data record, each with its layers; whatever the bytes are, all are accounted for. */
export function dataLayers(
  plaintext: Uint8Array,
  number: number,
  isMarked: boolean,
  dialogue: Dialogue,
): { readonly what: readonly string[]; readonly layers: readonly Layer[] } {
  const parted = partSeen(plaintext);
  if (parted === undefined) return unreadable(plaintext);
  const seenBytes = plaintext.length - parted.payload.length;
  const seen =
    parted.seen === undefined
      ? []
      : [layer('seen', [{ name: 'highest received', value: String(parted.seen), bytes: seenBytes }])];
  const { payload } = parted;
  if (payload.length === 0) return { what: [], layers: seen };
  const first = payload[0]!;
  const mayBeOwn = first >= FIRST_OWN_BYTE && first <= LAST_OWN_BYTE;
  if (!mayBeOwn) dialogue.isCompact = true;
  const own = mayBeOwn && !dialogue.isCompact ? decode(payload) : undefined;
  if (own?.ok) {
    const more = ownLayers(own.value, number, dialogue);
    return { ...more, layers: [...seen, ...more.layers] };
  }
  const messages = partMessages(payload);
  const all =
    messages === undefined
      ? [unreadable(payload)]
      : compactMessages(payload, messages, number, isMarked, dialogue);
  return { what: all.flatMap(({ what }) => what), layers: [...seen, ...all.flatMap(({ layers }) => layers)] };
}

interface Told {
  readonly what: readonly string[];
  readonly layers: readonly Layer[];
}

const unreadable = (bytes: Uint8Array): Told => ({
  what: ['not readable'],
  layers: [layer('unknown', [{ name: 'bytes', value: short(bytes), bytes: bytes.length }])],
});

function ownLayers(message: Message, number: number, dialogue: Dialogue): Told {
  const reading = isRequest(message.code) ? dialogue.request(number) : dialogue.answer(undefined);
  return { what: [whatOf(message)], layers: messageLayers(message, (one) => payloadLayers(one, reading)) };
}

function compactMessages(
  payload: Uint8Array,
  messages: readonly Uint8Array[],
  number: number,
  isMarked: boolean,
  dialogue: Dialogue,
): readonly Told[] {
  let end = payload.byteOffset;
  return messages.map((message, i) => {
    const told = compactMessage(message, number + i, isMarked, dialogue);
    const lengthBytes = message.byteOffset - end;
    end = message.byteOffset + message.length;
    const length = { name: 'length', value: String(message.length), bytes: lengthBytes };
    return lengthBytes === 0
      ? told
      : { ...told, layers: [layer('one of several', [length]), ...told.layers] };
  });
}

/** A message with a compact header, of that packet number. */
export function compactMessage(
  bytes: Uint8Array,
  number: number,
  isMarked: boolean,
  dialogue: Dialogue,
): Told {
  const header = decodeMessage(bytes, number, isMarked);
  if (!header.ok) return unreadable(bytes);
  const { type, code, rest } = header.value;
  const hasOptions = rest[0] !== MARKER;
  const headerBytes = bytes.length - rest.length + (hasOptions ? 0 : 1);
  const marker = hasOptions ? PAYLOAD_MARKER : NO_MARKER;
  const first = {
    name: 'first byte',
    value: `${hex(bytes.subarray(0, 1))}: ${whatOf({ type, code })}`,
    bytes: 1,
  };
  const behind = { name: 'names', value: namesOf(header.value), bytes: headerBytes - 1 };
  const layers = [layer('CoAP header, compact', [first, behind])];
  if (rest.length === 0) return { what: [whatOf({ type, code })], layers };
  // Options and payload are RFC 7252's: read behind a header that says nothing.
  const message = decode(joinMessage({ type, code, id: 0, token: NO_BYTES, rest }));
  if (!message.ok) {
    const unread = unreadable(bytes.subarray(headerBytes));
    return { what: [whatOf({ type, code })], layers: [...layers, ...unread.layers] };
  }
  const reading = isRequest(code)
    ? dialogue.request(nameOf(header.value, number))
    : dialogue.answer(answeredBy(header.value));
  return {
    what: [whatOf({ type, code })],
    layers: [...layers, ...restLayers(message.value, (one) => payloadLayers(one, reading, marker))],
  };
}

/** What a request is named by: of other sessions' only the number is known here. */
function nameOf({ copy, token }: CompactMessage, number: number): number {
  if ('name' in token) return token.name.number;
  if ('owner' in token) return token.owner.number;
  return copy !== null && 'number' in copy ? copy.number : number;
}

/** What an answer is to: a copy of the request, or the request. */
function answeredBy({ copy, token }: CompactMessage): Reference | Ending | undefined {
  return 'owner' in token ? token.owner : (copy ?? undefined);
}

/** The layers of early data, as parts. */
export function earlyParts(message: Uint8Array, dialogue: Dialogue): readonly Part[] {
  return compactMessage(message, 0, false, dialogue).layers.flatMap(({ parts }) => parts);
}

const whatOf = ({ type, code }: Pick<Message, 'type' | 'code'>): string =>
  `${type} ${code === 0 ? (type === 'CON' ? 'ping' : 'empty') : codeText(code)}`;

function namesOf({ type, copy, token }: CompactMessage): string {
  const isReply = type === 'ACK' || type === 'RST';
  const parts =
    copy === null
      ? []
      : [
          `${isReply ? 'answers' : 'copy of'} ${'ending' in copy ? `...${copy.ending}` : referenceText(copy)}`,
        ];
  return [...parts, ...tokenTexts(token)].join(', ');
}

function tokenTexts(token: TokenReference): readonly string[] {
  if (token.kind === 'plain') return [`token ${hex(token.token)}`];
  return [
    ...('owner' in token ? [`of ${referenceText(token.owner)}`] : []),
    ...('name' in token ? [`named by ${referenceText(token.name)}`] : []),
  ];
}

const referenceText = ({ session, number }: Reference): string =>
  session === null ? `number ${number}` : `number ${number} of session ${session}`;

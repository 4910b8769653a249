import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { CONTINUE, code as codeOf, EMPTY, isKnownMethod } from '../coap/codes.ts';
import { type MessageType, PAYLOAD_MARKER } from '../coap/message.ts';
import { LAST_PACKET_NUMBER } from './packet_number.ts';
import { decodeVarint, encodeVarint, MOST_VARINT_BYTES } from './varint.ts';

// docs/protocol.md, "CoAP in records". 01 is "seen".
const FULL = 0x00;
const PING = 0x02;
const ACK = 0x03;
const RST = 0x04;
const SEVERAL = 0x05;
const RESPONSE = 0x08;
const REQUEST = 0x10;
const REQUEST_OF = 0x20;
const REQUEST_AGAIN = 0x30;
/** Beside the bits of an ACK, a request or a response: options follow. */
const WITH_OPTIONS = 0x40;
const REPLY = 0x80;
/** Low bits of a request or response. */
const NON_REQUEST = 0b1000;
const METHOD_BITS = 0b0111;
const NON_RESPONSE = 0b100;
const HANDLE = 0b010;
const OTHER_CODE = 0b001;
/** Of the byte behind the first one of the full form. */
const TYPES = ['CON', 'NON', 'ACK', 'RST'] as const;
const WITH_COPY = 0b10_0000;
const TOKENS = ['new', 'plain', 'of', 'again', 'both'] as const;
const TOKEN_SHIFT = 2;
const FULL_WITH_OPTIONS = 0b01;
const RESERVED = 0b10;

const CONTENT = codeOf(2, 5);
/** What a reply of one byte says. */
const REPLIES: readonly {
  readonly type: 'ACK' | 'RST';
  readonly code: number;
  readonly hasOptions: boolean;
}[] = [
  { type: 'ACK', code: EMPTY, hasOptions: false },
  { type: 'RST', code: EMPTY, hasOptions: false },
  // With options it is a block that is answered, or a block of an answer.
  ...[CONTENT, CONTINUE].map((code) => ({ type: 'ACK', code, hasOptions: true }) as const),
  ...[codeOf(2, 4), CONTENT, CONTINUE, codeOf(4, 4)].map(
    (code) => ({ type: 'ACK', code, hasOptions: false }) as const,
  ),
];
/** How many packet numbers end differently for such a reply. */
export const ENDINGS = 16;

/** Sessions are named by numbers up to this one, see MessageId. */
const LAST_SESSION = 2 ** 49 - 1;
/** In the place of a session's name: the record's own, and the one of the reference before; names follow on these. */
const THIS_SESSION = 0;
const SAME_SESSION = 1;
const SESSIONS = 2;
/** A token of one byte is an observation's handle. */
export const HANDLE_BYTES = 1;
/** RFC 8974, section 2. */
const LONGEST_TOKEN = 65_804;

/** Messages in a record. */
export const MOST_MESSAGES = 8;
/**
 * What stands in front of the options at the most, where not more than one other session is named: the full form with the first
 * copy, the request and its name.
 */
export const MOST_HEADER_BYTES = 3 + MOST_VARINT_BYTES + 3 * (1 + MOST_VARINT_BYTES);

const NOTHING = new Uint8Array(0);

/** A message by the packet number of one of its copies. */
export interface Reference {
  /** See MessageId; null: the session of the record. */
  readonly session: number | null;
  readonly number: number;
}

/** The copy of a CON that a reply answers. */
export interface Answered extends Reference {
  /** Whether its number had one byte, so that the last four bits of it name it. */
  readonly isShort: boolean;
}

/** The same by the last four bits of its number. */
export interface Ending {
  readonly ending: number;
}

/**
 * What stands for a token. A request has a token of its own (`new`), or is part of an earlier one that has that (`of`), or is
 * what comes again of one (`again`, a new token), or part of what comes again (`both`). A response is `of` a request of its
 * receiver's. An acknowledgement has the token of what it answers (`new`).
 */
export type TokenReference =
  | { readonly kind: 'new' }
  | { readonly kind: 'plain'; readonly token: Uint8Array }
  | { readonly kind: 'of'; readonly owner: Reference }
  | { readonly kind: 'again'; readonly name: Reference }
  | { readonly kind: 'both'; readonly owner: Reference; readonly name: Reference };

/** A CoAP message as it is in a record: without message id and token, but with what they follow from. */
export interface CompactMessage<Copy = Reference | Ending> {
  readonly type: MessageType;
  readonly code: number;
  /** Of a CON or NON that was sent before: its first copy. Of an ACK or RST: the copy that it answers. */
  readonly copy: Copy | null;
  readonly token: TokenReference;
  /** Options, payload marker and payload (RFC 7252, section 3). The marker goes on the wire behind options only. */
  readonly rest: Uint8Array;
}

const isHere = ({ session }: Reference): boolean => session === null;

/** References one after the other. */
const encodeReferences = (references: readonly Reference[]): Uint8Array =>
  concat(
    ...references.flatMap(({ session, number }, i) => {
      const isSame = session !== null && session === references[i - 1]?.session;
      const name = session === null ? THIS_SESSION : isSame ? SAME_SESSION : SESSIONS + session;
      return [encodeVarint(name), encodeVarint(number)];
    }),
  );

/**
 * A message for a record.
 * @param number the message's own: the record's, or the one that follows from its place in it
 * @param isMarked whether the record has the resend bit
 */
export function encodeMessage(
  message: CompactMessage<Reference | Answered>,
  number: number,
  isMarked: boolean,
): Uint8Array {
  const { type, copy, rest } = message;
  const isPayload = rest[0] === PAYLOAD_MARKER;
  assert(!isPayload || rest.length > 1, 'no payload is told by its absence');
  const unmarked = isPayload ? rest.subarray(1) : rest;
  if (type === 'ACK' || type === 'RST') {
    assert(copy !== null, 'a reply answers a message');
    return concat(shortReply(message, copy) ?? full(message), unmarked);
  }
  const parts = copy === null || isHere(copy) ? shortHeader(message, number) : undefined;
  if (parts === undefined) return concat(full(message), unmarked);
  const [first, behind] = parts;
  const distance = isMarked ? encodeVarint(copy === null ? 0 : number - copy.number) : NOTHING;
  return concat(Uint8Array.of(first | optionsBit(message)), distance, behind, unmarked);
}

const hasOptions = ({ rest }: CompactMessage<unknown>): boolean =>
  rest.length > 0 && rest[0] !== PAYLOAD_MARKER;

const optionsBit = (message: CompactMessage<unknown>): number => (hasOptions(message) ? WITH_OPTIONS : 0);

function shortReply(
  message: CompactMessage<unknown>,
  copy: Reference & Partial<Answered>,
): Uint8Array | undefined {
  const { type, code, token } = message;
  if (token.kind !== 'new' || !isHere(copy)) return undefined;
  const { number, isShort = false } = copy;
  const options = hasOptions(message);
  const kind = REPLIES.findIndex(
    (reply) => reply.type === type && reply.code === code && reply.hasOptions === options,
  );
  if (isShort && kind >= 0) return Uint8Array.of(REPLY | (kind * ENDINGS) | (number % ENDINGS));
  if (type === 'ACK') return concat(Uint8Array.of(ACK | optionsBit(message), code), encodeVarint(number));
  return code === EMPTY && !options ? concat(Uint8Array.of(RST), encodeVarint(number)) : undefined;
}

/** The first byte without `optionsBit`, and what stands behind the distance to the first copy; undefined: only the full form tells it. */
function shortHeader(
  message: CompactMessage<unknown>,
  number: number,
): readonly [number, Uint8Array] | undefined {
  const { type, code, token } = message;
  const isNon = type === 'NON';
  if (isKnownMethod(code)) {
    const low = (isNon ? NON_REQUEST : 0) | code;
    if (token.kind === 'new') return [REQUEST | low, NOTHING];
    const earlier = token.kind === 'of' ? token.owner : token.kind === 'again' ? token.name : undefined;
    if (earlier === undefined || !isHere(earlier)) return undefined;
    const form = token.kind === 'of' ? REQUEST_OF : REQUEST_AGAIN;
    return [form | low, encodeVarint(number - earlier.number)];
  }
  if (code === EMPTY)
    return !isNon && token.kind === 'new' && !hasOptions(message) ? [PING, NOTHING] : undefined;
  if (token.kind !== 'plain' && token.kind !== 'of') return undefined;
  if (token.kind === 'plain' ? token.token.length !== HANDLE_BYTES : !isHere(token.owner)) return undefined;
  const asks = token.kind === 'plain' ? HANDLE : 0;
  const low = (isNon ? NON_RESPONSE : 0) | asks | (code === CONTENT ? 0 : OTHER_CODE);
  const other = code === CONTENT ? NOTHING : Uint8Array.of(code);
  const asked = token.kind === 'plain' ? token.token : encodeVarint(token.owner.number);
  return [RESPONSE | low, concat(other, asked)];
}

function full(message: CompactMessage<Reference>): Uint8Array {
  const { type, code, copy, token } = message;
  const flags =
    (hasOptions(message) ? FULL_WITH_OPTIONS : 0) |
    (TYPES.indexOf(type) << 6) |
    (copy === null ? 0 : WITH_COPY) |
    (TOKENS.indexOf(token.kind) << TOKEN_SHIFT);
  return concat(
    Uint8Array.of(FULL, flags, code),
    encodeReferences([
      ...(copy === null ? [] : [copy]),
      ...('owner' in token ? [token.owner] : []),
      ...('name' in token ? [token.name] : []),
    ]),
    token.kind === 'plain' ? concat(encodeVarint(token.token.length), token.token) : NOTHING,
  );
}

/** What a message needs in front of it where another one follows in its record. */
export const joint = (length: number): Uint8Array => concat(Uint8Array.of(SEVERAL), encodeVarint(length));

/**
 * The messages of a record, of which the first has the record's number and each of the others the next one; undefined where
 * they do not add up, or are too many.
 */
export function partMessages(payload: Uint8Array): readonly Uint8Array[] | undefined {
  const messages: Uint8Array[] = [];
  let rest = payload;
  while (rest[0] === SEVERAL) {
    const length = decodeVarint(rest, 1, rest.length);
    if (length === undefined || messages.length >= MOST_MESSAGES - 1) return undefined;
    const end = length.end + length.value;
    if (end >= rest.length) return undefined;
    messages.push(rest.subarray(length.end, end));
    rest = rest.subarray(end);
  }
  return [...messages, rest];
}

/** Reads bytes from the front. What is not there, or is too high, makes `failed` true and reads as zeros. */
class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;
  /** Of the reference that was read last. */
  #session: number | null = null;
  failed = false;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  byte(): number {
    const value = this.#bytes[this.#at++];
    if (value === undefined) this.failed = true;
    return value ?? 0;
  }

  integer(most: number): number {
    const varint = decodeVarint(this.#bytes, this.#at, most);
    if (varint === undefined) this.failed = true;
    this.#at = varint?.end ?? this.#bytes.length;
    return varint?.value ?? 0;
  }

  bytes(length: number): Uint8Array {
    const part = this.#bytes.slice(this.#at, this.#at + length);
    if (part.length < length) this.failed = true;
    this.#at += length;
    return part;
  }

  reference(): Reference {
    const name = this.integer(SESSIONS + LAST_SESSION);
    const number = this.integer(LAST_PACKET_NUMBER);
    if (name === SAME_SESSION && this.#session === null) this.failed = true;
    if (name !== SAME_SESSION) this.#session = name === THIS_SESSION ? null : name - SESSIONS;
    return { session: this.#session, number };
  }

  rest(): Uint8Array {
    return this.#bytes.subarray(this.#at);
  }
}

/**
 * Reads what `encodeMessage` has written. Never throws. Options are not looked at, but for whether there are any.
 * @param number see `encodeMessage`
 */
export function decodeMessage(bytes: Uint8Array, number: number, isMarked: boolean): Result<CompactMessage> {
  const reader = new Reader(bytes);
  const message = readMessage(reader, number, isMarked);
  if (message === undefined || reader.failed) return bad('not a message');
  const { hasOptions: expectsOptions, ...header } = message;
  const rest = reader.rest();
  if (!expectsOptions)
    return ok({ ...header, rest: rest.length === 0 ? rest : concat(Uint8Array.of(PAYLOAD_MARKER), rest) });
  if (rest.length === 0 || rest[0] === PAYLOAD_MARKER) return bad('no options');
  return ok({ ...header, rest });
}

type Header = Omit<CompactMessage, 'rest'> & { readonly hasOptions: boolean };

const NEW: TokenReference = { kind: 'new' };

function readMessage(reader: Reader, number: number, isMarked: boolean): Header | undefined {
  const first = reader.byte();
  if (first >= REPLY) {
    const reply = REPLIES[(first - REPLY) >> 4]!;
    return { ...reply, copy: { ending: first % ENDINGS }, token: NEW };
  }
  if (first === FULL) return readFull(reader);
  const expectsOptions = (first & WITH_OPTIONS) !== 0;
  const form = first & ~WITH_OPTIONS;
  // What is empty has no options.
  if (expectsOptions && form < RESPONSE && form !== ACK) return undefined;
  const header = readShort(reader, form, number, isMarked);
  return header && { ...header, hasOptions: expectsOptions };
}

function readShort(
  reader: Reader,
  first: number,
  number: number,
  isMarked: boolean,
): Omit<Header, 'hasOptions'> | undefined {
  if (first === ACK || first === RST) {
    const code = first === ACK ? reader.byte() : EMPTY;
    const copy = { session: null, number: reader.integer(LAST_PACKET_NUMBER) };
    return { type: first === ACK ? 'ACK' : 'RST', code, copy, token: NEW };
  }
  if (first !== PING && first < RESPONSE) return undefined;
  const copy = isMarked ? earlier(reader, number) : null;
  if (first === PING) return { type: 'CON', code: EMPTY, copy, token: NEW };
  if (first < REQUEST) return readResponse(reader, first, copy);
  const code = first & METHOD_BITS;
  const type = (first & NON_REQUEST) === 0 ? 'CON' : 'NON';
  if (!isKnownMethod(code)) return undefined;
  if (first < REQUEST_OF) return { type, code, copy, token: NEW };
  const reference = earlier(reader, number);
  if (reference === null) return undefined;
  const token: TokenReference =
    first < REQUEST_AGAIN ? { kind: 'of', owner: reference } : { kind: 'again', name: reference };
  return { type, code, copy, token };
}

/** An earlier message by its distance from this one; null: it is this one. */
function earlier(reader: Reader, number: number): Reference | null {
  const distance = reader.integer(number);
  return distance === 0 ? null : { session: null, number: number - distance };
}

function readResponse(reader: Reader, first: number, copy: Reference | null): Omit<Header, 'hasOptions'> {
  const code = (first & OTHER_CODE) === 0 ? CONTENT : reader.byte();
  const token: TokenReference =
    (first & HANDLE) === 0
      ? { kind: 'of', owner: { session: null, number: reader.integer(LAST_PACKET_NUMBER) } }
      : { kind: 'plain', token: reader.bytes(HANDLE_BYTES) };
  return { type: (first & NON_RESPONSE) === 0 ? 'CON' : 'NON', code, copy, token };
}

function readFull(reader: Reader): Header | undefined {
  const flags = reader.byte();
  const code = reader.byte();
  const type = TYPES[flags >> 6]!;
  const kind = TOKENS[(flags >> TOKEN_SHIFT) & 0b111];
  const copy = (flags & WITH_COPY) === 0 ? null : reader.reference();
  const isReply = type === 'ACK' || type === 'RST';
  if (kind === undefined || (flags & RESERVED) !== 0 || (isReply && copy === null)) return undefined;
  const token = readToken(reader, kind);
  return { type, code, copy, token, hasOptions: (flags & FULL_WITH_OPTIONS) !== 0 };
}

function readToken(reader: Reader, kind: TokenReference['kind']): TokenReference {
  switch (kind) {
    case 'new':
      return NEW;
    case 'plain':
      return { kind, token: reader.bytes(reader.integer(LONGEST_TOKEN)) };
    case 'of':
      return { kind, owner: reader.reference() };
    case 'again':
      return { kind, name: reader.reference() };
    case 'both':
      return { kind, owner: reader.reference(), name: reader.reference() };
  }
}

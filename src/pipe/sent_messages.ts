import { equal } from '../base/bytes.ts';
import type { MessageId } from '../base/message_id.ts';
import type { Millis } from '../base/time.ts';
import { isRequest } from '../coap/codes.ts';
import type { MessageParts } from '../coap/message.ts';
import { ENDINGS, HANDLE_BYTES } from './message_header.ts';
import { isSame, keyOf, type MessagePlace, partToken } from './message_names.ts';
import type { SentOfAll } from './sent_of_all.ts';

/** What a message is beside its bytes: see CoapDatagram. */
export interface SentAs {
  readonly request: number | null;
  readonly copy: number;
  /** It was sent before, although it is the first copy: in an IK1. */
  readonly isAgain?: boolean;
  /** It goes in an IK1: no copy of CoAP's counting. */
  readonly isEarly?: boolean;
}

/** What a message's token is: see TokenReference, whose references these are in full. */
export type TokenNames =
  | { readonly kind: 'new' }
  | { readonly kind: 'plain'; readonly token: Uint8Array }
  | { readonly kind: 'of'; readonly owner: MessageId }
  | { readonly kind: 'again'; readonly name: MessageId }
  | { readonly kind: 'both'; readonly owner: MessageId; readonly name: MessageId };

/** A CON or NON of this side's. */
export interface SentMessage {
  /** CoAP's message id and token. */
  readonly id: number;
  readonly token: Uint8Array;
  readonly first: MessageId;
  readonly tokenNames: TokenNames;
  /** The request that it is of; undefined for a response, and for a ping. */
  readonly request: Request | undefined;
}

/** A request of this side's, from the first message of it to the last. */
interface Request {
  /** CoAP's name of it; null where it has only one message. */
  readonly key: number | null;
  readonly name: MessageId;
  /** The token that its newest message has, and the first message with that. */
  token: Uint8Array;
  owner: MessageId;
}

/** One copy of a message, until it is answered. */
export interface SentCopy {
  readonly message: SentMessage;
  /** Which one: 0 for the first that was sent with its message id; EARLY_COPY for one in an IK1. */
  readonly copy: number;
  readonly place: MessageId;
  readonly isConfirmable: boolean;
  readonly sentAt: Millis;
  /** It has been answered by its whole number: a short reply may be on its way yet, so that its ending is not free. */
  isAnswered: boolean;
}

/** In the place of a copy's number: CoAP has not counted it. */
const EARLY_COPY = -1;

// Ours, of one peer.
/** Confirmable messages that may be sent again, and copies that may be answered yet. */
const MOST_MESSAGES = 512;
const MOST_COPIES = 1_024;
/** Copies of non-confirmable messages, which only a reset names. */
const MOST_UNCONFIRMED = 64;
/** Requests without a response, more than CoAP has open at a time, and requests with one. */
const MOST_OPEN = 1_024;
const MOST_ANSWERED = 256;
/** Packet numbers that are left out at most so that a reply can be short. */
const MOST_SKIPPED = 4;

/** This side's messages to one peer, by what the peer's answers name. */
export class SentMessages {
  /** Those that may be sent again, by message id. */
  readonly #messages = new Map<number, SentMessage>();
  /** By place; the oldest first. */
  readonly #copies = new Map<string, SentCopy>();
  readonly #unconfirmed = new Map<string, SentCopy>();
  /** Those of them that a short reply names, by session and the end of their number. */
  readonly #endings = new Map<number, SentCopy>();
  /** The least recently used first. */
  readonly #open = new Set<Request>();
  readonly #answered = new Set<Request>();
  readonly #byKey = new Map<number, Request>();
  readonly #byOwner = new Map<string, Request>();
  readonly #ofAll: SentOfAll;

  constructor(ofAll: SentOfAll) {
    this.#ofAll = ofAll;
  }

  get size(): number {
    const { size } = this.#messages;
    return size + this.#copies.size + this.#unconfirmed.size + this.#open.size + this.#answered.size;
  }

  /** Forgets that share of everything, the oldest; at least one of each. */
  shed(share: number): void {
    shorten(this.#messages, Math.floor(this.#messages.size * (1 - share)));
    for (const copies of [this.#copies, this.#unconfirmed]) {
      const most = Math.floor(copies.size * (1 - share));
      for (const copy of [...copies.values()].slice(0, copies.size - most)) this.#drop(copy);
    }
    for (const requests of [this.#open, this.#answered]) {
      const most = Math.floor(requests.size * (1 - share));
      while (requests.size > most) this.#forget(requests);
    }
  }

  /** Forgets everything, where nothing is asked for again. */
  end(): void {
    this.shed(1);
    this.#ofAll.removed(this);
  }

  /**
   * How many packet numbers to leave out, so that no copy that may be answered yet has a number with the same ending; null:
   * too many.
   * @param session this side's name of it
   */
  skipped(session: number, next: number, now: Millis, longestReply: Millis): number | null {
    this.#expire(now - longestReply);
    for (let skip = 0; skip <= MOST_SKIPPED; skip++)
      if (!this.#endings.has(endingKey(session, next + skip))) return skip;
    return null;
  }

  /**
   * Notes that a CON or NON is sent.
   * @param as.request CoAP's name of the request that it is of
   * @param as.copy 0: it is the first with its message id
   * @returns undefined where nothing is known of the copies before
   */
  add(
    parts: MessageParts,
    { request, copy, isAgain = false, isEarly = false }: SentAs,
    place: MessagePlace,
    now: Millis,
  ): SentMessage | undefined {
    const at: MessageId = { generation: place.own, number: place.number };
    const isNew = copy === 0 && !isAgain;
    const message = isNew ? this.#begin(parts, request, at) : this.#messages.get(parts.id);
    // What has waited for too long may meet another message under its id.
    if (message === undefined || !equal(message.token, parts.token)) return undefined;
    const isConfirmable = parts.type === 'CON';
    const counted = isEarly ? EARLY_COPY : copy;
    const sent: SentCopy = {
      ...{ message, copy: counted, place: at, isConfirmable, sentAt: now, isAnswered: false },
    };
    if (isConfirmable) {
      this.#messages.delete(message.id);
      this.#messages.set(message.id, message);
      shorten(this.#messages, MOST_MESSAGES);
      this.#copies.set(keyOf(at), sent);
      if (this.#copies.size > MOST_COPIES) this.#drop(this.#copies.values().next().value!);
      if (place.isShort) this.#endings.set(endingKey(at.generation, at.number), sent);
    } else {
      this.#unconfirmed.set(keyOf(at), sent);
      shorten(this.#unconfirmed, MOST_UNCONFIRMED);
    }
    this.#ofAll.added(this);
    return message;
  }

  /** The copy at a place, which was answered, and so will not be again. */
  take(place: MessageId): SentCopy | undefined {
    const key = keyOf(place);
    const copy = this.#copies.get(key) ?? this.#unconfirmed.get(key);
    if (copy === undefined || this.#endings.get(endingKey(place.generation, place.number)) !== copy)
      return this.#taken(copy);
    const wasAnswered = copy.isAnswered;
    copy.isAnswered = true;
    return wasAnswered ? undefined : this.#known(copy);
  }

  /** The same by the ending of its number: there is only one such reply to each copy, so the ending is free after it. */
  takeEnding(session: number, ending: number): SentCopy | undefined {
    return this.#taken(this.#endings.get(endingKey(session, ending)));
  }

  /** The token of the request whose first message with it was sent there; undefined where it is not known. */
  tokenOf(owner: MessageId): Uint8Array | undefined {
    const request = this.#byOwner.get(keyOf(owner));
    if (request !== undefined) this.settle(request);
    return request?.token;
  }

  /** A response to the request has come: it gives way before those that wait for one. */
  settle(request: Request): void {
    if (!this.#open.delete(request) && !this.#answered.delete(request)) return;
    this.#answered.add(request);
    if (this.#answered.size > MOST_ANSWERED) this.#forget(this.#answered);
  }

  #taken(copy: SentCopy | undefined): SentCopy | undefined {
    if (copy === undefined) return undefined;
    this.#drop(copy);
    return copy.isAnswered ? undefined : this.#known(copy);
  }

  /** The copy, if CoAP still knows its message; that is answered now. */
  #known(copy: SentCopy): SentCopy | undefined {
    const { message } = copy;
    const known = this.#messages.get(message.id);
    // CoAP has forgotten the message, and uses its id for another one.
    if (known !== undefined && known !== message) return undefined;
    this.#messages.delete(message.id);
    return copy;
  }

  #drop(copy: SentCopy): void {
    const { place, isConfirmable } = copy;
    (isConfirmable ? this.#copies : this.#unconfirmed).delete(keyOf(place));
    const ending = endingKey(place.generation, place.number);
    if (this.#endings.get(ending) === copy) this.#endings.delete(ending);
  }

  #expire(before: Millis): void {
    for (const copy of this.#copies.values()) {
      if (copy.sentAt > before) break;
      this.#drop(copy);
    }
  }

  #begin({ id, code, token }: MessageParts, key: number | null, first: MessageId): SentMessage {
    if (!isRequest(code)) {
      const asked = partToken(token);
      const tokenNames: TokenNames =
        asked !== undefined
          ? { kind: 'of', owner: asked.owner }
          : code === 0
            ? { kind: 'new' }
            : { kind: 'plain', token };
      return { id, token, first, tokenNames, request: undefined };
    }
    // An observation outlives what is remembered of requests: its token is a handle, which the peer gives back.
    if (token.length === HANDLE_BYTES)
      return { id, token, first, tokenNames: { kind: 'plain', token }, request: undefined };
    const request = key === null ? undefined : this.#byKey.get(key);
    if (request === undefined) {
      const created = { key, name: first, token, owner: first };
      this.#open.add(created);
      if (key !== null) this.#byKey.set(key, created);
      this.#byOwner.set(keyOf(first), created);
      if (this.#open.size > MOST_OPEN) this.#forget(this.#open);
      return { id, token, first, tokenNames: { kind: 'new' }, request: created };
    }
    this.#answered.delete(request);
    this.#open.delete(request);
    this.#open.add(request);
    return { id, token, first, tokenNames: this.#continued(request, token, first), request };
  }

  /** What a later message of a request says of it. */
  #continued(request: Request, token: Uint8Array, first: MessageId): TokenNames {
    const { name } = request;
    if (equal(request.token, token)) {
      const { owner } = request;
      return isSame(owner, name) ? { kind: 'of', owner } : { kind: 'both', owner, name };
    }
    this.#byOwner.delete(keyOf(request.owner));
    request.token = token;
    request.owner = first;
    this.#byOwner.set(keyOf(first), request);
    return { kind: 'again', name };
  }

  #forget(from: Set<Request>): void {
    const oldest = from.values().next().value!;
    from.delete(oldest);
    if (oldest.key !== null) this.#byKey.delete(oldest.key);
    this.#byOwner.delete(keyOf(oldest.owner));
  }
}

/** Session names have 49 bits, so that this is exact. */
const endingKey = (session: number, number: number): number => session * ENDINGS + (number % ENDINGS);

function shorten<Key, Value>(map: Map<Key, Value>, most: number): void {
  for (const key of map.keys()) {
    if (map.size <= most) break;
    map.delete(key);
  }
}

import { equal } from '../base/bytes.ts';
import type { MessageId } from '../base/message_id.ts';
import type { Millis } from '../base/time.ts';
import { isRequest } from '../coap/codes.ts';
import type { MessageParts } from '../coap/message.ts';
import { ENDINGS, HANDLE_BYTES } from './message_header.ts';
import { isSame, keyOf, type MessagePlace, partToken } from './message_names.ts';

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
  /** Which one: 0 for the first that was sent with its message id. */
  readonly copy: number;
  readonly place: MessageId;
  readonly isConfirmable: boolean;
  readonly sentAt: Millis;
}

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
   * @param request CoAP's name of the request that it is of
   * @param copy 0: it is the first with its message id
   * @returns undefined where nothing is known of the copies before
   */
  add(
    parts: MessageParts,
    { request, copy }: { readonly request: number | null; readonly copy: number },
    place: MessagePlace,
    now: Millis,
  ): SentMessage | undefined {
    const at: MessageId = { generation: place.own, number: place.number };
    const message = copy === 0 ? this.#begin(parts, request, at) : this.#messages.get(parts.id);
    if (message === undefined) return undefined;
    const isConfirmable = parts.type === 'CON';
    const sent: SentCopy = { message, copy, place: at, isConfirmable, sentAt: now };
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
    return message;
  }

  /** The copy at a place, which was answered, and so will not be again. */
  take(place: MessageId): SentCopy | undefined {
    const key = keyOf(place);
    return this.#taken(this.#copies.get(key) ?? this.#unconfirmed.get(key));
  }

  /** The same by the ending of its number. */
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
  if (map.size > most) map.delete(map.keys().next().value!);
}

import { equal } from '../base/bytes.ts';
import type { MessageId } from '../base/message_id.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Millis } from '../base/time.ts';
import { CONTINUE, EMPTY, isRequest } from '../coap/codes.ts';
import { joinMessage, type MessageParts, NO_BYTES } from '../coap/message.ts';
import {
  type CompactMessage,
  decodeMessage,
  type Ending,
  encodeMessage,
  type Reference,
  type TokenReference,
} from './message_header.ts';
import {
  type MessagePlace,
  type MessageTimes,
  partToken,
  type SessionNames,
  tokenOf,
} from './message_names.ts';
import { ReceivedMessages, ReceivedOfAll } from './received_messages.ts';
import { type SentAs, type SentCopy, SentMessages, type TokenNames } from './sent_messages.ts';
import { SentOfAll } from './sent_of_all.ts';

/** A message for a record, once it is known how it is marked. */
export interface Written {
  readonly isResend: boolean;
  readonly encode: (isMarked: boolean) => Uint8Array;
}

/** A message of the peer's as CoAP reads it. */
export interface ReadMessage {
  readonly bytes: Uint8Array;
  /** Of a reply: which copy of the message with its id it answers, 0 for the first. */
  readonly copy: number | undefined;
}

/**
 * `unknown`: a reply to what is not known, or no longer. `refused`: every message id is in use.
 */
export type ReadProblem = 'malformed' | 'unknown' | 'refused';

/**
 * The messages between this side and one peer, across sessions: what CoAP calls by message id and token is called by packet
 * numbers on the wire (docs/protocol.md, "Message ids").
 */
export class PeerMessages {
  readonly #sent: SentMessages;
  readonly #received: ReceivedMessages;

  /** @param firstId see ReceivedMessages */
  constructor(firstId = 0, receivedOfAll = new ReceivedOfAll(), sentOfAll = new SentOfAll()) {
    this.#sent = new SentMessages(sentOfAll);
    this.#received = new ReceivedMessages(firstId, receivedOfAll);
  }

  /** Forgets everything, where nothing of it will be asked for again. */
  end(): void {
    this.#sent.end();
    this.#received.shed(this.#received.size);
  }

  /** How many packet numbers to leave out in front of a message: see SentMessages. A reply, or a NON, does not mind. */
  skipped(
    { type }: MessageParts,
    own: number,
    next: number,
    now: Millis,
    times: MessageTimes,
  ): number | null {
    return type === 'CON' ? this.#sent.skipped(own, next, now, times.longestReply) : 0;
  }

  /** A message of CoAP's, for a record. @returns undefined where it answers or repeats what is not known any more */
  write(parts: MessageParts, as: SentAs, place: MessagePlace, now: Millis): Written | undefined {
    const { type, code, rest } = parts;
    if (type === 'ACK' || type === 'RST') return this.#writeReply(parts, place);
    const message = this.#sent.add(parts, as, place, now);
    if (message === undefined) return undefined;
    const { first, tokenNames } = message;
    const isFirst = first.generation === place.own && first.number === place.number;
    const compact = {
      ...{ type, code, rest },
      copy: isFirst ? null : reference(first, place.own),
      // A response is of a request of the peer's, which has that side's name for the session.
      token: tokenReference(tokenNames, isRequest(code) ? place.own : place.peer),
    };
    return {
      isResend: !isFirst,
      encode: (isMarked) => encodeMessage(compact, place.number, isMarked),
    };
  }

  #writeReply({ type, code, id, token, rest }: MessageParts, place: MessagePlace): Written | undefined {
    const answered = this.#received.find(id);
    if (answered === undefined) return undefined;
    const { newest, isShort } = answered;
    const isOwnToken = code === EMPTY || equal(token, answered.token);
    const compact = {
      ...{ type, code, rest },
      copy: { ...reference(newest, place.peer), isShort },
      token: isOwnToken ? ({ kind: 'new' } as const) : ({ kind: 'plain', token } as const),
    };
    // Its sender uses the ending for another message once it has got one short reply: a second one could be late.
    answered.isShort = false;
    return { isResend: false, encode: (isMarked) => encodeMessage(compact, place.number, isMarked) };
  }

  /** A message of the peer's, from a record. Never throws. */
  read(
    bytes: Uint8Array,
    isMarked: boolean,
    place: MessagePlace,
    now: Millis,
    { exchangeLifetime }: MessageTimes,
  ): Result<ReadMessage, ReadProblem> {
    const decoded = decodeMessage(bytes, place.number, isMarked);
    if (!decoded.ok) return bad('malformed');
    const message = decoded.value;
    if (message.type === 'ACK' || message.type === 'RST') return this.#readReply(message, place);
    const at: MessageId = { generation: place.peer, number: place.number };
    if (message.copy !== null && 'ending' in message.copy) return bad('malformed');
    const first = message.copy === null ? at : named(message.copy, place.peer);
    const received = this.#received.add(first, { newest: at, isShort: place.isShort }, now, exchangeLifetime);
    if (received === undefined) return bad('refused');
    // Only the number of a CON is sure to have an ending of its own.
    if (message.type === 'NON') received.isShort = false;
    const token = this.#tokenOf(message, first, place);
    if (token === undefined) return bad('malformed');
    received.token = token;
    const { type, code, rest } = message;
    return ok({ bytes: joinMessage({ type, code, id: received.id, token, rest }), copy: undefined });
  }

  #readReply(
    { type, code, copy: answers, token, rest }: CompactMessage,
    { own }: SessionNames,
  ): Result<ReadMessage, ReadProblem> {
    if (answers === null) return bad('malformed');
    const sent = this.#takeAnswered(answers, own);
    if (sent === undefined) return bad('unknown');
    const { message, copy } = sent;
    if (message.request !== undefined && code !== EMPTY && code !== CONTINUE)
      this.#sent.settle(message.request);
    const { id } = message;
    const replied = code === EMPTY ? NO_BYTES : token.kind === 'plain' ? token.token : message.token;
    return ok({ bytes: joinMessage({ type, code, id, token: replied, rest }), copy });
  }

  #takeAnswered(answers: Reference | Ending, own: number): SentCopy | undefined {
    if ('ending' in answers) return this.#sent.takeEnding(own, answers.ending);
    return this.#sent.take(named(answers, own));
  }

  /** What CoAP gets as the token of a CON or NON; undefined where there can be none. */
  #tokenOf(
    { code, token }: CompactMessage,
    first: MessageId,
    { own, peer }: SessionNames,
  ): Uint8Array | undefined {
    if (token.kind === 'plain') return token.token;
    if (isRequest(code)) {
      const owner = 'owner' in token ? named(token.owner, peer) : first;
      const name = 'name' in token ? named(token.name, peer) : owner;
      return tokenOf(name, owner);
    }
    if (code === EMPTY) return NO_BYTES;
    if (token.kind !== 'of') return undefined;
    const owner = named(token.owner, own);
    // With a token that nobody waits for, CoAP rejects it, and its sender need not repeat it.
    return this.#sent.tokenOf(owner) ?? tokenOf(owner, owner);
  }
}

/** The message that a request of CoAP's is named by; undefined where its token does not tell. */
export const messageOf = (token: Uint8Array): MessageId | undefined => partToken(token)?.name;

const reference = ({ generation, number }: MessageId, here: number): Reference => ({
  session: generation === here ? null : generation,
  number,
});

const named = ({ session, number }: Reference, here: number): MessageId => ({
  generation: session ?? here,
  number,
});

function tokenReference(names: TokenNames, here: number): TokenReference {
  switch (names.kind) {
    case 'of':
      return { kind: 'of', owner: reference(names.owner, here) };
    case 'again':
      return { kind: 'again', name: reference(names.name, here) };
    case 'both':
      return { kind: 'both', owner: reference(names.owner, here), name: reference(names.name, here) };
    default:
      return names;
  }
}

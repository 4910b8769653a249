import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';
import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import { isRequest } from '../coap/codes.ts';
import { ID_COUNT } from '../coap/ids.ts';
import { type MessageParts, partMessage } from '../coap/message.ts';
import { derivedTimes, PARAMETERS } from '../coap/timing.ts';
import type { PipeConfig, PipeStatistics } from './events.ts';
import { nameOf } from './identity.ts';
import { joint, MOST_MESSAGES, partMessages } from './message_header.ts';
import { type MessageTimes, sessionNames } from './message_names.ts';
import type { Peer } from './peer.ts';
import { PeerMessages, type ReadMessage } from './peer_messages.ts';
import { ReceivedOfAll } from './received_messages.ts';
import type { Outgoing } from './send_queue.ts';
import type { SentAs } from './sent_messages.ts';
import { SentOfAll } from './sent_of_all.ts';
import type { Payload, Session } from './session.ts';

// Ours.
/** Messages share a record as long as CoAP's forms of them have no more bytes than this together. */
const MOST_JOINED_BYTES = 256;
/** What is less urgent does not go with what is more urgent than itself. */
const MOST_JOINED_PRIORITY: Priority = 1;

/** Between the first ids of one peer and the next: CoAP may remember what it got of one that was forgotten here. Odd. */
const FIRST_ID_STEP = 4_099;

const { exchangeLifetime } = derivedTimes(PARAMETERS);
const RFC7252_TIMES: MessageTimes = { exchangeLifetime, longestReply: exchangeLifetime };

/** docs/protocol.md, "Early data": the number of the message in an IK1, which no record of the session has then. */
export const EARLY_NUMBER = 0;

/** A record of data, and what is in it. */
export interface DataRecord {
  readonly bytes: Uint8Array;
  readonly items: readonly Outgoing[];
}

/** Puts CoAP's messages into records and takes them out again, in the form that has been agreed with the peer. */
export class Messages {
  readonly #times: (peer: string) => MessageTimes;
  #firstId: number;
  readonly #statistics: PipeStatistics;
  readonly #receivedOfAll = new ReceivedOfAll();
  readonly #sentOfAll = new SentOfAll();
  /** What an IK1 has carried: its receiver may have it already. */
  readonly #early = new WeakSet<Outgoing>();

  /** @param firstId see ReceivedMessages: of this start */
  constructor(
    {
      firstId,
      messageTimes = () => RFC7252_TIMES,
    }: Pick<PipeConfig, 'messageTimes'> & { readonly firstId: number },
    statistics: PipeStatistics,
  ) {
    this.#firstId = firstId;
    this.#times = messageTimes;
    this.#statistics = statistics;
  }

  /**
   * Seals what is most urgent of what waits for a peer, and what fits beside it.
   * @param session one of which the next number may be used
   * @returns `dropped` instead of a record where a message says nothing to the peer any more
   */
  seal(peer: Peer, session: Session, now: Millis): DataRecord | { readonly dropped: Outgoing } {
    const item = peer.queue.take();
    assert(item !== undefined, 'something waits');
    if (!session.terms.agreed.compactHeader)
      return { bytes: session.seal('data', item.bytes), items: [item] };
    const messages = this.#of(peer);
    const parts = partsOf(item);
    const skipped = this.#skipped(messages, parts, session, now, 0);
    session.skip(skipped ?? 0);
    const isLong = skipped === null;
    const isShort = !isLong && session.nextNumberLength === 1;
    const place = { ...session.names, number: session.nextNumber, isShort };
    const first = messages.write(parts, this.#sentAs(item), place, now);
    if (first === undefined) {
      this.#statistics.unknown++;
      return { dropped: item };
    }
    const written = [first];
    const items = [item];
    let joined = item.bytes.length;
    while (written.length < MOST_MESSAGES) {
      const next = peer.queue.peek();
      if (next === undefined || joined + next.bytes.length > MOST_JOINED_BYTES) break;
      if (next.priority > Math.max(item.priority, MOST_JOINED_PRIORITY)) break;
      const nextParts = partsOf(next);
      if (this.#skipped(messages, nextParts, session, now, written.length) !== 0) break;
      const nextPlace = { ...place, number: place.number + written.length };
      const another = messages.write(nextParts, this.#sentAs(next), nextPlace, now);
      // Nothing is known of it: whoever takes it next finds that out.
      if (another === undefined) break;
      peer.queue.take();
      joined += next.bytes.length;
      written.push(another);
      items.push(next);
    }
    const isResend = written.some((message) => message.isResend);
    const payload = joinedTogether(written.map(({ encode }) => encode(isResend)));
    return { bytes: session.seal('data', payload, { isResend, isLong, numbers: written.length }), items };
  }

  /** What was in a record of a peer's, as CoAP reads it. */
  open(peer: Peer, session: Session, payload: Payload, now: Millis): readonly ReadMessage[] {
    const { compactHeader } = session.terms.agreed;
    if (compactHeader !== peer.isCompact) {
      // From before the peer's messages got other names.
      this.#statistics.unknown++;
      return [];
    }
    const { bytes, number, isShort, isResend } = payload;
    if (!compactHeader) return [{ bytes, copy: undefined }];
    const parts = partMessages(bytes);
    if (parts === undefined) {
      this.#statistics.malformed++;
      return [];
    }
    const messages = this.#of(peer);
    const times = this.#times(peer.name);
    return parts.flatMap((part, i) => {
      const place = { ...session.names, number: number + i, isShort };
      const read = messages.read(part, isResend, place, now, times);
      if (read.ok) return [read.value];
      if (read.problem === 'malformed') this.#statistics.malformed++;
      else this.#statistics.unknown++;
      return [];
    });
  }

  /** The message of an IK1; undefined where it says nothing to the peer any more. */
  sealEarly(peer: Peer, item: Outgoing, generation: number, now: Millis): Uint8Array | undefined {
    const place = { ...sessionNames(generation, true), number: EARLY_NUMBER, isShort: true };
    const as = { ...this.#sentAs(item), isEarly: true };
    const written = this.#of(peer).write(partsOf(item), as, place, now);
    this.#early.add(item);
    // A first copy elsewhere is named in full, so that no record need be marked for it.
    return written?.encode(false);
  }

  /** A request that has come in an IK1 of that generation, as CoAP reads it; undefined: it is none. */
  openEarly(
    peer: Peer,
    generation: number,
    bytes: Uint8Array,
    now: Millis,
  ): { readonly bytes: Uint8Array; readonly parts: MessageParts } | undefined {
    const place = { ...sessionNames(generation, false), number: EARLY_NUMBER, isShort: true };
    const read = this.#of(peer).read(bytes, false, place, now, this.#times(peer.name));
    const parts = read.ok ? partMessage(read.value.bytes) : undefined;
    if (!read.ok || parts === undefined || !isRequest(parts.code)) return undefined;
    return { bytes: read.value.bytes, parts };
  }

  /** Sends it again, behind an IK1 that has carried it: its name is the same. */
  again(item: Outgoing): Outgoing {
    const another = { ...item, receipt: null };
    this.#early.add(another);
    return another;
  }

  /** How long after it was sent a message may be repeated, so that its id in CoAP is not another's. */
  repeatable(peer: Peer): Millis {
    return this.#times(peer.name).exchangeLifetime / 2;
  }

  #sentAs(item: Outgoing): SentAs {
    const { request = null, copy = 0 } = item;
    return { request, copy, isAgain: this.#early.has(item) };
  }

  #of(peer: Peer): PeerMessages {
    if (peer.messages === undefined) {
      peer.messages = new PeerMessages(this.#firstId, this.#receivedOfAll, this.#sentOfAll);
      this.#firstId = (this.#firstId + FIRST_ID_STEP) % ID_COUNT;
    }
    return peer.messages;
  }

  /** See `PeerMessages.skipped`; null also where the numbers would not do. */
  #skipped(
    messages: PeerMessages,
    parts: MessageParts,
    session: Session,
    now: Millis,
    ahead: number,
  ): number | null {
    const times = this.#times(nameOf(session.terms.claim));
    const skipped = messages.skipped(parts, session.names.own, session.nextNumber + ahead, now, times);
    return skipped !== null && session.maySendAfter(ahead + skipped) ? skipped : null;
  }
}

function partsOf({ bytes }: Outgoing): MessageParts {
  const parts = partMessage(bytes);
  assert(parts !== undefined, 'what is sent is a CoAP message');
  return parts;
}

const joinedTogether = (messages: readonly Uint8Array[]): Uint8Array =>
  concat(
    ...messages.flatMap((message, i) =>
      i === messages.length - 1 ? [message] : [joint(message.length), message],
    ),
  );

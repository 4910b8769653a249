import { equal } from '../base/bytes.ts';
import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { CoapDatagram } from './api.ts';
import { CONTINUE, EMPTY } from './codes.ts';
import type { Core, Peer } from './core.ts';
import { encode, type Message, NO_BYTES } from './message.ts';
import type { Observer } from './observe_server.ts';
import { NO_RESPONSE_AT_ALL, type Outgoing } from './outgoing.ts';
import type { BodyTransfer } from './selective_transfers.ts';
import type { Sent } from './timing.ts';

/** What is known of a message that has come beside what it says. */
export interface Arrival {
  /** How long it was. */
  readonly bytes: number;
  /** Of a reply: the copy that it answers, counted from 0; left out where nobody can tell. */
  readonly copy?: number | undefined;
}

/** A message whose id is chosen when it is sent for the first time. */
export type Draft = Pick<Message, 'code' | 'token' | 'options' | 'payload'>;

/** A block of a body that goes by selective repeat. */
export interface BlockOnItsWay {
  readonly transfer: BodyTransfer;
  /** See `BlockToSend`; null in a non-confirmable message. */
  readonly checkpoint: number | null;
  readonly isLast: boolean;
}

/** One confirmable message, non-confirmable request or block on its way: waiting, outstanding, or over. */
export interface Transmission {
  readonly kind: 'transmission';
  readonly peer: Peer;
  draft: Draft;
  readonly priority: Priority;
  /** Otherwise it is sent once, and holds its place among the outstanding ones for a while. */
  readonly confirmable: boolean;
  /** For traces, such as `CON PUT block1 2/5`. */
  readonly label: string;
  /** The request that it belongs to; null for a separate response and for a ping. */
  readonly request: Outgoing | null;
  /** The observer whom it notifies; null for everything else. */
  readonly notification: Observer | null;
  /** Blocks wait for no place among the outstanding messages: they have a window of their own. */
  readonly block: BlockOnItsWay | null;
  /** Makes what has to be sent instead of the draft from the next copy on; null where nothing is newer. */
  renewal: ((now: Millis) => Draft) | null;
  /** When it is given up, whatever happened. */
  deadline: Millis;
  /** Null while it waits. */
  id: number | null;
  bytes: Uint8Array;
  /** Copies that were sent after the first; the same of those with its present id. */
  attempt: number;
  copy: number;
  /** The receipt of the newest copy, until that has left. */
  receipt: number | null;
  /** When the next copy is due; null while the newest has not left. */
  retransmitAt: Millis | null;
  /** Before that: when a copy may be sent if the link is idle. */
  repeatAt: Millis | null;
  /** When each copy left, oldest first. */
  leftAt: Millis[];
  /** After this no copy is sent any more; null while none has left. */
  copiesUntil: Millis | null;
  /** A copy was due after that: its answer is waited for as if it had been sent. */
  skipped: boolean;
  /** Copies of which it was told that they have had no answer. */
  unanswered: number;
}

/** A transmission that was answered: more replies to its copies may come. */
interface Answered {
  readonly id: number;
  readonly transmission: Transmission;
  readonly repliedAt: Millis[];
}

/** Answered transmissions to one peer of which more replies are recognised, and the instants kept of one. */
const MOST_ANSWERED = 8;
const MOST_INSTANTS = 32;

/** RFC 7252, section 4.8: bytes a second on average to a peer that does not answer. */
const PROBING_RATE = 1;

/** The class of which a copy may be sent before its timer, and everything more urgent. */
const REPEATED_PRIORITY: Priority = 1;

/** The message layer's sending half: NSTART, retransmission, message ids (RFC 7252, sections 4.2, 4.4, 4.7). */
export class Transmitter {
  readonly #core: Core;
  #receipts = 0;
  readonly #awaited = new Map<number, Transmission>();
  readonly #answered = new WeakMap<Peer, Answered[]>();

  constructor(core: Core) {
    this.#core = core;
  }

  /** Sends a confirmable message, at once or when its turn comes. */
  submit(
    peer: Peer,
    draft: Draft,
    details: Pick<Transmission, 'priority' | 'label' | 'request' | 'deadline'> & {
      readonly confirmable?: boolean;
      readonly notification?: Observer | null;
      readonly block?: BlockOnItsWay | null;
      /** A waiting transmission of which it takes the place. */
      readonly insteadOf?: Transmission | null;
    },
    now: Millis,
  ): Transmission {
    const {
      priority,
      request,
      deadline,
      confirmable = true,
      notification = null,
      block = null,
      insteadOf = null,
    } = details;
    const transmission: Transmission = {
      kind: 'transmission',
      peer,
      draft,
      priority,
      confirmable,
      label: `${confirmable ? 'CON' : 'NON'} ${details.label}`,
      request,
      notification,
      block,
      renewal: null,
      deadline,
      id: null,
      bytes: NO_BYTES,
      attempt: 0,
      copy: 0,
      receipt: null,
      retransmitAt: null,
      repeatAt: null,
      leftAt: [],
      copiesUntil: null,
      skipped: false,
      unanswered: 0,
    };
    if (confirmable) this.#replaceProbe(peer, now);
    const sameClass = insteadOf?.priority === priority ? peer.queue.indexOf(insteadOf) : -1;
    const after = peer.queue.findLastIndex((waiting) => waiting.priority <= priority);
    peer.queue.splice(sameClass >= 0 ? sameClass : after + 1, 0, transmission);
    this.#core.timers.set(transmission, deadline);
    this.pump(peer, now);
    return transmission;
  }

  /** Whatever is to be sent need not wait for a ping: it finds out as well whether the peer lives. */
  #replaceProbe({ name, probe }: Peer, now: Millis): void {
    const { transmission } = probe;
    if (transmission === null) return;
    probe.transmission = null;
    this.#core.timers.set(probe, now + this.#core.timing(name).probeAfter(probe.sent));
    this.stop(transmission, now);
  }

  /** Ends a transmission: its message was acknowledged, reset, answered, or is wanted no more. */
  stop(transmission: Transmission, now: Millis): void {
    const { peer, id, receipt } = transmission;
    this.#core.timers.clear(transmission);
    if (receipt !== null) this.#awaited.delete(receipt);
    const waiting = peer.queue.indexOf(transmission);
    if (waiting >= 0) peer.queue.splice(waiting, 1);
    if (id !== null && peer.outstanding.get(id) === transmission) peer.outstanding.delete(id);
    this.pump(peer, now);
  }

  /** The last bit of a copy has left: the time for an answer starts. Returns what it was a copy of, if that goes on. */
  left(receipt: number, now: Millis): Transmission | undefined {
    const transmission = this.#awaited.get(receipt);
    if (transmission === undefined) return undefined;
    this.#awaited.delete(receipt);
    transmission.receipt = null;
    transmission.leftAt.push(now);
    if (transmission.leftAt.length > MOST_INSTANTS) transmission.leftAt.shift();
    const { peer, attempt } = transmission;
    if (!transmission.confirmable) {
      this.#holdPlace(transmission, now);
      return transmission;
    }
    const { transmitSpan = Number.POSITIVE_INFINITY } = this.#core.timing(peer.name);
    transmission.copiesUntil ??= now + transmitSpan;
    transmission.retransmitAt = now + this.#interval(transmission, attempt);
    this.#arm(transmission, now);
    return transmission;
  }

  /**
   * A request that nobody acknowledges counts as outstanding until its response comes, or as long as it takes to keep to
   * PROBING_RATE, even where it was given up before (RFC 7252, section 4.7). Where the rate of the link is known the pacer sees to that.
   */
  #holdPlace(transmission: Transmission, now: Millis): void {
    const { peer, bytes, request, block } = transmission;
    const expectsNothing = block !== null || request?.unwanted === NO_RESPONSE_AT_ALL;
    if (expectsNothing || this.#core.timing(peer.name).maxRetransmit === null) this.stop(transmission, now);
    else this.#core.timers.set(transmission, now + (bytes.length * 1000) / PROBING_RATE);
  }

  /** Its timer has run out. Returns whether it is given up; otherwise another copy is on its way, or will be. */
  fire(transmission: Transmission, now: Millis): boolean {
    const { peer, retransmitAt, repeatAt, deadline, id, bytes } = transmission;
    if (!transmission.confirmable) {
      this.stop(transmission, now);
      return transmission.block !== null;
    }
    const { block } = transmission;
    if (block !== null && !isStillAsking(block)) {
      block.transfer.messages.delete(transmission);
      this.stop(transmission, now);
      return false;
    }
    const timing = this.#core.timing(peer.name);
    if (repeatAt !== null && id !== null) {
      // The newest copy may yet be answered; those before it will not be.
      this.#tellUnanswered(transmission, transmission.attempt);
      if (timing.mayRepeat?.(bytes.length) === true) {
        this.#core.counters.repeated++;
        this.#sendAgain(transmission, id, now);
      } else this.#arm(transmission, now);
      return false;
    }
    if (retransmitAt !== null && id !== null) {
      if (retransmitAt <= deadline) this.#tellUnanswered(transmission, transmission.attempt + 1);
      const most = timing.maxRetransmit;
      const another = !transmission.skipped && (most === null || transmission.attempt < most);
      if (retransmitAt < deadline && another) {
        if (now <= transmission.copiesUntil!) this.#sendAgain(transmission, id, now);
        else this.#skip(transmission, now);
        return false;
      }
    }
    this.stop(transmission, now);
    return true;
  }

  /** Sets the timer of a transmission whose newest copy has left. */
  #arm(transmission: Transmission, now: Millis): void {
    const { peer, attempt, bytes, priority, deadline, retransmitAt } = transmission;
    const last = Math.min(retransmitAt ?? deadline, deadline);
    const timing = this.#core.timing(peer.name);
    const early =
      priority > REPEATED_PRIORITY || transmission.block !== null || timing.repeatAfter === undefined
        ? null
        : timing.repeatAfter(attempt, bytes.length, this.#core.random.fraction(), sent(transmission));
    transmission.repeatAt = early !== null && now + early < last ? now + early : null;
    this.#core.timers.set(transmission, transmission.repeatAt ?? last);
  }

  #interval(transmission: Transmission, attempt: number): Millis {
    const timing = this.#core.timing(transmission.peer.name);
    const fraction = this.#core.random.fraction();
    return timing.retransmitAfter(attempt, transmission.bytes.length, fraction, sent(transmission));
  }

  /** A timer ran so late that its copy may not be sent any more (RFC 7252, section 4.2). */
  #skip(transmission: Transmission, now: Millis): void {
    transmission.skipped = true;
    transmission.retransmitAt = now + this.#interval(transmission, transmission.attempt + 1);
    this.#core.timers.set(transmission, Math.min(transmission.retransmitAt, transmission.deadline));
  }

  #tellUnanswered(transmission: Transmission, attempts: number): void {
    if (attempts <= transmission.unanswered) return;
    transmission.unanswered = attempts;
    this.#core.events.push({ kind: 'unanswered', peer: transmission.peer.name, attempts });
  }

  #sendAgain(transmission: Transmission, id: number, now: Millis): void {
    transmission.attempt++;
    transmission.copy++;
    this.#core.counters.resent++;
    this.#transmit(transmission, this.#renewed(transmission, id, now), now);
  }

  /**
   * What a message tells about the way to its sender, before anything else is done with it.
   * @param copy which copy it replies to, where that is known
   */
  heard(peer: Peer, message: Message, { bytes: bytesReceived, copy }: Arrival, now: Millis): void {
    const timing = this.#core.timing(peer.name);
    if (message.type === 'CON' || message.type === 'NON') {
      timing.heard?.(bytesReceived);
      return;
    }
    if (timing.replied === undefined) return;
    const answered = this.#answered.get(peer) ?? [];
    let entry = answered.find(({ id }) => id === message.id);
    const transmission = peer.outstanding.get(message.id);
    if (transmission?.confirmable === true) {
      entry = { id: message.id, transmission, repliedAt: [] };
      answered.push(entry);
      if (answered.length > MOST_ANSWERED) answered.shift();
      this.#answered.set(peer, answered);
    }
    if (entry === undefined || entry.repliedAt.length >= MOST_INSTANTS) return;
    const { draft, bytes, leftAt, attempt, block } = entry.transmission;
    const empty = message.code === EMPTY;
    if (!empty && !equal(message.token, draft.token)) return;
    entry.repliedAt.push(now);
    timing.replied({
      ...{
        code: block === null ? draft.code : codeOfReplied(block, message),
        bytesSent: bytes.length,
        bytesReceived,
        empty,
      },
      ...{ copies: attempt + 1, leftAt, repliedAt: entry.repliedAt },
      ...(copy === undefined ? {} : { answered: indexOf(entry.transmission, copy) }),
    });
  }

  /** Sends what may be sent: as many as NSTART allows, as long as there are message ids. */
  pump(peer: Peer, now: Millis): void {
    for (let next = nextInQueue(peer, this.#core.timing(peer.name).nstart); next !== undefined; ) {
      const { nstart, exchangeLifetime } = this.#core.timing(peer.name);
      const id = peer.ids.take(now, exchangeLifetime);
      if (id === null) {
        this.#core.timers.set(peer, peer.ids.freeAt(exchangeLifetime));
        return;
      }
      peer.queue.splice(peer.queue.indexOf(next), 1);
      next.id = id;
      if (next.renewal !== null) next.draft = next.renewal(now);
      next.renewal = null;
      next.bytes = encode({ type: next.confirmable ? 'CON' : 'NON', id, ...next.draft });
      next.deadline = Math.min(next.deadline, now + exchangeLifetime / 2);
      peer.outstanding.set(id, next);
      if (!next.confirmable && next.request !== null) peer.unconfirmed.set(id, next.request);
      this.#transmit(next, id, now);
      next = nextInQueue(peer, nstart);
    }
  }

  /**
   * What was overtaken is not sent again: the next copy says what is newer, under an id of its own, and the count of
   * copies goes on (RFC 7641, section 4.5.2). Returns the id of the copy.
   */
  #renewed(transmission: Transmission, id: number, now: Millis): number {
    const { peer, renewal, notification } = transmission;
    const newId = renewal === null ? null : peer.ids.take(now, this.#core.timing(peer.name).exchangeLifetime);
    if (renewal === null || newId === null) return id;
    transmission.draft = renewal(now);
    transmission.renewal = null;
    transmission.id = newId;
    transmission.leftAt = [];
    transmission.copy = 0;
    transmission.bytes = encode({ type: 'CON', id: newId, ...transmission.draft });
    peer.outstanding.delete(id);
    peer.outstanding.set(newId, transmission);
    if (notification !== null) peer.noteNotification(id, notification);
    return newId;
  }

  #transmit(transmission: Transmission, id: number, now: Millis): void {
    const { peer, bytes, priority, attempt } = transmission;
    peer.ids.touch(id, now);
    peer.lastUsed = now;
    const receipt = this.#receipts++;
    this.#awaited.set(receipt, transmission);
    transmission.receipt = receipt;
    transmission.retransmitAt = null;
    transmission.repeatAt = null;
    const label = attempt === 0 ? transmission.label : `${transmission.label} copy ${attempt + 1}`;
    const of = transmission.request ?? transmission.block?.transfer.request;
    const about = { request: of?.number ?? null, copy: transmission.copy };
    this.#emit({ peer: peer.name, bytes, priority, receipt, label, ...about });
    this.#core.timers.set(transmission, transmission.deadline);
  }

  /** Sends an acknowledgement or reset: ready bytes, once, before everything else. */
  reply(peer: string, bytes: Uint8Array, label: string): void {
    this.#emit({ ...ALONE, peer, bytes, priority: 0, label });
  }

  /**
   * Sends a non-confirmable response and returns its id; where every message id is in use it is lost, as it may be
   * anyway, and the result is null.
   */
  nonConfirmable(peer: Peer, draft: Draft, priority: Priority, label: string, now: Millis): number | null {
    const id = peer.ids.take(now, this.#core.timing(peer.name).exchangeLifetime);
    if (id === null) return null;
    const bytes = encode({ type: 'NON', id, ...draft });
    this.#emit({ ...ALONE, peer: peer.name, bytes, priority, label: `NON ${label}` });
    return id;
  }

  #emit(datagram: CoapDatagram): void {
    this.#core.counters.datagramsOut++;
    this.#core.datagrams.push(datagram);
  }
}

/** What is sent once, and is not a request of ours. */
const ALONE = { receipt: null, request: null, copy: 0 } as const;

/** Where in `leftAt` the instant of a copy is, which may not be there any more. */
const indexOf = ({ copy: newest, receipt, leftAt }: Transmission, copy: number): number =>
  copy + leftAt.length - (newest + (receipt === null ? 1 : 0));

/** The first that may be sent. */
function nextInQueue(peer: Peer, nstart: number): Transmission | undefined {
  const { queue } = peer;
  return placesTaken(peer) < nstart ? queue[0] : queue.find(({ block }) => block !== null);
}

const placesTaken = ({ outstanding }: Peer): number =>
  [...outstanding.values()].reduce((sum, { block }) => sum + (block === null ? 1 : 0), 0);

/** Whether a checkpoint is worth another copy. */
const isStillAsking = ({ transfer, checkpoint }: BlockOnItsWay): boolean =>
  checkpoint !== null && transfer.sender.unanswered(checkpoint);

/**
 * As the reply to which code the reply to a checkpoint counts: most are short, and must not make an ordinary request's
 * timer too short. Only the block that completes a request is replied to like one.
 */
const codeOfReplied = ({ transfer }: BlockOnItsWay, { code: replied }: Message): number =>
  transfer.request === null || replied === CONTINUE ? CONTINUE : transfer.code;

const sent = ({ draft, peer, block }: Transmission): Sent => ({
  code: block === null || (block.transfer.request !== null && block.isLast) ? draft.code : CONTINUE,
  outstanding: Math.max(1, placesTaken(peer)),
});

/** An acknowledgement or a reset without anything else. */
export const emptyMessage = (type: 'ACK' | 'RST', id: number): Uint8Array =>
  encode({ type, code: EMPTY, id, token: NO_BYTES, options: [], payload: NO_BYTES });

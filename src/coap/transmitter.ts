import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { Outgoing } from './client.ts';
import { EMPTY } from './codes.ts';
import type { Core, Peer } from './core.ts';
import { encode, type Message, NO_BYTES } from './message.ts';

/** A message whose id is chosen when it is sent for the first time. */
export type Draft = Pick<Message, 'code' | 'token' | 'options' | 'payload'>;

/** One confirmable message on its way: waiting, outstanding, or over. */
export interface Transmission {
  readonly kind: 'transmission';
  readonly peer: Peer;
  readonly draft: Draft;
  readonly priority: Priority;
  /** For traces, such as `CON PUT block1 2/5`. */
  readonly label: string;
  /** The request that it belongs to; null for a separate response and for a ping. */
  readonly request: Outgoing | null;
  /** When it is given up, whatever happened. */
  deadline: Millis;
  /** Null while it waits. */
  id: number | null;
  bytes: Uint8Array;
  /** Copies that were sent after the first. */
  attempt: number;
  /** The receipt of the newest copy, until that has left. */
  receipt: number | null;
  /** When the next copy is due; null while the newest has not left. */
  retransmitAt: Millis | null;
}

/** The message layer's sending half: NSTART, retransmission, message ids (RFC 7252, sections 4.2, 4.4, 4.7). */
export class Transmitter {
  readonly #core: Core;
  #receipts = 0;
  readonly #awaited = new Map<number, Transmission>();

  constructor(core: Core) {
    this.#core = core;
  }

  /** Sends a confirmable message, at once or when its turn comes. */
  submit(
    peer: Peer,
    draft: Draft,
    { priority, label, request, deadline }: Pick<Transmission, 'priority' | 'label' | 'request' | 'deadline'>,
    now: Millis,
  ): Transmission {
    const transmission: Transmission = {
      kind: 'transmission',
      peer,
      draft,
      priority,
      label: `CON ${label}`,
      request,
      deadline,
      id: null,
      bytes: NO_BYTES,
      attempt: 0,
      receipt: null,
      retransmitAt: null,
    };
    this.#replaceProbe(peer, now);
    const after = peer.queue.findLastIndex((waiting) => waiting.priority <= priority);
    peer.queue.splice(after + 1, 0, transmission);
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

  /** The last bit of a copy has left: the time for an answer starts. */
  left(receipt: number, now: Millis): void {
    const transmission = this.#awaited.get(receipt);
    if (transmission === undefined) return;
    this.#awaited.delete(receipt);
    transmission.receipt = null;
    const { peer, attempt, bytes, deadline } = transmission;
    const wait = this.#core
      .timing(peer.name)
      .retransmitAfter(attempt, bytes.length, this.#core.random.fraction());
    transmission.retransmitAt = now + wait;
    this.#core.timers.set(transmission, Math.min(now + wait, deadline));
  }

  /** Its timer has run out. Returns whether it is given up; otherwise another copy is on its way. */
  fire(transmission: Transmission, now: Millis): boolean {
    const { peer, retransmitAt, deadline, id } = transmission;
    if (retransmitAt !== null && id !== null) {
      if (retransmitAt <= deadline) {
        this.#core.events.push({ kind: 'unanswered', peer: peer.name, attempts: transmission.attempt + 1 });
      }
      const most = this.#core.timing(peer.name).maxRetransmit;
      if (retransmitAt < deadline && (most === null || transmission.attempt < most)) {
        transmission.attempt++;
        this.#core.counters.resent++;
        this.#transmit(transmission, id, now);
        return false;
      }
    }
    this.stop(transmission, now);
    return true;
  }

  /** Sends what may be sent: as many as NSTART allows, as long as there are message ids. */
  pump(peer: Peer, now: Millis): void {
    for (let next = peer.queue[0]; next !== undefined; next = peer.queue[0]) {
      const { nstart, exchangeLifetime } = this.#core.timing(peer.name);
      if (peer.outstanding.size >= nstart) return;
      const id = peer.ids.take(now, exchangeLifetime);
      if (id === null) {
        this.#core.timers.set(peer, peer.ids.freeAt(exchangeLifetime));
        return;
      }
      peer.queue.shift();
      next.id = id;
      next.bytes = encode({ type: 'CON', id, ...next.draft });
      next.deadline = Math.min(next.deadline, now + exchangeLifetime / 2);
      peer.outstanding.set(id, next);
      this.#transmit(next, id, now);
    }
  }

  #transmit(transmission: Transmission, id: number, now: Millis): void {
    const { peer, bytes, priority, attempt } = transmission;
    peer.ids.touch(id, now);
    peer.lastUsed = now;
    const receipt = this.#receipts++;
    this.#awaited.set(receipt, transmission);
    transmission.receipt = receipt;
    transmission.retransmitAt = null;
    const label = attempt === 0 ? transmission.label : `${transmission.label} copy ${attempt + 1}`;
    this.#emit(peer.name, bytes, priority, receipt, label);
    this.#core.timers.set(transmission, transmission.deadline);
  }

  /** Sends an acknowledgement or reset: ready bytes, once, before everything else. */
  reply(peer: string, bytes: Uint8Array, label: string): void {
    this.#emit(peer, bytes, 0, null, label);
  }

  /** Sends a non-confirmable message; where every message id is in use it is lost, as it may be anyway. */
  nonConfirmable(peer: Peer, draft: Draft, priority: Priority, label: string, now: Millis): void {
    const id = peer.ids.take(now, this.#core.timing(peer.name).exchangeLifetime);
    if (id !== null)
      this.#emit(peer.name, encode({ type: 'NON', id, ...draft }), priority, null, `NON ${label}`);
  }

  #emit(peer: string, bytes: Uint8Array, priority: Priority, receipt: number | null, label: string): void {
    this.#core.counters.datagramsOut++;
    this.#core.datagrams.push({ peer, bytes, priority, receipt, label });
  }
}

/** An acknowledgement or a reset without anything else. */
export const emptyMessage = (type: 'ACK' | 'RST', id: number): Uint8Array =>
  encode({ type, code: EMPTY, id, token: NO_BYTES, options: [], payload: NO_BYTES });

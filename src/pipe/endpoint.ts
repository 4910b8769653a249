import { assert } from '../base/assert.ts';
import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import { decodeControl } from './control.ts';
import type { PipeConfig, PipeStatistics, PipeStep, Verdict } from './events.ts';
import { Initiator } from './initiator.ts';
import {
  type ConnectionId,
  decodeRecord,
  encodeHint,
  MAX_PLAINTEXT_BYTES,
  type PipeRecord,
} from './record.ts';
import { Responder } from './responder.ts';
import type { Outgoing } from './send_queue.ts';
import type { Session, TransportRecord } from './session.ts';
import { PipeState } from './state.ts';
import { TokenBucket } from './token_bucket.ts';

export type { PipeConfig, PipeDatagram, PipeEvent, PipeStatistics, PipeStep, Verdict } from './events.ts';

/** The first pause after the peer has refused this side; it doubles. */
const REFUSED_PAUSE_MS = 30_000;
const MAX_REFUSED_PAUSE_MS = 3_600_000;

/**
 * Noise made an endpoint: sessions with named servers over a link that loses, repeats and forges. docs/protocol.md
 * has every byte.
 *
 * A session begins with XX: XX1 and XX3 are repeated by timers here, XX2 only in answer to another XX1. Whoever
 * proves to hold an identity is reported as an event; the session exists once the driver has decided to trust it.
 * Nothing that is not authenticated changes anything but the cache of answers, which is bounded.
 */
export class PipeEndpoint {
  readonly #state: PipeState;
  readonly #initiator: Initiator;
  readonly #responder: Responder;
  readonly #hintBucket: TokenBucket;

  constructor(config: PipeConfig) {
    this.#state = new PipeState(config);
    this.#initiator = new Initiator(this.#state);
    this.#responder = new Responder(this.#state);
    this.#hintBucket = new TokenBucket(this.#state.limits.hintsPerSecond, this.#state.limits.hintsBurst);
  }

  get statistics(): Readonly<PipeStatistics> {
    return this.#state.statistics;
  }

  /** How much is kept, each below a bound of PipeLimits. */
  get sizes(): {
    readonly connections: number;
    readonly sessions: number;
    readonly halfOpen: number;
    readonly undecided: number;
    readonly openings: number;
    readonly peers: number;
  } {
    return {
      connections: this.#state.connections.size,
      sessions: this.#state.established.size,
      halfOpen: this.#state.answers.size,
      undecided: this.#state.undecided.size,
      openings: this.#state.openings.size,
      peers: this.#state.peers.size,
    };
  }

  /** Says where a peer is. Sessions learn newer addresses from authenticated records. */
  setPeer(name: string, address: Address): void {
    this.#state.peer(name).configured = address;
  }

  /**
   * Sends `bytes` (at most 65,000) on the session with `peer`. Without one they wait in a bounded queue, and
   * a handshake begins.
   */
  send(
    peer: string,
    bytes: Uint8Array,
    options: { readonly priority: Priority; readonly receipt: number | null; readonly label: string },
    now: Millis,
  ): PipeStep {
    assert(bytes.length <= MAX_PLAINTEXT_BYTES, 'a record has at most 65,000 bytes');
    const known = this.#state.peer(peer);
    const item: Outgoing = { bytes, ...options };
    const session = this.#state.current(known);
    if (session === undefined) {
      this.#state.dropped(known.queue.add(item, now));
      this.#initiator.open(known, now);
    } else {
      this.#state.sendOn(session, item);
      if (this.#initiator.isDue(session, now)) this.#initiator.renew(known, now);
    }
    return this.#state.step();
  }

  /** Takes a datagram of any bytes. */
  receive(from: Address, bytes: Uint8Array, now: Millis): PipeStep {
    const record = decodeRecord(bytes);
    if (!record.ok) this.#state.statistics.malformed++;
    else if (record.value.kind === 'XX1') this.#responder.first(from, bytes, record.value, now);
    else if (record.value.kind === 'XX2') this.#initiator.second(from, bytes, record.value, now);
    else if (record.value.kind === 'XX3') this.#responder.third(from, bytes, record.value, now);
    else if (record.value.kind === 'hint') this.#hinted(from, record.value, now);
    else this.#transport(from, record.value, now);
    return this.#state.step();
  }

  /** The driver's answer to an `identity` event. One about a session that is gone changes nothing. */
  decide(session: number, verdict: Verdict, now: Millis): PipeStep {
    const waiting = this.#state.undecided.get(session);
    this.#state.undecided.delete(session);
    if (waiting?.kind === 'candidate') {
      const { opening } = waiting;
      opening.undecided = opening.undecided.filter((candidate) => candidate !== waiting);
      if (verdict.trusted) this.#initiator.accept(waiting, now);
      else this.#initiator.refuseCandidate(waiting, verdict.reason, now);
    } else if (waiting?.kind === 'session') {
      if (verdict.trusted) this.#state.establish(waiting, now);
      else this.#responder.refuseSession(waiting, verdict.reason, now);
    }
    return this.#state.step();
  }

  /** Answers stay away: begins a new handshake, at most once per handshake timer. The old session is kept. */
  renew(peer: string, now: Millis): PipeStep {
    this.#initiator.renew(this.#state.peer(peer), now);
    return this.#state.step();
  }

  /** The last bit of a datagram with this `handshake` number has left: its timer starts here. */
  left(handshake: number, now: Millis): PipeStep {
    this.#initiator.left(handshake, now);
    return this.#state.step();
  }

  /** Runs what is due. */
  tick(now: Millis): PipeStep {
    for (const peer of [...this.#state.postponed]) {
      if (peer.openAt === undefined || peer.openAt > now) continue;
      this.#state.postpone(peer, undefined);
      this.#state.dropped(peer.queue.expire(now));
      if (!peer.queue.isEmpty) this.#initiator.open(peer, now);
    }
    this.#initiator.tick(now);
    for (const session of [...this.#state.retired]) if (session.retireAt! <= now) this.#state.forget(session);
    this.#responder.tick(now);
    for (const waiting of [...this.#state.undecided.values()]) {
      const { createdAt } = waiting.kind === 'session' ? waiting.terms : waiting;
      if (createdAt + this.#state.limits.undecidedMs > now) break;
      this.#state.removeUndecided(waiting);
    }
    return this.#state.step();
  }

  #transport(from: Address, record: TransportRecord, now: Millis): void {
    const session = this.#state.connections.get(record.destination);
    if (session === undefined) {
      this.#hint(from, record.destination, record.number, now);
      return;
    }
    if (session.kind !== 'session') return;
    const opened = session.open(record, from, now);
    if (opened.kind === 'forged') this.#state.statistics.unauthenticated++;
    else if (opened.kind === 'replayed') this.#state.statistics.replayed++;
    else this.#opened(session, record.kind, opened.plaintext, now);
  }

  #opened(session: Session, kind: TransportRecord['kind'], plaintext: Uint8Array, now: Millis): void {
    if (session.state === 'refused') {
      this.#responder.closeAgain(session, now);
      return;
    }
    session.heard = true;
    this.#state.stopConfirming(session);
    if (kind === 'control') {
      const control = decodeControl(plaintext);
      if (control.kind === 'close') {
        this.#closed(session, control.reason, now);
        return;
      }
    }
    if (session.state === 'undecided') {
      if (kind === 'data') this.#hold(session, plaintext);
      return;
    }
    const peer = this.#state.peer(session.terms.claim.serverName);
    this.#state.retireReplaced(peer, now);
    if (kind === 'control') return;
    peer.refusals = 0;
    this.#state.events.push({ kind: 'payload', peer: peer.name, bytes: plaintext });
  }

  #hold(session: Session, plaintext: Uint8Array): void {
    const { heldRecords, heldBytes } = this.#state.limits;
    if (session.held.length >= heldRecords || session.heldBytes + plaintext.length > heldBytes) {
      this.#state.statistics.notHeld++;
      return;
    }
    session.held.push(plaintext);
    session.heldBytes += plaintext.length;
  }

  /** The peer does not want this session. Without a pause the two would shake hands for ever. */
  #closed(session: Session, reason: string, now: Millis): void {
    const { serverName } = session.terms.claim;
    const wasCurrent = session.state === 'established' && session.retireAt === undefined;
    this.#state.forget(session);
    this.#state.refused('peer', session.state === 'established' ? serverName : null, reason);
    if (!wasCurrent) return;
    const peer = this.#state.peer(serverName);
    const pause = Math.min(REFUSED_PAUSE_MS * 2 ** peer.refusals, MAX_REFUSED_PAUSE_MS);
    peer.refusals++;
    peer.openNotBefore = now + pause;
  }

  /** Says that a connection is not known, as after a restart. Never longer than what it answers, and rationed. */
  #hint(to: Address, destination: ConnectionId, number: number, now: Millis): void {
    const hint = encodeHint(destination, number);
    if (!this.#hintBucket.take(now) || !this.#state.mayAnswer(to, hint.length, now)) return;
    this.#state.statistics.hintsSent++;
    this.#state.sendOwn(to, hint, 'hint');
  }

  /** Anybody can have sent this: it brings a handshake forward and does nothing else. */
  #hinted(from: Address, hint: Extract<PipeRecord, { kind: 'hint' }>, now: Millis): void {
    for (const session of this.#state.established) {
      if (session.terms.remote !== hint.destination || session.address !== from) continue;
      if (!session.mayHaveSent(hint.number)) continue;
      const peer = this.#state.peer(session.terms.claim.serverName);
      if (this.#state.current(peer) === session) this.#initiator.renew(peer, now);
      return;
    }
  }
}

import { assert } from '../base/assert.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import { type Agreement, agreementOf, NOTHING_AGREED } from './agreement.ts';
import { CONFIRMATION, decodeControl, encodeClose, encodeResponse } from './control.ts';
import { EarlyData, isHeld } from './early_data.ts';
import type { PipeConfig, PipeStatistics, PipeStep, Verdict } from './events.ts';
import { deviceKeyOf, nameOf } from './identity.ts';
import { Initiator } from './initiator.ts';
import { CHALLENGE_BYTES } from './path.ts';
import type { Peer } from './peer.ts';
import {
  type ConnectionId,
  decodeRecord,
  encodeHint,
  MAX_PLAINTEXT_BYTES,
  type PipeRecord,
  type TruncatedNumber,
} from './record.ts';
import { Responder } from './responder.ts';
import type { EarlyGeneration, StoredSession } from './resumption.ts';
import { beginsLikeSeen } from './seen.ts';
import type { Outgoing } from './send_queue.ts';
import { MAX_FORGERIES, type Payload, type Session, type TransportRecord } from './session.ts';
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
  readonly #early: EarlyData;
  readonly #hintBucket: TokenBucket;

  constructor(config: PipeConfig) {
    this.#state = new PipeState(config);
    this.#initiator = new Initiator(this.#state);
    this.#early = new EarlyData(this.#state);
    this.#responder = new Responder(this.#state, this.#early);
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

  /** Where a peer with a session was last. */
  addressOf(name: string): Address | undefined {
    const peer = this.#state.peers.find(name);
    return peer && (this.#state.current(peer)?.address ?? peer.held?.address);
  }

  /**
   * Sends CoAP messages (at most 65,000 bytes each) on the session with `peer`; short ones together. Without a session they
   * wait in a bounded queue, and a handshake begins; but what is for a device is dropped, since it is for the device to begin
   * one.
   */
  send(peer: string, items: readonly Outgoing[], now: Millis): PipeStep {
    for (const { bytes } of items) {
      assert(bytes.length <= MAX_PLAINTEXT_BYTES, 'a record has at most 65,000 bytes');
      assert(!beginsLikeSeen(bytes), 'a payload does not begin like a number in front of one');
    }
    const known = this.#state.peer(peer);
    const session = this.#state.current(known);
    const { held = [], rest = [] } = Object.groupBy(items, (item) => (isHeld(known, item) ? 'held' : 'rest'));
    for (const item of held) this.#state.dropped(known.held!.queue.add(item, now));
    if (session === undefined && deviceKeyOf(peer) !== undefined) {
      this.#state.dropped(rest);
    } else {
      // Behind what waits already, such as for a number that may be used.
      for (const item of rest) this.#state.dropped(known.queue.add(item, now));
      if (session !== undefined) this.#state.sending.flush(known, now);
      else if (rest.length > 0) this.#initiator.open(known, now);
    }
    if (session !== undefined && this.#initiator.isDue(session, now)) this.#initiator.renew(known, now);
    return this.#state.step();
  }

  /** What waits with this receipt is wanted no more. A handshake that it has begun goes on. */
  withdraw(peer: string, receipt: number): PipeStep {
    this.#state.peers.find(peer)?.queue.withdraw(receipt);
    return this.#state.step();
  }

  /**
   * Goes on with the sessions of an earlier process, before anything else. Nothing is sent on them before the step's writes
   * have been stored.
   * @param rows in the order in which they were written
   * @param early the same
   */
  restored(rows: readonly StoredSession[], now: Millis, early: readonly EarlyGeneration[] = []): PipeStep {
    for (const taken of early) this.#state.earlyGenerations.note(taken);
    for (const row of rows) this.#state.restore(row, now);
    return this.#state.step();
  }

  /** All writes up to the one with this `token` are on the disk. */
  stored(token: number, now: Millis): PipeStep {
    this.#state.saving.stored(token, now);
    this.#early.stored(token, now);
    return this.#state.step();
  }

  /** Takes a datagram of any bytes. */
  receive(from: Address, bytes: Uint8Array, now: Millis): PipeStep {
    const record = decodeRecord(bytes);
    if (!record.ok) this.#state.statistics.malformed++;
    else this.#received(from, bytes, record.value, now);
    return this.#state.step();
  }

  #received(from: Address, bytes: Uint8Array, record: PipeRecord, now: Millis): void {
    switch (record.kind) {
      case 'XX1':
      case 'IK1':
        this.#responder.first(from, record, now);
        break;
      case 'XX2':
      case 'IK2':
        this.#initiator.second(from, bytes, { ...record, kind: record.kind }, now);
        break;
      case 'XX3':
        this.#responder.third(from, bytes, record, now);
        break;
      case 'cookie':
        this.#initiator.cookie(from, record, now);
        break;
      case 'versions':
        this.#initiator.versions(from, record, now);
        break;
      case 'hint':
        this.#hinted(from, record, now);
        break;
      default:
        this.#transport(from, record, now);
    }
  }

  /** The driver's answer to an `identity` event. One about a session that is gone changes nothing. */
  decide(session: number, verdict: Verdict, now: Millis): PipeStep {
    const waiting = this.#state.undecided.get(session);
    this.#state.undecided.delete(session);
    if (waiting?.kind === 'early') {
      this.#early.decided(waiting, verdict, now);
    } else if (waiting !== undefined && waiting.kind !== 'session') {
      const { opening } = waiting;
      opening.undecided = opening.undecided.filter((candidate) => candidate !== waiting);
      if (verdict.trusted) this.#initiator.accept(waiting, now);
      else this.#initiator.refuseCandidate(waiting, verdict.reason, now);
    } else if (waiting?.kind === 'session') {
      if (verdict.trusted) {
        this.#state.establish(waiting, now);
        // What waited for it shows as much as a confirmation.
        if (waiting.isAsked && waiting.nextNumber === 0) this.#responder.asked(waiting, now);
      } else {
        this.#responder.refuseSession(waiting, verdict.reason, now);
      }
    }
    const resumed = this.#state.resumed.get(session);
    this.#state.resumed.delete(session);
    if (resumed !== undefined && !verdict.trusted) {
      this.#state.saving.discard(resumed);
      this.#responder.refuseSession(resumed, verdict.reason, now);
    }
    return this.#state.step();
  }

  /**
   * Ends everything with a peer, such as a device that was logged out: its sessions are closed and erased, what waits for it is
   * given up, and the next handshake begins from nothing.
   * @param reason told to the peer
   */
  forget(peer: string, reason: string, now: Millis): PipeStep {
    const known = this.#state.peers.find(peer);
    const undecided = [...this.#state.undecided.values()].filter((waiting) => waiting.kind === 'session');
    for (const session of [...(known?.sessions ?? []), ...undecided]) {
      if (nameOf(session.terms.claim) !== peer || session.state === 'refused') continue;
      this.#state.saving.discard(session);
      this.#state.undecided.delete(session.terms.number);
      this.#state.resumed.delete(session.terms.number);
      this.#responder.end(session, encodeClose(reason), now);
    }
    this.#responder.forgetTentative(peer);
    this.#early.forget(peer);
    if (known === undefined) return this.#state.step();
    if (known.opening !== undefined) this.#state.cancel(known.opening);
    this.#state.postpone(known, undefined);
    for (let item = known.queue.take(); item !== undefined; item = known.queue.take())
      this.#state.dropped([item]);
    known.known = undefined;
    return this.#state.step();
  }

  /** What has been agreed with a peer: in its session, or else in the last one that is remembered. */
  agreed(peer: string): Agreement {
    const found = this.#state.peers.find(peer);
    const session = found && this.#state.current(found);
    if (session !== undefined) return session.terms.agreed;
    return found?.known === undefined ? NOTHING_AGREED : agreementOf(found.known.said);
  }

  /** This side's name of the session with a peer that is in use (MessageId.generation); undefined: none, or without message ids. */
  sessionName(peer: string): number | undefined {
    const found = this.#state.peers.find(peer);
    const session = found && this.#state.current(found);
    return session?.terms.agreed.compactHeader ? session.names.own : undefined;
  }

  /** The servers with a session. */
  get servers(): ReadonlySet<string> {
    const claims = [...this.#state.established].map(({ terms }) => terms.claim);
    return new Set(claims.filter(({ kind }) => kind === 'server').map(nameOf));
  }

  /** Sends a peer with a session a record that says nothing and is not answered: a NAT on the way keeps its binding. */
  keepAlive(peer: string, now: Millis): PipeStep {
    const found = this.#state.peers.find(peer);
    const session = found && this.#state.current(found);
    if (session !== undefined) this.#state.sending.control(session, CONFIRMATION, 'keep-alive', now);
    return this.#state.step();
  }

  /** Answers stay away: begins a new handshake, at most once per handshake timer. The old session is kept. */
  renew(peer: string, now: Millis): PipeStep {
    this.#initiator.renew(this.#state.peer(peer), now, true);
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
    for (const peer of [...this.#state.holding]) this.#stopHolding(peer, now);
    for (const session of [...this.#state.retired]) if (session.retireAt! <= now) this.#state.forget(session);
    this.#responder.tick(now);
    for (const waiting of [...this.#state.undecided.values()]) {
      const { createdAt } = waiting.kind === 'session' ? waiting.terms : waiting;
      if (createdAt + this.#state.limits.undecidedMs > now) break;
      this.#state.removeUndecided(waiting);
    }
    return this.#state.step();
  }

  /** The sender of early data has not shown that it is there: what answers it goes as anything else would. */
  #stopHolding(peer: Peer, now: Millis): void {
    if (peer.held === undefined || peer.held.until > now) return;
    if (this.#state.current(peer) === undefined && deviceKeyOf(peer.name) !== undefined) {
      this.#state.dropped(this.#state.takeHeld(peer));
      return;
    }
    this.#state.releaseHeld(peer, now);
    if (this.#state.current(peer) !== undefined) this.#state.sending.flush(peer, now);
    else if (!peer.queue.isEmpty) this.#initiator.open(peer, now);
  }

  #transport(from: Address, record: TransportRecord, now: Millis): void {
    const owner = this.#state.connections.get(record.destination);
    if (owner === undefined) {
      this.#hint(from, record.destination, record.clear, now);
      return;
    }
    const session = owner.kind === 'answer' ? owner.tentative : owner;
    if (session?.kind !== 'session') return;
    const { statistics, random } = this.#state;
    const opened = session.open(record, from, now, () => random.bytes(CHALLENGE_BYTES));
    if (opened.kind === 'forged') {
      statistics.unauthenticated++;
      this.#forged(session, now);
      return;
    }
    if (opened.kind === 'replayed') {
      statistics.replayed++;
      return;
    }
    if (owner.kind === 'answer')
      this.#responder.begun(owner, from, record.header.length + record.sealed.length);
    if (opened.newSalt !== undefined) this.#state.startedAnew(session, opened.newSalt, now);
    if (opened.kind === 'malformed') {
      statistics.malformed++;
    } else if (opened.kind === 'stale') {
      statistics.stale++;
      // It carries this start's salt, so the peer sends again what it had sent for the one before.
      if (session.state === 'established')
        this.#state.sending.answer(session, CONFIRMATION, 'started anew', now);
    } else {
      this.#opened(session, record.kind, opened.payload, from, now);
      this.#state.saving.save(session, now);
    }
  }

  /** Too many forgeries under a key bring a new session about; the old one is kept until then. */
  #forged(session: Session, now: Millis): void {
    if (session.state !== 'established' || session.forgeries % MAX_FORGERIES !== 0) return;
    const peer = this.#state.peer(nameOf(session.terms.claim));
    if (session.forgeries > 0 && this.#state.current(peer) === session) this.#initiator.renew(peer, now);
  }

  #opened(
    session: Session,
    kind: TransportRecord['kind'],
    payload: Payload,
    from: Address,
    now: Millis,
  ): void {
    if (session.state === 'refused') {
      this.#responder.closeAgain(session, now);
      return;
    }
    session.heard = true;
    this.#state.stopConfirming(session);
    this.#state.report(session);
    if (kind === 'control') {
      const control = decodeControl(payload.bytes);
      if (control.kind === 'close') {
        this.#closed(session, control.reason, now);
        return;
      }
      if (control.kind === 'behind') {
        this.#isBehind(session, control.generation, now);
        return;
      }
      if (control.kind === 'ask') this.#responder.asked(session, now);
      if (control.kind === 'response') session.path.answered(from, control.bytes);
      if (control.kind === 'challenge' && session.state === 'established')
        this.#state.sending.control(session, encodeResponse(control.bytes), 'response', now);
    }
    if (session.state === 'established') this.#state.sending.challenge(session, now);
    if (session.state === 'undecided') {
      if (kind === 'data') this.#hold(session, payload);
      return;
    }
    const peer = this.#state.peer(nameOf(session.terms.claim));
    this.#state.retireReplaced(peer, now);
    if (kind === 'control') return;
    peer.refusals = 0;
    this.#state.arrived(peer, session, payload, now);
  }

  #hold(session: Session, payload: Payload): void {
    const { heldRecords, heldBytes } = this.#state.limits;
    const { length } = payload.bytes;
    if (session.held.length >= heldRecords || session.heldBytes + length > heldBytes) {
      this.#state.statistics.notHeld++;
      return;
    }
    session.held.push(payload);
    session.heldBytes += length;
  }

  /** The peer does not want this session. Without a pause the two would shake hands for ever. */
  #closed(session: Session, reason: string, now: Millis): void {
    const name = nameOf(session.terms.claim);
    const wasCurrent = session.state === 'established' && session.retireAt === undefined;
    this.#state.forget(session);
    this.#state.refused('peer', session.state === 'established' ? name : null, reason);
    if (!wasCurrent) return;
    const peer = this.#state.peer(name);
    // The peer may have forgotten who this side is: it is told again.
    peer.known = undefined;
    const pause = Math.min(REFUSED_PAUSE_MS * 2 ** peer.refusals, MAX_REFUSED_PAUSE_MS);
    peer.refusals++;
    peer.openNotBefore = now + pause;
  }

  /** The peer knows of later sessions than this side does: another one, numbered above those, takes the place of this one. */
  #isBehind(session: Session, generation: number, now: Millis): void {
    if (!session.terms.initiator || generation < session.terms.generation) return;
    const peer = this.#state.peer(nameOf(session.terms.claim));
    peer.mustExceed(generation);
    this.#initiator.renew(peer, now);
    this.#state.forget(session);
    // Where it is too soon for another handshake, what waits begins it later.
    if (peer.opening === undefined && peer.openAt === undefined && !peer.queue.isEmpty)
      this.#state.postpone(peer, Math.max(now, peer.renewNotBefore));
  }

  /** Says that a connection is not known, as after a restart. Never longer than what it answers, and rationed. */
  #hint(to: Address, destination: ConnectionId, number: TruncatedNumber, now: Millis): void {
    const hint = encodeHint(destination, number);
    if (!this.#hintBucket.take(now) || !this.#state.strangers.mayAnswer(to, hint.length, now)) return;
    this.#state.statistics.hintsSent++;
    this.#state.sending.own(to, hint, 'hint');
  }

  /** Anybody can have sent this: it brings a handshake forward and does nothing else. */
  #hinted(from: Address, hint: Extract<PipeRecord, { kind: 'hint' }>, now: Millis): void {
    for (const session of this.#state.established) {
      if (session.terms.remote !== hint.destination || !session.path.includes(from)) continue;
      if (!session.mayHaveSent(hint)) continue;
      const peer = this.#state.peer(nameOf(session.terms.claim));
      if (this.#state.current(peer) === session) this.#initiator.renew(peer, now, true);
      return;
    }
  }
}

import { assert } from '../base/assert.ts';
import type { Random } from '../base/random.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import { Allowance } from './allowance.ts';
import { type Answer, Answers } from './answers.ts';
import { Connections } from './connections.ts';
import type { PipeConfig, PipeDatagram, PipeEvent, PipeStatistics, PipeStep } from './events.ts';
import { BOOT_ID_BYTES } from './handshake_payload.ts';
import type { IdentityClaim, LocalIdentity } from './identity.ts';
import { DEFAULT_LIMITS, type PipeLimits } from './limits.ts';
import type { Candidate, Opening } from './opening.ts';
import { Peer } from './peer.ts';
import { transportLength } from './record.ts';
import type { Outgoing } from './send_queue.ts';
import type { Session } from './session.ts';
import { type HandshakeTiming, handshakeTimeout } from './timing.ts';

/**
 * What initiator, responder and records share: peers, sessions, and the step that is being made. Each input to the
 * endpoint ends with `step`.
 */
export class PipeState {
  readonly statistics: PipeStatistics = {
    malformed: 0,
    unauthenticated: 0,
    replayed: 0,
    throttled: 0,
    notHeld: 0,
    hintsSent: 0,
  };
  readonly identity: LocalIdentity;
  readonly random: Random;
  readonly limits: PipeLimits;
  readonly timing: (address: Address) => HandshakeTiming;
  readonly bootId: Uint8Array;
  readonly connections: Connections<Opening | Answer | Session>;
  readonly answers: Answers;
  /** By the number that the driver decides about, oldest first. */
  readonly undecided = new Map<number, Candidate | Session>();
  readonly openings = new Map<number, Opening>();
  readonly established = new Set<Session>();
  /** Initiators' sessions of which no record has come yet, by the id of their XX3. */
  readonly unconfirmed = new Map<number, Session>();
  readonly retired = new Set<Session>();
  /** Peers whose next handshake waits for its time. */
  readonly postponed = new Set<Peer>();
  readonly peers = new Map<string, Peer>();
  readonly #allowance: Allowance;
  datagrams: PipeDatagram[] = [];
  events: PipeEvent[] = [];
  #lastNumber = 0;

  constructor({ identity, random, limits, handshakeTiming }: PipeConfig) {
    this.identity = identity;
    this.random = random;
    this.limits = { ...DEFAULT_LIMITS, ...limits };
    this.timing = handshakeTiming;
    const { answersPerSecond, answersBurst, answersShare } = this.limits;
    this.#allowance = new Allowance(answersPerSecond, answersBurst, answersShare);
    this.bootId = random.bytes(BOOT_ID_BYTES);
    this.connections = new Connections(random);
    this.answers = new Answers(identity, this.bootId, random, this.limits.halfOpenMs);
  }

  step(): PipeStep {
    const step = { writes: [], datagrams: this.datagrams, events: this.events, deadline: this.#deadline() };
    this.datagrams = [];
    this.events = [];
    return step;
  }

  /** Names sessions, answers and handshakes to the driver. */
  nextNumber(): number {
    return ++this.#lastNumber;
  }

  /** The session to send on to `peer`. */
  current(peer: Peer): Session | undefined {
    return peer.current(this.identity.noisePublic);
  }

  #deadline(): Millis | null {
    let earliest = this.answers.dueAt ?? Number.POSITIVE_INFINITY;
    for (const opening of this.openings.values()) earliest = Math.min(earliest, opening.dueAt);
    for (const { unconfirmed } of this.unconfirmed.values())
      earliest = Math.min(earliest, unconfirmed!.dueAt);
    for (const { retireAt } of this.retired) earliest = Math.min(earliest, retireAt!);
    for (const { openAt } of this.postponed) earliest = Math.min(earliest, openAt!);
    const oldest: Candidate | Session | undefined = this.undecided.values().next().value;
    if (oldest !== undefined) {
      const { createdAt } = oldest.kind === 'session' ? oldest.terms : oldest;
      earliest = Math.min(earliest, createdAt + this.limits.undecidedMs);
    }
    return earliest === Number.POSITIVE_INFINITY ? null : earliest;
  }

  /** The peer of that name. Where there are too many, one of which nothing is left but its address makes room. */
  peer(name: string): Peer {
    const known = this.peers.get(name);
    if (known !== undefined) return known;
    if (this.peers.size >= this.limits.peers) {
      for (const peer of this.peers.values()) {
        if (!peer.isIdle) continue;
        this.peers.delete(peer.name);
        break;
      }
    }
    const peer = new Peer(name, this.limits);
    this.peers.set(name, peer);
    return peer;
  }

  /**
   * Whether so many bytes may go to somebody who has not proved who he is, or who repeats what anybody can have captured
   * (wire rule 5: at most a tenth of a link's airtime). What may not is counted, and is for the peer to ask again.
   */
  mayAnswer(to: Address, bytes: number, now: Millis): boolean {
    const { rate, overhead } = this.timing(to);
    const answer = { wireBytes: bytes + overhead, rate, isKnown: () => this.isKnown(to) };
    const may = this.#allowance.take(answer, now);
    if (!may) this.statistics.throttled++;
    return may;
  }

  /** Whether a peer is at `address`, as far as the configuration and authenticated records tell. */
  isKnown(address: Address): boolean {
    for (const session of this.established) if (session.address === address) return true;
    for (const peer of this.peers.values()) if (peer.configured === address) return true;
    return false;
  }

  /** Has `peer`'s next handshake begin at `until`; undefined: nothing is waiting any more. */
  postpone(peer: Peer, until: Millis | undefined): void {
    peer.openAt = until;
    if (until === undefined) this.postponed.delete(peer);
    else this.postponed.add(peer);
  }

  dropped(items: readonly Outgoing[]): void {
    for (const { receipt } of items) if (receipt !== null) this.events.push({ kind: 'dropped', receipt });
  }

  sendOn(session: Session, item: Outgoing): void {
    const { unconfirmed } = session;
    const bytes = session.seal('data', item.bytes);
    if (unconfirmed !== undefined) unconfirmed.carried = Math.max(unconfirmed.carried, bytes.length);
    this.datagrams.push({
      to: session.address,
      bytes,
      priority: item.priority,
      receipt: item.receipt,
      handshake: null,
      label: `data ${item.label}`,
    });
  }

  sendOwn(to: Address, bytes: Uint8Array, label: string, handshake: number | null = null): void {
    this.datagrams.push({ to, bytes, priority: 0, receipt: null, handshake, label });
  }

  sendControl(session: Session, plaintext: Uint8Array, label: string): void {
    if (!session.usedUp) this.sendOwn(session.address, session.seal('control', plaintext), label);
  }

  /** A control record in answer to what anybody can have sent. */
  answerOn(session: Session, plaintext: Uint8Array, label: string, now: Millis): void {
    const length = transportLength(session.terms.remote, plaintext.length);
    if (this.mayAnswer(session.address, length, now)) this.sendControl(session, plaintext, label);
  }

  timeout(address: Address, attempt: number, awaited: readonly number[]): Millis {
    return handshakeTimeout(this.timing(address), attempt, awaited, this.random.fraction());
  }

  /** Ends an opening, whether or not a session has come of it. */
  cancel(opening: Opening): void {
    this.connections.delete(opening.local, opening);
    this.openings.delete(opening.id);
    for (const { number } of opening.undecided) this.undecided.delete(number);
    opening.undecided = [];
    const peer = this.peer(opening.peer);
    if (peer.opening === opening) peer.opening = undefined;
  }

  /** Has the driver decide about an identity. */
  ask(waiting: Candidate | Session, claim: IdentityClaim, address: Address): void {
    const number = waiting.kind === 'session' ? waiting.terms.number : waiting.number;
    while (this.undecided.size >= this.limits.undecided) {
      this.removeUndecided(this.undecided.values().next().value!);
    }
    this.undecided.set(number, waiting);
    this.events.push({ kind: 'identity', session: number, claim, address });
  }

  removeUndecided(waiting: Candidate | Session): void {
    if (waiting.kind === 'session') {
      this.forget(waiting);
      return;
    }
    this.undecided.delete(waiting.number);
    waiting.opening.undecided = waiting.opening.undecided.filter((candidate) => candidate !== waiting);
  }

  refused(by: 'us' | 'peer', peer: string | null, reason: string): void {
    this.events.push({ kind: 'refused', by, peer, reason });
  }

  /** The driver trusts the session's peer: from now on it is used. */
  establish(session: Session, now: Millis): void {
    const { claim, number } = session.terms;
    const peer = this.peer(claim.serverName);
    session.state = 'established';
    const restarted = peer.add(session);
    this.established.add(session);
    if (this.established.size > this.limits.sessions) this.forget(this.#quietestBut(session));
    this.events.push({ kind: 'established', session: number, peer: peer.name, claim, restarted });
    if (peer.opening !== undefined) this.cancel(peer.opening);
    this.postpone(peer, undefined);
    for (const bytes of session.held) this.events.push({ kind: 'payload', peer: peer.name, bytes });
    session.held = [];
    session.heldBytes = 0;
    this.retireReplaced(peer, now);
    for (const item of peer.queue.drain()) this.sendOn(this.current(peer)!, item);
  }

  #quietestBut(kept: Session): Session {
    let quietest: Session | undefined;
    for (const session of this.established) {
      if (session === kept) continue;
      if (quietest === undefined || session.lastHeardAt < quietest.lastHeardAt) quietest = session;
    }
    assert(quietest !== undefined, 'the limit of sessions is at least one');
    return quietest;
  }

  /** The old sessions go once a record has shown that the peer uses the new one. */
  retireReplaced(peer: Peer, now: Millis): void {
    const best = peer.best(this.identity.noisePublic);
    if (!best?.heard) return;
    for (const session of peer.sessions) {
      if (session !== best && session.retireAt === undefined) this.retire(session, now);
    }
  }

  /** From now on the session only understands what is late. */
  retire(session: Session, now: Millis): void {
    session.retireAt = now + this.limits.lingerMs;
    this.retired.add(session);
    this.stopConfirming(session);
  }

  stopConfirming(session: Session): void {
    if (session.unconfirmed) this.unconfirmed.delete(session.unconfirmed.id);
    session.unconfirmed = undefined;
  }

  forget(session: Session): void {
    this.stopConfirming(session);
    this.connections.delete(session.terms.local, session);
    this.undecided.delete(session.terms.number);
    this.established.delete(session);
    this.retired.delete(session);
    this.peers.get(session.terms.claim.serverName)?.remove(session);
  }
}

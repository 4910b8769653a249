import { assert } from '../base/assert.ts';
import { equal, hex } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import { encodeClose } from './control.ts';
import { longestSecond } from './handshake_payload.ts';
import type { IdentityClaim } from './identity.ts';
import { type Candidate, Opening } from './opening.ts';
import type { Peer } from './peer.ts';
import type { PipeRecord } from './record.ts';
import { Session } from './session.ts';
import type { PipeState } from './state.ts';
import { MAX_INTERVAL_MS } from './timing.ts';
import { TokenBucket } from './token_bucket.ts';

/** What the answer to an initiator's first record takes, in bytes: no XX3 is repeated before both had time to cross. */
const FIRST_ANSWER_BYTES = 128;
/** A timer whose datagram was never reported as left runs all the same. */
const UNREPORTED_MS = 2 * MAX_INTERVAL_MS;
/** A responder leaves renewing by age to the initiator for so much longer. */
const RESPONDER_PATIENCE = 1.01;

/** Opens sessions: XX1 until an answer is trusted, XX3 until a record has come. */
export class Initiator {
  readonly #state: PipeState;
  readonly #bucket: TokenBucket;

  constructor(state: PipeState) {
    this.#state = state;
    this.#bucket = new TokenBucket(state.limits.readsPerSecond, state.limits.readsBurst);
  }

  /** Whether a session has become so old that it should be replaced. */
  isDue(session: Session, now: Millis): boolean {
    const { initiator, createdAt } = session.terms;
    const age = this.#state.limits.renewAfterMs * (initiator ? 1 : RESPONDER_PATIENCE);
    return session.recordsSent >= this.#state.limits.renewAfterRecords || now - createdAt >= age;
  }

  /** Begins a handshake beside the session that there is; at most once per handshake timer. */
  renew(peer: Peer, now: Millis): void {
    if (peer.opening !== undefined || peer.openAt !== undefined || now < peer.renewNotBefore) return;
    const address = this.#addressOf(peer, 0);
    if (address === undefined) return;
    peer.renewNotBefore = now + this.#state.timeout(address, 0, [longestSecond(peer.name.length)]);
    this.open(peer, now);
  }

  /** Begins a handshake, or has it begin as soon as it may. */
  open(peer: Peer, now: Millis): void {
    if (peer.opening !== undefined) return;
    if (now < peer.openNotBefore) {
      this.#state.postpone(peer, peer.openNotBefore);
      return;
    }
    if (this.#addressOf(peer, 0) === undefined) {
      this.#state.events.push({ kind: 'unreachable', peer: peer.name, attempts: 0 });
      this.#state.postpone(peer, now + MAX_INTERVAL_MS);
      return;
    }
    this.#state.postpone(peer, undefined);
    this.#begin(peer, 0, now);
  }

  /** Begins a handshake with a new ephemeral key. */
  #begin(peer: Peer, attempts: number, now: Millis): void {
    const opening = new Opening({
      id: this.#state.nextNumber(),
      peer: peer.name,
      local: this.#state.connections.choose(),
      identity: this.#state.identity,
      random: this.#state.random,
      now,
    });
    opening.attempts = attempts;
    peer.opening = opening;
    this.#state.connections.set(opening.local, opening);
    this.#state.openings.set(opening.id, opening);
    this.#sendFirst(peer, opening, now);
  }

  /** A peer may be where its last record came from, or back where the configuration says: both are tried in turn. */
  #addressOf(peer: Peer, attempt: number): Address | undefined {
    const learned = (this.#state.current(peer) ?? peer.sessions.at(-1))?.address;
    return attempt % 2 === 0 ? (learned ?? peer.configured) : (peer.configured ?? learned);
  }

  #sendFirst(peer: Peer, opening: Opening, now: Millis): void {
    opening.target = this.#addressOf(peer, opening.attempts) ?? opening.target;
    assert(opening.target !== undefined, 'an opening has somewhere to go');
    opening.targets.add(opening.target);
    opening.copies++;
    opening.dueAt = now + UNREPORTED_MS;
    this.#state.sendOwn(opening.target, opening.first, 'XX1', opening.id);
  }

  /** Repeats what has not been answered in time. */
  tick(now: Millis): void {
    for (const opening of [...this.#state.openings.values()]) {
      if (opening.dueAt <= now) this.#openingDue(opening, now);
    }
    for (const session of [...this.#state.unconfirmed.values()]) this.#confirmationDue(session, now);
  }

  #openingDue(opening: Opening, now: Millis): void {
    const peer = this.#state.peer(opening.peer);
    if (opening.deferred !== undefined) {
      this.#complete(opening.deferred, now);
      return;
    }
    opening.attempts++;
    this.#state.events.push({ kind: 'unreachable', peer: peer.name, attempts: opening.attempts });
    this.#state.dropped(peer.queue.expire(now));
    const isRenewal = peer.sessions.length > 0;
    if (peer.queue.isEmpty && (!isRenewal || opening.attempts >= this.#state.limits.renewAttempts)) {
      this.#state.cancel(opening);
      return;
    }
    const isStale =
      opening.copies >= this.#state.limits.copiesPerKey ||
      now - opening.startedAt >= this.#state.limits.halfOpenMs / 2;
    if (isStale && opening.undecided.length === 0) {
      this.#state.cancel(opening);
      this.#begin(peer, opening.attempts, now);
    } else {
      this.#sendFirst(peer, opening, now);
    }
  }

  /** XX2. */
  second(from: Address, bytes: Uint8Array, record: Extract<PipeRecord, { kind: 'XX2' }>, now: Millis): void {
    const owner = this.#state.connections.get(record.destination);
    if (owner === undefined || owner.kind === 'answer') return;
    if (!this.#bucket.take(now)) {
      this.#state.statistics.throttled++;
      return;
    }
    if (owner.kind === 'session') {
      // The XX3 seems to have been lost: its XX2 comes again.
      const { unconfirmed } = owner;
      if (!unconfirmed || !equal(unconfirmed.second, bytes)) return;
      if (this.#state.mayAnswer(owner.address, unconfirmed.third.length, now))
        this.#state.sendOwn(owner.address, unconfirmed.third, 'XX3');
      return;
    }
    if (owner.undecided.length >= this.#state.limits.candidates) {
      this.#state.statistics.throttled++;
      return;
    }
    const number = this.#state.nextNumber();
    const read = owner.read(from, bytes, record.message, number, now);
    if (read.kind === 'known') return;
    if (read.kind === 'unbound') {
      this.#state.refused('us', owner.peer, 'the identity is not signed');
      return;
    }
    if (read.kind !== 'candidate') {
      this.#state.statistics.unauthenticated++;
      return;
    }
    const { candidate } = read;
    if (candidate.claim.serverName !== owner.peer) {
      this.#state.refused('us', owner.peer, `the answer came from ${candidate.claim.serverName}`);
      return;
    }
    owner.undecided.push(candidate);
    this.#state.ask(candidate, candidate.claim, from);
  }

  /** The driver trusts the one who has answered. */
  accept(candidate: Candidate, now: Millis): void {
    const { opening, claim, said } = candidate;
    const peerGoesFirst = hex(claim.noisePublic) < hex(this.#state.identity.noisePublic);
    if (peerGoesFirst && said.opening && this.#isBeingOpenedBy(opening, claim)) {
      const longest = longestSecond(opening.peer.length);
      opening.deferred = candidate;
      opening.dueAt = now + this.#state.timeout(opening.target!, 0, [longest, longest]);
      return;
    }
    this.#complete(candidate, now);
  }

  /** Whether the peer's own opening, of which its answer has told, has come this far as well. */
  #isBeingOpenedBy(opening: Opening, claim: IdentityClaim): boolean {
    if (this.#state.answers.isWaiting(opening.target!)) return true;
    for (const waiting of this.#state.undecided.values()) {
      if (waiting.kind === 'session' && equal(waiting.terms.claim.noisePublic, claim.noisePublic))
        return true;
    }
    return false;
  }

  /** Makes a session of an answer. Uses up the candidate's handshake. */
  #sessionOf(candidate: Candidate, address: Address, now: Millis): { session: Session; third: Uint8Array } {
    const { opening, said, claim, handshake, number } = candidate;
    const generation = this.#state.peer(opening.peer).nextGeneration;
    const third = opening.confirm(candidate, this.#state.bootId, generation);
    const session = new Session({
      number,
      initiator: true,
      local: opening.local,
      remote: said.connectionId,
      keys: handshake.split(),
      claim,
      bootId: said.bootId,
      generation,
      address,
      createdAt: now,
    });
    return { session, third };
  }

  #complete(candidate: Candidate, now: Millis): void {
    const { opening, second } = candidate;
    const { session, third } = this.#sessionOf(candidate, candidate.address, now);
    const id = this.#state.nextNumber();
    session.unconfirmed = { id, second, third, attempts: 0, dueAt: now + UNREPORTED_MS, carried: 0 };
    this.#state.unconfirmed.set(id, session);
    this.#state.connections.set(opening.local, session);
    this.#state.cancel(opening);
    this.#state.sendOwn(session.address, third, 'XX3', id);
    this.#state.establish(session, now);
  }

  /** Tells the one who has answered; the opening goes on, as the right one may still answer. */
  refuseCandidate(candidate: Candidate, reason: string, now: Millis): void {
    const { session, third } = this.#sessionOf(candidate, candidate.address, now);
    if (this.#state.mayAnswer(session.address, third.length, now)) {
      this.#state.sendOwn(session.address, third, 'XX3');
      this.#state.answerOn(session, encodeClose(reason), 'close', now);
    }
    this.#state.refused('us', candidate.claim.serverName, reason);
  }

  #confirmationDue(session: Session, now: Millis): void {
    const { unconfirmed } = session;
    if (unconfirmed === undefined || unconfirmed.dueAt > now) return;
    unconfirmed.attempts++;
    const peer = session.terms.claim.serverName;
    this.#state.events.push({ kind: 'unreachable', peer, attempts: unconfirmed.attempts });
    if (unconfirmed.attempts >= this.#state.limits.confirmAttempts) {
      this.#state.forget(session);
      return;
    }
    unconfirmed.dueAt = now + UNREPORTED_MS;
    this.#state.sendOwn(session.address, unconfirmed.third, 'XX3', unconfirmed.id);
  }

  /** The last bit of XX1 or XX3 has left: its timer starts here. */
  left(handshake: number, now: Millis): void {
    const opening = this.#state.openings.get(handshake);
    if (opening?.deferred === undefined && opening?.target !== undefined) {
      opening.dueAt =
        now + this.#state.timeout(opening.target, opening.attempts, [longestSecond(opening.peer.length)]);
    }
    const session = this.#state.unconfirmed.get(handshake);
    if (session?.unconfirmed !== undefined) {
      const { unconfirmed } = session;
      const awaited = [unconfirmed.carried, FIRST_ANSWER_BYTES];
      unconfirmed.dueAt = now + this.#state.timeout(session.address, unconfirmed.attempts, awaited);
    }
  }
}

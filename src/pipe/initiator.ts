import { assert } from '../base/assert.ts';
import { equal, hex } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import { agreementOf, NO_CAPABILITIES, type Said, USUAL_MTU } from './agreement.ts';
import { ASK_FOR_CONFIRMATION, encodeClose } from './control.ts';
import { longestSecond } from './handshake_payload.ts';
import { deviceKeyOf, nameOf, type ServerClaim } from './identity.ts';
import { EARLY_NUMBER } from './messages.ts';
import { longestResumption } from './offer.ts';
import { type Candidate, type EarlyMessage, Opening } from './opening.ts';
import type { Peer } from './peer.ts';
import type { ConnectionId, PipeRecord } from './record.ts';
import { firstProgress, Session, type Unconfirmed } from './session.ts';
import type { PipeState } from './state.ts';
import { MAX_INTERVAL_MS } from './timing.ts';
import { TokenBucket } from './token_bucket.ts';

/** What the answer to an initiator's first record takes, in bytes: no XX3 is repeated before both had time to cross. */
const FIRST_ANSWER_BYTES = 128;
/** A timer whose datagram was never reported as left runs all the same. */
const UNREPORTED_MS = 2 * MAX_INTERVAL_MS;
/** A responder leaves renewing by age to the initiator for so much longer. */
const RESPONDER_PATIENCE = 1.01;

/** Opens sessions: XX1 or IK1 until an answer is trusted, XX3 or a question until a record has come. */
export class Initiator {
  readonly #state: PipeState;
  readonly #bucket: TokenBucket;

  constructor(state: PipeState) {
    this.#state = state;
    this.#bucket = new TokenBucket(state.limits.readsPerSecond, state.limits.readsBurst);
  }

  /** Whether a session has become so old that it should be replaced, or this side has something else to say of itself. */
  isDue(session: Session, now: Millis): boolean {
    const { initiator, createdAt, said } = session.terms;
    if (!equal(said.own, this.#state.capabilities)) return true;
    const age = this.#state.limits.renewAfterMs * (initiator ? 1 : RESPONDER_PATIENCE);
    return session.nextNumber >= this.#state.limits.renewAfterRecords || now - createdAt >= age;
  }

  /**
   * Begins a handshake beside the session that there is; at most once per handshake timer. Devices do it themselves.
   * @param isSilent the peer seems to have lost that session
   */
  renew(peer: Peer, now: Millis, isSilent = false): void {
    if (peer.opening !== undefined || peer.openAt !== undefined || now < peer.renewNotBefore) return;
    if (deviceKeyOf(peer.name) !== undefined) return;
    const address = this.#addressOf(peer, 0);
    if (address === undefined) return;
    peer.renewNotBefore = now + this.#state.timeout(address, 0, [this.#longest(peer.name)]);
    this.open(peer, now, isSilent);
  }

  /** Begins a handshake with a server, or has it begin as soon as it may. */
  open(peer: Peer, now: Millis, isSilent = false): void {
    if (peer.opening !== undefined) return;
    assert(deviceKeyOf(peer.name) === undefined, 'nobody opens a session to a device');
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
    this.#begin(peer, 0, now, isSilent);
  }

  /** The longest answer that the peer of that name can give. */
  #longest(peer: string): number {
    return longestSecond(peer.length, this.#state.network);
  }

  /** Begins a handshake with a new ephemeral key. */
  #begin(peer: Peer, attempts: number, now: Millis, isSilent = false): void {
    const { versions, bootId, capabilities } = this.#state;
    const { known } = peer;
    // Whoever has not answered IK1 may have forgotten this side, or find the generation too low.
    const resumes = attempts === 0 && known?.claim.kind === 'server';
    const generation = peer.nextGeneration(this.#state.wallTime(now));
    const early = resumes ? this.#earlyMessage(peer, known.said, generation, { isSilent, now }) : undefined;
    const opening = new Opening({
      id: this.#state.nextNumber(),
      peer: peer.name,
      local: this.#state.connections.choose(),
      party: this.#state,
      version: versions[0]!,
      bootId,
      generation,
      early,
      known: resumes
        ? {
            claim: known.claim,
            capabilities: equal(known.said.own, capabilities) ? known.said.peer : NO_CAPABILITIES,
          }
        : undefined,
      now,
    });
    opening.attempts = attempts;
    peer.opening = opening;
    this.#state.connections.set(opening.local, opening);
    this.#state.openings.set(opening.id, opening);
    this.#sendFirst(peer, opening, now);
  }

  /** What goes in an IK1: what waits, or what was sent on a session that the peer seems to have lost. */
  #earlyMessage(
    peer: Peer,
    said: Said,
    generation: number,
    { isSilent, now }: { readonly isSilent: boolean; readonly now: Millis },
  ): EarlyMessage | undefined {
    const { earlyData, mtu } = agreementOf(said);
    const isRemembered = equal(said.own, this.#state.capabilities);
    if (!earlyData || !isRemembered || peer.isCompact !== true) return undefined;
    const { messages, network } = this.#state;
    const { unheard } = peer;
    const isRecent = unheard !== undefined && now - unheard.at <= messages.repeatable(peer);
    const waiting = peer.queue.peek();
    const item = waiting ?? (isSilent && isRecent ? unheard.item : undefined);
    if (item?.early !== true) return undefined;
    const most = Math.min(this.#state.mtu, mtu ?? USUAL_MTU);
    if (longestResumption(item.bytes.length, network) > most) return undefined;
    const bytes = messages.sealEarly(peer, item, generation, now);
    if (bytes === undefined) return undefined;
    // The name of the message is taken, whatever becomes of this handshake.
    peer.mustExceed(generation);
    return { item, bytes, isRepeated: item !== waiting };
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
    this.#state.sending.own(opening.target, opening.first, opening.label, opening.id);
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
    const { copiesPerKey, resumeAttempts } = this.#state.limits;
    const isStale =
      opening.copies >= (opening.label === 'IK1' ? resumeAttempts : copiesPerKey) ||
      now - opening.startedAt >= this.#state.limits.halfOpenMs / 2;
    if (isStale && opening.undecided.length === 0) {
      this.#state.cancel(opening);
      this.#begin(peer, opening.attempts, now);
    } else {
      this.#sendFirst(peer, opening, now);
    }
  }

  /** XX2 or IK2. */
  second(
    from: Address,
    bytes: Uint8Array,
    record: {
      readonly kind: 'XX2' | 'IK2';
      readonly destination: ConnectionId;
      readonly message: Uint8Array;
    },
    now: Millis,
  ): void {
    const owner = this.#state.connections.get(record.destination);
    if (owner === undefined || owner.kind === 'answer') return;
    if (!this.#bucket.take(now)) {
      this.#state.statistics.throttled++;
      return;
    }
    if (owner.kind === 'session') {
      // What ended the handshake seems to have been lost: what it answered comes again.
      const { unconfirmed } = owner;
      if (!unconfirmed || !equal(unconfirmed.second, bytes)) return;
      const { third } = unconfirmed;
      if (third === undefined) this.#state.sending.answer(owner, ASK_FOR_CONFIRMATION, 'ask', now);
      else if (this.#state.strangers.mayAnswer(owner.address, third.length, now))
        this.#state.sending.own(owner.address, third, 'XX3');
      return;
    }
    if (owner.undecided.length >= this.#state.limits.candidates || owner.isFull) {
      this.#state.statistics.throttled++;
      return;
    }
    const read = owner.read(from, bytes, record, this.#state.nextNumber(), now);
    if (read.ok) this.#offered(owner, read.value, from);
    else if (read.problem === 'unbound')
      this.#state.refused('us', owner.peer, 'the answer is not signed in that name');
    else if (read.problem !== 'known') this.#state.statistics.unauthenticated++;
  }

  #offered(opening: Opening, candidate: Candidate, from: Address): void {
    const name = nameOf(candidate.claim);
    if (name !== opening.peer) {
      this.#state.refused('us', opening.peer, `the answer came from ${name}`);
      return;
    }
    opening.undecided.push(candidate);
    this.#state.ask(candidate, from);
  }

  /** Under load the peer wants to see that somebody is at this address. Nobody knows who has sent this: no timer changes. */
  cookie(from: Address, { destination, cookie }: Extract<PipeRecord, { kind: 'cookie' }>, now: Millis): void {
    const opening = this.#openingOf(from, destination);
    if (opening?.setCookie(cookie)) this.#sendAgain(opening, now);
  }

  /** The peer, or somebody in its name, has not got the version that was offered. */
  versions(
    from: Address,
    { destination, versions }: Extract<PipeRecord, { kind: 'versions' }>,
    now: Millis,
  ): void {
    const opening = this.#openingOf(from, destination);
    const shared = this.#state.versions.find((version) => versions.includes(version));
    if (shared !== undefined && opening?.offer(shared)) this.#sendAgain(opening, now);
  }

  #openingOf(from: Address, id: ConnectionId): Opening | undefined {
    const owner = this.#state.connections.get(id);
    return owner?.kind === 'opening' && owner.targets.has(from) ? owner : undefined;
  }

  #sendAgain(opening: Opening, now: Millis): void {
    const { first, target, label } = opening;
    if (this.#state.strangers.mayAnswer(target!, first.length, now))
      this.#state.sending.own(target!, first, label);
  }

  /** The driver trusts the one who has answered. */
  accept(candidate: Candidate, now: Millis): void {
    const { opening, claim, said } = candidate;
    const peerGoesFirst = hex(claim.noisePublic) < hex(this.#state.identity.noisePublic);
    if (peerGoesFirst && said.opening && this.#isBeingOpenedBy(opening, claim)) {
      const longest = this.#longest(opening.peer);
      opening.deferred = candidate;
      opening.dueAt = now + this.#state.timeout(opening.target!, 0, [longest, longest]);
      return;
    }
    this.#complete(candidate, now);
  }

  /** Whether the peer's own opening, of which its answer has told, has come this far as well. */
  #isBeingOpenedBy(opening: Opening, claim: ServerClaim): boolean {
    if (this.#state.answers.isWaiting(opening.target!, claim.noisePublic)) return true;
    for (const waiting of this.#state.undecided.values()) {
      if (waiting.kind === 'session' && equal(waiting.terms.claim.noisePublic, claim.noisePublic))
        return true;
    }
    return false;
  }

  /** Makes a session of an answer. Uses up the candidate's handshake. */
  #sessionOf(
    candidate: Candidate,
    address: Address,
    now: Millis,
  ): { session: Session; third: Uint8Array | undefined } {
    const { kind, opening, known, said, claim, handshake, number } = candidate;
    // An IK1 that is answered by XX2 was not read, nor was an XX1 by who knows of no negotiation.
    const isRead = known === undefined ? said.capabilities.length > 0 : kind === 'IK2';
    const generation = isRead
      ? opening.generation
      : this.#state.peer(opening.peer).nextGeneration(this.#state.wallTime(now));
    const isAll = this.#state.peer(opening.peer).queue.isEmpty;
    const third =
      kind === 'IK2' ? undefined : opening.confirm(candidate, isRead ? undefined : generation, isAll);
    const exchanged = { own: this.#state.capabilities, peer: said.capabilities };
    const session = new Session(
      {
        number,
        initiator: true,
        local: opening.local,
        remote: said.connectionId,
        claim,
        network: this.#state.network,
        bootId: said.bootId,
        generation,
        said: exchanged,
        agreed: agreementOf(exchanged),
        address,
        createdAt: now,
      },
      firstProgress(handshake.splitKeys()),
    );
    if (kind === 'IK2' && opening.early !== undefined) session.skip(EARLY_NUMBER + 1);
    return { session, third };
  }

  #complete(candidate: Candidate, now: Millis): void {
    const { opening, second } = candidate;
    const { session, third } = this.#sessionOf(candidate, candidate.address, now);
    const firstNumber = session.nextNumber;
    const id = this.#state.nextNumber();
    session.unconfirmed = { id, second, third, attempts: 0, dueAt: now + UNREPORTED_MS, carried: 0 };
    this.#state.unconfirmed.set(id, session);
    this.#state.connections.set(opening.local, session);
    this.#state.cancel(opening);
    if (third !== undefined) this.#state.sending.own(session.address, third, 'XX3', id);
    if (opening.early !== undefined)
      this.#carried(opening, opening.early, candidate.said.early === true, now);
    this.#state.establish(session, now);
    // What has been sent just now shows the peer as much as a question would.
    if (third === undefined && session.nextNumber === firstNumber) this.#confirm(session, now);
    else if (third === undefined) this.#awaitConfirmation(session, now);
  }

  /** The handshake that had early data is over: what was not taken goes on the session, under the same name. */
  #carried({ peer: name }: Opening, early: EarlyMessage, isTaken: boolean, now: Millis): void {
    const peer = this.#state.peer(name);
    const { item, isRepeated } = early;
    if (!isTaken) {
      if (isRepeated) this.#state.dropped(peer.queue.add(this.#state.messages.again(item), now));
    } else if (!isRepeated && peer.queue.remove(item) && item.receipt !== null) {
      this.#state.events.push({ kind: 'taken', receipt: item.receipt });
    }
  }

  /**
   * Tells the one who has answered; the opening goes on, as the right one may still answer. A device does not show who
   * it is to a server that it does not trust.
   */
  refuseCandidate(candidate: Candidate, reason: string, now: Millis): void {
    this.#state.refused('us', nameOf(candidate.claim), reason);
    if (candidate.kind === 'XX2' && this.#state.identity.kind === 'device') return;
    const { session, third } = this.#sessionOf(candidate, candidate.address, now);
    if (third === undefined) {
      this.#state.peer(candidate.opening.peer).known = undefined;
      this.#state.sending.answer(session, encodeClose(reason), 'close', now);
    } else if (this.#state.strangers.mayAnswer(session.address, third.length, now)) {
      this.#state.sending.own(session.address, third, 'XX3');
      this.#state.sending.answer(session, encodeClose(reason), 'close', now);
    }
  }

  #confirmationDue(session: Session, now: Millis): void {
    const { unconfirmed } = session;
    if (unconfirmed === undefined || unconfirmed.dueAt > now) return;
    unconfirmed.attempts++;
    const peer = nameOf(session.terms.claim);
    this.#state.events.push({ kind: 'unreachable', peer, attempts: unconfirmed.attempts });
    if (unconfirmed.attempts >= this.#state.limits.confirmAttempts) {
      this.#state.forget(session);
      return;
    }
    unconfirmed.dueAt = now + UNREPORTED_MS;
    this.#lookElsewhere(session, unconfirmed);
    this.#confirm(session, now);
  }

  /** The peer may have moved since it answered, which another session with it may know: both addresses are tried in turn. */
  #lookElsewhere(session: Session, unconfirmed: Unconfirmed): void {
    const peer = this.#state.peer(nameOf(session.terms.claim));
    const { address } = session;
    const others = peer.sessions.filter((other) => other !== session && other.heard);
    const elsewhere =
      unconfirmed.elsewhere ??
      others.map(({ path }) => path.proved).find((proved) => proved !== undefined && proved !== address);
    if (elsewhere === undefined) return;
    unconfirmed.elsewhere = address;
    session.path.moveTo(elsewhere);
  }

  /** Says what is to be confirmed. */
  #confirm(session: Session, now: Millis): void {
    const { third, id } = session.unconfirmed!;
    if (third === undefined) this.#state.sending.control(session, ASK_FOR_CONFIRMATION, 'ask', now, id);
    else this.#state.sending.own(session.address, third, 'XX3', id);
  }

  #awaitConfirmation(session: Session, now: Millis): void {
    const { unconfirmed } = session;
    if (unconfirmed === undefined) return;
    const awaited = [unconfirmed.carried, FIRST_ANSWER_BYTES];
    unconfirmed.dueAt = now + this.#state.timeout(session.address, unconfirmed.attempts, awaited);
  }

  /** The last bit of a message that is repeated by a timer has left: the timer starts here. */
  left(handshake: number, now: Millis): void {
    const opening = this.#state.openings.get(handshake);
    if (opening?.deferred === undefined && opening?.target !== undefined) {
      opening.dueAt =
        now + this.#state.timeout(opening.target, opening.attempts, [this.#longest(opening.peer)]);
    }
    const session = this.#state.unconfirmed.get(handshake);
    if (session !== undefined) this.#awaitConfirmation(session, now);
  }
}

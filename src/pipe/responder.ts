import { equal } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import { sha256 } from '../crypto/sha256.ts';
import { X25519_BYTES } from '../crypto/x25519.ts';
import type { Address } from '../link/link.ts';
import { agreementOf } from './agreement.ts';
import type { Accepted, Answer } from './answers.ts';
import { CONFIRMATION, encodeBehind, encodeClose } from './control.ts';
import { Cookies } from './cookie.ts';
import type { EarlyData } from './early_data.ts';
import { longestSecond } from './handshake_payload.ts';
import { nameOf } from './identity.ts';
import { CHALLENGE_BYTES } from './path.ts';
import { type ConnectionId, encodeCookie, encodeFirst, encodeVersions, type FirstRecord } from './record.ts';
import { firstProgress, Session } from './session.ts';
import type { PipeState } from './state.ts';
import { TokenBucket } from './token_bucket.ts';

/** Answers first messages and XX3, and sends nothing by itself. */
export class Responder {
  readonly #state: PipeState;
  readonly #early: EarlyData;
  readonly #repeatBucket: TokenBucket;
  readonly #cookies: Cookies;
  readonly #makeChallenge = (): Uint8Array => this.#state.random.bytes(CHALLENGE_BYTES);

  constructor(state: PipeState, early: EarlyData) {
    this.#early = early;
    this.#cookies = new Cookies(state.random);
    const { readsPerSecond, readsBurst } = state.limits;
    this.#state = state;
    this.#repeatBucket = new TokenBucket(readsPerSecond, readsBurst);
  }

  /** XX1 or IK1: a new one gets an answer, a repeated one the same answer again. */
  first(from: Address, record: FirstRecord, now: Millis): void {
    const { versions, network, identity, limits, answers, connections, statistics } = this.#state;
    // Nobody calls a device: who it is, it shows to the servers that it trusts.
    if (identity.kind === 'device') {
      statistics.unauthenticated++;
      return;
    }
    // In every version there is a key in it.
    if (record.message.length < X25519_BYTES) {
      statistics.malformed++;
      return;
    }
    if (!versions.includes(record.version)) {
      this.#refuseVersion(from, record, now);
      return;
    }
    // Somebody has kept a better version from this side.
    if (record.refused.some((version) => versions.includes(version))) {
      statistics.unauthenticated++;
      return;
    }
    const digest = sha256(encodeFirst(record.header, record.message));
    const isProved = record.cookie !== undefined && this.#cookies.isGood(record.cookie, from, digest, now);
    const longest = longestSecond(identity.serverName.length, network);
    if (!this.#state.strangers.mayAnswer(from, longest, now, isProved)) {
      if (!isProved) this.#challenge(from, record, digest, now);
      return;
    }
    const known = answers.find(digest);
    if (known !== undefined) {
      if (known.address !== from) known.isElsewhere = true;
      this.#state.sending.own(from, known.second, known.label);
      return;
    }
    const local = connections.choose();
    const answer = answers.create(record, {
      local,
      from,
      now,
      lookUp: (noisePublic) => {
        const peer = this.#state.peers.withKey(noisePublic);
        if (peer?.known === undefined) return undefined;
        const { claim, said } = peer.known;
        const floor = Math.max(peer.floor, this.#state.earlyGenerations.of(noisePublic));
        return { claim, capabilities: said.peer, floor };
      },
      isOpening: (peer) => this.#isOpening(peer, from),
      takesEarly: (claim) => this.#early.isWelcome(claim),
      accept: (accepted) => this.#accept(accepted, { local, remote: record.source, from, now }),
    });
    if (!answer.ok) {
      if (answer.problem === 'replayed') statistics.replayed++;
      else statistics.malformed++;
      return;
    }
    const { isOfDevice } = answer.value;
    const most = isOfDevice ? limits.deviceHalfOpen : limits.halfOpen;
    while (answers.count(isOfDevice) > most)
      this.#remove(answers.makeRoom((address) => this.#state.strangers.isKnown(address), answer.value));
    connections.set(local, answer.value);
    this.#state.sending.own(from, answer.value.second, answer.value.label);
  }

  #isOpening(peer: string | undefined, from: Address): boolean {
    if (peer !== undefined) return this.#state.peer(peer).opening !== undefined;
    return [...this.#state.openings.values()].some(({ target }) => target === from);
  }

  /** What an IK1 has agreed about. The old session stays until a record shows that the IK1 was new. */
  #accept(
    { said, claim, keys }: Accepted,
    { local, remote, from, now }: { local: ConnectionId; remote: ConnectionId; from: Address; now: Millis },
  ): Session {
    const { bootId, generation, early } = said;
    if (early !== undefined) this.#early.arrived({ claim, address: from, generation, message: early }, now);
    this.#state.peer(nameOf(claim)).accepted(generation);
    const number = this.#state.nextNumber();
    const { network, capabilities } = this.#state;
    const exchanged = { own: capabilities, peer: said.capabilities };
    return new Session(
      {
        ...{ number, initiator: false, local, remote, claim, network, bootId, generation },
        ...{ said: exchanged, agreed: agreementOf(exchanged) },
        address: from,
        createdAt: now,
      },
      firstProgress(keys),
    );
  }

  /** Has the sender of a first message show that he receives at that address. Nothing is kept of him. */
  #challenge(from: Address, { source }: FirstRecord, digest: Uint8Array, now: Millis): void {
    const cookie = encodeCookie(source, this.#cookies.make(from, digest, now));
    if (!this.#state.strangers.mayAnswerShortly(from, cookie.length, now)) return;
    this.#state.statistics.cookiesSent++;
    this.#state.sending.own(from, cookie, 'cookie');
  }

  #refuseVersion(from: Address, { source }: FirstRecord, now: Millis): void {
    const answer = encodeVersions(source, this.#state.versions);
    if (!this.#state.strangers.mayAnswerShortly(from, answer.length, now)) return;
    this.#state.statistics.versionsSent++;
    this.#state.sending.own(from, answer, 'versions');
  }

  #remove(answer: Answer | undefined): void {
    if (answer) this.#state.connections.delete(answer.local, answer);
  }

  /** XX3. */
  third(
    from: Address,
    bytes: Uint8Array,
    record: { readonly destination: ConnectionId; readonly message: Uint8Array },
    now: Millis,
  ): void {
    const owner = this.#state.connections.get(record.destination);
    if (owner?.kind === 'session') {
      this.#thirdAgain(owner, bytes, now);
      return;
    }
    if (owner?.kind !== 'answer') return;
    const finished = this.#state.answers.finish(owner, record.message);
    if (!finished.ok) {
      if (finished.problem === 'unbound') this.#state.refused('us', null, 'the identity is not signed');
      else this.#state.statistics.unauthenticated++;
      return;
    }
    const { said, claim, keys } = finished.value;
    const exchanged = { own: this.#state.capabilities, peer: said.capabilities };
    const session = new Session(
      {
        number: this.#state.nextNumber(),
        initiator: false,
        local: owner.local,
        remote: owner.remote,
        claim,
        network: this.#state.network,
        bootId: said.bootId,
        generation: said.generation,
        said: exchanged,
        agreed: agreementOf(exchanged),
        address: owner.address,
        createdAt: now,
      },
      firstProgress(keys),
    );
    // Who has sent XX3 has read XX2 where that went to; anybody on the path may have sent this copy.
    if (owner.isElsewhere) session.path.doubt(from, bytes.length, this.#makeChallenge);
    else session.path.heard(from, bytes.length, this.#makeChallenge);
    session.thirdDigest = sha256(bytes);
    session.isAsked = said.isAll === true;
    this.#state.connections.set(owner.local, session);
    const highest = this.#state.peers.find(nameOf(claim))?.behind(session);
    // Held back by somebody, or of a side whose clock has gone back: what is numbered like something old is nothing new.
    if (highest !== undefined) this.end(session, encodeBehind(highest), now);
    else if (claim.kind === 'device' && !this.#state.acceptsDevices)
      this.refuseSession(session, 'this server has no pipes for clients', now);
    else this.#state.ask(session, from);
  }

  /**
   * A record on the session of an IK1: if it is genuine then the IK1 was new, since nobody else than its sender has the
   * keys. The session is the driver's to decide about now.
   * @param bytes of the record
   */
  begun(answer: Answer, from: Address, bytes: number): void {
    const session = answer.tentative;
    if (session === undefined) return;
    if (answer.isElsewhere) session.path.doubt(from, bytes, this.#makeChallenge);
    answer.tentative = undefined;
    this.#state.connections.set(answer.local, session);
    this.#state.ask(session, from);
  }

  /** The initiator of a session without XX3 wants to know whether its records arrive. */
  asked(session: Session, now: Millis): void {
    if (session.terms.initiator) return;
    if (session.state === 'undecided') session.isAsked = true;
    else this.#state.sending.answer(session, CONFIRMATION, 'confirm', now);
  }

  /** The initiator has not heard from this side yet. */
  #thirdAgain(session: Session, bytes: Uint8Array, now: Millis): void {
    if (session.thirdDigest === undefined || session.state === 'undecided') return;
    if (!this.#repeatBucket.take(now)) {
      this.#state.statistics.throttled++;
      return;
    }
    if (!equal(session.thirdDigest, sha256(bytes))) return;
    if (session.state === 'refused') this.#close(session, now);
    else this.#state.sending.answer(session, CONFIRMATION, 'confirm', now);
  }

  /** The driver does not trust the initiator. */
  refuseSession(session: Session, reason: string, now: Millis): void {
    this.end(session, encodeClose(reason), now);
    this.#state.refused('us', nameOf(session.terms.claim), reason);
  }

  /**
   * Tells the peer that the session is over, now and whenever it goes on all the same.
   * @param farewell a control record
   */
  end(session: Session, farewell: Uint8Array, now: Millis): void {
    session.state = 'refused';
    session.farewell = farewell;
    session.held = [];
    this.#state.retire(session, now);
    this.#close(session, now);
  }

  /** Forgets what a peer has begun with IK1 and not shown to be new. */
  forgetTentative(peer: string): void {
    for (const answer of this.#state.answers.removeOf(peer)) this.#remove(answer);
  }

  /** Forgets handshakes that were never finished. */
  tick(now: Millis): void {
    while ((this.#state.answers.dueAt ?? Number.POSITIVE_INFINITY) <= now)
      this.#remove(this.#state.answers.removeOldest());
  }

  /** Says again, on a session that this side has refused, that it has. */
  closeAgain(session: Session, now: Millis): void {
    if (this.#repeatBucket.take(now)) this.#close(session, now);
  }

  #close(session: Session, now: Millis): void {
    this.#state.sending.answer(session, session.farewell, 'close', now);
  }
}

import { equal } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import { sha256 } from '../crypto/sha256.ts';
import type { Address } from '../link/link.ts';
import type { Answer } from './answers.ts';
import { CONFIRMATION, encodeClose } from './control.ts';
import { longestSecond } from './handshake_payload.ts';
import type { PipeRecord } from './record.ts';
import { Session } from './session.ts';
import type { PipeState } from './state.ts';
import { TokenBucket } from './token_bucket.ts';

/** Answers XX1 and XX3, and sends nothing by itself. */
export class Responder {
  readonly #state: PipeState;
  readonly #repeatBucket: TokenBucket;

  constructor(state: PipeState) {
    const { readsPerSecond, readsBurst } = state.limits;
    this.#state = state;
    this.#repeatBucket = new TokenBucket(readsPerSecond, readsBurst);
  }

  /** XX1: a new one gets an answer, a repeated one gets the same answer again. */
  first(from: Address, bytes: Uint8Array, record: Extract<PipeRecord, { kind: 'XX1' }>, now: Millis): void {
    if (!this.#state.mayAnswer(from, longestSecond(this.#state.identity.serverName.length), now)) return;
    const known = this.#state.answers.find(bytes);
    if (known !== undefined) {
      this.#state.sendOwn(from, known.second, 'XX2');
      return;
    }
    while (this.#state.answers.size >= this.#state.limits.halfOpen)
      this.#remove(this.#state.answers.makeRoom((address) => this.#state.isKnown(address)));
    const local = this.#state.connections.choose();
    const opening = [...this.#state.openings.values()].some(({ target }) => target === from);
    const answer = this.#state.answers.create(bytes, record, { local, from, opening, now });
    if (!answer.ok) {
      this.#state.statistics.malformed++;
      return;
    }
    this.#state.connections.set(local, answer.value);
    this.#state.sendOwn(from, answer.value.second, 'XX2');
  }

  #remove(answer: Answer | undefined): void {
    if (answer) this.#state.connections.delete(answer.local, answer);
  }

  /** XX3. */
  third(from: Address, bytes: Uint8Array, record: Extract<PipeRecord, { kind: 'XX3' }>, now: Millis): void {
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
    const session = new Session({
      number: this.#state.nextNumber(),
      initiator: false,
      local: owner.local,
      remote: owner.remote,
      keys,
      claim,
      bootId: said.bootId,
      generation: said.generation,
      address: from,
      createdAt: now,
    });
    session.thirdDigest = sha256(bytes);
    this.#state.connections.set(owner.local, session);
    this.#state.ask(session, claim, from);
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
    else this.#state.answerOn(session, CONFIRMATION, 'confirm', now);
  }

  /** The driver does not trust the initiator. */
  refuseSession(session: Session, reason: string, now: Millis): void {
    session.state = 'refused';
    session.refusal = reason;
    session.held = [];
    this.#state.retire(session, now);
    this.#close(session, now);
    this.#state.refused('us', session.terms.claim.serverName, reason);
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
    this.#state.answerOn(session, encodeClose(session.refusal), 'close', now);
  }
}

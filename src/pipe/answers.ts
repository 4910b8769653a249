import { concat, hex } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Millis } from '../base/time.ts';
import { sha256 } from '../crypto/sha256.ts';
import { generateKeyPair } from '../crypto/x25519.ts';
import type { Address } from '../link/link.ts';
import { HandshakeState, type TransportKeys } from '../noise/handshake_state.ts';
import { XX } from '../noise/pattern.ts';
import { type Confirmed, decodeConfirmed, encodeAnswered, type SentIdentity } from './handshake_payload.ts';
import { type IdentityClaim, isBound, type LocalIdentity } from './identity.ts';
import { claimOf, MAX_AMPLIFICATION } from './opening.ts';
import { prologue, SUITE } from './prologue.ts';
import { type ConnectionId, handshakeHeader, type PipeRecord } from './record.ts';

/** A handshake that was answered with XX2 and waits for XX3. */
export interface Answer {
  readonly kind: 'answer';
  /** SHA-256 of the XX1, in hexadecimal. */
  readonly digest: string;
  readonly local: ConnectionId;
  readonly remote: ConnectionId;
  /** Where the XX1 came from. Anybody may have written that. */
  readonly address: Address;
  /** The whole XX2. */
  readonly second: Uint8Array;
  readonly createdAt: Millis;
  /** Until the XX3 has come. */
  handshake: HandshakeState | undefined;
}

export type AnswerProblem = 'malformed' | 'too_short_for_an_answer';
export type ThirdProblem = 'forged' | 'malformed' | 'unbound';

export interface Finished {
  readonly said: Confirmed & SentIdentity;
  readonly claim: IdentityClaim;
  readonly keys: TransportKeys;
}

/** The responder's side of XX. It keeps one cached XX2 for each XX1 and sends nothing by itself. */
export class Answers {
  readonly #identity: LocalIdentity;
  readonly #bootId: Uint8Array;
  readonly #random: Random;
  readonly #halfOpenMs: Millis;
  /** By digest, oldest first. */
  readonly #answers = new Map<string, Answer>();

  constructor(identity: LocalIdentity, bootId: Uint8Array, random: Random, halfOpenMs: Millis) {
    this.#identity = identity;
    this.#bootId = bootId;
    this.#random = random;
    this.#halfOpenMs = halfOpenMs;
  }

  get size(): number {
    return this.#answers.size;
  }

  /** When the oldest answer is forgotten. */
  get dueAt(): Millis | undefined {
    const oldest: Answer | undefined = this.#answers.values().next().value;
    return oldest && oldest.createdAt + this.#halfOpenMs;
  }

  /** The answer that an XX1 of these bytes has already got. */
  find(first: Uint8Array): Answer | undefined {
    return this.#answers.get(hex(sha256(first)));
  }

  /** Whether somebody at `address` is waiting to finish a handshake. */
  isWaiting(address: Address): boolean {
    for (const answer of this.#answers.values()) {
      if (answer.address === address && answer.handshake !== undefined) return true;
    }
    return false;
  }

  /** Answers a new XX1 whose datagram is `first`. */
  create(
    first: Uint8Array,
    record: Extract<PipeRecord, { kind: 'XX1' }>,
    options: { local: ConnectionId; from: Address; opening: boolean; now: Millis },
  ): Result<Answer, AnswerProblem> {
    const { local, from, opening, now } = options;
    const identity = this.#identity;
    const handshake = new HandshakeState({
      pattern: XX,
      suite: SUITE,
      role: 'responder',
      prologue: prologue(record.header),
      static: { secret: identity.noiseSecret, public: identity.noisePublic },
      generate: () => generateKeyPair(this.#random),
    });
    // The payload of XX1 is padding, or what later versions say there.
    if (!handshake.readMessage(record.message).ok) return bad('malformed');
    const payload = encodeAnswered(identity, this.#bootId, { connectionId: local, opening });
    const second = concat(handshakeHeader('XX2', record.source), handshake.writeMessage(payload));
    if (second.length > MAX_AMPLIFICATION * first.length) return bad('too_short_for_an_answer');
    const digest = hex(sha256(first));
    const answer: Answer = {
      kind: 'answer',
      digest,
      local,
      remote: record.source,
      address: from,
      second,
      createdAt: now,
      handshake,
    };
    this.#answers.set(digest, answer);
    return ok(answer);
  }

  /** Reads the Noise message of an XX3. After a problem the genuine XX3 can still come. */
  finish(answer: Answer, message: Uint8Array): Result<Finished, ThirdProblem> {
    if (answer.handshake === undefined) return bad('malformed');
    const handshake = answer.handshake.fork();
    const payload = handshake.readMessage(message);
    if (!payload.ok) return bad('forged');
    const said = decodeConfirmed(payload.value);
    if (!said.ok) return bad('malformed');
    const claim = claimOf(said.value, handshake);
    if (!isBound(claim, said.value.binding)) return bad('unbound');
    answer.handshake = undefined;
    return ok({ said: said.value, claim, keys: handshake.split() });
  }

  /**
   * Forgets and returns an answer so that there is room for another: the oldest of the address that has the most, and
   * where addresses have equally many, of one where no peer is known to be. So a flood from one address pushes out
   * itself, and one from many leaves the handshakes of known peers alone.
   */
  makeRoom(isKnown: (address: Address) => boolean): Answer | undefined {
    const counts = new Map<Address, number>();
    for (const { address } of this.#answers.values()) counts.set(address, (counts.get(address) ?? 0) + 1);
    const most = Math.max(0, ...counts.values());
    const oldest = [...this.#answers.values()].filter(({ address }) => counts.get(address) === most);
    const answer = oldest.find(({ address }) => !isKnown(address)) ?? oldest[0];
    if (answer) this.#answers.delete(answer.digest);
    return answer;
  }

  /** Forgets and returns the oldest answer. */
  removeOldest(): Answer | undefined {
    const oldest: Answer | undefined = this.#answers.values().next().value;
    if (oldest) this.#answers.delete(oldest.digest);
    return oldest;
  }
}

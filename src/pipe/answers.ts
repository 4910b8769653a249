import { concat, equal, hex } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Millis } from '../base/time.ts';
import { sha256 } from '../crypto/sha256.ts';
import type { Address } from '../link/link.ts';
import type { HandshakeState, TransportSecrets } from '../noise/handshake_state.ts';
import { createHandshake, ephemeralOf, type Party, readMessage, writeMessage } from './handshake_message.ts';
import {
  type Confirmed,
  decodeConfirmed,
  decodeResumed,
  encodeAccepted,
  encodeAnswered,
  type Resumed,
  type SentIdentity,
} from './handshake_payload.ts';
import { CHECK_BYTES, type IdentityClaim, identityDigest, isBound } from './identity.ts';
import { claimOf, MAX_AMPLIFICATION } from './offer.ts';
import { type ConnectionId, encodeFirst, type FirstRecord, handshakeHeader } from './record.ts';
import type { Session } from './session.ts';

/** A handshake that was answered, and waits for XX3, or for the first record behind an IK2. */
export interface Answer {
  readonly kind: 'answer';
  /** SHA-256 of the first message without a cookie, in hexadecimal. */
  readonly digest: string;
  readonly local: ConnectionId;
  readonly remote: ConnectionId;
  /** Where the first message came from. Anybody may have written that. */
  readonly address: Address;
  readonly label: 'XX2' | 'IK2';
  /** The whole XX2 or IK2. */
  readonly second: Uint8Array;
  readonly createdAt: Millis;
  /** Of an XX2, until the XX3 has come. */
  handshake: HandshakeState | undefined;
  /** Of an IK2, until a record has shown that the IK1 was no repetition: a session that nothing is sent on. */
  tentative: Session | undefined;
}

/** A peer whose static key is known from an earlier session. */
export interface KnownPeer {
  readonly claim: IdentityClaim;
  /** An IK1 of this generation, or of a lower one, is a repetition. */
  readonly floor: number;
}

/** What an IK1 has led to. */
export interface Accepted {
  readonly said: Resumed;
  readonly claim: IdentityClaim;
  readonly keys: TransportSecrets;
}

export type AnswerProblem = 'malformed' | 'replayed' | 'too_short_for_an_answer';
export type ThirdProblem = 'forged' | 'malformed' | 'unbound';

export interface Finished {
  readonly said: Confirmed & SentIdentity;
  readonly claim: IdentityClaim;
  readonly keys: TransportSecrets;
}

interface AnswerOptions {
  readonly local: ConnectionId;
  readonly from: Address;
  readonly now: Millis;
  readonly lookUp: (noisePublic: Uint8Array) => KnownPeer | undefined;
  /** Whether this side is opening a session to the server of that name, or of none to the address of the message. */
  readonly isOpening: (peer: string | undefined) => boolean;
  /** Makes the session of an IK1. */
  readonly accept: (accepted: Accepted) => Session;
}

/** The responder's side of XX and IK. It keeps one cached answer for each first message and sends nothing by itself. */
export class Answers {
  readonly #party: Party;
  readonly #bootId: Uint8Array;
  readonly #halfOpenMs: Millis;
  /** By digest, oldest first. */
  readonly #answers = new Map<string, Answer>();

  constructor(party: Party, bootId: Uint8Array, halfOpenMs: Millis) {
    this.#party = party;
    this.#bootId = bootId;
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

  /** The answer that a first message of this digest has already got. */
  find(digest: Uint8Array): Answer | undefined {
    return this.#answers.get(hex(digest));
  }

  /** Whether somebody at `address`, or with that Noise key, is waiting to finish a handshake. */
  isWaiting(address: Address, noisePublic: Uint8Array): boolean {
    for (const { address: from, handshake, tentative } of this.#answers.values()) {
      if (handshake !== undefined && from === address) return true;
      if (tentative !== undefined && equal(tentative.terms.claim.noisePublic, noisePublic)) return true;
    }
    return false;
  }

  /** Answers a new first message. */
  create(record: FirstRecord, options: AnswerOptions): Result<Answer, AnswerProblem> {
    if (record.kind === 'XX1') return this.#answerWithIdentity(record, options);
    const accepted = this.#accept(record, options);
    if (accepted === 'replayed') return bad('replayed');
    return accepted === undefined
      ? this.#answerWithIdentity(record, options)
      : this.#answerKnown(record, options, accepted);
  }

  /** Reads an IK1; undefined where it was made for another key or another identity, or by somebody who is not known. */
  #accept(
    { header, message }: FirstRecord,
    { lookUp }: AnswerOptions,
  ): { handshake: HandshakeState; said: Resumed; claim: IdentityClaim } | 'replayed' | undefined {
    const digest = identityDigest(this.#party.identity);
    const handshake = createHandshake('IK', 'responder', this.#party, { header, digest });
    const payload = readMessage(handshake, message, this.#party.network);
    if (!payload.ok) return undefined;
    const said = decodeResumed(payload.value);
    const known = lookUp(handshake.remoteStatic!);
    if (!said.ok || known === undefined) return undefined;
    if (!equal(said.value.check, identityDigest(known.claim).slice(0, CHECK_BYTES))) return undefined;
    return said.value.generation <= known.floor
      ? 'replayed'
      : { handshake, said: said.value, claim: known.claim };
  }

  #answerKnown(
    record: FirstRecord,
    options: AnswerOptions,
    { handshake, said, claim }: { handshake: HandshakeState; said: Resumed; claim: IdentityClaim },
  ): Result<Answer, AnswerProblem> {
    const payload = encodeAccepted({
      connectionId: options.local,
      bootId: this.#bootId,
      opening: options.isOpening(claim.serverName),
    });
    const message = writeMessage(handshake, payload, this.#party.network);
    const tentative = options.accept({ said, claim, keys: handshake.splitKeys() });
    return this.#keep(record, options, { label: 'IK2', message, handshake: undefined, tentative });
  }

  /** Goes on with XX: from an XX1, or from an IK1 that cannot be accepted. */
  #answerWithIdentity(record: FirstRecord, options: AnswerOptions): Result<Answer, AnswerProblem> {
    const { network } = this.#party;
    const handshake = record.kind === 'XX1' ? this.#afterXX1(record) : this.#afterIK1(record);
    if (handshake === undefined) return bad('malformed');
    const payload = encodeAnswered(this.#party.identity, this.#bootId, {
      connectionId: options.local,
      opening: options.isOpening(undefined),
    });
    const message = writeMessage(handshake, payload, network);
    return this.#keep(record, options, { label: 'XX2', message, handshake, tentative: undefined });
  }

  #afterXX1({ header, message }: FirstRecord): HandshakeState | undefined {
    const handshake = createHandshake('XX', 'responder', this.#party, { header });
    // The payload of XX1 is padding, or what later versions say there.
    return readMessage(handshake, message, this.#party.network).ok ? handshake : undefined;
  }

  #afterIK1({ header, message }: FirstRecord): HandshakeState | undefined {
    const remoteEphemeral = ephemeralOf(message, this.#party.network);
    const digest = sha256(encodeFirst(header, message));
    return (
      remoteEphemeral &&
      createHandshake('XXfallback', 'responder', this.#party, { header, digest, remoteEphemeral })
    );
  }

  #keep(
    record: FirstRecord,
    { local, from, now }: AnswerOptions,
    rest: Pick<Answer, 'label' | 'handshake' | 'tentative'> & { readonly message: Uint8Array },
  ): Result<Answer, AnswerProblem> {
    const { message, ...state } = rest;
    const first = encodeFirst(record.header, record.message);
    const second = concat(handshakeHeader(rest.label, record.source), message);
    if (second.length > MAX_AMPLIFICATION * first.length) return bad('too_short_for_an_answer');
    const answer: Answer = {
      kind: 'answer',
      digest: hex(sha256(first)),
      local,
      remote: record.source,
      address: from,
      second,
      createdAt: now,
      ...state,
    };
    this.#answers.set(answer.digest, answer);
    return ok(answer);
  }

  /** Reads the Noise message of an XX3. After a problem the genuine XX3 can still come. */
  finish(answer: Answer, message: Uint8Array): Result<Finished, ThirdProblem> {
    if (answer.handshake === undefined) return bad('malformed');
    const handshake = answer.handshake.fork();
    const payload = readMessage(handshake, message, this.#party.network);
    if (!payload.ok) return bad('forged');
    const said = decodeConfirmed(payload.value);
    if (!said.ok) return bad('malformed');
    const claim = claimOf(said.value, handshake);
    if (!isBound(claim, said.value.binding)) return bad('unbound');
    answer.handshake = undefined;
    return ok({ said: said.value, claim, keys: handshake.splitKeys() });
  }

  /**
   * Forgets and returns an answer so that there is room for another: the oldest of the address that has the most, and
   * where addresses have equally many, of one where no peer is known to be. So a flood from one address pushes out
   * itself, and one from many leaves the handshakes of known peers alone.
   * @param newest is kept
   */
  makeRoom(isKnown: (address: Address) => boolean, newest: Answer): Answer | undefined {
    const counts = new Map<Address, number>();
    for (const { address } of this.#answers.values()) counts.set(address, (counts.get(address) ?? 0) + 1);
    const most = Math.max(0, ...counts.values());
    const oldest = [...this.#answers.values()].filter(({ address }) => counts.get(address) === most);
    const others = oldest.filter((answer) => answer !== newest);
    const answer =
      others.find(({ address }) => !isKnown(address)) ?? others[0] ?? this.#answers.values().next().value;
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

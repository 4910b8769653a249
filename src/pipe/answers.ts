import { assert } from '../base/assert.ts';
import { concat, equal, hex } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Millis } from '../base/time.ts';
import { sha256 } from '../crypto/sha256.ts';
import type { Address } from '../link/link.ts';
import type { HandshakeState, TransportSecrets } from '../noise/handshake_state.ts';
import { isOfDevice, NO_CAPABILITIES } from './agreement.ts';
import { createHandshake, ephemeralOf, type Party, readMessage, writeMessage } from './handshake_message.ts';
import {
  type Confirmed,
  decodeConfirmed,
  decodeProposal,
  decodeResumed,
  encodeAccepted,
  encodeAnswered,
  type Resumed,
} from './handshake_payload.ts';
import { CHECK_BYTES, type IdentityClaim, identityDigest, isBound, nameOf } from './identity.ts';
import { claimOf, MAX_AMPLIFICATION, provedKey } from './offer.ts';
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
  /** Whether the answer has gone to another address as well, to which somebody has asked for it. */
  isElsewhere: boolean;
  /** Whether a client has sent the first message, or may have: an IK1 that cannot be read does not tell. */
  readonly isOfDevice: boolean;
  /** What XX1 has said. */
  readonly proposal: Confirmed | undefined;
  /** Of an XX2, until the XX3 has come. */
  handshake: HandshakeState | undefined;
  /** Of an IK2, until a record has shown that the IK1 was no repetition: a session that nothing is sent on. */
  tentative: Session | undefined;
}

/** A peer whose static key is known from an earlier session. */
export interface KnownPeer {
  readonly claim: IdentityClaim;
  /** What it said of itself in that session. */
  readonly capabilities: Uint8Array;
  /** An IK1 of this generation, or of a lower one, is a repetition. */
  readonly floor: number;
}

/** What an IK1 has led to. */
export interface Accepted {
  /** With the capabilities that the initiator is known by, whether it has said them now or before. */
  readonly said: Resumed;
  readonly claim: IdentityClaim;
  readonly keys: TransportSecrets;
}

type ReadResumption = Omit<Accepted, 'keys'> & {
  readonly handshake: HandshakeState;
  /** Whether the initiator knows what this side is capable of. */
  readonly isKnown: boolean;
};

export type AnswerProblem = 'malformed' | 'replayed' | 'too_short_for_an_answer';
export type ThirdProblem = 'forged' | 'malformed' | 'unbound';

export interface Finished {
  readonly said: Confirmed & { readonly bootId: Uint8Array; readonly isAll?: boolean };
  readonly claim: IdentityClaim;
  readonly keys: TransportSecrets;
}

interface FirstRead {
  readonly handshake: HandshakeState;
  readonly proposal: Confirmed | undefined;
  /** Whether XX2 says what this side is capable of. */
  readonly negotiates: boolean;
}

interface AnswerOptions {
  readonly local: ConnectionId;
  readonly from: Address;
  readonly now: Millis;
  readonly lookUp: (noisePublic: Uint8Array) => KnownPeer | undefined;
  /** Whether this side is opening a session to the server of that name, or of none to the address of the message. */
  readonly isOpening: (peer: string | undefined) => boolean;
  /** Whether early data of that peer is taken; else it is discarded. */
  readonly takesEarly: (claim: IdentityClaim) => boolean;
  /** Makes the session of an IK1, and takes what is in `said.early`. */
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
  #accept(record: FirstRecord, { lookUp }: AnswerOptions): ReadResumption | 'replayed' | undefined {
    const { identity, capabilities, network } = this.#party;
    // Made for what this side is capable of now, or by somebody who does not know that.
    for (const expected of [capabilities, NO_CAPABILITIES]) {
      const handshake = createHandshake('IK', 'responder', this.#party, {
        header: record.header,
        digest: identityDigest(identity, expected),
      });
      const payload = readMessage(handshake, record.message, network);
      if (!payload.ok) continue;
      const said = decodeResumed(payload.value);
      const known = lookUp(provedKey(handshake));
      if (!said.ok || known === undefined) return undefined;
      const isKnown = expected.length > 0;
      const digest = identityDigest(known.claim, isKnown ? known.capabilities : NO_CAPABILITIES);
      if (!equal(said.value.check, digest.slice(0, CHECK_BYTES))) return undefined;
      if (said.value.generation <= known.floor) return 'replayed';
      return {
        handshake,
        said: isKnown ? { ...said.value, capabilities: known.capabilities } : said.value,
        claim: known.claim,
        isKnown,
      };
    }
    return undefined;
  }

  #answerKnown(
    record: FirstRecord,
    options: AnswerOptions,
    { handshake, said: read, claim, isKnown }: ReadResumption,
  ): Result<Answer, AnswerProblem> {
    const said = options.takesEarly(claim) ? read : { ...read, early: undefined };
    const isSaid = isKnown || said.capabilities.length === 0;
    const payload = encodeAccepted({
      connectionId: options.local,
      bootId: this.#bootId,
      opening: options.isOpening(nameOf(claim)),
      early: said.early !== undefined,
      capabilities: isSaid ? NO_CAPABILITIES : this.#party.capabilities,
    });
    const message = writeMessage(handshake, payload, this.#party.network);
    const tentative = options.accept({ said, claim, keys: handshake.splitKeys() });
    return this.#keep(record, options, {
      ...{ label: 'IK2', message, handshake: undefined, tentative },
      ...{ proposal: undefined, isOfDevice: claim.kind === 'device' },
    });
  }

  /** Goes on with XX: from an XX1, or from an IK1 that cannot be accepted. */
  #answerWithIdentity(record: FirstRecord, options: AnswerOptions): Result<Answer, AnswerProblem> {
    const { network, identity, capabilities } = this.#party;
    assert(identity.kind === 'server', 'a device answers nobody');
    const first = record.kind === 'XX1' ? this.#afterXX1(record) : this.#afterIK1(record);
    if (first === undefined) return bad('malformed');
    const { handshake, proposal, negotiates } = first;
    const said = {
      connectionId: options.local,
      opening: options.isOpening(undefined),
      capabilities: negotiates ? capabilities : NO_CAPABILITIES,
    };
    const payload = encodeAnswered(identity, this.#bootId, said, proposal !== undefined);
    const message = writeMessage(handshake, payload, network);
    return this.#keep(record, options, {
      ...{ label: 'XX2', message, handshake, tentative: undefined, proposal },
      // Devices are the ones that this side forgets more often; a server goes on with XX1 by itself.
      isOfDevice: proposal === undefined ? record.kind === 'IK1' : isOfDevice(proposal.capabilities),
    });
  }

  #afterXX1({ header, message }: FirstRecord): FirstRead | undefined {
    const handshake = createHandshake('XX', 'responder', this.#party, { header });
    const payload = readMessage(handshake, message, this.#party.network);
    const proposal = payload.ok ? decodeProposal(payload.value) : payload;
    return proposal.ok
      ? { handshake, proposal: proposal.value, negotiates: proposal.value !== undefined }
      : undefined;
  }

  /** What is in it cannot be read: XX3 says it again. */
  #afterIK1({ header, message }: FirstRecord): FirstRead | undefined {
    const remoteEphemeral = ephemeralOf(message, this.#party.network);
    const digest = sha256(encodeFirst(header, message));
    return (
      remoteEphemeral && {
        handshake: createHandshake('XXfallback', 'responder', this.#party, {
          header,
          digest,
          remoteEphemeral,
        }),
        proposal: undefined,
        negotiates: true,
      }
    );
  }

  #keep(
    record: FirstRecord,
    { local, from, now }: AnswerOptions,
    rest: Pick<Answer, 'label' | 'handshake' | 'tentative' | 'proposal' | 'isOfDevice'> & {
      readonly message: Uint8Array;
    },
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
      isElsewhere: false,
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
    const decoded = decodeConfirmed(payload.value, answer.proposal);
    if (!decoded.ok) return bad('malformed');
    const { identity, ...said } = decoded.value;
    const isServer = identity.kind === 'server';
    const claim: IdentityClaim = isServer
      ? claimOf(identity, handshake)
      : { kind: 'device', noisePublic: provedKey(handshake) };
    if (isServer && claim.kind === 'server' && !isBound(claim, identity.binding)) return bad('unbound');
    answer.handshake = undefined;
    return ok({ said, claim, keys: handshake.splitKeys() });
  }

  /** How many there are of clients, or of servers. */
  count(areOfDevices: boolean): number {
    let count = 0;
    for (const { isOfDevice: is } of this.#answers.values()) if (is === areOfDevices) count++;
    return count;
  }

  /**
   * Forgets and returns an answer so that there is room for another: of its own kind, the oldest of the address that has
   * the most, and where addresses have equally many, of one where no peer is known to be. So a flood from one address
   * pushes out itself, and one from many leaves the handshakes of known peers alone.
   * @param newest is kept
   */
  makeRoom(isKnown: (address: Address) => boolean, newest: Answer): Answer | undefined {
    const rivals = [...this.#answers.values()].filter(({ isOfDevice: is }) => is === newest.isOfDevice);
    const counts = new Map<Address, number>();
    for (const { address } of rivals) counts.set(address, (counts.get(address) ?? 0) + 1);
    const most = Math.max(0, ...counts.values());
    const oldest = rivals.filter(({ address }) => counts.get(address) === most);
    const others = oldest.filter((answer) => answer !== newest);
    const answer = others.find(({ address }) => !isKnown(address)) ?? others[0] ?? rivals[0];
    if (answer) this.#answers.delete(answer.digest);
    return answer;
  }

  /** Forgets and returns the answers to IK1s of that peer. */
  removeOf(peer: string): Answer[] {
    const removed = [...this.#answers.values()].filter(
      ({ tentative }) => tentative !== undefined && nameOf(tentative.terms.claim) === peer,
    );
    for (const { digest } of removed) this.#answers.delete(digest);
    return removed;
  }

  /** Forgets and returns the oldest answer. */
  removeOldest(): Answer | undefined {
    const oldest: Answer | undefined = this.#answers.values().next().value;
    if (oldest) this.#answers.delete(oldest.digest);
    return oldest;
  }
}

import { assert } from '../base/assert.ts';
import { concat, equal } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Millis } from '../base/time.ts';
import { generateKeyPair, X25519_BYTES } from '../crypto/x25519.ts';
import type { Address } from '../link/link.ts';
import { HandshakeState } from '../noise/handshake_state.ts';
import { XX } from '../noise/pattern.ts';
import {
  type Answered,
  decodeAnswered,
  encodeConfirmed,
  longestSecond,
  type SentIdentity,
} from './handshake_payload.ts';
import { type IdentityClaim, isBound, type LocalIdentity } from './identity.ts';
import { prologue, SUITE } from './prologue.ts';
import { type ConnectionId, firstHeader, handshakeHeader } from './record.ts';

/** Rule 5 of the wire: an unverified address gets at most so many times what it has sent. */
export const MAX_AMPLIFICATION = 3;
/** Answers that were refused, remembered so that their repetitions are not looked at again. */
const REMEMBERED_ANSWERS = 64;

/** One answer to an XX1: authentic for whoever has sent it, which may be an attacker. */
export interface Candidate {
  readonly kind: 'candidate';
  /** Names it, and the session that it may become, to the driver. */
  readonly number: number;
  readonly opening: Opening;
  readonly handshake: HandshakeState;
  readonly said: Answered & SentIdentity;
  readonly claim: IdentityClaim;
  readonly second: Uint8Array;
  /** Where XX3 goes: the source of XX2 is believed only where an XX1 went to. */
  readonly address: Address;
  readonly createdAt: Millis;
}

export type ReadAnswer =
  | { readonly kind: 'candidate'; readonly candidate: Candidate }
  | { readonly kind: 'known' | 'forged' | 'malformed' | 'unbound' };

/** The initiator's side of XX for one peer, from XX1 to the answer that the driver trusts. */
export class Opening {
  readonly kind = 'opening';
  readonly id: number;
  readonly peer: string;
  readonly local: ConnectionId;
  /** The whole XX1. */
  readonly first: Uint8Array;
  readonly startedAt: Millis;
  readonly #handshake: HandshakeState;
  readonly #identity: LocalIdentity;
  /** The ephemeral keys of the answers that were authentic. */
  readonly #answers: Uint8Array[] = [];

  /** Timers that have fired without an answer. */
  attempts = 0;
  copies = 0;
  dueAt: Millis;
  /** Where the last XX1 went. */
  target: Address | undefined;
  /** Everywhere that XX1 went. */
  readonly targets = new Set<Address>();
  /** Answers that the driver has not decided about. */
  undecided: Candidate[] = [];
  /** A trusted answer that waits, because the peer's own opening goes first. */
  deferred: Candidate | undefined;

  constructor(options: {
    readonly id: number;
    readonly peer: string;
    readonly local: ConnectionId;
    readonly identity: LocalIdentity;
    readonly random: Random;
    readonly now: Millis;
  }) {
    const { id, peer, local, identity, random, now } = options;
    this.id = id;
    this.peer = peer;
    this.local = local;
    this.startedAt = now;
    this.dueAt = now;
    this.#identity = identity;
    const header = firstHeader(local);
    this.#handshake = new HandshakeState({
      pattern: XX,
      suite: SUITE,
      role: 'initiator',
      prologue: prologue(header),
      static: { secret: identity.noiseSecret, public: identity.noisePublic },
      generate: () => generateKeyPair(random),
    });
    const needed = Math.ceil(longestSecond(peer.length) / MAX_AMPLIFICATION);
    const padding = new Uint8Array(Math.max(0, needed - header.length - X25519_BYTES));
    this.first = concat(header, this.#handshake.writeMessage(padding));
  }

  /** Reads the Noise message of an XX2 whose datagram is `second`. The opening itself goes on as if it had not come. */
  read(from: Address, second: Uint8Array, message: Uint8Array, number: number, now: Millis): ReadAnswer {
    const ephemeral = message.slice(0, X25519_BYTES);
    // One ephemeral key of a responder, one answer: a second text under it would make XX3 repeat a nonce.
    if (this.#answers.some((known) => equal(known, ephemeral))) return { kind: 'known' };
    const handshake = this.#handshake.fork();
    const payload = handshake.readMessage(message);
    if (!payload.ok) return { kind: payload.problem === 'forged' ? 'forged' : 'malformed' };
    this.#answers.push(ephemeral);
    if (this.#answers.length > REMEMBERED_ANSWERS) this.#answers.shift();
    const said = decodeAnswered(payload.value);
    if (!said.ok) return { kind: 'malformed' };
    const claim = claimOf(said.value, handshake);
    if (!isBound(claim, said.value.binding)) return { kind: 'unbound' };
    const candidate: Candidate = {
      kind: 'candidate',
      number,
      opening: this,
      handshake,
      said: said.value,
      claim,
      second,
      address: this.targets.has(from) ? from : this.target!,
      createdAt: now,
    };
    return { kind: 'candidate', candidate };
  }

  /** The XX3 for `candidate`; once for each, as it uses up the handshake's last nonces. */
  confirm(candidate: Candidate, bootId: Uint8Array, generation: number): Uint8Array {
    const payload = encodeConfirmed(this.#identity, bootId, { generation });
    return concat(
      handshakeHeader('XX3', candidate.said.connectionId),
      candidate.handshake.writeMessage(payload),
    );
  }
}

/** Joins what the peer has said with the Noise key that the handshake has proved. */
export function claimOf(said: SentIdentity, handshake: HandshakeState): IdentityClaim {
  const { serverName, signingKeyId, signingPublic, serial } = said;
  const noisePublic = handshake.remoteStatic;
  assert(noisePublic !== undefined, 'the message has carried a static key');
  return { serverName, noisePublic, signingKeyId, signingPublic, serial };
}

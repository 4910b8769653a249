import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { sha256 } from '../crypto/sha256.ts';
import { generateKeyPair, type KeyPair } from '../crypto/x25519.ts';
import type { HandshakeState } from '../noise/handshake_state.ts';
import { NO_CAPABILITIES } from './agreement.ts';
import {
  createHandshake,
  emptyFirstLength,
  type Party,
  readMessage,
  writeMessage,
} from './handshake_message.ts';
import {
  type Accepted,
  decodeAccepted,
  decodeAnswered,
  encodeProposal,
  encodeResumed,
  longestSecond,
  resumedLength,
  type SentServer,
} from './handshake_payload.ts';
import { CHECK_BYTES, identityDigest, isBound, type ServerClaim } from './identity.ts';
import type { Network } from './network.ts';
import { COOKIE_BYTES, type ConnectionId, encodeFirst, firstHeader, LONGEST_FIRST_HEADER } from './record.ts';

/** Rule 5 of the wire: an unverified address gets at most so many times what it has sent. */
export const MAX_AMPLIFICATION = 3;

/** What IK needs besides the keys of this side. */
export interface Known {
  /** The responder's identity, from an earlier session with it. */
  readonly claim: ServerClaim;
  /**
   * What the responder said of itself in that session, where this side said then what it says now: both know, and
   * nothing of it is sent again. None: this side says what it is capable of, and the responder may.
   */
  readonly capabilities: Uint8Array;
}

/** What an authentic answer to an offer has brought. */
export interface ReadAnswer {
  /** IK2 ends the handshake; an XX2 wants an XX3. */
  readonly kind: 'XX2' | 'IK2';
  readonly handshake: HandshakeState;
  /** With the capabilities that the responder is known by, whether it has said them now or before. */
  readonly said: Accepted;
  readonly claim: ServerClaim;
}

export type AnswerProblem = 'forged' | 'malformed' | 'unbound';

/** One first message, XX1 or IK1, and what reads its answers. */
export class Offer {
  readonly version: number;
  readonly known: Known | undefined;
  readonly #party: Party;
  readonly #called: string;
  readonly #header: Uint8Array;
  readonly #message: Uint8Array;
  readonly #handshake: HandshakeState;
  readonly #ephemeral: KeyPair;

  constructor(options: {
    readonly party: Party;
    readonly local: ConnectionId;
    /** The name that is called. */
    readonly peer: string;
    readonly version: number;
    readonly refused: readonly number[];
    readonly bootId: Uint8Array;
    readonly generation: number;
    /** With it the offer is IK1, without it XX1. */
    readonly known?: Known | undefined;
    /** Of an IK1. */
    readonly early?: Uint8Array | undefined;
  }) {
    const { party, local, peer, version, refused, known } = options;
    const { random, network } = party;
    const pattern = known === undefined ? 'XX' : 'IK';
    this.version = version;
    this.known = known;
    this.#party = party;
    this.#called = peer;
    this.#header = firstHeader(`${pattern}1`, { version, refused, source: local });
    this.#ephemeral = generateKeyPair(random);
    this.#handshake = createHandshake(pattern, 'initiator', party, {
      header: this.#header,
      generate: () => this.#ephemeral,
      ...(known && {
        digest: identityDigest(known.claim, known.capabilities),
        remoteStatic: known.claim.noisePublic,
      }),
    });
    const said = this.#said(options);
    const unpadded = this.#header.length + emptyFirstLength(pattern, network) + said.length;
    const needed = Math.ceil(longestSecond(peer.length, network) / MAX_AMPLIFICATION);
    const padding = new Uint8Array(Math.max(0, needed - unpadded));
    this.#message = writeMessage(this.#handshake, concat(said, padding), network);
  }

  #said({
    party: { identity, capabilities },
    known,
    bootId,
    generation,
    early,
  }: ConstructorParameters<typeof Offer>[0]): Uint8Array {
    if (known === undefined) return encodeProposal({ generation, capabilities });
    const areKnown = known.capabilities.length > 0;
    const digest = identityDigest(identity, areKnown ? capabilities : NO_CAPABILITIES);
    return encodeResumed({
      ...{ generation, bootId, check: digest.slice(0, CHECK_BYTES) },
      capabilities: areKnown ? NO_CAPABILITIES : capabilities,
      early: areKnown ? early : undefined,
    });
  }

  get label(): 'XX1' | 'IK1' {
    return this.known === undefined ? 'XX1' : 'IK1';
  }

  /** The whole first message. */
  datagram(cookie?: Uint8Array): Uint8Array {
    return encodeFirst(this.#header, this.#message, cookie);
  }

  /** Reads the Noise message of an answer. The offer goes on as if it had not come. */
  read(kind: 'XX2' | 'IK2', message: Uint8Array): Result<ReadAnswer, AnswerProblem> {
    return kind === 'IK2' ? this.#readAccepted(message) : this.#readAnswered(message);
  }

  #readAccepted(message: Uint8Array): Result<ReadAnswer, AnswerProblem> {
    if (this.known === undefined) return bad('forged');
    const handshake = this.#handshake.fork();
    const payload = readMessage(handshake, message, this.#party.network);
    // Whatever is wrong with it, nobody has proved to have written it: it takes no genuine answer's place.
    if (!payload.ok) return bad('forged');
    const said = decodeAccepted(payload.value);
    if (!said.ok) return bad('malformed');
    const { claim, capabilities } = this.known;
    return ok({
      kind: 'IK2',
      handshake,
      said: capabilities.length === 0 ? said.value : { ...said.value, capabilities },
      claim,
    });
  }

  #readAnswered(message: Uint8Array): Result<ReadAnswer, AnswerProblem> {
    const handshake = this.known === undefined ? this.#handshake.fork() : this.#fallback();
    const payload = readMessage(handshake, message, this.#party.network);
    if (!payload.ok) return bad('forged');
    const said = decodeAnswered(payload.value, this.#called);
    if (!said.ok) return bad('malformed');
    const { identity } = said.value;
    const claim = claimOf(identity, handshake);
    if (!isBound(claim, identity.binding)) return bad('unbound');
    return ok({ kind: 'XX2', handshake, said: said.value, claim });
  }

  /** The responder goes on with XX from the ephemeral key of the IK1 that it has refused. */
  #fallback(): HandshakeState {
    return createHandshake('XXfallback', 'initiator', this.#party, {
      header: this.#header,
      digest: sha256(this.datagram()),
      ephemeral: this.#ephemeral,
    });
  }
}

/** How long an IK1 with early data is at most, as a datagram with a cookie. @param message in RFC 7252's form, as a first copy */
export const longestResumption = (message: number, network: Network): number =>
  LONGEST_FIRST_HEADER + COOKIE_BYTES + emptyFirstLength('IK', network) + resumedLength(message);

/** Joins what the peer has said with the Noise key that the handshake has proved. */
export function claimOf(said: SentServer, handshake: HandshakeState): ServerClaim {
  const { serverName, signingKeyId, signingPublic, serial } = said;
  return {
    ...{ kind: 'server', serverName, noisePublic: provedKey(handshake) },
    ...{ signingKeyId, signingPublic, serial },
  };
}

/** The Noise key that a message with a static key in it has proved. */
export function provedKey(handshake: HandshakeState): Uint8Array {
  const noisePublic = handshake.remoteStatic;
  assert(noisePublic !== undefined, 'the message has carried a static key');
  return noisePublic;
}

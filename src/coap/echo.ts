import type { Millis } from '../base/time.ts';
import type { CoapRequest, CoapResponse } from './api.ts';
import { code } from './codes.ts';
import type { Core, Peer } from './core.ts';
import { NO_BYTES } from './message.ts';
import { firstOption, OPTION, type Option } from './options.ts';

/** The values that a peer was given to show that it is there now. */
export interface Challenge {
  readonly value: Uint8Array;
  readonly issuedAt: Millis;
  /** The one before, which may still be on its way back. */
  readonly previous: Challenge | null;
}

/** Which peers and requests are asked for a proof. */
export interface EchoPolicy {
  /**
   * Whether the peer's address may be somebody else's. Until it has repeated an Echo value it gets no answer larger than
   * three times its request, cannot observe, and nothing that is not safe is run for it (RFC 9175, section 2.4).
   */
  readonly mustProve?: (peer: string) => boolean;
  /** Whether the request may only run when it is fresh: made after this server has said so (section 2.3). */
  readonly freshness?: (peer: string, request: Pick<CoapRequest, 'code' | 'options'>) => boolean;
}

/** RFC 9175, section 2.4, item 3: what may be sent to an address that has proved nothing, for each byte from it. */
const AMPLIFICATION = 3;

// Ours.
/** With its head of two bytes the refusal is three times as large as the shortest request there is, and no larger. */
const ECHO_BYTES = 6;
const PROOF_LIFETIME: Millis = 3_600_000;

/** The answering side of Echo (RFC 9175, section 2). */
export class Challenges {
  readonly #core: Core;
  readonly #policy: EchoPolicy;

  constructor(core: Core, policy: EchoPolicy) {
    this.#core = core;
    this.#policy = policy;
  }

  /** Whether whoever sends from the peer's address might not be there. */
  isUnproved(peer: Peer, now: Millis): boolean {
    return this.#policy.mustProve?.(peer.name) === true && peer.provedUntil <= now;
  }

  isTooLarge(responseBytes: number, requestBytes: number): boolean {
    return responseBytes > AMPLIFICATION * requestBytes;
  }

  /** Takes note of a request's Echo value. Returns whether it proves that the request is fresh. */
  proves(peer: Peer, options: readonly Option[], now: Millis): boolean {
    const value = firstOption(options, OPTION.echo)?.value;
    if (value === undefined) return false;
    const issuedAfter = now - this.#lifetime(peer);
    for (let given = peer.challenge; given !== null; given = given.previous) {
      if (given.issuedAt <= issuedAfter || !sameSecret(given.value, value)) continue;
      peer.provedUntil = now + PROOF_LIFETIME;
      return true;
    }
    return false;
  }

  mustBeFresh(peer: Peer, request: Pick<CoapRequest, 'code' | 'options'>): boolean {
    return this.#policy.freshness?.(peer.name, request) === true;
  }

  /** 4.01 with a value that is accepted for at least half of a message's lifetime. */
  challenge(peer: Peer, now: Millis): CoapResponse {
    const { challenge } = peer;
    const isNew = challenge !== null && challenge.issuedAt + this.#lifetime(peer) / 2 > now;
    const current = isNew
      ? challenge
      : {
          value: this.#core.random.bytes(ECHO_BYTES),
          issuedAt: now,
          previous: challenge === null ? null : { ...challenge, previous: null },
        };
    peer.challenge = current;
    this.#core.counters.challenges++;
    return {
      code: code(4, 1),
      options: [{ number: OPTION.echo, value: current.value }],
      payload: NO_BYTES,
    };
  }

  #lifetime(peer: Peer): Millis {
    return this.#core.timing(peer.name).exchangeLifetime;
  }
}

/** Takes as long wherever the two differ. */
const sameSecret = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.reduce((difference, byte, i) => difference | (byte ^ b[i]!), 0) === 0;

import { assert } from '../base/assert.ts';
import { equal } from '../base/bytes.ts';
import type { Address } from '../link/link.ts';

/** docs/protocol.md, "Addresses": what an address that has not been proved gets at most, times what came from it. */
const MAX_AMPLIFICATION = 3;
export const CHALLENGE_BYTES = 8;

interface Candidate {
  readonly address: Address;
  readonly challenge: Uint8Array;
  /** Bytes that may still go there. */
  budget: number;
}

/**
 * Where the records of a session go. Whoever can repeat a peer's newest record can put any address on it; so a
 * new address counts once a challenge that went there came back from there. Until then everything goes to the old one
 * as well, so that whichever is right nothing is lost.
 */
export class Path {
  #proved: Address | undefined;
  #candidate: Candidate | undefined;

  constructor(proved: Address) {
    this.#proved = proved;
  }

  /** The address that is known to be the peer's, or else the one where it seems to be. */
  get address(): Address {
    const address = this.#proved ?? this.#candidate?.address;
    assert(address !== undefined, 'something has come from somewhere');
    return address;
  }

  /** The address that is known to be the peer's. */
  get proved(): Address | undefined {
    return this.#proved;
  }

  /** Whether records may go to `address`. */
  includes(address: Address): boolean {
    return address === this.#proved || address === this.#candidate?.address;
  }

  /**
   * What was proved so far may be another's: the answer to the peer's first message has gone to several addresses, and
   * nobody can tell where it was read. The session begins at `from`, which is to be proved.
   * @param bytes that came from there
   */
  doubt(from: Address, bytes: number, makeChallenge: () => Uint8Array): void {
    this.#proved = undefined;
    if (this.#candidate?.address !== from) this.heard(from, bytes, makeChallenge);
  }

  /**
   * An authenticated record with the highest number has come from `from`.
   * @param makeChallenge eight random bytes
   */
  heard(from: Address, bytes: number, makeChallenge: () => Uint8Array): void {
    if (from === this.#proved) {
      this.#candidate = undefined;
      return;
    }
    if (this.#candidate?.address !== from)
      this.#candidate = { address: from, challenge: makeChallenge(), budget: 0 };
    this.#candidate.budget += MAX_AMPLIFICATION * bytes;
  }

  /** What is to be asked at the new address, where there is one. */
  get challenge(): Uint8Array | undefined {
    return this.#candidate?.challenge;
  }

  /** Whether a challenge that takes so many bytes may go, and where to; spends them. */
  challengeTo(bytes: number): Address | undefined {
    const candidate = this.#candidate;
    if (candidate === undefined || candidate.budget < bytes) return undefined;
    candidate.budget -= bytes;
    return candidate.address;
  }

  /** The peer has repeated a challenge from `from`. */
  answered(from: Address, challenge: Uint8Array): void {
    const candidate = this.#candidate;
    if (candidate?.address !== from || !equal(candidate.challenge, challenge)) return;
    this.#proved = from;
    this.#candidate = undefined;
  }

  /** The peer is supposed at an address that another session with it has proved. */
  moveTo(proved: Address): void {
    this.#proved = proved;
    if (this.#candidate?.address === proved) this.#candidate = undefined;
  }

  /** Where a record of so many bytes goes, the newest address first; nowhere, where none is proved and that much has not come. */
  route(bytes: number): readonly Address[] {
    const unproved = this.challengeTo(bytes);
    return [unproved, this.#proved].filter((address) => address !== undefined);
  }
}

import type { Address } from '../link/link.ts';
import type { Verdict } from '../pipe/endpoint.ts';
import type { IdentityClaim } from '../pipe/identity.ts';

/**
 * Decides about identities that a pipe has brought. Of servers: by the key API, a pinned fingerprint, or the first key
 * seen. Of devices there is nothing to verify: who may have a session is a matter of numbers.
 */
export interface TrustPolicy {
  /**
   * The reason of a refusal goes to the operator and to the peer. A rejected promise is a refusal too.
   * @param address where it has come from
   * @param isResumed it is that of a session which goes on after a start: nothing has come from there yet
   */
  decide(claim: IdentityClaim, address: Address, isResumed: boolean): Promise<Verdict>;
  /** Something has come through a pipe from that server, which was accepted before. Often called. */
  heard?(server: string): void;
  /** Whether a peer that has a session is nobody's yet: what goes to it goes after everything else. Left out: none is. */
  isStranger?(peer: string): boolean;
}

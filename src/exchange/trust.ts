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
   */
  decide(claim: IdentityClaim, address: Address): Promise<Verdict>;
}

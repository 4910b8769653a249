import type { Verdict } from '../pipe/endpoint.ts';
import type { IdentityClaim } from '../pipe/identity.ts';

/** Decides about identities that a pipe has brought: by the key API, a pinned fingerprint, or the first key seen. */
export interface TrustPolicy {
  /** The reason of a refusal goes to the operator and to the peer. A rejected promise is a refusal too. */
  decide(claim: IdentityClaim): Promise<Verdict>;
}

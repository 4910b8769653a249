import type { IdentityClaim } from '../pipe/identity.ts';

/** Whether a peer is taken for who it says it is; a refusal says why, to the operator and to the peer. */
export type Verdict = { readonly trusted: true } | { readonly trusted: false; readonly reason: string };

/** Decides about identities that a pipe has brought: by the key API, a pinned fingerprint, or the first key seen. */
export interface TrustPolicy {
  decide(claim: IdentityClaim): Promise<Verdict>;
}

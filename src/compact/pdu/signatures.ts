import { assert } from '../../base/assert.ts';
import { concat } from '../../base/bytes.ts';
import { bad, ok, type Result } from '../../base/result.ts';
import { SIGNATURE_BYTES } from './layout.ts';

// Signatures that follow their events. Each is its 64 bytes and nothing else: the three top bits of an Ed25519
// signature's last byte are 0, since S is below 2^253 (RFC 8032, section 5.1.7), and hold three bits of the event's
// reference hash instead. Which of the events with these bits it belongs to is told by whether it verifies, which has
// to be seen anyway. So nothing is counted, and loss, repetition and reordering change nothing.

/** The place of the three bits that name an event: behind the bytes of its hash that its own check has used. */
const NAME_BYTE = 2;
const NAME_SHIFT = 5;
const LAST_BYTE = SIGNATURE_BYTES - 1;
const S_BITS = (1 << NAME_SHIFT) - 1;

// Ours.
/** Signatures in one batch. */
export const MAX_BATCHED_SIGNATURES = 64;
/** Verifications that one batch may cost; an honest one of n signatures for m waiting events costs about n m / 16. */
export const MAX_VERIFICATIONS = 512;

/** An event and its signature, of those that went apart. */
export interface DeferredSignature {
  /** The event's reference hash, 32 bytes. */
  readonly referenceHash: Uint8Array;
  /** 64 bytes. */
  readonly signature: Uint8Array;
}

/** An event of the peer's that waits for its signature. */
export interface WaitingEvent {
  readonly eventId: string;
  /** 32 bytes. */
  readonly referenceHash: Uint8Array;
  /** Whether the signature is this event's, by the key that it was announced with. */
  verify(signature: Uint8Array): boolean;
}

/** What became of one signature. */
export type SignatureMatch =
  | { readonly kind: 'verified'; readonly eventId: string; readonly signature: Uint8Array }
  /**
   * It is none of the waiting events'. Since a signature follows only when its event has been acknowledged, it is the
   * bad one of one of `suspects`, and those that no other signature of the batch has verified are fetched whole; or its
   * event has been decided in another way, which leaves no suspects.
   */
  | { readonly kind: 'none'; readonly suspects: readonly string[] };

const nameOf = (referenceHash: Uint8Array): number => referenceHash[NAME_BYTE]! >> NAME_SHIFT;

/** At most MAX_BATCHED_SIGNATURES signatures in 64 bytes each. */
export function compactSignatures(signatures: readonly DeferredSignature[]): Uint8Array {
  assert(signatures.length <= MAX_BATCHED_SIGNATURES, 'a batch has a bound');
  return concat(
    ...signatures.map(({ referenceHash, signature }) => {
      assert(signature.length === SIGNATURE_BYTES && signature[LAST_BYTE]! <= S_BITS, 'an Ed25519 signature');
      const named = Uint8Array.from(signature);
      named[LAST_BYTE]! |= nameOf(referenceHash) << NAME_SHIFT;
      return named;
    }),
  );
}

/** Finds the event of each signature of a batch, among those that wait for one; in the order of the batch. */
export function restoreSignatures(
  bytes: Uint8Array,
  waiting: readonly WaitingEvent[],
): Result<readonly SignatureMatch[]> {
  const count = bytes.length / SIGNATURE_BYTES;
  if (!Number.isInteger(count)) return bad('not a whole number of signatures');
  if (count === 0 || count > MAX_BATCHED_SIGNATURES) {
    return bad(`a batch has 1 to ${MAX_BATCHED_SIGNATURES} signatures`);
  }
  const open = new Set(waiting);
  let verifications = 0;
  const matches: SignatureMatch[] = [];
  for (let at = 0; at < bytes.length; at += SIGNATURE_BYTES) {
    const signature = bytes.slice(at, at + SIGNATURE_BYTES);
    const name = signature[LAST_BYTE]! >> NAME_SHIFT;
    signature[LAST_BYTE]! &= S_BITS;
    const named = [...open].filter((event) => nameOf(event.referenceHash) === name);
    const found = named.find((event) => verifications++ < MAX_VERIFICATIONS && event.verify(signature));
    if (found === undefined) {
      matches.push({ kind: 'none', suspects: named.map(({ eventId }) => eventId) });
    } else {
      open.delete(found);
      matches.push({ kind: 'verified', eventId: found.eventId, signature });
    }
  }
  return ok(matches);
}

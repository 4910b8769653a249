import { describe, expect, test } from 'vitest';
import { equal } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import {
  compactSignatures,
  type DeferredSignature,
  MAX_BATCHED_SIGNATURES,
  MAX_VERIFICATIONS,
  restoreSignatures,
  type WaitingEvent,
} from '../../src/compact/pdu/signatures.ts';
import { publicKeyOf, sign, verify } from '../../src/crypto/ed25519.ts';

const random = seededRandom(1);
const secret = random.bytes(32);
const publicKey = publicKeyOf(secret);

/** Signs the reference hash itself: what exactly is signed makes no difference here. */
function signed(index: number): DeferredSignature & WaitingEvent {
  const referenceHash = random.bytes(32);
  return {
    eventId: `$event${index}`,
    referenceHash,
    signature: sign(secret, referenceHash),
    verify: (signature) => verify(publicKey, referenceHash, signature),
  };
}

const events = Array.from({ length: 20 }, (_, index) => signed(index));
const outcomes = (bytes: Uint8Array, waiting: readonly WaitingEvent[]): string[] => {
  const matches = restoreSignatures(bytes, waiting);
  if (!matches.ok) return [matches.problem];
  return matches.value.map((match) =>
    match.kind === 'verified' ? match.eventId : `none of ${match.suspects.length}`,
  );
};

describe('signatures that follow their events', () => {
  test('are 64 bytes each, and find their events in any order among others', () => {
    const batch = [events[7]!, events[2]!, events[11]!];
    const bytes = compactSignatures(batch);
    expect(bytes).toHaveLength(3 * 64);
    expect(outcomes(bytes, events)).toEqual(batch.map(({ eventId }) => eventId));
    const matches = restoreSignatures(bytes, events);
    for (const [index, match] of (matches.ok ? matches.value : []).entries()) {
      expect(match.kind === 'verified' && equal(match.signature, batch[index]!.signature)).toBe(true);
    }
  });

  test('leave the budget of 65 bytes each a byte for the route, from the first one on', () => {
    for (const count of [1, 2, 10]) {
      expect(1 + compactSignatures(events.slice(0, count)).length).toBeLessThanOrEqual(65 * count);
    }
  });

  test('do not cost a verification for every event that waits', () => {
    let verifications = 0;
    const counting = events.map((event) => ({
      ...event,
      verify: (signature: Uint8Array) => {
        verifications++;
        return event.verify(signature);
      },
    }));
    expect(outcomes(compactSignatures(events), counting)).toEqual(events.map(({ eventId }) => eventId));
    expect(verifications).toBeLessThan((events.length * events.length) / 4);
  });

  test('that are bad name those that they may be of, and the others are found nevertheless', () => {
    const bad = { ...events[3]!, signature: events[4]!.signature };
    const bytes = compactSignatures([events[0]!, bad, events[5]!]);
    const matches = restoreSignatures(bytes, events);
    expect(matches.ok && matches.value.map(({ kind }) => kind)).toEqual(['verified', 'none', 'verified']);
    const [, match] = matches.ok ? matches.value : [];
    expect(match?.kind === 'none' && match.suspects).toContain(events[3]!.eventId);
  });

  test('of events that have been decided already match nothing', () => {
    const bytes = compactSignatures([events[0]!]);
    expect(outcomes(bytes, [])).toEqual(['none of 0']);
  });

  test('cost a bounded number of verifications, whatever a peer sends', () => {
    let verifications = 0;
    const waiting = Array.from({ length: 256 }, (_, index) => ({
      eventId: `$${index}`,
      referenceHash: new Uint8Array(32),
      verify: () => {
        verifications++;
        return false;
      },
    }));
    outcomes(new Uint8Array(64 * MAX_BATCHED_SIGNATURES), waiting);
    expect(verifications).toBe(MAX_VERIFICATIONS);
  });

  test('are refused where they are none or too many', () => {
    expect(outcomes(new Uint8Array(0), events)).toEqual(['a batch has 1 to 64 signatures']);
    expect(outcomes(new Uint8Array(63), events)).toEqual(['not a whole number of signatures']);
    expect(outcomes(new Uint8Array(64 * 65), events)).toEqual(['a batch has 1 to 64 signatures']);
  });
});

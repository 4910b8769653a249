import { describe, expect, it } from 'vitest';
import { derivedTimes, modelledTiming, PARAMETERS, rfc7252Timing } from '../../src/coap/timing.ts';

describe('the times of RFC 7252, section 4.8.2', () => {
  it('follow from the parameters of section 4.8', () => {
    expect(PARAMETERS).toEqual({
      ackTimeout: 2_000,
      ackRandomFactor: 1.5,
      maxRetransmit: 4,
      nstart: 1,
      maxLatency: 100_000,
    });
    expect(derivedTimes(PARAMETERS)).toEqual({
      maxTransmitSpan: 45_000,
      maxTransmitWait: 93_000,
      processingDelay: 2_000,
      maxRtt: 202_000,
      exchangeLifetime: 247_000,
      nonLifetime: 145_000,
    });
  });

  it('follow other parameters', () => {
    const times = derivedTimes({ ...PARAMETERS, ackTimeout: 4_000, maxRetransmit: 2, maxLatency: 10_000 });
    expect(times).toEqual({
      maxTransmitSpan: 18_000,
      maxTransmitWait: 42_000,
      processingDelay: 4_000,
      maxRtt: 24_000,
      exchangeLifetime: 42_000,
      nonLifetime: 28_000,
    });
  });

  it('are those that messages are remembered for', () => {
    expect(rfc7252Timing()).toMatchObject({ exchangeLifetime: 247_000, nonLifetime: 145_000 });
  });

  it('bound the time from the first copy to the last, and to giving up', () => {
    const timing = rfc7252Timing();
    const { maxTransmitSpan, maxTransmitWait } = derivedTimes(PARAMETERS);
    const waits = Array.from({ length: timing.maxRetransmit! + 1 }, (_, n) =>
      timing.retransmitAfter(n, 0, 1),
    );
    const sum = (all: readonly number[]): number => all.reduce((one, other) => one + other, 0);
    expect(sum(waits.slice(0, -1))).toBe(maxTransmitSpan);
    expect(sum(waits)).toBe(maxTransmitWait);
  });
});

describe('the lifetimes of a modelled link', () => {
  it.each([10, 100, 1_200, 50_000, 1_000_000])(
    'at %i bit/s outlast every gap between two copies, and a copy that comes late by a round trip',
    (rate) => {
      const timing = modelledTiming({ rate, delay: 2_000, overhead: 62, mtu: 1200 });
      // A message is sent for half of its lifetime at most; what is remembered counts from the latest copy.
      const gaps = [0, 1, 2, 5, 20].map((attempt) => timing.retransmitAfter(attempt, 0, 1));
      const roundTrip = timing.retransmitAfter(0, 0, 0);
      expect(Math.max(...gaps) + roundTrip).toBeLessThan(timing.exchangeLifetime);
      expect(timing.nonLifetime).toBeGreaterThan(roundTrip);
      expect(timing.nonLifetime).toBeLessThanOrEqual(timing.exchangeLifetime);
    },
  );
});

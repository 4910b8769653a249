import { describe, expect, it } from 'vitest';
import { hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { Peer } from '../../src/coap/core.ts';
import { MessageIds, Tokens } from '../../src/coap/ids.ts';
import { modelledTiming, rfc7252Timing } from '../../src/coap/timing.ts';

describe('message ids', () => {
  it('are all used before one comes again, and none within the lifetime of its last copy', () => {
    const ids = new MessageIds(6_840);
    const lifetime = 247_000;
    const last = new Map<number, number>();
    const copies: { id: number; at: number }[] = [];
    let taken = 0;
    for (let now = 0; now < 600_000; now += 2) {
      const id = ids.take(now, lifetime);
      if (id === null) {
        expect(ids.freeAt(lifetime)).toBeGreaterThan(now);
        continue;
      }
      taken++;
      const before = last.get(id);
      if (before !== undefined && before + lifetime > now)
        throw new Error(`id ${id} again after ${now - before} ms`);
      last.set(id, now);
      // One in 5,000 is sent once more a minute later.
      if (id % 5_000 === 0) copies.push({ id, at: now + 60_000 });
      if (copies[0] !== undefined && copies[0].at <= now) {
        const copy = copies.shift()!;
        last.set(copy.id, now);
        ids.touch(copy.id, now);
      }
    }
    expect(last.size).toBe(65_536);
    expect(taken).toBeGreaterThan(2 * 65_536);
  });

  it('start at random', () => {
    const lengths = { token: 2, handle: 1 };
    const starts = [1, 2, 3, 4].map((seed) => new Peer('a', seededRandom(seed), lengths, 0).ids.take(0, 1));
    expect(new Set(starts).size).toBe(4);
  });
});

describe('tokens', () => {
  it('are never one that is in use or might still be answered', () => {
    const tokens = new Tokens(seededRandom(1), { token: 2, handle: 1 }, 100);
    const taken = new Set<string>();
    for (let n = 0; n < 60_000; n++) {
      const name = hex(tokens.take());
      expect(taken.has(name)).toBe(false);
      taken.add(name);
    }
    const some = [...taken].slice(0, 50);
    for (const name of some) tokens.release(name, false);
    for (let n = 0; n < 1_000; n++) expect(some).not.toContain(hex(tokens.take()));
  });

  it('of observations are short as long as there are short ones', () => {
    const tokens = new Tokens(seededRandom(1), { token: 2, handle: 1 }, 100);
    const taken = Array.from({ length: 300 }, () => tokens.takeHandle());
    expect(new Set(taken.map(hex)).size).toBe(300);
    expect(taken.filter(({ length }) => length === 1).length).toBeGreaterThan(200);
    expect(taken.slice(0, 100).every(({ length }) => length === 1)).toBe(true);
  });
});

describe('timing', () => {
  it('is the one of RFC 7252, section 4.8, by default', () => {
    const timing = rfc7252Timing();
    expect([0, 1, 2, 3, 4].map((attempt) => timing.retransmitAfter(attempt, 100, 0))).toEqual([
      2_000, 4_000, 8_000, 16_000, 32_000,
    ]);
    expect(timing.retransmitAfter(0, 100, 1)).toBe(3_000);
    expect(timing).toMatchObject({ maxRetransmit: 4, nstart: 1, exchangeLifetime: 247_000 });
    expect([0, 1, 9].map((probes) => timing.probeAfter(probes))).toEqual([60_000, 120_000, 600_000]);
  });

  it('follows the model at 100 bit/s: 256-byte blocks, one at a time, steady twice, then growing to 300 s', () => {
    const timing = modelledTiming({ rate: 100, delay: 2_000, overhead: 62, mtu: 1200 });
    expect(timing).toMatchObject({ blockSize: 256, undividedSize: 512, nstart: 1, maxRetransmit: null });
    const waits = [0, 1, 2, 3, 8, 20].map((attempt) => timing.retransmitAfter(attempt, 50, 0));
    expect(waits[0]).toBe(waits[1]);
    expect(waits[2]! / waits[1]!).toBeCloseTo(1.5);
    expect(waits[3]! / waits[2]!).toBeCloseTo(1.5);
    expect(waits.slice(4)).toEqual([300_000, 300_000]);
    // Two packets of 598 bytes, 4 s of propagation, an empty acknowledgement's 5.28 s and 1 s.
    expect(waits[0]).toBeCloseTo(2 * 598 * 80 + 4_000 + 5_280 + 1_000);
    // Twenty pings of 66 bytes take less than the round trip of long packets.
    expect(timing.probeAfter(0)).toBeCloseTo(waits[0]!);
  });

  it('uses larger blocks and several at a time where the link is fast and long', () => {
    const timing = modelledTiming({ rate: 1_000_000, delay: 300, overhead: 62, mtu: 1200 });
    expect(timing).toMatchObject({ blockSize: 1024, nstart: 4 });
    expect(timing.undividedSize).toBeLessThanOrEqual(1200);
    expect(modelledTiming({ rate: 10, delay: 0, overhead: 62, mtu: 100 }).blockSize).toBe(32);
  });
});

import { describe, expect, it } from 'vitest';
import { concat } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { Allowance } from '../../src/pipe/allowance.ts';
import { handshakeHeader } from '../../src/pipe/record.ts';
import { pair } from './harness.ts';

const never = (): boolean => false;
const always = (): boolean => true;

describe('the allowance for answers to strangers', () => {
  it('is so many a second, of which strangers leave half to known peers', () => {
    const allowance = new Allowance(2, 10, 1);
    const take = (isKnown: () => boolean, now: number): boolean =>
      allowance.take({ wireBytes: 1_000_000, rate: null, isKnown }, now);
    const count = (isKnown: () => boolean, now: number): number => {
      let taken = 0;
      while (take(isKnown, now)) taken++;
      return taken;
    };
    expect(count(never, 0)).toBe(5);
    expect(count(always, 0)).toBe(5);
    expect(count(never, 2_000)).toBe(0);
    expect(count(always, 2_000)).toBe(4);
    expect(count(never, 60_000)).toBe(5);
  });

  it('is a share of the airtime where the rate is known, whatever the length of the answers', () => {
    for (const wireBytes of [60, 292, 5_000]) {
      const allowance = new Allowance(1_000, 1_000, 0.1);
      const seconds = 100_000;
      let [bytes, known] = [0, 0];
      for (let at = 0; at < seconds; at++) {
        const now = at * 1_000;
        if (allowance.take({ wireBytes, rate: 100, isKnown: never }, now)) bytes += wireBytes;
        if (at % 1_000 === 0 && allowance.take({ wireBytes: 60, rate: 100, isKnown: always }, now)) known++;
      }
      expect(bytes + known * 60).toBeLessThan((0.1 * 100 * seconds) / 8 + 1_200 + wireBytes);
      expect(bytes).toBeGreaterThan((0.08 * 100 * seconds) / 8);
      if (wireBytes < 600) expect(known).toBe(100);
    }
  });
});

describe('answers to own handshakes', () => {
  it('are read so many times a second, whoever sends them, and the genuine one after that', () => {
    const readsPerSecond = 100;
    const { network, a } = pair(3, { readsPerSecond, readsBurst: readsPerSecond });
    const random = seededRandom(6);
    const servers = ['b.example', 'c.example', 'd.example', 'e.example'];
    for (const name of servers.slice(1)) a.endpoint.setPeer(name, name);
    for (const name of servers) a.send(name, 'hello');
    const firsts = network.captured.filter(({ datagram }) => datagram.label === 'XX1');
    for (const { datagram } of firsts) {
      const header = handshakeHeader('XX2', datagram.bytes[2] as never);
      for (let i = 0; i < readsPerSecond; i++)
        network.deliver('mallory', 'a', concat(header, random.bytes(200)));
    }
    const { unauthenticated, throttled } = a.endpoint.statistics;
    expect(firsts).toHaveLength(servers.length);
    expect(unauthenticated).toBe(readsPerSecond);
    expect(throttled).toBe((servers.length - 1) * readsPerSecond);
    network.advance(60_000);
    expect(a.events.filter(({ kind }) => kind === 'established')).toHaveLength(1);
  });
});

describe('half-open handshakes beyond the bound', () => {
  const LIMITS = { halfOpen: 8, answersPerSecond: 1_000, answersBurst: 1_000 };

  /** A sends XX1 and gets XX2 while `flood` comes in between; returns whether its XX3 still finds the handshake. */
  function survives(flood: (i: number) => string): boolean {
    const { network, a, b } = pair(3, LIMITS);
    const random = seededRandom(5);
    network.onSend = (_, { label }) => {
      if (label !== 'XX2') return;
      network.onSend = () => undefined;
      network.clock.after(1, () => {
        for (let i = 0; i < 100; i++) {
          const first = new Uint8Array(95);
          first.set([0x90, 0x11, 5], 0);
          first.set(random.bytes(32), 3);
          b.run(b.endpoint.receive(flood(i), first, b.now));
        }
      });
    };
    a.send('b.example', 'hello');
    network.advance(200);
    expect(b.endpoint.sizes.halfOpen).toBeLessThanOrEqual(LIMITS.halfOpen);
    return b.payloads.includes('a.example: hello');
  }

  it('push out those of the address that has the most', () => {
    expect(survives(() => 'mallory')).toBe(true);
  });

  it('push out those of addresses where nobody known is', () => {
    expect(survives((i) => `mallory ${i}`)).toBe(true);
  });

  it('under the peer’s own address push out its older ones, and the peer tries again', () => {
    expect(survives(() => 'a')).toBe(false);
  });
});

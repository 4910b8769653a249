import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { type Conditions, type LinkObservation, SimulatedNetwork } from '../../src/link/simulated.ts';

const PROFILE = { mtu: 1200, rate: null, delay: 0, overhead: 42 };

function network(conditions: Partial<Conditions>, seed = 1) {
  const clock = new VirtualClock();
  const seen: LinkObservation[] = [];
  const net = new SimulatedNetwork({ clock, random: seededRandom(seed), observe: (one) => seen.push(one) });
  const [a, b] = [net.join('a', PROFILE), net.join('b', PROFILE)];
  net.connect('a', 'b', conditions);
  const received: { at: number; from: string; bytes: Uint8Array }[] = [];
  b.onReceive((from, bytes) => received.push({ at: clock.monotonic(), from, bytes }));
  const run = (): void => {
    while (clock.step());
  };
  const fates = (): string[] => seen.map(({ fate }) => fate);
  return { clock, net, a, b, seen, received, run, fates };
}

const SEND = 2_000;

describe('the simulated network', () => {
  it('serialises payload and overhead at the rate, one datagram after another, then propagates', () => {
    const { a, received, seen, run } = network({ rate: 100, latency: 2_000 });
    a.send('b', new Uint8Array(8), 'one');
    a.send('b', new Uint8Array(58), 'two');
    run();
    expect(received.map(({ at, from, bytes }) => [at, from, bytes.length])).toEqual([
      [50 * 80 + 2_000, 'a', 8],
      [150 * 80 + 2_000, 'a', 58],
    ]);
    expect(seen[0]).toEqual({ at: 0, from: 'a', to: 'b', bytes: 8, wire: 50, label: 'one', fate: 'sent' });
    expect(seen.at(-1)).toMatchObject({ at: 14_000, label: 'two', fate: 'delivered' });
  });

  it('loses, doubles, corrupts and reorders about as often as it is told to, and says so', () => {
    const { clock, a, received, fates, run } = network({
      loss: 0.2,
      duplication: 0.1,
      corruption: 0.05,
      reordering: 0.1,
      reorderingDelay: 1_000,
      latency: 10,
      jitter: 5,
    });
    for (let n = 0; n < SEND; n++)
      clock.after(n * 20, () => a.send('b', Uint8Array.of(n >> 8, n & 0xff, 0, 0)));
    run();
    const share = (fate: string): number => fates().filter((one) => one === fate).length / SEND;
    expect(share('sent')).toBe(1);
    expect(share('lost')).toBeCloseTo(0.2, 1);
    expect(share('duplicated')).toBeCloseTo(0.08, 1);
    expect(share('corrupted')).toBeGreaterThan(0.02);
    expect(received.length).toBe(fates().filter((fate) => fate === 'delivered').length);
    const numbers = received.map(({ bytes }) => (bytes[0]! << 8) | bytes[1]!);
    expect(numbers.filter((n, i) => n < (numbers[i - 1] ?? 0)).length).toBeGreaterThan(SEND / 50);
  });

  it('does not reorder by jitter alone', () => {
    const { clock, a, received, run } = network({ latency: 10, jitter: 500 });
    for (let n = 0; n < 200; n++) clock.after(n, () => a.send('b', Uint8Array.of(n)));
    run();
    expect(received.map(({ bytes }) => bytes[0])).toEqual(Array.from({ length: 200 }, (_, n) => n));
  });

  it('gives the same deliveries for the same seed, and others for another', () => {
    const trace = (seed: number): string => {
      const { clock, a, seen, run } = network(
        { loss: 0.3, jitter: 50, reordering: 0.3, reorderingDelay: 90, duplication: 0.2 },
        seed,
      );
      for (let n = 0; n < 100; n++) clock.after(n * 10, () => a.send('b', Uint8Array.of(n)));
      run();
      return JSON.stringify(seen);
    };
    expect(trace(4)).toBe(trace(4));
    expect(trace(4)).not.toBe(trace(5));
  });

  it('drops what overflows its queue, is too long, meets a partition, or has nowhere to go', () => {
    const { net, a, b, fates, run } = network({ rate: 100, queueLimit: 1, mtu: 100 });
    for (let n = 0; n < 3; n++) a.send('b', new Uint8Array(10));
    a.send('b', new Uint8Array(101));
    a.send('nobody', new Uint8Array(1));
    net.change('a', 'b', { partitioned: true });
    a.send('b', new Uint8Array(1));
    expect(fates()).toEqual(['sent', 'sent', 'overflow', 'too_large', 'unknown', 'partitioned']);
    void b.close();
    run();
    expect(fates().slice(6)).toEqual(['unknown', 'unknown']);
  });

  it('changes one direction and leaves the other', () => {
    const { net, a, b, received, run } = network({});
    let back = 0;
    a.onReceive(() => back++);
    net.change('a', 'b', { partitioned: true });
    a.send('b', new Uint8Array(1));
    b.send('a', new Uint8Array(1));
    run();
    expect([received.length, back]).toEqual([0, 1]);
  });

  it('hands over bytes of its own', () => {
    const { a, received, run } = network({});
    const bytes = Uint8Array.of(1);
    a.send('b', bytes);
    bytes[0] = 2;
    run();
    expect(received[0]?.bytes).toEqual(Uint8Array.of(1));
  });
});

import { expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { DEFAULT_LIMITS } from '../../src/pipe/limits.ts';
import { pair } from './harness.ts';

const SEED = 7;

/** Random and mutated datagrams at an established pair. */
export function anyBytes(datagrams: number): void {
  it(`${datagrams} random and mutated datagrams (seed ${SEED}) throw nothing, fill nothing, and change nothing`, () => {
    const random = seededRandom(SEED);
    const { network, a, b } = pair(SEED);
    b.onPayload = (peer, text) => b.send(peer, `re ${text}`);
    a.send('b.example', 'hello');
    network.advance(1_000);
    const genuine = network.captured.map(({ datagram: { bytes } }) => bytes);
    let now = network.clock.monotonic();
    let [effects, amplified, answered] = [0, 0, 0];
    for (let i = 0; i < datagrams; i++) {
      now += 1;
      let bytes: Uint8Array;
      if (random.integer(3) === 0) {
        bytes = random.bytes(random.integer(120));
        if (bytes.length > 0) bytes[0]! |= 0x80;
      } else {
        bytes = genuine[random.integer(genuine.length)]!.slice(0);
        if (random.integer(8) === 0) bytes = bytes.subarray(0, random.integer(bytes.length));
        for (let flips = 1 + random.integer(4); flips > 0 && bytes.length > 0; flips--) {
          bytes[random.integer(bytes.length)]! ^= 1 + random.integer(255);
        }
      }
      const side = random.integer(2) === 0 ? a : b;
      const step = side.endpoint.receive(`x${random.integer(10)}`, bytes, now);
      effects += step.events.filter(({ kind }) => kind !== 'refused').length;
      for (const datagram of step.datagrams) {
        if (datagram.bytes.length > 3 * bytes.length) amplified++;
        answered++;
      }
      if (step.deadline !== null && step.deadline <= now) side.endpoint.tick(now);
    }
    for (const { endpoint } of [a, b]) {
      const { sizes, statistics } = endpoint;
      const halfOpen = DEFAULT_LIMITS.halfOpen + DEFAULT_LIMITS.deviceHalfOpen;
      expect(sizes.halfOpen).toBeLessThanOrEqual(halfOpen);
      expect(sizes.connections).toBeLessThanOrEqual(halfOpen + 2);
      expect(sizes).toMatchObject({ sessions: 1, undecided: 0, peers: 1 });
      expect(
        Math.min(statistics.malformed, statistics.unauthenticated, statistics.throttled),
      ).toBeGreaterThan(datagrams / 200);
    }
    expect({ effects, amplified }).toEqual({ effects: 0, amplified: 0 });
    expect(answered).toBeGreaterThan(0);
    network.clock.advanceTo(now);
    a.send('b.example', 'still here');
    network.advance(1_000);
    expect(a.payloads.at(-1)).toBe('b.example: re still here');
  });
}

import { describe, expect, it } from 'vitest';
import { concat } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { sha256 } from '../../src/crypto/sha256.ts';
import { Allowance } from '../../src/pipe/allowance.ts';
import { Cookies } from '../../src/pipe/cookie.ts';
import { encodeCookie } from '../../src/pipe/record.ts';
import { strangersFirst } from './flood.ts';
import { identityOf, Network, pair, perfect, Side } from './harness.ts';

const MINUTE = 60_000;

describe('a cookie', () => {
  const first = sha256('a first message');

  it('is good for its address and message, for one to two minutes', () => {
    const cookies = new Cookies(seededRandom(1));
    const cookie = cookies.make('a', first, 30_000);
    expect(cookie).toHaveLength(8);
    expect(cookies.make('a', first, 59_999)).toEqual(cookie);
    expect(cookies.isGood(cookie, 'a', first, 60_000)).toBe(true);
    expect(cookies.make('a', first, 60_000)).not.toEqual(cookie);
    expect(cookies.isGood(cookie, 'a', first, 119_999)).toBe(true);
    expect(cookies.isGood(cookie, 'a', first, 120_000)).toBe(false);
    const late = cookies.make('a', first, 240_000);
    expect(cookies.isGood(late, 'b', first, 240_000)).toBe(false);
    expect(cookies.isGood(late, 'a', sha256('another'), 240_000)).toBe(false);
    expect(cookies.isGood(late.subarray(1), 'a', first, 240_000)).toBe(false);
    expect(new Cookies(seededRandom(2)).isGood(late, 'a', first, 240_000)).toBe(false);
    for (let bit = 0; bit < 64; bit++) {
      const changed = late.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      expect(cookies.isGood(changed, 'a', first, 240_000)).toBe(false);
    }
  });

  it('goes before an address, and an address of a known peer before any other', () => {
    const allowance = new Allowance(0, 100, 1);
    const count = (isKnown: boolean, isProved: boolean): number => {
      let taken = 0;
      while (allowance.take({ wireBytes: 1, rate: null, isKnown: () => isKnown, isProved }, 0)) taken++;
      return taken;
    };
    expect(count(false, false)).toBe(50);
    expect(count(true, false)).toBe(25);
    expect(count(false, true)).toBe(25);
    expect(count(true, true)).toBe(0);
  });
});

/** A newcomer, of whom b knows nothing, and b, which is flooded with first messages from now on. */
function flooded(perSecond: number, from: (i: number) => string): ReturnType<typeof pair> {
  const network = new Network();
  const b = network.add('b.example', 'b', 2);
  const random = seededRandom(1);
  const a = new Side(network, 'a', identityOf('a.example', random), random);
  a.endpoint.setPeer('b.example', 'b');
  network.sides.set('a', a);
  const firsts = strangersFirst(seededRandom(3));
  let i = 0;
  const flood = (): void => {
    for (let n = 0; n < perSecond / 100; n++) b.run(b.endpoint.receive(from(i++), firsts(), b.now));
    network.clock.after(10, flood);
  };
  flood();
  network.advance(1_000);
  network.captured.length = 0;
  return { network, a, b };
}

const tookPlace = ({ payloads }: Side): boolean => payloads.includes('a.example: hello');

describe('under a flood of first messages', () => {
  it.each([
    ['from changing addresses', (i: number) => `mallory ${i}`],
    ['under the address of the newcomer', () => 'a'],
  ])('%s a newcomer connects at once, with a cookie', (_, from) => {
    const { network, a, b } = flooded(1_000, from);
    a.send('b.example', 'hello');
    network.advance(1_000);
    expect(tookPlace(b)).toBe(true);
    const toA = network.captured
      .filter(({ from: sender, datagram }) => sender === 'a' || datagram.to === 'a')
      .map(({ from: sender, datagram }) => `${sender} ${datagram.label}`);
    expect(toA).toContain('b cookie');
    expect(b.endpoint.statistics.cookiesSent).toBeGreaterThan(900);
    expect(b.endpoint.sizes.halfOpen).toBeLessThanOrEqual(256);
  });

  it('no cookie is longer than what it answers, and nothing is kept for it', () => {
    const { network, b } = flooded(1_000, (i) => `mallory ${i}`);
    const halfOpen = b.endpoint.sizes.halfOpen;
    const cookies = network.captured.filter(({ datagram }) => datagram.label === 'cookie');
    expect(cookies.every(({ datagram }) => datagram.bytes.length < 20)).toBe(true);
    network.advance(1_000);
    // Twenty answers a second, and no more.
    expect(b.endpoint.sizes.halfOpen - halfOpen).toBeLessThanOrEqual(21);
  });

  it('a cookie that is not good is worth nothing', () => {
    const { network, a, b } = flooded(1_000, (i) => `mallory ${i}`);
    // What the attacker guesses arrives before the genuine cookie, and does not go away.
    network.channel = (seen) => {
      if (seen.datagram.label !== 'cookie' || seen.datagram.to !== 'a') return perfect()(seen);
      const changed = seen.datagram.bytes.slice();
      changed[changed.length - 1]! ^= 1;
      return [
        { after: 1, bytes: changed },
        { after: 20, bytes: seen.datagram.bytes },
        { after: 21, bytes: changed },
      ];
    };
    a.send('b.example', 'hello');
    network.advance(10_000);
    expect(tookPlace(b)).toBe(true);
  });

  it('a cookie that was made up gets nothing of what is kept for those who have a good one', () => {
    const { b } = flooded(1_000, (i) => `mallory ${i}`);
    const { halfOpen } = b.endpoint.sizes;
    const random = seededRandom(4);
    const firsts = strangersFirst(random);
    for (let i = 0; i < 100; i++) {
      const first = firsts();
      // Behind flags, version and connection id, of which the flags tell.
      const bytes = concat(first.subarray(0, 3), random.bytes(8), first.subarray(3));
      bytes[0]! |= 1;
      b.run(b.endpoint.receive(`mallory ${i}`, bytes, b.now));
    }
    expect(b.endpoint.sizes.halfOpen).toBe(halfOpen);
  });

  it('forged cookies change no timer, and lead to no more copies than the allowance has', () => {
    const { network, a } = pair(2);
    network.channel = () => [];
    a.send('b.example', 'hello');
    const id = network.captured[0]!.datagram.bytes[2]!;
    const random = seededRandom(5);
    network.advance(1);
    const { deadline } = a.endpoint.left(-1, a.now);
    for (let i = 0; i < 1_000; i++) {
      network.deliver('b', 'a', encodeCookie(id as never, random.bytes(8)));
      network.deliver('mallory', 'a', encodeCookie(id as never, random.bytes(8)));
    }
    network.advance(1);
    expect(a.endpoint.left(-1, a.now).deadline).toBe(deadline);
    expect(network.captured.length).toBeLessThan(50);
    expect(network.captured.every(({ datagram }) => datagram.to === 'b')).toBe(true);
    network.captured.length = 0;
    network.advance(MINUTE);
    expect(network.captured.length).toBeGreaterThan(2);
  });

  it('an established pipe goes on, also while its peer shakes hands anew', () => {
    const sides = pair(2);
    const { network, a, b } = sides;
    a.send('b.example', 'hello');
    network.advance(1_000);
    const firsts = strangersFirst(seededRandom(3));
    for (let second = 0; second < 10; second++) {
      for (let i = 0; i < 2_000; i++) b.run(b.endpoint.receive(`m ${second} ${i}`, firsts(), b.now));
      if (second === 5) a.run(a.endpoint.renew('b.example', a.now));
      a.send('b.example', `record ${second}`);
      network.advance(1_000);
    }
    expect(b.payloads).toHaveLength(11);
    expect(b.events.filter(({ kind }) => kind === 'established')).toHaveLength(2);
  });
});

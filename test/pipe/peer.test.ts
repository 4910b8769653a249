import { describe, expect, it } from 'vitest';
import { hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { NO_CAPABILITIES, NOTHING_AGREED } from '../../src/pipe/agreement.ts';
import { DEFAULT_LIMITS } from '../../src/pipe/limits.ts';
import { networkOf, OPEN_NETWORK } from '../../src/pipe/network.ts';
import { Peer } from '../../src/pipe/peer.ts';
import type { ConnectionId } from '../../src/pipe/record.ts';
import { firstProgress, Session } from '../../src/pipe/session.ts';
import { identityOf } from './harness.ts';

describe('the order of sessions', () => {
  it('both sides end with the same session, in whatever order each has come to know them', () => {
    const random = seededRandom(1);
    const [a, b] = [identityOf('a.example', random), identityOf('b.example', random)];
    const key = random.bytes(32);
    const [smaller] = [a, b].sort((x, y) => (hex(x.noisePublic) < hex(y.noisePublic) ? -1 : 1));
    for (let round = 0; round < 200; round++) {
      const known = Array.from({ length: 4 }, (_, number) => ({
        number,
        byA: random.integer(2) === 0,
        generation: random.integer(2),
      }));
      const bestOf = (own: typeof a, other: typeof a): number => {
        const peer = new Peer(other.serverName, DEFAULT_LIMITS);
        for (const { number, byA, generation } of [...known].sort(() => random.fraction() - 0.5)) {
          peer.add(
            new Session(
              {
                number,
                initiator: byA === (own === a),
                local: 0 as ConnectionId,
                remote: 0 as ConnectionId,
                claim: other,
                network: networkOf(OPEN_NETWORK),
                bootId: new Uint8Array(8),
                generation,
                said: { own: NO_CAPABILITIES, peer: NO_CAPABILITIES },
                agreed: NOTHING_AGREED,
                address: 'x',
                createdAt: 0,
              },
              firstProgress({ send: key, receive: key }),
            ),
          );
        }
        const best = peer.best(own.noisePublic)!.terms.number;
        return known.findIndex(
          ({ generation, byA }) => generation === known[best]!.generation && byA === known[best]!.byA,
        );
      };
      const best = known[bestOf(a, b)]!;
      expect(known[bestOf(b, a)]).toBe(best);
      const highest = Math.max(...known.map(({ generation }) => generation));
      const rivals = known.filter(({ generation }) => generation === highest);
      expect(best.generation).toBe(highest);
      expect((best.byA ? a : b) === smaller || rivals.every(({ byA }) => byA === best.byA)).toBe(true);
    }
  });

  it('a session of an old start, held back until now, is neither the best nor a restart', () => {
    const random = seededRandom(2);
    const [a, b] = [identityOf('a.example', random), identityOf('b.example', random)];
    const key = random.bytes(32);
    const made = (bootId: Uint8Array, generation: number): Session =>
      new Session(
        {
          ...{ number: generation, initiator: false, local: 0 as ConnectionId, remote: 0 as ConnectionId },
          ...{ claim: b, network: networkOf(OPEN_NETWORK), bootId, generation, address: 'x', createdAt: 0 },
          ...{ said: { own: NO_CAPABILITIES, peer: NO_CAPABILITIES }, agreed: NOTHING_AGREED },
        },
        firstProgress({ send: key, receive: key }),
      );
    const [first, second] = [random.bytes(8), random.bytes(8)];
    const peer = new Peer('b.example', DEFAULT_LIMITS);
    const newer = made(second, 20);
    expect([peer.add(made(second, 15)), peer.add(newer)]).toEqual([false, false]);
    const late = made(first, 10);
    expect(peer.behind(late)).toBe(20);
    expect(peer.add(late)).toBe(false);
    expect(peer.best(a.noisePublic)).toBe(newer);
    expect(peer.bootId).toEqual(second);
    const next = made(first, 21);
    expect(peer.behind(next)).toBeUndefined();
    expect(peer.add(next)).toBe(true);
    expect(peer.best(a.noisePublic)).toBe(next);
  });
});

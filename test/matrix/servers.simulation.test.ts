import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { sorted, VERSIONS } from './rooms.ts';
import { quarrel, RuleServer, reordered, type ServerCounters } from './servers.ts';

const SEEDS = Number(process.env.RAVINE_SEEDS ?? 300);
const EVENTS = 40;
const SERVERS = 3;

describe('servers that receive the same events in different orders', () => {
  it.each(VERSIONS)('reach the same state, whoever lies, in version $id', (version) => {
    const counters: ServerCounters = { conflicted: 0, rejected: 0, softFailed: 0, accepted: 0 };
    let otherCurrent = 0;
    for (let seed = 1; seed <= SEEDS; seed++) {
      const random = seededRandom(seed);
      const { create, all } = quarrel(random, version, EVENTS, counters);
      const servers = Array.from({ length: SERVERS }, () => new RuleServer(create, version, counters));
      for (const server of servers) for (const event of reordered(random, all).slice(1)) server.take(event);
      const [first, ...others] = servers;
      for (const other of others) {
        for (const { id } of all) {
          const label = `seed ${seed}, ${id}`;
          expect(other.events.get(id)!.rejected, label).toBe(first!.events.get(id)!.rejected);
          expect(sorted(other.stateAfter.get(id)!), label).toEqual(sorted(first!.stateAfter.get(id)!));
        }
        if (sorted(other.current()).join() !== sorted(first!.current()).join()) otherCurrent++;
      }
    }
    console.info(`version ${version.id}:`, { ...counters, otherCurrent });
    for (const [name, count] of Object.entries(counters)) expect(count, name).toBeGreaterThan(SEEDS / 10);
  });
});

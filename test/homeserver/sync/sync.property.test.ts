import { describe, expect, it } from 'vitest';
import { run } from './sync_run.ts';

const SEEDS = [2018, 3075, 5000, 5004];
const FORKED_SEEDS = [2075, 3011, 3075, 5005];

describe('a client that only applies what it is answered', () => {
  const totals: Record<string, number> = {};
  const add = (counts: Record<string, number>): void => {
    for (const [what, count] of Object.entries(counts)) totals[what] = (totals[what] ?? 0) + count;
  };

  it.each(SEEDS)('ends with what was done in the rooms, each once and in order (seed %i)', async (seed) => {
    add(await run(seed, { forks: false }));
  });

  it.each(FORKED_SEEDS)('does so too where another server builds on old events (seed %i)', async (seed) => {
    add(await run(seed, { forks: true }));
  });

  it('has been through everything that can happen', () => {
    for (const what of ['messages', 'state', 'join', 'leave', 'invite', 'kick', 'ban', 'unban', 'remote']) {
      expect(totals[what], what).toBeGreaterThan(0);
    }
    for (const what of [
      'm.read',
      'm.read.private',
      'm.fully_read',
      'typing',
      'account data',
      'tags',
      'presence',
    ])
      expect(totals[what], what).toBeGreaterThan(5);
    for (const what of ['ephemeral', 'syncs', 'gaps', 'pages', 'forks', 'resolutions']) {
      expect(totals[what], what).toBeGreaterThan(10);
    }
  });
});

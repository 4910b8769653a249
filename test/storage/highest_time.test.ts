import { expect, test } from 'vitest';
import { neverBefore } from '../../src/base/time.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import type { KeyId, ServerName } from '../../src/matrix/ids.ts';
import { highestTime } from '../../src/storage/highest_time.ts';
import { putPipePeer } from '../../src/storage/pipe_peers.ts';
import { temporaryDatabase } from './temporary_database.ts';

test('a clock that starts in the past is never behind what was stored of it', async () => {
  const database = temporaryDatabase();
  expect(await highestTime(database)).toBe(0);
  const clock = new VirtualClock();
  const stored = clock.wall() + 1_000_000;
  for (const [name, lastSeen] of [
    ['b.example', stored],
    ['c.example', stored - 5],
  ] as const) {
    await database.transaction((tx) =>
      putPipePeer(tx, {
        ...{ serverName: name as ServerName, noiseKey: 'AA', signingKeyId: 'ed25519:1' as KeyId },
        ...{ signingKey: 'AA', trust: 'tofu', serial: 1, firstSeen: 0, lastSeen },
      }),
    );
  }
  const steady = neverBefore(await highestTime(database), clock);
  expect(steady.wall()).toBe(stored);
  expect(steady.monotonic()).toBe(clock.monotonic());
  clock.advanceTo(clock.monotonic() + 1_000_001);
  expect(steady.wall()).toBe(stored + 1);
});

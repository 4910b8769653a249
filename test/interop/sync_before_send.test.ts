import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { Millis } from '../../src/base/time.ts';
import { RecordProxy } from '../crash/record_proxy.ts';
import { configOf, healed, NAMES, type Name, Speaker } from '../crash/speaker.ts';
import { freePort } from '../free_port.ts';
import { temporaryFolder } from '../storage/temporary_database.ts';
import { RavineProcess, SERVE } from './ravine_process.ts';

/** strace that may trace here, which neither every machine nor every container has. */
const canTrace = spawnSync('strace', ['-o', '/dev/null', 'true']).status === 0;
/** Each of them is written, synced and answered by itself: the user waits for the answer before the next. */
const ENOUGH_MESSAGES = 25;
const TALK_MS: Millis = 120_000;
const reason = canTrace ? '' : ' (not run: no strace that may trace here)';

/*
 * kill -9 says nothing about a sync: what was written is in the system's cache and stays. So the system calls are looked at:
 *
 *   pwrite64(ravine.db-wal) ... fdatasync(ravine.db-wal) ... sendmsg(datagram that tells of it)
 */
test.skipIf(!canTrace)(
  `no datagram leaves and no HTTP answer is written while a commit is not on the disk${reason}`,
  async () => {
    const folder = temporaryFolder();
    const trace = join(folder, 'trace');
    const ports = { alpha: await freePort('udp'), bravo: await freePort('udp') };
    const proxy = await RecordProxy.open(NAMES.map((name) => [name, ports[name]]));
    onTestFinished(() => proxy.close());
    const calls = 'trace=pwrite64,fdatasync,fsync,sendmsg,sendto,sendmmsg,write,writev';
    // -D: the server is the child, so that a signal goes to it.
    const traced = ['strace', '-D', '-f', '-y', '-s', '0', '-e', calls, '-o', trace, ...SERVE] as const;
    const speakerOf = (name: Name, other: Name): Speaker => {
      const config = configOf(name, other, ports, proxy);
      const process = new RavineProcess(join(folder, name), config, name === 'alpha' ? traced : SERVE);
      onTestFinished(() => process.end('SIGKILL'));
      return new Speaker(name, process);
    };
    const [alpha, bravo] = [speakerOf('alpha', 'bravo'), speakerOf('bravo', 'alpha')];
    await Promise.all([alpha.start(), bravo.start()]);
    await bravo.join(await alpha.createRoom());
    const talks = [alpha.talk(), bravo.talk()];
    await healed(alpha, bravo);
    await vi.waitUntil(() => alpha.acknowledged.length >= ENOUGH_MESSAGES, TALK_MS);
    for (const speaker of [alpha, bravo]) speaker.stopTalking();
    await Promise.all(talks);
    await alpha.process.end('SIGTERM');

    const seen = { writes: 0, syncs: 0, sent: 0 };
    const early: string[] = [];
    let unsynced: string | undefined;
    for (const line of readFileSync(trace, 'utf8').split('\n')) {
      const [, call, file] = /^\d+ +(\w+)\(\d+<([^>]*)>/.exec(line) ?? [];
      if (call === 'pwrite64' && file?.endsWith('ravine.db-wal')) {
        seen.writes++;
        unsynced ??= line;
      } else if ((call === 'fdatasync' || call === 'fsync') && file?.endsWith('ravine.db-wal')) {
        seen.syncs++;
        unsynced = undefined;
      } else if (call !== undefined && /^(?:UDP|TCP|socket:)/.test(file ?? '')) {
        seen.sent++;
        if (unsynced !== undefined) early.push(line);
      }
    }
    expect(early).toEqual([]);
    // Otherwise there is nothing to find.
    expect(Math.min(seen.writes, seen.syncs, seen.sent)).toBeGreaterThanOrEqual(ENOUGH_MESSAGES);
  },
);

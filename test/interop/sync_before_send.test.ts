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
/** Of requests that each leave something behind. */
const ROUNDS = 5;
const REQUESTS_PER_ROUND = 9;
const TALK_MS: Millis = 120_000;
const CALLS = 'pwrite64,fdatasync,fsync,sendmsg,sendto,sendmmsg,write,writev';
/** -D: the server is the child, so that a signal goes to it. */
const traceTo = (file: string) =>
  ['strace', '-D', '-f', '-y', '-s', '0', '-e', `trace=${CALLS}`, '-o', file, ...SERVE] as const;
const reason = canTrace ? '' : ' (not run: no strace that may trace here)';

/*
 * kill -9 says nothing about a sync: what was written is in the system's cache and stays. So the system calls are looked at:
 *
 *   pwrite64(ravine.db-wal) ... fdatasync(ravine.db-wal) ... sendmsg(datagram that tells of it)
 */
/** @returns what left while a commit was not on the disk, and how often there was what; `sentBehindSync`: with a sync since the one before */
function readTrace(file: string) {
  const seen = { writes: 0, syncs: 0, sent: 0, sentBehindSync: 0 };
  let isSynced = false;
  const early: string[] = [];
  let unsynced: string | undefined;
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const [, call, file] = /^\d+ +(\w+)\(\d+<([^>]*)>/.exec(line) ?? [];
    if (call === 'pwrite64' && file?.endsWith('ravine.db-wal')) {
      seen.writes++;
      unsynced ??= line;
    } else if ((call === 'fdatasync' || call === 'fsync') && file?.endsWith('ravine.db-wal')) {
      seen.syncs++;
      unsynced = undefined;
      isSynced = true;
    } else if (call !== undefined && /^(?:UDP|TCP|socket:)/.test(file ?? '')) {
      seen.sent++;
      if (isSynced) seen.sentBehindSync++;
      isSynced = false;
      if (unsynced !== undefined) early.push(line);
    }
  }
  return { early, seen };
}

test.skipIf(!canTrace)(
  `no datagram leaves and no HTTP answer is written while a commit is not on the disk${reason}`,
  async () => {
    const folder = temporaryFolder();
    const trace = join(folder, 'trace');
    const ports = { alpha: await freePort('udp'), bravo: await freePort('udp') };
    const proxy = await RecordProxy.open(NAMES.map((name) => [name, ports[name]]));
    onTestFinished(() => proxy.close());
    const speakerOf = (name: Name, other: Name): Speaker => {
      const config = configOf(name, other, ports, proxy);
      const process = new RavineProcess(
        join(folder, name),
        config,
        name === 'alpha' ? traceTo(trace) : SERVE,
      );
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

    const { early, seen } = readTrace(trace);
    expect(early).toEqual([]);
    // Otherwise there is nothing to find.
    expect(Math.min(seen.writes, seen.syncs, seen.sent)).toBeGreaterThanOrEqual(ENOUGH_MESSAGES);
  },
);

test.skipIf(!canTrace)(
  `account data, tags, receipts, profiles and registrations are answered behind a sync each${reason}`,
  async () => {
    const folder = temporaryFolder();
    const trace = join(folder, 'trace');
    const server = new RavineProcess(folder, { coap: { enabled: false } }, traceTo(trace));
    onTestFinished(() => server.end('SIGKILL'));
    await server.start();
    const token = await server.register('alice');
    const user = encodeURIComponent('@alice:localhost');
    const { json: created } = await server.call('POST', '/createRoom', token, {});
    const room = `/rooms/${encodeURIComponent(String(created.room_id))}`;
    for (let i = 0; i < ROUNDS; i++) {
      const { json: sent } = await server.call('PUT', `${room}/send/m.room.message/${i}`, token, {
        ...{ msgtype: 'm.text', body: String(i) },
      });
      const event = encodeURIComponent(String(sent.event_id));
      const answers = [
        await server.call('PUT', `/user/${user}/account_data/test.ravine`, token, { i }),
        await server.call('PUT', `/user/${user}${room}/account_data/test.ravine`, token, { i }),
        await server.call('PUT', `/user/${user}${room}/tags/u.${i}`, token, {}),
        await server.call('POST', `${room}/receipt/m.read/${event}`, token, {}),
        await server.call('POST', `${room}/receipt/m.read.private/${event}`, token, {}),
        await server.call('POST', `${room}/receipt/m.fully_read/${event}`, token, {}),
        await server.call('PUT', `/profile/${user}/m.tz`, token, { 'm.tz': `Etc/GMT+${i}` }),
      ];
      expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
      await server.register(`newcomer-${i}`);
    }
    await server.end('SIGTERM');
    const { early, seen } = readTrace(trace);
    expect(early).toEqual([]);
    expect(seen.sentBehindSync).toBeGreaterThanOrEqual(ROUNDS * REQUESTS_PER_ROUND);
  },
);

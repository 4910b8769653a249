import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { EventId, RoomId, UserId } from '../../src/matrix/ids.ts';
import { readConfig } from '../../src/server/config.ts';
import { openServer } from '../../src/server/open.ts';
import { putReport, type Report } from '../../src/storage/reports.ts';
import { openSqlite } from '../../src/storage/sqlite.ts';
import { type Ran, ravine } from './run.ts';

const folder = mkdtempSync(join(tmpdir(), 'ravine-reports-'));
const config = join(folder, 'ravine.json');
const ALICE = '@alice:here.test' as UserId;
const SECOND_MS = 1_000;

const report = (of: Partial<Report>): Report => ({
  ...{ kind: 'user', reporter: ALICE, room: null, eventId: null, userId: null, reason: '' },
  ...of,
});

beforeAll(async () => {
  const settings = { server_name: 'here.test', data: 'data', http: { listen: [] }, coap: { enabled: false } };
  writeFileSync(config, JSON.stringify({ ...settings, log: { level: 'silent' } }));
  await (await openServer(readConfig(config))).stop();
  const database = openSqlite({ path: join(folder, 'data', 'ravine.db'), durability: 'off' });
  const reports = [
    report({ userId: '@spam:there' as UserId, reason: 'writes\u001b[2J all day' }),
    report({ kind: 'room', room: '!room' as RoomId, reason: 'x'.repeat(100) }),
    report({ kind: 'event', room: '!room' as RoomId, eventId: '$event' as EventId, reason: 'rude' }),
  ];
  for (const [at, one] of reports.entries())
    await database.transaction((tx) => putReport(tx, one, at * SECOND_MS));
  await database.close();
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const reports = (...args: readonly string[]): Promise<Ran> => ravine('reports', ...args, '--config', config);

describe('ravine reports', { timeout: 60_000 }, () => {
  test('lists what nobody has read, the newest first, without what moves a cursor', async () => {
    const { code, stdout } = await reports();
    expect(code).toBe(0);
    const lines = stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^ID +RECEIVED \(UTC\) +BY +ABOUT +REASON$/);
    expect(lines[1]).toMatch(/^3 +1970-01-01 00:00 +@alice:here.test +\$event +rude$/);
    expect(lines[2]).toMatch(/^2 .* !room +x{60}\.\.\.$/);
    expect(lines[3]).toMatch(/^1 .* @spam:there +writes\ufffd\[2J all day$/);
  });

  test('shows one, and marks it or all up to it as read', async () => {
    expect((await reports('show', '1')).stdout).toMatch(/^about +the user @spam:there$/m);
    expect((await reports('read', '3')).stdout).toBe('It is marked as read.\n');
    const left = async () =>
      (JSON.parse((await reports('list', '--json')).stdout) as { id: number }[]).map(({ id }) => id);
    expect(await left()).toEqual([2, 1]);
    expect(JSON.parse((await reports('read', '2', '--up-to', '--json')).stdout)).toEqual({ read: 2 });
    expect(await left()).toEqual([]);
    expect((await reports()).stdout).toBe('There is nothing that was not read.\n');
    const all = JSON.parse((await reports('list', '--all', '--json')).stdout) as object[];
    expect(all).toHaveLength(3);
    expect(all[0]).toEqual({
      ...{ id: 3, kind: 'event', reporter: ALICE, room_id: '!room', event_id: '$event', user_id: null },
      ...{ reason: 'rude', received: '1970-01-01T00:00:02.000Z', read: expect.stringMatching(/Z$/) },
    });
    const shown = JSON.parse((await reports('show', '3', '--json')).stdout) as object;
    expect(shown).toMatchObject({ id: 3, event: null });
    expect(await reports('show', '4')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('no report 4'),
    });
  });

  test('--help has examples', async () => {
    const { code, stdout } = await ravine('reports', '--help');
    expect([code, stdout]).toEqual([0, expect.stringContaining('Examples:')]);
  });
});

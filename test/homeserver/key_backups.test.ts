import { text } from 'node:stream/consumers';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { deactivateAccount } from '../../src/homeserver/deactivation.ts';
import { type BackedUpKey, KeyBackups } from '../../src/homeserver/key_backups.ts';
import { DeviceLists } from '../../src/homeserver/keys/device_lists.ts';
import type { UserId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { accountService } from './account_service.ts';
import { noWarnings } from './no_warnings.ts';

const ALICE = '@alice:a.example' as UserId;
const BOB = '@bob:a.example' as UserId;
const DESCRIPTION = { algorithm: 'm.megolm_backup.v1.curve25519-aes-sha2', auth_data: { public_key: 'k' } };

async function twoUsers() {
  const { accounts, database, clock } = accountService();
  for (const name of ['alice', 'bob']) await accounts.create(name, 'x');
  return { database, clock, backups: new KeyBackups({ database, log: noWarnings }) };
}

const key = (is_verified = false, first_message_index = 0, forwarded_count = 0, data = 'd'): BackedUpKey => ({
  first_message_index,
  forwarded_count,
  is_verified,
  session_data: { data },
});

const read = async (backups: KeyBackups, user: UserId, version: string, room?: string) =>
  JSON.parse(await text(await backups.keys(user, version, room))) as JsonObject;

/** The specification's three sentences, as they are written. */
function kept(old: BackedUpKey, given: BackedUpKey): BackedUpKey {
  if (old.is_verified !== given.is_verified) return old.is_verified ? old : given;
  if (old.first_message_index !== given.first_message_index)
    return old.first_message_index < given.first_message_index ? old : given;
  if (old.forwarded_count !== given.forwarded_count)
    return old.forwarded_count < given.forwarded_count ? old : given;
  return old;
}

const ROOMS = ['!a', '!b', '!aa'];
const SESSIONS = ['1', '2', '10'];
const place = fc.record({ room: fc.constantFrom(...ROOMS), session: fc.constantFrom(...SESSIONS) });
const keys = fc.array(
  fc.record({
    place,
    verified: fc.boolean(),
    first: fc.integer({ min: 0, max: 2 }),
    forwarded: fc.integer({ min: 0, max: 2 }),
  }),
  { maxLength: 6 },
);
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('put' as const), keys }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('delete' as const),
      room: fc.option(fc.constantFrom(...ROOMS), { nil: undefined }),
      session: fc.option(fc.constantFrom(...SESSIONS), { nil: undefined }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('begin' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('end' as const) }) },
);

test('the better key of each session stays, whatever comes in whatever order', async () => {
  const { backups } = await twoUsers();
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const user = runs++ % 2 === 0 ? ALICE : BOB;
      /** By version, then by room and session; the last is the current one. */
      const twins = new Map<string, Map<string, Map<string, BackedUpKey>>>();
      twins.set(await backups.create(user, DESCRIPTION), new Map());
      let named = 0;
      for (const one of steps) {
        const version = [...twins.keys()].at(-1)!;
        const twin = twins.get(version)!;
        const before = { body: asJson(twin), about: await backups.about(user, version) };
        if (one.kind === 'put') {
          const given: Record<string, Record<string, BackedUpKey>> = {};
          for (const { place, verified, first, forwarded } of one.keys) {
            const { room, session } = place;
            given[room] = { ...given[room], [session]: key(verified, first, forwarded, `${named++}`) };
          }
          for (const [room, sessions] of Object.entries(given))
            for (const [session, next] of Object.entries(sessions)) {
              const there = twin.get(room) ?? new Map<string, BackedUpKey>();
              const old = there.get(session);
              twin.set(room, there.set(session, old === undefined ? next : kept(old, next)));
            }
          await backups.put(user, version, given);
        } else if (one.kind === 'delete') {
          const session = one.room === undefined ? undefined : one.session;
          for (const [room, there] of twin) {
            if (one.room !== undefined && one.room !== room) continue;
            if (session === undefined) there.clear();
            else there.delete(session);
            if (there.size === 0) twin.delete(room);
          }
          await backups.deleteKeys(
            user,
            version,
            one.room === undefined ? undefined : { room: one.room, session },
          );
        } else if (one.kind === 'begin') {
          twins.set(await backups.create(user, DESCRIPTION), new Map());
        } else if (twins.size > 1) {
          twins.delete(version);
          await backups.delete(user, version);
        }
        for (const [version, twin] of twins) {
          const body = await read(backups, user, version);
          expect(body).toEqual({ rooms: asJson(twin) });
          const about = await backups.about(user, version);
          expect(about.count).toBe([...twin.values()].reduce((sum, { size }) => sum + size, 0));
        }
        const isSame = JSON.stringify(asJson(twin)) === JSON.stringify(before.body);
        if (twins.has(version))
          expect((await backups.about(user, version)).etag === before.about.etag).toBe(isSame);
        expect((await backups.about(user)).version).toBe([...twins.keys()].at(-1));
      }
      for (const version of twins.keys()) await backups.delete(user, version);
    }),
    { numRuns: 60, seed: 7 },
  );

  function asJson(twin: Map<string, Map<string, BackedUpKey>>): JsonObject {
    const rooms = [...twin].map(([room, there]) => [room, { sessions: Object.fromEntries(there) }] as const);
    return Object.fromEntries(rooms) as unknown as JsonObject;
  }
});

describe('a backup', () => {
  test('of a deactivated account is gone, and nobody else has lost one', async () => {
    const { backups, database, clock } = await twoUsers();
    for (const user of [ALICE, BOB])
      await backups.put(user, await backups.create(user, DESCRIPTION), { '!a': { s: key() } });
    await database.transaction((tx) =>
      deactivateAccount(tx, ALICE, { erase: false, now: clock.wall(), lists: new DeviceLists() }),
    );
    await expect(backups.about(ALICE)).rejects.toMatchObject({ errcode: 'M_NOT_FOUND' });
    await backups.sweep();
    const left = await database.all<{ user_id: string }>(
      `SELECT user_id FROM key_backups LEFT JOIN backed_up_keys ON backup = id
       UNION ALL SELECT user_id FROM key_backup_versions`,
    );
    expect(left.map(({ user_id }) => user_id)).toEqual([BOB, BOB]);
  });

  test('that is deleted or emptied is so at once; its keys go behind that, in pieces, also after a start', async () => {
    const { backups, database } = await twoUsers();
    const [first, second] = [
      await backups.create(ALICE, DESCRIPTION),
      await backups.create(ALICE, DESCRIPTION),
    ];
    const sessions = Object.fromEntries(Array.from({ length: 600 }, (_, n) => [`s${n}`, key()]));
    await backups.put(ALICE, second, { '!a': sessions });
    const keys = async () =>
      (await database.get<{ n: number }>('SELECT COUNT(*) AS n FROM backed_up_keys'))!.n;
    const { commits } = database.counters;
    expect(await backups.deleteKeys(ALICE, second, undefined)).toEqual({ etag: '2', count: 0 });
    expect(await keys()).toBeGreaterThan(0);
    // Of one that is stopped, the rest is left to the next.
    await backups.stop();
    const rest = await keys();
    expect(rest).toBeGreaterThan(0);
    const next = new KeyBackups({ database, log: noWarnings });
    expect(await read(next, ALICE, second)).toEqual({ rooms: {} });
    expect(await next.put(ALICE, second, { '!b': { t: key() } })).toEqual({ etag: '3', count: 1 });
    await next.delete(ALICE, first);
    await next.sweep();
    expect(await keys()).toBe(1);
    expect(database.counters.commits - commits).toBeGreaterThanOrEqual(5);
    expect(await read(next, ALICE, second)).toMatchObject({ rooms: { '!b': { sessions: { t: key() } } } });
    expect(await database.all('SELECT version FROM key_backups')).toEqual([{ version: 2 }]);
  });

  test('that is full takes no more, of what comes at once nothing, until something is deleted', async () => {
    const { backups, database } = await twoUsers();
    const version = await backups.create(ALICE, DESCRIPTION);
    const data = 'x'.repeat(60_000);
    await backups.put(ALICE, version, { '!a': { s: key(false, 5, 0, data) } });
    await database.transaction((tx) =>
      tx.run('UPDATE key_backups SET size = ?', 1024 ** 3 - 60_000).then(() => undefined),
    );
    const more = { '!a': { t: key() }, '!b': { u: key(false, 0, 0, data) } };
    await expect(backups.put(ALICE, version, more)).rejects.toMatchObject({
      status: 413,
      errcode: 'M_TOO_LARGE',
    });
    expect(await backups.about(ALICE)).toMatchObject({ count: 1, etag: '1' });
    // A better key that is not larger is taken.
    await backups.put(ALICE, version, { '!a': { s: key(true, 0, 0, data) } });
    await backups.deleteKeys(ALICE, version, { room: '!a' });
    expect(await backups.put(ALICE, version, more)).toEqual({ etag: '4', count: 2 });
  });

  test('is one of at most a hundred', async () => {
    const { backups } = await twoUsers();
    for (let n = 0; n < 100; n++) await backups.create(ALICE, DESCRIPTION);
    await expect(backups.create(ALICE, DESCRIPTION)).rejects.toMatchObject({ errcode: 'M_TOO_LARGE' });
    await backups.delete(ALICE, '7');
    expect(await backups.create(ALICE, DESCRIPTION)).toBe('101');
    expect(await backups.create(BOB, DESCRIPTION)).toBe('1');
  });

  test('of many pages is told with each key once', async () => {
    const { backups } = await twoUsers();
    const version = await backups.create(ALICE, DESCRIPTION);
    const sessions = Object.fromEntries(Array.from({ length: 200 }, (_, n) => [`s${n}`, key()]));
    await backups.put(ALICE, version, { '!a': sessions, '!b': sessions });
    for (const [room, count] of [
      [undefined, 400],
      ['!b', 200],
    ] as const) {
      const json = await text(await backups.keys(ALICE, version, room));
      expect(json.match(/"session_data"/g)).toHaveLength(count);
    }
  });

  test('that is deleted while it is read does not pass for a shorter one', async () => {
    const { backups } = await twoUsers();
    const version = await backups.create(ALICE, DESCRIPTION);
    const sessions = Object.fromEntries(Array.from({ length: 250 }, (_, n) => [`s${n}`, key()]));
    await backups.put(ALICE, version, { '!a': sessions });
    const pieces = await backups.keys(ALICE, version);
    let told = 0;
    await expect(async () => {
      for await (const _ of pieces) if (++told === 50) await backups.delete(ALICE, version);
    }).rejects.toMatchObject({ errcode: 'M_NOT_FOUND' });
    expect(told).toBeLessThan(250);
  });
});

import { describe, expect, test } from 'vitest';
import type { VirtualClock } from '../../src/base/virtual_clock.ts';
import { Deactivation } from '../../src/homeserver/deactivation.ts';
import { forbidden, unknownError } from '../../src/matrix/error.ts';
import type { EventId, RoomId, ServerName, UserId } from '../../src/matrix/ids.ts';
import { findAccount, listDepartures } from '../../src/storage/accounts.ts';
import { putMembership } from '../../src/storage/memberships.ts';
import type { SqliteDatabase } from '../../src/storage/sqlite.ts';
import { accountService } from './account_service.ts';

const alice = '@alice:a.example' as UserId;
const ROOMS = [
  '!joined:a.example',
  '!invited:b.example',
  '!knocked:b.example',
  '!left:a.example',
] as RoomId[];
const MEMBERSHIPS = ['join', 'invite', 'knock', 'leave'] as const;

/** Alice in four rooms, and who is to leave what is told. */
async function world() {
  const service = accountService();
  const { accounts, database, clock } = service;
  await accounts.create('alice', 'secret');
  await database.transaction(async (tx) => {
    for (const [at, room] of ROOMS.entries())
      await putMembership(tx, {
        ...{ room, user: alice, server: 'a.example' as ServerName, position: at + 1 },
        membership: MEMBERSHIPS[at]!,
        eventId: `$${at}` as EventId,
      });
  });
  const session = await accounts.login('alice', 'secret', {});
  return { ...service, session, ...departing(database, clock) };
}

/** The service, over rooms that refuse as the test says. */
function departing(database: SqliteDatabase, clock: VirtualClock) {
  const left: RoomId[] = [];
  const refusals = new Map<RoomId, Error>();
  const leave = async (user: UserId, room: RoomId): Promise<void> => {
    expect(user).toBe(alice);
    left.push(room);
    const refusal = refusals.get(room);
    if (refusal !== undefined) throw refusal;
    await database.transaction((tx) =>
      tx.run("UPDATE memberships SET membership = 'leave' WHERE room = ?", room),
    );
  };
  const warnings: string[] = [];
  const log = { warn: (_fields: object, message: string) => warnings.push(message) };
  return { left, refusals, warnings, deactivation: new Deactivation({ database, clock, leave, log }) };
}

const rest = async (): Promise<void> => {
  for (let turn = 0; turn < 200; turn++) await Promise.resolve();
};

/** As much later as that. */
async function wait(clock: VirtualClock, minutes: number): Promise<void> {
  const end = clock.monotonic() + minutes * 60_000;
  for (let at = clock.next(); at !== null && at <= end; at = clock.next()) {
    clock.step();
    await rest();
  }
  clock.advanceTo(end);
}

describe('a deactivated account', () => {
  test('is out of its rooms, its invites turned down, and remembered for ever', async () => {
    const { deactivation, accounts, database, session, left } = await world();
    await deactivation.deactivate(session, false);
    await rest();
    expect(left).toEqual(ROOMS.slice(0, 3));
    expect(await listDepartures(database)).toEqual([]);
    expect(await findAccount(database, alice)).toMatchObject({ passwordHash: null, erased: null });
    expect(await accounts.localUserExists(alice)).toBe(false);
    await expect(accounts.registration.checkAvailable('alice')).rejects.toMatchObject({
      errcode: 'M_USER_IN_USE',
    });
    await expect(accounts.create('alice', 'secret')).rejects.toMatchObject({ errcode: 'M_USER_IN_USE' });
    await expect(accounts.loginAs(alice, {})).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' });
  });

  test('keeps neither tokens nor settings, and no profile where it is erased', async () => {
    const { deactivation, accounts, database, session } = await world();
    const { token } = await accounts.issueLoginToken(session);
    await database.transaction(async (tx) => {
      await tx.run(
        "UPDATE users SET displayname = 'Alice', avatar_url = 'mxc://a/b' WHERE user_id = ?",
        alice,
      );
      await tx.run("INSERT INTO profile_fields (user_id, name, value) VALUES (?, 'm.tz', '\"UTC\"')", alice);
      await tx.run(
        "INSERT INTO account_data (user_id, room, type, content, position) VALUES (?, '', 'x', '{}', 1)",
        alice,
      );
      await tx.run("INSERT INTO filters (user_id, hash, json) VALUES (?, x'00', '{}')", alice);
    });
    await deactivation.deactivate(session, true);
    const left = [];
    for (const table of [
      'devices',
      'access_tokens',
      'login_tokens',
      'profile_fields',
      'account_data',
      'filters',
    ])
      left.push(...(await database.all(`SELECT * FROM ${table} WHERE user_id = ?`, alice)));
    expect(left).toEqual([]);
    expect(await database.get('SELECT displayname, avatar_url, admin FROM users')).toEqual({
      displayname: null,
      avatar_url: null,
      admin: 0,
    });
    await expect(accounts.loginWithToken(token, {})).rejects.toMatchObject({ errcode: 'M_FORBIDDEN' });
  });

  test('tries again to leave what could not be left, less and less often', async () => {
    const { deactivation, database, clock, session, left, refusals } = await world();
    refusals.set(ROOMS[1]!, unknownError(502, 'the other server does not answer'));
    // It was put out meanwhile: there is nothing to leave.
    refusals.set(ROOMS[2]!, forbidden('not in the room'));
    deactivation.start();
    await deactivation.deactivate(session, false);
    await rest();
    expect(await listDepartures(database)).toEqual([alice]);
    left.length = 0;
    await wait(clock, 60);
    const tries = left.filter((room) => room === ROOMS[1]).length;
    expect(tries).toBeGreaterThan(3);
    expect(tries).toBeLessThan(10);
    refusals.clear();
    await wait(clock, 70);
    expect(await listDepartures(database)).toEqual([]);
    await deactivation.stop();
    expect(clock.next()).toBeNull();
  });

  test('is out of them in the end, whatever goes wrong, and the server does not end of it', async () => {
    const { deactivation, database, clock, session, left, refusals, warnings } = await world();
    refusals.set(ROOMS[0]!, new Error('the disk is full'));
    deactivation.start();
    await deactivation.deactivate(session, false);
    await rest();
    // The others are left all the same.
    expect(left).toEqual(ROOMS.slice(0, 3));
    expect(warnings).toEqual(['a deactivated user could not leave a room']);
    refusals.clear();
    await wait(clock, 5);
    expect(await listDepartures(database)).toEqual([]);
    await deactivation.stop();
  });

  test('goes on leaving after a restart', async () => {
    const { deactivation, database, clock, session, refusals } = await world();
    for (const room of ROOMS) refusals.set(room, unknownError(504, 'no answer'));
    await deactivation.deactivate(session, false);
    await deactivation.stop();
    const next = departing(database, clock);
    next.deactivation.start();
    await rest();
    expect(next.left).toEqual(ROOMS.slice(0, 3));
    expect(await listDepartures(database)).toEqual([]);
    await next.deactivation.stop();
  });
});

import { describe, expect, test } from 'vitest';
import { type Profile, type ProfileListener, Profiles } from '../../src/homeserver/profiles.ts';
import type { UserId } from '../../src/matrix/ids.ts';
import { accountService } from './account_service.ts';
import { noWarnings } from './no_warnings.ts';

const alice = '@alice:a.example' as UserId;
const bob = '@bob:a.example' as UserId;

async function twoUsers(): Promise<Profiles> {
  const { accounts, database, clock } = accountService();
  await accounts.create('alice', 'x');
  await accounts.create('bob', 'x');
  return new Profiles({ database, clock, log: noWarnings });
}

describe('profiles', () => {
  test('are empty at first, and not there for users who are not', async () => {
    const profiles = await twoUsers();
    expect(await profiles.get(alice)).toEqual({});
    expect(await profiles.get('@nobody:a.example' as UserId)).toBeUndefined();
  });

  test('hold what was set, until an empty text removes it', async () => {
    const profiles = await twoUsers();
    await profiles.set(alice, 'displayname', 'Alice ♥');
    await profiles.set(alice, 'avatar_url', 'mxc://a.example:8448/abc_DEF-1');
    expect(await profiles.get(alice)).toEqual({
      displayname: 'Alice ♥',
      avatar_url: 'mxc://a.example:8448/abc_DEF-1',
    });
    expect(await profiles.get(bob)).toEqual({});
    await profiles.set(alice, 'displayname', '');
    expect(await profiles.get(alice)).toEqual({ avatar_url: 'mxc://a.example:8448/abc_DEF-1' });
  });

  test.each([
    ['displayname', 'x'.repeat(257), 'M_PROFILE_TOO_LARGE'],
    ['displayname', '\ud800', 'M_INVALID_PARAM'],
    ['avatar_url', 'https://a.example/me.png', 'M_INVALID_PARAM'],
    ['avatar_url', 'mxc://a.example/', 'M_INVALID_PARAM'],
  ] as const)('refuse the %s %j', async (field, value, errcode) => {
    const profiles = await twoUsers();
    await expect(profiles.set(alice, field, value)).rejects.toMatchObject({ status: 400, errcode });
  });

  test('tell the listener of every change and of nothing else, behind the change', async () => {
    const profiles = await twoUsers();
    const told: [UserId, Profile][] = [];
    profiles.onChange({ profileChanged: async (user, profile) => void told.push([user, profile]) });
    for (const [user, name] of [
      [alice, 'A'],
      [alice, 'A'],
      [bob, ''],
      [alice, ''],
    ] as const) {
      await profiles.set(user, 'displayname', name);
      await profiles.stop();
    }
    await profiles.set(alice, 'm.tz', 'UTC');
    await profiles.stop();
    expect(told).toEqual([
      [alice, { displayname: 'A' }],
      [alice, {}],
    ]);
  });

  test('tell it one change of a user after the other, and of many at once the last', async () => {
    const profiles = await twoUsers();
    const log: string[] = [];
    const slow: ProfileListener = {
      async profileChanged(_, { displayname }) {
        log.push(`${displayname} starts`);
        for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
        log.push(`${displayname} ends`);
      },
    };
    profiles.onChange(slow);
    await profiles.set(alice, 'displayname', '1');
    for (const name of ['2', '3', '4']) await profiles.set(alice, 'displayname', name);
    await profiles.stop();
    expect(log).toEqual(['1 starts', '1 ends', '4 starts', '4 ends']);
  });

  test('tell it again after the next start where it has failed, or not come to an end', async () => {
    const { accounts, database, clock } = accountService();
    await accounts.create('alice', 'x');
    const warned: unknown[] = [];
    const log = { warn: (...of: unknown[]) => void warned.push(of) };
    const before = new Profiles({ database, clock, log });
    before.onChange({ profileChanged: () => Promise.reject(new Error('the disk is full')) });
    await before.set(alice, 'displayname', 'A');
    await before.stop();
    expect(warned).toEqual([[{ error: 'Error: the disk is full' }, 'rooms could not be told of a profile']]);
    const told: Profile[] = [];
    for (let start = 0; start < 2; start++) {
      const after = new Profiles({ database, clock, log: noWarnings });
      after.onChange({ profileChanged: async (_, profile) => void told.push(profile) });
      await after.start();
      await after.stop();
    }
    expect(told).toEqual([{ displayname: 'A' }]);
  });

  test('have any field besides, up to 64 KiB together', async () => {
    const profiles = await twoUsers();
    await profiles.set(alice, 'org.example.job', { title: 'Captain' });
    await profiles.set(alice, 'm.tz', 'Europe/London');
    expect(await profiles.get(alice)).toEqual({
      'org.example.job': { title: 'Captain' },
      'm.tz': 'Europe/London',
    });
    await profiles.set(alice, 'org.example.large', 'x'.repeat(65_000));
    await expect(profiles.set(alice, 'org.example.more', 'x'.repeat(1_000))).rejects.toMatchObject({
      errcode: 'M_PROFILE_TOO_LARGE',
    });
    await profiles.set(alice, 'org.example.large', undefined);
    await profiles.set(alice, 'org.example.more', null);
    expect((await profiles.get(alice))!['org.example.more']).toBeNull();
  });
});

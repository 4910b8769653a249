import { describe, expect, test } from 'vitest';
import { type Profile, type ProfileListener, Profiles } from '../../src/homeserver/profiles.ts';
import type { UserId } from '../../src/matrix/ids.ts';
import { accountService } from './account_service.ts';

const alice = '@alice:a.example' as UserId;
const bob = '@bob:a.example' as UserId;

async function twoUsers(): Promise<Profiles> {
  const { accounts, database } = accountService();
  await accounts.create('alice', 'x');
  await accounts.create('bob', 'x');
  return new Profiles({ database });
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

  test('tell the listener of every change and of nothing else', async () => {
    const profiles = await twoUsers();
    const told: [UserId, Profile][] = [];
    profiles.onChange({ profileChanged: async (user, profile) => void told.push([user, profile]) });
    await profiles.set(alice, 'displayname', 'A');
    await profiles.set(alice, 'displayname', 'A');
    await profiles.set(bob, 'displayname', '');
    await profiles.set(alice, 'displayname', '');
    expect(told).toEqual([
      [alice, { displayname: 'A' }],
      [alice, {}],
    ]);
  });

  test('tell it one change of a user after the other, also where it is slow or fails', async () => {
    const profiles = await twoUsers();
    const log: string[] = [];
    const slow: ProfileListener = {
      async profileChanged(user, { displayname }) {
        log.push(`${user} ${displayname} starts`);
        for (let turn = 0; turn < 20; turn++) await Promise.resolve();
        log.push(`${user} ${displayname} ends`);
        if (displayname === '1') throw new Error('the room is gone');
      },
    };
    profiles.onChange(slow);
    const results = await Promise.allSettled(
      ['1', '2', '3'].map((name) => profiles.set(alice, 'displayname', name)),
    );
    expect(results.map((result) => result.status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
    expect(log).toEqual(
      ['1', '2', '3'].flatMap((name) => [`${alice} ${name} starts`, `${alice} ${name} ends`]),
    );
    expect(await profiles.get(alice)).toEqual({ displayname: '3' });
  });
});

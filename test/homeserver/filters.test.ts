import { describe, expect, test } from 'vitest';
import { Filters } from '../../src/homeserver/filters.ts';
import type { UserId } from '../../src/matrix/ids.ts';
import { accountService } from './account_service.ts';

const alice = '@alice:a.example' as UserId;
const bob = '@bob:a.example' as UserId;

async function twoUsers() {
  const { accounts, database } = accountService();
  await accounts.create('alice', 'x');
  await accounts.create('bob', 'x');
  return { filters: new Filters({ database }), database };
}

describe('filters', () => {
  test('come back as they were put, under an id that no inline filter looks like', async () => {
    const { filters } = await twoUsers();
    const filter = { room: { timeline: { limit: 10, types: ['m.*'] } }, 'org.example': { '': null } };
    const id = await filters.put(alice, filter);
    expect(id).not.toMatch(/^\{/);
    expect(await filters.get(alice, id)).toEqual(filter);
  });

  test('keep their id when they are put again, and are nobody else’s', async () => {
    const { filters } = await twoUsers();
    const id = await filters.put(alice, { room: {} });
    expect(await filters.put(alice, { room: {} })).toBe(id);
    expect(await filters.put(bob, { room: {} })).not.toBe(id);
    expect(await filters.get(bob, id)).toBeUndefined();
  });

  test.each(['', 'x', '-1', '1e3', '9'.repeat(40), '404'])('there is none under %j', async (id) => {
    const { filters } = await twoUsers();
    await filters.put(alice, {});
    expect(await filters.get(alice, id)).toBeUndefined();
  });

  test('are bounded in size and number: the oldest go', async () => {
    const { filters, database } = await twoUsers();
    await expect(filters.put(alice, { event_fields: ['x'.repeat(70_000)] })).rejects.toMatchObject({
      status: 413,
    });
    const bobs = await filters.put(bob, {});
    const ids = await Promise.all(
      Array.from({ length: 1_001 }, (_, limit) => filters.put(alice, { presence: { limit } })),
    );
    expect(await filters.get(alice, ids[0]!)).toBeUndefined();
    expect(await filters.get(alice, ids[1]!)).toEqual({ presence: { limit: 1 } });
    expect(await filters.get(bob, bobs)).toEqual({});
    expect(await database.get('SELECT count(*) AS n FROM filters')).toEqual({ n: 1_001 });
  });
});

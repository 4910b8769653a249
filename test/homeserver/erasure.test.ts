import { expect, test } from 'vitest';
import { deactivateAccount } from '../../src/homeserver/deactivation.ts';
import { withoutErased } from '../../src/homeserver/erasure.ts';
import { DeviceLists } from '../../src/homeserver/keys/device_lists.ts';
import type { EventId, RoomId, UserId } from '../../src/matrix/ids.ts';
import type { Pdu } from '../../src/matrix/pdu.ts';
import { insertAccount } from '../../src/storage/accounts.ts';
import { roomRow, timelineEvent } from '../../src/storage/sync.ts';
import { type Server, World } from './rooms/world.ts';

/**
 * A room of Alice's server, and when the others were in it:
 *
 *             says "one"      says "two"      is erased
 *   before  ──────x───────────────x───────────────x──────────>
 *   between        ───────────────x───────────────x──────────>
 *   late                                           ──────────>
 *   back    ──────x──────            (gone)           ───────>
 */
async function world() {
  const network = new World();
  const a = network.server('a.example');
  const [b, c] = [network.server('b.example'), network.server('c.example')];
  const alice = a.user('alice');
  const room = await a.rooms.create(alice, { preset: 'public_chat' });
  const join = async (server: Server, name: string): Promise<UserId> => {
    const user = server.user(name);
    await server.rooms.memberships.join(user, room, { via: ['a.example'] });
    await network.settle();
    return user;
  };
  const before = await join(a, 'before');
  const back = await join(a, 'back');
  await join(b, 'bob');
  const one = await a.say(alice, room, 'one');
  await a.rooms.memberships.leave(back, room);
  const between = await join(a, 'between');
  const two = await a.say(alice, room, 'two');
  await network.settle();
  await a.database.transaction(async (tx) => {
    await insertAccount(tx, { user: alice, passwordHash: null }, 0);
    await deactivateAccount(tx, alice, { erase: true, lists: new DeviceLists(), now: 1 });
  });
  const late = await join(a, 'late');
  await join(a, 'back');
  await join(c, 'carol');
  return { a, room, alice, one, two, users: { before, between, late, back, alice } };
}

const bodyOf = (pdu: Pdu | undefined): unknown => pdu?.content.body;

async function shownTo(
  server: Server,
  room: RoomId,
  user: UserId,
  ids: readonly EventId[],
): Promise<unknown[]> {
  const { id } = (await roomRow(server.database, room))!;
  const rows = await Promise.all(
    ids.map(async (event) => (await timelineEvent(server.database, id, event))!),
  );
  const whole = rows.map((row) => ({
    event: { id: row.event_id as EventId, room, pdu: JSON.parse(row.json) as Pdu },
    redactedBy: null,
  }));
  const shown = await withoutErased(server.database, user, room, rows, whole);
  return shown.map(({ event }) => bodyOf(event.pdu));
}

test('users see of an erased user what they could see before', async () => {
  const { a, room, one, two, users } = await world();
  const seen: Record<string, unknown> = {};
  for (const [name, user] of Object.entries(users)) seen[name] = await shownTo(a, room, user, [one, two]);
  expect(seen).toEqual({
    before: ['one', 'two'],
    between: ['one', 'two'],
    late: [undefined, undefined],
    back: ['one', undefined],
    alice: ['one', 'two'],
  });
});

test('servers that came later get an erased user’s messages redacted, others as they were', async () => {
  const { a, room, one, two } = await world();
  const [b, c] = [...a.world.servers.values()].slice(1) as [Server, Server];
  for (const id of [one, two]) {
    expect(bodyOf((await a.rooms.event(id, b.name))?.pdu)).toBe(id === one ? 'one' : 'two');
    const redacted = (await a.rooms.event(id, c.name))!;
    expect(redacted.pdu.content).toEqual({});
  }
  const latest = await a.rooms.forwardExtremities(room);
  const missing = await a.rooms.missingEvents(
    room,
    { earliest: [], latest, limit: 100, minDepth: 0 },
    c.name,
  );
  expect(missing.map(({ id }) => id)).toEqual(expect.arrayContaining([one, two]));
  expect(missing.filter(({ id }) => id === one || id === two).map(({ pdu }) => pdu.content)).toEqual([
    {},
    {},
  ]);
});

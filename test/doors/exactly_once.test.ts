import { isDeepStrictEqual } from 'node:util';
import { beforeEach, describe, expect, it } from 'vitest';
import type { FederationCall } from '../../src/federation/transport.ts';
import type { DeviceId, RoomId, UserId } from '../../src/matrix/ids.ts';
import { addDevice } from '../../src/storage/devices.ts';
import { A, B, testKey } from '../federation/fixtures.ts';
import { ALICE, type Ask, BOB, jsonOf, OnceWorld } from './once_world.ts';

/*
 * A request comes over a pipe, and the server is killed before or after any of the transactions that it takes. Started
 * again, it gets another copy of the same message:
 *
 *     client ──message 1──> A ──…──> B          A: BEGIN … COMMIT, BEGIN … COMMIT, …   killed at one of these
 *            ──message 1──> A (again)           one effect on both servers, one answer
 */

const AMY = '@amy:a.example' as UserId;
const PROFILE = `profile/${encodeURIComponent(ALICE)}/displayname`;

/** `undo` makes the request with which somebody takes back what the first one has done. */
type Case = [name: string, prepare: (world: OnceWorld) => Promise<Ask>, undo?: (ask: Ask) => Ask];

const inRoom = (path: string, body?: Ask['body']): ((room: RoomId) => Ask) => {
  return (room) => ({ method: 'POST', path: `rooms/${room}/${path}`, ...(body && { body }) });
};

/** The same room's route at the end of the path replaced. */
const inSameRoom =
  (action: string, body?: Ask['body'], user: UserId = ALICE) =>
  ({ path }: Ask): Ask => ({
    ...{ method: 'POST', path: path.replace(/[a-z]+$/, action), user },
    ...(body && { body }),
  });

const KNOCKABLE = {
  initial_state: [{ type: 'm.room.join_rules', content: { join_rule: 'knock' } }],
};

const knock = (room: RoomId): Ask => ({ method: 'POST', path: `knock/${room}`, body: {} });

/** An alias that no room has had. */
const alias = (method: 'PUT', room: RoomId, world: OnceWorld): Ask => ({
  method,
  path: `directory/room/${encodeURIComponent(`#alias-${world.newMessage().number}:a.example`)}`,
  body: { room_id: room },
});

/** A room of alice in which amy is. */
async function withAmy(world: OnceWorld): Promise<RoomId> {
  const room = await world.room({ preset: 'public_chat' });
  await world.ask({ ...inRoom('join')(room), user: AMY });
  return room;
}

/** A room of bob's server that alice is invited to. */
async function invited(world: OnceWorld): Promise<RoomId> {
  const room = await world.remoteRoom();
  await world.within(world.b.rooms.memberships.invite(BOB, room, ALICE));
  return room;
}

/** An upload of keys that no other one has. */
async function uploadedKeys(world: OnceWorld): Promise<Ask> {
  const device = { device: 'PHONE' as DeviceId, displayName: null };
  await world.disk.transaction((tx) => addDevice(tx, ALICE, device, 0));
  const { number } = world.newMessage();
  const keys = { [`x:${number}a`]: 'key a', [`x:${number}b`]: 'key b' };
  return { method: 'POST', path: 'keys/upload', body: { one_time_keys: keys } };
}

const BACKUP = { algorithm: 'm.megolm_backup.v1.curve25519-aes-sha2', auth_data: { public_key: 'k' } };
const KEY = { first_message_index: 0, forwarded_count: 0, is_verified: true, session_data: { c: 'x' } };

/** What is done with the keys of a room in a new backup. */
async function keysOf(world: OnceWorld, method: 'PUT', body: Ask['body'] & object): Promise<Ask> {
  const made = await world.ask({ method: 'POST', path: 'room_keys/version', body: BACKUP });
  const version = String((jsonOf(made) as { version: unknown }).version);
  return { method, path: 'room_keys/keys/!room', query: `version=${version}`, body };
}

const HERE: Case[] = [
  ['a room', async () => ({ method: 'POST', path: 'createRoom', body: { name: 'x' } })],
  [
    'a room with its invites',
    async () => ({ method: 'POST', path: 'createRoom', body: { invite: [AMY, '@ann:a.example'] } }),
  ],
  [
    'a join',
    async (world) => ({
      ...inRoom('join')(await world.room({ preset: 'public_chat' })),
      user: AMY,
    }),
    inSameRoom('leave', undefined, AMY),
  ],
  [
    'a leave',
    async (world) => ({ ...inRoom('leave')(await withAmy(world)), user: AMY }),
    inSameRoom('join', undefined, AMY),
  ],
  [
    'an invite',
    async (world) => inRoom('invite', { user_id: AMY })(await world.room()),
    inSameRoom('kick', { user_id: AMY }),
  ],
  [
    'a kick',
    async (world) => inRoom('kick', { user_id: AMY })(await withAmy(world)),
    inSameRoom('join', undefined, AMY),
  ],
  [
    'a ban',
    async (world) => inRoom('ban', { user_id: AMY })(await withAmy(world)),
    inSameRoom('unban', { user_id: AMY }),
  ],
  [
    'the end of a ban',
    async (world) => {
      const room = await withAmy(world);
      await world.ask(inRoom('ban', { user_id: AMY })(room));
      return inRoom('unban', { user_id: AMY })(room);
    },
    inSameRoom('ban', { user_id: AMY }),
  ],
  [
    'forgetting a room',
    async (world) => {
      const room = await world.room();
      await world.ask(inRoom('leave')(room));
      return inRoom('forget')(room);
    },
  ],
  [
    'a knock',
    async (world) => ({ ...knock(await world.room(KNOCKABLE)), user: AMY }),
    ({ path }) => ({ method: 'POST', path: `rooms/${path.split('/')[1]}/leave`, user: AMY }),
  ],
  [
    'an alias',
    async (world) => alias('PUT', await world.room(), world),
    ({ path }) => ({ method: 'DELETE', path }),
  ],
  [
    'the end of an alias, also in the room',
    async (world) => {
      const room = await world.room();
      const made = alias('PUT', room, world);
      await world.ask(made);
      const content = { alias: decodeURIComponent(made.path.split('/').at(-1)!) };
      const path = `rooms/${room}/state/m.room.canonical_alias`;
      expect((await world.ask({ method: 'PUT', path, body: content })).status).toBe(200);
      return { method: 'DELETE', path: made.path };
    },
  ],
  [
    'a room in the directory',
    async (world) => ({ method: 'PUT', path: `directory/list/room/${await world.room()}`, body: {} }),
    (ask) => ({ ...ask, body: { visibility: 'private' } }),
  ],
  [
    'a room with an alias in the directory',
    async (world) => {
      const name = `room-${world.newMessage().number}`;
      return { method: 'POST', path: 'createRoom', body: { visibility: 'public', room_alias_name: name } };
    },
  ],
  [
    'an upgrade',
    async (world) => {
      const name = `old-${world.newMessage().number}`;
      const room = await world.room({ visibility: 'public', room_alias_name: name });
      return inRoom('upgrade', { new_version: '12' })(room);
    },
  ],
  ['a report', async (world) => inRoom('report', { reason: 'rude' })(await world.room())],
  [
    'state',
    async (world) => ({
      method: 'PUT',
      path: `rooms/${await world.room()}/state/m.room.topic`,
      body: { topic: 'tea' },
    }),
    (ask) => ({ ...ask, body: { topic: 'coffee' } }),
  ],
  [
    'a message',
    async (world) => ({
      method: 'PUT',
      path: `rooms/${await world.room()}/send/m.room.message/${world.newMessage().number}`,
      body: { body: 'hello' },
    }),
  ],
  [
    'a filter',
    async (world) => ({
      method: 'POST',
      path: `user/${ALICE}/filter`,
      body: { event_fields: [`${world.newMessage().number}`] },
    }),
  ],
  ['keys of a device', (world) => uploadedKeys(world)],
  [
    'a claim of a key',
    async (world) => {
      expect((await world.ask(await uploadedKeys(world))).status).toBe(200);
      const body = { one_time_keys: { [ALICE]: { PHONE: 'x' } } };
      return { method: 'POST', path: 'keys/claim', body, user: AMY };
    },
  ],
  ['a key backup', async () => ({ method: 'POST', path: 'room_keys/version', body: BACKUP })],
  [
    'keys in a backup',
    async (world) => keysOf(world, 'PUT', { sessions: { one: KEY, two: KEY } }),
    (ask) => ({ method: 'DELETE', path: ask.path, query: ask.query! }),
  ],
  [
    'the end of keys in a backup',
    async (world) => {
      const put = await keysOf(world, 'PUT', { sessions: { one: KEY } });
      expect((await world.ask(put)).status).toBe(200);
      return { method: 'DELETE', path: put.path, query: put.query! };
    },
    (ask) => ({ ...ask, method: 'PUT', body: { sessions: { one: KEY } } }),
  ],
  [
    'a name, also in the rooms',
    async (world) => {
      await world.ask({ method: 'DELETE', path: PROFILE });
      if ((await world.effects())['a m.room.create '] === undefined) await world.room();
      return { method: 'PUT', path: PROFILE, body: { displayname: 'Alice' } };
    },
    () => ({ method: 'DELETE', path: PROFILE }),
  ],
  [
    'the end of a name',
    async (world) => {
      await world.ask({ method: 'PUT', path: PROFILE, body: { displayname: 'Alice' } });
      return { method: 'DELETE', path: PROFILE };
    },
    () => ({ method: 'PUT', path: PROFILE, body: { displayname: 'Anna' } }),
  ],
];

const ELSEWHERE: Case[] = [
  [
    'a knock on a room of another server',
    async (world) => {
      const room = await world.within(world.b.rooms.create(BOB, KNOCKABLE));
      return { ...knock(room), query: 'via=b.example' };
    },
  ],
  [
    'a join through another server',
    async (world) => inRoom('join')(await invited(world)),
    inSameRoom('leave'),
  ],
  [
    'an invite of another server’s user',
    async (world) => inRoom('invite', { user_id: BOB })(await world.room()),
    inSameRoom('kick', { user_id: BOB }),
  ],
  [
    'a room with an invite of another server’s user',
    async () => ({ method: 'POST', path: 'createRoom', body: { invite: [BOB] } }),
  ],
  ['an invite that is declined', async (world) => inRoom('leave')(await invited(world))],
];

let world: OnceWorld;

beforeEach(async () => {
  world = await OnceWorld.open();
});

/** What a task has added, on both servers, once everything has been delivered. */
async function added(task: () => Promise<unknown>): Promise<Record<string, number>> {
  await world.network.time.pass(5_000);
  const before = await world.effects();
  await task();
  await world.network.time.pass(5_000);
  const after = await world.effects();
  const changes = Object.keys({ ...before, ...after })
    .map((what) => [what, (after[what] ?? 0) - (before[what] ?? 0)] as const)
    .filter(([, times]) => times !== 0);
  return Object.fromEntries(changes);
}

/** What a request does, and how many transactions it takes. */
async function undisturbed(prepare: Case[1]) {
  const first = await prepare(world);
  let transactions = 0;
  let status = 0;
  const once = await added(async () => {
    world.process.database.dieAt(undefined);
    status = (await world.ask(first)).status;
    transactions = world.process.database.transactions;
  });
  expect(status).toBe(200);
  expect(once).not.toEqual({});
  expect(transactions).toBeGreaterThan(0);
  return { once, transactions };
}

/** Kills A at each transaction that a request takes. */
async function killEverywhere(prepare: Case[1]): Promise<void> {
  const { once, transactions } = await undisturbed(prepare);
  for (let transaction = 0; transaction < transactions; transaction++) {
    for (const when of ['before', 'after'] as const) {
      const ask = await prepare(world);
      const message = world.newMessage();
      const effects = await added(async () => {
        await world.askAndKill(ask, message, { transaction, when });
        const again = await world.ask(ask, message);
        expect(again.status).toBe(200);
        expect(await world.ask(ask, message)).toEqual(again);
      });
      expect(effects, `killed ${when} the COMMIT of transaction ${transaction}`).toEqual(once);
    }
  }
}

/** Takes back what a request has done before its next copy comes, wherever A was killed after it was done. */
async function undoInBetween(prepare: Case[1], undo: NonNullable<Case[2]>): Promise<void> {
  const { once, transactions } = await undisturbed(prepare);
  let undone = 0;
  for (let transaction = 0; transaction <= transactions; transaction++) {
    const ask = await prepare(world);
    const message = world.newMessage();
    const effects = await added(() => world.askAndKill(ask, message, { transaction, when: 'after' }));
    if (!isDeepStrictEqual(effects, once)) continue;
    expect((await world.ask(undo(ask))).status).toBe(200);
    undone++;
    const more = await added(async () => {
      expect((await world.ask(ask, message)).status).toBe(200);
    });
    expect(more, `killed after the COMMIT of transaction ${transaction}`).toEqual({});
  }
  expect(undone).toBeGreaterThan(0);
}

describe('a server that is killed at any transaction of a request makes once', () => {
  it.each([...HERE, ...ELSEWHERE])('%s', (_, prepare) => killEverywhere(prepare));
});

describe('a copy that comes after the effect has been undone does not bring back', () => {
  it.each([...HERE, ...ELSEWHERE].filter(([, , undo]) => undo !== undefined))('%s', (_, prepare, undo) =>
    undoInBetween(prepare, undo!),
  );
});

describe('a one-time key', () => {
  it('is given to one claim, which gets it again, wherever the server is killed', async () => {
    for (let i = 0; i < 8; i++) expect((await world.ask(await uploadedKeys(world))).status).toBe(200);
    const body = { one_time_keys: { [ALICE]: { PHONE: 'x' } } };
    const claim: Ask = { method: 'POST', path: 'keys/claim', body, user: AMY };
    const given: string[] = [];
    world.process.database.dieAt(undefined);
    given.push(JSON.stringify(jsonOf(await world.ask(claim)).one_time_keys));
    const { transactions } = world.process.database;
    expect(transactions).toBeGreaterThan(1);
    for (let transaction = 0; transaction < transactions; transaction++)
      for (const when of ['before', 'after'] as const) {
        const message = world.newMessage();
        expect(await world.askAndKill(claim, message, { transaction, when })).toBe(true);
        // Somebody else is quicker than the repetition.
        given.push(JSON.stringify(jsonOf(await world.ask(claim)).one_time_keys));
        const again = jsonOf(await world.ask(claim, message)).one_time_keys;
        await world.start();
        expect(jsonOf(await world.ask(claim, message)).one_time_keys).toEqual(again);
        given.push(JSON.stringify(again));
      }
    expect(given).not.toContain('{}');
    expect(new Set(given).size).toBe(given.length);
    expect((await world.effects())['key given away']).toBe(given.length);
  });
});

describe('a request over a pipe', () => {
  const rooms = async (): Promise<number> => (await world.effects())['a m.room.create '] ?? 0;
  const create: Ask = { method: 'POST', path: 'createRoom', body: {} };

  it('that comes again while it is under way waits with the first copy', async () => {
    const message = world.newMessage();
    const [first, again] = await Promise.all([world.ask(create, message), world.ask(create, message)]);
    expect(again).toEqual(first);
    expect(await rooms()).toBe(1);
  });

  it('that was refused stays refused, though it would be granted now', async () => {
    const room = await world.room();
    const join = { ...inRoom('join')(room), user: AMY };
    const message = world.newMessage();
    const refused = await world.ask(join, message);
    expect(refused.status).toBe(403);
    await world.ask(inRoom('invite', { user_id: AMY })(room));
    await world.start();
    expect(await world.ask(join, message)).toEqual(refused);
    expect((await world.ask(join)).status).toBe(200);
  });

  it('is answered again to a device that has been logged out since', async () => {
    const message = world.newMessage();
    const first = await world.ask(create, message);
    world.loggedOut.add(ALICE);
    await world.start();
    expect(await world.ask(create, message)).toEqual(first);
    expect((await world.ask(create)).status).toBe(401);
  });

  it.each([
    ['of another number', { generation: 7, number: 1_001 }, undefined],
    ['of another session', { generation: 8, number: 1_000 }, undefined],
    ['of another device', undefined, { kind: 'device', key: 'cd'.repeat(32), address: '' } as const],
  ])('%s is another one', async (_, id, caller) => {
    const message = { generation: 7, number: 1_000 };
    const first = jsonOf(await world.ask(create, message)).room_id;
    expect(jsonOf(await world.ask(create, id ?? message, caller)).room_id).not.toBe(first);
  });

  it('that asks for something else under the same id is not run, and not answered with the other’s answer', async () => {
    const message = world.newMessage();
    await world.ask(create, message);
    const other = { ...create, body: { name: 'other' } };
    expect(await world.ask(other, message)).toMatchObject({
      status: 409,
      body: { value: { errcode: 'M_UNKNOWN' } },
    });
    expect(await rooms()).toBe(1);
  });

  it('of which nothing is known any more is answered “outcome unknown”, and not run', async () => {
    const message = world.newMessage();
    await world.ask(create, message);
    await world.disk.transaction(async (tx) => {
      await tx.run('DELETE FROM ledger_requests');
      await tx.run(
        `INSERT INTO ledger_floors SELECT 'udp device:${'ab'.repeat(32)}', 7, ${message.number}, 0`,
      );
    });
    const unknown = await world.ask(create, message);
    expect(unknown).toMatchObject({ status: 409, body: { value: { errcode: 'M_UNKNOWN' } } });
    expect(jsonOf(unknown).error).toMatch(/^Outcome unknown/);
    expect(await rooms()).toBe(1);
    expect((await world.ask(create)).status).toBe(200);
    expect(world.process.ledger.counters).toMatchObject({ unknown: 1, run: 2 });
  });

  it.each([
    ['that reads', { method: 'GET', path: 'joined_rooms' }],
    ['with an id of its own', { method: 'PUT', path: 'rooms/!x:a.example/send/m.room.message/1', body: {} }],
    ['that nobody knows', { method: 'POST', path: 'nothing' }],
    ['of somebody who is not let in', { ...create, user: AMY }],
  ] as const)('%s leaves nothing in the ledger', async (_, ask) => {
    world.loggedOut.add(AMY);
    await world.ask(ask);
    expect(await world.disk.all('SELECT * FROM ledger_requests')).toEqual([]);
  });

  it('outside of a pipe is run each time, as over HTTP', async () => {
    const message = world.newMessage();
    for (let i = 0; i < 2; i++)
      await world.ask(create, message, { kind: 'plain', address: '127.0.0.1:5683' });
    expect(await rooms()).toBe(2);
    expect(await world.disk.all('SELECT * FROM ledger_requests')).toEqual([]);
  });
});

describe('a join through another server', () => {
  it('is a new one after the user has left, however soon', async () => {
    const room = await invited(world);
    await world.ask(inRoom('join')(room));
    await world.ask(inRoom('leave')(room));
    await world.network.time.pass(5_000);
    await world.within(world.b.rooms.memberships.invite(BOB, room, ALICE));
    expect((await world.ask(inRoom('join')(room))).status).toBe(200);
    expect(await world.effects()).toMatchObject({ send_join: 2, 'b @alice:a.example join 0': 1 });
  });

  it('whose answer was lost is the same one when the user tries again, over whichever door', async () => {
    const room = await invited(world);
    let isLost = true;
    world.network.beforeAnswer = async ({ path }) => {
      if (isLost && path.includes('send_join')) throw new Error('lost');
    };
    expect((await world.ask(inRoom('join')(room))).status).toBe(500);
    isLost = false;
    await world.network.time.pass(1_000);
    expect((await world.ask(inRoom('join')(room))).status).toBe(200);
    expect(await world.effects()).toMatchObject({ send_join: 1, 'a @alice:a.example join 0': 1 });
  });
});

describe('a late copy of what another server asked for', () => {
  /** Bob's server says once more what it said, with another message. */
  async function repeat(part: string, ask: () => Promise<unknown>): Promise<() => Promise<unknown>> {
    let said: FederationCall | undefined;
    world.network.beforeAnswer = async (call) => {
      if (call.path.includes(part)) said = call;
    };
    await ask();
    const call = said!;
    return () => world.within(world.network.transportOf(B, testKey(2)).request(A, call));
  }

  it('is no invite any more once it has been declined', async () => {
    const again = await repeat('/invite/', async () => {
      await world.ask(inRoom('leave')(await invited(world)));
    });
    expect(await added(again)).toEqual({});
  });

  it('is no invite any more once it has been accepted and the room left', async () => {
    const again = await repeat('/invite/', async () => {
      const room = await invited(world);
      await world.ask(inRoom('join')(room));
      await world.ask(inRoom('leave')(room));
    });
    expect(await added(again)).toEqual({});
  });

  it('is no join any more once the user has left', async () => {
    const room = await world.room({ preset: 'public_chat' });
    const { memberships } = world.b.rooms;
    const again = await repeat('/send_join/', () => world.within(memberships.join(BOB, room, { via: [A] })));
    await world.within(memberships.leave(BOB, room));
    expect(await added(again)).toEqual({});
  });

  it('is no leave any more once the user has come in', async () => {
    const room = await world.room({ preset: 'public_chat' });
    const { memberships } = world.b.rooms;
    await world.ask(inRoom('invite', { user_id: BOB })(room));
    const again = await repeat('/send_leave/', () => world.within(memberships.leave(BOB, room)));
    await world.within(memberships.join(BOB, room, { via: [A] }));
    expect(await added(again)).toEqual({});
  });
});

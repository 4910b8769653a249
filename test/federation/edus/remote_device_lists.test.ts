import { beforeEach, describe, expect, it } from 'vitest';
import { listIn, MAX_DEVICES } from '../../../src/federation/remote_device_lists.ts';
import { FederationError } from '../../../src/federation/transport.ts';
import { MatrixError } from '../../../src/matrix/error.ts';
import type { DeviceId, ServerName, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../../src/matrix/json.ts';
import { copyState } from '../../../src/storage/remote_devices.ts';
import { A, B, HOUR } from '../fixtures.ts';
import { KeysWorld, SOON } from './keys_world.ts';

let world: KeysWorld;
let alice: UserId;

beforeEach(async () => {
  world = await KeysWorld.open();
  alice = world.alice;
  await world.logIn(alice, 'ONE');
  await world.pass(SOON);
});

const fetches = (): number => world.network.count(B, A, '/user/devices/');
/** EDUs of these types do not arrive. */
const drop = (...types: string[]): void => {
  const passes = world.b.receiver.receive.bind(world.b.receiver);
  world.b.receiver.receive = (origin, txn, body) => {
    const { edus = [], ...rest } = body as { edus?: JsonObject[] } & JsonObject;
    const left = edus.filter(({ edu_type }) => !types.includes(edu_type as string));
    return passes(origin, txn, { ...rest, edus: left });
  };
};
let txn = 0;
const receive = (content: JsonObject, type: string, from: ServerName): Promise<JsonObject> =>
  world.b.receiver.receive(from, `x${txn++}`, {
    ...{ origin: from, origin_server_ts: 1, pdus: [] },
    edus: [{ edu_type: type, content }],
  });
const hear = (
  content: JsonObject,
  type = 'm.device_list_update',
  from: ServerName = A,
): Promise<JsonObject> => world.within(receive(content, type, from));
const keysOf = (device: string): JsonObject => ({
  ...{ user_id: alice, device_id: device, algorithms: [], keys: {}, signatures: {} },
});
const state = () => copyState(world.b.database, alice);

describe('the copy of another server’s device list', () => {
  it('is made when somebody asks, and not before: until then it is only told that there is a change', async () => {
    const before = await world.toldAt(alice);
    await world.logIn(alice, 'TWO');
    await world.pass(SOON);
    expect(await world.toldAt(alice)).toBeGreaterThan(before);
    expect([await state(), fetches()]).toEqual([undefined, 0]);
    const { asked, keys } = await world.query(alice);
    expect([asked, [...keys!.devices.keys()]]).toEqual([true, ['ONE', 'TWO']]);
    expect((await world.query(alice)).asked).toBe(false);
  });

  it('is fetched anew where a link of the chain is missing, and clients are told once it is another one', async () => {
    await world.query(alice);
    drop('m.device_list_update');
    await world.logIn(alice, 'TWO');
    await world.pass(SOON);
    await world.restart(B);
    const before = await world.toldAt(alice);
    await world.logIn(alice, 'THREE');
    await world.pass(SOON);
    expect(await world.copy(alice)).toEqual(['ONE', 'THREE', 'TWO']);
    expect(await world.toldAt(alice)).toBeGreaterThan(before);
    expect(world.b.remoteDeviceLists.counters).toMatchObject({ broken: 1, fetched: 1 });
    await world.logOut(alice, 'TWO');
    await world.pass(SOON);
    expect(await world.copy(alice)).toEqual(['ONE', 'THREE']);
    expect(fetches()).toBe(2);
  });

  it('that cannot be fetched is used no more, clients are told, and it is tried again, also after a restart', async () => {
    await world.query(alice);
    world.network.passes = (_, __, { path }) => !path.includes('/user/');
    const before = await world.toldAt(alice);
    await hear({ user_id: alice, device_id: 'TWO', stream_id: 1_000, prev_id: [999], keys: keysOf('TWO') });
    await world.pass(SOON);
    expect(await world.copy(alice)).toBeUndefined();
    expect(await world.toldAt(alice)).toBeGreaterThan(before);
    await world.pass(HOUR);
    await world.restart(B);
    await world.pass(HOUR);
    expect(world.b.remoteDeviceLists.counters.failed).toBeGreaterThan(1);
    world.network.passes = () => true;
    await world.pass(HOUR);
    expect(await world.copy(alice)).toEqual(['ONE']);
    // A failing server is not hammered.
    expect(world.b.remoteDeviceLists.counters.failed).toBeLessThan(15);
  });

  it('is stale where a change comes while it is being fetched, so that no change is lost', async () => {
    let changes = 2;
    world.network.beforeAnswer = async ({ path }) => {
      if (!path.includes('/user/devices/') || changes-- <= 0) return;
      const device = `LATE${changes}`;
      const content = { user_id: alice, device_id: device, stream_id: 5_000 + changes, prev_id: [] };
      await receive({ ...content, keys: keysOf(device) }, 'm.device_list_update', A);
    };
    await world.query(alice);
    await hear({ user_id: alice, device_id: 'X', stream_id: 4_000, prev_id: [3_999], keys: keysOf('X') });
    await world.pass(HOUR);
    expect(await world.copy(alice)).toEqual(['ONE']);
    expect((await state())?.staleness).toBe('current');
    expect(fetches()).toBeGreaterThan(2);
  });

  it('of several users comes with one request, and is fetched with its place in the chain at its first change', async () => {
    const users = ['a1', 'a2', 'a3'].map((name) => world.a.user(name));
    for (const user of users) {
      await world.register(user);
      await world.within(world.a.rooms.memberships.join(user, world.room, {}));
      await world.logIn(user, 'ONE');
    }
    await world.pass(SOON);
    const wanted = new Map(users.map((user) => [user, ['ONE' as DeviceId]]));
    const answer = await world.within(world.b.remoteKeys.query(A, wanted));
    expect([...answer.values()].map(({ devices }) => [...devices.keys()])).toEqual([
      ['ONE'],
      ['ONE'],
      ['ONE'],
    ]);
    expect([world.network.count(B, A, '/keys/query'), fetches()]).toEqual([1, 0]);
    expect(await world.copy(users[0]!)).toEqual(['ONE']);
    await world.logIn(users[0]!, 'TWO');
    await world.pass(SOON);
    expect(await world.copy(users[0]!)).toEqual(['ONE', 'TWO']);
    expect(fetches()).toBe(1);
  });

  it('is not used once no room was shared in between, whatever was missed meanwhile', async () => {
    await world.query(alice);
    await world.within(world.b.rooms.memberships.leave(world.bob, world.room));
    await world.pass(SOON);
    await world.logOut(alice, 'ONE');
    await world.logIn(alice, 'TWO');
    await world.within(world.b.rooms.memberships.join(world.bob, world.room, { via: [A] }));
    await world.pass(SOON);
    expect((await world.query(alice)).asked).toBe(true);
    expect(await world.copy(alice)).toEqual(['TWO']);
  });

  it('is forgotten where no room is shared any more', async () => {
    await world.query(alice);
    await world.within(world.b.rooms.memberships.leave(world.bob, world.room));
    await world.pass(2 * HOUR);
    expect(await state()).toBeUndefined();
    expect(await world.b.database.all('SELECT * FROM remote_devices')).toEqual([]);
  });

  it('is of nobody where their server says so, and stays as it is where that is no answer of a server', async () => {
    await world.query(alice);
    const gap = (streamId: number): Promise<unknown> =>
      hear({ user_id: alice, device_id: 'TWO', stream_id: streamId, prev_id: [9], keys: keysOf('TWO') });
    world.network.passes = (_, __, { path }) => {
      if (path.includes('/user/')) throw new MatrixError(404, 'M_UNKNOWN', 'a proxy');
      return true;
    };
    await gap(1_000);
    await world.pass(SOON);
    expect((await state())?.staleness).toBe('told');
    world.network.passes = (_, __, { path }) => {
      if (path.includes('/user/')) throw new MatrixError(404, 'M_NOT_FOUND', 'nobody');
      return true;
    };
    await world.pass(HOUR);
    expect(await world.copy(alice)).toEqual([]);
  });

  it('takes changes of a server’s own users only', async () => {
    await world.query(alice);
    const { stream_id: last } = world.edus(B, 'm.device_list_update').at(-1) ?? {};
    const content = {
      user_id: alice,
      device_id: 'EVIL',
      stream_id: 1_000,
      prev_id: [last ?? 0],
      keys: keysOf('EVIL'),
    };
    await hear(content, 'm.device_list_update', 'c.example' as ServerName);
    await hear({ user_id: alice }, 'm.signing_key_update', 'c.example' as ServerName);
    expect((await world.query(alice)).asked).toBe(false);
    expect(await world.copy(alice)).toEqual(['ONE']);
  });

  it('of a stranger is not kept, and nobody is told', async () => {
    const stranger = world.a.user('stranger');
    await hear({ user_id: stranger, device_id: 'X', stream_id: 1, prev_id: [] });
    expect(world.b.remoteDeviceLists.counters.strangers).toBe(1);
    expect(await world.toldAt(stranger)).toBe(0);
    await world.register(stranger);
    await world.logIn(stranger, 'ONE');
    expect((await world.query(stranger)).keys?.devices.size).toBe(1);
    expect((await world.query(stranger)).asked).toBe(true);
  });

  it('has as many devices as are kept, and no keys that are not its own', async () => {
    const devices = Array.from({ length: MAX_DEVICES + 5 }, (_, n) => {
      const device_id = `D${String(n).padStart(5, '0')}`;
      return { device_id, keys: keysOf(device_id) };
    });
    const malformed: JsonValue[] = [
      ...[{ device_id: 'OTHER', keys: keysOf('ANOTHER') }, { device_id: 7, keys: keysOf('7') }, null],
      { device_id: 'LARGE', keys: { ...keysOf('LARGE'), more: 'x'.repeat(70_000) } },
      { device_id: 'NOBODY', keys: { ...keysOf('NOBODY'), user_id: '@other:a.example' } },
    ];
    const list = listIn(alice, { user_id: alice, stream_id: 1, devices: [...malformed, ...devices] });
    expect(list?.devices.size).toBe(MAX_DEVICES);
    expect([...list!.devices.keys()].at(-1)).toBe('D00999');
    for (const body of [
      null,
      [],
      {},
      { user_id: alice, devices: [] },
      { user_id: '@b:b', stream_id: 1, devices: [] },
    ])
      expect(listIn(alice, body as JsonValue)).toBeUndefined();
  });
});

describe('asking another server for keys', () => {
  it('stops for a moment where it does not answer, and goes on when it speaks', async () => {
    world.network.passes = (_, __, { path }) => !path.includes('/user/');
    await expect(world.query(alice)).rejects.toMatchObject({ status: 502 });
    await expect(world.query(alice)).rejects.toMatchObject({ status: 502 });
    expect(world.b.remoteKeys.counters.asked).toBe(1);
    world.network.passes = () => true;
    await world.within(world.a.say(alice, world.room, 'here I am'));
    await world.pass(100);
    expect((await world.query(alice)).keys?.devices.size).toBe(1);
  });

  it('tells a time-out apart from a server that is away', async () => {
    world.network.beforeAnswer = async ({ path }) => {
      if (path.includes('/user/')) throw new FederationError('timeout', 'slow');
    };
    await expect(world.query(alice)).rejects.toMatchObject({ status: 504 });
  });

  it('keeps a one-time key that came too late for whoever claims the next, and gives it to nobody else', async () => {
    await world.logIn(alice, 'KEYS', ['a', 'b']);
    world.network.delay = () => 40_000;
    await expect(world.claim(alice, 'KEYS')).rejects.toMatchObject({ status: 504 });
    const claims = world.network.count(B, A, '/keys/claim');
    const late = await world.claim(alice, 'KEYS');
    expect(world.network.count(B, A, '/keys/claim')).toBe(claims);
    world.network.delay = () => 0;
    const next = await world.claim(alice, 'KEYS');
    expect([late, next].map((claimed) => Object.keys((claimed[alice] as { KEYS: JsonObject }).KEYS))).toEqual(
      [['signed_curve25519:a'], ['signed_curve25519:b']],
    );
  });

  it('gives each one-time key once, in their order, to whoever asks', async () => {
    await world.logIn(alice, 'KEYS', ['a', 'b', 'c']);
    const given = [
      await world.claim(alice, 'KEYS'),
      await world.claimHere(alice, 'KEYS'),
      await world.claim(alice, 'KEYS'),
      await world.claim(alice, 'KEYS'),
    ].map((claimed) => Object.keys((claimed[alice] as { KEYS?: JsonObject })?.KEYS ?? {}));
    expect(given).toEqual([['signed_curve25519:a'], ['signed_curve25519:b'], ['signed_curve25519:c'], []]);
  });
});

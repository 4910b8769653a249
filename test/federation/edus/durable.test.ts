import { beforeEach, describe, expect, it } from 'vitest';
import { MAX_HELD_BACK_MS, QUIET_MS } from '../../../src/federation/edus/outbox.ts';
import { FederationError } from '../../../src/federation/transport.ts';
import { MatrixError } from '../../../src/matrix/error.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { A, B, HOUR } from '../fixtures.ts';
import { KeysWorld, SOON } from './keys_world.ts';

let world: KeysWorld;

beforeEach(async () => {
  world = await KeysWorld.open();
  await world.sender(world.alice);
  await world.logIn(world.bob, 'PHONE');
  await world.pass(SOON);
});

const toPhone = (n: number): Promise<void> => world.send(world.alice, { [world.bob]: { PHONE: { n } } });
const waiting = async (table: 'outbox_to_device' | 'outbox_device_lists'): Promise<number> =>
  (await world.a.database.get<{ n: number }>(`SELECT COUNT(*) AS n FROM ${table}`))!.n;
const say = (body: string): Promise<unknown> => world.within(world.a.say(world.alice, world.room, body));

describe.each([
  ['in signed JSON', false],
  ['in short forms', true],
])('messages to devices, %s', (_, formed) => {
  beforeEach(() => {
    world.network.formed = formed;
    world.network.signed = !formed;
  });

  it('arrive once and in order, whatever answers are lost and whoever restarts', async () => {
    let losses = 3;
    world.network.beforeAnswer = async ({ path }) => {
      if (path.includes('/send/') && losses-- > 0) throw new FederationError('timeout', 'the answer is lost');
    };
    for (let n = 0; n < 5; n++) await toPhone(n);
    await world.pass(SOON);
    await world.restart(A);
    await world.restart(B);
    for (let n = 5; n < 8; n++) await toPhone(n);
    await world.pass(HOUR);
    expect(await world.inbox(world.bob, 'PHONE')).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(await waiting('outbox_to_device')).toBe(0);
  });
});

describe('messages to devices', () => {
  it('wait for a server that is away, and are there before the events behind them', async () => {
    world.network.passes = () => false;
    for (let n = 0; n < 250; n++) await toPhone(n);
    await say('encrypted');
    await world.restart(A);
    await world.pass(HOUR);
    const before = world.transactions(B).length;
    world.network.passes = () => true;
    await world.pass(2 * HOUR);
    const sent = world.transactions(B).slice(before);
    expect(sent.map(({ pdus, edus }) => [pdus.length, edus.length])).toEqual([
      [0, 100],
      [0, 100],
      [1, 50],
    ]);
    expect(await world.inbox(world.bob, 'PHONE')).toEqual(Array.from({ length: 250 }, (_, n) => n));
    expect(await world.b.messages()).toEqual(['encrypted']);
  });

  it('that come while events have to be repeated go before these, which stay one transaction', async () => {
    world.network.beforeAnswer = async ({ path, body }) => {
      const { pdus } = (body ?? {}) as { pdus?: unknown[] };
      if (path.includes('/send/') && pdus?.length === 1 && world.transactions(B).length < 3)
        throw new FederationError('timeout', 'the answer is lost');
    };
    const before = world.network.calls.length;
    await say('first');
    await world.pass(SOON);
    await toPhone(1);
    await world.pass(HOUR);
    const sent = world.network.calls.slice(before).filter(({ path }) => path.includes('/send/'));
    const kinds = sent.map(({ body }) => {
      const { pdus, edus = [] } = body as { pdus: unknown[]; edus?: unknown[] };
      return `${pdus.length} ${edus.length}`;
    });
    expect(kinds).toEqual(['1 0', '0 1', '1 0']);
    expect(sent[2]!.path).toBe(sent[0]!.path);
    expect(await world.b.messages()).toEqual(['first']);
    expect(await world.inbox(world.bob, 'PHONE')).toEqual([1]);
  });

  it('that their destination refuses are set aside one by one, and nothing else is', async () => {
    world.network.passes = () => false;
    for (let n = 0; n < 3; n++) await toPhone(n);
    await world.send(world.alice, { [world.bob]: { PHONE: { n: -1, text: 'poison' } } });
    for (let n = 3; n < 6; n++) await toPhone(n);
    world.network.passes = (_, __, { path, body }) => {
      const isPoisoned = JSON.stringify(body ?? null).includes('poison');
      if (path.includes('/send/') && isPoisoned) throw new MatrixError(400, 'M_BAD_JSON', 'no');
      return true;
    };
    await say('hello');
    await world.pass(HOUR);
    expect(await world.inbox(world.bob, 'PHONE')).toEqual([0, 1, 2, 3, 4, 5]);
    expect(await world.b.messages()).toEqual(['hello']);
    expect(world.a.sender.counters.setAside).toBe(1);
    expect(await waiting('outbox_to_device')).toBe(0);
  });

  it('are taken of a server for its own users only, and for users here', async () => {
    const edu = (sender: string, user: string): JsonObject => ({
      edu_type: 'm.direct_to_device',
      content: {
        sender,
        type: 'm.test',
        message_id: `${sender}${user}`,
        messages: { [user]: { '*': { n: 1 } } },
      },
    });
    const edus = [
      edu('@carol:c.example', world.bob),
      edu(world.alice, world.alice),
      edu(world.alice, world.bob),
    ];
    const body = { origin: A, origin_server_ts: 1, pdus: [], edus };
    await world.within(world.b.receiver.receive(A, 'x', body));
    expect(await world.inbox(world.bob, 'PHONE')).toEqual([1]);
    expect(world.b.toDevice.counters.delivered).toBe(1);
  });

  it('that cannot be stored leave the transaction unanswered, so that they come again', async () => {
    const message = {
      sender: world.alice,
      type: 'm.test',
      message_id: 'm',
      messages: { [world.bob]: { '*': { n: 1 } } },
    };
    const body = {
      ...{ origin: A, origin_server_ts: 1, pdus: [] },
      edus: [{ edu_type: 'm.direct_to_device', content: message }],
    };
    await world.b.database.transaction((tx) => tx.run('ALTER TABLE to_device_messages RENAME TO gone'));
    await expect(world.within(world.b.receiver.receive(A, 'x', body))).rejects.toThrow();
    await world.b.database.transaction((tx) => tx.run('ALTER TABLE gone RENAME TO to_device_messages'));
    await world.within(world.b.receiver.receive(A, 'x', body));
    expect(await world.inbox(world.bob, 'PHONE')).toEqual([1]);
  });
});

describe('changes of devices', () => {
  it('are told as links of a chain, each with the one before it, also to a copy that has just been made', async () => {
    await world.logIn(world.alice, 'ONE');
    await world.pass(SOON);
    expect(await world.copy(world.alice)).toBeUndefined();
    expect((await world.query(world.alice)).asked).toBe(true);
    expect(await world.copy(world.alice)).toEqual(['ONE']);
    await world.logIn(world.alice, 'TWO');
    await world.logOut(world.alice, 'ONE');
    await world.pass(SOON);
    expect(await world.copy(world.alice)).toEqual(['TWO']);
    expect(world.network.count(B, A, '/user/devices/')).toBe(1);
    const [first, second, third] = world.edus(B, 'm.device_list_update');
    expect(first).toMatchObject({ user_id: world.alice, device_id: 'ONE', prev_id: [] });
    expect(second).toMatchObject({
      device_id: 'TWO',
      prev_id: [first!.stream_id!],
      keys: { device_id: 'TWO' },
    });
    expect(third).toMatchObject({ device_id: 'ONE', prev_id: [second!.stream_id!], deleted: true });
    expect(await waiting('outbox_device_lists')).toBe(0);
  });

  it('wait for a server that is away, the newest of each device alone, in a chain that its copy follows', async () => {
    await world.logIn(world.alice, 'OLD');
    await world.query(world.alice);
    await world.pass(SOON);
    world.network.passes = () => false;
    for (let n = 0; n < 4; n++) {
      await world.logIn(world.alice, 'COMES');
      await world.logOut(world.alice, 'COMES');
      await world.logIn(world.alice, `STAYS${n}`);
      await world.restart(A);
    }
    await world.logOut(world.alice, 'OLD');
    await world.pass(HOUR);
    const before = world.edus(B, 'm.device_list_update').length;
    world.network.passes = () => true;
    await world.pass(2 * HOUR);
    const told = world.edus(B, 'm.device_list_update').slice(before);
    expect(told.map(({ device_id }) => device_id)).toEqual([
      ...['STAYS0', 'STAYS1', 'STAYS2', 'COMES', 'STAYS3', 'OLD'],
    ]);
    expect(await world.copy(world.alice)).toEqual(['STAYS0', 'STAYS1', 'STAYS2', 'STAYS3']);
    expect(world.network.count(B, A, '/user/devices/')).toBe(1);
  });

  it('tell signing keys as well', async () => {
    await world.logIn(world.alice, 'ONE');
    await world.query(world.alice);
    await world.within(
      world.a.database.transaction((tx) => world.a.edus.durable.enqueueSigningKeys(tx, world.alice)),
    );
    await world.pass(SOON);
    expect(world.edus(B, 'm.signing_key_update')).toEqual([{ user_id: world.alice }]);
  });

  it('go to a server that has asked, though it is not known yet to share a room', async () => {
    await world.logIn(world.alice, 'ONE');
    await world.within(world.b.rooms.memberships.leave(world.bob, world.room));
    await world.pass(SOON);
    // Bob comes in through another server, of which A has not heard.
    expect((await world.query(world.alice)).keys?.devices.size).toBe(1);
    await world.logIn(world.alice, 'TWO');
    await world.pass(SOON);
    expect(world.edus(B, 'm.device_list_update').at(-1)).toMatchObject({ device_id: 'TWO' });
    await world.pass(25 * HOUR);
    await world.logIn(world.alice, 'THREE');
    await world.pass(SOON);
    expect(world.edus(B, 'm.device_list_update').at(-1)).toMatchObject({ device_id: 'TWO' });
  });

  it('go to nobody who shares no room', async () => {
    await world.within(world.b.rooms.memberships.leave(world.bob, world.room));
    await world.pass(SOON);
    await world.logIn(world.alice, 'ONE');
    expect(await waiting('outbox_device_lists')).toBe(0);
  });
});

describe('over a slow link', () => {
  beforeEach(async () => {
    world.network.policy = { typing: false, presence: true, receipts: 'idle', isSlow: true };
    await say('before');
    await world.pass(SOON);
  });

  it('changes of devices wait until no events have gone for a while; messages to devices do not', async () => {
    await world.logIn(world.alice, 'ONE');
    await toPhone(1);
    await world.pass(SOON);
    expect(await world.inbox(world.bob, 'PHONE')).toEqual([1]);
    expect(world.edus(B, 'm.device_list_update')).toEqual([]);
    await world.pass(QUIET_MS);
    expect(world.edus(B, 'm.device_list_update')).toHaveLength(1);
  });

  it('changes of devices that have waited long go with events, however many come', async () => {
    await world.logIn(world.alice, 'ONE');
    world.network.passes = () => false;
    await say('one');
    await world.pass(MAX_HELD_BACK_MS);
    await say('two');
    world.network.passes = () => true;
    await world.pass(HOUR);
    const told = world.transactions(B).filter(({ edus }) => edus[0]?.edu_type === 'm.device_list_update');
    expect(told).toMatchObject([{ pdus: [{ content: { body: 'two' } }], edus: [{}] }]);
  });
});

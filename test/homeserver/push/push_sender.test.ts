import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { bad, ok, type Result } from '../../../src/base/result.ts';
import { type PushGateway, PushSender } from '../../../src/homeserver/push/push_sender.ts';
import { Pushers } from '../../../src/homeserver/push/pushers.ts';
import type { DeviceId, RoomId, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { deleteDevice } from '../../../src/storage/devices.ts';
import { CountsWorld, USERS } from './counts_world.ts';

const [ANN, BEN] = USERS as [UserId, UserId];
const URL = 'https://gateway.example/_matrix/push/v1/notify';
const HOUR_MS = 3_600_000;
const SOUND = { set_tweak: 'sound', value: 'default' };

interface Notification {
  readonly event_id?: string;
  readonly counts: { unread?: number };
  readonly devices: readonly { pushkey: string; tweaks?: JsonObject; data: JsonObject; pushkey_ts: number }[];
}

/** A gateway that answers what it is told to, and notes what it was asked. */
class FakeGateway implements PushGateway {
  readonly asked: (Notification & JsonObject)[] = [];
  answer: () => Promise<Result<readonly string[]>> = async () => ok([]);

  notify(url: string, body: JsonObject): Promise<Result<readonly string[]>> {
    expect(url).toBe(URL);
    this.asked.push(body.notification as never);
    return this.answer();
  }

  async close(): Promise<void> {}

  get events(): unknown[] {
    return this.asked.map((notification) => notification.event_id);
  }
}

/** Lets everything run that waits for nothing but the processor. */
const turn = async (): Promise<void> => {
  for (let at = 0; at < 5; at++) await new Promise((resolve) => setImmediate(resolve));
};

describe('pushes', () => {
  let world: CountsWorld;
  let gateway: FakeGateway;
  let sender: PushSender;
  let room: RoomId;
  const warned: unknown[] = [];

  const newSender = (): PushSender => {
    const { database, clock } = world;
    const made = new PushSender({ database, clock, gateway, log: { warn: (...said) => warned.push(said) } });
    world.changed = (users) => made.wake(users);
    return made;
  };
  const pushers = (): Pushers =>
    new Pushers({
      ...{ database: world.database, clock: world.clock, insideGateways: new Set<string>() },
      changed: (user) => sender.pushersChanged(user),
    });
  const set = async (user: UserId, pushkey: string, more: JsonObject = {}): Promise<void> => {
    const requester = { user, device: 'PHONE' as DeviceId };
    await pushers().set(requester, {
      ...{ kind: 'http', app_id: 'app', pushkey, lang: 'en', append: true },
      ...{ app_display_name: 'App', device_display_name: 'Phone', data: { url: URL, custom: 1, ...more } },
    });
    await turn();
  };
  const say = async (body = 'hello', content: JsonObject = {}) => {
    const id = await world.send(room, ANN, 'm.room.message', { msgtype: 'm.text', body, ...content });
    await turn();
    return id;
  };
  const pass = async (ms: number): Promise<void> => {
    const end = world.clock.monotonic() + ms;
    for (let next = world.clock.next(); next !== null && next <= end; next = world.clock.next()) {
      world.clock.step();
      await turn();
    }
    world.clock.advanceTo(end);
    await turn();
  };

  beforeEach(async () => {
    world = new CountsWorld();
    gateway = new FakeGateway();
    await world.database.transaction(async (tx) => {
      for (const user of USERS) {
        await tx.run('INSERT INTO users (user_id, created) VALUES (?, 0)', user);
        await tx.run("INSERT INTO devices (user_id, device_id, created) VALUES (?, 'PHONE', 0)", user);
      }
    });
    room = await world.createRoom();
    await world.join(room, BEN);
    sender = newSender();
    await sender.start();
  });
  afterEach(async () => {
    await sender.stop();
    expect(warned).toEqual([]);
  });

  test('tell an event with what the gateway may want to know', async () => {
    await world.services.rooms.setState(room, ANN, 'm.room.name', '', { name: 'Ship' });
    await set(BEN, 'key');
    const event_id = await say('ahoy');
    expect(gateway.asked).toEqual([
      {
        ...{ event_id, room_id: room, type: 'm.room.message', sender: ANN, room_name: 'Ship' },
        ...{ sender_display_name: 'ann', content: { msgtype: 'm.text', body: 'ahoy' }, prio: 'high' },
        counts: { unread: 1 },
        devices: [
          {
            ...{ app_id: 'app', pushkey: 'key', data: { custom: 1 }, tweaks: { sound: 'default' } },
            pushkey_ts: expect.any(Number),
          },
        ],
      },
    ]);
    expect(String(gateway.asked[0]!.devices[0]!.pushkey_ts)).toMatch(/^\d{1,10}$/);
  });

  test('tell no more than the id where that is asked for', async () => {
    await set(BEN, 'key', { format: 'event_id_only' });
    const event_id = await say();
    expect(gateway.asked).toMatchObject([{ event_id, room_id: room, counts: { unread: 1 } }]);
    expect(Object.keys(gateway.asked[0]!).sort()).toEqual([
      'counts',
      'devices',
      'event_id',
      'prio',
      'room_id',
    ]);
    expect(gateway.asked[0]!.devices[0]!.data).toEqual({ custom: 1, format: 'event_id_only' });
  });

  test('are low where nothing sounds, and nobody is told of their own events or of what does not notify', async () => {
    await world.join(room, USERS[2]!);
    await set(BEN, 'ben');
    await set(ANN, 'ann');
    await say('hello');
    await say('a notice', { msgtype: 'm.notice' });
    expect(gateway.asked).toMatchObject([{ prio: 'low', devices: [{ pushkey: 'ben', tweaks: {} }] }]);
  });

  test('go one after another, while a gateway takes its time', async () => {
    await set(BEN, 'key');
    let release: () => void = () => {};
    gateway.answer = () => new Promise((resolve) => (release = () => resolve(ok([]))));
    const sent = [await say('one'), await say('two'), await say('three')];
    expect(gateway.events).toEqual(sent.slice(0, 1));
    release();
    await turn();
    expect(gateway.events).toEqual(sent.slice(0, 2));
    gateway.answer = async () => ok([]);
    release();
    await turn();
    expect(gateway.events).toEqual(sent);
    expect(sender.counters).toEqual({ pushed: 3, failed: 0, rejected: 0 });
  });

  test('are tried again, ever more slowly, until the gateway has taken them; also after a start', async () => {
    await set(BEN, 'key');
    gateway.answer = async () => bad('ECONNREFUSED');
    const sent = [await say('one'), await say('two')];
    await pass(60_000);
    // At 0, 1, 3, 7, 15, 31 seconds, and perhaps once more.
    expect(gateway.asked.length).toBeGreaterThanOrEqual(6);
    expect(gateway.asked.length).toBeLessThanOrEqual(7);
    expect(new Set(gateway.events)).toEqual(new Set([sent[0]]));
    const before = gateway.asked.length;
    await sender.stop();
    sender = newSender();
    await sender.start();
    await turn();
    expect(gateway.asked.length).toBe(before);
    gateway.answer = async () => ok([]);
    await pass(2 * 60_000);
    expect(gateway.events.slice(before)).toEqual(sent);
    await pass(HOUR_MS);
    expect(gateway.asked.length).toBe(before + 2);
  });

  test('do not lose what came while nobody served them', async () => {
    await set(BEN, 'key');
    await sender.stop();
    const sent = [await say('one'), await say('two')];
    expect(gateway.asked).toEqual([]);
    sender = newSender();
    await sender.start();
    await turn();
    expect(gateway.events).toEqual(sent);
  });

  test('leave out what has been read, was redacted or is too old, and tell the count', async () => {
    await set(BEN, 'key');
    gateway.answer = async () => bad('timeout');
    await say('one');
    const redacted = await say('two');
    const read = await say('three');
    await say('four');
    await world.redact(room, ANN, redacted);
    await world.read(room, BEN, read, 'read', undefined);
    await pass(10_000);
    gateway.answer = async () => ok([]);
    gateway.asked.length = 0;
    await pass(2 * 60_000);
    expect(gateway.asked.map(({ counts }) => counts)).toEqual([{ unread: 1 }]);
    gateway.answer = async () => bad('timeout');
    await say('five');
    await pass(25 * HOUR_MS);
    gateway.answer = async () => ok([]);
    gateway.asked.length = 0;
    await pass(2 * HOUR_MS);
    expect(gateway.events).toEqual([undefined]);
    expect(gateway.asked[0]!.counts).toEqual({ unread: 2 });
  });

  test('tell devices that nothing is unread any more', async () => {
    await set(BEN, 'key');
    const event = await say();
    await world.read(room, BEN, event, 'readPrivate', 'main');
    await turn();
    expect(gateway.asked.map(({ event_id, counts }) => [event_id, counts])).toEqual([
      [event, { unread: 1 }],
      [undefined, {}],
    ]);
    expect(gateway.asked[1]!.devices[0]).not.toHaveProperty('tweaks');
  });

  test('end for a pushkey that the gateway rejects, and for no other', async () => {
    await set(BEN, 'old');
    await set(BEN, 'new');
    gateway.answer = async () => ok(['old', 'unknown']);
    await say('one');
    await say('two');
    const keys = gateway.asked.map(({ devices }) => devices[0]!.pushkey).sort();
    expect(keys).toEqual(['new', 'new', 'old']);
    expect(await pushers().list(BEN)).toMatchObject([{ pushkey: 'new' }]);
  });

  test('begin with what comes after a pusher was set, and end with its device', async () => {
    await say('before');
    await set(BEN, 'key');
    expect(gateway.asked).toEqual([]);
    await world.database.transaction((tx) => deleteDevice(tx, BEN, 'PHONE' as DeviceId));
    await say('after');
    expect(gateway.asked).toEqual([]);
  });

  test('are not more at once than a server can afford', async () => {
    for (let at = 0; at < 40; at++) await set(BEN, `key${at}`);
    const releases: (() => void)[] = [];
    gateway.answer = () => new Promise((resolve) => releases.push(() => resolve(ok([]))));
    await say();
    expect(gateway.asked).toHaveLength(16);
    for (let done = 0; done < 40; done++) {
      releases.shift()!();
      await turn();
    }
    expect(new Set(gateway.asked.map(({ devices }) => devices[0]!.pushkey)).size).toBe(40);
  });

  test('ring for an invite', async () => {
    await set(USERS[2]!, 'cid');
    await world.services.rooms.memberships.invite(ANN, room, USERS[2]!);
    await turn();
    expect(gateway.asked).toMatchObject([
      {
        type: 'm.room.member',
        user_is_target: true,
        prio: 'high',
        devices: [{ tweaks: { sound: SOUND.value } }],
      },
    ]);
  });

  test('forget notifications after a month', async () => {
    await say('old');
    await pass(20 * 24 * HOUR_MS);
    const kept = await say('new');
    await pass(11 * 24 * HOUR_MS);
    const rows = await world.database.all<{ event_id: string }>(
      'SELECT e.event_id FROM notified n JOIN events e ON e.position = n.position',
    );
    expect(rows).toEqual([{ event_id: kept }]);
  });
});

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { type Account, callDirectly, register } from '../../src/cli/bench/clients.ts';
import { type Captured, exchangeBytes, World } from '../../src/cli/bench/world.ts';
import { Device } from '../../src/device/device.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';

const MESSAGE = 'm.room.message';
const text = (body: string): JsonObject => ({ msgtype: 'm.text', body });

/** What is told over HTTP, without the predefined push rules, which a device knows. */
function withoutRules(body: JsonObject): JsonObject {
  const { events } = body.account_data as { events: JsonObject[] };
  return { ...body, account_data: { events: events.filter(({ type }) => type !== 'm.push_rules') } };
}

/** What /sync tells all devices of a user alike, with ages to the second. */
function toSeconds(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toSeconds);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key]) => key !== 'transaction_id')
      .map(([key, inner]) => [key, key === 'age' ? Math.floor(Number(inner) / 1_000) : toSeconds(inner)]),
  );
}

describe('a device in rooms', () => {
  let world: World;
  let alice: Account;
  let bob: Account;
  let rooms: string[];

  beforeAll(async () => {
    world = await World.open(['alpha']);
    const { app } = world.server('alpha');
    alice = await world.until(register(app, 'alice'));
    bob = await world.until(register(app, 'bob'));
    rooms = [];
    for (const name of ['One', 'Two', 'Three']) {
      const { room_id } = await ask(alice, 'POST', 'createRoom', {
        preset: 'public_chat',
        name,
        topic: 'A topic',
      });
      rooms.push(String(room_id));
      await ask(bob, 'POST', `join/${encodeURIComponent(String(room_id))}`, {});
    }
  });
  afterAll(() => world.close());

  const ask = (
    who: Account,
    method: 'GET' | 'PUT' | 'POST',
    path: string,
    body?: JsonObject,
  ): Promise<JsonObject> => {
    const target = `/_matrix/client/v3/${path}`;
    return world.until(
      callDirectly(world.server('alpha').app, who, { method, target, ...(body && { body }) }),
    );
  };
  let sent = 0;
  const say = async (who: Account, room: string, body: string, type = MESSAGE): Promise<string> => {
    const path = `rooms/${encodeURIComponent(room)}/send/${type}/t${sent++}`;
    return String((await ask(who, 'PUT', path, text(body))).event_id);
  };

  async function logIn(name: string, who: Account): Promise<Device> {
    const device = new Device({
      link: world.clientLink(name),
      clock: world.time.clock,
      random: seededRandom(name.length),
      secret: seededRandom(name.length + 100).bytes(32),
      server: 'alpha.example' as ServerName,
      address: 'alpha',
      trust: { decide: async () => ({ trusted: true }) },
    });
    await world.until(device.logIn(who.id, who.password));
    return device;
  }

  test('is told by its first /sync what it would be told over HTTP', async () => {
    for (let i = 0; i < 15; i++) await say(i % 2 ? alice : bob, rooms[0]!, `message ${i}`);
    const device = await logIn('first', alice);
    const over = await ask(alice, 'GET', 'sync');
    const { value, datagrams } = await world.capture(() => device.sync());
    expect(toSeconds(value)).toEqual(toSeconds(withoutRules(over)));
    const { response } = exchangeBytes(datagrams, 'first');
    expect(response).toBeLessThan(JSON.stringify(over).length / 5);
    await say(bob, rooms[1]!, 'one more');
    await ask(bob, 'PUT', `rooms/${encodeURIComponent(rooms[1]!)}/state/m.room.member/${bob.id}`, {
      membership: 'join',
      displayname: 'Bob',
    });
    await say(bob, rooms[2]!, 'and another one');
    const since = String(value.next_batch);
    const later = await world.until(device.sync({ since }));
    expect(toSeconds(later)).toEqual(toSeconds(await ask(alice, 'GET', `sync?since=${since}`)));
    await world.until(device.close());
  });

  test('is pushed an event, and computes its id', async () => {
    const device = await logIn('observer', alice);
    const told: JsonObject[] = [];
    device.follow({ onSync: (body) => told.push(body) });
    await world.time.pass(60_000);
    await say(bob, rooms[0]!, 'before');
    await world.time.pass(60_000);
    told.length = 0;
    const costs: Captured[] = [];
    for (const body of ['Hello World', 'Hello?']) {
      const { value: id, datagrams } = await world.capture(() => say(bob, rooms[0]!, body));
      const [section] = Object.values((told.at(-1) as never as Synced).rooms.join);
      expect(section!.timeline.events.map(({ event_id }) => event_id)).toEqual([id]);
      expect(datagrams).toHaveLength(2);
      costs.push(...datagrams);
    }
    for (const { label, wire } of costs) expect(wire).toBeLessThan(label.includes('notification') ? 90 : 63);
    await world.until(device.close());
  });

  test('that knows nothing of its rooms any more is told everything again, and loses nothing', async () => {
    const { next_batch } = await ask(alice, 'GET', 'sync');
    const device = await logIn('forgetful', alice);
    const ids: string[] = [];
    device.follow({
      since: String(next_batch),
      onSync: (body) => {
        for (const { timeline } of Object.values((body as never as Synced).rooms.join))
          ids.push(...timeline.events.map(({ event_id }) => event_id));
      },
    });
    await world.time.pass(60_000);
    const said: string[] = [];
    for (const room of [rooms[0]!, rooms[1]!, rooms[0]!]) {
      said.push(await say(bob, room, 'somewhere'));
      await world.time.pass(60_000);
    }
    expect(ids).toEqual(said);
    await world.until(device.close());
  });

  test('that wants no ids to compute is told them', async () => {
    const device = await logIn('told', alice);
    let newest = '';
    device.follow({
      idsAreTold: true,
      onSync: (body) => {
        const [section] = Object.values((body as never as Synced).rooms.join);
        newest = section?.timeline.events.at(-1)?.event_id ?? '';
      },
    });
    await world.time.pass(60_000);
    for (const type of [MESSAGE, 'm.other', MESSAGE]) {
      const id = await say(bob, rooms[2]!, 'Hello World', type);
      await world.time.pass(60_000);
      expect(newest).toBe(id);
    }
    await world.until(device.close());
  });

  test('finds the id of what it has sent where it cannot compute it', async () => {
    const before = await logIn('latecomer', alice);
    const { value } = await world.capture(() => before.sync());
    await world.until(before.sync({ since: String(value.next_batch) }));
    await world.until(before.close());
    // The same key, so that the server takes it to know the room.
    const device = await logIn('latecomer', alice);
    const { value: id, datagrams } = await world.capture(() =>
      device.send(rooms[1]!, MESSAGE, text('Who am I?')),
    );
    const event = await ask(
      alice,
      'GET',
      `rooms/${encodeURIComponent(rooms[1]!)}/event/${encodeURIComponent(id)}`,
    );
    expect(event.content).toEqual(text('Who am I?'));
    expect(datagrams.map(({ label }) => label)).toContain('data CON GET');
    await world.until(device.close());
  });

  test('computes the ids of what it sends behind what it has sent, without a /sync in between', async () => {
    const device = await logIn('monologue', alice);
    const { value } = await world.capture(() => device.sync());
    await world.until(device.sync({ since: String(value.next_batch) }));
    for (const body of ['One', 'Two', 'Three']) {
      const { value: id, datagrams } = await world.capture(() => device.send(rooms[2]!, MESSAGE, text(body)));
      const path = `rooms/${encodeURIComponent(rooms[2]!)}/event/${encodeURIComponent(id)}`;
      expect((await ask(alice, 'GET', path)).content).toEqual(text(body));
      const own = datagrams.filter(({ from, to }) => [from, to].includes('monologue'));
      expect(own.map(({ label }) => label)).toEqual(['data CON PUT', 'data ACK 2.04']);
      expect(own[1]!.wire).toBe(69);
    }
    await world.until(device.close());
  });

  test('computes the ids of what it sends', async () => {
    const device = await logIn('sender', alice);
    const following = device.follow({ onSync: () => undefined });
    await world.time.pass(60_000);
    expect(following.isObserving).toBe(true);
    for (const body of ['Hello World', 'Hello?', 'Hello!']) {
      const { value: id, datagrams } = await world.capture(() => device.send(rooms[1]!, MESSAGE, text(body)));
      const event = await ask(
        alice,
        'GET',
        `rooms/${encodeURIComponent(rooms[1]!)}/event/${encodeURIComponent(id)}`,
      );
      expect(event.content).toEqual(text(body));
      const answer = datagrams.find(({ label }) => label.includes('ACK 2.04'));
      // Three more where the room's last event is over 16 minutes old.
      expect(answer?.wire).toBeLessThanOrEqual(73);
    }
    await world.until(device.close());
  });

  test('of somebody who ignores another is told the rest in terms of what it has been told', async () => {
    const { app } = world.server('alpha');
    const [dave, erin] = [await world.until(register(app, 'dave')), await world.until(register(app, 'erin'))];
    const { room_id } = await ask(bob, 'POST', 'createRoom', { preset: 'public_chat' });
    const room = String(room_id);
    for (const who of [dave, erin]) await ask(who, 'POST', `join/${encodeURIComponent(room)}`, {});
    const list = `user/${encodeURIComponent(dave.id)}/account_data/m.ignored_user_list`;
    await ask(dave, 'PUT', list, { ignored_users: { [erin.id]: {} } });
    const device = await logIn('peaceful', dave);
    let since = String((await world.until(device.sync())).next_batch);
    for (const body of ['One', 'Two', 'Three']) {
      const said = await say(bob, room, body);
      // What comes next is behind this.
      await say(erin, room, `${body}?`);
      const { value, datagrams } = await world.capture(() => device.sync({ since }));
      const [section] = Object.values((value as never as Synced).rooms.join);
      expect(section!.timeline.events.map(({ event_id }) => event_id)).toEqual([said]);
      // What refers to something that it has not been told it would have to ask for once more.
      const asked = datagrams.filter(
        ({ from, label }) => from === 'peaceful' && / (?:GET|FETCH)/.test(label),
      );
      expect(asked.map(({ label }) => label)).toHaveLength(1);
      since = String(value.next_batch);
    }
    await world.until(device.close());
  });
});

interface Synced {
  readonly rooms: {
    readonly join: Record<
      string,
      { readonly timeline: { readonly events: readonly { readonly event_id: string }[] } }
    >;
  };
}

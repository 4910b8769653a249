import { afterEach, beforeEach, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { callDirectly, sendCall } from '../../src/cli/bench/clients.ts';
import { eventCall, text, twoServers } from '../../src/cli/bench/scenarios/hello.ts';
import { World } from '../../src/cli/bench/world.ts';
import { Device } from '../../src/device/device.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';

type Told = {
  rooms: { join: Record<string, { timeline: { events: { event_id: string; unsigned: JsonObject }[] } }> };
};

let world: World;

beforeEach(async () => {
  world = await World.open(['alpha', 'bravo'], undefined, undefined, undefined, 'deferred');
});
afterEach(() => world.close());

test('a device computes the ids of events whose signatures have not come, and is told of each once', async () => {
  const [alpha, bravo] = [world.server('alpha').app, world.server('bravo').app];
  const { value } = await world.capture(() => twoServers(alpha, bravo));
  const { alice, bob, room } = value;
  const device = new Device({
    link: world.clientLink('device'),
    clock: world.time.clock,
    random: seededRandom(7),
    secret: seededRandom(8).bytes(32),
    server: 'bravo.example' as ServerName,
    address: 'bravo',
    trust: { decide: async () => ({ trusted: true }) },
  });
  await world.until(device.logIn(bob.id, bob.password));
  const events: { event_id: string; unsigned: JsonObject }[] = [];
  device.follow({
    onSync: (body) => {
      const joined = (body as never as Told).rooms.join[room];
      events.push(...(joined?.timeline.events ?? []));
    },
  });
  await world.time.pass(60_000);
  events.length = 0;
  const sent: string[] = [];
  for (let i = 0; i < 6; i++) {
    // Some after the signatures of those before, some in front of them; one of them is bob's.
    const who = i === 3 ? ([bravo, bob] as const) : ([alpha, alice] as const);
    const answer = await world.until(callDirectly(who[0], who[1], sendCall(room, text(`number ${i}`), i)));
    sent.push(String(answer.event_id));
    await world.time.pass(i % 2 === 0 ? 2_000 : 90_000);
  }
  await world.time.pass(90_000);
  expect(events.map(({ event_id }) => event_id)).toEqual(sent);
  expect(events.map(({ unsigned }) => unsigned['org.ravine.provisional'] === true)).toEqual(
    sent.map((_, i) => i !== 3),
  );
  for (const id of sent) {
    const event = await world.until(callDirectly(bravo, bob, eventCall(room, id)));
    expect(event.unsigned).not.toHaveProperty(['org.ravine.provisional']);
  }
  const { signatures } = world.server('bravo').counters();
  expect(signatures).toMatchObject({ provisional: 5, verified: 5, bad: 0, refetched: 0, quarantined: 0 });
  await world.until(device.close());
});

import { expect, test } from 'vitest';
import { seededRandom } from '../../../src/base/random.ts';
import { callDirectly, register } from '../../../src/cli/bench/clients.ts';
import { World } from '../../../src/cli/bench/world.ts';
import { Device } from '../../../src/device/device.ts';
import type { ServerName } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';

const MINUTE = 60_000;

test('a device that follows /sync through a pipe gets each message once and in order, however many come', async () => {
  const world = await World.open(['alpha'], undefined, 1);
  const { app } = world.server('alpha');
  const [alice, bob] = [await world.until(register(app, 'alice')), await world.until(register(app, 'bob'))];
  const device = new Device({
    ...{ link: world.clientLink('device'), clock: world.time.clock, random: seededRandom(2) },
    secret: seededRandom(3).bytes(32),
    server: 'alpha.example' as ServerName,
    address: 'alpha',
    trust: { decide: async () => ({ trusted: true }) },
  });
  await world.until(device.logIn(alice!.id, alice!.password));
  const got: number[] = [];
  let [since, answers]: [string | undefined, number] = [undefined, 0];
  const follow = () =>
    device.follow({
      ...(since !== undefined && { since }),
      onSync: (body) => {
        const { events } = body.to_device as { events: { content: { n: number } }[] };
        got.push(...events.map(({ content }) => content.n));
        since = body.next_batch as string;
        answers++;
      },
    });
  let stream = follow();
  let n = 0;
  for (const burst of [1, 120, 2]) {
    for (const end = n + burst; n < end; n++) {
      const body: JsonObject = { messages: { [alice!.id]: { '*': { n } } } };
      const target = `/_matrix/client/v3/sendToDevice/m.test/t${n}`;
      await world.until(callDirectly(app, bob!, { method: 'PUT', target, body }));
      await world.time.pass(20);
    }
    await world.time.pass(5 * MINUTE);
    expect(got).toHaveLength(n);
    stream.close();
    stream = follow();
    await world.time.pass(MINUTE);
  }
  expect(got).toEqual(Array.from({ length: n }, (_, at) => at));
  expect(answers).toBeGreaterThan(3);
  const answer = await world.until(device.sync({ since: since! }));
  expect(answer.to_device).toEqual({ events: [] });
  await world.until(device.close());
  await world.close();
});

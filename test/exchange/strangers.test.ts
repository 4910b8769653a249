import { expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { deviceKeyOf } from '../../src/pipe/identity.ts';
import { DeviceClient } from './device_client.ts';
import { MINUTE, put, SLOW, World } from './world.ts';

/** How long a server's answer takes while five devices ask for long ones. @param are strangers */
async function answerTime(are: boolean): Promise<number> {
  const world = new World(4);
  world.connect('a', 'b', SLOW);
  const server = world.start('a', SLOW, {
    acceptDevices: true,
    trust: {
      decide: async () => ({ trusted: true }),
      isStranger: (peer) => are && deviceKeyOf(peer) !== undefined,
    },
  });
  const other = world.start('b', SLOW);
  const devices = Array.from({ length: 5 }, (_, i) => {
    world.connect(`d${i}`, 'a', SLOW);
    return new DeviceClient({
      link: world.network.join(`d${i}`, SLOW),
      clock: world.time.clock,
      random: seededRandom(100 + i),
      secret: seededRandom(200 + i).bytes(32),
      ...{ server: server.name, address: 'a' },
    });
  });
  const ask = (device: DeviceClient) => device.ask('PUT', '/x', { text: 'q' }, undefined, 600 * MINUTE);
  const timeout = { timeoutMs: 600 * MINUTE, priority: 1 } as const;
  for (const device of devices) await world.time.until(ask(device), 600 * MINUTE);
  await world.time.until(other.socket.request(server.name, 'a', put('first'), timeout), 600 * MINUTE);
  const random = seededRandom(9);
  const value = Buffer.from(random.bytes(40)).toString('base64');
  server.answer = async (request) =>
    request.path.endsWith('/x')
      ? { status: 200, headers: {}, body: { kind: 'json', value } }
      : { status: 200, headers: {} };
  const asked = devices.flatMap((device) => Array.from({ length: 8 }, () => ask(device)));
  const { clock } = world.time;
  const begun = clock.monotonic();
  let took = 0;
  for (let i = 0; i < 4; i++) {
    await world.time.until(other.socket.request(server.name, 'a', put('x'), timeout), 600 * MINUTE);
    took = clock.monotonic() - begun;
  }
  await world.time.until(Promise.all(asked), 6_000 * MINUTE);
  for (const { socket } of [...devices, server, other]) await world.time.until(socket.close(), MINUTE);
  return took;
}

it('what goes to devices that are nobody’s waits for what goes to others', async () => {
  const [beside, before] = [await answerTime(false), await answerTime(true)];
  expect(before).toBeLessThan(beside * 0.7);
});

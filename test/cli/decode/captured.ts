import { callDirectly, pipeClient, sendCall } from '../../../src/cli/bench/clients.ts';
import { aliceInRoom, text, twoServers } from '../../../src/cli/bench/scenarios/hello.ts';
import { type Captured, type KeyLogOf, World } from '../../../src/cli/bench/world.ts';
import type { ReadKeyLog } from '../../../src/cli/key_log.ts';

/** Two servers in virtual time: an invite, a join, a message between them, and one from a device. */
export async function captureServers(keyLog: KeyLogOf): Promise<readonly Captured[]> {
  return inWorld(['alpha', 'bravo'], keyLog, async (world) => {
    const [alpha, bravo] = [world.server('alpha').app, world.server('bravo').app];
    const { value } = await world.capture(() => twoServers(alpha, bravo));
    await world.capture(() => callDirectly(alpha, value.alice, sendCall(value.room, text('Hello'), 1)));
    const client = await pipeClient(world, 'alpha', value.alice, 'client');
    await world.capture(() => client.send(value.room, text('over a pipe'), 2));
    await world.until(client.close());
  });
}

/** A server in virtual time and a device that opens a pipe to it, logs in and says something twice: at the end W1. */
export async function captureDevice(keyLog: KeyLogOf): Promise<readonly Captured[]> {
  return inWorld(['alpha'], keyLog, async (world) => {
    const { alice, room } = await world.until(aliceInRoom(world.server('alpha').app));
    const client = await pipeClient(world, 'alpha', alice, 'client');
    for (const [n, said] of ['the session is opened', 'Hello World'].entries())
      await world.capture(() => client.send(room, text(said), n));
    await world.until(client.close());
  });
}

async function inWorld(
  names: readonly string[],
  keyLog: KeyLogOf,
  use: (world: World) => Promise<void>,
): Promise<readonly Captured[]> {
  const world = await World.open(names, undefined, undefined, keyLog);
  try {
    await use(world);
    return world.captured;
  } finally {
    await world.close();
  }
}

/** Tells a key log that is read at once. */
export const into =
  (log: ReadKeyLog): KeyLogOf =>
  (own) => ({
    record: (connection, epoch, key, { name, sends }) =>
      log.record(connection, { epoch, key, sender: sends ? name : own, receiver: sends ? own : name }),
    handshake: (message, payload) => log.handshake(message, payload),
  });

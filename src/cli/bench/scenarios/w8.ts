import type { FastifyInstance } from 'fastify';
import { seededRandom } from '../../../base/random.ts';
import { MatrixUser } from '../../../mesh/matrix_user.ts';
import { type HttpsCost, inHttpsWorld } from '../https_world.ts';
import type { Scenario } from '../scenario.ts';
import { conversation, type Said } from '../texts.ts';
import { inWorld, wireBytes } from '../world.ts';

/** Between two messages, at most. */
const LONGEST_PAUSE_MS = 60_000;

/** Two people on two servers talk; everything between the servers counts. */
export const w8: Scenario = async ({ https }) => {
  const { seed, messages } = conversation();
  return [
    {
      id: 'W8',
      name: `conversation of ${messages.length} messages, two people on two servers, all between the servers`,
      budget: { bytes: { total: 20_000 }, ratio: 8, ratioPerConnection: 25 },
      bytes: { total: await talk(messages, seed) },
      ...(https && { https: await httpsTalk(messages) }),
      note: 'signatures are inline',
    },
  ];
};

type Users = Readonly<Record<Said['who'], MatrixUser>>;

async function inOneRoom(
  alpha: FastifyInstance,
  bravo: FastifyInstance,
  until: <T>(outcome: Promise<T>) => Promise<T>,
): Promise<{ readonly users: Users; readonly room: string }> {
  const alice = await until(MatrixUser.register(alpha, 'alice'));
  const bob = await until(MatrixUser.register(bravo, 'bob'));
  const room = await until(alice.createRoom({ preset: 'private_chat', invite: [bob.id] }));
  await until(bob.join(room));
  return { users: { alice, bob }, room };
}

/** Says one thing and waits until the other has read it. */
async function say({ users, room }: { users: Users; room: string }, { who, text }: Said): Promise<void> {
  const listener = users[who === 'alice' ? 'bob' : 'alice'];
  const id = await users[who].say(room, text);
  await listener.syncUntil((user) => user.messages(room).some((message) => message.id === id));
}

async function talk(messages: readonly Said[], seed: number): Promise<number> {
  return inWorld(['alpha', 'bravo'], async (world) => {
    const random = seededRandom(seed);
    const [alpha, bravo] = [world.server('alpha').app, world.server('bravo').app];
    const { value: place } = await world.capture(() => inOneRoom(alpha, bravo, (outcome) => outcome));
    let total = 0;
    for (const said of messages) {
      const before = world.captured.length;
      await world.until(say(place, said));
      await world.time.pass(random.integer(LONGEST_PAUSE_MS));
      total += wireBytes(world.captured.slice(before));
    }
    return total;
  });
}

async function httpsTalk(messages: readonly Said[]): Promise<HttpsCost> {
  return inHttpsWorld(['alpha', 'bravo'], async (world) => {
    const place = await inOneRoom(world.server('alpha').app, world.server('bravo').app, (outcome) => outcome);
    // Both ways: whoever has said something has a connection from then on.
    for (const who of ['alice', 'bob'] as const)
      await world.measure(() => say(place, { who, text: 'the connection is opened' }));
    const { bytes } = await world.measure(async () => {
      for (const said of messages) await say(place, said);
    });
    return { kept: bytes, perConnection: bytes + messages.length * (await world.connectionCost()) };
  });
}

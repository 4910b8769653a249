import type { FastifyInstance } from 'fastify';
import { MatrixUser } from './matrix_user.ts';

/** The parts that the demonstration's costs are split into. */
export const PHASES = ['invite', 'join', 'message'] as const;
export type Phase = (typeof PHASES)[number];

export const FIRST_MESSAGE = 'Hello World';

/**
 * The shortest conversation between two servers: Alice makes a room and invites Bob, Bob joins, Alice says "Hello World"
 * and Bob reads it.
 * @param phase is told when each part begins; what crosses the link from then on belongs to it
 * @param until lets time pass until a promise has settled
 */
export async function firstMessage({
  alpha,
  bravo,
  phase,
  until,
}: {
  readonly alpha: FastifyInstance;
  readonly bravo: FastifyInstance;
  readonly phase: (phase: Phase) => void;
  readonly until: <T>(outcome: Promise<T>) => Promise<T>;
}): Promise<void> {
  const alice = await until(MatrixUser.register(alpha, 'alice'));
  const bob = await until(MatrixUser.register(bravo, 'bob'));
  phase('invite');
  const room = await until(
    alice.createRoom({ preset: 'private_chat', name: 'The ravine', invite: [bob.id] }),
  );
  await until(bob.syncUntil((user) => user.invitedTo.has(room)));
  phase('join');
  await until(bob.join(room));
  await until(alice.syncUntil((user) => isJoined(user, room, bob.id)));
  phase('message');
  await until(alice.say(room, FIRST_MESSAGE));
  await until(bob.syncUntil((user) => user.messages(room).some(({ body }) => body === FIRST_MESSAGE)));
}

const isJoined = (user: MatrixUser, room: string, member: string): boolean =>
  (user.timelines.get(room) ?? []).some(
    ({ type, sender, content }) =>
      type === 'm.room.member' && sender === member && content.membership === 'join',
  );

import { expect, it } from 'vitest';
import { MatrixUser } from '../../src/mesh/matrix_user.ts';
import { Pair } from '../../src/mesh/pair.ts';

/** Shorter than the way to the other server, so that neither knows what the other has said last. */
const PAUSE_MS = 17;
const MESSAGES = 40;
const LONG_MS = 600_000;

it('where two speak at once, no event has to go whole', async () => {
  const pair = await Pair.start({ rate: 1e6, latency: 40, loss: 0, seed: 1 });
  try {
    const alice = await pair.until(MatrixUser.register(pair.alpha.app, 'alice'));
    const bob = await pair.until(MatrixUser.register(pair.bravo.app, 'bob'));
    const room = await pair.until(alice.createRoom({ preset: 'private_chat', invite: [bob.id] }));
    await pair.until(bob.join(room));
    for (let i = 0; i < MESSAGES; i++) {
      await pair.until(Promise.all([alice.say(room, `alice ${i}`), bob.say(room, `bob ${i}`)]));
      await pair.pass(PAUSE_MS);
    }
    await pair.pass(LONG_MS);
    for (const server of [pair.alpha, pair.bravo]) {
      const { forms, rooms } = server.counters();
      expect(rooms.forks).toBe(MESSAGES);
      expect(forms.writtenWhole).toBe(0);
      // Both ends count what is asked for; without naming previous events it is nearly all of them, twice.
      expect(forms.askedWhole).toBeGreaterThan(0);
      expect(forms.askedWhole).toBeLessThan(MESSAGES);
    }
  } finally {
    await pair.close();
  }
});

import { afterAll, describe, expect, it } from 'vitest';
import { SIDES } from '../../src/mesh/pair.ts';
import { newTotals, replayable, Talk } from './talk.ts';

/*
 *   alice ── alpha ══ 100 bit/s, 1 s, 20 % of datagrams lost each way ══ bravo ── bob
 *
 * Both talk at the same time, so that the room forks. RAVINE_SEEDS=first-last runs other seeds than the standard ones;
 * RAVINE_SEEDS=17-17 replays one.
 */

const LINK = { rate: 100, latency: 1000, loss: 0.2 };
/** Seeds in one test, so that the report shows progress. */
const BATCH = 20;

function batches(standard: string): readonly (readonly number[])[] {
  const [first, last] = (process.env.RAVINE_SEEDS ?? standard).split('-').map(Number) as [number, number];
  const seeds = Array.from({ length: last - first + 1 }, (_, i) => first + i);
  return Array.from({ length: Math.ceil(seeds.length / BATCH) }, (_, i) =>
    seeds.slice(i * BATCH, (i + 1) * BATCH),
  );
}

/** One test for each batch of seeds, and one that everything which should have happened did. */
function scenario(name: string, standard: string, run: (talk: Talk, seed: number) => Promise<void>): void {
  describe(name, () => {
    const totals = newTotals();
    for (const seeds of batches(standard)) {
      it(`brings every message once and in order per sender, seeds ${seeds[0]} to ${seeds.at(-1)}`, async () => {
        for (const seed of seeds) {
          await replayable(seed, async () => {
            const talk = await Talk.start({ ...LINK, seed }, totals);
            await run(talk, seed);
            await talk.close();
          });
        }
      });
    }

    it('has met what it is about: drops, resends, forks and conflicts', () => {
      for (const what of ['drops', 'resends', 'forks', 'resolutions'] as const) {
        expect(totals[what], what).toBeGreaterThan(0);
      }
    });

    afterAll(() => {
      process.stdout.write(
        `\n${name}, seeds ${process.env.RAVINE_SEEDS ?? standard}: ${JSON.stringify(totals)}\n`,
      );
    });
  });
}

scenario('a conversation over a lossy link of 100 bit/s', '1-200', async (talk, seed) => {
  await talk.say(4);
  await talk.check(seed);
});

scenario('a conversation in which one side is started again', '1-60', async (talk, seed) => {
  const side = SIDES[talk.random.integer(2)]!;
  const other = side === 'alpha' ? 'bravo' : 'alpha';
  await talk.say(2);
  // Whatever is on its way is lost with the process.
  await talk.stop(side);
  await talk.say(2, [other]);
  await talk.pair.pass(talk.random.integer(600_000));
  await talk.start(side);
  await talk.say(2);
  await talk.check(seed);
});

scenario('a conversation in which the link is cut for up to two hours', '1-60', async (talk, seed) => {
  await talk.say(1);
  talk.pair.change({ partitioned: true });
  await talk.say(3);
  await talk.pair.pass(talk.random.integer(7_200_000));
  talk.pair.change({ partitioned: false });
  await talk.say(2);
  await talk.check(seed);
});

import { expect, it, onTestFinished } from 'vitest';
import type { EventId } from '../../src/matrix/ids.ts';
import { type Death, MortalDatabase } from '../doors/mortal_database.ts';
import { checkEnd, checkMoment } from './federation_checks.ts';
import { Disk, NAMES, sceneOf, USERS } from './federation_scene.ts';
import { HOUR, testKey } from './fixtures.ts';
import { Network, openSide, type Side, stopped } from './sides.ts';

/** More commits than a server does on the way of an event and its signature. */
const MAX_COMMITS = 40;
/** Of the two scenes that of two servers in one room. */
const TWO = 1;
/** Of transaction ids: no two starts of a server may draw the same, nor one that the scene has had. */
const FIRST_SEED = 100;
const LATER_SEED = 200;
/** When signatures have followed their events. */
const FOLLOWED_MS = 60_000;

/**
 * Two events go before their signatures, of which one is spoilt on its way, and one of the servers is killed at a commit of all this.
 * @returns whether it got to that commit
 */
async function killed(victim: 0 | 1, death: Death): Promise<boolean> {
  const scene = await sceneOf(TWO);
  const disk = new Disk();
  onTestFinished(() => disk.remove());
  const network = new Network(scene.wall);
  network.formed = true;
  network.deferred = true;
  let spoilt = 0;
  network.tamper = (bytes, call) => {
    if (!call.path.includes('signatures') || spoilt++ > 0) return bytes;
    const changed = bytes.slice();
    changed[0]! ^= 1;
    return changed;
  };
  const within = <T>(outcome: Promise<T>): Promise<T> => network.time.until(outcome, 10 * HOUR);
  const inner = NAMES.map((name, i) => disk.open(name, scene.databases[i]!));
  const mortal = new MortalDatabase(inner[victim]!);
  const sides: Side[] = [];
  for (const i of [0, 1])
    sides.push(
      await openSide(network, NAMES[i]!, testKey(i + 1), FIRST_SEED + i, i === victim ? mortal : inner[i]!),
    );
  const { id, first } = scene.rooms[0]!;
  const room = { id, first, members: [0, 1], said: new Map<EventId, string | undefined>() };
  const say = async (text: string): Promise<void> => {
    try {
      room.said.set(await within(sides[0]!.say(sides[0]!.user(USERS[0]), id, text)), text);
    } catch (error) {
      if (!mortal.isDead) throw error;
    }
  };

  mortal.dieAt(death);
  await say('one');
  await say('two');
  for (const database of inner) await checkMoment(database);
  await network.time.pass(FOLLOWED_MS);
  const { isDead } = mortal;
  if (isDead) {
    network.sides.delete(NAMES[victim]!);
    await within(stopped(sides[victim]!).catch(() => undefined));
    sides[victim] = await openSide(network, NAMES[victim]!, testKey(victim + 1), LATER_SEED, inner[victim]!);
  } else mortal.dieAt(undefined);
  for (const database of inner) await checkMoment(database);
  await network.time.pass(3 * HOUR);
  const databases = new Map([0, 1].map((i) => [NAMES[i]!, inner[i]!] as const));
  await checkEnd(databases, room, [NAMES[0], NAMES[1]]);
  for (const side of sides) await within(stopped(side));
  await disk.close();
  return isDead;
}

for (const [victim, who] of ['who says it', 'who is told'].entries())
  for (const when of ['before', 'after'] as const)
    it(`an event before its signature is neither lost nor done twice where ${who} is killed ${when} any commit`, async () => {
      let commits = 0;
      while (commits < MAX_COMMITS && (await killed(victim as 0 | 1, { transaction: commits, when })))
        commits++;
      // Each side stores at least the events, the signatures, and what became of them.
      expect(commits).toBeGreaterThanOrEqual(4);
      expect(commits).toBeLessThan(MAX_COMMITS);
    });

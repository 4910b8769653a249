import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import type { EventId } from '../../src/matrix/ids.ts';
import { authEvents, type StateMap } from '../../src/matrix/pdu.ts';
import { randomRoom, randomSets } from './random_rooms.ts';
import { sorted, type TestRoom, VERSIONS } from './rooms.ts';
import { type Counters, resolveStateLiteral } from './state_resolution_literal.ts';

const ROOMS = 60;
const EVENTS_PER_ROOM = 45;
const RESOLUTIONS_PER_ROOM = 12;

/** One version for each algorithm and each way to write events. */
const RESOLVING = VERSIONS.filter(({ id }) => ['1', '2', '3', '6', '10', '12'].includes(id));

/** The auth difference as an index would tell it. */
function authDifferenceOf(room: TestRoom, sets: readonly StateMap[]): Set<EventId> {
  const chains = sets.map((set) => {
    const chain = new Set(set.values());
    for (const id of chain) for (const auth of authEvents(room.events.get(id)!.event.pdu)) chain.add(auth);
    return chain;
  });
  const all = new Set(chains.flatMap((chain) => [...chain]));
  return new Set([...all].filter((id) => !chains.every((chain) => chain.has(id))));
}

describe('state resolution of random rooms', () => {
  it.each(RESOLVING)('comes to what the specification says word for word, in version $id', (version) => {
    const counters: Counters = {
      conflicts: 0,
      differences: 0,
      subgraphOnly: 0,
      refused: 0,
      mainlines: 0,
      rejectedAuthEvents: 0,
      changedByOverlay: 0,
    };
    let otherwiseRead = 0;
    for (let seed = 1; seed <= ROOMS; seed++) {
      const random = seededRandom(seed);
      const room = randomRoom(random, version, EVENTS_PER_ROOM);
      for (let i = 0; i < RESOLUTIONS_PER_ROOM; i++) {
        const sets = randomSets(random, room);
        const literal = sorted(resolveStateLiteral(sets, room.events, room.create, version, counters));
        const label = `seed ${seed}, resolution ${i}`;
        expect(sorted(room.resolve(sets)), label).toEqual(literal);
        expect(sorted(room.resolve([...sets].reverse())), `${label}, sets reversed`).toEqual(literal);
        expect(sorted(room.resolve([...sets, ...sets])), `${label}, sets doubled`).toEqual(literal);
        const known = { authDifference: authDifferenceOf(room, sets) };
        expect(sorted(room.resolve(sets, known)), `${label}, with an index`).toEqual(literal);
        const text = resolveStateLiteral(sets, room.events, room.create, version, undefined, 'text');
        if (sorted(text).join() !== literal.join()) otherwiseRead++;
      }
    }
    console.info(`random rooms of version ${version.id}:`, { ...counters, otherwiseRead });
    const has = {
      v1: ['conflicts', 'refused'],
      v2: ['conflicts', 'differences', 'refused', 'mainlines', 'rejectedAuthEvents', 'changedByOverlay'],
      'v2.1': Object.keys(counters),
    }[version.stateResolution];
    for (const name of has) expect(counters[name as keyof Counters], name).toBeGreaterThan(10);
  });
});

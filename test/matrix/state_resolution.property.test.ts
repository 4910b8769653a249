import { describe, expect, it } from 'vitest';
import { type Random, seededRandom } from '../../src/base/random.ts';
import type { UserId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { type Event, type StateMap, splitStateKey } from '../../src/matrix/pdu.ts';
import { createEvent, sorted, TestRoom, user } from './rooms.ts';
import { type Counters, resolveStateLiteral } from './state_resolution_literal.ts';

const ROOMS = 60;
const EVENTS_PER_ROOM = 45;
const RESOLUTIONS_PER_ROOM = 12;

const people = ['alice', 'bob', 'carol', 'dave', 'eve'].map(user);
const pick = <Item>(random: Random, items: readonly Item[]): Item => items[random.integer(items.length)]!;

function randomPowerLevels(random: Random, creators: readonly UserId[]): JsonObject {
  const users: Record<string, number> = {};
  for (const person of people) {
    if (!creators.includes(person) && random.fraction() < 0.7)
      users[person] = pick(random, [0, 25, 50, 75, 100]);
  }
  return {
    users,
    state_default: pick(random, [0, 25, 50]),
    ban: pick(random, [25, 50]),
    invite: pick(random, [0, 50]),
  };
}

/** A room of five quarrelling people whose servers seldom hear of each other's events in time. */
function randomRoom(random: Random): TestRoom {
  const creators = random.fraction() < 0.3 ? people.slice(0, 2) : people.slice(0, 1);
  const room = new TestRoom(createEvent({ additional_creators: creators.slice(1) }));
  let tips: Event[] = [room.member([room.create], people[0]!, people[0]!, 'join')];
  tips = [room.state(tips, people[0]!, 'm.room.power_levels', randomPowerLevels(random, creators))];
  tips = [room.state(tips, people[0]!, 'm.room.join_rules', { join_rule: 'public' })];
  for (const person of people.slice(1)) tips = [room.member(tips, person, person, 'join')];
  const all = [...tips];
  for (let i = 0; i < EVENTS_PER_ROOM; i++) {
    const merge = random.fraction() < 0.15 ? all.slice(-3) : [pick(random, all.slice(-8))];
    const sender = pick(random, people);
    const ts = 2_000 + random.integer(60);
    const next = (): Event => {
      const dice = random.integer(10);
      if (dice < 3)
        return room.state(merge, sender, 'm.room.power_levels', randomPowerLevels(random, creators), ts);
      if (dice < 4)
        return room.state(
          merge,
          sender,
          'm.room.join_rules',
          { join_rule: pick(random, ['public', 'invite', 'knock']) },
          ts,
        );
      if (dice < 6)
        return room.member(merge, sender, pick(random, people), pick(random, ['ban', 'leave', 'invite']), ts);
      if (dice < 8)
        return room.member(merge, sender, sender, pick(random, ['join', 'join', 'leave', 'knock']), ts);
      return room.state(merge, sender, pick(random, ['m.room.topic', 'm.room.name']), { i }, ts);
    };
    const event = next();
    // Some follow on rejected events too, as a server would that judged otherwise.
    if (!room.isRejected(event) || random.fraction() < 0.2) all.push(event);
  }
  // Verdicts differ between servers that were told different states: some events count as rejected here.
  for (const [id, { event }] of room.events) {
    if (event !== room.create && random.fraction() < 0.05) room.events.set(id, { event, rejected: true });
  }
  return room;
}

/** The states after some events, here and there with an entry taken out or another event put in, as a liar's would be. */
function randomSets(random: Random, room: TestRoom): StateMap[] {
  const states = [...room.stateAfter.values()];
  const events = [...room.events.values()]
    .map(({ event }) => event)
    .filter(({ pdu }) => pdu.type !== 'm.room.create');
  return Array.from({ length: 2 + random.integer(3) }, () => {
    const set = new Map(pick(random, states));
    for (const [key] of [...set]) {
      const { type, key: stateKeyText } = splitStateKey(key);
      if (type === 'm.room.create' || random.fraction() > 0.06) continue;
      const others = events.filter(({ pdu }) => pdu.type === type && pdu.state_key === stateKeyText);
      if (random.fraction() < 0.5) set.delete(key);
      else set.set(key, pick(random, others).id);
    }
    return set;
  });
}

describe('state resolution of random rooms', () => {
  it('comes to what the specification says word for word, in whatever order the sets are given', () => {
    const counters: Counters = {
      conflicts: 0,
      differences: 0,
      subgraphOnly: 0,
      refused: 0,
      mainlines: 0,
      rejectedAuthEvents: 0,
      changedByOverlay: 0,
    };
    for (let seed = 1; seed <= ROOMS; seed++) {
      const random = seededRandom(seed);
      const room = randomRoom(random);
      for (let i = 0; i < RESOLUTIONS_PER_ROOM; i++) {
        const sets = randomSets(random, room);
        const literal = sorted(resolveStateLiteral(sets, room.events, room.create, counters));
        const label = `seed ${seed}, resolution ${i}`;
        expect(sorted(room.resolve(sets)), label).toEqual(literal);
        expect(sorted(room.resolve([...sets].reverse())), `${label}, sets reversed`).toEqual(literal);
        expect(sorted(room.resolve([...sets, ...sets])), `${label}, sets doubled`).toEqual(literal);
      }
    }
    for (const [name, count] of Object.entries(counters)) expect(count, name).toBeGreaterThan(10);
    console.info('random rooms:', counters);
  });
});

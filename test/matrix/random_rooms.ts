import type { Random } from '../../src/base/random.ts';
import type { UserId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { type Event, type StateMap, splitStateKey } from '../../src/matrix/pdu.ts';
import type { RoomVersion } from '../../src/matrix/room_version.ts';
import { createEvent, type Sent, TestRoom, user } from './rooms.ts';

/** How many of a state's entries are lies. */
const LIES = 0.06;

export const people = ['alice', 'bob', 'carol', 'dave', 'eve'].map(user);
export const pick = <Item>(random: Random, items: readonly Item[]): Item =>
  items[random.integer(items.length)]!;

/** Power levels that anybody might set, whether he may or not. */
function randomPowerLevels(
  random: Random,
  creators: readonly UserId[],
  { privilegedCreators, powerLevels }: RoomVersion,
): JsonObject {
  const isText = powerLevels !== 'integers' && random.fraction() < 0.2;
  const level = (levels: readonly number[]): number | string => {
    const chosen = pick(random, levels);
    return isText ? ` ${chosen} ` : chosen;
  };
  const users: Record<string, number | string> = {};
  for (const person of people) {
    const isCreator = creators.includes(person);
    // Without a privilege of their own, creators would at once be nobody.
    if (isCreator && !privilegedCreators && random.fraction() < 0.9) users[person] = 100;
    else if (!isCreator && random.fraction() < 0.7) users[person] = level([0, 25, 50, 75, 100]);
  }
  return {
    users,
    state_default: level([0, 25, 50]),
    ban: level([25, 50]),
    invite: level([0, 50]),
    ...(random.fraction() < 0.3 && { notifications: { room: level([25, 50, 75]) } }),
    ...(random.fraction() < 0.3 && { events: { 'm.room.topic': level([0, 50, 75]) } }),
  };
}

/** What a person might say next. */
export function randomEvent(random: Random, creators: readonly UserId[], version: RoomVersion): Sent {
  const sender = pick(random, people);
  const ts = 2_000 + random.integer(60);
  const state = (type: string, content: JsonObject, state_key = ''): Sent => ({
    ...{ type, sender, content, ts, state_key },
  });
  const member = (target: UserId, membership: string): Sent => state('m.room.member', { membership }, target);
  const dice = random.integer(20);
  if (dice < 5) return state('m.room.power_levels', randomPowerLevels(random, creators, version));
  if (dice < 7) return state('m.room.join_rules', { join_rule: pick(random, ['public', 'invite', 'knock']) });
  if (dice < 11) return member(pick(random, people), pick(random, ['ban', 'leave', 'invite']));
  if (dice < 15) return member(sender, pick(random, ['join', 'join', 'leave', 'knock']));
  if (dice < 16) {
    const server = sender.slice(sender.indexOf(':') + 1);
    return state('m.room.aliases', { aliases: [] }, server);
  }
  return state(pick(random, ['m.room.topic', 'm.room.name']), { n: random.integer(1_000) });
}

/** The first events of a room: everybody is in it. */
export function beginRoom(random: Random, version: RoomVersion) {
  const isShared = version.creators === 'additional' && random.fraction() < 0.3;
  const creators = people.slice(0, isShared ? 2 : 1);
  const content = isShared ? { additional_creators: creators.slice(1) } : {};
  const room = new TestRoom(createEvent(content, people[0]!, version), version);
  let tips: Event[] = [room.member([room.create], people[0]!, people[0]!, 'join')];
  const levels = { ...randomPowerLevels(random, creators, version) };
  if (!version.privilegedCreators) levels.users = { ...(levels.users as JsonObject), [people[0]!]: 100 };
  tips = [room.state(tips, people[0]!, 'm.room.power_levels', levels)];
  tips = [room.state(tips, people[0]!, 'm.room.join_rules', { join_rule: 'public' })];
  for (const person of people.slice(1)) tips = [room.member(tips, person, person, 'join')];
  return { room, tips, creators };
}

/**
 * A room of five quarrelling people whose servers seldom hear of each other's events in time.
 * @param isHonest whether nobody builds on rejected events, and all servers agree on which these are
 */
export function randomRoom(random: Random, version: RoomVersion, events: number, isHonest = false): TestRoom {
  const { room, tips, creators } = beginRoom(random, version);
  const all = [...tips];
  for (let i = 0; i < events; i++) {
    const merge = random.fraction() < 0.15 ? all.slice(-3) : [pick(random, all.slice(-8))];
    const event = room.send(merge, randomEvent(random, creators, version));
    // Some follow on rejected events too, as a server would that judged otherwise.
    if (!room.isRejected(event) || (!isHonest && random.fraction() < 0.2)) all.push(event);
  }
  if (isHonest) return room;
  // Verdicts differ between servers that were told different states: some events count as rejected here.
  for (const [id, { event }] of room.events) {
    if (event !== room.create && random.fraction() < 0.05) room.events.set(id, { event, rejected: true });
  }
  return room;
}

/**
 * The states after some events, here and there with an entry taken out or another event put in, as a liar's would be.
 * @param puts which events may be put in
 */
export function randomSets(
  random: Random,
  room: TestRoom,
  puts: (event: Event) => boolean = () => true,
): StateMap[] {
  const states = [...room.stateAfter.values()];
  const events = [...room.events.values()]
    .map(({ event }) => event)
    .filter((event) => event.pdu.type !== 'm.room.create' && puts(event));
  return Array.from({ length: 2 + random.integer(3) }, () => {
    const set = new Map(pick(random, states));
    for (const [key] of [...set]) {
      const { type, key: stateKeyText } = splitStateKey(key);
      if (type === 'm.room.create' || random.fraction() >= LIES) continue;
      const others = events.filter(({ pdu }) => pdu.type === type && pdu.state_key === stateKeyText);
      if (others.length === 0 || random.fraction() < 0.5) set.delete(key);
      else set.set(key, pick(random, others).id);
    }
    return set;
  });
}

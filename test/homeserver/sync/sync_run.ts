import { expect } from 'vitest';
import { seededRandom } from '../../../src/base/random.ts';
import { PUSH_RULES } from '../../../src/homeserver/push/push_rules.ts';
import { CREATOR, type DrivenRoom, Driver, markOf, placeOf, USERS } from './driver.ts';
import { ModelClient } from './model_client.ts';

const STEPS = 150;
const MEMBER = placeOf('m.room.member', '');

/** Lets everything run that waits for nothing but the processor. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Compares what a client shows of a room that it is in with the state that the room has. */
function expectState(
  client: ModelClient,
  room: DrivenRoom,
  expected: ReadonlyMap<string, string>,
  { seed, emptied }: { readonly seed: number; readonly emptied: boolean },
): void {
  const known = client.rooms.get(room.id)!;
  // That a resolution emptied a place is more than /sync can say.
  const state = new Map(
    [...known.state].filter(([place]) => expected.has(place)).map(([place, event]) => [place, markOf(event)]),
  );
  if (!emptied) expect([...known.state.keys()].filter((place) => !expected.has(place))).toEqual([]);
  const about = `seed ${seed}: the state that ${client.user} has`;
  if (!client.lazy) {
    expect(Object.fromEntries(state), about).toEqual(Object.fromEntries(expected));
    return;
  }
  const others = ([place]: [string, string]): boolean => !place.startsWith(MEMBER);
  expect(Object.fromEntries([...state].filter(others)), about).toEqual(
    Object.fromEntries([...expected].filter(others)),
  );
  // Members may be missing, but not wrong; and nobody speaks who is not known.
  for (const [place, mark] of state) expect(mark, `${about} at ${place}`).toBe(expected.get(place));
  expect([...state.keys()], about).toContain(placeOf('m.room.member', client.user));
}

/**
 * Lets users do random things, and clients follow, lose answers, and wait; compares what each has with the driver's log at
 * every step. Answers how often what has happened.
 */
export async function run(
  seed: number,
  { forks }: { readonly forks: boolean },
): Promise<Record<string, number>> {
  const random = seededRandom(seed);
  const driver = new Driver(random, { forks });
  const clients = USERS.flatMap((user) => [
    new ModelClient(driver, random, { user, lazy: false, stateAfter: forks || random.integer(2) === 0 }),
  ]);
  clients[1] = new ModelClient(driver, random, {
    user: USERS[1]!,
    lazy: true,
    stateAfter: forks || random.integer(2) === 0,
  });
  // Ben wants no notes in his timelines, and not to know who types; Cid ignores Ann.
  clients[2] = new ModelClient(driver, random, {
    ...{ user: USERS[2]!, lazy: false, stateAfter: forks || random.integer(2) === 0 },
    ...{ notTypes: ['x.note'], wantsTyping: false },
  });
  await driver.besides.ignore(USERS[3]!, USERS[1]!);
  for (let n = 0; n < 2; n++) await driver.createRoom();

  async function check(client: ModelClient): Promise<void> {
    for (const room of driver.driven) {
      const known = client.rooms.get(room.id);
      if (room.members.get(client.user) !== 'join') continue;
      expect(known?.membership, `seed ${seed}: ${client.user} in ${room.id}`).toBe('join');
      const expected = forks ? await driver.resolvedState(room) : driver.loggedState(room);
      expectState(client, room, expected, { seed, emptied: forks });
      expectBesides(driver, client, room, seed);
    }
    const about = `seed ${seed}: what ${client.user} has`;
    const { [PUSH_RULES]: rules, ...data } = Object.fromEntries(client.data);
    expect(rules, about).toBeDefined();
    expect(data, about).toEqual(driver.besides.globalData(client.user));
    for (const [user, state] of Object.entries(driver.besides.presenceFor(client.user)))
      expect(client.presence.get(user) ?? 'offline', `${about} of ${user}`).toBe(state);
  }

  for (let step = 0; step < STEPS; step++) {
    const client = driver.pick(clients);
    switch (random.integer(12)) {
      case 0:
        await driver.restart();
        break;
      case 1:
        // The answer gets lost.
        await client.ask();
        break;
      case 2: {
        // Nothing is left to tell, so that it waits for what comes.
        await client.apply(await client.ask());
        const poll = client.ask(30_000);
        await turn();
        expect(driver.notifier.waiting).toBe(1);
        await driver.act();
        await turn();
        while (driver.notifier.waiting > 0) {
          driver.clock.step();
          await turn();
        }
        await client.apply(await poll);
        // Whoever sends something stops typing it just behind.
        await client.apply(await client.ask());
        await check(client);
        break;
      }
      case 3:
      case 4:
        await client.apply(await client.ask());
        await check(client);
        break;
      default:
        await driver.act();
    }
  }
  for (const client of clients) {
    await client.apply(await client.ask());
    await check(client);
    for (const room of driver.driven) expectTimeline(driver, client, room, seed);
  }
  const { forks: forked, resolutions } = driver.rooms.counters;
  const counts = { ...driver.counts, gaps: 0, pages: 0, syncs: 0, ephemeral: 0, forks: forked, resolutions };
  for (const client of clients) {
    counts.gaps += client.counts.gaps;
    counts.pages += client.counts.pages;
    counts.syncs += client.counts.syncs;
    counts.ephemeral += client.counts.ephemeral;
  }
  return counts;
}

/** Compares what a client that is in a room knows of it besides its events with what the driver did. */
function expectBesides(driver: Driver, client: ModelClient, room: DrivenRoom, seed: number): void {
  const known = client.rooms.get(room.id)!;
  const expected = driver.besides.known(room, client.user);
  const about = `seed ${seed}: what ${client.user} knows of ${room.id}`;
  expect(Object.fromEntries(known.receipts), about).toEqual(expected.receipts);
  expect(known.typing, about).toEqual(client.wantsTyping ? expected.typing : []);
  expect(Object.fromEntries(known.data), about).toEqual(expected.data);
}

/** Compares everything that a client was shown of a room with what the driver did there. */
function expectTimeline(driver: Driver, client: ModelClient, room: DrivenRoom, seed: number): void {
  const made = new Set(room.made.map((event) => event.event_id));
  const shown = client.rooms.get(room.id)?.timeline ?? [];
  const about = `seed ${seed}: what ${client.user} was shown of a ${room.visibility} room`;
  const ignored = driver.besides.ignored.get(client.user);
  const expected = driver.visible(
    room,
    client.user,
    ({ type, stateKey, sender }) =>
      !client.notTypes.includes(type) && (stateKey !== undefined || sender !== ignored),
  );
  // Somebody whose first sync came after they had left was never shown the room.
  const never = shown.length === 0 && room.members.get(client.user) !== 'join';
  if (never) return;
  const ofCreation = shown.filter((event) => made.has(event.event_id));
  expect(shown.slice(0, ofCreation.length), about).toEqual(ofCreation);
  if (room.visibility === 'shared' || client.user === CREATOR)
    expect(ofCreation.length, about).toBe(made.size);
  const outside = (event: (typeof shown)[number], at: number): boolean => {
    if (event.type !== 'm.room.member' || event.state_key !== client.user) return false;
    const before = shown
      .slice(0, at)
      .findLast((each) => each.type === 'm.room.member' && each.state_key === client.user);
    return event.content.membership !== 'join' && before?.content.membership !== 'join';
  };
  const marks = shown.filter((event, at) => !made.has(event.event_id) && !outside(event, at)).map(markOf);
  // Who is invited again in the same stretch in which they left is told of the invite only. The rest comes, with the
  // gap, when they join.
  const maybeCut = client.rooms.get(room.id)?.invitedSince === true;
  expect(marks, about).toEqual(maybeCut ? expected.slice(0, marks.length) : expected);
}

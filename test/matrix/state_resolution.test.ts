import { describe, expect, it } from 'vitest';
import type { EventId } from '../../src/matrix/ids.ts';
import { type Event, type StateMap, stateKey } from '../../src/matrix/pdu.ts';
import {
  MAX_BATCH,
  MAX_RESOLUTION_EVENTS,
  ResolutionTooLarge,
  type ResolvedEvent,
  resolveState,
} from '../../src/matrix/state_resolution.ts';
import { createEvent, drive, makeEvent, sorted, TestRoom, user, v12 } from './rooms.ts';
import { resolveStateLiteral } from './state_resolution_literal.ts';

const [alice, bob, carol, dave] = [user('alice'), user('bob'), user('carol'), user('dave')];

/** Alice's public room with Bob and Carol at 50; Dave is a member. Returns the room and its one tip. */
function publicRoom(creators: readonly string[] = []): { room: TestRoom; tip: Event } {
  const room = new TestRoom(createEvent({ additional_creators: [...creators] }));
  let tip = room.member([room.create], alice, alice, 'join');
  tip = room.state([tip], alice, 'm.room.power_levels', {
    users: { [bob]: 50, [carol]: 50 },
    state_default: 0,
  });
  tip = room.state([tip], alice, 'm.room.join_rules', { join_rule: 'public' });
  for (const person of [bob, carol, dave]) tip = room.member([tip], person, person, 'join');
  return { room, tip };
}

/** Resolves what two tips left behind, and checks it against the literal algorithm. */
function merge(room: TestRoom, ...tips: readonly Event[]): StateMap {
  const sets = tips.map(({ id }) => room.stateAfter.get(id)!);
  const resolved = room.resolve(sets);
  expect(sorted(resolved)).toEqual(sorted(resolveStateLiteral(sets, room.events, room.create, room.version)));
  return resolved;
}

describe('two branches meet', () => {
  //        ban(dave) by bob
  //       /                \
  //  tip                    ?
  //       \                /
  //        topic by dave, earlier on his clock
  it('a ban beats what the banned user sent beside it, whatever the clocks say', () => {
    const { room, tip } = publicRoom();
    const topic = room.state([tip], dave, 'm.room.topic', { topic: "dave's" }, 1);
    const ban = room.member([tip], bob, dave, 'ban', 9_999);
    const state = merge(room, ban, topic);
    expect(room.at(state, 'm.room.member', dave)).toBe(ban);
    expect(room.at(state, 'm.room.topic', '')).toBeUndefined();
  });

  //        power_levels by alice: bob 0          (the creator: infinite power)
  //       /                              \
  //  tip                                  ?
  //       \                              /
  //        ban(dave) by bob, earlier
  it('a creator who takes power away goes before what was done with it, however early that claims to be', () => {
    const { room, tip } = publicRoom();
    const ban = room.member([tip], bob, dave, 'ban', 1);
    const demotion = room.state(
      [tip],
      alice,
      'm.room.power_levels',
      { users: { [carol]: 50 }, state_default: 0 },
      9_999,
    );
    const state = merge(room, ban, demotion);
    expect(room.at(state, 'm.room.power_levels', '')).toBe(demotion);
    expect(room.at(state, 'm.room.member', dave)?.pdu.content.membership).toBe('join');
  });

  //        ban(carol) by alice, at 10
  //       /                          \
  //  tip (bob 60, carol 61)           ?
  //       \                          /
  //        ban(bob) by carol, at 5
  it('the ban of the more powerful goes first, so that who it hits has banned nobody', () => {
    const { room, tip } = publicRoom();
    const users = { [bob]: 60, [carol]: 61 };
    const raised = room.state([tip], alice, 'm.room.power_levels', { users, state_default: 0 });
    const bansCarol = room.member([raised], alice, carol, 'ban', 10);
    const bansBob = room.member([raised], carol, bob, 'ban', 5);
    const state = merge(room, bansCarol, bansBob);
    expect(room.at(state, 'm.room.member', carol)).toBe(bansCarol);
    expect(room.at(state, 'm.room.member', bob)?.pdu.content.membership).toBe('join');
  });

  //        topic A by bob, at 20
  //       /              \
  //  tip                  ?
  //       \              /
  //        topic B by carol, at 10
  it('of two topics sent under the same power levels the later by the clock stays', () => {
    const { room, tip } = publicRoom();
    const a = room.state([tip], bob, 'm.room.topic', { topic: 'A' }, 20);
    const b = room.state([tip], carol, 'm.room.topic', { topic: 'B' }, 10);
    expect(room.at(merge(room, a, b), 'm.room.topic', '')).toBe(a);
  });

  //        power_levels -> topic A, at 1
  //       /                             \
  //  tip                                 ?
  //       \                             /
  //        topic B, at 9999
  it('a topic sent under later power levels stays, though its clock is behind', () => {
    const { room, tip } = publicRoom();
    const power = room.state([tip], alice, 'm.room.power_levels', { users: { [bob]: 50 }, state_default: 0 });
    const a = room.state([power], bob, 'm.room.topic', { topic: 'A' }, 1);
    const b = room.state([tip], carol, 'm.room.topic', { topic: 'B' }, 9_999);
    expect(room.at(merge(room, a, b), 'm.room.topic', '')).toBe(a);
  });

  //        join_rules invite by alice
  //       /                          \
  //  tip                              ?
  //       \                          /
  //        join by eve, earlier
  it('closing the door keeps out who came in beside it', () => {
    const { room, tip } = publicRoom();
    const eve = user('eve');
    const join = room.member([tip], eve, eve, 'join', 1);
    const closed = room.state([tip], alice, 'm.room.join_rules', { join_rule: 'invite' }, 9_999);
    const state = merge(room, join, closed);
    expect(room.at(state, 'm.room.join_rules', '')).toBe(closed);
    expect(room.at(state, 'm.room.member', eve)).toBeUndefined();
  });

  //        power_levels by dave, an additional creator: bob 0
  //       /                                             \
  //  tip                                                 ?
  //       \                                             /
  //        ban(carol) by bob, earlier
  it('an additional creator is as powerful as the creator', () => {
    const outcome = (creators: readonly string[]): unknown => {
      const { room, tip } = publicRoom(creators);
      const raised = room.state([tip], alice, 'm.room.power_levels', {
        users: { [bob]: 60, [carol]: 50 },
        state_default: 0,
      });
      const ban = room.member([raised], bob, carol, 'ban', 1);
      const demotion = room.state([raised], dave, 'm.room.power_levels', { users: { [carol]: 50 } }, 9_999);
      return room.at(merge(room, ban, demotion), 'm.room.member', carol)?.pdu.content.membership;
    };
    expect(outcome([dave])).toBe('join');
    expect(outcome([])).toBe('ban');
  });
});

describe('what 2.1 changed', () => {
  //  tip <- power1 <- power2 <- ... , and a server that claims to be still before `power1`
  it('a state that has gone back in time is brought forward by the conflicted state subgraph', () => {
    const { room, tip } = publicRoom();
    const old = room.stateAfter.get(tip.id)!;
    let at = tip;
    for (let level = 51; level < 56; level++) {
      at = room.state([at], alice, 'm.room.power_levels', { users: { [bob]: level }, state_default: 0 });
    }
    const topic = room.state([at], bob, 'm.room.topic', { topic: 'new' });
    const sets = [old, room.stateAfter.get(topic.id)!];
    expect(room.at(room.resolve(sets), 'm.room.power_levels', '')).toBe(at);
    expect(sorted(room.resolve(sets))).toEqual(sorted(room.stateAfter.get(topic.id)!));
  });

  it('starts from nothing: an unconflicted ban does not stop the replay, and yet is what stays', () => {
    const { room, tip } = publicRoom();
    const topic = room.state([tip], dave, 'm.room.topic', { topic: 'before the ban' });
    const banned = room.member([topic], bob, dave, 'ban');
    const without = new Map(room.stateAfter.get(banned.id)!);
    without.delete(stateKey('m.room.topic', ''));
    const state = room.resolve([room.stateAfter.get(banned.id)!, without]);
    expect(room.at(state, 'm.room.topic', '')).toBe(topic);
    expect(room.at(state, 'm.room.member', dave)).toBe(banned);
  });
});

describe('the generator', () => {
  const answerless = (sets: readonly StateMap[]): number => {
    let asked = 0;
    drive(
      (function* () {
        const resolution = resolveState(sets, v12);
        let step = resolution.next();
        while (!step.done) {
          asked += step.value.length;
          step = resolution.next(yield step.value);
        }
        return step.value;
      })(),
      new Map(),
    );
    return asked;
  };

  it('asks for nothing where there is nothing to resolve', () => {
    const { room, tip } = publicRoom();
    const state = room.stateAfter.get(tip.id)!;
    expect(answerless([])).toBe(0);
    expect(answerless([state])).toBe(0);
    expect(answerless([state, new Map([...state].reverse()), state])).toBe(0);
  });

  it('does without events that do not exist, but keeps what all sets agree on', () => {
    const { room, tip } = publicRoom();
    const state = room.stateAfter.get(tip.id)!;
    const key = stateKey('m.room.topic', '');
    const lost = new Map(state).set(key, '$lost' as EventId);
    expect(sorted(room.resolve([state, lost]))).toEqual(sorted(state));
    expect(room.resolve([lost, lost]).get(key)).toBe('$lost');
    const topic = room.state([tip], bob, 'm.room.topic', {});
    expect(room.resolve([lost, room.stateAfter.get(topic.id)!]).get(key)).toBe(topic.id);
  });

  it('lets nothing conflicted in where the create event was rejected', () => {
    const { room, tip } = publicRoom();
    const topic = room.state([tip], bob, 'm.room.topic', {});
    room.events.set(room.create.id, { event: room.create, rejected: true });
    const before = room.stateAfter.get(tip.id)!;
    expect(sorted(room.resolve([before, room.stateAfter.get(topic.id)!]))).toEqual(sorted(before));
  });

  it('reads a long history in bounded batches and gives up at a bound', () => {
    const room = new TestRoom();
    const chain = (length: number): StateMap[] => {
      let last: EventId | undefined;
      for (let i = 0; i < length; i++) {
        const fields = {
          type: 'm.room.power_levels',
          state_key: '',
          room_id: room.create.room,
          origin_server_ts: i,
        };
        const event = makeEvent({ ...fields, content: {}, auth_events: last === undefined ? [] : [last] });
        room.events.set(event.id, { event, rejected: false } satisfies ResolvedEvent);
        last = event.id;
      }
      return [new Map(), new Map([[stateKey('m.room.power_levels', ''), last!]])];
    };
    expect(() => room.resolve(chain(3_000))).not.toThrow();
    const many = Array.from(
      { length: 2 * MAX_BATCH + 1 },
      (_, i) => [stateKey('x', String(i)), `$${i}` as EventId] as const,
    );
    expect(room.resolve([new Map(many), new Map()]).size).toBe(0);
    const tooMany = Array.from(
      { length: MAX_RESOLUTION_EVENTS + 1 },
      (_, i) => [stateKey('x', String(i)), `$${i}` as EventId] as const,
    );
    expect(() => room.resolve([new Map(tooMany), new Map()])).toThrow(ResolutionTooLarge);
  });
});

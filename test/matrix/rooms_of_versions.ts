import { authorise } from '../../src/matrix/event_auth.ts';
import type { EventId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { type Event, type Pdu, stateKey } from '../../src/matrix/pdu.ts';
import type { RoomVersion } from '../../src/matrix/room_version.ts';
import { createEvent, makeEvent, user, VERSIONS } from './rooms.ts';

const [alice, bob] = [user('alice'), user('bob')];

/** The versions of which something is so, as the feature matrix and the texts have it. */
export const having = (has: (version: RoomVersion) => boolean): string =>
  VERSIONS.filter(has)
    .map(({ id }) => id)
    .join(' ');

/** 'allowed', or the rule that rejected the event in a room of a version. */
export function verdict(
  version: RoomVersion,
  event: Event,
  create: Event,
  ...state: readonly Event[]
): string {
  const places = new Map(state.map((held) => [stateKey(held.pdu.type, held.pdu.state_key!), held]));
  const context = { create, state: (type: string, key: string) => places.get(stateKey(type, key)) };
  const result = authorise(event, context, version);
  return result.ok ? 'allowed' : result.problem.rule;
}

/** A room of Alice's in a version, and events in it. */
export function roomOf(version: RoomVersion) {
  const create = createEvent({}, alice, version);
  let number = 0;
  const event = (fields: Partial<Pdu>): Event => {
    const id = version.eventIds === 'stated' && { event_id: `$${number++}:alice.example` as EventId };
    return makeEvent({ room_id: create.room, ...id, ...fields }, version);
  };
  const member = (
    target: Pdu['sender'],
    membership: string,
    content: JsonObject = {},
    sender = target,
  ): Event =>
    event({ type: 'm.room.member', sender, state_key: target, content: { membership, ...content } });
  const state = (type: string, content: JsonObject, sender = alice, key = ''): Event =>
    event({ type, content, sender, state_key: key });
  return { create, event, member, state, in: [member(alice, 'join'), member(bob, 'join')] };
}

/** The versions in which something is allowed, and the rules that reject it in the others. */
export function judged(
  judge: (room: ReturnType<typeof roomOf>, version: RoomVersion) => string,
): Record<string, string> {
  const outcomes: Record<string, string[]> = {};
  for (const version of VERSIONS) {
    const outcome = judge(roomOf(version), version);
    outcomes[outcome] = [...(outcomes[outcome] ?? []), version.id];
  }
  return Object.fromEntries(Object.entries(outcomes).map(([outcome, ids]) => [outcome, ids.join(' ')]));
}
export const ALL = '1 2 3 4 5 6 7 8 9 10 11 12';

import { type AuthState, type AuthVerdict, allow, reject } from './auth_verdict.ts';
import { authoriseMember } from './event_auth_member.ts';
import { authorisePowerLevels } from './event_auth_power_levels.ts';
import { type EventId, parseUserId, serverOf } from './ids.ts';
import { isJsonObject, own } from './json.ts';
import { authEvents as authEventIds, type Event, type Pdu, type StateKey, stateKey } from './pdu.ts';
import { powerLevels } from './power_levels.ts';
import { ROOM_VERSIONS, type RoomVersion } from './room_version.ts';

/*
 * The authorisation rules of every room version (room versions, "Authorisation rules"). The number of its rule stands at
 * every branch and in every failure (see AuthFailure). An event is checked several times: `checkAuthEvents` once against
 * its auth events, then `authorise` against the state that these make, the state before the event, the current state,
 * and whatever state resolution has come to.
 */

// This file is the door to the rules: what their callers name comes from here.
export type { AuthFailure, AuthVerdict } from './auth_verdict.ts';
export { creatorsOf, type PowerLevels, powerLevels } from './power_levels.ts';

const CREATE = stateKey('m.room.create', '');

/** The state that an event is checked against. */
export interface AuthContext {
  /** The accepted create event of the room: in versions whose room id is not its id, that of the state. */
  readonly create: Event | undefined;
  state(type: string, key: string): Event | undefined;
}

/**
 * The places in the room's state from which an event's `auth_events` are taken, where they are filled (server-server
 * API, "Auth events selection"). Every place that `authorise` may look at is among them; the create event up to room
 * version 11, since from 12 on the room id implies it.
 */
export function authEventKeys(
  event: Pick<Pdu, 'type' | 'sender' | 'state_key' | 'content'>,
  version: RoomVersion,
): StateKey[] {
  if (event.type === 'm.room.create') return [];
  const keys = new Set(version.roomIsCreateEvent ? [] : [CREATE]);
  keys.add(stateKey('m.room.power_levels', '')).add(stateKey('m.room.member', event.sender));
  if (event.type === 'm.room.member') {
    const membership = own(event.content, 'membership');
    if (event.state_key !== undefined) keys.add(stateKey('m.room.member', event.state_key));
    if (membership === 'join' || membership === 'invite' || membership === 'knock') {
      keys.add(stateKey('m.room.join_rules', ''));
    }
    const token = membership === 'invite' ? thirdPartyToken(event.content) : undefined;
    if (token !== undefined) keys.add(stateKey('m.room.third_party_invite', token));
    const authoriser = own(event.content, 'join_authorised_via_users_server');
    if (membership === 'join' && version.restrictedJoins && typeof authoriser === 'string') {
      keys.add(stateKey('m.room.member', authoriser));
    }
  }
  return [...keys];
}

/** Rule 3: the events that an event names in `auth_events`, each with whether it was rejected. */
export function checkAuthEvents(
  event: Event,
  authEvents: readonly { readonly event: Event; readonly rejected: boolean }[],
  version: RoomVersion,
): AuthVerdict {
  // Rule 1.5 allows a create event before rule 3 is reached.
  if (event.pdu.type === 'm.room.create') return allow;
  const allowed = new Set(authEventKeys(event.pdu, version));
  const places = authEvents.map(({ event: { pdu } }) =>
    pdu.state_key === undefined ? undefined : stateKey(pdu.type, pdu.state_key),
  );
  // The ids too: whoever looked the events up may have dropped a repetition.
  const ids = authEventIds(event.pdu);
  if (new Set(places).size < places.length || new Set(ids).size < ids.length) {
    return reject('3.1', 'two auth events are for the same type and state key');
  }
  if (places.some((place) => place === undefined || !allowed.has(place))) {
    return reject('3.2', 'an auth event is not one that is selected for this event');
  }
  if (authEvents.some(({ rejected }) => rejected)) return reject('3.3', 'an auth event was rejected');
  if (!version.roomIsCreateEvent && !places.includes(CREATE)) {
    return reject('v1 2.4', 'no auth event is the m.room.create event');
  }
  if (authEvents.some((auth) => auth.event.room !== event.room)) {
    return reject('3.5', 'an auth event belongs to another room');
  }
  return allow;
}

/**
 * Every rule but 3, against a state. Signatures by servers must have been verified (`requiredSigners`), and `version` is
 * the room's.
 */
export function authorise(event: Event, context: AuthContext, version: RoomVersion): AuthVerdict {
  const { pdu } = event;
  if (pdu.type === 'm.room.create') return authoriseCreate(pdu, version);
  const { create } = context;
  // Before version 12 what is checked against no create event has none among its auth events.
  if (create === undefined || pdu.room_id !== create.room) {
    return reject('2', 'the room id is not that of an accepted create event');
  }
  if (
    own(create.pdu.content, 'm.federate') === false &&
    serverOf(pdu.sender) !== serverOf(create.pdu.sender)
  ) {
    return reject('4', 'the room is not federated and the sender is on another server');
  }
  if (version.aliasesRule && pdu.type === 'm.room.aliases') return authoriseAliases(pdu);
  const state = authState(create, context, version);
  if (pdu.type === 'm.room.member') return authoriseMember(pdu, state, version);
  if (state.membership(pdu.sender) !== 'join') return reject('6', 'the sender is not joined');
  const senderLevel = state.levels.user(pdu.sender);
  if (pdu.type === 'm.room.third_party_invite') {
    return senderLevel >= state.levels.invite ? allow : reject('7.1', 'the sender may not invite');
  }
  if (state.levels.event(pdu.type, pdu.state_key !== undefined) > senderLevel) {
    return reject('8', `the sender's power level is too low for ${pdu.type}`);
  }
  if (pdu.state_key?.startsWith('@') && pdu.state_key !== pdu.sender) {
    return reject('9', 'the state key is another user');
  }
  if (pdu.type === 'm.room.power_levels') return authorisePowerLevels(pdu, state, version);
  if (version.redactionRule && pdu.type === 'm.room.redaction') return authoriseRedaction(event, state);
  return allow; // 11
}

function authoriseCreate(pdu: Pdu, version: RoomVersion): AuthVerdict {
  const { content } = pdu;
  if (pdu.prev_events.length > 0) return reject('1.1', 'a create event has no previous events');
  if (version.roomIsCreateEvent) {
    if (pdu.room_id !== undefined) return reject('1.2', 'a create event has no room_id');
  } else if (pdu.room_id === undefined || serverOf(pdu.room_id) !== serverOf(pdu.sender)) {
    return reject('v1 1.2', "the domain of the room id is not the sender's");
  }
  if (Object.hasOwn(content, 'room_version')) {
    const stated = own(content, 'room_version');
    if (typeof stated !== 'string' || !ROOM_VERSIONS.has(stated)) {
      return reject('1.3', 'the room version is not one that is known');
    }
  }
  if (version.creators === 'content' && !Object.hasOwn(content, 'creator')) {
    return reject('v1 1.4', 'a create event has a creator');
  }
  const additional = version.creators === 'additional' ? own(content, 'additional_creators') : undefined;
  if (additional !== undefined) {
    const valid =
      Array.isArray(additional) &&
      additional.every((user) => typeof user === 'string' && parseUserId(user).ok);
    if (!valid) return reject('1.4', 'additional_creators is not a list of user ids');
  }
  return allow; // 1.5
}

/** Rule 4 of room versions 1 to 5. */
function authoriseAliases(pdu: Pdu): AuthVerdict {
  if (pdu.state_key === undefined) return reject('v1 4.1', 'm.room.aliases has no state key');
  if (pdu.state_key !== serverOf(pdu.sender))
    return reject('v1 4.2', "the state key is not the sender's server");
  return allow; // v1 4.3
}

/** Rule 11 of room versions 1 and 2. */
function authoriseRedaction(event: Event, { levels }: AuthState): AuthVerdict {
  if (levels.user(event.pdu.sender) >= levels.redact) return allow; // v1 11.1
  const [redacted, domain] = [event.pdu.redacts, serverOf(event.id)];
  // Every event id here has a domain; what is no event id names no event.
  if (typeof redacted === 'string' && serverOf(redacted as EventId) === domain) return allow; // v1 11.2
  return reject('v1 11.3', 'the sender may not redact events of other servers');
}

function authState(create: Event, context: AuthContext, version: RoomVersion): AuthState {
  const power = context.state('m.room.power_levels', '');
  return {
    create,
    power,
    levels: powerLevels(create, power, version),
    membership: (user) => textOf(context.state('m.room.member', user), 'membership') ?? 'leave',
    // Without join rules nobody joins uninvited.
    joinRule: () => textOf(context.state('m.room.join_rules', ''), 'join_rule') ?? 'invite',
    thirdPartyInvite: (token) => context.state('m.room.third_party_invite', token),
  };
}

function textOf(event: Event | undefined, key: string): string | undefined {
  const value = event === undefined ? undefined : own(event.pdu.content, key);
  return typeof value === 'string' ? value : undefined;
}

function thirdPartyToken(content: Pdu['content']): string | undefined {
  const invite = own(content, 'third_party_invite');
  const signed = isJsonObject(invite) ? own(invite, 'signed') : undefined;
  const token = isJsonObject(signed) ? own(signed, 'token') : undefined;
  return typeof token === 'string' ? token : undefined;
}

import { assert } from '../base/assert.ts';
import type { JsonObject } from './json.ts';
import { type Event, type StateKey, stateKey } from './pdu.ts';

/**
 * The places in a room's state of which an invited or knocking user is told (client-server API, "Stripped state").
 * Clients get `strippedEvent`; other servers get the whole PDUs, among which that of m.room.create must be
 * (server-server API, "Inviting to a room").
 */
export const STRIPPED_STATE: readonly StateKey[] = [
  stateKey('m.room.create', ''),
  stateKey('m.room.name', ''),
  stateKey('m.room.avatar', ''),
  stateKey('m.room.topic', ''),
  stateKey('m.room.join_rules', ''),
  stateKey('m.room.canonical_alias', ''),
  stateKey('m.room.encryption', ''),
];

/** A state event as clients get it before they are in the room. */
export function strippedEvent(event: Event): JsonObject {
  const { type, sender, state_key, content } = event.pdu;
  assert(state_key !== undefined, 'stripped state is of state events');
  return { type, sender, state_key, content };
}

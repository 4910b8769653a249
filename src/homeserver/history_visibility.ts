import { isJsonObject, own } from '../matrix/json.ts';

/** What m.room.history_visibility can say. */
export type HistoryVisibility = 'world_readable' | 'shared' | 'invited' | 'joined';

/** What the state at one point of the DAG says to one user. */
export interface Viewpoint {
  readonly visibility: HistoryVisibility;
  /** The user's own membership; 'leave' where there is none. */
  readonly membership: string;
}

/** An event as far as it matters who may see it. */
export interface EventInView {
  /** The state before the event, and the state after it. */
  readonly before: Viewpoint;
  readonly after: Viewpoint;
  /** Whether it is the user's own membership, the room's history visibility, or anything else. */
  readonly kind: 'own_membership' | 'history_visibility' | 'other';
  /** Whether it came before the user last stopped being in the room, or they are in it now. */
  readonly beforeDeparture: boolean;
}

/**
 * Whether a user may see an event (client-server API, "Room History Visibility", "Server behaviour", 1 to 5). Pure: the
 * caller finds out what the states say.
 *
 * Somebody who has left sees nothing that was received later but what everybody may see, even where it was sent on a
 * branch of the DAG on which they were still there.
 */
export function maySeeEvent(event: EventInView): boolean {
  if (maySeeAt(event.before, event.beforeDeparture)) return true;
  return event.kind !== 'other' && maySeeAt(event.after, event.beforeDeparture);
}

function maySeeAt({ visibility, membership }: Viewpoint, beforeDeparture: boolean): boolean {
  // Rule 1.
  if (visibility === 'world_readable') return true;
  // Rules 2 and 3: whoever has been in the room and had not left it for good before the event joined before or after it.
  if (membership === 'join' || visibility === 'shared') return beforeDeparture;
  // Rules 4 and 5.
  return membership === 'invite' && visibility === 'invited';
}

/** What the memberships of a server's users and the setting at an event say about that server. */
export interface ServerView {
  readonly visibility: HistoryVisibility;
  /** The memberships that users of the server have before or after the event. */
  readonly memberships: ReadonlySet<string>;
}

/** Whether a server in the room may have an event as it is, for one of its users: rules 1 to 5 for any of them. */
export function mayServerSeeEvent({ visibility, memberships }: ServerView): boolean {
  if (visibility === 'world_readable' || visibility === 'shared' || memberships.has('join')) return true;
  return visibility === 'invited' && memberships.has('invite');
}

/** What the content of an m.room.history_visibility event sets; what is absent or not understood is `shared`. */
export function historyVisibilityIn(content: unknown): HistoryVisibility {
  const value = isJsonObject(content) ? own(content, 'history_visibility') : undefined;
  return value === 'world_readable' || value === 'invited' || value === 'joined' ? value : 'shared';
}

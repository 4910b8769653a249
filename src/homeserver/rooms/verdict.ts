import type { AuthFailure, AuthVerdict } from '../../matrix/auth_verdict.ts';
import { type AuthContext, authEventKeys, authorise, checkAuthEvents } from '../../matrix/event_auth.ts';
import type { EventId } from '../../matrix/ids.ts';
import type { Event } from '../../matrix/pdu.ts';
import { stateKey } from '../../matrix/pdu.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import type { ResolvedEvent } from '../../matrix/state_resolution.ts';
import type { RejectedBy } from '../../storage/events.ts';
import type { RoomState } from './room_state.ts';

/** What the checks on receipt 4 to 6 came to. */
export type Verdict =
  | { readonly status: 'timeline' }
  | { readonly status: 'soft_failed'; readonly reason: string }
  | { readonly status: 'rejected'; readonly by: RejectedBy; readonly reason: string };

export const ACCEPTED: Verdict = { status: 'timeline' };

/** Where events are found by id: committed ones, and those that are about to be. */
export interface EventSource {
  find(ids: Iterable<EventId>): Promise<ReadonlyMap<EventId, ResolvedEvent>>;
}

/** A room as far as authorisation goes. */
export interface AuthorisedRoom extends EventSource {
  readonly version: RoomVersion;
  readonly create: Event;
  /** The state that holds now. */
  readonly current: RoomState;
}

const describe = ({ rule, reason }: AuthFailure): string => `${reason} (rule ${rule})`;

/** Authorises an event by a state of its room. */
export async function authoriseBy(
  room: AuthorisedRoom,
  event: Event,
  state: RoomState,
): Promise<AuthVerdict> {
  const ids = new Map(
    authEventKeys(event.pdu, room.version).flatMap((place) => {
      const id = state.map.get(place);
      return id === undefined ? [] : [[place, id] as const];
    }),
  );
  const events = await room.find(ids.values());
  const context: AuthContext = {
    create: room.create,
    state: (type, key) => {
      const id = ids.get(stateKey(type, key));
      return id === undefined ? undefined : events.get(id)?.event;
    },
  };
  return authorise(event, context, room.version);
}

/**
 * Check 4: authorises an event by its own auth events, all of which are in `authEvents`.
 * @returns why it is to be rejected, or undefined
 */
export function authEventsProblem(
  event: Event,
  create: Event | undefined,
  authEvents: readonly ResolvedEvent[],
  version: RoomVersion,
): string | undefined {
  const checked = checkAuthEvents(event, authEvents, version);
  if (!checked.ok) return describe(checked.problem);
  const state = new Map(
    authEvents.map(({ event: auth }) => [stateKey(auth.pdu.type, auth.pdu.state_key ?? ''), auth]),
  );
  const authorised = authorise(
    event,
    { create, state: (type, key) => state.get(stateKey(type, key)) },
    version,
  );
  return authorised.ok ? undefined : describe(authorised.problem);
}

/**
 * The checks 4 to 6 of "Checks performed on receipt of a PDU" (server-server API), in their order.
 * @param authEvents all of the event's auth events
 */
export async function judge(
  room: AuthorisedRoom,
  event: Event,
  authEvents: readonly ResolvedEvent[],
  before: RoomState,
): Promise<Verdict> {
  const problem = authEventsProblem(event, room.create, authEvents, room.version);
  if (problem !== undefined) return { status: 'rejected', by: 'auth_events', reason: problem };
  const then = await authoriseBy(room, event, before);
  if (!then.ok) return { status: 'rejected', by: 'state', reason: describe(then.problem) };
  if (before === room.current) return ACCEPTED;
  const now = await authoriseBy(room, event, room.current);
  return now.ok ? ACCEPTED : { status: 'soft_failed', reason: describe(now.problem) };
}

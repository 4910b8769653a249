import { unknownError } from '../../matrix/error.ts';
import { createEventOf } from '../../matrix/hashes.ts';
import type { EventId, RoomId, UserId } from '../../matrix/ids.ts';
import { authEvents as authEventIds, type Event, type StateKey, stateKey } from '../../matrix/pdu.ts';
import { type RoomVersion, roomVersion } from '../../matrix/room_version.ts';
import type { ResolvedEvent } from '../../matrix/state_resolution.ts';
import { type Done, notNoted } from '../once.ts';
import type { RemoteJoin } from '../ports.ts';
import type { StateBefore } from './federated_rooms.ts';
import type { RoomDraft } from './room_draft.ts';
import { RoomState } from './room_state.ts';
import type { RoomWriter } from './room_writer.ts';
import { authEventsProblem, judge } from './verdict.ts';

/** How many events another server's answer may hold. */
const MAX_GIVEN_EVENTS = 200_000;

/** Takes the state of rooms from other servers' answers. */
export class RoomImport {
  readonly #writer: RoomWriter;

  constructor(writer: RoomWriter) {
    this.#writer = writer;
  }

  /**
   * Stores what a join through another server brought: the create event, the auth chain and the state, each
   * authorised by its auth events, then the join on top of that state, as the only end of the room.
   * @throws MatrixError M_UNKNOWN 502 where the answer does not hold a room in which the join stands
   */
  async take(room: RoomId, user: UserId, joined: RemoteJoin, done: Done<EventId> = notNoted): Promise<void> {
    const version = roomVersion(joined.roomVersion);
    const { join } = joined;
    const isJoin =
      join.room === room &&
      join.pdu.type === 'm.room.member' &&
      join.pdu.state_key === user &&
      join.pdu.content.membership === 'join';
    if (version === undefined || !isJoin) throw badAnswer('its join event is not what was asked for');
    await this.#writer.locked(room, async () => {
      const draft = (await this.#writer.open(room)) ?? this.#begin(room, version, joined);
      const before = RoomState.complete(await addGivenState(draft, joined));
      if (before.get('m.room.create', '') !== draft.create.id)
        throw badAnswer('its state has no create event');
      const authEvents = await allOf(draft, authEventIds(join.pdu));
      if (authEvents === undefined) throw badAnswer('auth events of the join are missing');
      const known = (await draft.find([join.id])).get(join.id);
      if (known !== undefined && known.event.room !== room)
        throw badAnswer('its join event has the id of an event of another room');
      draft.comeIn(join);
      // There is no other current state to check it against.
      const verdict = await judge({ ...authorisedBy(draft), current: before }, join, authEvents, before);
      if (verdict.status !== 'timeline') throw badAnswer(`the join is not allowed: ${verdict.reason}`);
      await draft.add(join, before, verdict, { origin: 'received' });
      await this.#writer.commit(draft, (tx) => done(tx, join.id));
    });
  }

  #begin(room: RoomId, version: RoomVersion, given: StateBefore): RoomDraft {
    const isCreate = ({ id, room: of, pdu }: Event): boolean =>
      version.roomIsCreateEvent
        ? id === createEventOf(room)
        : of === room && pdu.type === 'm.room.create' && pdu.state_key === '';
    const create = [...given.state, ...given.authChain].find(isCreate);
    if (create === undefined) throw badAnswer('the create event is missing');
    const problem = authEventsProblem(create, undefined, [], version);
    if (problem !== undefined) throw badAnswer(`the create event is not allowed: ${problem}`);
    return this.#writer.begin(create, version);
  }
}

/** What a draft's events are authorised by, less what it says of the room now. */
export const authorisedBy = (draft: RoomDraft) => ({
  version: draft.version,
  create: draft.create,
  find: (ids: Iterable<EventId>) => draft.find(ids),
});

const badAnswer = (reason: string) =>
  unknownError(502, `The other server's answer cannot be used: ${reason}`);

/** All of these events, or undefined where one is not known. */
export async function allOf(draft: RoomDraft, ids: readonly EventId[]): Promise<ResolvedEvent[] | undefined> {
  const distinct = new Set(ids);
  const found = await draft.find(distinct);
  return found.size === distinct.size ? [...found.values()] : undefined;
}

/**
 * Adds the events of a state that another server gave, and their auth chain, to a draft: those that are not known, as
 * state or auth events, each authorised by its auth events, which come first. What has auth events that are not known
 * is left out.
 * @returns the state, less what was left out or rejected by its auth events
 */
export async function addGivenState(draft: RoomDraft, given: StateBefore): Promise<Map<StateKey, EventId>> {
  if (given.state.length + given.authChain.length > MAX_GIVEN_EVENTS) throw badAnswer('it is too large');
  const events = new Map<EventId, Event>();
  for (const event of [...given.authChain, ...given.state]) {
    if (event.room === draft.room) events.set(event.id, event);
  }
  const known = new Map(await draft.find(events.keys()));
  // Room versions 1 and 2 let a server choose its events' ids: one that another room's event has is none of this room.
  for (const [id, { event }] of known) {
    if (event.room === draft.room) continue;
    events.delete(id);
    known.delete(id);
  }
  // What the state before it rejected takes part in resolution (rooms/v12, "Rejected events").
  const usable = new Set(
    [...known].flatMap(([id, { rejectedBy }]) => (rejectedBy === 'auth_events' ? [] : [id])),
  );
  for (const event of authOrder(events)) {
    if (known.has(event.id)) continue;
    const authEvents = await allOf(draft, authEventIds(event.pdu));
    if (authEvents === undefined) continue;
    const problem = authEventsProblem(event, draft.create, authEvents, draft.version);
    draft.addOutlier(event, problem !== undefined);
    if (problem === undefined) usable.add(event.id);
  }
  const state = new Map<StateKey, EventId>();
  for (const { id, pdu } of given.state) {
    if (usable.has(id) && pdu.state_key !== undefined) state.set(stateKey(pdu.type, pdu.state_key), id);
  }
  return state;
}

/** The events, each after those of its auth events that are among them. */
function authOrder(events: ReadonlyMap<EventId, Event>): Event[] {
  const ordered: Event[] = [];
  const seen = new Set<EventId>();
  for (const start of events.values()) {
    // Hashes name only what was there before them, so that there is no cycle; the depth is whatever somebody made it.
    const stack: { event: Event; next: number }[] = [];
    const enter = (event: Event): void => {
      seen.add(event.id);
      stack.push({ event, next: 0 });
    };
    if (!seen.has(start.id)) enter(start);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const id = authEventIds(top.event.pdu)[top.next++];
      if (id === undefined) {
        ordered.push(top.event);
        stack.pop();
        continue;
      }
      const auth = events.get(id);
      if (auth !== undefined && !seen.has(id)) enter(auth);
    }
  }
  return ordered;
}

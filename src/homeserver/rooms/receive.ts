import type { EventId, ServerName } from '../../matrix/ids.ts';
import { authEvents as authEventIds, type Event, prevEvents } from '../../matrix/pdu.ts';
import { ResolutionTooLarge, type ResolvedEvent } from '../../matrix/state_resolution.ts';
import type { Reader } from '../../storage/database.ts';
import { isServerJoined, isServerPutOut } from '../../storage/memberships.ts';
import type { HistoricEvent, Received, StateBefore } from './federated_rooms.ts';
import { addGivenState, allOf, authorisedBy } from './import.ts';
import type { OutsideMemberships } from './outside.ts';
import type { RoomDraft } from './room_draft.ts';
import { RoomState } from './room_state.ts';
import type { RoomWriter } from './room_writer.ts';
import { ACCEPTED, authoriseBy, judge, type Verdict } from './verdict.ts';

/** Takes events that other servers send. */
export class Receiving {
  readonly #db: Reader;
  readonly #serverName: ServerName;
  readonly #writer: RoomWriter;
  readonly #outside: OutsideMemberships;

  constructor(options: {
    readonly db: Reader;
    readonly serverName: ServerName;
    readonly writer: RoomWriter;
    readonly outside: OutsideMemberships;
  }) {
    this.#db = options.db;
    this.#serverName = options.serverName;
    this.#writer = options.writer;
    this.#outside = options.outside;
  }

  /** See FederatedRooms.receive, and with `historic` FederatedRooms.receiveHistoric. */
  async receive(event: Event, given?: StateBefore, historic?: HistoricEvent): Promise<Received> {
    return this.#writer.locked(event.room, async () => {
      // Resolution may undo what put this server out of the room; the others then take it for a member that has all
      // they sent. So a server that others put out goes on listening; one whose users have all left does not.
      const follows =
        (await isServerJoined(this.#db, event.room, this.#serverName)) ||
        (await isServerPutOut(this.#db, event.room, this.#serverName));
      const draft = follows ? await this.#writer.open(event.room) : undefined;
      if (draft === undefined) {
        return (await this.#outside.retract(event)) ? { kind: 'accepted' } : { kind: 'unknown_room' };
      }
      const known = await this.#writer.events.get(event.id);
      // Room versions 1 and 2 let a server choose its events' ids.
      if (known !== undefined && known.event.room !== event.room) {
        return { kind: 'rejected', reason: 'its id is that of an event of another room' };
      }
      if (known?.stateAfter != null) return { kind: 'duplicate' };
      try {
        return await this.#receiveInto(draft, event, given, historic);
      } catch (error) {
        if (!(error instanceof ResolutionTooLarge)) throw error;
        return { kind: 'rejected', reason: 'its state takes too much to work out' };
      }
    });
  }

  async #receiveInto(
    draft: RoomDraft,
    event: Event,
    given: StateBefore | undefined,
    historic: HistoricEvent | undefined,
  ): Promise<Received> {
    if (historic !== undefined && event.id === draft.create.id) {
      // It was authorised when the room was begun.
      return this.#take(draft, event, RoomState.complete(new Map()), ACCEPTED, historic);
    }
    // Up to room version 11 the rules allow a second create event to who made the room; here it would begin the room
    // anew, and resolution put its content in the first one's place.
    if (event.pdu.prev_events.length === 0) return { kind: 'rejected', reason: 'it follows on no event' };
    const prevs = await draft.statesAfter(prevEvents(event.pdu));
    const told = prevs.missing.length > 0 ? await this.#stateOf(draft, historic?.stateOf) : undefined;
    const isGap = prevs.missing.length > 0 && told === undefined;
    if (isGap && (given === undefined || given.state.length === 0)) {
      return { kind: 'missing_prev', missing: prevs.missing };
    }
    const states = told === undefined ? [...prevs.states] : [told];
    if (given !== undefined) {
      // Without a gap its events are still wanted: they can be auth events that were missing.
      const map = await addGivenState(draft, given);
      if (isGap || given.isSecondOpinion === true) states.push(RoomState.complete(map));
    }
    const ids = authEventIds(event.pdu);
    const authEvents = await allOf(draft, ids);
    if (authEvents === undefined) {
      const found = await draft.find(ids);
      return {
        kind: 'missing_auth',
        missing: [...new Set(ids)].filter((id) => !found.has(id)),
      };
    }
    const isSecondOpinion = given?.isSecondOpinion === true;
    if (isSecondOpinion) states.push(withAuthEvents(await draft.resolve(states), authEvents));
    const before = await draft.resolve(states);
    // What the room is now says nothing of what it was.
    const room = historic === undefined ? draft : { ...authorisedBy(draft), current: before };
    const verdict = await judge(room, event, authEvents, before);
    const isHole = verdict.status !== 'timeline' && lacksOneOf(authEvents, before, room.current);
    if (isHole && !isSecondOpinion) return { kind: 'state_lacks' };
    if (isHole && verdict.status === 'soft_failed') {
      const merged = await draft.resolve([draft.current, before]);
      if ((await authoriseBy(draft, event, merged)).ok) return this.#take(draft, event, before, ACCEPTED);
    }
    return this.#take(draft, event, before, verdict, historic);
  }

  /** The state before an event of the room that has one. */
  async #stateOf(draft: RoomDraft, id: EventId | undefined): Promise<RoomState | undefined> {
    const stored = id === undefined ? undefined : await this.#writer.events.get(id);
    if (stored?.stateBefore == null || stored.event.room !== draft.room) return undefined;
    return this.#writer.states.load(stored.stateBefore);
  }

  async #take(
    draft: RoomDraft,
    event: Event,
    before: RoomState,
    verdict: Verdict,
    historic?: HistoricEvent,
  ): Promise<Received> {
    await draft.add(event, before, verdict, { origin: 'received', isHistoric: historic !== undefined });
    await this.#writer.commit(draft);
    return asReceived(verdict);
  }
}

/**
 * Whether a place of an auth event is empty in one of these states. A place that has once been taken stays so, unless
 * resolution empties it: most likely this server came by a state that was not whole, such as one of which it had not
 * the keys to check all.
 */
const lacksOneOf = (authEvents: readonly ResolvedEvent[], ...states: readonly RoomState[]): boolean =>
  authEvents.some(
    ({ event: { pdu }, rejected }) =>
      !rejected && states.some((state) => state.get(pdu.type, pdu.state_key ?? '') === undefined),
  );

/** A state in which the places of auth events that are empty are filled. */
function withAuthEvents(state: RoomState, authEvents: readonly ResolvedEvent[]): RoomState {
  let filled = state;
  for (const { event, rejected } of authEvents)
    if (!rejected && filled.get(event.pdu.type, event.pdu.state_key ?? '') === undefined)
      filled = filled.after(event);
  return filled;
}

function asReceived(verdict: Verdict): Received {
  if (verdict.status === 'rejected') return { kind: 'rejected', reason: verdict.reason };
  return { kind: verdict.status === 'timeline' ? 'accepted' : 'soft_failed' };
}

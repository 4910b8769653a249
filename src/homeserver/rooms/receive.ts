import type { ServerName } from '../../matrix/ids.ts';
import { authEvents as authEventIds, type Event, prevEvents } from '../../matrix/pdu.ts';
import { ResolutionTooLarge } from '../../matrix/state_resolution.ts';
import type { Reader } from '../../storage/database.ts';
import { isServerJoined, isServerPutOut } from '../../storage/memberships.ts';
import type { Received, StateBefore } from './federated_rooms.ts';
import { addGivenState, allOf } from './import.ts';
import type { OutsideMemberships } from './outside.ts';
import type { RoomDraft } from './room_draft.ts';
import { RoomState } from './room_state.ts';
import type { RoomWriter } from './room_writer.ts';
import { judge, type Verdict } from './verdict.ts';

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

  /** See FederatedRooms.receive. */
  async receive(event: Event, given?: StateBefore): Promise<Received> {
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
        return await this.#receiveInto(draft, event, given);
      } catch (error) {
        if (!(error instanceof ResolutionTooLarge)) throw error;
        return { kind: 'rejected', reason: 'its state takes too much to work out' };
      }
    });
  }

  async #receiveInto(draft: RoomDraft, event: Event, given: StateBefore | undefined): Promise<Received> {
    // Up to room version 11 the rules allow a second create event to who made the room; here it would begin the room
    // anew, and resolution put its content in the first one's place.
    if (event.pdu.prev_events.length === 0) return { kind: 'rejected', reason: 'it follows on no event' };
    const prevs = await draft.statesAfter(prevEvents(event.pdu));
    const isGap = prevs.missing.length > 0;
    if (isGap && (given === undefined || given.state.length === 0)) {
      return { kind: 'missing_prev', missing: prevs.missing };
    }
    const states = [...prevs.states];
    if (given !== undefined) {
      // Without a gap its events are still wanted: they can be auth events that were missing.
      const map = await addGivenState(draft, given);
      if (isGap) states.push(RoomState.complete(map));
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
    const before = await draft.resolve(states);
    const verdict = await judge(draft, event, authEvents, before);
    await draft.add(event, before, verdict, { origin: 'received' });
    await this.#writer.commit(draft);
    return asReceived(verdict);
  }
}

function asReceived(verdict: Verdict): Received {
  if (verdict.status === 'rejected') return { kind: 'rejected', reason: verdict.reason };
  return { kind: verdict.status === 'timeline' ? 'accepted' : 'soft_failed' };
}

import type { Clock } from '../../base/time.ts';
import { clientEvent } from '../../matrix/client_event.ts';
import type { EventId, RoomId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { Event, Pdu } from '../../matrix/pdu.ts';
import type { Reader } from '../../storage/database.ts';
import { type EventRow, eventById, stateGroupEntry, transactionIdOf } from '../../storage/sync.ts';
import type { Requester } from '../accounts.ts';
import { contentOf } from './membership.ts';
import type { Visibility } from './visibility.ts';

export const eventOf = (row: EventRow, room: RoomId): Event => ({
  id: row.event_id as EventId,
  room,
  pdu: JSON.parse(row.json) as Pdu,
});

/** Turns stored events of one room into what a client gets (client-server API, "Room event format"). */
export class Renderer {
  readonly #reader: Reader;
  readonly #clock: Clock;
  readonly #requester: Requester;
  readonly #room: RoomId;

  constructor(of: {
    readonly reader: Reader;
    readonly clock: Clock;
    readonly requester: Requester;
    readonly room: RoomId;
  }) {
    this.#reader = of.reader;
    this.#clock = of.clock;
    this.#requester = of.requester;
    this.#room = of.room;
  }

  /** An event of the timeline with everything that the server adds, its `room_id` included. */
  async timelineEvent(row: EventRow, visibility: Visibility): Promise<JsonObject> {
    const replaced = await this.#replaced(row);
    const showsReplaced =
      replaced !== undefined && (replaced.state_before === null || (await visibility.allows(replaced)));
    const redaction = row.redacted_by === null ? undefined : await eventById(this.#reader, row.redacted_by);
    const { user, device } = this.#requester;
    return clientEvent(eventOf(row, this.#room), {
      age: this.#age(row),
      transactionId:
        row.sender === user ? await transactionIdOf(this.#reader, user, device, row.event_id) : undefined,
      prevContent: showsReplaced ? contentOf(replaced.json) : undefined,
      replacesState: replaced?.event_id as EventId | undefined,
      redactedBecause: redaction === undefined ? undefined : this.stateEvent(redaction),
      membership: await visibility.membershipAt(row),
    });
  }

  /** An event as part of the state: without what only matters where it happened. */
  stateEvent(row: EventRow): JsonObject {
    return clientEvent(eventOf(row, this.#room), { age: this.#age(row) });
  }

  #age(row: EventRow): number {
    const { origin_server_ts } = JSON.parse(row.json) as Pdu;
    return this.#clock.wall() - origin_server_ts;
  }

  async #replaced(row: EventRow): Promise<EventRow | undefined> {
    if (row.state_key === null || row.state_before === null) return undefined;
    return stateGroupEntry(this.#reader, row.state_before, row.type, row.state_key);
  }
}

/** Where the room is implied by the place in a response, as in /sync. */
export function withoutRoom(event: JsonObject): JsonObject {
  const { room_id: _, ...rest } = event;
  return rest;
}

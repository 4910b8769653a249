import type { Clock } from '../base/time.ts';
import { type ClientEventExtras, clientEvent } from '../matrix/client_event.ts';
import type { EventId, RoomId } from '../matrix/ids.ts';
import { type JsonObject, parseJson } from '../matrix/json.ts';
import type { Event, Pdu } from '../matrix/pdu.ts';
import type { Reader } from '../storage/database.ts';
import { eventsById } from '../storage/events.ts';
import { type EventRow, stateGroupEntry } from '../storage/sync.ts';
import { transactionIds } from '../storage/transactions.ts';
import type { Requester } from './accounts.ts';
import { withoutErased } from './erasure.ts';
import { contentOf } from './sync/membership.ts';
import type { Visibility } from './sync/visibility.ts';

/** An event to be shown, with the redaction that was applied to it. */
export interface Shown {
  readonly event: Event;
  readonly redactedBy: EventId | null;
}

/** Turns stored events into what one device gets (client-server API, "Room event format"), in the order given. */
export class Renderer {
  readonly #reader: Reader;
  readonly #clock: Clock;
  readonly #requester: Requester;

  constructor(of: { readonly reader: Reader; readonly clock: Clock; readonly requester: Requester }) {
    this.#reader = of.reader;
    this.#clock = of.clock;
    this.#requester = of.requester;
  }

  /** Events of one room's timeline with everything that the server adds, their `room_id` included. */
  async timelineEvents(
    room: RoomId,
    rows: readonly EventRow[],
    visibility: Visibility,
  ): Promise<JsonObject[]> {
    const { user, device } = this.#requester;
    const own = rows.filter(({ sender }) => sender === user).map(({ event_id: id }) => id as EventId);
    const transactions = await transactionIds(this.#reader, user, device, own);
    const whole = rows.map((row) => shownRow(room, row));
    const shown = await withoutErased(this.#reader, user, room, rows, whole);
    const redactions = await this.#redactions(shown);
    const events: JsonObject[] = [];
    for (const [at, row] of rows.entries()) {
      const replaced = await this.#replaced(row);
      const showsReplaced =
        replaced !== undefined && (replaced.state_before === null || (await visibility.allows(replaced)));
      const { event, redactedBy } = shown[at]!;
      const isErased = event !== whole[at]!.event;
      events.push(
        marked(row, event, {
          age: this.#age(event),
          transactionId: transactions.get(event.id),
          prevContent: showsReplaced && !isErased ? contentOf(replaced.json) : undefined,
          replacesState: replaced?.event_id as EventId | undefined,
          redactedBecause: this.#redactedBecause(redactedBy, redactions),
          membership: await visibility.membershipAt(row),
        }),
      );
    }
    return events;
  }

  /** Events as parts of the state: without what only matters where they happened. */
  async stateEvents(shown: readonly Shown[]): Promise<JsonObject[]> {
    const redactions = await this.#redactions(shown);
    return shown.map(({ event, redactedBy }) =>
      clientEvent(event, {
        age: this.#age(event),
        redactedBecause: this.#redactedBecause(redactedBy, redactions),
      }),
    );
  }

  /** `stateEvents` of one room. */
  stateRows(room: RoomId, rows: readonly EventRow[]): Promise<JsonObject[]> {
    return this.stateEvents(rows.map((row) => shownRow(room, row)));
  }

  async #redactions(shown: readonly Shown[]): Promise<ReadonlyMap<EventId, Event>> {
    const ids = shown.flatMap(({ redactedBy }) => redactedBy ?? []);
    return new Map((await eventsById(this.#reader, ids)).map(({ event }) => [event.id, event]));
  }

  #redactedBecause(by: EventId | null, redactions: ReadonlyMap<EventId, Event>): JsonObject | undefined {
    const redaction = by === null ? undefined : redactions.get(by);
    return redaction === undefined ? undefined : clientEvent(redaction, { age: this.#age(redaction) });
  }

  /** The sender's clock may be ahead of ours. */
  #age({ pdu }: Event): number {
    return Math.max(0, this.#clock.wall() - pdu.origin_server_ts);
  }

  async #replaced(row: EventRow): Promise<EventRow | undefined> {
    if (row.state_key === null || row.state_before === null) return undefined;
    return stateGroupEntry(this.#reader, row.state_before, row.type, row.state_key);
  }
}

/** What is shown before its signature has come says so, and so does a notice that such an event has come to nothing. */
function marked({ provisional }: EventRow, event: Event, extras: ClientEventExtras): JsonObject {
  const shown = clientEvent(event, extras);
  if (provisional == null) return shown;
  const unsigned = shown.unsigned as JsonObject | undefined;
  const mark =
    provisional === 'provisional'
      ? { 'org.ravine.provisional': true }
      : { 'org.ravine.retracted': provisional };
  return { ...shown, unsigned: { ...unsigned, ...mark } };
}

function shownRow(room: RoomId, row: EventRow): Shown {
  const event: Event = { id: row.event_id as EventId, room, pdu: parseJson(row.json) as unknown as Pdu };
  return { event, redactedBy: row.redacted_by as EventId | null };
}

/** Where the room is implied by the place in a response, as in /sync. */
export function withoutRoom(event: JsonObject): JsonObject {
  const { room_id: _, ...rest } = event;
  return rest;
}

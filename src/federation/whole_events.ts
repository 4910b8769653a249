import type { Millis } from '../base/time.ts';
import { MatrixError } from '../matrix/error.ts';
import { type EventId, parseEventId, type RoomId, type ServerName, type UserId } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import { listOf } from './remote_events.ts';
import { FederationError, type FederationTransport, path } from './transport.ts';

// The specification's.
const MAX_PREV_EVENTS = 20;

// Ours.
const TIMEOUT_MS: Millis = 60_000;

/** Asks a server for events that it has made, unchecked. What it says no or nonsense to is undefined. */
export class WholeEvents {
  readonly #transport: FederationTransport;

  constructor(transport: FederationTransport) {
    this.#transport = transport;
  }

  /** An event as its server has it. @throws FederationError where that cannot be said now */
  async fetch(origin: ServerName, id: EventId): Promise<JsonValue | undefined> {
    const answer = await this.#ask(origin, path`/_matrix/federation/v1/event/${id}`, (body) =>
      listOf(body, 'pdus', 1),
    );
    return answer?.[0];
  }

  /**
   * The newest events of a room that a server has.
   * @param user one of ours who is in the room
   * @throws FederationError where that cannot be said now
   */
  async newest(origin: ServerName, room: RoomId, user: UserId): Promise<readonly EventId[]> {
    // The only question of the specification whose answer names them.
    const prevs = await this.#ask(origin, path`/_matrix/federation/v1/make_leave/${room}/${user}`, (body) => {
      const event = own(body, 'event');
      return isJsonObject(event) ? listOf(event, 'prev_events', MAX_PREV_EVENTS) : [];
    });
    return (prevs ?? []).flatMap((prev) => {
      // Room versions 1 and 2 have pairs with a hash.
      const name = Array.isArray(prev) ? prev[0] : prev;
      const id = typeof name === 'string' ? parseEventId(name) : undefined;
      return id?.ok === true ? [id.value] : [];
    });
  }

  async #ask<T>(origin: ServerName, callPath: string, read: (body: JsonObject) => T): Promise<T | undefined> {
    try {
      const { body } = await this.#transport.request(origin, {
        method: 'GET',
        path: callPath,
        timeoutMs: TIMEOUT_MS,
        priority: 1,
      });
      return isJsonObject(body) ? read(body) : undefined;
    } catch (error) {
      const isFinal = error instanceof MatrixError && error.status < 500 && error.status !== 429;
      if (isFinal || (error instanceof FederationError && error.problem === 'bad_answer')) return undefined;
      if (error instanceof MatrixError)
        throw new FederationError('unreachable', `${origin}: ${error.message}`);
      throw error;
    }
  }
}

import type { Millis } from '../base/time.ts';
import { missingParam, notFound } from '../matrix/error.ts';
import type { EventId, RoomId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import { accountDataChanges } from '../storage/account_data.ts';
import type { Reader } from '../storage/database.ts';
import { membershipOf } from '../storage/memberships.ts';
import { roomOfEvent, streamPosition } from '../storage/sync.ts';
import type { Requester } from './accounts.ts';
import type { Directory } from './directory.ts';
import { type Messages, wholeFilter } from './messages.ts';
import type { Notifier } from './notifier.ts';
import type { RoomQueries } from './rooms/queries.ts';
import { formatPoint } from './sync/token.ts';

/** How long GET /events waits where the client does not say, and at most. */
const DEFAULT_WAIT_MS: Millis = 30_000;
const MAX_WAIT_MS: Millis = 120_000;

/** Looking into a room without being in it (client-server API, "Room Previews"). */
export class Peeks {
  readonly #reader: Reader;
  readonly #notifier: Pick<Notifier, 'wait'>;
  readonly #messages: Pick<Messages, 'messages' | 'peek' | 'event'>;
  readonly #directory: Pick<Directory, 'visibility'>;
  readonly #queries: Pick<RoomQueries, 'state'>;

  constructor(of: {
    readonly reader: Reader;
    readonly notifier: Pick<Notifier, 'wait'>;
    readonly messages: Pick<Messages, 'messages' | 'peek' | 'event'>;
    readonly directory: Pick<Directory, 'visibility'>;
    readonly queries: Pick<RoomQueries, 'state'>;
  }) {
    this.#reader = of.reader;
    this.#notifier = of.notifier;
    this.#messages = of.messages;
    this.#directory = of.directory;
    this.#queries = of.queries;
  }

  /** A room's state and its last events. @throws MatrixError M_FORBIDDEN */
  async snapshot(requester: Requester, room: RoomId, limit: number | undefined): Promise<JsonObject> {
    const state = await this.#queries.state(room, requester);
    const page = await this.#messages.messages({ requester, room, dir: 'b', limit, filter: wholeFilter() });
    const row = await membershipOf(this.#reader, room, requester.user);
    const upTo = await streamPosition(this.#reader);
    const data = await accountDataChanges(this.#reader, requester.user, room, { after: 0, upTo });
    return {
      room_id: room,
      ...(row !== undefined && !row.forgotten && { membership: row.membership }),
      messages: {
        ...(page.end !== undefined && { start: page.end }),
        end: page.start!,
        chunk: [...(page.chunk as JsonObject[])].reverse(),
      },
      state,
      visibility: await this.#directory.visibility(room),
      account_data: data.map(({ type, content }) => ({ type, content: JSON.parse(content) as JsonObject })),
    };
  }

  /**
   * What happens in a room from a point on; waits where there is nothing.
   * @throws MatrixError M_MISSING_PARAM, M_INVALID_PARAM, M_FORBIDDEN
   */
  async events(request: {
    readonly requester: Requester;
    readonly room: RoomId | undefined;
    readonly from: string | undefined;
    readonly timeoutMs: Millis | undefined;
    readonly signal?: AbortSignal | undefined;
  }): Promise<JsonObject> {
    const { requester, room, signal } = request;
    // Without a room this was the stream before /sync, deprecated since r0.
    if (room === undefined) throw missingParam('room_id is missing.');
    let peeked = await this.#messages.peek({ requester, room, from: request.from });
    const start = peeked.start;
    if (peeked.chunk.length === 0 && !peeked.more && peeked.end.kind === 'delivered') {
      const timeoutMs = Math.min(request.timeoutMs ?? DEFAULT_WAIT_MS, MAX_WAIT_MS);
      const { user } = requester;
      await this.#notifier.wait({ user, rooms: [room], after: peeked.end.position, timeoutMs, signal });
      peeked = await this.#messages.peek({ requester, room, from: formatPoint(peeked.end) });
    }
    return { start: formatPoint(start), end: formatPoint(peeked.end), chunk: [...peeked.chunk] };
  }

  /** One event of whatever room. @throws MatrixError M_NOT_FOUND */
  async event(requester: Requester, event: EventId): Promise<JsonObject> {
    const room = await roomOfEvent(this.#reader, event);
    if (room === undefined) throw notFound('There is no such event, or you may not see it.');
    return this.#messages.event(requester, room as RoomId, event);
  }
}

import type { Clock } from '../../base/time.ts';
import { invalidParam } from '../../matrix/error.ts';
import type { EventId } from '../../matrix/ids.ts';
import { type JsonObject, type JsonValue, parseJson } from '../../matrix/json.ts';
import type { Pdu } from '../../matrix/pdu.ts';
import type { Reader } from '../../storage/database.ts';
import {
  type NotificationRow,
  notificationsBefore,
  notifiedEvent,
} from '../../storage/push_notifications.ts';
import { deliveredEvents, roomRow } from '../../storage/sync.ts';
import type { Requester } from '../accounts.ts';
import { Renderer, withoutRoom } from '../render.ts';
import { Visibility } from '../sync/visibility.ts';

/** Notifications of one page where the client does not say, and at most. */
const DEFAULT_LIMIT = 20;
const MAX_LIMIT = 100;

/** What users have been notified of (client-server API, "Listing Notifications"). */
export class NotificationList {
  readonly #reader: Reader;
  readonly #clock: Clock;

  constructor(of: { readonly reader: Reader; readonly clock: Clock }) {
    this.#reader = of.reader;
    this.#clock = of.clock;
  }

  /**
   * One page as GET /notifications answers it, the newest first.
   * @param from the `next_token` of the page before
   * @throws MatrixError M_INVALID_PARAM where the token is not one of ours
   */
  async page(
    requester: Requester,
    { from, limit, only }: { readonly from?: string; readonly limit?: number; readonly only?: string },
  ): Promise<JsonObject> {
    if (from !== undefined && !/^\d{1,15}$/.test(from)) throw invalidParam('from is no token of ours.');
    const before = from === undefined ? Number.MAX_SAFE_INTEGER : Number(from);
    const most = Math.min(Math.max(limit ?? DEFAULT_LIMIT, 1), MAX_LIMIT);
    const rows = await notificationsBefore(this.#reader, requester.user, before, {
      ...{ limit: most, highlights: only === 'highlight' },
    });
    const shown: JsonObject[] = [];
    for (const row of rows) {
      const event = await this.#event(requester, row);
      if (event !== undefined) shown.push(entryOf(row, event));
    }
    const last = rows.at(-1);
    return {
      notifications: shown,
      ...(last !== undefined && rows.length === most && { next_token: String(last.position) }),
    };
  }

  async #event(requester: Requester, { room, position }: NotificationRow): Promise<JsonObject | undefined> {
    const renderer = new Renderer({ reader: this.#reader, clock: this.#clock, requester });
    const known = await roomRow(this.#reader, room);
    const range = { after: position - 1, upTo: position, limit: 1 };
    const [row] = known === undefined ? [] : await deliveredEvents(this.#reader, known.id, 'b', range);
    if (row !== undefined) {
      const visibility = new Visibility(this.#reader, requester.user, Number.POSITIVE_INFINITY);
      if (!(await visibility.allows(row))) return undefined;
      const [event] = await renderer.timelineEvents(room, [row], visibility);
      return event && withoutRoom(event);
    }
    // An invite to a room that this server does not have.
    const invite = await notifiedEvent(this.#reader, requester.user, room, position);
    if (invite === undefined) return undefined;
    const pdu = parseJson(invite.json) as unknown as Pdu;
    const event = { id: invite.event_id as EventId, room, pdu };
    const [shown] = await renderer.stateEvents([{ event, redactedBy: null }]);
    return shown && withoutRoom(shown);
  }
}

const entryOf = ({ actions, room, received, unread }: NotificationRow, event: JsonObject): JsonObject => ({
  actions: JSON.parse(actions) as JsonValue[],
  event,
  read: unread === 0,
  room_id: room,
  ts: received,
});

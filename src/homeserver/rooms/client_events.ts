import type { Millis } from '../../base/time.ts';
import { clientEvent } from '../../matrix/client_event.ts';
import type { DeviceId, EventId, UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { Reader } from '../../storage/database.ts';
import type { StoredEvent } from '../../storage/events.ts';
import { transactionIds } from '../../storage/transactions.ts';
import type { EventCache } from './event_cache.ts';
import type { StateStore } from './state_store.ts';

/**
 * Events in the format of the client-server API, in the order given, with what this server adds for one device:
 * `age`, its own `transaction_id`, what a state event replaced, the redaction.
 * @param from.now Unix time
 */
export async function renderEvents(
  from: {
    readonly db: Reader;
    readonly events: EventCache;
    readonly states: StateStore;
    readonly now: Millis;
  },
  events: readonly StoredEvent[],
  asker: { readonly user: UserId; readonly device: DeviceId },
): Promise<JsonObject[]> {
  const own = events.filter(({ event }) => event.pdu.sender === asker.user).map(({ event }) => event.id);
  const transactions = await transactionIds(from.db, asker.user, asker.device, own);
  const replaced = new Map<EventId, EventId>();
  for (const { event, stateBefore } of events) {
    const { type, state_key: key } = event.pdu;
    if (key === undefined || stateBefore === null) continue;
    const before = (await from.states.load(stateBefore)).get(type, key);
    if (before !== undefined) replaced.set(event.id, before);
  }
  const redactions = events.flatMap(({ redactedBy }) => (redactedBy === null ? [] : [redactedBy]));
  const others = await from.events.load([...replaced.values(), ...redactions]);
  return events.map(({ event, redactedBy }) => {
    const before = replaced.get(event.id);
    const redaction = redactedBy === null ? undefined : others.get(redactedBy)?.event;
    return clientEvent(event, {
      age: Math.max(0, from.now - event.pdu.origin_server_ts),
      transactionId: transactions.get(event.id),
      replacesState: before,
      prevContent: before === undefined ? undefined : others.get(before)?.event.pdu.content,
      redactedBecause:
        redaction === undefined
          ? undefined
          : clientEvent(redaction, { age: Math.max(0, from.now - redaction.pdu.origin_server_ts) }),
    });
  });
}

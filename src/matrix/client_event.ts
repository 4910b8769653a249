import type { EventId } from './ids.ts';
import type { JsonObject } from './json.ts';
import type { Event, Pdu } from './pdu.ts';

/** What the server adds to an event under `unsigned` for one client. What is absent or undefined is left out. */
export interface ClientEventExtras {
  /** Milliseconds since the event was sent. */
  readonly age?: number | undefined;
  /** Only for the device that sent the event. */
  readonly transactionId?: string | undefined;
  /** The content of the state event that this one replaced. */
  readonly prevContent?: JsonObject | undefined;
  /** The id of the state event that this one replaced. */
  readonly replacesState?: EventId | undefined;
  /** The redaction in the client format. */
  readonly redactedBecause?: JsonObject | undefined;
  /** The membership of the user who asks, at the time of the event. */
  readonly membership?: string | undefined;
}

/**
 * An event in the format of the client-server API ("Room event format"). The PDU's own `unsigned` is not passed on: any
 * server on the way could have written it.
 */
export function clientEvent(event: Event, extras: ClientEventExtras = {}): JsonObject {
  const { pdu } = event;
  const result: JsonObject = {
    event_id: event.id,
    room_id: event.room,
    type: pdu.type,
    sender: pdu.sender,
    origin_server_ts: pdu.origin_server_ts,
    content: pdu.content,
  };
  if (pdu.state_key !== undefined) result.state_key = pdu.state_key;
  if (pdu.type === 'm.room.redaction') Object.assign(result, redactsInBoth(pdu));
  const unsigned = unsignedOf(extras);
  if (Object.keys(unsigned).length > 0) result.unsigned = unsigned;
  return result;
}

/**
 * Room version 11, "Moving the redacts property": clients old and new find it where they look. Two that differ are
 * shown at neither place: which one counts follows from the room version, and shows in the event that it redacts.
 */
function redactsInBoth({ content, redacts: outside }: Pdu): JsonObject {
  const { redacts: inside, ...rest } = content;
  if (outside !== undefined && inside !== undefined && outside !== inside) return { content: rest };
  const redacts = inside ?? outside;
  return redacts === undefined ? {} : { redacts, content: { ...content, redacts } };
}

function unsignedOf(extras: ClientEventExtras): JsonObject {
  const unsigned: JsonObject = {};
  if (extras.age !== undefined) unsigned.age = extras.age;
  if (extras.transactionId !== undefined) unsigned.transaction_id = extras.transactionId;
  if (extras.prevContent !== undefined) unsigned.prev_content = extras.prevContent;
  if (extras.replacesState !== undefined) unsigned.replaces_state = extras.replacesState;
  if (extras.redactedBecause !== undefined) unsigned.redacted_because = extras.redactedBecause;
  if (extras.membership !== undefined) unsigned.membership = extras.membership;
  return unsigned;
}

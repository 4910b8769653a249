import { isJsonObject, type JsonObject, own, parseJson } from '../../matrix/json.ts';
import { splitStateKey } from '../../matrix/pdu.ts';
import { STRIPPED_STATE } from '../../matrix/stripped_state.ts';
import type { Reader } from '../../storage/database.ts';
import { type EventRow, eventById, type SyncRoomRow, stateEntry } from '../../storage/sync.ts';

const MEMBER = 'm.room.member';

/**
 * What a user who is invited, or has knocked, is told of a room (client-server API, "Stripped state"): with their own
 * membership event, and with that of whoever invited them where it is known.
 */
export async function strippedStateFor(
  reader: Reader,
  row: SyncRoomRow,
  user: string,
): Promise<JsonObject[]> {
  const membership = await ownMembership(reader, row);
  const others =
    row.invite_state === null ? await knownState(reader, row, membership?.sender) : given(row.invite_state);
  const isOwn = (event: JsonObject): boolean => event.type === MEMBER && event.state_key === user;
  return [...others.filter((event) => !isOwn(event)), ...(membership === undefined ? [] : [membership])];
}

async function ownMembership(reader: Reader, row: SyncRoomRow): Promise<JsonObject | undefined> {
  const json = row.event_json ?? (await eventById(reader, row.event_id))?.json;
  return json === undefined ? undefined : stripped(parseJson(json));
}

/** What came with an invite from elsewhere; nothing but the four keys is passed on. */
function given(inviteState: string): JsonObject[] {
  const events: unknown = parseJson(inviteState);
  return Array.isArray(events) ? events.map(stripped).filter((event) => event !== undefined) : [];
}

async function knownState(
  reader: Reader,
  row: SyncRoomRow,
  inviter: JsonObject[string] | undefined,
): Promise<JsonObject[]> {
  if (row.room === null) return [];
  const places = STRIPPED_STATE.map(splitStateKey);
  if (typeof inviter === 'string') places.push({ type: MEMBER, key: inviter });
  const events: JsonObject[] = [];
  for (const place of places) {
    const found: EventRow | undefined = await stateEntry(reader, row.room, place, {
      after: 0,
      upTo: row.position,
    });
    const event = found === undefined ? undefined : stripped(parseJson(found.json));
    if (event !== undefined) events.push(event);
  }
  return events;
}

function stripped(event: unknown): JsonObject | undefined {
  if (!isJsonObject(event)) return undefined;
  const [type, sender, state_key, content] = ['type', 'sender', 'state_key', 'content'].map((key) =>
    own(event, key),
  );
  if (typeof type !== 'string' || typeof sender !== 'string' || typeof state_key !== 'string')
    return undefined;
  return isJsonObject(content) ? { type, sender, state_key, content } : undefined;
}

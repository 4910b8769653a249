import { assert } from '../../base/assert.ts';
import { authPlaces } from '../../compact/pdu/rules.ts';
import { ToldRoom, toldEvent } from '../../compact/sync/told_room.ts';
import { isJsonObject, type JsonObject, own, parseJson } from '../../matrix/json.ts';
import { type StateKey, splitStateKey } from '../../matrix/pdu.ts';
import { type RoomVersion, roomVersion } from '../../matrix/room_version.ts';
import type { Reader } from '../../storage/database.ts';
import { deliveredEvents, roomRow, stateEntry, syncRooms } from '../../storage/sync.ts';

/** Who was told, and up to which position; undefined: nothing that counts. */
export interface ToldTo {
  readonly user: string;
  readonly position: number | undefined;
}

/** What /sync has told somebody of rooms, read from the database. */
export class ToldRooms {
  readonly #reader: Reader;

  constructor(reader: Reader) {
    this.#reader = reader;
  }

  /**
   * A room, with what the user has of it where they were in it at the position: its last event, and the state from which the
   * auth events of `pdus` are selected. Undefined where the room is not known here.
   */
  async room(
    roomId: string,
    { user, position }: ToldTo,
    pdus: readonly JsonObject[],
  ): Promise<{ readonly version: RoomVersion; readonly before: ToldRoom | undefined } | undefined> {
    const row = await roomRow(this.#reader, roomId);
    const version = row && roomVersion(row.version);
    if (row === undefined || version === undefined) return undefined;
    if (position === undefined) return { version, before: undefined };
    const upTo = { after: 0, upTo: position };
    const member = await stateEntry(this.#reader, row.id, { type: 'm.room.member', key: user }, upTo);
    const [last] = await deliveredEvents(this.#reader, row.id, 'b', { ...upTo, limit: 1 });
    if (member === undefined || membershipOf(member.json) !== 'join' || last === undefined)
      return { version, before: undefined };
    const before = new ToldRoom({ version, room: roomId });
    before.add(toldEvent(last.event_id, parseJson(last.json) as JsonObject));
    for (const place of placesOf(pdus, version)) {
      const { type, key } = splitStateKey(place);
      const held = await stateEntry(this.#reader, row.id, { type, key }, upTo);
      if (held !== undefined) before.setState(place, held.event_id);
    }
    return { version, before };
  }

  /** A room as somebody has it who was told nothing. */
  async nothing(roomId: string): Promise<ToldRoom> {
    const version = roomVersion((await roomRow(this.#reader, roomId))?.version ?? '');
    assert(version !== undefined, 'a room with events has a version');
    return new ToldRoom({ version, room: roomId });
  }

  /** All rooms that the user has ever been told of. */
  async known(user: string): Promise<readonly string[]> {
    const { rooms } = await syncRooms(this.#reader, user);
    return rooms.map(({ room_id }) => room_id);
  }
}

function placesOf(pdus: readonly JsonObject[], version: RoomVersion): Set<StateKey> {
  const places = pdus.flatMap((pdu) =>
    authPlaces(
      {
        type: String(pdu.type),
        sender: String(pdu.sender),
        stateKey: pdu.state_key === undefined ? undefined : String(pdu.state_key),
        content: pdu.content as JsonObject,
      },
      version,
    ),
  );
  return new Set(places);
}

function membershipOf(json: string): string | undefined {
  const { content } = parseJson(json) as JsonObject;
  const membership = content !== undefined && isJsonObject(content) ? own(content, 'membership') : undefined;
  return typeof membership === 'string' ? membership : undefined;
}

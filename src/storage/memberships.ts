import type { EventId, RoomId, ServerName, UserId } from '../matrix/ids.ts';
import { type JsonObject, parseJson } from '../matrix/json.ts';
import type { Event } from '../matrix/pdu.ts';
import type { Reader, Transaction } from './database.ts';

export type Membership = 'join' | 'invite' | 'leave' | 'ban' | 'knock';

export interface MembershipRow {
  readonly room: RoomId;
  readonly userId: UserId;
  readonly membership: Membership;
  readonly eventId: EventId;
  readonly position: number;
  /** The member event itself, where this server is not in the room. */
  readonly event: Event | null;
  readonly forgotten: boolean;
}

interface Columns {
  readonly room: string;
  readonly user_id: string;
  readonly membership: string;
  readonly event_id: string;
  readonly position: number;
  readonly event_json: string | null;
  readonly forgotten: number;
}

const COLUMNS = 'room, user_id, membership, event_id, position, event_json, forgotten';

const fromColumns = (row: Columns): MembershipRow => ({
  room: row.room as RoomId,
  userId: row.user_id as UserId,
  membership: row.membership as Membership,
  eventId: row.event_id as EventId,
  position: row.position,
  event:
    row.event_json === null
      ? null
      : {
          id: row.event_id as EventId,
          room: row.room as RoomId,
          pdu: parseJson(row.event_json) as unknown as Event['pdu'],
        },
  forgotten: row.forgotten === 1,
});

export async function membershipOf(
  db: Reader,
  room: RoomId,
  user: UserId,
): Promise<MembershipRow | undefined> {
  const row = await db.get<Columns>(
    `SELECT ${COLUMNS} FROM memberships WHERE user_id = ? AND room = ?`,
    user,
    room,
  );
  return row === undefined ? undefined : fromColumns(row);
}

/** The state that came with an invite from elsewhere to a room, JSON text; of one of them, where there are several. */
export async function inviteStateOf(db: Reader, room: RoomId): Promise<string | undefined> {
  const row = await db.get<{ state: string }>(
    `SELECT invite_state AS state FROM memberships
     WHERE room = ? AND membership = 'invite' AND invite_state IS NOT NULL ORDER BY position LIMIT 1`,
    room,
  );
  return row?.state;
}

/** A user's rooms of one membership, by room id. */
export async function roomsOf(db: Reader, user: UserId, membership: Membership): Promise<RoomId[]> {
  const rows = await db.all<{ room: string }>(
    'SELECT room FROM memberships WHERE user_id = ? AND membership = ? ORDER BY room',
    user,
    membership,
  );
  return rows.map((row) => row.room as RoomId);
}

/** Whether any user of a server is joined to a room. */
export async function isServerJoined(db: Reader, room: RoomId, server: ServerName): Promise<boolean> {
  const row = await db.get<{ found: number }>(
    "SELECT 1 AS found FROM memberships WHERE room = ? AND membership = 'join' AND server_name = ? LIMIT 1",
    room,
    server,
  );
  return row !== undefined;
}

/**
 * Whether a user of a server is out of a room that this server has a copy of, but not by an event of their own: by
 * somebody else's, or by a resolution, which leaves the row naming the join that it undid.
 */
export async function isServerPutOut(db: Reader, room: RoomId, server: ServerName): Promise<boolean> {
  const row = await db.get<{ found: number }>(
    `SELECT 1 AS found FROM memberships m JOIN events e ON e.event_id = m.event_id
     WHERE m.room = ? AND m.membership IN ('leave', 'ban') AND m.server_name = ?
       AND (e.sender <> m.user_id OR json_extract(e.json, '$.content.membership') = 'join') LIMIT 1`,
    room,
    server,
  );
  return row !== undefined;
}

/** The servers with joined users in a room, by name: in as many steps as there are servers, not users. */
export async function joinedServers(db: Reader, room: RoomId): Promise<ServerName[]> {
  const rows = await db.all<{ name: string }>(
    `WITH RECURSIVE joined (name) AS (
       SELECT MIN(server_name) FROM memberships WHERE room = ? AND membership = 'join'
       UNION ALL
       SELECT (SELECT MIN(m.server_name) FROM memberships m
               WHERE m.room = ? AND m.membership = 'join' AND m.server_name > joined.name)
       FROM joined WHERE joined.name IS NOT NULL
     )
     SELECT name FROM joined WHERE name IS NOT NULL`,
    room,
    room,
  );
  return rows.map((row) => row.name as ServerName);
}

/** Whether a user of a server is joined or invited to a room. */
export async function isServerExpected(db: Reader, room: RoomId, server: ServerName): Promise<boolean> {
  const row = await db.get<{ found: number }>(
    `SELECT 1 AS found FROM memberships
     WHERE room = ? AND membership IN ('join', 'invite') AND server_name = ? LIMIT 1`,
    room,
    server,
  );
  return row !== undefined;
}

/** Servers with joined users in a room, those with the most of them first. */
export async function largestServers(db: Reader, room: RoomId, limit: number): Promise<ServerName[]> {
  const rows = await db.all<{ name: string }>(
    `SELECT server_name AS name, COUNT(*) AS users FROM memberships WHERE room = ? AND membership = 'join'
     GROUP BY server_name ORDER BY users DESC, server_name LIMIT ?`,
    room,
    limit,
  );
  return rows.map((row) => row.name as ServerName);
}

/** The users of one server that are joined to a room, by id. */
export async function joinedUsers(db: Reader, room: RoomId, server: ServerName): Promise<UserId[]> {
  const rows = await db.all<{ user: string }>(
    `SELECT user_id AS user FROM memberships WHERE room = ? AND membership = 'join' AND server_name = ?
     ORDER BY user_id`,
    room,
    server,
  );
  return rows.map((row) => row.user as UserId);
}

/** How many users are joined to a room, or `upTo` where they are more. */
export async function joinedCount(db: Reader, room: RoomId, upTo: number): Promise<number> {
  const row = await db.get<{ members: number }>(
    `SELECT COUNT(*) AS members FROM
       (SELECT 1 FROM memberships WHERE room = ? AND membership = 'join' LIMIT ?)`,
    ...[room, upTo],
  );
  return row!.members;
}

/** What a user's member event calls them; undefined: nothing. */
export async function displayNameIn(db: Reader, room: RoomId, user: UserId): Promise<string | undefined> {
  const row = await db.get<{ name: unknown }>(
    `SELECT json_extract(e.json, '$.content.displayname') AS name
     FROM memberships m JOIN events e ON e.event_id = m.event_id WHERE m.user_id = ? AND m.room = ?`,
    ...[user, room],
  );
  return typeof row?.name === 'string' ? row.name : undefined;
}

/**
 * Records what a user is in a room, as a change of current state or, with `outside`, as an event that came while this
 * server is not in the room. A room that was forgotten is remembered again by anything but leaving.
 */
export async function putMembership(
  tx: Transaction,
  entry: {
    readonly room: RoomId;
    readonly user: UserId;
    readonly server: ServerName;
    readonly membership: Membership;
    readonly eventId: EventId;
    readonly position: number;
    readonly outside?: { readonly event: Event; readonly inviteState: readonly JsonObject[] | null };
  },
): Promise<void> {
  const { outside } = entry;
  await tx.run(
    `INSERT INTO memberships (room, user_id, server_name, membership, event_id, position, invite_state, event_json)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (user_id, room) DO UPDATE SET
       membership = excluded.membership, event_id = excluded.event_id, position = excluded.position,
       invite_state = excluded.invite_state, event_json = excluded.event_json,
       forgotten = CASE WHEN excluded.membership IN ('leave', 'ban') THEN memberships.forgotten ELSE 0 END`,
    entry.room,
    entry.user,
    entry.server,
    entry.membership,
    entry.eventId,
    entry.position,
    outside?.inviteState == null ? null : JSON.stringify(outside.inviteState),
    outside === undefined ? null : JSON.stringify(outside.event.pdu),
  );
}

/** Removes a membership that resolution took out of the state. */
export async function dropMembership(tx: Transaction, room: RoomId, user: UserId): Promise<void> {
  await tx.run('DELETE FROM memberships WHERE room = ? AND user_id = ?', room, user);
}

export async function forget(tx: Transaction, room: RoomId, user: UserId): Promise<void> {
  await tx.run('UPDATE memberships SET forgotten = 1 WHERE room = ? AND user_id = ?', room, user);
}

/** What came with an invite or a knock of a user into a room that this server is not in; undefined where nothing did. */
export async function strippedStateOf(
  db: Reader,
  room: RoomId,
  user: UserId,
): Promise<JsonObject[] | undefined> {
  const row = await db.get<{ state: string | null }>(
    'SELECT invite_state AS state FROM memberships WHERE user_id = ? AND room = ?',
    user,
    room,
  );
  return row?.state == null ? undefined : (JSON.parse(row.state) as JsonObject[]);
}

import type { UserId } from '../matrix/ids.ts';
import type { Reader } from './database.ts';

/** Somebody who can be found, as their profile is known here. */
export interface ListedUser {
  readonly user: UserId;
  readonly displayName: string | null;
  readonly avatarUrl: string | null;
}

/** What anybody may look into: rooms that are open to join, or whose history is there to be read. */
const OPEN_ROOMS = `SELECT r.room_id FROM rooms r JOIN current_state c ON c.room = r.id JOIN places p ON p.id = c.place
    JOIN events e ON e.id = c.event
  WHERE p.state_key = '' AND (
    (p.type = 'm.room.join_rules' AND e.json ->> '$.content.join_rule' = 'public')
    OR (p.type = 'm.room.history_visibility' AND e.json ->> '$.content.history_visibility' = 'world_readable'))`;

/** Local users, by their ids, from one on. */
export function localUsers(reader: Reader, after: string, limit: number): Promise<ListedUser[]> {
  return reader.all<ListedUser>(
    `SELECT user_id AS user, displayname AS "displayName", avatar_url AS "avatarUrl" FROM users
     WHERE user_id > ? AND deactivated IS NULL ORDER BY user_id LIMIT ?`,
    after,
    limit,
  );
}

/** Users of other servers who share a room with a user, or are in one that anybody may look into; by their ids, from one on. */
export function remoteUsers(
  reader: Reader,
  of: { readonly user: UserId; readonly server: string; readonly after: string; readonly limit: number },
): Promise<ListedUser[]> {
  return reader.all<ListedUser>(
    `WITH visible (room) AS (
       SELECT room FROM memberships WHERE user_id = ? AND membership = 'join' UNION ${OPEN_ROOMS}
     )
     SELECT m.user_id AS user, e.json ->> '$.content.displayname' AS "displayName",
       e.json ->> '$.content.avatar_url' AS "avatarUrl", MAX(m.position)
     FROM memberships m JOIN events e ON e.event_id = m.event_id
     WHERE m.room IN (SELECT room FROM visible) AND m.membership = 'join' AND m.server_name <> ? AND m.user_id > ?
     GROUP BY m.user_id ORDER BY m.user_id LIMIT ?`,
    ...[of.user, of.server, of.after, of.limit],
  );
}

/** Rooms that two users are joined to, by their ids, from one on. */
export async function mutualRooms(
  reader: Reader,
  users: readonly [UserId, UserId],
  after: string,
  limit: number,
): Promise<{ readonly rooms: readonly string[]; readonly count: number }> {
  const shared = `FROM memberships a JOIN memberships b ON b.room = a.room
    WHERE a.user_id = ? AND a.membership = 'join' AND b.user_id = ? AND b.membership = 'join'`;
  const rows = await reader.all<{ room: string }>(
    `SELECT a.room ${shared} AND a.room > ? ORDER BY a.room LIMIT ?`,
    ...[...users, after, limit],
  );
  const total = await reader.get<{ n: number }>(`SELECT COUNT(*) AS n ${shared}`, ...users);
  return { rooms: rows.map(({ room }) => room), count: total?.n ?? 0 };
}

-- What this server tells of rooms to people who are not in them, and what people have told it about rooms.

-- The aliases of this server, whole. Those of other servers are theirs to keep.
CREATE TABLE room_aliases (
  alias TEXT PRIMARY KEY,
  room TEXT NOT NULL,
  creator TEXT NOT NULL,
  created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX room_aliases_by_room ON room_aliases (room, alias);

-- The rooms in the published room directory.
CREATE TABLE published_rooms (room TEXT PRIMARY KEY) WITHOUT ROWID;

-- What users have reported, for the operator. The kind says which of room, event and user are there.
CREATE TABLE reports (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  reporter TEXT NOT NULL,
  room TEXT,
  event_id TEXT,
  user_id TEXT,
  reason TEXT NOT NULL,
  received INTEGER NOT NULL
);
CREATE INDEX reports_by_reporter ON reports (reporter);

-- Events by the time that their senders gave them.
CREATE INDEX events_by_room_time ON events (room, origin_server_ts) WHERE status = 'timeline';

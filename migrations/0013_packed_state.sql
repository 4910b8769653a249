-- Historic state as packed differences, places of the state and edges of the DAG as integers. What is in the tables named
-- old_* is carried over by storage/pack_old_state.ts, which drops them.

-- A place of a room's state, whatever the room.
CREATE TABLE places (
  id INTEGER PRIMARY KEY,
  type TEXT NOT NULL,
  state_key TEXT NOT NULL,
  UNIQUE (type, state_key)
);
INSERT INTO places (type, state_key)
  SELECT DISTINCT type, state_key FROM events WHERE state_key IS NOT NULL ORDER BY type, state_key;

ALTER TABLE current_state RENAME TO old_current_state;
CREATE TABLE current_state (
  room INTEGER NOT NULL,
  place INTEGER NOT NULL,
  event INTEGER NOT NULL,
  PRIMARY KEY (room, place)
) WITHOUT ROWID;
INSERT INTO current_state (room, place, event)
  SELECT o.room, p.id, o.event FROM old_current_state o JOIN places p ON p.type = o.type AND p.state_key = o.state_key;
DROP TABLE old_current_state;

-- Every change of current_state, as 0002_rooms.sql has it.
ALTER TABLE current_state_changes RENAME TO old_current_state_changes;
DROP INDEX current_state_changes_by_place;
CREATE TABLE current_state_changes (
  room INTEGER NOT NULL,
  position INTEGER NOT NULL,
  place INTEGER NOT NULL,
  event INTEGER,
  PRIMARY KEY (room, position, place)
) WITHOUT ROWID;
INSERT INTO current_state_changes (room, position, place, event)
  SELECT o.room, o.position, p.id, o.event
  FROM old_current_state_changes o JOIN places p ON p.type = o.type AND p.state_key = o.state_key;
DROP TABLE old_current_state_changes;
CREATE INDEX current_state_changes_by_place ON current_state_changes (room, place, position);

-- The DAG's edges between events that are stored, by the end that is further back.
ALTER TABLE event_prev RENAME TO old_event_prev;
DROP INDEX event_prev_by_prev;
CREATE TABLE event_prev (prev INTEGER NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (prev, event)) WITHOUT ROWID;
INSERT INTO event_prev (prev, event)
  SELECT e.id, o.event FROM old_event_prev o JOIN events e ON e.event_id = o.prev;
-- Edges to events that are not stored, by their ids.
CREATE TABLE unknown_prev (prev TEXT NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (prev, event)) WITHOUT ROWID;
INSERT INTO unknown_prev (prev, event)
  SELECT o.prev, o.event FROM old_event_prev o WHERE NOT EXISTS (SELECT 1 FROM events e WHERE e.event_id = o.prev);
DROP TABLE old_event_prev;

-- The auth-chain index: the auth events of state events, which alone can be auth events themselves. An auth event is
-- always stored before what it authorises, so that its row is the lesser one.
ALTER TABLE event_auth RENAME TO old_event_auth;
CREATE TABLE event_auth (event INTEGER NOT NULL, auth INTEGER NOT NULL, PRIMARY KEY (event, auth)) WITHOUT ROWID;
INSERT INTO event_auth (event, auth)
  SELECT o.event, a.id FROM old_event_auth o JOIN events e ON e.id = o.event JOIN events a ON a.event_id = o.auth
  WHERE e.state_key IS NOT NULL;
CREATE INDEX event_auth_by_auth ON event_auth (auth, event);
DROP TABLE old_event_auth;

-- Historic state: each group is its parent with `entries` laid over it (storage/packed_state.ts has their form), or
-- complete where that is null. `size` counts the entries. A group of a parent that is not much larger takes its
-- entries over and lies over the parent's parent, so that a chain of groups is as long as the logarithm of the state.
ALTER TABLE state_groups RENAME TO old_state_groups;
ALTER TABLE state_group_entries RENAME TO old_state_group_entries;
CREATE TABLE state_groups (
  id INTEGER PRIMARY KEY,
  room INTEGER NOT NULL,
  parent INTEGER,
  size INTEGER NOT NULL,
  entries BLOB NOT NULL
);

-- Purges of rooms' histories that a server does while it runs (homeserver/rooms/purging.ts), one for each room.
CREATE TABLE purges (
  -- The room's row.
  room INTEGER PRIMARY KEY,
  -- Of the first event that stays: its position in the delivery stream, and its depth.
  position INTEGER NOT NULL,
  depth INTEGER NOT NULL,
  -- The last row of events that the purge is about.
  last_row INTEGER NOT NULL,
  -- 'timeline', 'changes', 'groups', 'events', then 'done'.
  stage TEXT NOT NULL,
  -- How far the stage has come, in rows or positions.
  done INTEGER NOT NULL,
  removed INTEGER NOT NULL,
  groups INTEGER NOT NULL
);

-- Whom which event has notified, and who gets that pushed.

-- Events that have notified local users, told by their positions in the delivery stream, and one part for each way in which
-- they have: few rows, and those of a room beside each other, however many users there are. They go after some time.
CREATE TABLE notified (
  room TEXT NOT NULL,
  position INTEGER NOT NULL,
  part INTEGER NOT NULL,
  -- The event id of the root of the event's thread; '' for what is in none.
  thread TEXT NOT NULL,
  highlight INTEGER NOT NULL,
  -- JSON list, as the rule that held has it.
  actions TEXT NOT NULL,
  -- JSON list of user ids.
  users TEXT NOT NULL,
  -- Unix time in milliseconds at which the event came.
  received INTEGER NOT NULL,
  PRIMARY KEY (room, position, part)
) WITHOUT ROWID;

-- How much of a thread a user has not read: of the rows above behind `read_up_to`.
CREATE TABLE unread (
  room TEXT NOT NULL,
  thread TEXT NOT NULL,
  user_id TEXT NOT NULL,
  read_up_to INTEGER NOT NULL,
  notifications INTEGER NOT NULL,
  highlights INTEGER NOT NULL,
  -- Where in the delivery stream it became so.
  changed INTEGER NOT NULL,
  PRIMARY KEY (room, thread, user_id)
) WITHOUT ROWID;
CREATE INDEX unread_by_user ON unread (user_id, room);

-- Client-server API, POST /pushers/set.
CREATE TABLE pushers (
  id INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL,
  -- The device that has set it; with it, it goes.
  device_id TEXT NOT NULL,
  app_id TEXT NOT NULL,
  pushkey TEXT NOT NULL,
  -- JSON text of an object: kind, app_display_name, device_display_name, lang, data, and profile_tag where it is given.
  content TEXT NOT NULL,
  -- Unix time in milliseconds at which the pushkey was set.
  pushkey_ts INTEGER NOT NULL,
  -- The gateway has been told of everything up to here in the delivery stream.
  position INTEGER NOT NULL,
  -- The count that it was told last.
  badge INTEGER NOT NULL,
  -- Requests that have failed one after another, and when the next one is due in Unix time.
  failures INTEGER NOT NULL,
  retry_at INTEGER NOT NULL,
  FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX pushers_by_user ON pushers (user_id, app_id, pushkey);
CREATE INDEX pushers_by_device ON pushers (user_id, device_id);
CREATE INDEX pushers_by_key ON pushers (app_id, pushkey);

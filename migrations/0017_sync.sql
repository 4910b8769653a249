-- What /sync tells besides events. Every row has the position in the delivery stream at which it became what it is.

-- Client-server API, "Client Config". What belongs to no room has the room ''. Tags are the type m.tag, the fully read
-- marker m.fully_read.
CREATE TABLE account_data (
  user_id TEXT NOT NULL,
  room TEXT NOT NULL,
  type TEXT NOT NULL,
  -- JSON text of an object.
  content TEXT NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (user_id, room, type)
) WITHOUT ROWID;
CREATE INDEX account_data_by_position ON account_data (user_id, room, position);

-- Client-server API, "Receipts": the newest of each user, type and thread.
CREATE TABLE receipts (
  room TEXT NOT NULL,
  user_id TEXT NOT NULL,
  -- m.read or m.read.private.
  type TEXT NOT NULL,
  -- '' for a receipt without a thread, 'main', or the event id of a thread's root.
  thread TEXT NOT NULL,
  event_id TEXT NOT NULL,
  -- Unix time in milliseconds.
  ts INTEGER NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (room, user_id, type, thread)
) WITHOUT ROWID;
CREATE INDEX receipts_by_position ON receipts (room, position);

-- Client-server API, "Typing Notifications": who types in a room, as it was told last. When each of them ends is known in
-- memory only: a start ends them all.
CREATE TABLE typing (
  room TEXT PRIMARY KEY,
  -- JSON list of user ids in the order in which they began.
  users TEXT NOT NULL,
  position INTEGER NOT NULL
) WITHOUT ROWID;

-- Client-server API, "Presence", as it was told last. How active somebody has been since is known in memory.
CREATE TABLE presence (
  user_id TEXT PRIMARY KEY,
  -- online, unavailable or offline.
  presence TEXT NOT NULL,
  status_msg TEXT,
  -- Unix time in milliseconds; null: not known.
  last_active INTEGER,
  currently_active INTEGER NOT NULL,
  position INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX presence_by_position ON presence (position);

-- Client-server API, "Profiles": fields but displayname and avatar_url, which are in users.
CREATE TABLE profile_fields (
  user_id TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  -- JSON text.
  value TEXT NOT NULL,
  PRIMARY KEY (user_id, name)
) WITHOUT ROWID;

-- Users whose rooms have not been told of the profile yet. `change` counts, so that a newer change is not taken for done.
CREATE TABLE profile_changes (
  user_id TEXT PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
  change INTEGER NOT NULL
) WITHOUT ROWID;

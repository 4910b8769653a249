-- Client-server API, "Server-side key backups": keys that clients have encrypted for themselves.

-- The highest version that a user's backups have had: no version is given twice.
CREATE TABLE key_backup_versions (
  user_id TEXT PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE,
  version INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE key_backups (
  id INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
  version INTEGER NOT NULL,
  algorithm TEXT NOT NULL,
  -- JSON text of an object.
  auth_data TEXT NOT NULL,
  -- Grows with each change of the keys in it.
  etag INTEGER NOT NULL DEFAULT 0,
  -- How many keys are in it, and what they take together.
  key_count INTEGER NOT NULL DEFAULT 0,
  size INTEGER NOT NULL DEFAULT 0,
  -- Whether it is deleted, and there only until its keys are.
  deleted INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX key_backups_by_version ON key_backups (user_id, version) WHERE deleted = 0;
CREATE INDEX key_backups_deleted ON key_backups (id) WHERE deleted = 1;

CREATE TABLE backed_up_keys (
  backup INTEGER NOT NULL REFERENCES key_backups (id) ON DELETE CASCADE,
  room_id TEXT NOT NULL,
  session_id TEXT NOT NULL,
  is_verified INTEGER NOT NULL,
  first_message_index INTEGER NOT NULL,
  forwarded_count INTEGER NOT NULL,
  -- JSON text of an object.
  session_data TEXT NOT NULL,
  -- Bytes that the key takes, roughly.
  size INTEGER NOT NULL,
  PRIMARY KEY (backup, room_id, session_id)
);

-- Accounts, their devices and what belongs to them. Times are Unix time in milliseconds, user ids are whole.

CREATE TABLE users (
  user_id TEXT PRIMARY KEY,
  -- An argon2id hash with its parameters and salt (PHC string format); null: nobody can log in with a password.
  password_hash TEXT,
  created INTEGER NOT NULL,
  displayname TEXT,
  avatar_url TEXT
) WITHOUT ROWID;

CREATE TABLE devices (
  user_id TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
  device_id TEXT NOT NULL,
  display_name TEXT,
  created INTEGER NOT NULL,
  PRIMARY KEY (user_id, device_id)
) WITHOUT ROWID;

-- The SHA-256 of each access token; the token itself is known to the client only.
CREATE TABLE access_tokens (
  token_hash BLOB PRIMARY KEY,
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  created INTEGER NOT NULL,
  FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX access_tokens_by_device ON access_tokens (user_id, device_id);

-- What lets somebody register. Those of the configuration are not here.
CREATE TABLE registration_tokens (
  -- The SHA-256 of the token.
  token_hash BLOB PRIMARY KEY,
  -- How many more accounts it makes; null: any number.
  uses_left INTEGER,
  created INTEGER NOT NULL,
  -- From this instant on it is not valid any more; null: it does not expire.
  expires INTEGER
) WITHOUT ROWID;

-- Sync filters. The same filter of the same user is stored once.
CREATE TABLE filters (
  id INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
  -- SHA-256 of json.
  hash BLOB NOT NULL,
  json TEXT NOT NULL,
  UNIQUE (user_id, hash)
);

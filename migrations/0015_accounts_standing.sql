-- What an account may do, and what its sessions are made of. Times are Unix time in milliseconds.

-- Whether the account administers the server, and whether its operator has locked or suspended it.
ALTER TABLE users ADD COLUMN admin INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN locked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN suspended INTEGER NOT NULL DEFAULT 0;
-- When it was deactivated; null: it was not. The row stays, so that nobody gets the user id again.
ALTER TABLE users ADD COLUMN deactivated INTEGER;
-- The position of the stream at which the user asked for their events to be erased; null: they did not.
ALTER TABLE users ADD COLUMN erased INTEGER;
CREATE INDEX users_erased ON users (user_id) WHERE erased IS NOT NULL;

-- When, from where and with what a device called last; null: not since this was first noted.
ALTER TABLE devices ADD COLUMN last_seen INTEGER;
ALTER TABLE devices ADD COLUMN last_seen_ip TEXT;
ALTER TABLE devices ADD COLUMN last_seen_agent TEXT;

-- From this instant on the token is not valid; null: it does not expire.
ALTER TABLE access_tokens ADD COLUMN expires INTEGER;
-- The SHA-256 of the refresh token that was issued with it; null: none was.
ALTER TABLE access_tokens ADD COLUMN refresh_hash BLOB;
-- The row that it takes the place of as soon as it, or its refresh token, is used; null: it has.
ALTER TABLE access_tokens ADD COLUMN replaces BLOB;
CREATE UNIQUE INDEX access_tokens_by_refresh ON access_tokens (refresh_hash) WHERE refresh_hash IS NOT NULL;

-- Tokens that log a new device in, once.
CREATE TABLE login_tokens (
  -- The SHA-256 of the token.
  token_hash BLOB PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
  expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX login_tokens_by_user ON login_tokens (user_id, expires);

-- Tokens that tell other services who somebody is.
CREATE TABLE openid_tokens (
  -- The SHA-256 of the token.
  token_hash BLOB PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
  expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX openid_tokens_by_user ON openid_tokens (user_id, expires);

-- Which version of which document a user accepted when the account was made.
CREATE TABLE accepted_terms (
  user_id TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
  policy TEXT NOT NULL,
  version TEXT NOT NULL,
  accepted INTEGER NOT NULL,
  PRIMARY KEY (user_id, policy)
) WITHOUT ROWID;

-- Users whose accounts were deactivated and who have not left all of their rooms yet.
CREATE TABLE departures (
  user_id TEXT PRIMARY KEY REFERENCES users (user_id) ON DELETE CASCADE
) WITHOUT ROWID;

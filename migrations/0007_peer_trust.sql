-- What operators decide about the keys of other servers, and what became of this server's own.
-- Instants are Unix time in milliseconds, fingerprints the SHA-256 of a signing key in hexadecimal.

-- Signing keys that an operator has named: a pipe to that server takes no other.
CREATE TABLE pipe_pins (
  server_name TEXT PRIMARY KEY,
  fingerprint TEXT NOT NULL,
  made INTEGER NOT NULL
) WITHOUT ROWID;

-- Signing keys with which somebody who calls himself a known server has come and was stopped.
CREATE TABLE pipe_waiting_keys (
  server_name TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  signing_key_id TEXT NOT NULL,
  reason TEXT NOT NULL,
  first_seen INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  PRIMARY KEY (server_name, fingerprint)
) WITHOUT ROWID;

-- Signing keys that this server used to have: published as old_verify_keys. Their secrets are gone.
CREATE TABLE own_retired_keys (
  key_id TEXT PRIMARY KEY,
  -- Unpadded base64.
  public_key TEXT NOT NULL,
  expired INTEGER NOT NULL
) WITHOUT ROWID;

-- This server's own secret keys. "signing": ed25519, for events and requests; "noise": x25519, for pipes.
CREATE TABLE own_keys (
  purpose TEXT NOT NULL,
  -- For signing keys the Matrix key id, such as ed25519:a1b2c3; for the others a serial that only grows.
  key_id TEXT NOT NULL,
  secret BLOB NOT NULL,
  created INTEGER NOT NULL,
  PRIMARY KEY (purpose, key_id)
);
-- Facts about this server that never change once written: its name.
CREATE TABLE server_facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);

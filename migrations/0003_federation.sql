-- What federation remembers: keys of other servers, what waits to be sent to them, what they have sent, and who
-- speaks through a pipe. Instants are Unix time in milliseconds.

-- Signing keys of other servers. Keys are unpadded base64.
CREATE TABLE server_keys (
  server_name TEXT NOT NULL,
  key_id TEXT NOT NULL,
  public_key TEXT NOT NULL,
  -- Signatures on events up to this origin_server_ts are good: the lesser of valid_until_ts and seven days after the
  -- key was obtained; for a key that its server has retired, expired_ts.
  valid_until INTEGER NOT NULL,
  -- 1: from old_verify_keys, good for events only, never for requests.
  retired INTEGER NOT NULL DEFAULT 0,
  -- How far the key is confirmed by the key API over HTTPS; 0: only known from a pipe.
  confirmed_until INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (server_name, key_id)
) WITHOUT ROWID;

-- Events that wait for a destination, in the order in which they go out. The PDUs are kept once for all destinations.
CREATE TABLE outbox (
  position INTEGER PRIMARY KEY,
  destination TEXT NOT NULL,
  event_id TEXT NOT NULL,
  UNIQUE (destination, event_id)
);
CREATE INDEX outbox_by_destination ON outbox (destination, position);
CREATE INDEX outbox_by_event ON outbox (event_id);
CREATE TABLE outbox_pdus (event_id TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;

-- Servers with a transaction under way or failed attempts behind them.
CREATE TABLE destinations (
  server_name TEXT PRIMARY KEY,
  -- Attempts that failed since the last one that did not, and when the next one is due.
  failures INTEGER NOT NULL DEFAULT 0,
  retry_at INTEGER NOT NULL DEFAULT 0,
  -- The transaction that is to be delivered next: all rows of the outbox up to txn_last. Kept until it is answered,
  -- so that a repetition has the same id and the same content.
  txn_id TEXT,
  txn_created INTEGER,
  txn_last INTEGER
) WITHOUT ROWID;

-- Transactions that other servers have sent, and what they were answered.
CREATE TABLE federation_transactions (
  id INTEGER PRIMARY KEY,
  origin TEXT NOT NULL,
  txn_id TEXT NOT NULL,
  response TEXT NOT NULL,
  received INTEGER NOT NULL,
  UNIQUE (origin, txn_id)
);
CREATE INDEX federation_transactions_by_received ON federation_transactions (received);

-- PDUs that other servers have sent and been answered for, and that are not decided yet: of rooms that are being joined,
-- and those of which something is missing that cannot be fetched now. In the order in which they came.
CREATE TABLE inbox (
  position INTEGER PRIMARY KEY,
  origin TEXT NOT NULL,
  room_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  json TEXT NOT NULL,
  received INTEGER NOT NULL,
  UNIQUE (origin, event_id)
);
CREATE INDEX inbox_by_origin ON inbox (origin, position);
CREATE INDEX inbox_by_room ON inbox (room_id, position);

-- Rooms for which a join was sent to another server that may have accepted it, and that are not stored here yet: if this
-- process or the link broke off in between, the others already send us the room's events.
CREATE TABLE join_attempts (room_id TEXT PRIMARY KEY, begun INTEGER NOT NULL) WITHOUT ROWID;

-- Servers whose identity in the pipe has been accepted. Keys are unpadded base64.
CREATE TABLE pipe_peers (
  server_name TEXT PRIMARY KEY,
  noise_key TEXT NOT NULL,
  signing_key_id TEXT NOT NULL,
  signing_key TEXT NOT NULL,
  -- 'verified', 'pinned' or 'tofu': what made us accept the signing key.
  trust TEXT NOT NULL,
  serial INTEGER NOT NULL,
  first_seen INTEGER NOT NULL,
  last_seen INTEGER NOT NULL
) WITHOUT ROWID;

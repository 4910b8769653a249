-- Events whose signatures go after them (docs/protocol.md, "Deferred signatures").

-- Signatures of our own events that went without them, in the order in which they went. A row leaves when its destination
-- has answered for the signature.
CREATE TABLE owed_signatures (
  id INTEGER PRIMARY KEY,
  destination TEXT NOT NULL,
  event_id TEXT NOT NULL,
  -- 32 bytes and 64 bytes.
  reference_hash BLOB NOT NULL,
  signature BLOB NOT NULL,
  UNIQUE (destination, event_id)
);

-- Events of other servers that are not part of their rooms yet.
CREATE TABLE provisional_events (
  id INTEGER PRIMARY KEY,
  event_id TEXT NOT NULL UNIQUE,
  room INTEGER NOT NULL REFERENCES rooms (id),
  origin TEXT NOT NULL,
  -- 'provisional': it waits for its signature. 'refetching': its signature was bad, it is asked for whole. 'verified': it is
  -- whole, and waits for what it is built on.
  state TEXT NOT NULL,
  -- The key with which it was announced, unpadded base64; null where it came whole.
  key_id TEXT,
  public_key TEXT,
  type TEXT NOT NULL,
  sender TEXT NOT NULL,
  depth INTEGER NOT NULL,
  -- The PDU, JSON text; without its signature while it waits for that.
  json TEXT NOT NULL,
  -- Unix time in milliseconds.
  received INTEGER NOT NULL,
  -- Where it is in the delivery stream; null: clients are not shown it yet.
  position INTEGER,
  -- The state by which it is seen who may see it.
  state_group INTEGER
);
CREATE INDEX provisional_events_by_room ON provisional_events (room, position);
CREATE INDEX provisional_events_by_origin ON provisional_events (origin, room);

-- What clients are told of events that they were shown and that came to nothing: a redaction that only this server knows.
CREATE TABLE provisional_notices (
  id INTEGER PRIMARY KEY,
  event_id TEXT NOT NULL,
  room INTEGER NOT NULL REFERENCES rooms (id),
  sender TEXT NOT NULL,
  depth INTEGER NOT NULL,
  -- As a PDU's, JSON text.
  json TEXT NOT NULL,
  -- 'rejected' or 'quarantined'.
  reason TEXT NOT NULL,
  position INTEGER NOT NULL,
  state_group INTEGER
);
CREATE INDEX provisional_notices_by_room ON provisional_notices (room, position);

-- Receipts of local users that other servers are yet to be told (server-server API, "Receipts"): of each user, room and
-- thread the newest. A newer one is a new row, so that the answer to the one before does not take it away.
CREATE TABLE outbox_receipts (
  position INTEGER PRIMARY KEY,
  destination TEXT NOT NULL,
  room TEXT NOT NULL,
  user_id TEXT NOT NULL,
  -- '' for a receipt without a thread, 'main', or the event id of a thread's root.
  thread TEXT NOT NULL,
  event_id TEXT NOT NULL,
  -- Unix time in milliseconds.
  ts INTEGER NOT NULL,
  UNIQUE (destination, room, user_id, thread)
);
CREATE INDEX outbox_receipts_by_position ON outbox_receipts (destination, position);

-- Events that users have asked to be sent later (MSC4140). Times are Unix time in milliseconds.
CREATE TABLE delayed_events (
  id TEXT PRIMARY KEY,
  user_id TEXT NOT NULL REFERENCES users (user_id),
  -- The request that scheduled it, as transactions of devices are told apart; null: it is told apart otherwise.
  request TEXT,
  room TEXT NOT NULL,
  type TEXT NOT NULL,
  -- null: a message.
  state_key TEXT,
  content TEXT NOT NULL,
  delay_ms INTEGER NOT NULL,
  -- When it was scheduled, or started anew.
  since INTEGER NOT NULL,
  -- When it was sent, cancelled, or failed; null: it waits.
  ended INTEGER,
  -- What it became.
  event_id TEXT,
  -- Why it could not be sent, JSON.
  error TEXT
) WITHOUT ROWID;
CREATE INDEX delayed_events_by_user ON delayed_events (user_id, ended);
CREATE UNIQUE INDEX delayed_events_by_request ON delayed_events (user_id, request);
CREATE INDEX delayed_events_waiting ON delayed_events (since + delay_ms) WHERE ended IS NULL;

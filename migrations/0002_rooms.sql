-- Rooms, events and their state. Ids of rows are integers; Matrix identifiers are text where they enter and leave.

CREATE TABLE rooms (
  id INTEGER PRIMARY KEY,
  room_id TEXT NOT NULL UNIQUE,
  version TEXT NOT NULL,
  -- The state group that current_state holds; null while the room is only known by its events.
  current_group INTEGER,
  -- The depth of the join with which this server last came into the room through another; 0: it made the room.
  joined_depth INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE events (
  id INTEGER PRIMARY KEY,
  event_id TEXT NOT NULL UNIQUE,
  room INTEGER NOT NULL REFERENCES rooms (id),
  type TEXT NOT NULL,
  state_key TEXT,
  sender TEXT NOT NULL,
  depth INTEGER NOT NULL,
  origin_server_ts INTEGER NOT NULL,
  -- The PDU as it was accepted, or as redaction left it, JSON text without "unsigned".
  json TEXT NOT NULL,
  -- 'timeline': part of the DAG with known state. 'outlier': known as state or auth event only.
  -- 'withheld': a redaction in the DAG that waits for the event it redacts, or that may not redact it; not shown.
  -- 'soft_failed': in the DAG, never shown. 'rejected': failed authorisation, kept so that descendants know.
  status TEXT NOT NULL,
  -- Why a rejected event is rejected: by its 'auth_events', or by the 'state' before it.
  rejected_by TEXT,
  -- State groups before and after the event (a rejected event changes nothing); null for what is known only as a state
  -- or auth event, whatever its status.
  state_before INTEGER,
  state_after INTEGER,
  -- Delivery position in the one stream that orders everything a sync can deliver; null: never appears in /sync.
  position INTEGER UNIQUE,
  -- The event id of the redaction that was applied.
  redacted_by TEXT
);
CREATE INDEX events_by_room_position ON events (room, position);
CREATE INDEX events_by_room_depth ON events (room, depth, id);

-- The DAG's edges, by event id since the far end may not be known yet.
CREATE TABLE event_prev (event INTEGER NOT NULL, prev TEXT NOT NULL, PRIMARY KEY (event, prev)) WITHOUT ROWID;
CREATE INDEX event_prev_by_prev ON event_prev (prev);
CREATE TABLE event_auth (event INTEGER NOT NULL, auth TEXT NOT NULL, PRIMARY KEY (event, auth)) WITHOUT ROWID;

-- Redactions in the DAG that were neither rejected nor soft-failed, by the event that they name, which may come later.
CREATE TABLE redactions (
  redacts TEXT NOT NULL,
  redaction INTEGER NOT NULL,
  -- Whether the sender's power level was the redact level or more, by the state before the redaction.
  by_power INTEGER NOT NULL,
  PRIMARY KEY (redacts, redaction)
) WITHOUT ROWID;

-- What a new event takes as its previous events: accepted events without an accepted child.
CREATE TABLE forward_extremities (room INTEGER NOT NULL, event INTEGER NOT NULL, PRIMARY KEY (room, event)) WITHOUT ROWID;

-- The state that holds now: resolved over the forward extremities.
CREATE TABLE current_state (
  room INTEGER NOT NULL,
  type TEXT NOT NULL,
  state_key TEXT NOT NULL,
  event INTEGER NOT NULL,
  PRIMARY KEY (room, type, state_key)
) WITHOUT ROWID;

-- Historic state: each group is its parent with the entries of state_group_entries laid over it; `hops` counts the
-- parents to the next complete group (parent null), and is bounded.
CREATE TABLE state_groups (
  id INTEGER PRIMARY KEY,
  room INTEGER NOT NULL,
  parent INTEGER,
  hops INTEGER NOT NULL
);
CREATE TABLE state_group_entries (
  state_group INTEGER NOT NULL,
  type TEXT NOT NULL,
  state_key TEXT NOT NULL,
  event INTEGER NOT NULL,
  PRIMARY KEY (state_group, type, state_key)
) WITHOUT ROWID;

-- Each user's membership in each room as current state has it, remote users included, and for local users also in
-- rooms that this server is not in (invites from elsewhere, rejected or left).
CREATE TABLE memberships (
  room TEXT NOT NULL,
  user_id TEXT NOT NULL,
  server_name TEXT NOT NULL,
  membership TEXT NOT NULL,
  event_id TEXT NOT NULL,
  -- Delivery position at which it became so.
  position INTEGER NOT NULL,
  -- Stripped state for an invite into a room that this server is not in, JSON array; else null.
  invite_state TEXT,
  -- The member event itself where this server is not in the room, JSON text; else null.
  event_json TEXT,
  forgotten INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (user_id, room)
) WITHOUT ROWID;
CREATE INDEX memberships_by_room ON memberships (room, membership, server_name);

-- A client's transaction ids: what a repeated PUT answers.
CREATE TABLE client_transactions (
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  scope TEXT NOT NULL,
  txn_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  created INTEGER NOT NULL,
  PRIMARY KEY (user_id, device_id, scope, txn_id)
) WITHOUT ROWID;
CREATE INDEX client_transactions_by_event ON client_transactions (event_id);

-- The one delivery stream: the last position handed out.
CREATE TABLE stream (position INTEGER NOT NULL);
INSERT INTO stream (position) VALUES (0);

-- Every change of current_state, by the delivery position that carried it (a position of which no event may be shown:
-- a withheld redaction can merge two branches); `event` null: the entry went away (a
-- resolution can do that). From this, /sync computes the state between two positions.
CREATE TABLE current_state_changes (
  room INTEGER NOT NULL,
  position INTEGER NOT NULL,
  type TEXT NOT NULL,
  state_key TEXT NOT NULL,
  event INTEGER,
  PRIMARY KEY (room, position, type, state_key)
) WITHOUT ROWID;
CREATE INDEX current_state_changes_by_place ON current_state_changes (room, type, state_key, position);

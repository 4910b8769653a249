-- What became of requests that change something, so that a repeated one changes nothing more. Instants are Unix time in
-- milliseconds.

CREATE TABLE ledger_requests (
  -- The order in which they came.
  id INTEGER PRIMARY KEY,
  -- Who asked, and over which link. With the next two it is the message's id.
  peer TEXT NOT NULL,
  generation INTEGER NOT NULL,
  number INTEGER NOT NULL,
  -- Of what was asked for: nobody else's answer is given to whoever uses an id twice.
  digest BLOB NOT NULL,
  begun INTEGER NOT NULL,
  -- 1: nothing is left to be done.
  answered INTEGER NOT NULL DEFAULT 0,
  -- JSON; null where it was too long to be kept.
  answer TEXT,
  UNIQUE (peer, generation, number)
);
CREATE INDEX ledger_requests_by_peer ON ledger_requests (peer, id);
CREATE INDEX ledger_requests_by_begun ON ledger_requests (begun);

-- What the steps of requests came to that are not answered yet. JSON.
CREATE TABLE ledger_steps (
  request INTEGER NOT NULL REFERENCES ledger_requests (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  outcome TEXT NOT NULL,
  PRIMARY KEY (request, name)
) WITHOUT ROWID;

-- Up to which number requests of a session may be gone from the ledger: of one that is not there, nobody knows.
CREATE TABLE ledger_floors (
  peer TEXT NOT NULL,
  generation INTEGER NOT NULL,
  number INTEGER NOT NULL,
  raised INTEGER NOT NULL,
  PRIMARY KEY (peer, generation)
) WITHOUT ROWID;
CREATE INDEX ledger_floors_by_raised ON ledger_floors (raised);

-- Which join it was that may have been accepted: whoever tries again sends the same one first. Null where nobody knows.
ALTER TABLE join_attempts ADD COLUMN user_id TEXT;
-- The server that it was sent to.
ALTER TABLE join_attempts ADD COLUMN via TEXT;
ALTER TABLE join_attempts ADD COLUMN room_version TEXT;
-- The PDU, JSON.
ALTER TABLE join_attempts ADD COLUMN event TEXT;

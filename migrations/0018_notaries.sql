-- Keys of servers that other servers have told (server-server API, "Querying keys through another server").

-- The server that has told the key, in the place of its owner; null: its owner has. What the owner says takes its place.
ALTER TABLE server_keys ADD COLUMN notary TEXT;

-- Key documents as their servers have signed them, for others who ask this server as a notary.
CREATE TABLE key_documents (
  server_name TEXT PRIMARY KEY,
  -- valid_until_ts of the document: Unix time in milliseconds.
  valid_until INTEGER NOT NULL,
  -- JSON text.
  json TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX key_documents_by_end ON key_documents (valid_until);

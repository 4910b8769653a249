-- What the two sides of a session have said of themselves in its handshake; empty in a side that knows of no negotiation.
-- A session whose server_name is empty is that of a device: signing_key_id and signing_key are empty as well.
ALTER TABLE pipe_sessions ADD COLUMN own_capabilities BLOB NOT NULL DEFAULT x'';
ALTER TABLE pipe_sessions ADD COLUMN peer_capabilities BLOB NOT NULL DEFAULT x'';

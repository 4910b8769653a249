-- Sessions of the pipe that a restart goes on with. Whoever has a row can speak as this server until the session is
-- replaced: backups leave this table out. Numbers are below 2^48; instants are Unix time in milliseconds.
CREATE TABLE pipe_sessions (
  -- The link's name here, such as udp or serial:radio.
  link TEXT NOT NULL,
  -- This side's connection id: what the peer's records name.
  local_id INTEGER NOT NULL,
  remote_id INTEGER NOT NULL,
  initiator INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  -- The peer's identity as it was accepted.
  server_name TEXT NOT NULL,
  noise_key BLOB NOT NULL,
  signing_key_id TEXT NOT NULL,
  signing_key BLOB NOT NULL,
  serial INTEGER NOT NULL,
  -- The newest start of the peer that was noticed.
  peer_boot BLOB NOT NULL,
  -- A digest of the mode and the pre-shared key under which it was agreed about.
  network BLOB NOT NULL,
  address TEXT NOT NULL,
  created INTEGER NOT NULL,
  saved INTEGER NOT NULL,
  -- Ratchets: secrets of an epoch, from which those of earlier ones do not follow.
  send_epoch INTEGER NOT NULL,
  send_secret BLOB NOT NULL,
  -- Packet numbers below it may have been used.
  send_ceiling INTEGER NOT NULL,
  receive_epoch INTEGER NOT NULL,
  receive_secret BLOB NOT NULL,
  -- The highest packet number received; -1: none.
  receive_highest INTEGER NOT NULL,
  -- Eight bytes each, the newest first.
  own_salts BLOB NOT NULL,
  peer_salt BLOB NOT NULL,
  PRIMARY KEY (link, local_id)
) WITHOUT ROWID;

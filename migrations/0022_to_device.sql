-- To-device messages, and what servers tell each other of devices. Instants are Unix time in milliseconds.

-- Client-server API, "Send-to-Device messaging": what a device has not acknowledged. In the order of the ids.
CREATE TABLE to_device_messages (
  id INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  -- The sender's.
  server_name TEXT NOT NULL,
  -- The event as /sync tells it, JSON text, and how long that is.
  json TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  -- Delivery position from which on it is told; null: it waits until others before it have been acknowledged.
  position INTEGER,
  FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
);
CREATE INDEX to_device_messages_by_device ON to_device_messages (user_id, device_id, position, id);
CREATE INDEX to_device_messages_by_server ON to_device_messages (user_id, device_id, server_name);

-- How much is in the inbox of each device, and how much of that is told.
CREATE TABLE to_device_inboxes (
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  messages INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  told INTEGER NOT NULL,
  told_bytes INTEGER NOT NULL,
  PRIMARY KEY (user_id, device_id),
  FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) WITHOUT ROWID;

-- The transaction ids under which devices have sent such messages.
CREATE TABLE to_device_transactions (
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  type TEXT NOT NULL,
  txn_id TEXT NOT NULL,
  created INTEGER NOT NULL,
  PRIMARY KEY (user_id, device_id, type, txn_id),
  FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX to_device_transactions_by_age ON to_device_transactions (user_id, device_id, created);

-- Ids of messages that other servers have sent, so that each is taken once.
CREATE TABLE received_to_device (
  id INTEGER PRIMARY KEY,
  origin TEXT NOT NULL,
  message_id TEXT NOT NULL,
  received INTEGER NOT NULL,
  UNIQUE (origin, message_id)
);
CREATE INDEX received_to_device_by_origin ON received_to_device (origin, id);
CREATE INDEX received_to_device_by_age ON received_to_device (received);

-- Server-server API, "Send-to-device messaging": what waits for other servers, in the order in which it goes out.
CREATE TABLE outbox_to_device (
  position INTEGER PRIMARY KEY,
  destination TEXT NOT NULL,
  -- The content of the EDU, JSON text, and how long that is.
  json TEXT NOT NULL,
  bytes INTEGER NOT NULL
);
CREATE INDEX outbox_to_device_by_destination ON outbox_to_device (destination, position);

-- Server-server API, "Device Management": the last link of the chain of each local user's updates.
CREATE TABLE device_list_streams (user_id TEXT PRIMARY KEY, stream_id INTEGER NOT NULL) WITHOUT ROWID;

-- Devices of local users, and with '' for a device their signing keys, of which other servers are to be told. What holds is
-- read when it is told.
CREATE TABLE outbox_device_lists (
  position INTEGER PRIMARY KEY,
  destination TEXT NOT NULL,
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  stream_id INTEGER NOT NULL,
  -- The link before it; null: it is the first, or no link.
  prev_id INTEGER,
  queued INTEGER NOT NULL
);
CREATE INDEX outbox_device_lists_by_destination ON outbox_device_lists (destination, position);
CREATE INDEX outbox_device_lists_by_user ON outbox_device_lists (destination, user_id, stream_id);

-- Servers that have asked for a local user's keys and are in no room with them as far as is known: a room that they have just
-- come into through another server may not have been heard of yet.
CREATE TABLE device_list_askers (
  user_id TEXT NOT NULL,
  server_name TEXT NOT NULL,
  asked INTEGER NOT NULL,
  PRIMARY KEY (user_id, server_name)
) WITHOUT ROWID;
CREATE INDEX device_list_askers_by_age ON device_list_askers (asked);
CREATE INDEX device_list_askers_by_server ON device_list_askers (server_name, asked);

-- What is kept here of the devices of other servers' users.
CREATE TABLE remote_device_lists (
  user_id TEXT PRIMARY KEY,
  server_name TEXT NOT NULL,
  -- The last link of the chain that is in it; null: it came without one, so that no link follows it.
  stream_id INTEGER,
  -- 0: it is right as far as their server has told. 1: it has to be fetched, and local users have not been told that.
  -- 2: it has to be fetched, and they have been told.
  stale INTEGER NOT NULL,
  -- JSON text; null: there is none.
  master_key TEXT,
  self_signing_key TEXT,
  -- Delivery position at which it was changed or confirmed.
  position INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX remote_device_lists_stale ON remote_device_lists (server_name, user_id) WHERE stale > 0;
CREATE TABLE remote_devices (
  user_id TEXT NOT NULL REFERENCES remote_device_lists (user_id) ON DELETE CASCADE,
  device_id TEXT NOT NULL,
  -- The device's keys as its server tells them, JSON text.
  keys TEXT NOT NULL,
  PRIMARY KEY (user_id, device_id)
) WITHOUT ROWID;

-- From where and with what each device has called: the last few ways. Times are Unix time in milliseconds.
CREATE TABLE connections (
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  -- An IP address; '': none is known, as of a device behind another server.
  ip TEXT NOT NULL,
  -- What the client calls itself; '': nothing.
  agent TEXT NOT NULL,
  last_seen INTEGER NOT NULL,
  PRIMARY KEY (user_id, device_id, ip, agent),
  FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) WITHOUT ROWID;

INSERT INTO connections (user_id, device_id, ip, agent, last_seen)
SELECT user_id, device_id, COALESCE(last_seen_ip, ''), COALESCE(last_seen_agent, ''), last_seen
FROM devices WHERE last_seen IS NOT NULL;

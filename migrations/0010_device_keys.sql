-- Noise keys of devices that have logged in over a pipe: what proves them from then on, instead of an access token.
-- These are the public halves: whoever reads them can show nothing with them.
CREATE TABLE device_keys (
  -- 64 hexadecimal digits in lower case.
  noise_key TEXT PRIMARY KEY,
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  -- Unix time in milliseconds.
  since INTEGER NOT NULL,
  -- Days since 1970 began.
  last_seen_day INTEGER NOT NULL,
  UNIQUE (user_id, device_id),
  FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) WITHOUT ROWID;

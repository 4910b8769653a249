-- Public keys of local users for end-to-end encryption (client-server API, "End-to-End Encryption"), and whose keys have
-- changed when. All of it is public but for who has signed whom.

-- "Device keys": the object as it was uploaded, JSON text.
CREATE TABLE identity_keys (
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  keys TEXT NOT NULL,
  PRIMARY KEY (user_id, device_id),
  FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) WITHOUT ROWID;

-- "One-time and fallback keys", in the order in which they were uploaded.
CREATE TABLE one_time_keys (
  id INTEGER PRIMARY KEY,
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  algorithm TEXT NOT NULL,
  key_id TEXT NOT NULL,
  -- JSON text; null: it was given to somebody, and is remembered only so that it is not given to anybody else when it is
  -- uploaded again.
  key TEXT,
  -- The SHA-256 of the key's canonical JSON.
  hash BLOB NOT NULL,
  UNIQUE (user_id, device_id, algorithm, key_id),
  FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
);
CREATE INDEX one_time_keys_left ON one_time_keys (user_id, device_id, algorithm, id) WHERE key IS NOT NULL;
CREATE INDEX one_time_keys_given ON one_time_keys (user_id, device_id, id) WHERE key IS NULL;

CREATE TABLE fallback_keys (
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  algorithm TEXT NOT NULL,
  key_id TEXT NOT NULL,
  -- JSON text.
  key TEXT NOT NULL,
  -- 0 or 1: whether it was given to somebody.
  used INTEGER NOT NULL,
  PRIMARY KEY (user_id, device_id, algorithm),
  FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) WITHOUT ROWID;

-- The position in the delivery stream at which a device last lost a key to somebody, which its /sync tells.
CREATE TABLE key_claims (
  user_id TEXT NOT NULL,
  device_id TEXT NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (user_id, device_id),
  FOREIGN KEY (user_id, device_id) REFERENCES devices (user_id, device_id) ON DELETE CASCADE
) WITHOUT ROWID;

-- "Cross-signing": master, self_signing or user_signing; the object as it was uploaded, JSON text.
CREATE TABLE cross_signing_keys (
  user_id TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
  usage TEXT NOT NULL,
  -- As the objects name it: unpadded base64.
  public_key TEXT NOT NULL,
  key TEXT NOT NULL,
  PRIMARY KEY (user_id, usage)
) WITHOUT ROWID;

-- Signatures by local users that came after the key that they sign.
CREATE TABLE key_signatures (
  -- Whose key is signed, who may be another server's user, and which: a device's id, or a master key's public key.
  user_id TEXT NOT NULL,
  key_id TEXT NOT NULL,
  signer TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
  -- With the algorithm: ed25519:...
  signer_key TEXT NOT NULL,
  signature TEXT NOT NULL,
  PRIMARY KEY (user_id, key_id, signer, signer_key)
) WITHOUT ROWID;
CREATE INDEX key_signatures_by_signer ON key_signatures (signer, signer_key);

-- The position in the delivery stream of the last change of a user's devices or cross-signing keys, local or not.
CREATE TABLE device_lists (
  user_id TEXT PRIMARY KEY,
  position INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX device_lists_by_position ON device_lists (position);

-- The same of changes that one user alone gets to see: whom they have signed, and their own user-signing key.
CREATE TABLE private_device_lists (
  viewer TEXT NOT NULL REFERENCES users (user_id) ON DELETE CASCADE,
  user_id TEXT NOT NULL,
  position INTEGER NOT NULL,
  PRIMARY KEY (viewer, user_id)
) WITHOUT ROWID;

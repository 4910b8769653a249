-- Whether the secrets in this database are sealed by a key that is not in it: one row where they are, none where not.
CREATE TABLE sealing (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  -- Opens under the right key only.
  proof BLOB NOT NULL,
  -- 1: what was there before is gone from the free pages and the log as well.
  erased INTEGER NOT NULL
);

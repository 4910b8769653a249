-- Up to which generation requests in first messages of handshakes (docs/protocol.md, "Early data") were taken of a static
-- key: an older one is a repetition. The row that was written last has the highest number.
CREATE TABLE pipe_early (
  written INTEGER PRIMARY KEY,
  link TEXT NOT NULL,
  noise_key BLOB NOT NULL,
  generation INTEGER NOT NULL,
  UNIQUE (link, noise_key)
);

-- The content repository (client-server API, "Content repository"). The bytes are in files, by their SHA-256
-- (storage/media_files.ts); here is what they are called, whose they are, and what of them is still wanted.

CREATE TABLE media (
  -- Both halves of mxc://server/media_id.
  server TEXT NOT NULL,
  media_id TEXT NOT NULL,
  -- upload: by a user of this server. remote: a copy of another server's. preview: an image of a page that was previewed.
  kind TEXT NOT NULL CHECK (kind IN ('upload', 'remote', 'preview')),
  -- The user; null for what nobody has uploaded.
  uploader TEXT,
  -- Unix time in milliseconds: made here, and last asked for (to the hour).
  created INTEGER NOT NULL,
  used INTEGER NOT NULL,
  -- Of an id without content: until when it may be brought.
  expires INTEGER,
  -- 64 hexadecimal digits; null as long as there is no content.
  sha256 TEXT,
  size INTEGER NOT NULL DEFAULT 0,
  -- As it was said at the upload; null: not at all.
  content_type TEXT,
  file_name TEXT,
  PRIMARY KEY (server, media_id)
) WITHOUT ROWID;
CREATE INDEX media_by_content ON media (sha256);
CREATE INDEX media_by_uploader ON media (uploader, size, expires);
CREATE INDEX media_by_use ON media (kind, used, size);

-- Made here, or fetched from the server that has the original. What was asked for, not what came of it.
CREATE TABLE media_thumbnails (
  server TEXT NOT NULL,
  media_id TEXT NOT NULL,
  width INTEGER NOT NULL,
  height INTEGER NOT NULL,
  method TEXT NOT NULL CHECK (method IN ('crop', 'scale')),
  animated INTEGER NOT NULL,
  created INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  size INTEGER NOT NULL,
  content_type TEXT NOT NULL,
  PRIMARY KEY (server, media_id, width, height, method, animated)
) WITHOUT ROWID;
CREATE INDEX media_thumbnails_by_content ON media_thumbnails (sha256);
CREATE INDEX media_thumbnails_by_age ON media_thumbnails (created);

-- Content that nobody is given, by whatever id.
CREATE TABLE media_quarantine (
  sha256 TEXT PRIMARY KEY,
  since INTEGER NOT NULL
) WITHOUT ROWID;

-- Content that may have lost its last id: its file is to be looked at.
CREATE TABLE media_unused (
  sha256 TEXT PRIMARY KEY
) WITHOUT ROWID;

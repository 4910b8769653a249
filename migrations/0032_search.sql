-- Words of events, by the events' rows (storage/search.ts says of which). The texts themselves are in the events alone.
CREATE VIRTUAL TABLE event_search USING fts5 (
  body, name, topic,
  content = '', contentless_delete = 1, tokenize = "unicode61 remove_diacritics 2"
);

INSERT INTO event_search (rowid, body, name, topic)
SELECT id,
  CASE type WHEN 'm.room.message' THEN substr(json ->> '$.content.body', 1, 10000) END,
  CASE type WHEN 'm.room.name' THEN substr(json ->> '$.content.name', 1, 10000) END,
  CASE type WHEN 'm.room.topic' THEN substr(json ->> '$.content.topic', 1, 10000) END
FROM events
WHERE (type = 'm.room.message' AND json_type(json, '$.content.body') = 'text')
  OR (type = 'm.room.name' AND state_key = '' AND json_type(json, '$.content.name') = 'text')
  OR (type = 'm.room.topic' AND state_key = '' AND json_type(json, '$.content.topic') = 'text');

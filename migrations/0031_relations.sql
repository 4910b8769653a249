-- Which event points at which (client-server API, "Forming relationships between events"). The parent may not be known
-- here. A redacted child points at nothing any more.
CREATE TABLE event_relations (
  -- The child.
  event INTEGER PRIMARY KEY REFERENCES events (id),
  room INTEGER NOT NULL,
  parent TEXT NOT NULL,
  rel_type TEXT NOT NULL
);
CREATE INDEX event_relations_by_parent ON event_relations (parent, rel_type);
CREATE INDEX event_relations_by_room ON event_relations (room, rel_type, event);

INSERT INTO event_relations (event, room, parent, rel_type)
SELECT id, room, json ->> '$.content."m.relates_to".event_id', json ->> '$.content."m.relates_to".rel_type'
FROM events
WHERE json_type(json, '$.content."m.relates_to".event_id') = 'text'
  AND json_type(json, '$.content."m.relates_to".rel_type') = 'text'
  AND length(CAST(json ->> '$.content."m.relates_to".event_id' AS BLOB)) <= 255
  AND length(CAST(json ->> '$.content."m.relates_to".rel_type' AS BLOB)) <= 255;

-- Where what is known of a room's history ends: events of the DAG of which a previous event is not part of it, because it is
-- not known, or known only as a state or auth event. What a purge took away is no such end: it is not fetched again.
CREATE TABLE backward_extremities (
  event INTEGER PRIMARY KEY,
  room INTEGER NOT NULL,
  depth INTEGER NOT NULL
);
CREATE INDEX backward_extremities_by_depth ON backward_extremities (room, depth);
INSERT INTO backward_extremities (event, room, depth)
  SELECT e.id, e.room, e.depth FROM unknown_prev u JOIN events e ON e.id = u.event WHERE e.state_after IS NOT NULL
  UNION
  SELECT e.id, e.room, e.depth
  FROM events o JOIN event_prev p ON p.prev = o.id JOIN events e ON e.id = p.event
  WHERE o.state_after IS NULL AND e.state_after IS NOT NULL;

-- Local users who have come into a room, and for whom what follows that has not been done yet.
CREATE TABLE arrivals (
  user_id TEXT NOT NULL,
  room_id TEXT NOT NULL,
  PRIMARY KEY (user_id, room_id)
) WITHOUT ROWID;

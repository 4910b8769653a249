-- When the operator has marked a report as read; null: not yet.
ALTER TABLE reports ADD COLUMN read INTEGER;

-- What the round trips with a peer over one of this server's links have taught: the timers start from it after a restart.
CREATE TABLE link_fits (
  -- The link's name here, such as udp or serial:radio.
  link TEXT NOT NULL,
  peer TEXT NOT NULL,
  -- JSON; whoever reads it checks it.
  fit TEXT NOT NULL,
  updated INTEGER NOT NULL,
  PRIMARY KEY (link, peer)
) WITHOUT ROWID;

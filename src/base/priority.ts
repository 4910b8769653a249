/**
 * Classes of traffic, strict and not preemptive: a link sends what waits in the lowest number first.
 * 0 acknowledgement and handshake, 1 message, 2 state, 3 receipt, 4 backfill, 5 media.
 */
export type Priority = 0 | 1 | 2 | 3 | 4 | 5;

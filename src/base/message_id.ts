/**
 * Names a message between two peers, through repetitions and restarts: the session in which its first copy was sent, by its
 * generation, and that copy's packet number there (docs/protocol.md, "Message ids").
 */
export interface MessageId {
  /** Below 2^48. */
  readonly generation: number;
  /** Below 2^48. */
  readonly number: number;
}

/**
 * Names a message between two peers, through repetitions and restarts: the session in which its first copy was sent, and
 * that copy's packet number there (docs/protocol.md, "Message ids").
 */
export interface MessageId {
  /**
   * Names the session: twice its generation, and one more where the message's sender has opened it, since two openings
   * that cross each other may have the same generation. Below 2^49.
   */
  readonly generation: number;
  /** Below 2^48. */
  readonly number: number;
}

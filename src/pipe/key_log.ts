import type { ConnectionId } from './record.ts';

/** The other end of a session: see `nameOf`. */
export interface LoggedPeer {
  readonly name: string;
  readonly sends: boolean;
}

/**
 * Is told what opens the records of a capture. Whoever has it reads what was said: it is for finding faults, and nothing
 * that is told goes back into the protocol.
 */
export interface KeyLog {
  /**
   * A key of 32 bytes, before anything that it seals is sent or has been read. It may be told more than once.
   * @param connection under which the receiver of those records is addressed
   * @param epoch see `epochOf`
   * @param peer who is at the other end, and whether it is the one that sends them
   */
  record(connection: ConnectionId, epoch: number, key: Uint8Array, peer: LoggedPeer): void;
  /** What a handshake message says, padding included; the message is told apart by its last 16 bytes, its tag. */
  handshake(message: Uint8Array, payload: Uint8Array): void;
}

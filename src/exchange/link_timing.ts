import { BLOCK_SIZES } from '../coap/block.ts';
import { modelledTiming, rfc7252Timing, type Timing } from '../coap/timing.ts';
import type { LinkProfile } from '../link/link.ts';

/** What a record adds to a message (docs/protocol.md). */
export interface RecordCost {
  /** Flags, connection id of one byte, packet number of one and tag. */
  readonly usual: number;
  /** A connection id of four bytes, a salt and a number of four, and what has been seen in front of the message. */
  readonly most: number;
}

export const PIPE_RECORD: RecordCost = { usual: 1 + 1 + 1 + 16, most: 1 + 4 + 8 + 4 + 1 + 8 + 16 };
export const NO_RECORD: RecordCost = { usual: 0, most: 0 };

/** What a message has beside a block: header, token, options of a long path. */
const MESSAGE_HEAD_BYTES = 128;

/**
 * When messages are sent again on a link, and how large their blocks are.
 * @param record what a pipe adds to a message
 */
export function timingOf(profile: LinkProfile, record: RecordCost): Timing {
  const mtu = profile.mtu - record.most;
  if (profile.rate === null) {
    const room = mtu - MESSAGE_HEAD_BYTES;
    const blockSize = BLOCK_SIZES.findLast((size) => size <= room) ?? BLOCK_SIZES[0];
    return rfc7252Timing({ blockSize });
  }
  const { rate, delay, overhead } = profile;
  return modelledTiming({ rate, delay, overhead: overhead + record.usual, mtu });
}

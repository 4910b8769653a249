import { BLOCK_SIZES } from '../coap/block.ts';
import { modelledTiming, rfc7252Timing, type Timing } from '../coap/timing.ts';
import type { LinkProfile } from '../link/link.ts';

/** What a data record adds to a message: flags, connection id of one byte, packet number and tag (docs/protocol.md). */
export const RECORD_BYTES = 1 + 1 + 8 + 16;

/** What a message has beside a block: header, token, options of a long path. */
const MESSAGE_HEAD_BYTES = 128;

/**
 * When messages are sent again on a link, and how large their blocks are.
 * @param recordBytes what a pipe adds to a message; 0 for plain CoAP
 */
export function timingOf(profile: LinkProfile, recordBytes: number): Timing {
  const mtu = profile.mtu - recordBytes;
  if (profile.rate === null) {
    const room = mtu - MESSAGE_HEAD_BYTES;
    const blockSize = BLOCK_SIZES.findLast((size) => size <= room) ?? BLOCK_SIZES[0];
    return rfc7252Timing({ blockSize });
  }
  const { rate, delay, overhead } = profile;
  return modelledTiming({ rate, delay, overhead: overhead + recordBytes, mtu });
}

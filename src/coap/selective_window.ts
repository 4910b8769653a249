import type { Millis } from '../base/time.ts';

/** How far the sender of a body goes ahead of what it knows to have arrived. */
export interface SelectiveWindow {
  /** Blocks of which it is not known whether they have arrived. */
  readonly blocks: number;
  /** Every so many blocks one is a checkpoint. */
  readonly interval: number;
}

const SHORTEST_INTERVAL = 4;
/** On long links: about so many checkpoints are on their way at a time. */
const CHECKPOINTS_PER_ROUND_TRIP = 4;
/** So many intervals may lie behind a checkpoint whose answer got lost before the sender has to wait for its timer. */
const SPARE_INTERVALS = 4;
/** Of blocks in flight, whatever the link: half of what one bitmap tells. */
const MOST_BLOCKS_IN_FLIGHT = 128;

/**
 * The window for a link that carries one block after another (a pacer sees to it): what fills a round trip, and some
 * intervals, so that the link is busy although every second checkpoint goes unanswered.
 * @param blockAirtime of a message with a whole block, everything below it included
 * @param roundTrip from the last bit of a checkpoint to the last of its acknowledgement
 */
export function selectiveWindow(blockAirtime: Millis, roundTrip: Millis): SelectiveWindow {
  const inRoundTrip = Math.ceil(roundTrip / blockAirtime);
  const most = MOST_BLOCKS_IN_FLIGHT / (CHECKPOINTS_PER_ROUND_TRIP + SPARE_INTERVALS);
  const interval = Math.min(
    most,
    Math.max(SHORTEST_INTERVAL, Math.ceil(inRoundTrip / CHECKPOINTS_PER_ROUND_TRIP)),
  );
  return { interval, blocks: Math.min(MOST_BLOCKS_IN_FLIGHT, inRoundTrip + SPARE_INTERVALS * interval) };
}

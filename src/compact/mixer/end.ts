import { MAX_LOGIT, SQUASH, stretch } from './logistic.ts';

// A reader knows how many bytes a message takes before it decodes it, and they are the fewest that it could be coded in: so the
// message ends where they are about to be used up, and nowhere else. Logits, of 1/256; fitted to lines that were held out.
const TOO_EARLY = -1000;
const LAST_BITS = 8;
const AT_LAST = 900;
const PER_BIT_LEFT = 75;
/** It has already taken more than there is, which happens by chance. */
const OVERDUE = 1200;

/**
 * How probable it is that a message ends.
 * @param probability what the model thinks of it, of 65536
 * @param left bits that are left of the message's bytes
 */
export function endProbability(probability: number, left: number): number {
  const shift = left < 0 ? OVERDUE : left <= LAST_BITS ? AT_LAST - PER_BIT_LEFT * left : TOO_EARLY;
  const logit = Math.min(Math.max(stretch(probability) + shift, -MAX_LOGIT), MAX_LOGIT);
  return SQUASH[logit + MAX_LOGIT]!;
}

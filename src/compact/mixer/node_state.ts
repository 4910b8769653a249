import { ONE } from './logistic.ts';

/**
 * What a node of a context has seen: how often a 0 followed and how often a 1, each as one of ten levels, in one
 * byte (10 times the level of the zeros, plus that of the ones). 0: nothing yet.
 */
export const LEVELS = 10;
export const STATES = LEVELS * LEVELS;

/** The counts that the levels stand for. */
const COUNTS = [0, 1, 2, 3, 5, 8, 14, 28, 64, 180];
/** Levels that one more observation raises; above, a single one within a message says little. */
const QUICK_LEVELS = 5;
/** A level above this falls by one when the other bit is seen. */
const FALLS_ABOVE = 3;

/** The highest level whose count `count` reaches. */
function levelOf(count: number): number {
  let level = 0;
  while (level + 1 < LEVELS && COUNTS[level + 1]! <= count) level++;
  return level;
}

/** The largest count that is told from smaller ones. */
export const MAX_COUNT = 255;
/** The level of each count up to that. */
export const LEVEL_OF_COUNT = Uint8Array.from({ length: MAX_COUNT + 1 }, (_, count) => levelOf(count));

/** The state of a node that was passed with a 0 and with a 1 so many times, each at most MAX_COUNT. */
export const stateOf = (zeros: number, ones: number): number =>
  LEVEL_OF_COUNT[zeros]! * LEVELS + LEVEL_OF_COUNT[ones]!;

/** The two levels of a state. */
export const ZEROS_LEVEL: Uint8Array = Uint8Array.from({ length: STATES }, (_, state) =>
  Math.trunc(state / LEVELS),
);
export const ONES_LEVEL: Uint8Array = Uint8Array.from({ length: STATES }, (_, state) => state % LEVELS);

/** The state after a further bit, at index 2 * state + bit. */
export const NEXT_STATE: Uint8Array = Uint8Array.from({ length: 2 * STATES }, (_, index) => {
  const state = index >> 1;
  const seen = [ZEROS_LEVEL[state]!, ONES_LEVEL[state]!];
  const bit = index & 1;
  const same = seen[bit]!;
  const other = seen[1 - bit]!;
  seen[bit] = same < QUICK_LEVELS ? same + 1 : same;
  seen[1 - bit] = other > FALLS_ABOVE ? other - 1 : other;
  return seen[0]! * LEVELS + seen[1]!;
});

/** What a state says of the next bit being 1, of 65536, before anything was learnt about states (Krichevsky-Trofimov). */
export function firstGuess(state: number): number {
  const zeros = COUNTS[ZEROS_LEVEL[state]!]!;
  const ones = COUNTS[ONES_LEVEL[state]!]!;
  return Math.trunc((ONE * (5 * ones + 2)) / (5 * (zeros + ones) + 4));
}

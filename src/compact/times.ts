/** Integers from 1987 to 2248, read as milliseconds: shorter as a difference to another time than by themselves. */
const EARLIEST_MS = 2 ** 39;
const LATEST_MS = 2 ** 43;

export const isNearTime = (value: number): boolean =>
  value >= EARLIEST_MS && value < LATEST_MS && Number.isInteger(value);

/** Signed differences as unsigned numbers, the small ones small: 0, -1, 1, -2, 2. */
export const zigzag = (difference: number): number =>
  difference >= 0 ? difference * 2 : -difference * 2 - 1;

export const unzigzag = (number: number): number => (number % 2 === 0 ? number / 2 : -(number + 1) / 2);

/*
 * The byte that says in a container what a message is coded with, and what is learnt from it (docs/protocol.md, "Histories"):
 *
 *     lssssggg    l: the message is learnt from, and makes the next generation (after 7 comes 1)
 *                 s: which of SLOTS histories
 *                 g: the generation that the message is coded with; 0: none, it begins a history
 */
export const SLOTS = 16;
export const GENERATIONS = 7;
export const BEGINS = 0;
const GENERATION_BITS = 3;
const LEARNS = 0x80;

/** Of those that a message goes on with and is learnt from, the first ones have a number that leaves room in a byte. */
const SHORT_SLOTS = 4;
export const SHORT_NAMES = SHORT_SLOTS * GENERATIONS;

/** What the byte says. */
export interface Place {
  readonly slot: number;
  readonly generation: number;
  readonly learns: boolean;
}

export const byteOf = ({ slot, generation, learns }: Place): number =>
  (learns ? LEARNS : 0) | (slot << GENERATION_BITS) | generation;

export const placeOf = (byte: number): Place => ({
  slot: (byte >> GENERATION_BITS) & (SLOTS - 1),
  generation: byte & GENERATIONS,
  learns: (byte & LEARNS) !== 0,
});

export const nextGeneration = (generation: number): number => (generation % GENERATIONS) + 1;

/** A number below SHORT_NAMES for what the byte says; undefined where it has none. */
export function shortNameOf(byte: number): number | undefined {
  const { slot, generation, learns } = placeOf(byte);
  return learns && generation !== BEGINS && slot < SHORT_SLOTS
    ? slot * GENERATIONS + generation - 1
    : undefined;
}

/** The byte that says what such a number does. */
export const byteOfShortName = (name: number): number =>
  byteOf({ slot: Math.floor(name / GENERATIONS), generation: (name % GENERATIONS) + 1, learns: true });

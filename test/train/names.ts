import type { Random } from '../../src/base/random.ts';
import type { Line } from './corpus.ts';

/** Invented names, so that a model knows what a name looks like and no server in particular. */
export const NAMES = [
  'anna',
  'ben',
  'carla',
  'david',
  'elif',
  'fatima',
  'georg',
  'hana',
  'ivan',
  'jose',
  'lena',
  'li',
  'maria',
  'noah',
  'olga',
  'paul',
  'rami',
  'sofia',
  'tom',
  'yara',
];
export const HOSTS = [
  'matrix.org',
  'example.org',
  'chat.example.com',
  'hs1.example.net',
  'home.lan',
  'village.mesh',
  'ship.example',
  'clinic.example.org',
  'relay-7.example',
  'station.local',
];

/** The lines in random order, one after another, and again from the beginning once they are used up. */
export function eachOnce(lines: readonly Line[], random: Random): () => string {
  const rest: string[] = [];
  return () => {
    if (rest.length === 0) rest.push(...lines.map(({ text }) => text));
    const at = random.integer(rest.length);
    const chosen = rest[at]!;
    rest[at] = rest.at(-1)!;
    rest.pop();
    return chosen;
  };
}

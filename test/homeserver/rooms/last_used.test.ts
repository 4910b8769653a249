import { expect, it } from 'vitest';
import { LastUsed } from '../../../src/homeserver/rooms/last_used.ts';

it('keeps the values used last, by what they weigh and not by how many they are', () => {
  const values = new LastUsed<string, number>(10, (value) => value);
  const kept = (...keys: string[]): string[] => keys.filter((key) => values.get(key) !== undefined);
  for (const key of ['a', 'b', 'c']) values.keep(key, 3);
  values.get('a');
  values.keep('d', 4);
  expect(kept('a', 'b', 'c', 'd')).toEqual(['a', 'c', 'd']);
  values.keep('a', 2);
  values.keep('e', 1);
  expect(kept('a', 'c', 'd', 'e')).toEqual(['a', 'c', 'd', 'e']);
  values.drop('c');
  values.keep('c', 3);
  expect(kept('a', 'c', 'd', 'e')).toEqual(['a', 'c', 'd', 'e']);
  values.keep('large', 50);
  expect(kept('a', 'c', 'd', 'e', 'large')).toEqual(['large']);
});

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { LayeredMap } from '../../../src/homeserver/rooms/layered_map.ts';

const key = fc.nat(60);
const changes = fc.array(fc.tuple(key, fc.option(fc.nat(5), { nil: undefined })), { maxLength: 6 });

it('a layered map is the map that its changes make, and knows what differs from another', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(key, fc.nat(5)), { maxLength: 50 }),
      fc.array(changes, { maxLength: 30 }),
      (start, steps) => {
        const model = new Map(start);
        let map = LayeredMap.of<number, number>(new Map(start));
        const all: [LayeredMap<number, number>, Map<number, number>][] = [[map, new Map(model)]];
        for (const step of steps) {
          for (const [at, value] of step) {
            if (value === undefined) model.delete(at);
            else model.set(at, value);
          }
          map = map.with(new Map(step));
          all.push([map, new Map(model)]);
        }
        for (const [layered, plain] of all) {
          expect(new Map(layered)).toEqual(plain);
          expect(layered.size).toBe(plain.size);
          expect([...layered.keys()].every((at) => layered.has(at))).toBe(true);
          const [other, otherPlain] = all[Math.floor(all.length / 2)]!;
          const made = new Map(plain);
          for (const [at, value] of layered.changesTo(other)) {
            expect(made.get(at)).not.toBe(value);
            if (value === undefined) made.delete(at);
            else made.set(at, value);
          }
          expect(made).toEqual(otherPlain);
        }
      },
    ),
    { seed: 1 },
  );
});

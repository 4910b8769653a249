import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  allowsEvent,
  allowsRoom,
  matchesPattern,
  parseRoomEventFilter,
  type RoomEventFilter,
} from '../../src/homeserver/filter_events.ts';
import type { JsonObject } from '../../src/matrix/json.ts';

function filter(value: JsonObject): RoomEventFilter {
  const result = parseRoomEventFilter(value);
  if (!result.ok) throw new Error(result.problem);
  return result.value;
}

const event = { type: 'm.room.message', sender: '@a:x', content: { body: 'hi' } };

describe('a RoomEventFilter', () => {
  it.each<[JsonObject, boolean]>([
    [{}, true],
    [{ types: ['m.room.message'] }, true],
    [{ types: ['m.room.*'] }, true],
    [{ types: ['*message'] }, true],
    [{ types: [] }, false],
    [{ types: ['m.room'] }, false],
    [{ types: ['m.room.*'], not_types: ['*.message'] }, false],
    [{ senders: ['@a:x'] }, true],
    [{ senders: ['@b:x'] }, false],
    [{ senders: [] }, false],
    [{ senders: ['@a:x'], not_senders: ['@a:x'] }, false],
    [{ not_types: ['m.room.member'] }, true],
    [{ contains_url: true }, false],
    [{ contains_url: false }, true],
    [{ types: null }, true],
  ])('%j lets a message through: %j', (value, expected) => {
    expect(allowsEvent(filter(value), event)).toBe(expected);
  });

  it('takes a url key for one even where its value is nothing', () => {
    expect(allowsEvent(filter({ contains_url: true }), { ...event, content: { url: null } })).toBe(true);
  });

  it('leaves out a room that is in both lists', () => {
    expect(allowsRoom(filter({ rooms: ['!a'], not_rooms: ['!a'] }), '!a')).toBe(false);
    expect(allowsRoom(filter({ rooms: ['!a'] }), '!b')).toBe(false);
    expect(allowsRoom(filter({ not_rooms: ['!a'] }), '!b')).toBe(true);
  });

  it.each<[JsonObject, string]>([
    [{ limit: '1' }, 'limit'],
    [{ limit: 1.5 }, 'limit'],
    [{ limit: -1 }, 'limit'],
    [{ types: 'm.room.message' }, 'types'],
    [{ rooms: [1] }, 'rooms'],
    [{ contains_url: 'yes' }, 'contains_url'],
    [{ senders: Array.from({ length: 1_001 }, () => '@a:x') }, 'senders'],
  ])('%# is refused by the name of what is wrong', (value, key) => {
    expect(parseRoomEventFilter(value)).toMatchObject({ ok: false, problem: expect.stringContaining(key) });
  });
});

describe('a pattern', () => {
  it('matches what a regular expression with .* for * matches', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', '.'), maxLength: 8 });
    const patterns = fc.string({ unit: fc.constantFrom('a', 'b', '.', '*'), maxLength: 8 });
    fc.assert(
      fc.property(patterns, letters, (pattern, text) => {
        const twin = new RegExp(`^${pattern.replaceAll('.', '\\.').replaceAll('*', '.*')}$`);
        expect(matchesPattern(pattern, text)).toBe(twin.test(text));
      }),
      { seed: 12, numRuns: 2_000 },
    );
  });

  it('takes no time that grows with the power of its stars', () => {
    expect(matchesPattern(`${'*a'.repeat(100)}b`, 'a'.repeat(255))).toBe(false);
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EventId, RoomId, UserId } from '../../src/matrix/ids.ts';
import { type StateKey, stateKey } from '../../src/matrix/pdu.ts';
import { putEvent } from '../../src/storage/events.ts';
import { mergeLayers, packLayer, visitLayer } from '../../src/storage/packed_state.ts';
import { ensureRoom } from '../../src/storage/rooms.ts';
import { eventIdsByRow, placesByRow, putGroup, stateOfGroup } from '../../src/storage/state.ts';
import { stateGroupEntry, stateGroupState } from '../../src/storage/sync.ts';
import { temporaryDatabase } from './temporary_database.ts';

const layer = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 2 ** 40 }), fc.integer({ min: 0, max: 2 ** 50 })))
  .map((entries) => new Map(entries));

describe('a packed layer', () => {
  it('comes back as it was, by place', () => {
    fc.assert(
      fc.property(layer, (entries) => {
        const read: [number, number][] = [];
        visitLayer(packLayer(entries), (place, event) => {
          read.push([place, event]);
          return false;
        });
        expect(read).toEqual([...entries].sort(([a], [b]) => a - b));
      }),
    );
  });

  it('takes two to four bytes an entry where a room is imported at once', () => {
    const entries = new Map([...Array(50_000).keys()].map((at) => [at + 1_000, at + 5_000_000]));
    expect(packLayer(entries).length / entries.size).toBeLessThan(2.1);
  });

  it('lies over others, and keeps that a place is empty as long as something lies below', () => {
    const layers = [
      new Map([[1, 0]]),
      new Map([
        [1, 5],
        [2, 6],
      ]),
    ].map(packLayer);
    expect(mergeLayers(layers, true)).toEqual(new Map([[2, 6]]));
    expect(mergeLayers(layers, false)).toEqual(
      new Map([
        [1, 0],
        [2, 6],
      ]),
    );
  });
});

const ROOM = '!r' as RoomId;

describe('state groups', () => {
  it('stand for the states that they were made of, in short chains, however they branch', async () => {
    const database = temporaryDatabase();
    let row = 0;
    await database.transaction(async (tx) => {
      row = await ensureRoom(tx, ROOM, '12');
      for (let at = 0; at < 40; at++) {
        const pdu = {
          ...{ type: `t${at % 8}`, state_key: '', sender: '@a:b' as UserId, content: { at } },
          ...{ origin_server_ts: 0, depth: 1, prev_events: [], auth_events: [] },
          ...{ hashes: { sha256: '' }, signatures: {} },
        };
        await putEvent(tx, row, { id: `$${at}` as EventId, room: ROOM, pdu }, null);
      }
    });
    const step = fc.record({
      from: fc.nat(1_000),
      events: fc.array(fc.nat(39), { maxLength: 3 }),
      removed: fc.array(fc.nat(7), { maxLength: 2 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
        const groups: { id: number; state: Map<StateKey, EventId> }[] = [];
        for (const { from, events, removed } of steps) {
          const parent = groups.length === 0 ? undefined : groups[from % groups.length]!;
          const changes = new Map<StateKey, EventId | undefined>();
          for (const at of removed) {
            const place = stateKey(`t${at}`, '');
            if (parent?.state.has(place)) changes.set(place, undefined);
          }
          for (const at of events) changes.set(stateKey(`t${at % 8}`, ''), `$${at}` as EventId);
          const state = new Map(parent?.state);
          for (const [place, id] of changes) {
            if (id === undefined) state.delete(place);
            else state.set(place, id);
          }
          const id = await database.transaction((tx) =>
            putGroup(tx, row, { parent: parent?.id ?? null, changes }),
          );
          groups.push({ id, state });
        }
        for (const { id, state } of groups) {
          const rows = await stateOfGroup(database, id);
          const places = await placesByRow(database, [...rows.keys()]);
          const ids = await eventIdsByRow(database, [...rows.values()]);
          expect(new Map([...rows].map(([place, event]) => [places.get(place), ids.get(event)]))).toEqual(
            state,
          );
          expect((await stateGroupState(database, id, true)).map((event) => event.event_id).sort()).toEqual(
            [...state.values()].sort(),
          );
          const one = await stateGroupEntry(database, id, 't3', '');
          expect(one?.event_id).toBe(state.get(stateKey('t3', '')));
        }
      }),
      { numRuns: 60, seed: 3 },
    );
  });

  it('of a long room have chains as long as the logarithm of the state, and few entries', async () => {
    const database = temporaryDatabase();
    const changesOf = 2_000;
    let parent: number | null = null;
    await database.transaction(async (tx) => {
      const row = await ensureRoom(tx, ROOM, '12');
      for (let at = 0; at < changesOf; at++) {
        const pdu = {
          ...{ type: 'm', state_key: `${at}`, sender: '@a:b' as UserId, content: {} },
          ...{ origin_server_ts: 0, depth: 1, prev_events: [], auth_events: [] },
          ...{ hashes: { sha256: '' }, signatures: {} },
        };
        const id = `$m${at}` as EventId;
        await putEvent(tx, row, { id, room: ROOM, pdu }, null);
        parent = await putGroup(tx, row, { parent, changes: new Map([[stateKey('m', `${at}`), id]]) });
      }
    });
    const { entries, longest } = (await database.get<{ entries: number; longest: number }>(
      `WITH RECURSIVE chain (id, length) AS (
         SELECT id, 1 FROM state_groups WHERE parent IS NULL
         UNION ALL SELECT g.id, chain.length + 1 FROM chain JOIN state_groups g ON g.parent = chain.id
       ) SELECT MAX(length) AS longest, (SELECT SUM(size) FROM state_groups) AS entries FROM chain`,
    ))!;
    expect(longest).toBeLessThanOrEqual(Math.ceil(Math.log2(changesOf)));
    expect(entries / changesOf).toBeLessThan(Math.log2(changesOf));
  });
});

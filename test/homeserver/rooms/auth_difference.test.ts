import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { authDifference } from '../../../src/homeserver/rooms/auth_difference.ts';
import type { EventId, RoomId, UserId } from '../../../src/matrix/ids.ts';
import { authEvents, type Event, type StateKey, stateKey } from '../../../src/matrix/pdu.ts';
import type { ResolvedEvent } from '../../../src/matrix/state_resolution.ts';
import { authChainOf } from '../../../src/storage/auth_chains.ts';
import { putEvent } from '../../../src/storage/events.ts';
import { ensureRoom } from '../../../src/storage/rooms.ts';
import type { SqliteDatabase } from '../../../src/storage/sqlite.ts';
import { temporaryDatabase } from '../../storage/temporary_database.ts';

const ROOM = '!room' as RoomId;
const PLACES = 6;

let made = 0;

/** An event of a graph: its place, and which of those before it authorise it. */
interface Node {
  readonly place: number;
  readonly auth: readonly number[];
}

function eventsOf(nodes: readonly Node[]): Event[] {
  const graph = ++made;
  const events: Event[] = [];
  for (const [index, { place, auth }] of nodes.entries()) {
    const behind = [...new Set(auth.filter((at) => at < index))].map((at) => events[at]!.id);
    events.push({
      id: `$${graph}.${index}` as EventId,
      room: ROOM,
      pdu: {
        ...{ type: 'x', state_key: `${place}`, sender: '@a:b' as UserId, content: {} },
        ...{ origin_server_ts: 0, depth: index, prev_events: [], auth_events: behind },
        ...{ hashes: { sha256: '' }, signatures: {} },
      },
    });
  }
  return events;
}

/** The difference as the text has it, from whole chains. */
function literal(events: readonly Event[], sets: readonly ReadonlyMap<StateKey, EventId>[]): Set<EventId> {
  const byId = new Map(events.map((event) => [event.id, event]));
  const chains = sets.map((set) => {
    const chain = new Set<EventId>();
    const visit = (id: EventId): void => {
      chain.add(id);
      for (const auth of authEvents(byId.get(id)!.pdu)) visit(auth);
    };
    for (const id of set.values()) visit(id);
    return chain;
  });
  return new Set(
    events
      .map(({ id }) => id)
      .filter((id) => {
        const found = chains.filter((chain) => chain.has(id)).length;
        return found > 0 && found < chains.length;
      }),
  );
}

async function store(database: SqliteDatabase, events: readonly Event[]): Promise<void> {
  await database.transaction(async (tx) => {
    const room = await ensureRoom(tx, ROOM, '12');
    for (const event of events) await putEvent(tx, room, event, null);
  });
}

const setOf = (events: readonly Event[], chosen: readonly number[]): Map<StateKey, EventId> =>
  new Map(
    chosen.flatMap((at) => {
      const event = events[at % events.length]!;
      return [[stateKey('x', event.pdu.state_key!), event.id] as const];
    }),
  );

const node = fc.record({
  place: fc.nat(PLACES),
  auth: fc.array(fc.nat(24), { maxLength: 3 }),
});
const graphs = fc.record({
  nodes: fc.array(node, { minLength: 1, maxLength: 25 }),
  common: fc.array(fc.nat(24), { maxLength: 4 }),
  sets: fc.array(fc.array(fc.nat(24), { maxLength: 4 }), { minLength: 2, maxLength: 4 }),
  pending: fc.nat(25),
});

describe('the auth difference', () => {
  it('is what the whole chains say, of stored events and of some that are not stored yet', async () => {
    const database = temporaryDatabase();
    let notEmpty = 0;
    await fc.assert(
      fc.asyncProperty(graphs, async ({ nodes, common, sets, pending }) => {
        const events = eventsOf(nodes);
        const states = sets.map((own) => new Map([...setOf(events, own), ...setOf(events, common)]));
        const stored = Math.max(0, events.length - pending);
        await store(database, events.slice(0, stored));
        const waiting = new Map<EventId, ResolvedEvent>(
          events.slice(stored).map((event) => [event.id, { event, rejected: false }]),
        );
        const expected = literal(events, states);
        if (expected.size > 0) notEmpty++;
        expect([...(await authDifference(database, states, waiting))!].sort()).toEqual([...expected].sort());
      }),
      { numRuns: 600, seed: 6 },
    );
    expect(notEmpty).toBeGreaterThan(100);
  });

  it('reads no more of a long chain than differs', async () => {
    const database = temporaryDatabase();
    // A power event after the other, and a member of each time, who is still there.
    const nodes: Node[] = [];
    for (let index = 0; index < 300; index++) {
      nodes.push({ place: 0, auth: nodes.length === 0 ? [] : [nodes.length - 2] });
      nodes.push({ place: index + 1, auth: [nodes.length - 1] });
    }
    const left = nodes.length;
    nodes.push({ place: 0, auth: [left - 2] }, { place: 0, auth: [left - 2] });
    const events = eventsOf(nodes);
    await store(database, events);
    const members = events.filter(({ pdu }) => pdu.state_key !== '0');
    const sets = [left, left + 1].map((at) =>
      setOf([...members, events[at]!], [...Array(members.length + 1).keys()]),
    );
    let reads = 0;
    const counted = {
      get: database.get.bind(database),
      all: <R>(...args: Parameters<typeof database.all>): Promise<R[]> => {
        reads++;
        return database.all<R>(...args);
      },
    };
    expect(await authDifference(counted, sets, new Map())).toEqual(
      new Set([events[left]!.id, events[left + 1]!.id]),
    );
    expect(reads).toBeLessThan(12);
  });

  it('is left to the resolution where there are more sets than bits', async () => {
    const database = temporaryDatabase();
    expect(await authDifference(database, Array(31).fill(new Map()), new Map())).toBeUndefined();
  });
});

it('an auth chain is everything behind some events', async () => {
  const database = temporaryDatabase();
  const events = eventsOf([
    { place: 0, auth: [] },
    { place: 1, auth: [0] },
    { place: 2, auth: [1, 0] },
    { place: 3, auth: [0] },
    { place: 4, auth: [2] },
  ]);
  await store(database, events);
  const chain = await authChainOf(database, [events[4]!.id, events[3]!.id], 100);
  expect(chain.sort()).toEqual([0, 1, 2].map((at) => events[at]!.id));
});

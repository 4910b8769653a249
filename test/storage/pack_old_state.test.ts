import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import Connection from 'better-sqlite3';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { EventId, RoomId } from '../../src/matrix/ids.ts';
import { authChainOf } from '../../src/storage/auth_chains.ts';
import { childrenOf } from '../../src/storage/events.ts';
import { migrate, readMigrations } from '../../src/storage/migrate.ts';
import { openSqlite, type SqliteDatabase } from '../../src/storage/sqlite.ts';
import { eventIdsByRow, placesByRow, stateOfGroup } from '../../src/storage/state.ts';
import { temporaryFolder } from './temporary_database.ts';

/** Rows as the version before migration 0013 wrote them: each table's name and columns, then its rows. */
const OLD_ROWS = new URL('database_0012.jsonl', import.meta.url);

/** A database of the version before, with two rooms that it wrote. */
function oldDatabase(): string {
  const path = join(temporaryFolder(), 'old.db');
  migrate(
    path,
    readMigrations().filter(({ version }) => version < 13),
  );
  const connection = new Connection(path);
  connection.exec('DELETE FROM stream');
  let insert: Connection.Statement<unknown[]> | undefined;
  for (const line of readFileSync(OLD_ROWS, 'utf8').trim().split('\n')) {
    const row = JSON.parse(line) as unknown[];
    const [table, ...columns] = row;
    const isHeader =
      typeof table === 'string' &&
      /^[a-z_]+$/.test(table) &&
      columns.every((name) => typeof name === 'string' && /^[a-z_]+$/.test(name));
    if (isHeader && columns.length > 0) {
      insert = connection.prepare(
        `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`,
      );
    } else insert!.run(...row);
  }
  // Resolution can take places away: such states are complete, and may differ much from what was stored before.
  connection.exec(
    `INSERT INTO state_groups (id, room, parent, hops) VALUES (100000, 1, NULL, 0), (100001, 1, 100000, 1);
     INSERT INTO state_group_entries (state_group, type, state_key, event)
       SELECT 100000, type, state_key, MIN(id) FROM events WHERE room = 1 AND type <> 'x' AND state_key IS NOT NULL
       GROUP BY type, state_key;
     INSERT INTO state_group_entries (state_group, type, state_key, event)
       SELECT 100001, type, state_key, MAX(id) FROM events WHERE room = 1 AND type = 'x' AND state_key = '1'`,
  );
  connection.close();
  return path;
}

/** Every group's state, current state and edges, read from the old tables as they were read then. */
function asItWas(path: string) {
  const connection = new Connection(path, { readonly: true });
  const all = <R>(sql: string): R[] => connection.prepare<[], R>(sql).all();
  const groups = all<{ id: number; parent: number | null }>(
    'SELECT id, parent FROM state_groups ORDER BY id',
  );
  const states = new Map<number, Map<string, string>>();
  const entries = connection.prepare<[number], { place: string; event: string }>(
    `SELECT s.type || char(0) || s.state_key AS place, e.event_id AS event
     FROM state_group_entries s JOIN events e ON e.id = s.event WHERE s.state_group = ?`,
  );
  for (const { id, parent } of groups) {
    const state = new Map(parent === null ? [] : states.get(parent)!);
    for (const { place, event } of entries.iterate(id)) state.set(place, event);
    states.set(id, state);
  }
  const was = {
    states,
    complete: groups.filter(({ parent }) => parent === null).length,
    current: all('SELECT room, type, state_key, event FROM current_state ORDER BY room, type, state_key'),
    changes: all(
      'SELECT room, position, type, state_key, event FROM current_state_changes ORDER BY 1, 2, 3, 4',
    ),
    prev: all<{ event: string; prev: string }>(
      'SELECT e.event_id AS event, p.prev FROM event_prev p JOIN events e ON e.id = p.event ORDER BY 2, 1',
    ),
    auth: all<{ event: string; auth: string }>(
      `SELECT e.event_id AS event, p.auth FROM event_auth p JOIN events e ON e.id = p.event
       WHERE e.state_key IS NOT NULL ORDER BY 1, 2`,
    ),
  };
  connection.close();
  return was;
}

async function named(database: SqliteDatabase, group: number): Promise<Map<string, string>> {
  const rows = await stateOfGroup(database, group);
  const places = await placesByRow(database, [...rows.keys()]);
  const events = await eventIdsByRow(database, [...rows.values()]);
  return new Map([...rows].map(([place, event]) => [places.get(place)!, events.get(event)!]));
}

describe('a database of the version before packed states', () => {
  it('has the same states, changes and edges afterwards, and tells how far it is', async () => {
    const path = oldDatabase();
    const was = asItWas(path);
    expect(was.complete).toBeGreaterThan(2);
    expect(was.states.size).toBeGreaterThan(80);
    const told: [string, number, number][] = [];
    migrate(path, undefined, (...progress) => told.push(progress));
    expect(told).toEqual([['room states', was.states.size, was.states.size]]);

    const database = openSqlite({ path, durability: 'off' });
    onTestFinished(() => database.close());
    for (const [group, state] of was.states) expect(await named(database, group)).toEqual(state);
    expect(
      await database.all(
        `SELECT c.room, p.type, p.state_key, c.event FROM current_state c JOIN places p ON p.id = c.place
         ORDER BY room, type, state_key`,
      ),
    ).toEqual(was.current);
    expect(
      await database.all(
        `SELECT c.room, c.position, p.type, p.state_key, c.event
         FROM current_state_changes c JOIN places p ON p.id = c.place ORDER BY 1, 2, 3, 4`,
      ),
    ).toEqual(was.changes);
    for (const prev of new Set(was.prev.map((edge) => edge.prev))) {
      const children = was.prev.filter((edge) => edge.prev === prev).map(({ event }) => event);
      const found: { id: EventId }[] = [];
      for (const { id } of await database.all<{ id: RoomId }>('SELECT room_id AS id FROM rooms'))
        found.push(...(await childrenOf(database, id, [prev as EventId])));
      expect(found.map(({ id }) => id).sort()).toEqual(children.sort());
    }
    const behind = (event: string): Set<string> =>
      new Set(was.auth.filter((edge) => edge.event === event).flatMap(({ auth }) => [auth, ...behind(auth)]));
    const top = was.auth.at(-1)!.event;
    expect((await authChainOf(database, [top as EventId], 1_000)).sort()).toEqual([...behind(top)].sort());
    const left = await database.all("SELECT name FROM sqlite_master WHERE name LIKE 'old\\_%' ESCAPE '\\'");
    expect(left).toEqual([]);
  });

  it('takes less room for what each group says', async () => {
    const path = oldDatabase();
    const was = asItWas(path);
    migrate(path);
    const database = openSqlite({ path, durability: 'off' });
    onTestFinished(() => database.close());
    const { bytes } = (await database.get<{ bytes: number }>(
      'SELECT SUM(LENGTH(entries)) AS bytes FROM state_groups',
    ))!;
    expect(bytes / was.states.size).toBeLessThan(25);
  });
});

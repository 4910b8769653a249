import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Millis } from '../../src/base/time.ts';
import type { EventId, RoomId, ServerName } from '../../src/matrix/ids.ts';
import { migrate } from '../../src/storage/migrate.ts';
import { openSqlite, type SqliteDatabase } from '../../src/storage/sqlite.ts';
import { A, B, C, HOUR, testKey } from './fixtures.ts';
import { Network, openSide, type Side, stopped } from './sides.ts';

export const NAMES = [A, B, C] as const;
export const USERS = ['alice', 'bob', 'carol'] as const;

/** A room, who is in it (as indices of NAMES), and what its members have said to each other. */
export interface SimulatedRoom {
  readonly id: RoomId;
  readonly members: number[];
  /** The events with which it begins; who came in then need not have all of them. */
  readonly first: ReadonlySet<EventId>;
  /** Events that were answered for to whoever sent them, with the text of messages. */
  readonly said: Map<EventId, string | undefined>;
  /** Of a server that came in later: its join. */
  joined?: { readonly server: ServerName; readonly event: EventId };
}

/** Three servers as they are on the disk, and the rooms that they are in. */
export interface Scene {
  readonly wall: Millis;
  readonly databases: readonly Uint8Array[];
  readonly rooms: readonly (Pick<SimulatedRoom, 'id' | 'first'> & { readonly members: readonly number[] })[];
}

/** Databases of one run, in a folder that goes away with it. */
export class Disk {
  readonly #folder = mkdtempSync(join(tmpdir(), 'ravine-federation-'));
  readonly #open: SqliteDatabase[] = [];

  open(name: string, bytes?: Uint8Array): SqliteDatabase {
    const path = join(this.#folder, `${name}.db`);
    if (bytes === undefined) migrate(path);
    else writeFileSync(path, bytes);
    const database = openSqlite({ path, durability: 'off' });
    this.#open.push(database);
    return database;
  }

  /** What a database that has been closed holds. */
  read(name: string): Uint8Array {
    return readFileSync(join(this.#folder, `${name}.db`));
  }

  async close(): Promise<void> {
    for (const database of this.#open) await database.close();
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/**
 * Three servers, opened once for many runs.
 * @param rooms who is in each, the first of whom makes it
 */
async function setScene(rooms: readonly (readonly number[])[]): Promise<Scene> {
  const disk = new Disk();
  const network = new Network();
  network.formed = true;
  const { time } = network;
  const sides: Side[] = [];
  for (const [i, name] of NAMES.entries())
    sides.push(await openSide(network, name, testKey(i + 1), i, disk.open(name)));
  const made: Scene['rooms'][number][] = [];
  for (const members of rooms) {
    const [first, ...others] = members.map((i) => ({ side: sides[i]!, user: sides[i]!.user(USERS[i]!) }));
    const create = first!.side.rooms.create(first!.user, { preset: 'public_chat' });
    const id = await time.until(create, HOUR);
    for (const { side, user } of others) {
      await time.until(side.rooms.memberships.join(user, id, { via: [first!.side.serverName] }), HOUR);
      await time.pass(10_000);
    }
    const powers = { users: Object.fromEntries(others.map(({ user }) => [user, 50])) };
    const { sending } = first!.side.rooms;
    await time.until(sending.setState(id, first!.user, 'm.room.power_levels', '', powers), HOUR);
    await time.pass(60_000);
    const stored = await first!.side.database.all<{ id: EventId }>(
      'SELECT event_id AS id FROM events WHERE room = (SELECT id FROM rooms WHERE room_id = ?)',
      id,
    );
    made.push({ id, members, first: new Set(stored.map((row) => row.id)) });
  }
  for (const side of sides) await time.until(stopped(side), HOUR);
  await disk.close();
  const databases = NAMES.map((name) => disk.read(name));
  disk.remove();
  return { wall: time.clock.wall(), databases, rooms: made };
}

/** Who is in which rooms at the beginning: three who know each other, and two whom a stranger may join. */
export const SCENES: readonly (readonly (readonly number[])[])[] = [
  [
    [0, 1, 2],
    [0, 1],
    [1, 2],
  ],
  [[0, 1]],
];
const scenes = new Map<number, Promise<Scene>>();

/** One of SCENES. */
export function sceneOf(index: number): Promise<Scene> {
  const scene = scenes.get(index) ?? setScene(SCENES[index]!);
  scenes.set(index, scene);
  return scene;
}

import { type EventId, type ServerName, serverOf } from '../../src/matrix/ids.ts';
import { type Pdu, prevEvents } from '../../src/matrix/pdu.ts';
import { roomVersion } from '../../src/matrix/room_version.ts';
import { verifyEventSignature } from '../../src/matrix/signing.ts';
import type { Database } from '../../src/storage/database.ts';
import type { SimulatedRoom } from './federation_scene.ts';
import { A, B, C, testKey } from './fixtures.ts';

/** The keys with which the servers sign, known from elsewhere than their databases. */
const KEYS = new Map([A, B, C].map((name, i) => [name, testKey(i + 1)]));

/** What must be true at any time: what waits for its signature is in no room, nothing of ours is built on it, and nobody gets it. */
export async function checkMoment(database: Database): Promise<void> {
  const placed = await database.all<{ event_id: string }>(
    'SELECT p.event_id FROM provisional_events p JOIN events e ON e.event_id = p.event_id WHERE e.state_after IS NOT NULL',
  );
  const queued = await database.all<{ event_id: string }>(
    'SELECT p.event_id FROM outbox o JOIN provisional_events p ON p.event_id = o.event_id',
  );
  const built = await database.all<{ event_id: string }>(
    `SELECT q.event_id FROM provisional_events p JOIN unknown_prev x ON x.prev = p.event_id
     JOIN events e ON e.id = x.event JOIN outbox_pdus q ON q.event_id = e.event_id`,
  );
  for (const [what, rows] of Object.entries({ placed, queued, built }))
    if (rows.length > 0)
      throw new Error(`provisional and ${what}: ${rows.map((row) => row.event_id).join()}`);
}

/** What comes out of a short form by chance, and is asked for in vain, has never been an event of anybody's. */
export async function checkNobodyHas(database: Database, ids: ReadonlySet<EventId>): Promise<void> {
  for (const id of ids)
    if ((await database.get('SELECT 1 FROM events WHERE event_id = ?', id)) !== undefined)
      throw new Error(`${id} was taken back, and is an event all the same`);
}

interface StoredRow {
  readonly event_id: EventId;
  readonly json: string;
  readonly status: string;
  readonly state_after: number | null;
  readonly redacted: string | null;
}

/** What a server has of a room. */
interface Copy {
  readonly server: ServerName;
  readonly events: ReadonlyMap<EventId, StoredRow>;
  readonly state: string;
}

/**
 * What must be true when all has been well for a while and nobody has said anything since: nothing waits, and everybody has
 * what was said, without a later event that would bring what is missing before it.
 */
export async function checkQuiet(
  databases: ReadonlyMap<ServerName, Database>,
  room: SimulatedRoom,
  members: readonly ServerName[],
): Promise<void> {
  for (const server of members) await checkNothingWaits(server, databases.get(server)!);
  const copies = await copiesOf(databases, room, members);
  // Who did not know yet that it was coming in sent it nothing; and what it came by need not name all who are there.
  const since = eventsSince(copies[0]!, room.joined?.event);
  const ofJoined = copies.find(({ server }) => server === room.joined?.server)?.events;
  const isFromJoined = (id: EventId): boolean => {
    const row = ofJoined?.get(id);
    return row !== undefined && serverOf((JSON.parse(row.json) as Pdu).sender) === room.joined?.server;
  };
  checkSaid(
    copies,
    room,
    (id, server) => !isFromJoined(id) && (server !== room.joined?.server || since.has(id)),
  );
}

/**
 * What must be true when all is well again: every server has every event, byte for byte, with the same verdict and a
 * signature that is right; the state is the same; nothing waits, and nothing has happened twice.
 * @returns how many events there are
 */
export async function checkEnd(
  databases: ReadonlyMap<ServerName, Database>,
  room: SimulatedRoom,
  members: readonly ServerName[],
): Promise<number> {
  for (const server of members) await checkNothingWaits(server, databases.get(server)!);
  const copies = await copiesOf(databases, room, members);
  for (const copy of copies) checkSignatures(copy, room);
  const before = eventsBefore(copies[0]!, room.joined?.event);
  checkSaid(copies, room, (id, server) => server !== room.joined?.server || !before.has(id));
  const [first, ...others] = copies;
  for (const other of others) checkSame(first!, other, room);
  for (const { server, state } of others)
    if (state !== first!.state)
      throw new Error(`${server} has another state than ${first!.server}:\n${state}\n${first!.state}`);
  return first!.events.size;
}

async function checkNothingWaits(server: ServerName, database: Database): Promise<void> {
  for (const table of ['provisional_events', 'owed_signatures', 'outbox', 'inbox']) {
    const left = await database.all<{ event_id: string }>(`SELECT event_id FROM ${table}`);
    if (left.length > 0)
      throw new Error(`left in ${table} of ${server}: ${left.map((row) => row.event_id).join()}`);
  }
  const twice = await database.all(
    'SELECT position FROM events WHERE position IS NOT NULL GROUP BY position HAVING COUNT(*) > 1',
  );
  if (twice.length > 0) throw new Error(`two events have one place at ${server}`);
}

const copiesOf = (
  databases: ReadonlyMap<ServerName, Database>,
  room: SimulatedRoom,
  members: readonly ServerName[],
): Promise<Copy[]> => Promise.all(members.map((server) => copyOf(server, databases.get(server)!, room)));

async function copyOf(server: ServerName, database: Database, { id }: SimulatedRoom): Promise<Copy> {
  const rows = await database.all<StoredRow>(
    `SELECT e.event_id, e.json, e.status, e.state_after, e.redacted_by AS redacted FROM events e
     WHERE e.room = (SELECT id FROM rooms WHERE room_id = ?) ORDER BY e.event_id`,
    id,
  );
  const state = await database.all<{ type: string; state_key: string; event_id: string }>(
    `SELECT e.type AS type, e.state_key AS state_key, e.event_id AS event_id FROM current_state c
     JOIN events e ON e.id = c.event WHERE e.room = (SELECT id FROM rooms WHERE room_id = ?)
     ORDER BY e.type, e.state_key`,
    id,
  );
  return { server, events: new Map(rows.map((row) => [row.event_id, row])), state: JSON.stringify(state) };
}

function checkSignatures({ server, events }: Copy, { id }: SimulatedRoom): void {
  const version = roomVersion('12')!;
  for (const row of events.values()) {
    const pdu = JSON.parse(row.json) as Pdu;
    const origin = serverOf(pdu.sender);
    const key = KEYS.get(origin)!;
    if (!verifyEventSignature(pdu, version, origin, key.keyId, key.publicKey))
      throw new Error(`${row.event_id} in ${id} at ${server} is not signed by ${origin}`);
  }
}

/**
 * The driver's own log is the oracle: what was answered for is there, and says what was said.
 * @param isDue whether a server has to have an event
 */
function checkSaid(
  copies: readonly Copy[],
  room: SimulatedRoom,
  isDue: (id: EventId, server: ServerName) => boolean,
): void {
  for (const { server, events } of copies) {
    for (const [id, text] of room.said) {
      if (!isDue(id, server)) continue;
      const row = events.get(id);
      if (row === undefined || row.status === 'outlier') throw new Error(`${server} has lost ${id}`);
      const { content } = JSON.parse(row.json) as Pdu;
      if (text !== undefined && row.redacted === null && content.body !== text)
        throw new Error(`${id} at ${server} says ${String(content.body)}, and not ${text}`);
    }
  }
}

function checkSame(one: Copy, other: Copy, room: SimulatedRoom): void {
  const before = eventsBefore(one, room.joined?.event);
  for (const id of new Set([...one.events.keys(), ...other.events.keys()])) {
    const [a, b] = [one.events.get(id), other.events.get(id)];
    const isJoined = [one.server, other.server].includes(room.joined?.server as ServerName);
    const isBefore = room.first.has(id) || (isJoined && before.has(id));
    if (isBefore && (a?.state_after == null || b?.state_after == null)) continue;
    if (a === undefined || b === undefined)
      throw new Error(`${id} is only at ${(a === undefined ? other : one).server}`);
    // What is redacted there is not known to whoever came later, and so neither is who may.
    const { redacts } = (JSON.parse(a.json) as Pdu).content;
    const isOld = (event: unknown): boolean =>
      room.first.has(event as EventId) || before.has(event as EventId);
    if (isJoined && [redacts, a.redacted, b.redacted].some(isOld)) continue;
    const [left, right] = [shown(a), shown(b)];
    if (left !== right) throw new Error(`${id} differs:\n${one.server} ${left}\n${other.server} ${right}`);
  }
}

/**
 * An event and what was made of it: of the signatures that of its sender's server, which all have; and of several redactions
 * of it each server names the first that it got.
 */
function shown({ json, status, redacted }: StoredRow): string {
  const pdu = JSON.parse(json) as Pdu;
  const signatures = pdu.signatures[serverOf(pdu.sender)];
  return canonical({ ...pdu, signatures, status, isRedacted: redacted !== null });
}

/** What lies before an event that a server came in with: it need not have that. */
function eventsBefore({ events }: Copy, event: EventId | undefined): ReadonlySet<EventId> {
  const before = new Set<EventId>();
  const queue = event === undefined ? [] : [event];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    const row = events.get(next);
    for (const prev of row === undefined ? [] : prevEvents(JSON.parse(row.json) as Pdu)) {
      if (before.has(prev)) continue;
      before.add(prev);
      queue.push(prev);
    }
  }
  return before;
}

/** What is built on an event that a server came in with, and that event. */
function eventsSince({ events }: Copy, event: EventId | undefined): ReadonlySet<EventId> {
  const since = new Set<EventId>(event === undefined ? [] : [event]);
  for (let size = -1; size < since.size; ) {
    size = since.size;
    for (const [id, { json }] of events)
      if (prevEvents(JSON.parse(json) as Pdu).some((prev) => since.has(prev))) since.add(id);
  }
  return since;
}

const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );

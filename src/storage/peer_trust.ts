import type { Millis } from '../base/time.ts';
import type { KeyId, ServerName } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** A signing key that an operator has named: a pipe to that server takes no other. */
export interface PipePin {
  readonly serverName: ServerName;
  /** SHA-256 of the signing key in hexadecimal. */
  readonly fingerprint: string;
  /** Unix time in milliseconds. */
  readonly made: Millis;
}

/** A signing key with which somebody who calls himself a known server was stopped. */
export interface WaitingKey {
  readonly serverName: ServerName;
  readonly fingerprint: string;
  readonly signingKeyId: KeyId;
  readonly reason: string;
  readonly firstSeen: Millis;
  readonly lastSeen: Millis;
}

/** Keys that wait for one server: anybody can make any number of them. */
const MAX_WAITING = 4;
/** How often the time of a key that keeps on coming is written. */
const SEEN_INTERVAL_MS: Millis = 60_000;
/** A key that was not seen for this long makes room for another. */
const STALE_MS: Millis = 60 * 60 * 1000;

interface PinRow {
  readonly server_name: string;
  readonly fingerprint: string;
  readonly made: number;
}

const pinOf = (row: PinRow): PipePin => ({
  serverName: row.server_name as ServerName,
  fingerprint: row.fingerprint,
  made: row.made,
});

export async function pipePin(db: Reader, server: ServerName): Promise<PipePin | undefined> {
  const row = await db.get<PinRow>(
    'SELECT server_name, fingerprint, made FROM pipe_pins WHERE server_name = ?',
    server,
  );
  return row && pinOf(row);
}

export async function pipePins(db: Reader): Promise<PipePin[]> {
  const rows = await db.all<PinRow>(
    'SELECT server_name, fingerprint, made FROM pipe_pins ORDER BY server_name',
  );
  return rows.map(pinOf);
}

/** Names the one signing key that a server may have from now on, and ends the waiting of that key. */
export async function putPipePin(tx: Transaction, pin: PipePin): Promise<void> {
  await tx.run(
    `INSERT INTO pipe_pins (server_name, fingerprint, made) VALUES (?, ?, ?)
     ON CONFLICT (server_name) DO UPDATE SET fingerprint = excluded.fingerprint, made = excluded.made`,
    pin.serverName,
    pin.fingerprint,
    pin.made,
  );
  await forgetWaitingKey(tx, pin.serverName, pin.fingerprint);
}

interface WaitingRow {
  readonly server_name: string;
  readonly fingerprint: string;
  readonly signing_key_id: string;
  readonly reason: string;
  readonly first_seen: number;
  readonly last_seen: number;
}

/** The keys that wait, of one server or of all, the oldest first. */
export async function waitingKeys(db: Reader, server?: ServerName): Promise<WaitingKey[]> {
  const rows = await db.all<WaitingRow>(
    `SELECT server_name, fingerprint, signing_key_id, reason, first_seen, last_seen FROM pipe_waiting_keys
     WHERE server_name = coalesce(?, server_name) ORDER BY server_name, first_seen, fingerprint`,
    server ?? null,
  );
  return rows.map((row) => ({
    serverName: row.server_name as ServerName,
    fingerprint: row.fingerprint,
    signingKeyId: row.signing_key_id as KeyId,
    reason: row.reason,
    firstSeen: row.first_seen,
    lastSeen: row.last_seen,
  }));
}

/** Whether `noteWaitingKey` has anything to write, so that a flood of the same keys costs no transaction. */
export function isWorthNoting(waiting: readonly WaitingKey[], fingerprint: string, now: Millis): boolean {
  const same = waiting.find((key) => key.fingerprint === fingerprint);
  if (same !== undefined) return now - same.lastSeen >= SEEN_INTERVAL_MS;
  return waiting.length < MAX_WAITING || waiting.some((key) => now - key.lastSeen >= STALE_MS);
}

/** Remembers a key that was stopped; where too many wait already, in the place of one that has not come for long, or not at all. */
export async function noteWaitingKey(tx: Transaction, key: Omit<WaitingKey, 'firstSeen'>): Promise<void> {
  const waiting = await waitingKeys(tx, key.serverName);
  if (!isWorthNoting(waiting, key.fingerprint, key.lastSeen)) return;
  const isNew = waiting.every(({ fingerprint }) => fingerprint !== key.fingerprint);
  if (isNew && waiting.length >= MAX_WAITING) {
    const [oldest] = waiting.toSorted((a, b) => a.lastSeen - b.lastSeen);
    await forgetWaitingKey(tx, key.serverName, oldest!.fingerprint);
  }
  await tx.run(
    `INSERT INTO pipe_waiting_keys (server_name, fingerprint, signing_key_id, reason, first_seen, last_seen)
     VALUES (?, ?, ?, ?, ?, ?)
     ON CONFLICT (server_name, fingerprint) DO UPDATE SET
       signing_key_id = excluded.signing_key_id, reason = excluded.reason, last_seen = excluded.last_seen`,
    key.serverName,
    key.fingerprint,
    key.signingKeyId,
    key.reason,
    key.lastSeen,
    key.lastSeen,
  );
}

export async function forgetWaitingKey(
  tx: Transaction,
  server: ServerName,
  fingerprint: string,
): Promise<void> {
  await tx.run(
    'DELETE FROM pipe_waiting_keys WHERE server_name = ? AND fingerprint = ?',
    server,
    fingerprint,
  );
}

/** Removes what is known of a server in the pipe: its keys, pins and sessions. Returns how many rows of each. */
export async function forgetPipePeer(
  tx: Transaction,
  server: ServerName,
): Promise<{ peers: number; pins: number; waiting: number; sessions: number }> {
  tx.erasesSecrets();
  return {
    peers: await tx.run('DELETE FROM pipe_peers WHERE server_name = ?', server),
    pins: await tx.run('DELETE FROM pipe_pins WHERE server_name = ?', server),
    waiting: await tx.run('DELETE FROM pipe_waiting_keys WHERE server_name = ?', server),
    sessions: await tx.run('DELETE FROM pipe_sessions WHERE server_name = ?', server),
  };
}

/** A session of the pipe with a server, without its secrets. */
export interface SessionSummary {
  readonly serverName: ServerName;
  /** Where the peer was last, in its link's notation. */
  readonly address: string;
  readonly created: Millis;
}

/** The sessions with servers that are kept, those that were written last at the end. */
export async function sessionSummaries(db: Reader): Promise<SessionSummary[]> {
  const rows = await db.all<{ server_name: string; address: string; created: number }>(
    "SELECT server_name, address, created FROM pipe_sessions WHERE server_name != '' ORDER BY saved, generation, local_id",
  );
  return rows.map((row) => ({
    serverName: row.server_name as ServerName,
    address: row.address,
    created: row.created,
  }));
}

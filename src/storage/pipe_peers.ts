import type { Millis } from '../base/time.ts';
import type { KeyId, ServerName } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';

/** What made us accept a server's signing key. */
export type TrustKind = 'verified' | 'pinned' | 'tofu';

/** A server whose identity in the pipe has been accepted. Keys are unpadded base64. */
export interface PipePeer {
  readonly serverName: ServerName;
  readonly noiseKey: string;
  readonly signingKeyId: KeyId;
  readonly signingKey: string;
  readonly trust: TrustKind;
  readonly serial: number;
  /** Unix time in milliseconds. */
  readonly firstSeen: Millis;
  readonly lastSeen: Millis;
}

interface PeerRow {
  readonly server_name: string;
  readonly noise_key: string;
  readonly signing_key_id: string;
  readonly signing_key: string;
  readonly trust: string;
  readonly serial: number;
  readonly first_seen: number;
  readonly last_seen: number;
}

const COLUMNS =
  'server_name, noise_key, signing_key_id, signing_key, trust, serial, first_seen, last_seen' as const;

const peerOf = (row: PeerRow): PipePeer => ({
  serverName: row.server_name as ServerName,
  noiseKey: row.noise_key,
  signingKeyId: row.signing_key_id as KeyId,
  signingKey: row.signing_key,
  trust: row.trust as TrustKind,
  serial: row.serial,
  firstSeen: row.first_seen,
  lastSeen: row.last_seen,
});

export async function pipePeer(db: Reader, server: ServerName): Promise<PipePeer | undefined> {
  const row = await db.get<PeerRow>(`SELECT ${COLUMNS} FROM pipe_peers WHERE server_name = ?`, server);
  return row && peerOf(row);
}

/** All of them, by name. */
export async function pipePeers(db: Reader): Promise<PipePeer[]> {
  const rows = await db.all<PeerRow>(`SELECT ${COLUMNS} FROM pipe_peers ORDER BY server_name`);
  return rows.map(peerOf);
}

/** Notes that something has come from a peer. */
export async function sawPipePeer(tx: Transaction, server: ServerName, now: Millis): Promise<void> {
  await tx.run('UPDATE pipe_peers SET last_seen = max(last_seen, ?) WHERE server_name = ?', now, server);
}

/** Stores a peer, in the place of what was known of it; the time at which it was first seen is kept. */
export async function putPipePeer(tx: Transaction, peer: PipePeer): Promise<void> {
  await tx.run(
    `INSERT INTO pipe_peers (${COLUMNS})
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (server_name) DO UPDATE SET
       noise_key = excluded.noise_key, signing_key_id = excluded.signing_key_id, signing_key = excluded.signing_key,
       trust = excluded.trust, serial = excluded.serial, last_seen = excluded.last_seen`,
    peer.serverName,
    peer.noiseKey,
    peer.signingKeyId,
    peer.signingKey,
    peer.trust,
    peer.serial,
    peer.firstSeen,
    peer.lastSeen,
  );
}

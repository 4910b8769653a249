import type { Millis } from '../base/time.ts';
import type { Database, Reader, SqlValue, Transaction } from './database.ts';

const SALT_BYTES = 8;

/** A session of the pipe as it is kept; the pipe's own StoredSession, which this room does not know. */
export interface PipeSessionRow {
  readonly local: number;
  readonly remote: number;
  readonly initiator: boolean;
  readonly generation: number;
  readonly claim: {
    readonly serverName: string;
    readonly noisePublic: Uint8Array;
    readonly signingKeyId: string;
    readonly signingPublic: Uint8Array;
    readonly serial: number;
  };
  readonly peerBoot: Uint8Array;
  readonly network: Uint8Array;
  readonly address: string;
  readonly createdAt: Millis;
  readonly savedAt: Millis;
  readonly send: { readonly epoch: number; readonly secret: Uint8Array };
  readonly ceiling: number;
  readonly receive: { readonly epoch: number; readonly secret: Uint8Array };
  readonly highest: number;
  readonly ownSalts: readonly Uint8Array[];
  readonly peerSalt: Uint8Array;
}

export type PipeSessionWrite =
  | { readonly kind: 'session'; readonly row: PipeSessionRow }
  | { readonly kind: 'forget'; readonly local: number };

interface Row {
  readonly local_id: number;
  readonly remote_id: number;
  readonly initiator: number;
  readonly generation: number;
  readonly server_name: string;
  readonly noise_key: Uint8Array;
  readonly signing_key_id: string;
  readonly signing_key: Uint8Array;
  readonly serial: number;
  readonly peer_boot: Uint8Array;
  readonly network: Uint8Array;
  readonly address: string;
  readonly created: number;
  readonly saved: number;
  readonly send_epoch: number;
  readonly send_secret: Uint8Array;
  readonly send_ceiling: number;
  readonly receive_epoch: number;
  readonly receive_secret: Uint8Array;
  readonly receive_highest: number;
  readonly own_salts: Uint8Array;
  readonly peer_salt: Uint8Array;
}

const COLUMNS = [
  'local_id',
  'remote_id',
  'initiator',
  'generation',
  'server_name',
  'noise_key',
  'signing_key_id',
  'signing_key',
  'serial',
  'peer_boot',
  'network',
  'address',
  'created',
  'saved',
  'send_epoch',
  'send_secret',
  'send_ceiling',
  'receive_epoch',
  'receive_secret',
  'receive_highest',
  'own_salts',
  'peer_salt',
] as const satisfies readonly (keyof Row)[];

const PUT = `INSERT INTO pipe_sessions (link, ${COLUMNS.join(', ')})
  VALUES (?, ${COLUMNS.map(() => '?').join(', ')})
  ON CONFLICT (link, local_id) DO UPDATE SET
    ${COLUMNS.slice(1)
      .map((column) => `${column} = excluded.${column}`)
      .join(', ')}`;

/** The sessions of a link, those that were written last at the end. */
export async function pipeSessions(db: Reader, link: string): Promise<PipeSessionRow[]> {
  const rows = await db.all<Row>(
    `SELECT ${COLUMNS.join(', ')} FROM pipe_sessions WHERE link = ? ORDER BY saved, generation, local_id`,
    link,
  );
  return rows.map(fromRow);
}

/** Replaces or removes rows of a link, in order. */
export async function writePipeSessions(
  tx: Transaction,
  link: string,
  writes: readonly PipeSessionWrite[],
): Promise<void> {
  for (const write of writes) {
    if (write.kind === 'session') await tx.run(PUT, link, ...values(write.row));
    else await tx.run('DELETE FROM pipe_sessions WHERE link = ? AND local_id = ?', link, write.local);
  }
}

/** The sessions of a link in a database, as the pipe's PipeStore. */
export const pipeSessionStore = (
  database: Database,
  link: string,
): {
  load(): Promise<PipeSessionRow[]>;
  commit(writes: readonly PipeSessionWrite[]): Promise<void>;
} => ({
  load: () => pipeSessions(database, link),
  commit: (writes) => database.transaction((tx) => writePipeSessions(tx, link, writes)),
});

function values(session: PipeSessionRow): SqlValue[] {
  const { claim } = session;
  const row: Row = {
    local_id: session.local,
    remote_id: session.remote,
    initiator: session.initiator ? 1 : 0,
    generation: session.generation,
    server_name: claim.serverName,
    noise_key: claim.noisePublic,
    signing_key_id: claim.signingKeyId,
    signing_key: claim.signingPublic,
    serial: claim.serial,
    peer_boot: session.peerBoot,
    network: session.network,
    address: session.address,
    created: session.createdAt,
    saved: session.savedAt,
    send_epoch: session.send.epoch,
    send_secret: session.send.secret,
    send_ceiling: session.ceiling,
    receive_epoch: session.receive.epoch,
    receive_secret: session.receive.secret,
    receive_highest: session.highest,
    own_salts: Buffer.concat(session.ownSalts),
    peer_salt: session.peerSalt,
  };
  return COLUMNS.map((column) => row[column]);
}

function fromRow(row: Row): PipeSessionRow {
  const own = bytes(row.own_salts);
  const ownSalts = Array.from({ length: own.length / SALT_BYTES }, (_, i) =>
    own.slice(i * SALT_BYTES, (i + 1) * SALT_BYTES),
  );
  return {
    local: row.local_id,
    remote: row.remote_id,
    initiator: row.initiator === 1,
    generation: row.generation,
    claim: {
      serverName: row.server_name,
      noisePublic: bytes(row.noise_key),
      signingKeyId: row.signing_key_id,
      signingPublic: bytes(row.signing_key),
      serial: row.serial,
    },
    peerBoot: bytes(row.peer_boot),
    network: bytes(row.network),
    address: row.address,
    createdAt: row.created,
    savedAt: row.saved,
    send: { epoch: row.send_epoch, secret: bytes(row.send_secret) },
    ceiling: row.send_ceiling,
    receive: { epoch: row.receive_epoch, secret: bytes(row.receive_secret) },
    highest: row.receive_highest,
    ownSalts,
    peerSalt: bytes(row.peer_salt),
  };
}

/** SQLite hands out Buffers. */
const bytes = (blob: Uint8Array): Uint8Array => new Uint8Array(blob);

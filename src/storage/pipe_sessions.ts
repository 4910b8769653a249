import type { Millis } from '../base/time.ts';
import type { Database, Reader, SqlValue, Transaction } from './database.ts';
import type { Sealing, SecretPlace } from './sealing.ts';

const SALT_BYTES = 8;

/** A session of the pipe as it is kept; the pipe's own StoredSession, which this room does not know. */
export interface PipeSessionRow {
  readonly local: number;
  readonly remote: number;
  readonly initiator: boolean;
  readonly generation: number;
  readonly claim:
    | {
        readonly kind: 'server';
        readonly serverName: string;
        readonly noisePublic: Uint8Array;
        readonly signingKeyId: string;
        readonly signingPublic: Uint8Array;
        readonly serial: number;
      }
    | { readonly kind: 'device'; readonly noisePublic: Uint8Array };
  readonly said: { readonly own: Uint8Array; readonly peer: Uint8Array };
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
  readonly own_capabilities: Uint8Array;
  readonly peer_capabilities: Uint8Array;
}

/** Of a device: it has no name, and nobody signs for it. */
const NO_SERVER = { serverName: '', signingKeyId: '', signingPublic: new Uint8Array(0), serial: 0 } as const;

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
  'own_capabilities',
  'peer_capabilities',
] as const satisfies readonly (keyof Row)[];

const PUT = `INSERT INTO pipe_sessions (link, ${COLUMNS.join(', ')})
  VALUES (?, ${COLUMNS.map(() => '?').join(', ')})
  ON CONFLICT (link, local_id) DO UPDATE SET
    ${COLUMNS.slice(1)
      .map((column) => `${column} = excluded.${column}`)
      .join(', ')}`;

/** The sessions of a link, those that were written last at the end. */
export async function pipeSessions(db: Reader, sealing: Sealing, link: string): Promise<PipeSessionRow[]> {
  const rows = await db.all<Row>(
    `SELECT ${COLUMNS.join(', ')} FROM pipe_sessions WHERE link = ? ORDER BY saved, generation, local_id`,
    link,
  );
  return rows.map((row) => fromRow(row, sealing, link));
}

/** Replaces or removes rows of a link, in order. */
export async function writePipeSessions(
  tx: Transaction,
  sealing: Sealing,
  link: string,
  writes: readonly PipeSessionWrite[],
): Promise<void> {
  for (const write of writes) {
    if (await losesSecrets(tx, link, write)) tx.erasesSecrets();
    if (write.kind === 'session') await tx.run(PUT, link, ...values(write.row, sealing, link));
    else await tx.run('DELETE FROM pipe_sessions WHERE link = ? AND local_id = ?', link, write.local);
  }
}

/** Whether a row goes, or its keys move on. A row that is written again as it was has nothing that has to be forgotten. */
async function losesSecrets(tx: Transaction, link: string, write: PipeSessionWrite): Promise<boolean> {
  const local = write.kind === 'session' ? write.row.local : write.local;
  const kept = await tx.get<Pick<Row, 'generation' | 'send_epoch' | 'receive_epoch'>>(
    'SELECT generation, send_epoch, receive_epoch FROM pipe_sessions WHERE link = ? AND local_id = ?',
    link,
    local,
  );
  if (kept === undefined || write.kind === 'forget') return kept !== undefined;
  const { generation, send, receive } = write.row;
  return (
    kept.generation !== generation || kept.send_epoch !== send.epoch || kept.receive_epoch !== receive.epoch
  );
}

const placeOf = (column: 'send_secret' | 'receive_secret', link: string, local: number): SecretPlace => [
  'pipe_sessions',
  column,
  link,
  local,
];

/** The sessions of a link in a database, as the pipe's PipeStore. */
export const pipeSessionStore = (
  database: Database,
  sealing: Sealing,
  link: string,
): {
  load(): Promise<PipeSessionRow[]>;
  commit(writes: readonly PipeSessionWrite[]): Promise<void>;
} => ({
  load: () => pipeSessions(database, sealing, link),
  commit: (writes) => database.transaction((tx) => writePipeSessions(tx, sealing, link, writes)),
});

function values(session: PipeSessionRow, sealing: Sealing, link: string): SqlValue[] {
  const { claim, said } = session;
  const server = claim.kind === 'server' ? claim : NO_SERVER;
  const row: Row = {
    local_id: session.local,
    remote_id: session.remote,
    initiator: session.initiator ? 1 : 0,
    generation: session.generation,
    server_name: server.serverName,
    noise_key: claim.noisePublic,
    signing_key_id: server.signingKeyId,
    signing_key: server.signingPublic,
    serial: server.serial,
    peer_boot: session.peerBoot,
    network: session.network,
    address: session.address,
    created: session.createdAt,
    saved: session.savedAt,
    send_epoch: session.send.epoch,
    send_secret: sealing.seal(placeOf('send_secret', link, session.local), session.send.secret),
    send_ceiling: session.ceiling,
    receive_epoch: session.receive.epoch,
    receive_secret: sealing.seal(placeOf('receive_secret', link, session.local), session.receive.secret),
    receive_highest: session.highest,
    own_salts: Buffer.concat(session.ownSalts),
    peer_salt: session.peerSalt,
    own_capabilities: said.own,
    peer_capabilities: said.peer,
  };
  return COLUMNS.map((column) => row[column]);
}

function fromRow(row: Row, sealing: Sealing, link: string): PipeSessionRow {
  const opened = (column: 'send_secret' | 'receive_secret'): Uint8Array =>
    sealing.open(placeOf(column, link, row.local_id), row[column]);
  const own = bytes(row.own_salts);
  const ownSalts = Array.from({ length: own.length / SALT_BYTES }, (_, i) =>
    own.slice(i * SALT_BYTES, (i + 1) * SALT_BYTES),
  );
  return {
    local: row.local_id,
    remote: row.remote_id,
    initiator: row.initiator === 1,
    generation: row.generation,
    claim: claimOf(row),
    said: { own: bytes(row.own_capabilities), peer: bytes(row.peer_capabilities) },
    peerBoot: bytes(row.peer_boot),
    network: bytes(row.network),
    address: row.address,
    createdAt: row.created,
    savedAt: row.saved,
    send: { epoch: row.send_epoch, secret: opened('send_secret') },
    ceiling: row.send_ceiling,
    receive: { epoch: row.receive_epoch, secret: opened('receive_secret') },
    highest: row.receive_highest,
    ownSalts,
    peerSalt: bytes(row.peer_salt),
  };
}

function claimOf(row: Row): PipeSessionRow['claim'] {
  const noisePublic = bytes(row.noise_key);
  if (row.server_name === NO_SERVER.serverName) return { kind: 'device', noisePublic };
  return {
    ...{ kind: 'server', serverName: row.server_name, noisePublic },
    ...{ signingKeyId: row.signing_key_id, signingPublic: bytes(row.signing_key), serial: row.serial },
  };
}

/** SQLite hands out Buffers. */
const bytes = (blob: Uint8Array): Uint8Array => new Uint8Array(blob);

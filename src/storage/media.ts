import type { Millis } from '../base/time.ts';
import type { ServerName, UserId } from '../matrix/ids.ts';
import type { Reader, Transaction } from './database.ts';
import type { Sha256 } from './media_store.ts';

export type MediaKind = 'upload' | 'remote' | 'preview';

/** The two halves of an `mxc://` URI. */
export interface MediaName {
  readonly server: ServerName;
  readonly mediaId: string;
}

/** What is there behind an id that has content. */
export interface MediaContent {
  readonly sha256: Sha256;
  readonly size: number;
  readonly contentType: string | null;
  readonly fileName: string | null;
}

export interface MediaRow extends MediaName {
  readonly kind: MediaKind;
  readonly uploader: UserId | null;
  readonly created: Millis;
  readonly used: Millis;
  /** Until when content may be brought; null where it is there. */
  readonly expires: Millis | null;
  readonly content: MediaContent | undefined;
  readonly isQuarantined: boolean;
}

interface RawRow {
  readonly server: ServerName;
  readonly media_id: string;
  readonly kind: MediaKind;
  readonly uploader: UserId | null;
  readonly created: number;
  readonly used: number;
  readonly expires: number | null;
  readonly sha256: string | null;
  readonly size: number;
  readonly content_type: string | null;
  readonly file_name: string | null;
  readonly quarantined: number;
}

const COLUMNS = `server, media_id, kind, uploader, created, used, expires, sha256, size, content_type, file_name,
  EXISTS (SELECT 1 FROM media_quarantine q WHERE q.sha256 = media.sha256) AS quarantined`;

const toRow = (row: RawRow): MediaRow => ({
  server: row.server,
  mediaId: row.media_id,
  kind: row.kind,
  uploader: row.uploader,
  created: row.created,
  used: row.used,
  expires: row.expires,
  content:
    row.sha256 === null
      ? undefined
      : { sha256: row.sha256, size: row.size, contentType: row.content_type, fileName: row.file_name },
  isQuarantined: row.quarantined === 1,
});

export async function findMedia(
  reader: Reader,
  { server, mediaId }: MediaName,
): Promise<MediaRow | undefined> {
  const row = await reader.get<RawRow>(
    `SELECT ${COLUMNS} FROM media WHERE server = ? AND media_id = ?`,
    server,
    mediaId,
  );
  return row && toRow(row);
}

/** A new id, with content or still without. */
export async function insertMedia(
  tx: Transaction,
  row: Pick<MediaRow, 'server' | 'mediaId' | 'kind' | 'uploader' | 'created' | 'expires' | 'content'>,
): Promise<void> {
  const { content } = row;
  await tx.run(
    `INSERT INTO media
       (server, media_id, kind, uploader, created, used, expires, sha256, size, content_type, file_name)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ...[row.server, row.mediaId, row.kind, row.uploader, row.created, row.created, row.expires],
    ...[content?.sha256 ?? null, content?.size ?? 0, content?.contentType ?? null, content?.fileName ?? null],
  );
}

/** Gives content to an id that has none. */
export async function bringContent(
  tx: Transaction,
  { server, mediaId }: MediaName,
  { sha256, size, contentType, fileName }: MediaContent,
): Promise<void> {
  await tx.run(
    `UPDATE media SET sha256 = ?, size = ?, content_type = ?, file_name = ?, expires = NULL
     WHERE server = ? AND media_id = ?`,
    ...[sha256, size, contentType, fileName, server, mediaId],
  );
}

/** How much a user has uploaded. */
export async function usageOf(
  reader: Reader,
  user: UserId,
): Promise<{ readonly files: number; readonly bytes: number }> {
  const row = await reader.get<{ files: number; bytes: number | null }>(
    `SELECT count(*) AS files, sum(size) AS bytes FROM media WHERE uploader = ? AND expires IS NULL`,
    user,
  );
  return { files: row?.files ?? 0, bytes: row?.bytes ?? 0 };
}

/** How many ids of a user wait for content. */
export async function pendingOf(reader: Reader, user: UserId, now: Millis): Promise<number> {
  const row = await reader.get<{ n: number }>(
    'SELECT count(*) AS n FROM media WHERE uploader = ? AND expires > ?',
    user,
    now,
  );
  return row?.n ?? 0;
}

export async function noteUse(tx: Transaction, { server, mediaId }: MediaName, now: Millis): Promise<void> {
  await tx.run('UPDATE media SET used = ? WHERE server = ? AND media_id = ?', now, server, mediaId);
}

/** Of what a thumbnail was asked. */
export interface ThumbnailKey {
  readonly width: number;
  readonly height: number;
  readonly method: 'crop' | 'scale';
  readonly animated: boolean;
}

export interface StoredThumbnail {
  readonly sha256: Sha256;
  readonly size: number;
  readonly contentType: string;
}

const keyValues = ({ server, mediaId }: MediaName, { width, height, method, animated }: ThumbnailKey) =>
  [server, mediaId, width, height, method, animated ? 1 : 0] as const;

export async function findThumbnail(
  reader: Reader,
  name: MediaName,
  key: ThumbnailKey,
): Promise<StoredThumbnail | undefined> {
  const row = await reader.get<{ sha256: string; size: number; content_type: string }>(
    `SELECT sha256, size, content_type FROM media_thumbnails WHERE server = ? AND media_id = ?
       AND width = ? AND height = ? AND method = ? AND animated = ?
       AND NOT EXISTS (SELECT 1 FROM media_quarantine q WHERE q.sha256 = media_thumbnails.sha256)`,
    ...keyValues(name, key),
  );
  return row && { sha256: row.sha256, size: row.size, contentType: row.content_type };
}

/** Writes a thumbnail down, in the place of the one there was; of one file the newest `limit` stay. */
export async function putThumbnail(
  tx: Transaction,
  name: MediaName,
  key: ThumbnailKey,
  { sha256, size, contentType }: StoredThumbnail,
  { now, limit }: { readonly now: Millis; readonly limit: number },
): Promise<void> {
  const others = await tx.all<ThumbnailRow>(
    `SELECT width, height, method, animated, sha256 FROM media_thumbnails
     WHERE server = ? AND media_id = ? ORDER BY created DESC, width, height`,
    name.server,
    name.mediaId,
  );
  const isSame = (row: ThumbnailRow): boolean =>
    row.width === key.width &&
    row.height === key.height &&
    row.method === key.method &&
    row.animated === Number(key.animated);
  const rest = others.filter((row) => !isSame(row));
  for (const row of [...others.filter(isSame), ...rest.slice(limit - 1)]) {
    await noteUnused(tx, row.sha256);
    await tx.run(
      `DELETE FROM media_thumbnails WHERE server = ? AND media_id = ?
         AND width = ? AND height = ? AND method = ? AND animated = ?`,
      ...[name.server, name.mediaId, row.width, row.height, row.method, row.animated],
    );
  }
  await tx.run(
    `INSERT INTO media_thumbnails
       (server, media_id, width, height, method, animated, created, sha256, size, content_type)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ...keyValues(name, key),
    ...[now, sha256, size, contentType],
  );
}

interface ThumbnailRow {
  readonly width: number;
  readonly height: number;
  readonly method: 'crop' | 'scale';
  readonly animated: number;
  readonly sha256: string;
}

/** Notes content that may be of no use any more. */
export async function noteUnused(tx: Transaction, sha256: Sha256): Promise<void> {
  await tx.run('INSERT INTO media_unused (sha256) VALUES (?) ON CONFLICT DO NOTHING', sha256);
}

/** Takes an id away with its thumbnails; the files go later, where nothing else has the same content. */
export async function deleteMedia(tx: Transaction, { server, mediaId }: MediaName): Promise<void> {
  for (const table of ['media', 'media_thumbnails']) {
    await tx.run(
      `INSERT INTO media_unused (sha256) SELECT sha256 FROM ${table}
       WHERE server = ? AND media_id = ? AND sha256 IS NOT NULL ON CONFLICT DO NOTHING`,
      server,
      mediaId,
    );
    await tx.run(`DELETE FROM ${table} WHERE server = ? AND media_id = ?`, server, mediaId);
  }
}

/** Thumbnails of remote media of which the original is not here. */
export async function deleteOldLooseThumbnails(
  tx: Transaction,
  before: Millis,
  limit: number,
): Promise<number> {
  const old = await tx.all<{ server: ServerName; media_id: string }>(
    `SELECT DISTINCT server, media_id FROM media_thumbnails t WHERE created < ? AND NOT EXISTS
       (SELECT 1 FROM media m WHERE m.server = t.server AND m.media_id = t.media_id) LIMIT ?`,
    before,
    limit,
  );
  for (const { server, media_id } of old) await deleteMedia(tx, { server, mediaId: media_id });
  return old.length;
}

export async function someUnused(reader: Reader, limit: number): Promise<readonly Sha256[]> {
  const rows = await reader.all<{ sha256: string }>('SELECT sha256 FROM media_unused LIMIT ?', limit);
  return rows.map(({ sha256 }) => sha256);
}

export async function forgetUnused(tx: Transaction, sha256: Sha256): Promise<void> {
  await tx.run('DELETE FROM media_unused WHERE sha256 = ?', sha256);
}

/** Whether some id or thumbnail has this content. */
export async function isContentWanted(reader: Reader, sha256: Sha256): Promise<boolean> {
  const row = await reader.get<{ wanted: number }>(
    `SELECT EXISTS (SELECT 1 FROM media WHERE sha256 = ?)
         OR EXISTS (SELECT 1 FROM media_thumbnails WHERE sha256 = ?) AS wanted`,
    sha256,
    sha256,
  );
  return row!.wanted === 1;
}

/** Media of a kind that nobody has asked for since `before`, the ones longest left alone first. */
export async function leftAlone(
  reader: Reader,
  kind: MediaKind,
  before: Millis,
  limit: number,
): Promise<readonly MediaRow[]> {
  const rows = await reader.all<RawRow>(
    `SELECT ${COLUMNS} FROM media WHERE kind = ? AND used < ? AND sha256 IS NOT NULL ORDER BY used LIMIT ?`,
    ...[kind, before, limit],
  );
  return rows.map(toRow);
}

/** Ids whose time to bring content has passed. */
export async function expiredIds(reader: Reader, now: Millis, limit: number): Promise<readonly MediaName[]> {
  const rows = await reader.all<{ server: ServerName; media_id: string }>(
    `SELECT server, media_id FROM media WHERE kind = 'upload' AND sha256 IS NULL AND expires <= ? LIMIT ?`,
    now,
    limit,
  );
  return rows.map(({ server, media_id }) => ({ server, mediaId: media_id }));
}

/** Files and bytes of each kind; the same content counts with each of its ids. */
export async function mediaTotals(
  reader: Reader,
): Promise<ReadonlyMap<MediaKind, { readonly files: number; readonly bytes: number }>> {
  const rows = await reader.all<{ kind: MediaKind; files: number; bytes: number }>(
    'SELECT kind, count(*) AS files, sum(size) AS bytes FROM media WHERE sha256 IS NOT NULL GROUP BY kind',
  );
  return new Map(rows.map(({ kind, files, bytes }) => [kind, { files, bytes }]));
}

/** What an operator asks for. */
export interface MediaFilter {
  readonly kind?: MediaKind | undefined;
  readonly uploader?: UserId | undefined;
  readonly server?: ServerName | undefined;
  /** Unix time: not asked for since then. */
  readonly unusedSince?: Millis | undefined;
  readonly isQuarantined?: boolean | undefined;
}

/** The newest first. */
export async function listMedia(
  reader: Reader,
  { kind, uploader, server, unusedSince, isQuarantined }: MediaFilter,
  limit: number,
): Promise<readonly MediaRow[]> {
  const rows = await reader.all<RawRow>(
    `SELECT * FROM (SELECT ${COLUMNS} FROM media WHERE sha256 IS NOT NULL
       AND (? IS NULL OR kind = ?) AND (? IS NULL OR uploader = ?) AND (? IS NULL OR server = ?)
       AND (? IS NULL OR used < ?)) AS m
     WHERE (? IS NULL OR quarantined = ?) ORDER BY created DESC, server, media_id LIMIT ?`,
    ...twice(kind),
    ...twice(uploader),
    ...twice(server),
    ...twice(unusedSince),
    ...twice(isQuarantined === undefined ? undefined : Number(isQuarantined)),
    limit,
  );
  return rows.map(toRow);
}

const twice = <T>(value: T | undefined): readonly [T | null, T | null] => [value ?? null, value ?? null];

export async function quarantine(tx: Transaction, sha256: Sha256, now: Millis): Promise<void> {
  await tx.run(
    'INSERT INTO media_quarantine (sha256, since) VALUES (?, ?) ON CONFLICT DO NOTHING',
    sha256,
    now,
  );
}

/** @returns whether it was */
export async function endQuarantine(tx: Transaction, sha256: Sha256): Promise<boolean> {
  return (await tx.run('DELETE FROM media_quarantine WHERE sha256 = ?', sha256)) > 0;
}

/** Whether content is one that nobody is given. */
export async function isQuarantined(reader: Reader, sha256: Sha256): Promise<boolean> {
  return (await reader.get('SELECT 1 FROM media_quarantine WHERE sha256 = ?', sha256)) !== undefined;
}

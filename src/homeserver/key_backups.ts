import { utf8 } from '../base/bytes.ts';
import { invalidParam, MatrixError, notFound } from '../matrix/error.ts';
import { fitsIdLimit, type UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import type { Database, Reader, Transaction } from '../storage/database.ts';
import {
  addKeyBackup,
  backedUpKeys,
  countBackupChange,
  countKeyBackups,
  currentKeyBackup,
  deleteBackedUpKeys,
  deleteKeyBackup,
  emptyKeyBackup,
  findBackedUpKey,
  findKeyBackup,
  isSweepDue,
  type KeyBackupRow,
  type KeyPlace,
  type KeyRow,
  type KeySelection,
  type KeyStanding,
  lastBackupVersion,
  putBackedUpKey,
  setBackupAuthData,
  sweepKeyBackups,
} from '../storage/key_backups.ts';
import { BackgroundWrites, type Warnings } from './background_writes.ts';
import { type Done, notNoted } from './once.ts';

// Ours.
/** Of one user, not counting those that were deleted. */
const MAX_BACKUPS = 100;
/** Bytes of the keys of one backup: some 800,000 of the usual length. */
const MAX_BACKUP_SIZE = 1024 ** 3;
/** Bytes of the JSON of what a backup says of itself, and of what is in one key. */
const MAX_AUTH_DATA_SIZE = 64 * 1024;
const MAX_SESSION_DATA_SIZE = 64 * 1024;
/** What a key takes besides its texts. */
const KEY_OVERHEAD = 100;
/** Keys of a deleted backup that one transaction deletes: others write in between. */
const KEYS_PER_SWEEP = 250;
/** Keys that are in memory at once while a backup is read. */
const KEYS_PER_PIECE = 100;

/** Client-server API, `KeyBackupData`: a key as a client has encrypted it. */
export interface BackedUpKey {
  readonly first_message_index: number;
  readonly forwarded_count: number;
  readonly is_verified: boolean;
  readonly session_data: JsonObject;
}

/** Keys by room and session. */
export type KeysByRoom = Readonly<Record<string, Readonly<Record<string, BackedUpKey>>>>;

export interface BackupDescription {
  readonly algorithm: string;
  readonly auth_data: JsonObject;
}

/** What a change of a backup's keys has come to. */
export type Counted = { readonly etag: string; readonly count: number };

/** Encrypted copies of room keys that clients keep for their user (client-server API, "Server-side key backups"). */
export class KeyBackups {
  readonly #database: Database;
  readonly #background: BackgroundWrites;
  #sweeping: Promise<void> | undefined;
  #isStopped = false;

  constructor({ database, log }: { readonly database: Database; readonly log: Warnings }) {
    this.#database = database;
    this.#background = new BackgroundWrites(log);
  }

  /**
   * Deletes the keys of backups that are deleted, in the background: after a start, and when an account has ended.
   * @returns settled when that has ended
   */
  sweep(): Promise<void> {
    this.#sweeping ??= this.#background
      // What is left is deleted after the next deletion or start.
      .keep(this.#sweep(), 'the keys of a deleted backup could not be deleted')
      .finally(() => {
        this.#sweeping = undefined;
      });
    return this.#sweeping;
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#background.settled();
  }

  async #sweep(): Promise<void> {
    while (!this.#isStopped && (await isSweepDue(this.#database)))
      await this.#database.transaction((tx) => sweepKeyBackups(tx, KEYS_PER_SWEEP));
  }

  /** Begins a backup, which is the current one from then on. @returns its version @throws MatrixError M_TOO_LARGE */
  create(
    user: UserId,
    { algorithm, auth_data }: BackupDescription,
    done: Done<string> = notNoted,
  ): Promise<string> {
    const authData = checkedText(auth_data, MAX_AUTH_DATA_SIZE);
    return this.#database.transaction(async (tx) => {
      if ((await countKeyBackups(tx, user)) >= MAX_BACKUPS)
        throw tooLarge('There are too many backups: delete one first.');
      const version = String(await addKeyBackup(tx, user, algorithm, authData));
      await done(tx, version);
      return version;
    });
  }

  /** @param version undefined: the current one. @throws MatrixError M_NOT_FOUND */
  async about(
    user: UserId,
    version?: string,
  ): Promise<BackupDescription & Counted & { readonly version: string }> {
    const row =
      version === undefined
        ? await currentKeyBackup(this.#database, user)
        : await backupOf(this.#database, user, version);
    if (row === undefined) throw unknownBackup();
    return {
      algorithm: row.algorithm,
      auth_data: JSON.parse(row.auth_data) as JsonObject,
      ...counted(row),
      version: String(row.version),
    };
  }

  /** Changes what a backup says of itself. @throws MatrixError M_NOT_FOUND, M_INVALID_PARAM where the algorithm is another */
  async describe(
    user: UserId,
    version: string,
    { algorithm, auth_data }: BackupDescription,
    done: Done<void> = notNoted,
  ): Promise<void> {
    const authData = checkedText(auth_data, MAX_AUTH_DATA_SIZE);
    await this.#database.transaction(async (tx) => {
      const backup = await existing(tx, user, version);
      if (backup.algorithm !== algorithm) throw invalidParam('The backup has another algorithm.');
      await setBackupAuthData(tx, backup.id, authData);
      await done(tx);
    });
  }

  /** Deletes a backup with its keys; one that was deleted before stays so. @throws MatrixError M_NOT_FOUND */
  async delete(user: UserId, version: string, done: Done<void> = notNoted): Promise<void> {
    await this.#database.transaction(async (tx) => {
      const backup = await backupOf(tx, user, version);
      if (backup !== undefined) await deleteKeyBackup(tx, backup.id);
      else if (!(await wasThere(tx, user, version))) throw unknownBackup();
      await done(tx);
      tx.afterCommit(() => void this.sweep());
    });
  }

  /**
   * Stores keys, all or none of them; of two keys of one session the better one stays.
   * @throws MatrixError M_NOT_FOUND, M_WRONG_ROOM_KEYS_VERSION where the backup is not the current one, M_INVALID_PARAM, M_TOO_LARGE
   */
  put(user: UserId, version: string, rooms: KeysByRoom, done: Done<Counted> = notNoted): Promise<Counted> {
    const keys = Object.entries(rooms).flatMap(([room, sessions]) =>
      Object.entries(sessions).map(([session, key]) => rowOf(room, session, key)),
    );
    return this.#database.transaction(async (tx) => {
      const backup = await this.#writable(tx, user, version);
      const change = { keys: 0, size: 0 };
      let isChanged = false;
      for (const key of keys) {
        const before = await findBackedUpKey(tx, backup.id, key);
        if (before !== undefined && !isBetter(key, before)) continue;
        await putBackedUpKey(tx, backup.id, key);
        isChanged = true;
        change.keys += before === undefined ? 1 : 0;
        change.size += key.size - (before?.size ?? 0);
      }
      if (change.size > 0 && backup.size + change.size > MAX_BACKUP_SIZE)
        throw tooLarge('The backup is full.');
      return this.#changed(tx, user, backup, isChanged ? change : undefined, done);
    });
  }

  /** @throws MatrixError M_NOT_FOUND */
  async key(user: UserId, version: string, room: string, session: string): Promise<BackedUpKey> {
    const { id } = await existing(this.#database, user, version);
    const row = await findBackedUpKey(this.#database, id, { room_id: room, session_id: session });
    if (row === undefined) throw notFound('There is no such key in the backup.');
    return JSON.parse(jsonOf(row)) as BackedUpKey;
  }

  /**
   * The keys of a backup, or of a room in it, as JSON text in pieces: `{"rooms":{...}}` or `{"sessions":{...}}`. Of keys that
   * are stored meanwhile it may have some and not others.
   * @throws MatrixError M_NOT_FOUND, before the first piece
   */
  async keys(user: UserId, version: string, room?: string): Promise<AsyncIterable<string>> {
    const { id } = await existing(this.#database, user, version);
    const pages = this.#pages(user, version, { id, room });
    return room === undefined ? roomsText(pages) : sessionsText(pages);
  }

  /**
   * Deletes all keys of a backup, those of a room, or one.
   * @param selection undefined: all
   * @throws MatrixError M_NOT_FOUND where there is no such backup
   */
  deleteKeys(
    user: UserId,
    version: string,
    selection: KeySelection | undefined,
    done: Done<Counted> = notNoted,
  ): Promise<Counted> {
    return this.#database.transaction(async (tx) => {
      const backup = await existing(tx, user, version);
      if (selection === undefined) {
        if (backup.key_count > 0) {
          await emptyKeyBackup(tx, backup.id);
          tx.afterCommit(() => void this.sweep());
        }
        return this.#changed(tx, user, backup, undefined, done);
      }
      const { keys, size } = await deleteBackedUpKeys(tx, backup.id, selection);
      const change = keys === 0 ? undefined : { keys: -keys, size: -size };
      return this.#changed(tx, user, backup, change, done);
    });
  }

  /** "Keys can only be written to the most recently created version of the backup." */
  async #writable(tx: Transaction, user: UserId, version: string): Promise<KeyBackupRow> {
    const current = await currentKeyBackup(tx, user);
    if (current === undefined) throw unknownBackup();
    if (String(current.version) === version) return current;
    if (!(await wasThere(tx, user, version))) throw unknownBackup();
    throw new MatrixError(403, 'M_WRONG_ROOM_KEYS_VERSION', 'This is not the current backup.', {
      current_version: String(current.version),
    });
  }

  async #changed(
    tx: Transaction,
    user: UserId,
    backup: KeyBackupRow,
    change: { readonly keys: number; readonly size: number } | undefined,
    done: Done<Counted>,
  ): Promise<Counted> {
    if (change !== undefined) await countBackupChange(tx, backup.id, change);
    const outcome = counted((await findKeyBackup(tx, user, backup.version))!);
    await done(tx, outcome);
    return outcome;
  }

  async *#pages(
    user: UserId,
    version: string,
    { id, room }: { readonly id: number; readonly room: string | undefined },
  ): AsyncGenerator<readonly KeyRow[]> {
    let last: KeyPlace | undefined;
    for (;;) {
      const rows = await backedUpKeys(this.#database, id, room, last, KEYS_PER_PIECE);
      // A part of a backup must not pass for the whole.
      if (last !== undefined) await existing(this.#database, user, version);
      yield rows;
      last = rows.at(-1);
      if (rows.length < KEYS_PER_PIECE) return;
    }
  }
}

/**
 * Whether a key is to take the place of another of its session: one that is verified of one that is not, else the one that
 * reads more messages, else the one that was forwarded less often.
 */
function isBetter(key: KeyStanding, other: KeyStanding): boolean {
  if (key.is_verified !== other.is_verified) return key.is_verified > other.is_verified;
  if (key.first_message_index !== other.first_message_index)
    return key.first_message_index < other.first_message_index;
  return key.forwarded_count < other.forwarded_count;
}

/** Versions are numbers from 1 up, in the text that they have been told in; undefined: it is none. */
function numberOf(version: string): number | undefined {
  return /^[1-9]\d{0,14}$/.test(version) ? Number(version) : undefined;
}

async function backupOf(reader: Reader, user: UserId, version: string): Promise<KeyBackupRow | undefined> {
  const number = numberOf(version);
  return number === undefined ? undefined : findKeyBackup(reader, user, number);
}

/** @throws MatrixError M_NOT_FOUND */
async function existing(reader: Reader, user: UserId, version: string): Promise<KeyBackupRow> {
  const backup = await backupOf(reader, user, version);
  if (backup === undefined) throw unknownBackup();
  return backup;
}

/** Whether the user has, or has had, a backup of that version. */
async function wasThere(reader: Reader, user: UserId, version: string): Promise<boolean> {
  const number = numberOf(version);
  return number !== undefined && number <= (await lastBackupVersion(reader, user));
}

/** @throws MatrixError M_INVALID_PARAM, M_TOO_LARGE */
function rowOf(room: string, session: string, key: BackedUpKey): KeyRow {
  if (!fitsIdLimit(room) || !fitsIdLimit(session))
    throw invalidParam('The id of a room or of a session is too long.');
  const data = checkedText(key.session_data, MAX_SESSION_DATA_SIZE);
  return {
    room_id: room,
    session_id: session,
    is_verified: Number(key.is_verified),
    first_message_index: key.first_message_index,
    forwarded_count: key.forwarded_count,
    session_data: data,
    size: utf8(room).length + utf8(session).length + utf8(data).length + KEY_OVERHEAD,
  };
}

/** @throws MatrixError M_TOO_LARGE */
function checkedText(value: JsonObject, max: number): string {
  const text = JSON.stringify(value);
  if (utf8(text).length > max) throw tooLarge(`More than ${max} bytes are not kept in one piece.`);
  return text;
}

const counted = ({ etag, key_count }: KeyBackupRow): Counted => ({ etag: String(etag), count: key_count });

const jsonOf = (row: KeyRow): string =>
  `{"first_message_index":${row.first_message_index},"forwarded_count":${row.forwarded_count},` +
  `"is_verified":${row.is_verified === 1},"session_data":${row.session_data}}`;

async function* sessionsText(pages: AsyncIterable<readonly KeyRow[]>): AsyncGenerator<string> {
  yield '{"sessions":{';
  let separator = '';
  for await (const rows of pages)
    for (const row of rows) {
      yield `${separator}${JSON.stringify(row.session_id)}:${jsonOf(row)}`;
      separator = ',';
    }
  yield '}}';
}

async function* roomsText(pages: AsyncIterable<readonly KeyRow[]>): AsyncGenerator<string> {
  yield '{"rooms":{';
  let room: string | undefined;
  for await (const rows of pages)
    for (const row of rows) {
      if (row.room_id !== room)
        yield `${room === undefined ? '' : '}},'}${JSON.stringify(row.room_id)}:{"sessions":{`;
      yield `${row.room_id === room ? ',' : ''}${JSON.stringify(row.session_id)}:${jsonOf(row)}`;
      room = row.room_id;
    }
  yield room === undefined ? '}}' : '}}}}';
}

const tooLarge = (message: string): MatrixError => new MatrixError(413, 'M_TOO_LARGE', message);

const unknownBackup = () => notFound('There is no such backup.');

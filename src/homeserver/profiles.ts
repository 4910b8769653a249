import { utf8 } from '../base/bytes.ts';
import type { Clock } from '../base/time.ts';
import { badJson, invalidParam, MatrixError } from '../matrix/error.ts';
import type { UserId } from '../matrix/ids.ts';
import type { JsonObject, JsonValue } from '../matrix/json.ts';
import type { Database, Transaction } from '../storage/database.ts';
import {
  clearProfileChange,
  findProfile,
  noteProfileChange,
  profileChange,
  type RoomProfileField,
  setProfileField,
  setRoomProfileField,
  usersWithProfileChanges,
} from '../storage/profiles.ts';
import { BackgroundWrites, type Warnings } from './background_writes.ts';
import { type Done, notNoted } from './once.ts';
import { type Rate, RateLimit } from './rate_limit.ts';

/** How a user appears to others; what is not set is not there. */
export type Profile = JsonObject & { readonly displayname?: string; readonly avatar_url?: string };

/** What follows a change of what rooms show: the rooms service updates the user's member events. */
export interface ProfileListener {
  /** Called behind each change, one call after another for the same user; where it throws, again after the next start. */
  profileChanged(user: UserId, profile: Profile): Promise<void>;
}

/** PUT /profile/{userId}/{keyName}: names of fields, the bytes of one, and of the JSON of a whole profile. */
const FIELD_NAME = /^(?:avatar_url|displayname|m\.tz|[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+)$/;
const MAX_NAME_BYTES = 255;
const MAX_PROFILE_BYTES = 64 * 1024;

/** Ours. UTF-16 units of what goes into member events. */
const MAX_LENGTH: Readonly<Record<RoomProfileField, number>> = { displayname: 256, avatar_url: 1_000 };
const CHANGES: Rate = { burst: 30, intervalMs: 2_000 };

/** Client-server API, "Matrix Content (mxc://) URIs". */
const MXC_URI = /^mxc:\/\/[0-9A-Za-z.:[\]-]+\/[0-9A-Za-z_-]+$/;

/** The profiles of this server's users (client-server API, "Profiles"). */
export class Profiles {
  readonly #database: Database;
  readonly #limit: RateLimit;
  readonly #background: BackgroundWrites;
  #listener: ProfileListener | undefined;
  /** Users whose rooms are being told. */
  readonly #telling = new Map<UserId, Promise<void>>();
  /** Of those, the ones whose profile has changed since. */
  readonly #changed = new Set<UserId>();

  constructor({
    database,
    clock,
    log,
  }: { readonly database: Database; readonly clock: Clock; readonly log: Warnings }) {
    this.#background = new BackgroundWrites(log);
    this.#database = database;
    this.#limit = new RateLimit(clock, CHANGES);
  }

  /** Sets the one listener. */
  onChange(listener: ProfileListener): void {
    this.#listener = listener;
  }

  /** Goes on telling rooms where the last run has stopped. */
  async start(): Promise<void> {
    for (const user of await usersWithProfileChanges(this.#database)) this.#tell(user);
  }

  /** Waits until all rooms are told whose telling has begun. */
  async stop(): Promise<void> {
    while (this.#telling.size > 0) await Promise.all(this.#telling.values());
  }

  /** The profile of a user of this server, or undefined where there is no such user. */
  async get(user: UserId): Promise<Profile | undefined> {
    return (await findProfile(this.#database, user)) as Profile | undefined;
  }

  /**
   * Sets a field, or removes it with undefined, or one that rooms show with an empty text. What rooms show follows behind.
   * @throws MatrixError M_INVALID_PARAM, M_BAD_JSON, M_KEY_TOO_LARGE, M_PROFILE_TOO_LARGE, M_LIMIT_EXCEEDED
   */
  async set(
    user: UserId,
    field: string,
    value: JsonValue | undefined,
    done: Done<void> = notNoted,
  ): Promise<void> {
    if (utf8(field).length > MAX_NAME_BYTES)
      throw new MatrixError(400, 'M_KEY_TOO_LARGE', `The name has more than ${MAX_NAME_BYTES} bytes.`);
    if (!FIELD_NAME.test(field)) throw invalidParam('That is no name of a field.');
    checkValue(field, value);
    this.#limit.take(user);
    await this.#database.transaction(async (tx) => {
      const isShown = await this.#store(tx, user, field, value);
      const profile = await findProfile(tx, user);
      if (value !== undefined && utf8(JSON.stringify(profile ?? {})).length > MAX_PROFILE_BYTES)
        throw tooLarge('The profile would be larger than 64 KiB.');
      if (isShown) await noteProfileChange(tx, user);
      await done(tx);
      if (isShown) tx.afterCommit(() => this.#tell(user));
    });
  }

  /** Whether that changes what rooms show. */
  async #store(tx: Transaction, user: UserId, field: string, value: JsonValue | undefined): Promise<boolean> {
    if (isRoomField(field))
      return setRoomProfileField(tx, user, field, typeof value === 'string' && value !== '' ? value : null);
    await setProfileField(tx, user, field, value);
    return false;
  }

  #tell(user: UserId): void {
    this.#changed.add(user);
    if (this.#telling.has(user)) return;
    const telling = this.#background
      // It is noted on the disk, and tried again after the next start or change.
      .keep(this.#tellRooms(user), 'rooms could not be told of a profile')
      .finally(() => {
        this.#telling.delete(user);
        if (this.#changed.has(user)) this.#tell(user);
      });
    this.#telling.set(user, telling);
  }

  async #tellRooms(user: UserId): Promise<void> {
    while (this.#changed.delete(user)) {
      const change = await profileChange(this.#database, user);
      const profile = change === undefined ? undefined : await this.get(user);
      if (change === undefined || profile === undefined) continue;
      await this.#listener?.profileChanged(user, profile);
      await this.#database.transaction((tx) => clearProfileChange(tx, user, change));
    }
  }
}

const isRoomField = (field: string): field is RoomProfileField => Object.hasOwn(MAX_LENGTH, field);

const tooLarge = (message: string): MatrixError => new MatrixError(400, 'M_PROFILE_TOO_LARGE', message);

function checkValue(field: string, value: JsonValue | undefined): void {
  if (value === undefined || !(isRoomField(field) || field === 'm.tz')) return;
  if (typeof value !== 'string') throw badJson(`${field} has to be text.`);
  if (!value.isWellFormed()) throw invalidParam(`${field} is not valid text.`);
  if (!isRoomField(field)) return;
  if (value.length > MAX_LENGTH[field])
    throw tooLarge(`${field} is longer than ${MAX_LENGTH[field]} characters.`);
  if (field === 'avatar_url' && value !== '' && !MXC_URI.test(value))
    throw invalidParam('avatar_url has to be an mxc:// URI.');
}

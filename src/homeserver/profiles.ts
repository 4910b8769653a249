import { invalidParam, MatrixError } from '../matrix/error.ts';
import type { UserId } from '../matrix/ids.ts';
import type { Database } from '../storage/database.ts';
import { findProfile, setProfileField } from '../storage/profiles.ts';
import { type Once, UNRECOGNISED } from './once.ts';

/** How a user appears to others; what is not set is not there. */
export interface Profile {
  readonly displayname?: string;
  readonly avatar_url?: string;
}

export type ProfileField = keyof Profile;

export const PROFILE_FIELDS: readonly ProfileField[] = ['displayname', 'avatar_url'];

/** What follows a change of a profile: the rooms service updates the user's member events. */
export interface ProfileListener {
  /** Called once a change is committed, one call after another for the same user. */
  profileChanged(user: UserId, profile: Profile): Promise<void>;
}

/** UTF-16 units. */
const MAX_LENGTH: Readonly<Record<ProfileField, number>> = { displayname: 256, avatar_url: 1_000 };

/** Client-server API, "Matrix Content (mxc://) URIs". */
const MXC_URI = /^mxc:\/\/[0-9A-Za-z.:[\]-]+\/[0-9A-Za-z_-]+$/;

/** The profiles of this server's users. */
export class Profiles {
  readonly #database: Database;
  #listener: ProfileListener | undefined;
  /** The last change in progress of each user. */
  readonly #changes = new Map<UserId, Promise<void>>();

  constructor({ database }: { readonly database: Database }) {
    this.#database = database;
  }

  /** Sets the one listener. */
  onChange(listener: ProfileListener): void {
    this.#listener = listener;
  }

  /** The profile of a user of this server, or undefined where there is no such user. */
  async get(user: UserId): Promise<Profile | undefined> {
    const row = await findProfile(this.#database, user);
    if (row === undefined) return undefined;
    return {
      ...(row.displayname === null ? {} : { displayname: row.displayname }),
      ...(row.avatar_url === null ? {} : { avatar_url: row.avatar_url }),
    };
  }

  /**
   * Sets a field, or removes it with an empty text; answers when the listener is done.
   * @throws MatrixError M_INVALID_PARAM, M_PROFILE_TOO_LARGE
   */
  async set(user: UserId, field: ProfileField, value: string, once: Once = UNRECOGNISED): Promise<void> {
    if (value.length > MAX_LENGTH[field]) {
      throw new MatrixError(
        400,
        'M_PROFILE_TOO_LARGE',
        `${field} is longer than ${MAX_LENGTH[field]} characters.`,
      );
    }
    if (!value.isWellFormed()) throw invalidParam(`${field} is not valid text.`);
    if (field === 'avatar_url' && value !== '' && !MXC_URI.test(value)) {
      throw invalidParam('avatar_url has to be an mxc:// URI.');
    }
    await this.#afterOthers(user, async () => {
      const changed = await once.step<boolean>('profile', (done) =>
        this.#database.transaction(async (tx) => {
          const isOther = await setProfileField(tx, user, field, value === '' ? null : value);
          await done(tx, isOther);
          return isOther;
        }),
      );
      const profile = changed ? await this.get(user) : undefined;
      if (profile !== undefined) await this.#listener?.profileChanged(user, profile);
    });
  }

  /** Keeps the changes of one user in order, so that the listener's last call has the last profile. */
  async #afterOthers(user: UserId, change: () => Promise<void>): Promise<void> {
    const previous = this.#changes.get(user) ?? Promise.resolve();
    const mine = previous.catch(() => undefined).then(change);
    this.#changes.set(user, mine);
    try {
      await mine;
    } finally {
      if (this.#changes.get(user) === mine) this.#changes.delete(user);
    }
  }
}

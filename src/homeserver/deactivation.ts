import type { Cancel, Clock, Millis } from '../base/time.ts';
import { MatrixError } from '../matrix/error.ts';
import type { RoomId, UserId } from '../matrix/ids.ts';
import { addDeparture, listDepartures, markDeactivated, removeDeparture } from '../storage/accounts.ts';
import { dropCrossSigning } from '../storage/cross_signing.ts';
import type { Database, Transaction } from '../storage/database.ts';
import { type Membership, roomsOf } from '../storage/memberships.ts';
import { deleteShortTokens } from '../storage/short_tokens.ts';
import { streamPosition } from '../storage/sync.ts';
import { deleteProfile, deleteSettings } from '../storage/user_data.ts';
import type { Requester } from './accounts.ts';
import { deleteAllDevices } from './device_data.ts';
import { endingPipes } from './device_logout.ts';
import { DeviceLists } from './keys/device_lists.ts';
import { type Done, notNoted } from './once.ts';
import type { DevicePipes } from './ports.ts';

/** Between two times that the disk is looked at: the command line deactivates accounts beside a running server. */
const LOOK_INTERVAL_MS: Millis = 60_000;
/** Until rooms are tried again that could not be left, at first and at most. */
const FIRST_RETRY_MS: Millis = 60_000;
const MAX_RETRY_MS: Millis = 60 * 60_000;

/** What a user has a part in until they leave. */
const PRESENT: readonly Membership[] = ['join', 'invite', 'knock'];

/**
 * Deactivates an account, for ever, as part of a transaction: everything but leaving the rooms, which `Deactivation` does
 * from then on, in the running server or at its next start.
 * @param erase whether the user's events are shown redacted to those who join later, and the profile goes
 */
export async function deactivateAccount(
  tx: Transaction,
  user: UserId,
  { erase, now, lists }: { readonly erase: boolean; readonly now: Millis; readonly lists: DeviceLists },
): Promise<void> {
  tx.erasesSecrets();
  await markDeactivated(tx, user, now, erase ? await streamPosition(tx) : null);
  await deleteAllDevices(tx, user, lists);
  if (await dropCrossSigning(tx, user)) await lists.signingKeysChanged(tx, user);
  await deleteShortTokens(tx, user);
  await deleteSettings(tx, user);
  if (erase) await deleteProfile(tx, user);
  await addDeparture(tx, user);
}

export interface DeactivationOptions {
  readonly database: Database;
  readonly clock: Clock;
  readonly pipes?: DevicePipes | undefined;
  readonly lists?: DeviceLists | undefined;
  /** Leaves a room, or turns down an invite. @throws MatrixError M_FORBIDDEN where there is nothing to leave */
  readonly leave: (user: UserId, room: RoomId) => Promise<void>;
  /** Told of accounts that have ended, as long as there is something left to do for them. */
  readonly ended?: () => void;
  readonly log: { warn(fields: object, message: string): void };
}

/** The end of accounts (client-server API, "Account deactivation"). */
export class Deactivation {
  readonly #options: DeactivationOptions;
  #running: Promise<void> | undefined;
  #isAskedFor = false;
  /** When those are tried again who could not leave some room, by the monotonic clock. */
  readonly #putOff = new Map<UserId, { readonly until: Millis; readonly delayMs: Millis }>();
  #cancel: Cancel | undefined;
  #isStopped = false;

  constructor(options: DeactivationOptions) {
    this.#options = options;
  }

  /** Goes on with what was begun before, and looks from now on for accounts that others have deactivated on the disk. */
  start(): void {
    this.#wake();
    this.#cancel = this.#options.clock.after(LOOK_INTERVAL_MS, () => this.start());
  }

  /**
   * Deactivates the account of the requester, who may be on no device; the rooms are left after that, in the background.
   */
  async deactivate(
    requester: Pick<Requester, 'user'> & Partial<Requester>,
    erase: boolean,
    done: Done<void> = notNoted,
  ): Promise<void> {
    const { database, clock, pipes, lists = new DeviceLists() } = this.#options;
    await database.transaction(async (tx) => {
      await endingPipes(tx, pipes, requester, () =>
        deactivateAccount(tx, requester.user, { erase, now: clock.wall(), lists }),
      );
      await done(tx);
    });
    this.#wake();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancel?.();
    await this.#running;
  }

  #wake(): void {
    this.#isAskedFor = true;
    if (this.#isStopped || this.#running !== undefined) return;
    this.#running = this.#run()
      // The disk's failure: what is on it is looked at again.
      .catch((error: unknown) => this.#warn(error, 'who is to leave their rooms could not be read'))
      .finally(() => {
        this.#running = undefined;
      });
  }

  async #run(): Promise<void> {
    const { database, clock } = this.#options;
    while (this.#isAskedFor && !this.#isStopped) {
      this.#isAskedFor = false;
      const users = await listDepartures(database);
      if (users.length > 0) this.#options.ended?.();
      for (const user of users) {
        const putOff = this.#putOff.get(user);
        if (putOff !== undefined && putOff.until > clock.monotonic()) continue;
        if (await this.#depart(user)) {
          this.#putOff.delete(user);
        } else {
          const delayMs = Math.min((putOff?.delayMs ?? FIRST_RETRY_MS / 2) * 2, MAX_RETRY_MS);
          this.#putOff.set(user, { until: clock.monotonic() + delayMs, delayMs });
        }
      }
    }
  }

  /** @returns whether the user is out of all rooms */
  async #depart(user: UserId): Promise<boolean> {
    const { database, leave } = this.#options;
    let isOut = true;
    for (const membership of PRESENT)
      for (const room of await roomsOf(database, user, membership)) {
        if (this.#isStopped) return false;
        try {
          await leave(user, room);
        } catch (error) {
          if (error instanceof MatrixError && error.errcode === 'M_FORBIDDEN') continue;
          isOut = false;
          if (!(error instanceof MatrixError)) this.#warn(error, 'a deactivated user could not leave a room');
        }
      }
    if (isOut) await database.transaction((tx) => removeDeparture(tx, user));
    return isOut;
  }

  #warn(error: unknown, what: string): void {
    this.#options.log.warn({ error: String(error) }, what);
  }
}

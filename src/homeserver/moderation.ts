import { forbidden, invalidParam, notFound } from '../matrix/error.ts';
import { type DeviceId, type ServerName, serverOf, type UserId } from '../matrix/ids.ts';
import { type AccountRow, findAccount, setAccountFlag } from '../storage/accounts.ts';
import { type Connection, connectionsOf } from '../storage/connections.ts';
import type { Database, Reader } from '../storage/database.ts';
import { listDevices } from '../storage/devices.ts';
import type { Requester } from './accounts.ts';
import { type Done, notNoted } from './once.ts';

export type Restriction = 'locked' | 'suspended';

/** What administrators do with accounts (client-server API, "Account moderation", "Server administration"). */
export class Moderation {
  readonly #database: Database;
  readonly #serverName: ServerName;

  constructor({ database, serverName }: { readonly database: Database; readonly serverName: ServerName }) {
    this.#database = database;
    this.#serverName = serverName;
  }

  async isAdmin(user: UserId): Promise<boolean> {
    return (await findAccount(this.#database, user))?.admin === true;
  }

  /** @throws MatrixError M_FORBIDDEN, M_INVALID_PARAM, M_NOT_FOUND */
  async isRestricted(requester: Requester, user: UserId, restriction: Restriction): Promise<boolean> {
    return (await this.#target(this.#database, requester, user))[restriction];
  }

  /** @throws MatrixError M_FORBIDDEN, also for oneself and other administrators; M_INVALID_PARAM, M_NOT_FOUND */
  async restrict(
    requester: Requester,
    user: UserId,
    restriction: Restriction,
    value: boolean,
    done: Done<boolean> = notNoted,
  ): Promise<boolean> {
    return this.#database.transaction(async (tx) => {
      await this.#target(tx, requester, user);
      await setAccountFlag(tx, user, restriction, value);
      await done(tx, value);
      return value;
    });
  }

  /**
   * The devices of a user and how each has called, the newest first, for the user or an administrator.
   * @throws MatrixError M_FORBIDDEN, M_NOT_FOUND
   */
  async devicesOf(requester: Requester, user: UserId): Promise<ReadonlyMap<DeviceId, readonly Connection[]>> {
    if (user !== requester.user && !(await this.isAdmin(requester.user))) throw notAdmin();
    if ((await findAccount(this.#database, user)) === undefined) throw notFound('There is no such user.');
    const devices = new Map<DeviceId, Connection[]>();
    for (const { device } of await listDevices(this.#database, user)) devices.set(device, []);
    for (const connection of await connectionsOf(this.#database, user))
      devices.get(connection.device)?.push(connection);
    return devices;
  }

  /** "Servers MUST ensure that authorisation is checked prior to trying to do account lookups." */
  async #target(reader: Reader, requester: Requester, user: UserId): Promise<AccountRow> {
    if ((await findAccount(reader, requester.user))?.admin !== true) throw notAdmin();
    if (serverOf(user) !== this.#serverName) throw invalidParam('The user is not one of this server.');
    const account = await findAccount(reader, user);
    if (account === undefined || account.deactivated !== null) throw notFound('There is no such user.');
    // Of whom the requester is one.
    if (account.admin) throw forbidden('Administrators are not locked or suspended this way.');
    return account;
  }
}

const notAdmin = () => forbidden('You do not administer this server.');

import { type Random, seededRandom } from '../../../src/base/random.ts';
import { VirtualTime } from '../../../src/base/virtual_time.ts';
import { AccountData } from '../../../src/homeserver/account_data.ts';
import { Notifier } from '../../../src/homeserver/notifier.ts';
import type { ToDeviceToTell } from '../../../src/homeserver/ports.ts';
import { Sync } from '../../../src/homeserver/sync/sync.ts';
import { ToDevice } from '../../../src/homeserver/to_device.ts';
import type { DeviceId, ServerName, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { insertAccount } from '../../../src/storage/accounts.ts';
import type { Database } from '../../../src/storage/database.ts';
import { addDevice } from '../../../src/storage/devices.ts';
import { temporaryDatabase } from '../../storage/temporary_database.ts';

export const HERE = 'here.example' as ServerName;
export const ALICE = `@alice:${HERE}` as UserId;
export const BOB = `@bob:${HERE}` as UserId;
export const PHONE = 'PHONE' as DeviceId;
export const LAPTOP = 'LAPTOP' as DeviceId;
/** Bob's, from which he sends. */
export const DESK = 'DESK' as DeviceId;

/** Users, their inboxes and /sync, over one database. */
export class ToDeviceWorld {
  readonly time = new VirtualTime();
  readonly database: Database = temporaryDatabase();
  readonly queued: { readonly destination: ServerName; readonly message: ToDeviceToTell }[] = [];
  readonly lines: string[] = [];
  toDevice!: ToDevice;
  sync!: Sync;
  accountData!: AccountData;
  readonly #random: Random = seededRandom(7);
  #txn = 0;

  static async open(): Promise<ToDeviceWorld> {
    const world = new ToDeviceWorld();
    world.restart();
    await world.database.transaction(async (tx) => {
      for (const user of [ALICE, BOB]) await insertAccount(tx, { user, passwordHash: null }, 1);
    });
    for (const [user, device] of [
      [ALICE, PHONE],
      [ALICE, LAPTOP],
      [BOB, DESK],
    ] as const)
      await world.logIn(user, device);
    return world;
  }

  /** Everything but the database anew. */
  restart(): void {
    const { clock } = this.time;
    const { database } = this;
    const notifier = new Notifier({ clock });
    this.accountData = new AccountData({ database, notifier });
    this.toDevice = new ToDevice({
      ...{ database, clock, random: this.#random, notifier, serverName: HERE },
      outbox: {
        enqueueToDevice: async (tx, destination, message) =>
          tx.afterCommit(() => this.queued.push({ destination, message })),
      },
      log: { warn: (fields, message) => this.lines.push(`${message} ${JSON.stringify(fields)}`) },
    });
    this.sync = new Sync({
      ...{ reader: database, clock, notifier, toDevice: this.toDevice },
      filters: { get: async () => undefined },
    });
  }

  logIn(user: UserId, device: DeviceId): Promise<void> {
    return this.database.transaction((tx) => addDevice(tx, user, { device, displayName: null }, 1));
  }

  /** Bob sends. @param messages by user and device */
  async send(
    messages: Readonly<Record<string, Readonly<Record<string, JsonObject>>>>,
    txnId = `t${this.#txn++}`,
    type = 'm.test',
  ): Promise<void> {
    // At the rate to which one user is held.
    await this.time.pass(100);
    await this.toDevice.send({ user: BOB, device: DESK }, type, txnId, messages);
  }

  async answer(device: DeviceId, since?: string, timeoutMs = 0): Promise<JsonObject> {
    return this.sync.sync({ requester: { user: ALICE, device }, since, timeoutMs });
  }
}

/** The messages in an answer of /sync, by their content's `n`. */
export const numbersIn = (answer: JsonObject): number[] =>
  (answer.to_device as { events: { content: { n: number } }[] }).events.map(({ content }) => content.n);

export const nextOf = (answer: JsonObject): string => answer.next_batch as string;

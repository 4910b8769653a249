import { claimedJson } from '../../../src/homeserver/keys/local_keys.ts';
import { UNRECOGNISED } from '../../../src/homeserver/once.ts';
import type { UserKeys } from '../../../src/homeserver/ports.ts';
import {
  type DeviceId,
  type RoomId,
  type ServerName,
  serverOf,
  type UserId,
} from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import type { SigningKey } from '../../../src/matrix/signing.ts';
import { insertAccount } from '../../../src/storage/accounts.ts';
import { addDevice, deleteDevice, listDevices } from '../../../src/storage/devices.ts';
import { DeviceOwner } from '../../homeserver/keys/key_owner.ts';
import { A, B, HOUR, testKey } from '../fixtures.ts';
import { Network, openSide, type Side, stopped } from '../sides.ts';

/** Long enough for everything that is told soon. */
export const SOON = 3_000;

/** Two servers with a room that Alice, of A, and Bob, of B, are in. */
export class KeysWorld {
  readonly network = new Network();
  readonly keys: Readonly<Record<string, SigningKey>> = { [A]: testKey(1), [B]: testKey(2) };
  a!: Side;
  b!: Side;
  room!: RoomId;
  alice!: UserId;
  bob!: UserId;
  #seed = 10;
  #txn = 0;

  static async open(): Promise<KeysWorld> {
    const world = new KeysWorld();
    world.a = await openSide(world.network, A, world.keys[A]!, 1);
    world.b = await openSide(world.network, B, world.keys[B]!, 2);
    [world.alice, world.bob] = [world.a.user('alice'), world.b.user('bob')];
    for (const user of [world.alice, world.bob]) await world.register(user);
    world.room = await world.within(world.a.rooms.create(world.alice, { preset: 'public_chat' }));
    await world.within(world.b.rooms.memberships.join(world.bob, world.room, { via: [A] }));
    await world.pass(SOON);
    return world;
  }

  side(of: UserId | ServerName): Side {
    return (of.includes(':') ? serverOf(of as UserId) : of) === A ? this.a : this.b;
  }

  within<T>(outcome: Promise<T>): Promise<T> {
    return this.network.time.until(outcome, 4 * HOUR);
  }

  pass(ms: number): Promise<void> {
    return this.network.time.pass(ms);
  }

  /** The same server anew, over the same database. */
  async restart(server: ServerName): Promise<void> {
    const side = this.side(server);
    const ended = Promise.all([stopped(side), side.edus.stop(), side.typing.stop(), side.presence.stop()]);
    await this.within(ended);
    const anew = await openSide(this.network, server, this.keys[server]!, this.#seed++, side.database);
    if (server === A) this.a = anew;
    else this.b = anew;
  }

  register(user: UserId): Promise<unknown> {
    return this.side(user).database.transaction((tx) => insertAccount(tx, { user, passwordHash: null }, 1));
  }

  /** A device that has keys, some of them one-time keys. */
  async logIn(user: UserId, device: string, oneTimeKeys: readonly string[] = []): Promise<void> {
    const { database, localKeys } = this.side(user);
    const id = device as DeviceId;
    await this.within(
      database.transaction((tx) => addDevice(tx, user, { device: id, displayName: null }, 1)),
    );
    const owner = new DeviceOwner({ id: user, device }, this.#seed++);
    const upload = { deviceKeys: owner.identityKeys(), oneTimeKeys: owner.oneTimeKeys(...oneTimeKeys) };
    await this.within(localKeys.upload({ user, device: id }, upload));
  }

  /** As a logout does. */
  async logOut(user: UserId, device: string): Promise<void> {
    const { database, deviceLists } = this.side(user);
    await this.within(
      database.transaction(async (tx) => {
        await deleteDevice(tx, user, device as DeviceId);
        await deviceLists.devicesChanged(tx, user, [device as DeviceId]);
      }),
    );
  }

  async devices(user: UserId): Promise<string[]> {
    return (await listDevices(this.side(user).database, user)).map(({ device }) => device);
  }

  /** Sends from one device to others, by user and device. */
  send(
    from: UserId,
    messages: Readonly<Record<string, Readonly<Record<string, JsonObject>>>>,
    txnId = `t${this.#txn++}`,
  ): Promise<void> {
    const requester = { user: from, device: 'SENDER' as DeviceId };
    return this.within(this.side(from).toDevice.send(requester, 'm.test', txnId, messages));
  }

  /** A device that may send. */
  async sender(user: UserId): Promise<void> {
    const row = { device: 'SENDER' as DeviceId, displayName: null };
    await this.within(this.side(user).database.transaction((tx) => addDevice(tx, user, row, 1)));
  }

  /** What waits in an inbox: the contents' `n`. */
  async inbox(user: UserId, device: string): Promise<number[]> {
    const rows = await this.side(user).database.all<{ json: string }>(
      'SELECT json FROM to_device_messages WHERE user_id = ? AND device_id = ? ORDER BY id',
      ...[user, device],
    );
    return rows.map(({ json }) => (JSON.parse(json) as { content: { n: number } }).content.n);
  }

  /** Asks for a user's keys as a client of the other server would: out of the copy where that is right. */
  async query(user: UserId): Promise<{ readonly asked: boolean; readonly keys: UserKeys | undefined }> {
    const { remoteKeys } = serverOf(user) === A ? this.b : this.a;
    const copy = (await this.within(remoteKeys.copies([user]))).get(user);
    if (copy !== undefined) return { asked: false, keys: copy };
    const answer = await this.within(remoteKeys.query(serverOf(user), new Map([[user, []]])));
    return { asked: true, keys: answer.get(user) };
  }

  /** The devices in the copy of a user; undefined: there is none that is right. */
  async copy(user: UserId): Promise<string[] | undefined> {
    const { remoteKeys } = serverOf(user) === A ? this.b : this.a;
    const copy = (await remoteKeys.copies([user])).get(user);
    return copy && [...copy.devices.keys()];
  }

  /** Claims a key from the other server. */
  async claim(user: UserId, device: string): Promise<JsonObject> {
    const { remoteKeys } = serverOf(user) === A ? this.b : this.a;
    const wanted = new Map([[user, new Map([[device as DeviceId, 'signed_curve25519']])]]);
    return claimedJson(await this.within(remoteKeys.claim(serverOf(user), wanted, 60_000)));
  }

  /** Claims a key of a local user. */
  async claimHere(user: UserId, device: string): Promise<JsonObject> {
    const wanted = new Map([[user, new Map([[device as DeviceId, 'signed_curve25519']])]]);
    return claimedJson(await this.within(this.side(user).localKeys.claim(wanted, UNRECOGNISED)));
  }

  /** How often keys of a user have changed as far as clients of the other server are told: the position of the last change. */
  async toldAt(user: UserId): Promise<number> {
    const { database } = serverOf(user) === A ? this.b : this.a;
    const row = await database.get<{ position: number }>(
      'SELECT position FROM device_lists WHERE user_id = ?',
      user,
    );
    return row?.position ?? 0;
  }

  /** EDUs of a type that a server has been sent, by their contents. */
  edus(to: ServerName, type: string): JsonObject[] {
    return this.transactions(to).flatMap(({ edus }) =>
      edus.filter(({ edu_type }) => edu_type === type).map(({ content }) => content as JsonObject),
    );
  }

  /** Transactions that have arrived at a server. */
  transactions(
    to: ServerName,
  ): { readonly pdus: readonly JsonObject[]; readonly edus: readonly JsonObject[] }[] {
    return this.network.calls
      .filter((call) => call.to === to && call.path.includes('/send/'))
      .map(({ body }) => {
        const { pdus = [], edus = [] } = body as Record<string, readonly JsonObject[]>;
        return { pdus, edus };
      });
  }
}

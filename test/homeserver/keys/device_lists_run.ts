import { expect } from 'vitest';
import { type Random, seededRandom } from '../../../src/base/random.ts';
import { deleteDevices } from '../../../src/homeserver/device_data.ts';
import { Filters } from '../../../src/homeserver/filters.ts';
import { deviceListChanges } from '../../../src/homeserver/keys/device_list_changes.ts';
import { DeviceLists } from '../../../src/homeserver/keys/device_lists.ts';
import { LocalKeys } from '../../../src/homeserver/keys/local_keys.ts';
import { Notifier } from '../../../src/homeserver/notifier.ts';
import { Sync } from '../../../src/homeserver/sync/sync.ts';
import { MatrixError } from '../../../src/matrix/error.ts';
import { type DeviceId, type RoomId, serverOf, type UserId } from '../../../src/matrix/ids.ts';
import { insertAccount } from '../../../src/storage/accounts.ts';
import { addDevice } from '../../../src/storage/devices.ts';
import { syncRooms } from '../../../src/storage/sync.ts';
import { type Server, World } from '../rooms/world.ts';
import { DeviceOwner } from './key_owner.ts';

/*
 * Users of two servers come into rooms and go, and their devices get keys and lose them. After each step the twin writes down
 * who was joined where on server a, and whose keys changed; what a sync of one of a's users tells from any of their tokens on has
 * to be what it computes from that:
 *
 *   changed   of the user and those who share a room at the end: whose keys have changed since, and with whom no room was shared
 *             in all of the steps
 *   left      who shared a room at the beginning, and shares none at the end
 */

const LOCAL = ['alice', 'amy', 'ann', 'abe'];
const REMOTE = ['bob', 'bea', 'ben'];
const DEVICES = ['PHONE', 'TABLET'] as DeviceId[];

interface Step {
  /** By room: who is joined. */
  readonly joined: ReadonlyMap<string, ReadonlySet<string>>;
  readonly changed: ReadonlySet<string>;
}

/** A token, and the step behind which it was told. */
interface Told {
  readonly token: string;
  readonly step: number;
}

/** One run of random steps; each look at /sync is an expectation. */
export class DeviceListsRun {
  readonly #random: Random;
  readonly #world = new World();
  readonly #a = this.#world.server('a.example');
  readonly #b = this.#world.server('b.example');
  readonly #rooms: RoomId[] = [];
  readonly #steps: Step[] = [];
  readonly #changed = new Set<string>();
  readonly #tokens = new Map<UserId, Told[]>();
  readonly #uploaded = new Set<string>();
  #lists!: DeviceLists;
  #keys!: LocalKeys;
  #sync!: Sync;
  #seeds = 0;
  /** How often a sync told of somebody. */
  counts = { changed: 0, left: 0 };

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  async run(steps: number): Promise<void> {
    this.#start();
    for (const name of LOCAL)
      await this.#a.database.transaction((tx) =>
        insertAccount(tx, { user: this.#a.user(name), passwordHash: null }, 0),
      );
    for (let step = 0; step < steps; step++) {
      await this.#act();
      await this.#record();
      if (this.#under(3) > 0) await this.#look(this.#pick(LOCAL.map((name) => this.#a.user(name))));
    }
  }

  #start(): void {
    const { database } = this.#a;
    const { clock } = this.#world;
    const notifier = new Notifier({ clock });
    this.#lists = new DeviceLists({ notifier });
    this.#keys = new LocalKeys({ database, lists: this.#lists, notifier });
    this.#sync = new Sync({ reader: database, clock, notifier, filters: new Filters({ database }) });
  }

  async #record(): Promise<void> {
    this.#steps.push({ joined: await this.#joined(), changed: new Set(this.#changed) });
    this.#changed.clear();
  }

  async #act(): Promise<void> {
    const users = [...LOCAL.map((name) => this.#a.user(name)), ...REMOTE.map((name) => this.#b.user(name))];
    const user = this.#pick(users);
    const server = serverOf(user) === this.#a.name ? this.#a : this.#b;
    const actions = [
      () => this.#create(server, user),
      ...Array.from({ length: 5 }, () => () => this.#join(server, user)),
      ...Array.from({ length: 3 }, () => () => this.#leave(server, user)),
      () => this.#kick(user),
      () => this.#rename(server, user),
      () => this.#change(user),
      () => this.#change(user),
      () => this.#forget(user),
      async () => {
        this.#a.restart();
        this.#start();
      },
      async () => {
        const next = this.#world.queue.shift();
        if (next !== undefined) await this.#world.deliver(next);
      },
    ];
    try {
      await this.#pick(actions)();
    } catch (error) {
      if (!(error instanceof MatrixError)) throw error;
    }
    if (this.#under(4) === 0) return;
    for (let next = this.#world.queue.shift(); next !== undefined; next = this.#world.queue.shift()) {
      await this.#record();
      await this.#world.deliver(next);
    }
  }

  async #create(server: Server, user: UserId): Promise<void> {
    if (this.#rooms.length < 4) this.#rooms.push(await server.rooms.create(user, { preset: 'public_chat' }));
  }

  async #join(server: Server, user: UserId): Promise<void> {
    const room = this.#pick(this.#rooms);
    if (room === undefined) return;
    const via = server === this.#a ? 'b.example' : 'a.example';
    await server.rooms.memberships.join(user, room, { via: [via] });
  }

  async #leave(server: Server, user: UserId): Promise<void> {
    const room = this.#pick(this.#rooms);
    if (room !== undefined) await server.rooms.memberships.leave(user, room);
  }

  async #kick(user: UserId): Promise<void> {
    const room = this.#pick(this.#rooms);
    if (room === undefined) return;
    for (const name of LOCAL) {
      const by = this.#a.user(name);
      await this.#a.rooms.memberships.kick(by, room, user).catch(() => undefined);
    }
  }

  /** A join that changes a name alone. */
  async #rename(server: Server, user: UserId): Promise<void> {
    server.displayNames.set(user, `name ${++this.#seeds}`);
    await this.#join(server, user);
  }

  /** Keys of a local device come or go; of a remote user, whose server tells it where a room is shared. */
  async #change(user: UserId): Promise<void> {
    if (serverOf(user) !== this.#a.name) {
      await this.#a.database.transaction(async (tx) => {
        await this.#lists.changed(tx, user);
      });
      this.#changed.add(user);
      return;
    }
    const device = this.#pick(DEVICES);
    const key = `${user} ${device}`;
    if (this.#uploaded.delete(key)) {
      await this.#a.database.transaction((tx) => deleteDevices(tx, user, [device], this.#lists));
    } else {
      this.#uploaded.add(key);
      await this.#a.database.transaction((tx) => addDevice(tx, user, { device, displayName: null }, 0));
      const deviceKeys = new DeviceOwner({ id: user, device }, ++this.#seeds).identityKeys();
      await this.#keys.upload({ user, device }, { deviceKeys });
    }
    this.#changed.add(user);
  }

  /** One-time keys alone change nothing that others have to know. */
  async #forget(user: UserId): Promise<void> {
    const device = DEVICES.find((one) => this.#uploaded.has(`${user} ${one}`));
    if (device !== undefined)
      await this.#keys.upload({ user, device }, { oneTimeKeys: { [`x:${++this.#seeds}`]: 'key' } });
  }

  async #joined(): Promise<Map<string, Set<string>>> {
    const joined = new Map<string, Set<string>>();
    const rows = await this.#a.database.all<{ room: string; user: string }>(
      "SELECT room, user_id AS user FROM memberships WHERE membership = 'join'",
    );
    for (const { room, user } of rows) joined.set(room, (joined.get(room) ?? new Set<string>()).add(user));
    return joined;
  }

  async #look(user: UserId): Promise<void> {
    const tokens = this.#tokens.get(user) ?? [];
    this.#tokens.set(user, tokens);
    const from = tokens.length === 0 || this.#under(3) > 0 ? tokens.at(-1) : this.#pick(tokens);
    const requester = { user, device: 'PHONE' as DeviceId };
    const body = await this.#sync.sync({ requester, since: from?.token, timeoutMs: 0 });
    const step = this.#steps.length - 1;
    const told = { token: String(body.next_batch), step };
    tokens.push(told);
    if (from === undefined) {
      expect(body).not.toHaveProperty('device_lists');
      return;
    }
    const expected = this.#twin(user, from.step, step);
    expect(body.device_lists).toEqual(expected);
    expect(await this.#sync.deviceLists(requester, from.token, told.token)).toEqual(expected);
    await this.#lookRoughly(user, from, expected);
    this.counts.changed += expected.changed.length;
    this.counts.left += expected.left.length;
  }

  /** Where so much has happened that it is not followed closely, more users are told of, but none who is not met or parted from. */
  async #lookRoughly(
    viewer: UserId,
    from: Told,
    { changed, left }: { readonly changed: readonly string[]; readonly left: readonly string[] },
  ): Promise<void> {
    const { database } = this.#a;
    const { now, rooms } = await syncRooms(database, viewer);
    const range = { viewer, after: Number(from.token.slice('s1_'.length)), upTo: now };
    const rough = await deviceListChanges(database, rooms, range, { changes: 1, users: 1 });
    const joined = [...this.#steps.at(-1)!.joined.values()].filter((users) => users.has(viewer));
    const near = new Set(joined.flatMap((users) => [...users]));
    expect(rough.changed).toEqual(expect.arrayContaining([...changed]));
    expect(rough.left).toEqual(expect.arrayContaining([...left]));
    expect(rough.changed.filter((user) => user !== viewer && !near.has(user))).toEqual([]);
    expect(rough.left.filter((user) => near.has(user))).toEqual([]);
  }

  #twin(viewer: UserId, from: number, to: number): { changed: string[]; left: string[] } {
    const steps = this.#steps.slice(from, to + 1);
    const [start, end] = [steps[0]!, steps.at(-1)!];
    const inRoom = ({ joined }: Step, room: string, user: string): boolean =>
      joined.get(room)?.has(user) === true && joined.get(room)?.has(viewer) === true;
    const shares = (step: Step, user: string): boolean =>
      [...step.joined.keys()].some((room) => inRoom(step, room, user));
    const everybody = [
      ...LOCAL.map((name) => this.#a.user(name)),
      ...REMOTE.map((name) => this.#b.user(name)),
    ];
    const changed = everybody.filter((user) => {
      const hasChanged = steps.slice(1).some((step) => step.changed.has(user));
      if (user === viewer) return hasChanged;
      const isSteady = this.#rooms.some((room) => steps.every((step) => inRoom(step, room, user)));
      return shares(end, user) && (hasChanged || !isSteady);
    });
    const left = everybody.filter((user) => user !== viewer && shares(start, user) && !shares(end, user));
    return { changed: changed.sort(), left: left.sort() };
  }

  #under(end: number): number {
    return this.#random.bytes(4).reduce((sum, byte) => sum * 256 + byte, 0) % end;
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#under(Math.max(list.length, 1))]!;
  }
}

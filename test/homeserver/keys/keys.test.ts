import { beforeEach, describe, expect, test } from 'vitest';
import { VirtualTime } from '../../../src/base/virtual_time.ts';
import { DeviceLists } from '../../../src/homeserver/keys/device_lists.ts';
import { Keys } from '../../../src/homeserver/keys/keys.ts';
import { LocalKeys } from '../../../src/homeserver/keys/local_keys.ts';
import { type Once, UNRECOGNISED } from '../../../src/homeserver/once.ts';
import type { ClaimedKeys, RemoteKeys, UserKeys, WantedKeys } from '../../../src/homeserver/ports.ts';
import { unknownError } from '../../../src/matrix/error.ts';
import type { DeviceId, ServerName, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { temporaryDatabase } from '../../storage/temporary_database.ts';
import { CrossSigner, DeviceOwner } from './key_owner.ts';

const [HERE, THERE, AWAY] = ['here.example', 'there.example', 'away.example'] as ServerName[];
const ALICE = { user: '@alice:here.example' as UserId, device: 'PHONE' as DeviceId };
const BOB = '@bob:there.example' as UserId;
const BEA = '@bea:there.example' as UserId;
const CAROL = '@carol:away.example' as UserId;
const PHONE = 'PHONE' as DeviceId;

/** Other servers: what they answer, how long that takes, and what they were asked. */
class Others implements RemoteKeys {
  readonly time: VirtualTime;
  readonly kept = new Map<UserId, UserKeys>();
  readonly answers = new Map<ServerName, ReadonlyMap<UserId, UserKeys>>();
  claimed: ClaimedKeys = new Map();
  readonly asked: [server: string, users: string[]][] = [];
  delayMs = new Map<ServerName, number>();

  constructor(time: VirtualTime) {
    this.time = time;
  }

  async copies(users: readonly UserId[]): Promise<ReadonlyMap<UserId, UserKeys>> {
    return new Map([...this.kept].filter(([user]) => users.includes(user)));
  }

  async query(
    server: ServerName,
    wanted: ReadonlyMap<UserId, unknown>,
  ): Promise<ReadonlyMap<UserId, UserKeys>> {
    await this.#asked(server, wanted);
    const answer = this.answers.get(server);
    if (answer === undefined) throw unknownError(502, 'cannot be reached');
    return answer;
  }

  async claim(server: ServerName, wanted: WantedKeys): Promise<ClaimedKeys> {
    await this.#asked(server, wanted);
    if (!this.answers.has(server)) throw unknownError(502, 'cannot be reached');
    return this.claimed;
  }

  async #asked(server: ServerName, users: ReadonlyMap<UserId, unknown>): Promise<void> {
    this.asked.push([server, [...users.keys()]]);
    const delayMs = this.delayMs.get(server);
    if (delayMs !== undefined) await new Promise<void>((resolve) => this.time.clock.after(delayMs, resolve));
  }
}

const keysOf = (user: UserId, seed: number, ...devices: readonly string[]): UserKeys => ({
  devices: new Map(
    devices.map((device) => [device as DeviceId, new DeviceOwner({ id: user, device }, seed).identityKeys()]),
  ),
});

let time: VirtualTime;
let others: Others;
let keys: Keys;

beforeEach(() => {
  time = new VirtualTime();
  others = new Others(time);
  const database = temporaryDatabase();
  const notifier = { published: () => undefined };
  const local = new LocalKeys({ database, lists: new DeviceLists(), notifier });
  keys = new Keys({ reader: database, clock: time.clock, serverName: HERE!, local, remote: others });
});

const query = (wanted: Record<string, readonly string[]>, timeoutMs?: number): Promise<JsonObject> =>
  time.until(
    keys.query(ALICE, new Map(Object.entries(wanted)) as Map<UserId, DeviceId[]>, timeoutMs),
    60 * 60_000,
  );

const claim = (wanted: Record<string, Record<string, string>>, once = UNRECOGNISED): Promise<JsonObject> =>
  time.until(
    keys.claim(
      new Map(
        Object.entries(wanted).map(([user, devices]) => [
          user as UserId,
          new Map(Object.entries(devices) as [DeviceId, string][]),
        ]),
      ),
      once,
    ),
    60 * 60_000,
  );

describe('a query', () => {
  test('asks each server once, at the same time, and names those that do not answer', async () => {
    others.answers.set(
      THERE!,
      new Map([
        [BOB, keysOf(BOB, 1, 'PHONE', 'TABLET')],
        [BEA, keysOf(BEA, 2)],
      ]),
    );
    others.delayMs.set(THERE!, 3_000);
    others.delayMs.set(AWAY!, 4_000);
    const before = time.clock.monotonic();
    const body = await query({ [BOB]: ['PHONE', 'NONE'], [CAROL]: [], [BEA]: [] });
    expect(time.clock.monotonic() - before).toBe(4_000);
    expect(others.asked).toEqual([
      ['there.example', [BOB, BEA]],
      ['away.example', [CAROL]],
    ]);
    expect(body).toEqual({
      device_keys: {
        [BOB]: { PHONE: new DeviceOwner({ id: BOB, device: 'PHONE' }, 1).identityKeys() },
        [BEA]: {},
      },
      ...{ master_keys: {}, self_signing_keys: {}, user_signing_keys: {} },
      failures: { 'away.example': { errcode: 'M_UNKNOWN', error: 'cannot be reached' } },
    });
  });

  test.each([
    [undefined, 10_000],
    [2_000, 2_000],
    [0, 0],
    [3_600_000, 120_000],
  ])('with the timeout %s waits %i ms', async (timeoutMs, expected) => {
    others.answers.set(THERE!, new Map([[BOB, keysOf(BOB, 1, 'PHONE')]]));
    others.delayMs.set(THERE!, 1_000_000);
    const before = time.clock.monotonic();
    const body = await query({ [BOB]: [] }, timeoutMs);
    expect(time.clock.monotonic() - before).toBe(expected);
    expect(body.failures).toMatchObject({ 'there.example': { errcode: 'M_UNKNOWN' } });
    expect(body.device_keys).toEqual({});
  });

  test('asks nobody for what is kept here and current', async () => {
    others.kept.set(BOB, keysOf(BOB, 1, 'PHONE'));
    others.answers.set(THERE!, new Map([[BEA, keysOf(BEA, 2, 'PHONE')]]));
    const body = await query({ [BOB]: [], [BEA]: [] });
    expect(others.asked).toEqual([['there.example', [BEA]]]);
    expect(Object.keys(body.device_keys as JsonObject).sort()).toEqual([BEA, BOB]);
  });

  test('passes on nothing that a server cannot say', async () => {
    const good = new DeviceOwner({ id: BOB, device: 'PHONE' }, 1).identityKeys();
    const signer = new CrossSigner(BOB, 5);
    const stranger = { [CAROL]: { 'ed25519:X': 'signature' } };
    const bobs: UserKeys = {
      devices: new Map<DeviceId, JsonObject>([
        [
          PHONE,
          { ...good, signatures: { ...(good.signatures as JsonObject), ...stranger }, unsigned: { x: 1 } },
        ],
        ['TABLET' as DeviceId, good],
        ['OTHER' as DeviceId, new DeviceOwner({ id: CAROL, device: 'OTHER' }, 2).identityKeys()],
        ['WATCH' as DeviceId, { user_id: BOB, device_id: 'WATCH' }],
      ]),
      master: signer.key('self_signing'),
      selfSigning: new CrossSigner(CAROL, 5).key('self_signing'),
    };
    others.answers.set(
      THERE!,
      new Map([
        [BOB, bobs],
        [CAROL, keysOf(CAROL, 3, 'PHONE')],
        [ALICE.user, keysOf(ALICE.user, 4, 'PHONE')],
        [BEA, keysOf(BEA, 4, 'PHONE')],
      ]),
    );
    others.answers.set(AWAY!, new Map());
    expect(await query({ [BOB]: [], [CAROL]: [], [ALICE.user]: [] })).toEqual({
      device_keys: { [BOB]: { PHONE: good } },
      ...{ master_keys: {}, self_signing_keys: {}, user_signing_keys: {}, failures: {} },
    });
  });

  test('asks no more than 32 servers at a time', async () => {
    const wanted = Object.fromEntries(Array.from({ length: 70 }, (_, i) => [`@u:s${i}.example`, []]));
    for (let i = 0; i < 70; i++) others.delayMs.set(`s${i}.example` as ServerName, 1_000);
    const before = time.clock.monotonic();
    const body = await query(wanted);
    expect(Object.keys(body.failures as JsonObject)).toHaveLength(70);
    expect(time.clock.monotonic() - before).toBe(3_000);
  });
});

describe('a claim', () => {
  test('asks each server once, and passes on nothing that was not asked for', async () => {
    const key = new DeviceOwner({ id: BOB, device: 'PHONE' }, 1).oneTimeKey('A');
    const name = 'signed_curve25519:A';
    others.answers.set(THERE!, new Map());
    others.claimed = new Map([
      [
        BOB,
        new Map<DeviceId, JsonObject>([
          [PHONE, { [name]: key, 'signed_curve25519:B': key }],
          ['TABLET' as DeviceId, { 'other:A': key }],
          ['WATCH' as DeviceId, { [name]: 5 }],
          ['NONE' as DeviceId, { [name]: key }],
        ]),
      ],
      [CAROL, new Map([[PHONE, { [name]: key }]])],
    ]);
    const wanted = { PHONE: 'signed_curve25519', TABLET: 'signed_curve25519', WATCH: 'signed_curve25519' };
    const body = await claim({ [BOB]: wanted, [CAROL]: { PHONE: 'signed_curve25519' } });
    expect(body).toEqual({
      one_time_keys: { [BOB]: { PHONE: { [name]: key } } },
      failures: { 'away.example': { errcode: 'M_UNKNOWN', error: 'cannot be reached' } },
    });
    expect(others.asked.map(([server]) => server)).toEqual(['there.example', 'away.example']);
  });

  test('that comes again gets what other servers gave the first time, and asks nobody', async () => {
    const name = 'signed_curve25519:A';
    const key = new DeviceOwner({ id: BOB, device: 'PHONE' }, 1).oneTimeKey('A');
    others.answers.set(THERE!, new Map());
    others.claimed = new Map([[BOB, new Map([[PHONE, { [name]: key }]])]]);
    const noted = new Map<string, unknown>();
    const once: Once = {
      ...UNRECOGNISED,
      decide: async (step, make) => {
        if (!noted.has(step)) noted.set(step, JSON.parse(JSON.stringify(await make())));
        return noted.get(step) as Awaited<ReturnType<typeof make>>;
      },
    };
    const first = await claim({ [BOB]: { PHONE: 'signed_curve25519' } }, once);
    expect(first.one_time_keys).toEqual({ [BOB]: { PHONE: { [name]: key } } });
    expect(await claim({ [BOB]: { PHONE: 'signed_curve25519' } }, once)).toEqual(first);
    expect(others.asked).toHaveLength(1);
  });

  test('passes on no more of a hostile server’s keys than can be noted', async () => {
    const devices = Array.from({ length: 30 }, (_, i) => `D${i}`);
    others.answers.set(THERE!, new Map());
    const key = { key: 'x'.repeat(100_000), signatures: {} };
    others.claimed = new Map([[BOB, new Map(devices.map((one) => [one as DeviceId, { 'x:A': key }]))]]);
    const body = await claim({ [BOB]: Object.fromEntries(devices.map((one) => [one, 'x'])) });
    expect(JSON.stringify(body).length).toBeLessThan(600_000);
  });
});

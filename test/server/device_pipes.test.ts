import { expect, test } from 'vitest';
import { fromHex } from '../../src/base/bytes.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import type { DeviceId, UserId } from '../../src/matrix/ids.ts';
import { DevicePipesOfLinks } from '../../src/server/device_pipes.ts';
import { insertAccount } from '../../src/storage/accounts.ts';
import { bindDeviceKey } from '../../src/storage/device_keys.ts';
import { addDevice } from '../../src/storage/devices.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';

const MINUTE = 60_000;
const alice = '@alice:a.example' as UserId;
const phone = 'PHONE' as DeviceId;
const keyOf = (number: number): string => number.toString(16).padStart(64, '0');

function devicePipes() {
  const database = temporaryDatabase();
  const clock = new VirtualClock();
  const ended: string[] = [];
  const forget = (peer: string, reason: string): void => void ended.push(`${peer} ${reason}`);
  const pipes = new DevicePipesOfLinks({ database, clock, forget });
  const pass = (duration: number): void => {
    const end = clock.monotonic() + duration;
    for (let next = clock.next(); next !== null && next <= end; next = clock.next()) clock.step();
    clock.advanceTo(end);
  };
  return {
    database,
    pipes,
    pass,
    ended,
    decide: (key: string, address = '192.0.2.1:1000') =>
      pipes.decide({ kind: 'device', noisePublic: fromHex(key)! }, address),
    async bind(key: string): Promise<void> {
      await database.transaction(async (tx) => {
        await insertAccount(tx, { user: alice, passwordHash: null }, 0);
        await addDevice(tx, alice, { device: phone, displayName: null }, 0);
        await bindDeviceKey(tx, key, alice, phone, 0);
        tx.afterCommit(() => pipes.bound(key));
      });
    },
  };
}

const notLoggedIn = (key: string): string => `device:${key} not logged in`;

test('a key that nobody logs in with has its session for ten minutes, however often it connects', async () => {
  const { pipes, decide, pass, ended } = devicePipes();
  expect(await decide(keyOf(1))).toEqual({ trusted: true });
  pass(9 * MINUTE);
  await decide(keyOf(1));
  expect([pipes.unbound, ended]).toEqual([1, []]);
  pass(MINUTE);
  expect([pipes.unbound, ended]).toEqual([0, [notLoggedIn(keyOf(1))]]);
});

test('a key that a login has bound keeps its session, before and after a start', async () => {
  const { pipes, decide, bind, pass, ended } = devicePipes();
  await decide(keyOf(1));
  await bind(keyOf(1));
  expect(pipes.unbound).toBe(0);
  await decide(keyOf(1));
  expect(pipes.unbound).toBe(0);
  pass(60 * MINUTE);
  expect(ended).toEqual([]);
});

test('a login and a new connection at the same time leave nobody watched who has logged in', async () => {
  for (const order of ['login first', 'connection first']) {
    const { pipes, decide, bind } = devicePipes();
    if (order === 'login first') await Promise.all([bind(keyOf(1)), decide(keyOf(1))]);
    else await Promise.all([decide(keyOf(1)), bind(keyOf(1))]);
    expect(pipes.unbound, order).toBe(0);
  }
});

test('a revoked key loses its session at once, but one that asked for it after its answer had time to arrive', () => {
  const { pipes, pass, ended } = devicePipes();
  pipes.revoked([keyOf(1), keyOf(2), keyOf(3)], keyOf(2));
  expect(ended).toEqual([`device:${keyOf(1)} logged out`, `device:${keyOf(3)} logged out`]);
  pass(2 * MINUTE);
  expect(ended.slice(2)).toEqual([notLoggedIn(keyOf(2))]);
});

test('who logs in again right after a logout keeps its session', async () => {
  const { pipes, bind, pass, ended } = devicePipes();
  pipes.revoked([keyOf(1)], keyOf(1));
  pass(MINUTE);
  await bind(keyOf(1));
  pass(10 * MINUTE);
  expect(ended).toEqual([]);
});

test("a stranger's keys take the room of his own, and never more than there is", async () => {
  const { pipes, decide, ended } = devicePipes();
  await decide(keyOf(1), '198.51.100.1:9');
  for (let i = 100; i < 170; i++) await decide(keyOf(i), `192.0.2.1:${i}`);
  expect(pipes.unbound).toBe(65);
  expect(ended).toEqual([100, 101, 102, 103, 104, 105].map((i) => notLoggedIn(keyOf(i))));
  for (let i = 200; i < 500; i++) await decide(keyOf(i), `203.0.113.${i % 250}:1`);
  expect(pipes.unbound).toBe(256);
});

test('after the end no timer is left that would keep the process', async () => {
  const { pipes, decide, pass, ended } = devicePipes();
  await decide(keyOf(1));
  pipes.close();
  pass(60 * MINUTE);
  expect([pipes.unbound, ended]).toEqual([0, []]);
});

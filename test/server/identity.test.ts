import { beforeEach, describe, expect, it } from 'vitest';
import { base64, hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { publicKeyOf } from '../../src/crypto/ed25519.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { isBound } from '../../src/pipe/identity.ts';
import {
  type OwnIdentity,
  ownIdentity,
  rotateNoiseKey,
  rotateSigningKey,
} from '../../src/server/identity.ts';
import { dropNextKey } from '../../src/storage/own_keys.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import type { SqliteDatabase } from '../../src/storage/sqlite.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';

const serverName = 'a.example' as ServerName;
const random = seededRandom(1);

let database: SqliteDatabase;

beforeEach(() => {
  database = temporaryDatabase();
});

const start = (now: number): Promise<OwnIdentity> =>
  ownIdentity({ serverName, database, sealing: IN_CLEAR, random, now });
const rotateNoise = (now: number): Promise<number> =>
  database.transaction((tx) => rotateNoiseKey(tx, IN_CLEAR, random, now));
const rotateSigning = (now: number) =>
  database.transaction((tx) => rotateSigningKey(tx, IN_CLEAR, random, now));
const sessions = async (): Promise<number> => (await database.all('SELECT * FROM pipe_sessions')).length;
const secrets = async (): Promise<string[]> =>
  (await database.all<{ secret: Uint8Array }>('SELECT secret FROM own_keys')).map(({ secret }) =>
    hex(new Uint8Array(secret)),
  );

/** One that has nothing in it, so that it can be seen to go. */
const keepSession = (): Promise<number> =>
  database.transaction((tx) =>
    tx.run(
      `INSERT INTO pipe_sessions VALUES ('udp', 1, 1, 1, 1, 'b.example', x'', 'ed25519:1', x'', 1, x'', x'', '', 1, 1, 0, x'', 0, 0, x'', -1, x'', x'', x'', x'')`,
    ),
  );

describe('a new Noise key', () => {
  it('is used from the next start on, with a higher serial under the same signing key', async () => {
    const first = await start(1_000);
    expect(await rotateNoise(2_000)).toBe(2_000);
    await keepSession();
    const second = await start(3_000);
    expect(second.pipe.serial).toBe(2_000);
    expect(second.pipe.noisePublic).not.toEqual(first.pipe.noisePublic);
    expect(second.pipe.signingPublic).toEqual(first.pipe.signingPublic);
    expect(isBound(second.pipe, second.pipe.binding)).toBe(true);
    expect(await start(4_000)).toEqual(second);
  });

  it('has a higher serial though the clock has gone back', async () => {
    await start(1_000);
    expect(await rotateNoise(10)).toBe(1_001);
    expect((await start(20)).pipe.serial).toBe(1_001);
    await rotateNoise(10);
    expect((await start(30)).pipe.serial).toBe(1_002);
  });

  it('leaves neither the old secret nor the sessions that were made with it', async () => {
    const { pipe } = await start(1_000);
    await rotateNoise(2_000);
    await keepSession();
    expect(await secrets()).toContain(hex(pipe.noiseSecret));
    await start(3_000);
    expect(await secrets()).not.toContain(hex(pipe.noiseSecret));
    expect(await sessions()).toBe(0);
    await keepSession();
    await start(4_000);
    expect(await sessions()).toBe(1);
  });

  it('is asked for twice and made once, and can be called off', async () => {
    const first = await start(1_000);
    await rotateNoise(2_000);
    await rotateNoise(3_000);
    expect((await start(4_000)).pipe.serial).toBe(3_000);
    await rotateNoise(5_000);
    expect(await database.transaction((tx) => dropNextKey(tx, 'noise'))).toBe(true);
    expect(await database.transaction((tx) => dropNextKey(tx, 'noise'))).toBe(false);
    expect((await start(6_000)).pipe.serial).toBe(3_000);
    expect((await start(6_000)).signingKeyId).toBe(first.signingKeyId);
  });
});

describe('a new signing key', () => {
  it('is used from the next start on; of the old one the public half stays', async () => {
    const first = await start(1_000);
    const next = await rotateSigning(2_000);
    await keepSession();
    const second = await start(3_000);
    expect(second.signingKeyId).toBe(next.keyId);
    expect(second.pipe.signingKeyId).toBe(next.keyId);
    expect(second.pipe.noisePublic).toEqual(first.pipe.noisePublic);
    expect(isBound(second.pipe, second.pipe.binding)).toBe(true);
    const publicKey = base64(publicKeyOf(first.signingSecret));
    expect(second.retired).toEqual([{ keyId: first.signingKeyId, publicKey, expired: 3_000 }]);
    expect(await secrets()).not.toContain(hex(first.signingSecret));
    expect(await sessions()).toBe(0);
    expect(await start(4_000)).toEqual(second);
  });
});

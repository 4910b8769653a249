import { beforeEach, describe, expect, it } from 'vitest';
import { base64 } from '../../src/base/bytes.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import {
  fingerprint,
  type KeyAuthority,
  matchesPin,
  Peers,
  type PipeClaim,
} from '../../src/federation/peers.ts';
import type { PeerTrust } from '../../src/federation/transports.ts';
import { forgetPipePeer, putPipePin, waitingKeys } from '../../src/storage/peer_trust.ts';
import { pipePeer } from '../../src/storage/pipe_peers.ts';
import type { SqliteDatabase } from '../../src/storage/sqlite.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { A, B, C, HOUR, recordingLog, testKey } from './fixtures.ts';

const key = testKey(2);
const other = testKey(3);
const noise = (seed: number): Uint8Array => new Uint8Array(32).fill(seed);
const claim = (changes: Partial<PipeClaim> = {}): PipeClaim => ({
  serverName: B,
  noisePublic: noise(1),
  signingKeyId: key.keyId,
  signingPublic: key.publicKey,
  serial: 5,
  ...changes,
});

let database: SqliteDatabase;
let clock: VirtualClock;
/** What the key API says; undefined: it is not there. */
let published: Uint8Array | undefined;
let accepted: Uint8Array[];

beforeEach(() => {
  database = temporaryDatabase();
  clock = new VirtualClock();
  published = undefined;
  accepted = [];
});

function peers(trust?: PeerTrust, defaultTrust: 'verified' | 'tofu' = 'verified', confirmedBefore = false) {
  const log = recordingLog();
  const keys: KeyAuthority = {
    isConfirmed: async (_server, _id, publicKey) =>
      published !== undefined && base64(published) === base64(publicKey),
    hasConfirmedKeys: async () => confirmedBefore,
    acceptClaimedKey: async (_server, _id, publicKey) => void accepted.push(publicKey),
  };
  const entry = { serverName: B, address: 'ravine://b:1', ...(trust !== undefined && { trust }) };
  const forgotten: string[] = [];
  const forget = (server: string, reason: string): void => void forgotten.push(`${server}: ${reason}`);
  const policy = new Peers({
    serverName: A,
    peers: [entry],
    defaultTrust,
    keys,
    database,
    clock,
    log,
    forget,
  });
  return {
    ...{ log, forgotten },
    decide: (changes?: Partial<PipeClaim>) => policy.decide(claim(changes)),
    resume: () => policy.decide(claim(), true),
    heard: () => policy.heard(B),
  };
}

const trusted = { trusted: true };
const refused = { trusted: false, reason: expect.any(String) };

describe('trust verified', () => {
  it('accepts the key that the key API tells, and remembers the peer', async () => {
    published = key.publicKey;
    clock.advanceTo(1000);
    expect(await peers().decide()).toEqual(trusted);
    expect(await pipePeer(database, B)).toEqual({
      serverName: B,
      noiseKey: base64(noise(1)),
      signingKeyId: key.keyId,
      signingKey: base64(key.publicKey),
      trust: 'verified',
      serial: 5,
      firstSeen: clock.wall(),
      lastSeen: clock.wall(),
    });
  });

  it('fails closed where the key API says something else or nothing, loudly and without secrets', async () => {
    const { decide, log } = peers();
    expect(await decide()).toEqual(refused);
    published = other.publicKey;
    expect(await decide()).toEqual(refused);
    expect(await pipePeer(database, B)).toBeUndefined();
    expect(log.lines.map(({ level }) => level)).toEqual(['warn', 'warn']);
    expect(log.lines[0]!.fields).toEqual({
      server: B,
      keyId: key.keyId,
      fingerprint: fingerprint(key.publicKey),
      reason: 'the key API does not confirm the signing key',
    });
  });

  it('accepts a new signing key once the key API confirms it', async () => {
    published = key.publicKey;
    const { decide } = peers();
    await decide();
    const changed = {
      signingPublic: other.publicKey,
      signingKeyId: 'ed25519:2',
      noisePublic: noise(2),
      serial: 1,
    };
    expect(await decide(changed)).toEqual(refused);
    published = other.publicKey;
    expect(await decide(changed)).toEqual(trusted);
    expect((await pipePeer(database, B))?.serial).toBe(1);
  });
});

describe('a server that was accepted', () => {
  const lastSeen = async (): Promise<number | undefined> => (await pipePeer(database, B))?.lastSeen;

  it('was last seen when something came from it, to the hour, and not because this server was started', async () => {
    const { decide, resume, heard } = peers('tofu');
    await decide();
    const first = clock.wall();
    clock.advanceTo(3 * HOUR);
    await resume();
    expect(await lastSeen()).toBe(first);
    await heard();
    const second = clock.wall();
    expect(await lastSeen()).toBe(second);
    clock.advanceTo(4 * HOUR - 1);
    await heard();
    expect(await lastSeen()).toBe(second);
    clock.advanceTo(4 * HOUR + 30_000);
    await heard();
    expect(await lastSeen()).toBe(clock.wall());
  });

  it('has its sessions ended when it is heard after the operator has forgotten it', async () => {
    const { decide, heard, forgotten } = peers('tofu');
    await decide();
    await heard();
    await database.transaction((tx) => forgetPipePeer(tx, B));
    await heard();
    expect(forgotten).toEqual([]);
    clock.advanceTo(clock.monotonic() + 10_000);
    await heard();
    expect(forgotten).toEqual([`${B}: forgotten by the operator`]);
  });

  it('has its sessions ended where the operator has pinned another key, and goes on with the same one', async () => {
    const { decide, heard, forgotten } = peers('tofu');
    await decide();
    for (const publicKey of [key.publicKey, other.publicKey]) {
      const pin = { serverName: B, fingerprint: fingerprint(publicKey), made: 0 };
      await database.transaction((tx) => putPipePin(tx, pin));
      clock.advanceTo(clock.monotonic() + 10_000);
      await heard();
    }
    expect(forgotten).toEqual([`${B}: the signing key is not the pinned one`]);
  });
});

describe('a new signing key', () => {
  const changed = {
    signingPublic: other.publicKey,
    signingKeyId: 'ed25519:2',
    noisePublic: noise(2),
    serial: 9,
  };

  it('is stopped loudly, with both fingerprints, and waits for the operator', async () => {
    const { decide, log } = peers('tofu');
    await decide();
    clock.advanceTo(5_000);
    expect(await decide(changed)).toEqual(refused);
    expect(log.lines.at(-1)).toEqual({
      level: 'warn',
      fields: {
        server: B,
        keyId: 'ed25519:2',
        fingerprint: fingerprint(other.publicKey),
        reason: 'the signing key is another than before',
        knownKeyId: key.keyId,
        knownFingerprint: fingerprint(key.publicKey),
      },
      message: expect.stringMatching(/new signing key was stopped.*ravine peers/),
    });
    expect(await waitingKeys(database, B)).toEqual([
      {
        serverName: B,
        fingerprint: fingerprint(other.publicKey),
        signingKeyId: 'ed25519:2',
        reason: 'the signing key is another than before',
        firstSeen: clock.wall(),
        lastSeen: clock.wall(),
      },
    ]);
    expect(accepted).toEqual([key.publicKey]);
  });

  it('is not accepted by itself on first use, though the key API confirms it', async () => {
    const { decide } = peers('tofu');
    await decide();
    published = other.publicKey;
    expect(await decide(changed)).toEqual(refused);
    expect(await waitingKeys(database, B)).toHaveLength(1);
  });

  it('waits no longer once the key API confirms it, where that decides', async () => {
    const { decide } = peers('verified');
    expect(await decide(changed)).toEqual(refused);
    expect(await waitingKeys(database, B)).toHaveLength(1);
    published = other.publicKey;
    expect(await decide(changed)).toEqual(trusted);
    expect(await waitingKeys(database, B)).toEqual([]);
  });

  it('is accepted once the operator has pinned it, and the old one no more', async () => {
    const { decide } = peers('tofu');
    await decide();
    await decide(changed);
    const pin = { serverName: B, fingerprint: fingerprint(other.publicKey), made: 1 };
    await database.transaction((tx) => putPipePin(tx, pin));
    expect(await waitingKeys(database, B)).toEqual([]);
    expect(await decide()).toEqual(refused);
    expect(await decide(changed)).toEqual(trusted);
    expect(await pipePeer(database, B)).toMatchObject({
      signingKeyId: 'ed25519:2',
      trust: 'pinned',
      serial: 9,
    });
  });

  it('is pinned by the configuration first, whatever was pinned by command', async () => {
    const pin = { serverName: B, fingerprint: fingerprint(other.publicKey), made: 1 };
    await database.transaction((tx) => putPipePin(tx, pin));
    const { decide } = peers({ pinned: fingerprint(key.publicKey) });
    expect(await decide(changed)).toEqual(refused);
    expect(await decide()).toEqual(trusted);
  });

  it('of a stranger is refused and leaves no trace, so that nobody can fill the disk', async () => {
    const { decide, log } = peers();
    expect(await decide({ serverName: C })).toEqual(refused);
    expect(log.lines).toHaveLength(1);
    expect(await waitingKeys(database)).toEqual([]);
  });

  it('waits with three others at most: those that came first stay, as long as they keep on coming', async () => {
    const { decide } = peers('tofu');
    await decide();
    const claimOf = (seed: number) => ({ ...changed, signingPublic: testKey(seed).publicKey });
    for (let seed = 10; seed < 30; seed++) await decide(claimOf(seed));
    const names = async () => (await waitingKeys(database, B)).map((waiting) => waiting.fingerprint).sort();
    const first = [10, 11, 12, 13].map((seed) => fingerprint(testKey(seed).publicKey));
    expect(await names()).toEqual(first.toSorted());
    clock.advanceTo(HOUR);
    for (const seed of [10, 11, 12, 30, 31]) await decide(claimOf(seed));
    expect(await names()).toEqual([...first.slice(0, 3), fingerprint(testKey(30).publicKey)].sort());
  });

  it('waits with three others at most, those that came first, though many come at once', async () => {
    const { decide } = peers('tofu');
    await decide();
    const claims = Array.from({ length: 20 }, (_, i) => ({
      ...changed,
      signingPublic: testKey(i + 10).publicKey,
    }));
    const verdicts = await Promise.all(claims.map((one) => decide(one)));
    expect(verdicts.every(({ trusted }) => !trusted)).toBe(true);
    const names = (await waitingKeys(database, B)).map((waiting) => waiting.fingerprint);
    const first = claims.slice(0, 4).map(({ signingPublic }) => fingerprint(signingPublic));
    expect(names.toSorted()).toEqual(first.toSorted());
  });

  it('that keeps on coming is written once a minute', async () => {
    const { decide } = peers('tofu');
    await decide();
    await decide(changed);
    const before = database.counters.transactions;
    for (let i = 0; i < 50; i++) await decide(changed);
    expect(database.counters.transactions).toBe(before);
    clock.advanceTo(60_000);
    await decide(changed);
    expect((await waitingKeys(database, B))[0]!.lastSeen).toBe(clock.wall());
  });
});

describe('trust on first use', () => {
  it('accepts the first key, lets the key ring use it, and refuses another one', async () => {
    const { decide, log } = peers('tofu');
    expect(await decide()).toEqual(trusted);
    expect(accepted).toEqual([key.publicKey]);
    expect(await decide({ signingPublic: other.publicKey, noisePublic: noise(2), serial: 99 })).toEqual(
      refused,
    );
    expect((await pipePeer(database, B))?.signingKey).toBe(base64(key.publicKey));
    expect(log.lines.at(-1)?.level).toBe('warn');
  });

  it('accepts one of two first keys that come at the same time', async () => {
    const { decide } = peers('tofu');
    const verdicts = await Promise.all([decide(), decide({ signingPublic: other.publicKey })]);
    expect(verdicts.filter((verdict) => verdict.trusted)).toHaveLength(1);
  });

  it('does not take the place of what the key API has told before', async () => {
    expect(await peers('tofu', 'verified', true).decide()).toEqual(refused);
    published = key.publicKey;
    expect(await peers('tofu', 'verified', true).decide()).toEqual(trusted);
  });

  it('is not applied unless it is asked for', async () => {
    expect(await peers(undefined, 'verified').decide()).toEqual(refused);
    expect(await peers(undefined, 'tofu').decide()).toEqual(trusted);
  });
});

describe('a pinned key', () => {
  it.each([
    ['the key itself', `ed25519:${base64(key.publicKey)}`],
    ['its SHA-256 in hexadecimal', fingerprint(key.publicKey)],
    ['its SHA-256 in base64', base64(Buffer.from(fingerprint(key.publicKey), 'hex'))],
  ])('is named by %s', async (_, pinned) => {
    const { decide } = peers({ pinned });
    expect(await decide()).toEqual(trusted);
    expect(await decide({ signingPublic: other.publicKey })).toEqual(refused);
    expect(matchesPin(pinned, other.publicKey)).toBe(false);
  });

  it('is not matched by nonsense', () => {
    for (const pin of ['', 'ed25519:', 'zz', '00']) expect(matchesPin(pin, key.publicKey)).toBe(false);
  });
});

describe('the Noise key', () => {
  it('may change under the same signing key with a higher serial only', async () => {
    const { decide } = peers('tofu');
    await decide();
    expect(await decide({ noisePublic: noise(2), serial: 5 })).toEqual(refused);
    expect(await decide({ noisePublic: noise(2), serial: 4 })).toEqual(refused);
    expect(await decide({ noisePublic: noise(2), serial: 6 })).toEqual(trusted);
    expect(await decide({ noisePublic: noise(1), serial: 5 })).toEqual(refused);
    expect(await decide({ noisePublic: noise(2), serial: 6 })).toEqual(trusted);
  });

  it('that was accepted last is known after a restart, and an older one is refused', async () => {
    await peers('tofu').decide();
    clock.advanceTo(1_000);
    await peers('tofu').decide({ noisePublic: noise(2), serial: 6 });
    const first = clock.wall() - 1_000;
    clock.advanceTo(2_000);
    const { decide, log } = peers('tofu');
    expect(await decide({ noisePublic: noise(1), serial: 5 })).toEqual(refused);
    expect(log.lines[0]).toMatchObject({ level: 'warn', fields: { server: B } });
    expect(await decide({ noisePublic: noise(2), serial: 6 })).toEqual(trusted);
    expect(await pipePeer(database, B)).toMatchObject({
      noiseKey: base64(noise(2)),
      serial: 6,
      firstSeen: first,
      lastSeen: clock.wall(),
    });
  });
});

it('refuses names that are none, and this server itself', async () => {
  const { decide } = peers('tofu', 'tofu');
  expect(await decide({ serverName: 'not a name' })).toEqual(refused);
  expect(await decide({ signingKeyId: 'nonsense' })).toEqual(refused);
  expect(await decide({ serverName: A })).toEqual(refused);
});

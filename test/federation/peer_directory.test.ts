import { beforeEach, describe, expect, it } from 'vitest';
import { base64 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { PeerDirectory } from '../../src/federation/peer_directory.ts';
import { fingerprint } from '../../src/federation/peers.ts';
import type { PeerEntry, PeerTrust } from '../../src/federation/transports.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { noteWaitingKey, pipePin } from '../../src/storage/peer_trust.ts';
import { putPipePeer } from '../../src/storage/pipe_peers.ts';
import { pipeSessions, writePipeSessions } from '../../src/storage/pipe_sessions.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import type { SqliteDatabase } from '../../src/storage/sqlite.ts';
import { pipeSession } from '../storage/pipe_session.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { A, B, C, testKey } from './fixtures.ts';

const key = testKey(2);
const other = testKey(3);

let database: SqliteDatabase;

beforeEach(() => {
  database = temporaryDatabase();
});

function directory(trust?: PeerTrust, entries?: readonly PeerEntry[]): PeerDirectory {
  const entry: PeerEntry = { serverName: B, address: 'ravine://b:1', ...(trust !== undefined && { trust }) };
  return new PeerDirectory({
    serverName: A,
    peers: entries ?? [entry],
    defaultTrust: 'verified',
    database,
    clock: new VirtualClock(),
  });
}

const known = (server: ServerName): Promise<void> =>
  database.transaction((tx) =>
    putPipePeer(tx, {
      serverName: server,
      noiseKey: 'AAAA',
      signingKeyId: key.keyId,
      signingKey: base64(key.publicKey),
      trust: 'tofu',
      serial: 7,
      firstSeen: 1,
      lastSeen: 2,
    }),
  );

const waits = (seed: number): Promise<void> =>
  database.transaction((tx) =>
    noteWaitingKey(tx, {
      serverName: B,
      fingerprint: fingerprint(testKey(seed).publicKey),
      signingKeyId: testKey(seed).keyId,
      reason: 'because',
      lastSeen: 3,
    }),
  );

function session(server: ServerName, local: number): Promise<void> {
  const bytes = new Uint8Array(32);
  const row = {
    local,
    remote: 1,
    initiator: true,
    generation: 1,
    claim: {
      kind: 'server' as const,
      serverName: server,
      noisePublic: bytes,
      signingKeyId: key.keyId,
      signingPublic: key.publicKey,
      serial: 7,
    },
    said: { own: bytes.subarray(0, 1), peer: bytes.subarray(0, 1) },
    peerBoot: bytes.subarray(8),
    network: bytes.subarray(8),
    address: '192.0.2.1:5',
    createdAt: 1,
    savedAt: 1,
    send: { epoch: 0, secret: bytes },
    ceiling: 0,
    receive: { epoch: 0, secret: bytes },
    highest: -1,
    ownSalts: [bytes.subarray(0, 8)],
    peerSalt: bytes.subarray(0, 8),
  };
  return database.transaction((tx) => writePipeSessions(tx, IN_CLEAR, 'udp', [{ kind: 'session', row }]));
}

const stateOf = async (peers: PeerDirectory): Promise<string | undefined> =>
  (await peers.list()).find(({ serverName }) => serverName === B)?.state;

describe('the list of peers', () => {
  it("has no devices of users: they have logged in, and are not the operator's to decide about", async () => {
    const claim = { kind: 'device', noisePublic: new Uint8Array(32) } as const;
    const row = pipeSession(seededRandom(1), 4, { claim });
    await database.transaction((tx) => writePipeSessions(tx, IN_CLEAR, 'udp', [{ kind: 'session', row }]));
    expect(await directory(undefined, []).list()).toEqual([]);
  });

  it('has those of the configuration that a pipe leads to, and whoever has come', async () => {
    await known(C);
    const https = { serverName: 'd.example' as ServerName, address: 'https://d:1' };
    const list = await directory(undefined, [
      { serverName: B, address: 'ravine://b:1', trust: 'tofu' },
      https,
    ]).list();
    expect(list).toEqual([
      {
        serverName: B,
        state: 'unseen',
        address: 'ravine://b:1',
        lastAddress: undefined,
        trust: 'tofu',
        trustSource: 'configuration',
        pinned: undefined,
        accepted: undefined,
        sessions: 0,
        waiting: [],
      },
      {
        serverName: C,
        state: 'known',
        address: undefined,
        lastAddress: undefined,
        trust: 'verified',
        trustSource: 'default',
        pinned: undefined,
        accepted: {
          keyId: key.keyId,
          fingerprint: fingerprint(key.publicKey),
          trust: 'tofu',
          serial: 7,
          firstSeen: 1,
          lastSeen: 2,
        },
        sessions: 0,
        waiting: [],
      },
    ]);
  });

  it('tells how it is with each: unseen, known, in session, with another key than the pinned one, waiting', async () => {
    const peers = directory();
    expect(await stateOf(peers)).toBe('unseen');
    await known(B);
    expect(await stateOf(peers)).toBe('known');
    await session(B, 1);
    expect(await stateOf(peers)).toBe('session');
    await peers.pin(B, fingerprint(other.publicKey));
    expect(await stateOf(peers)).toBe('mismatch');
    await waits(3);
    expect(await stateOf(peers)).toBe('waiting');
  });
});

describe('accepting a key', () => {
  it('pins the one that waits, and it waits no more', async () => {
    const peers = directory();
    expect(await peers.accept(B, undefined)).toMatchObject({ ok: false });
    await waits(3);
    const accepted = await peers.accept(B, undefined);
    expect(accepted).toEqual({ ok: true, value: fingerprint(other.publicKey) });
    expect(await peers.find(B)).toMatchObject({
      value: {
        state: 'unseen',
        trust: 'pinned',
        trustSource: 'command',
        pinned: fingerprint(other.publicKey),
      },
    });
  });

  it('needs the fingerprint where several wait, and takes none that does not', async () => {
    const peers = directory();
    await waits(3);
    await waits(4);
    expect(await peers.accept(B, undefined)).toMatchObject({
      ok: false,
      problem: expect.stringContaining('2 signing keys'),
    });
    expect(await peers.accept(B, fingerprint(key.publicKey))).toMatchObject({ ok: false });
    expect(await pipePin(database, B)).toBeUndefined();
    expect((await peers.accept(B, fingerprint(other.publicKey))).ok).toBe(true);
  });

  it('is refused where the configuration pins another, since that would go first', async () => {
    const peers = directory({ pinned: fingerprint(key.publicKey) });
    await waits(3);
    expect(await peers.accept(B, undefined)).toMatchObject({ ok: false });
    expect(await peers.pin(B, fingerprint(other.publicKey))).toMatchObject({ ok: false });
    expect((await peers.pin(B, fingerprint(key.publicKey))).ok).toBe(true);
    expect(await stateOf(peers)).toBe('waiting');
  });
});

it('pins neither nonsense nor this server itself', async () => {
  expect(await directory().pin(B, 'abcd')).toMatchObject({ ok: false });
  expect(await directory().pin(A, fingerprint(key.publicKey))).toMatchObject({ ok: false });
});

it('forgets keys, pins, what waits, and sessions, of one server only', async () => {
  const peers = directory();
  for (const [i, server] of [B, C].entries()) {
    await known(server);
    await session(server, i);
  }
  await waits(3);
  await peers.accept(B, undefined);
  expect(await peers.forget(B)).toEqual({ ok: true, value: { sessions: 1 } });
  expect(await stateOf(peers)).toBe('unseen');
  expect(
    (await pipeSessions(database, IN_CLEAR, 'udp')).map(
      ({ claim }) => claim.kind === 'server' && claim.serverName,
    ),
  ).toEqual([C]);
  expect(await peers.forget(B)).toMatchObject({ ok: false });
});

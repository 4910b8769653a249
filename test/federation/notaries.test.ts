import { beforeEach, describe, expect, it } from 'vitest';
import { base64 } from '../../src/base/bytes.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { ownKeyDocument } from '../../src/federation/key_document.ts';
import { KeyRing } from '../../src/federation/key_ring.ts';
import { Notary } from '../../src/federation/notary.ts';
import { pduJson } from '../../src/federation/pdu_json.ts';
import { Transports } from '../../src/federation/transports.ts';
import type { ServerName, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { type SigningKey, signJson, verifyJson } from '../../src/matrix/signing.ts';
import { putPipePeer } from '../../src/storage/pipe_peers.ts';
import { keyDocumentOf, keysOf } from '../../src/storage/server_keys.ts';
import type { SqliteDatabase } from '../../src/storage/sqlite.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import {
  A,
  B,
  C,
  DAY,
  EventFactory,
  HOUR,
  recordingLog,
  ScriptedTransport,
  testKey,
  unreachable,
} from './fixtures.ts';
import { Network, openSide } from './sides.ts';

const N = 'notary.example' as ServerName;
const KEYS: Readonly<Record<string, SigningKey>> = {
  [A]: testKey(1),
  [B]: testKey(2),
  [C]: testKey(3),
  [N]: testKey(4),
};
const QUERY = '/_matrix/key/v2/query';
const alice = '@alice:b.example' as UserId;
const carol = '@carol:c.example' as UserId;

let time: VirtualTime;
let database: SqliteDatabase;
let https: ScriptedTransport;
let pipe: ScriptedTransport;
/** What the notary says of a server. */
let says: (server: ServerName) => JsonValue | undefined;

const now = (): number => time.clock.wall();
const documentOf = (server: ServerName, key = KEYS[server]!): JsonObject =>
  ownKeyDocument(server, key, now());
const notarised = (server: ServerName, document = documentOf(server)): JsonObject =>
  signJson(document, N, KEYS[N]!);

beforeEach(() => {
  time = new VirtualTime();
  database = temporaryDatabase();
  says = (server) => notarised(server);
  https = new ScriptedTransport((server, { path, body }) => {
    if (path !== QUERY) return documentOf(server);
    expect(server).toBe(N);
    const names = Object.keys((body as { server_keys: JsonObject }).server_keys) as ServerName[];
    return { server_keys: names.flatMap((name) => says(name) ?? []) };
  });
  pipe = new ScriptedTransport(unreachable);
});

const ring = (
  options: {
    readonly notaries?: readonly ServerName[];
    readonly inPipe?: readonly ServerName[];
    readonly pinned?: readonly ServerName[];
    readonly log?: ReturnType<typeof recordingLog>;
  } = {},
): KeyRing =>
  new KeyRing({
    serverName: A,
    signingKey: KEYS[A]!,
    database,
    clock: time.clock,
    log: options.log ?? recordingLog(),
    notaries: options.notaries ?? [N],
    isPinned: async (server) => options.pinned?.includes(server) ?? false,
    transports: new Transports({
      serverName: A,
      peers: (options.inPipe ?? []).map((serverName) => ({ serverName, address: 'ravine://192.0.2.1:1' })),
      ...{ https, pipe },
    }),
  });

const eventOf = (sender: UserId, key?: SigningKey, at = now()): JsonObject => {
  const server = sender.slice(sender.indexOf(':') + 1) as ServerName;
  return pduJson(new EventFactory(new Map([[server, key ?? KEYS[server]!]]), sender, at).create.pdu);
};
const asked = (transport = https): string[] =>
  transport.calls.map((one) => `${one.destination} ${one.call.path}`);
const OWN = '/_matrix/key/v2/server';

describe('asking a notary', () => {
  it('is one request for all servers of which nothing is known, and none of them is asked itself', async () => {
    const keys = ring();
    await keys.prepare(new Map([A, B, C, N].map((server) => [server, now()])));
    expect(await keys.verify(eventOf(alice), '12')).toMatchObject({ ok: true });
    expect(await keys.verify(eventOf(carol), '12')).toMatchObject({ ok: true });
    expect(asked()).toEqual([`${N} ${QUERY}`, `${N} ${OWN}`]);
    expect(https.calls[0]!.call.body).toEqual({ server_keys: { [B]: {}, [C]: {} } });
    expect(await keysOf(database, B)).toMatchObject([{ notary: N, confirmedUntil: 0 }]);
  });

  it('leaves to the servers themselves what it does not know, and asks it again only after a while', async () => {
    says = (server) => (server === C ? notarised(C) : undefined);
    const keys = ring();
    await keys.prepare(new Map([B, C].map((server) => [server, now()])));
    expect(await keys.verify(eventOf(alice), '12')).toMatchObject({ ok: true });
    expect(asked()).toEqual([`${N} ${QUERY}`, `${N} ${OWN}`, `${B} ${OWN}`]);
    expect((await keysOf(database, B))[0]).not.toHaveProperty('notary');
  });

  it('goes on to the servers themselves where no notary answers', async () => {
    const answer = https.answer;
    https.answer = (server, call) => (server === N ? unreachable(N) : answer(server, call));
    expect(await ring().verify(eventOf(alice), '12')).toMatchObject({ ok: true });
  });

  const forged = testKey(9);
  it.each<[string, (server: ServerName) => JsonValue]>([
    ['that the notary has not signed', (server) => documentOf(server)],
    ['with a wrong signature of the notary', (server) => signJson(documentOf(server), N, testKey(8))],
    [
      'that was changed after the notary had signed it',
      (server) => ({ ...notarised(server), valid_until_ts: now() + 6 * DAY }),
    ],
    [
      'with a key of another server, which has signed it itself',
      () => notarised(B, ownKeyDocument(C, forged, now())),
    ],
    [
      'that the server has not signed',
      (server) => signJson({ ...documentOf(server, forged), signatures: {} }, N, KEYS[N]!),
    ],
    [
      'that another key has signed than the one in it',
      (server) => {
        const { signatures: _signatures, ...document } = documentOf(server, forged);
        return signJson(signJson(document, server, testKey(7)), N, KEYS[N]!);
      },
    ],
    ['that has ended', (server) => notarised(server, ownKeyDocument(server, forged, now() - 8 * DAY))],
  ])('takes no document %s', async (_what, make) => {
    says = make;
    const keys = ring();
    // The server itself is away: whatever is believed here, the notary has told it.
    const answer = https.answer;
    https.answer = (server, call) => (server === B ? unreachable(B) : answer(server, call));
    for (const key of [KEYS[B]!, forged])
      expect(await keys.check(eventOf(alice, key), '12')).toMatchObject({ problem: { kind: 'no_key' } });
    expect((await keysOf(database, C)).length).toBe(0);
  });

  it('never touches a key that the server has told itself, and is not done for such a server', async () => {
    says = (server) => notarised(server, documentOf(server, testKey(9)));
    const keys = ring();
    await keys.acceptClaimedKey(B, KEYS[B]!.keyId, KEYS[B]!.publicKey);
    await keys.prepare(new Map([[B, now()]]));
    expect(asked()).toEqual([]);
    // Not for another key id either, and not when its own has ended.
    await keys.check(eventOf(alice, testKey(9, 'ed25519:other')), '12');
    time.clock.advanceTo(8 * DAY);
    await keys.check(eventOf(alice), '12');
    expect(asked().filter((one) => one.includes(QUERY))).toEqual([]);
  });

  it('ends for a server that speaks while it is being asked about', async () => {
    let release = (): void => undefined;
    const answer = https.answer;
    https.answer = async (server, call) => {
      if (call.path === QUERY) await new Promise<void>((resolve) => (release = resolve));
      return answer(server, call);
    };
    says = (server) => notarised(server, documentOf(server, testKey(9, 'ed25519:other')));
    const keys = ring();
    const prepared = keys.prepare(new Map([[B, now()]]));
    await expect.poll(() => asked().length).toBe(1);
    await keys.acceptClaimedKey(B, KEYS[B]!.keyId, KEYS[B]!.publicKey);
    release();
    await prepared;
    expect(await keysOf(database, B)).toMatchObject([{ publicKey: base64(KEYS[B]!.publicKey) }]);
  });

  it('tells what the word of the server takes the place of, all of it', async () => {
    const other = testKey(9, 'ed25519:other');
    says = (server) => notarised(server, documentOf(server, other));
    const keys = ring();
    expect((await keys.verify(eventOf(alice, other), '12')).ok).toBe(true);
    await keys.acceptClaimedKey(B, KEYS[B]!.keyId, KEYS[B]!.publicKey);
    expect((await keysOf(database, B)).map(({ keyId, notary }) => [keyId, notary])).toEqual([
      [KEYS[B]!.keyId, undefined],
    ]);
    expect((await keys.verify(eventOf(alice, other), '12')).ok).toBe(false);
  });

  it('gives keys for events only: requests and pipes need the word of the server', async () => {
    const forged = testKey(9);
    says = (server) => notarised(server, documentOf(server, forged));
    const keys = ring();
    expect((await keys.verify(eventOf(alice, forged), '12')).ok).toBe(true);
    expect(await keys.hasConfirmedKeys(B)).toBe(false);
    expect(await keys.requestKey(B, forged.keyId, now())).toEqual(KEYS[B]!.publicKey);
    expect(asked()).toContain(`${B} ${OWN}`);
    expect(await keys.isConfirmed(B, forged.keyId, forged.publicKey)).toBe(false);
  });

  it('is not done for a server whose key the operator has named', async () => {
    await ring({ pinned: [B] }).check(eventOf(alice), '12');
    expect(asked()).toEqual([`${B} ${OWN}`]);
  });

  it('is believed by the key that the notary has told itself, not by one of another notary', async () => {
    const M = 'other.example' as ServerName;
    const keys = ring({ notaries: [M, N] });
    const answer = https.answer;
    https.answer = (server, call) => (server === M ? unreachable(M) : answer(server, call));
    await keys.verify(eventOf(alice), '12');
    expect(asked()).toEqual([`${M} ${QUERY}`, `${N} ${QUERY}`, `${N} ${OWN}`]);
  });
});

describe('a key that a handshake tells while its server waits to be asked', () => {
  /** A pipe whose handshake is under way; what is asked over it comes to nothing before it is there. */
  const underWay = (answer: () => JsonValue = unreachable.bind(null, B)) => {
    let asks = 0;
    pipe.answer = (_server, { signal }) => {
      if (++asks > 1) return answer();
      return new Promise((_resolve, reject) =>
        signal!.addEventListener('abort', () => reject(new Error('gone'))),
      );
    };
  };
  const accept = async (keys: KeyRing, key = KEYS[B]!): Promise<void> => {
    await database.transaction((tx) =>
      putPipePeer(tx, {
        ...{ serverName: B, noiseKey: 'AAAA', signingKeyId: key.keyId, signingKey: base64(key.publicKey) },
        ...{ trust: 'tofu', serial: 1, firstSeen: 0, lastSeen: 0 },
      }),
    );
    await keys.acceptClaimedKey(B, key.keyId, key.publicKey);
  };
  const verify = async (event: JsonObject, key?: SigningKey): Promise<boolean> => {
    const keys = ring({ notaries: [], inPipe: [B] });
    const verified = keys.verify(event, '12');
    await expect.poll(() => pipe.calls.length).toBe(1);
    await accept(keys, key);
    return (await verified).ok;
  };

  it('ends the asking', async () => {
    underWay();
    expect(await verify(eventOf(alice))).toBe(true);
    expect(pipe.calls).toHaveLength(1);
  });

  it('does not where the event was signed with another key: then the server is asked for all that it has', async () => {
    const old = testKey(6, 'ed25519:old');
    const expired = now() - DAY;
    const document = (): JsonObject =>
      ownKeyDocument(B, KEYS[B]!, now(), [
        {
          keyId: old.keyId,
          publicKey: base64(old.publicKey),
          validUntil: expired,
          retired: true,
          confirmedUntil: 0,
        },
      ]);
    underWay(document);
    expect(await verify(eventOf(alice, old, expired))).toBe(true);
    expect(pipe.calls).toHaveLength(2);
  });

  it('does so for seven days: for what is signed later the server is asked', async () => {
    underWay(() => documentOf(B));
    expect(await verify(eventOf(alice))).toBe(true);
    time.clock.advanceTo(7 * DAY + 1);
    const keys = ring({ notaries: [], inPipe: [B] });
    expect((await keys.verify(eventOf(alice), '12')).ok).toBe(true);
    expect(pipe.calls).toHaveLength(2);
  });

  it('does not where it is another key than the one that has signed', async () => {
    underWay(() => documentOf(B, testKey(9)));
    expect(await verify(eventOf(alice), testKey(9))).toBe(false);
  });
});

describe('being a notary', () => {
  const notaryOf = (keys: KeyRing): Notary =>
    new Notary({ serverName: A, signingKey: KEYS[A]!, keys, clock: time.clock });
  const query = (
    keys: KeyRing,
    server: ServerName,
    until?: number,
    asker: 'server' | 'anybody' = 'anybody',
  ) => notaryOf(keys).query(new Map([[server, until]]), asker);

  it('signs what a server has signed, and asks it once', async () => {
    const keys = ring({ notaries: [] });
    for (let i = 0; i < 2; i++) {
      const [document] = await query(keys, B);
      expect(document).toMatchObject({ server_name: B });
      for (const server of [A, B])
        expect(verifyJson(document!, server, KEYS[server]!.keyId, KEYS[server]!.publicKey)).toBe(true);
    }
    expect(asked()).toEqual([`${B} ${OWN}`]);
  });

  it('asks again where what it has ends too early, and gives that where nothing better is to be had', async () => {
    const keys = ring({ notaries: [] });
    await query(keys, B);
    time.clock.advanceTo(HOUR);
    const [newer] = await query(keys, B, now() + 7 * DAY);
    expect(newer!.valid_until_ts).toBe(now() + 7 * DAY);
    https.answer = unreachable;
    time.clock.advanceTo(30 * DAY);
    expect(await query(keys, B)).toEqual([newer]);
    expect(await query(keys, C)).toEqual([]);
  });

  it('keeps no keys of servers that strangers have asked for', async () => {
    const keys = ring({ notaries: [] });
    await query(keys, B);
    expect(await keysOf(database, B)).toEqual([]);
    expect(await keyDocumentOf(database, B)).toBeDefined();
  });

  it('tells its own keys without asking anybody', async () => {
    const [own] = await query(ring({ notaries: [] }), A);
    expect(own).toMatchObject({ server_name: A });
    expect(asked()).toEqual([]);
  });

  it('sends nothing through a pipe for a stranger, and asks there for the whole document for a server', async () => {
    pipe.answer = (server) => documentOf(server);
    await database.transaction((tx) =>
      putPipePeer(tx, {
        ...{ serverName: B, noiseKey: 'AAAA', signingKeyId: KEYS[B]!.keyId },
        ...{ signingKey: base64(KEYS[B]!.publicKey), trust: 'tofu', serial: 1, firstSeen: 0, lastSeen: 0 },
      }),
    );
    const keys = ring({ notaries: [], inPipe: [B] });
    expect(await query(keys, B)).toEqual([]);
    expect(pipe.calls).toEqual([]);
    expect(await query(keys, B, undefined, 'server')).toHaveLength(1);
    expect(pipe.calls[0]!.call.path).toMatch(/^\/_matrix\/key\/v2\/server\/ed25519:|%3A/);
    expect(await query(keys, B)).toHaveLength(1);
  });

  it('lets nobody wait for long for a server that does not answer', async () => {
    https.answer = (server) => (server === B ? documentOf(B) : new Promise(() => undefined));
    const keys = ring({ notaries: [] });
    const wanted = new Map([B, C].map((server) => [server, undefined]));
    const start = time.clock.monotonic();
    const documents = await time.until(notaryOf(keys).query(wanted, 'anybody'), HOUR);
    expect(documents.map((document) => document.server_name)).toEqual([B]);
    expect(time.clock.monotonic() - start).toBe(10_000);
  });
});

it('keeps a bounded number of documents', async () => {
  const { putKeyDocument } = await import('../../src/storage/server_keys.ts');
  await database.transaction(async (tx) => {
    for (let i = 0; i < 10_005; i++)
      await putKeyDocument(tx, `s${i}.example` as ServerName, { validUntil: i, document: {} });
  });
  const [row] = await database.all<{ n: number; least: number }>(
    'SELECT count(*) AS n, min(valid_until) AS least FROM key_documents',
  );
  expect(row).toEqual({ n: 10_000, least: 5 });
});

describe('the routes of a notary', () => {
  const MINIMUM = 'minimum_valid_until_ts';

  it('tell anybody keys by name or many together, and leave out what is not to be had', async () => {
    const network = new Network();
    const [a, b] = [await openSide(network, A, KEYS[A]!, 1), await openSide(network, B, KEYS[B]!, 2)];
    const get = (path: string) => a.app.inject({ url: `/_matrix/key/v2/query/${path}` });
    const post = (server_keys: JsonValue) =>
      a.app.inject({ method: 'POST', url: QUERY, payload: { server_keys } as object });
    const names = async (answer: Promise<{ json(): unknown }>): Promise<string[]> => {
      const response = await network.time.until(answer, HOUR);
      return (response.json() as { server_keys: { server_name: string }[] }).server_keys.map(
        ({ server_name }) => server_name,
      );
    };
    expect(b.serverName).toBe(B);
    expect(await names(get(B))).toEqual([B]);
    expect(await names(get(`${B}?${MINIMUM}=1`))).toEqual([B]);
    expect(await names(post({ [B]: {}, [C]: {}, [A]: {}, 'not a name': {} }))).toEqual([B, A]);
    expect(await names(post({ [B]: { [KEYS[B]!.keyId]: { [MINIMUM]: 5 } } }))).toEqual([B]);
    expect(await names(post({}))).toEqual([]);
    expect(await names(get(C))).toEqual([]);
    const refused = [
      await get(`${B}?${MINIMUM}=soon`),
      await get('not%20a%20name'),
      await post([]),
      await post({ [B]: { 'ed25519:1': { [MINIMUM]: 'soon' } } }),
      await post(Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`s${i}.example`, {}]))),
    ];
    expect(refused.map(({ statusCode }) => statusCode)).toEqual([400, 400, 400, 400, 400]);
  });
});

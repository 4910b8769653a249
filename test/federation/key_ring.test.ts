import { beforeEach, describe, expect, it } from 'vitest';
import { base64 } from '../../src/base/bytes.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { ownKeyDocument, parseKeyDocument } from '../../src/federation/key_document.ts';
import { KeyRing } from '../../src/federation/key_ring.ts';
import { pduJson } from '../../src/federation/pdu_json.ts';
import { FederationError } from '../../src/federation/transport.ts';
import { Transports } from '../../src/federation/transports.ts';
import type { RoomId, ServerName, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { redact } from '../../src/matrix/redaction.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room_version.ts';
import { signEvent, signJson } from '../../src/matrix/signing.ts';
import { putPipePeer } from '../../src/storage/pipe_peers.ts';
import type { StoredKey } from '../../src/storage/server_keys.ts';
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
  V12,
} from './fixtures.ts';

const ours = testKey(1);
const theirs = testKey(2);
const alice = '@alice:b.example' as UserId;

let clock: VirtualClock;
let database: SqliteDatabase;
let transport: ScriptedTransport;
let https: ScriptedTransport;

beforeEach(() => {
  clock = new VirtualClock();
  database = temporaryDatabase();
  transport = new ScriptedTransport((server) => ownKeyDocument(server, theirs, clock.wall()));
  https = new ScriptedTransport((server) => ownKeyDocument(server, theirs, clock.wall()));
});

const ring = (
  behindPipe: readonly ServerName[] = [],
  withHttps = true,
  retiredKeys: readonly StoredKey[] = [],
  serverName: ServerName = A,
) =>
  new KeyRing({
    retiredKeys,
    serverName,
    signingKey: ours,
    database,
    clock,
    log: recordingLog(),
    transports: new Transports({
      serverName,
      peers: behindPipe.map((serverName) => ({ serverName, address: 'ravine://192.0.2.1:1' })),
      pipe: transport,
      ...(withHttps && { https }),
    }),
  });

const events = (at = clock.wall()) =>
  new EventFactory(
    new Map([
      [B, theirs],
      [C, testKey(3)],
    ]),
    alice,
    at,
  );

/** A key document of B with any contents, signed with B's key. */
const document = (changes: JsonObject = {}): JsonObject =>
  signJson(
    {
      server_name: B,
      valid_until_ts: clock.wall() + DAY,
      verify_keys: { [theirs.keyId]: { key: base64(theirs.publicKey) } },
      old_verify_keys: {},
      ...changes,
    },
    B,
    theirs,
  );

describe('what the key API publishes', () => {
  it('is signed, current, and understood by another server', () => {
    const keys = parseKeyDocument(ring().ownKeys(), A, clock.wall());
    expect(keys).toEqual({
      ok: true,
      value: [
        {
          keyId: ours.keyId,
          publicKey: base64(ours.publicKey),
          validUntil: clock.wall() + 7 * DAY,
          retired: false,
          confirmedUntil: 0,
        },
      ],
    });
  });

  it.each<[string, () => JsonObject]>([
    ['is of another server', () => ownKeyDocument(C, theirs, clock.wall())],
    [
      'names another server than the one that has signed it',
      () => signJson({ ...document({ server_name: C }), signatures: {} }, B, theirs),
    ],
    ['is not signed', () => ({ ...document(), signatures: {} })],
    ['was changed', () => ({ ...document(), valid_until_ts: clock.wall() + 2 * DAY })],
    [
      'is signed by a key that is not in it',
      () => signJson({ ...document(), signatures: {} }, B, testKey(9, 'ed25519:x')),
    ],
    ['has no verify_keys', () => document({ verify_keys: [] })],
    ['has a key of the wrong length', () => document({ verify_keys: { 'ed25519:1': { key: 'AAAA' } } })],
    ['has no time', () => document({ valid_until_ts: 'tomorrow' })],
    [
      'has too many keys',
      () =>
        document({
          verify_keys: Object.fromEntries(
            Array.from({ length: 65 }, (_, i) => [`ed25519:${i}`, { key: base64(theirs.publicKey) }]),
          ),
        }),
    ],
  ])('is refused where it %s', (_, make) => {
    expect(parseKeyDocument(make(), B, clock.wall()).ok).toBe(false);
  });

  it('is believed for seven days at most', () => {
    const keys = parseKeyDocument(document({ valid_until_ts: clock.wall() + 1000 * DAY }), B, clock.wall());
    expect(keys.ok && keys.value[0]!.validUntil).toBe(clock.wall() + 7 * DAY);
  });
});

describe('a signing key that this server used to have', () => {
  const old = testKey(7, 'ed25519:old');
  const retired: StoredKey = {
    keyId: old.keyId,
    publicKey: base64(old.publicKey),
    validUntil: 5_000,
    retired: true,
    confirmedUntil: 0,
  };

  it('is published as one that others take for events up to its end, and for nothing else', () => {
    const document = ring([], true, [retired]).ownKeys();
    expect(document.old_verify_keys).toEqual({
      'ed25519:old': { key: base64(old.publicKey), expired_ts: 5_000 },
    });
    const keys = parseKeyDocument(document, A, clock.wall());
    expect(keys.ok && keys.value.find(({ keyId }) => keyId === old.keyId)).toEqual(retired);
  });

  it('still verifies what it signed then, and nothing that was signed later', async () => {
    const me = '@me:a.example' as UserId;
    const signed = (at: number) => pduJson(new EventFactory(new Map([[A, old]]), me, at).create.pdu);
    const keys = ring([], true, [retired]);
    expect((await keys.verify(signed(5_000), '12')).ok).toBe(true);
    expect((await keys.verify(signed(5_001), '12')).ok).toBe(false);
    expect((await ring().verify(signed(5_000), '12')).ok).toBe(false);
  });
});

describe('verifying events', () => {
  it('accepts a signed event, and fetches the keys once for many at a time', async () => {
    const keys = ring();
    const factory = events();
    const made = Array.from({ length: 20 }, () => factory.event(alice, 'm.room.message'));
    const results = await Promise.all(made.map((event) => keys.verify(pduJson(event.pdu), '12')));
    expect(results).toEqual(made.map((event) => ({ ok: true, value: event })));
    expect(https.calls).toHaveLength(1);
    expect(https.calls[0]!.call).toMatchObject({ method: 'GET', path: '/_matrix/key/v2/server' });
  });

  it('remembers keys over a restart', async () => {
    await ring().verify(pduJson(events().create.pdu), '12');
    https.answer = () => {
      throw new FederationError('unreachable', 'gone');
    };
    expect((await ring().verify(pduJson(events().create.pdu), '12')).ok).toBe(true);
  });

  it('checks its own events without asking anybody', async () => {
    const own = new EventFactory(new Map([[A, ours]]), '@me:a.example' as UserId, clock.wall());
    expect((await ring().verify(pduJson(own.create.pdu), '12')).ok).toBe(true);
    expect(https.calls).toEqual([]);
  });

  it('drops an event with a wrong signature, or with none', async () => {
    const event = events().event(alice, 'm.room.message');
    const wrong = { ...pduJson(event.pdu), depth: 99 };
    expect(await ring().check(wrong, '12')).toMatchObject({ ok: false, problem: { kind: 'invalid' } });
    const unsigned = { ...pduJson(event.pdu), signatures: {} };
    expect(await ring().check(unsigned, '12')).toMatchObject({ ok: false, problem: { kind: 'invalid' } });
    expect((await ring().verify({ nonsense: true }, '12')).ok).toBe(false);
    expect((await ring().verify(pduJson(event.pdu), '99')).ok).toBe(false);
  });

  it('redacts an event of which only the content hash is wrong', async () => {
    const event = events().event(alice, 'm.room.message', { content: { body: 'true' } });
    const changed = { ...pduJson(event.pdu), content: { body: 'false' } };
    const result = await ring().verify(changed, '12');
    expect(result).toEqual({ ok: true, value: { ...event, pdu: redact(event.pdu, V12) } });
  });

  it('asks again where an event is younger than the key is valid, and drops it where that does not help', async () => {
    https.answer = () => document({ valid_until_ts: clock.wall() + HOUR });
    const keys = ring();
    expect((await keys.verify(pduJson(events().create.pdu), '12')).ok).toBe(true);
    const late = pduJson(events(clock.wall() + 2 * HOUR).create.pdu);
    clock.advanceTo(HOUR / 2);
    expect((await keys.verify(late, '12')).ok).toBe(false);
    expect(https.calls).toHaveLength(2);
    clock.advanceTo(2 * HOUR);
    expect((await keys.verify(late, '12')).ok).toBe(true);
    expect(https.calls).toHaveLength(3);
  });

  it('takes a key that nobody has refreshed in rooms up to version 4, and a retired one for its own time only', async () => {
    const retired = testKey(5, 'ed25519:old');
    const expired = clock.wall() - DAY;
    https.answer = () =>
      document({
        valid_until_ts: clock.wall() + HOUR,
        old_verify_keys: { [retired.keyId]: { key: base64(retired.publicKey), expired_ts: expired } },
      });
    const keys = ring();
    const isTaken = async (version: string, ts: number, key = theirs): Promise<boolean> => {
      const unsigned = {
        ...{ type: 'm.room.message', sender: alice, room_id: '!r:b.example' as RoomId, content: {} },
        ...{ origin_server_ts: ts, depth: 1, prev_events: [], auth_events: [] },
      };
      const { pdu } = signEvent(unsigned, ROOM_VERSIONS.get(version)!, B, key);
      return (await keys.verify(pduJson(pdu), version)).ok;
    };
    const late = clock.wall() + 2 * HOUR;
    expect([await isTaken('3', late), await isTaken('4', late), await isTaken('5', late)]).toEqual([
      true,
      true,
      false,
    ]);
    expect(await isTaken('4', expired, retired)).toBe(true);
    expect(await isTaken('4', expired + 1, retired)).toBe(false);
  });

  it('never asks for an event from further in the future than keys are believed', async () => {
    const keys = ring();
    await keys.verify(pduJson(events().create.pdu), '12');
    expect((await keys.verify(pduJson(events(clock.wall() + 8 * DAY).create.pdu), '12')).ok).toBe(false);
    expect(https.calls).toHaveLength(1);
  });

  it('takes a retired key for events from before it was, and never for a request', async () => {
    const retired = testKey(5, 'ed25519:old');
    const expired = clock.wall() - DAY;
    https.answer = () =>
      document({
        old_verify_keys: { [retired.keyId]: { key: base64(retired.publicKey), expired_ts: expired } },
      });
    const keys = ring();
    const at = (ts: number) => pduJson(new EventFactory(new Map([[B, retired]]), alice, ts).create.pdu);
    expect((await keys.verify(at(expired), '12')).ok).toBe(true);
    expect((await keys.verify(at(expired + 1), '12')).ok).toBe(false);
    expect(await keys.requestKey(B, retired.keyId, expired)).toBeUndefined();
    expect(await keys.requestKey(B, theirs.keyId, clock.wall())).toEqual(theirs.publicKey);
  });

  it('tells keys that cannot be had now from bad signatures, and does not ask a dead server again and again', async () => {
    https.answer = () => {
      throw new FederationError('unreachable', 'gone');
    };
    const keys = ring();
    const event = pduJson(events().create.pdu);
    for (let second = 0; second < 3600; second += 5) {
      clock.advanceTo(second * 1000);
      expect(await keys.check(event, '12')).toMatchObject({ ok: false, problem: { kind: 'no_key' } });
    }
    expect(https.calls.length).toBeLessThan(12);
    https.answer = () => document();
    keys.peerSpoke(B);
    expect((await keys.verify(event, '12')).ok).toBe(true);
  });

  it('needs the signature of the server that authorises a restricted join as well', async () => {
    const join = events().event(alice, 'm.room.member', {
      stateKey: alice,
      content: { membership: 'join', join_authorised_via_users_server: '@carol:c.example' },
    });
    const keys = ring();
    expect((await keys.verify(pduJson(join.pdu), '12')).ok).toBe(false);
    expect((await keys.check(pduJson(join.pdu), '12', [B])).ok).toBe(true);
  });
});

describe('keys of servers behind a pipe', () => {
  const pipe = [B];
  const accept = (signingKey = theirs) =>
    database.transaction((tx) =>
      putPipePeer(tx, {
        serverName: B,
        noiseKey: 'AAAA',
        signingKeyId: signingKey.keyId,
        signingKey: base64(signingKey.publicKey),
        trust: 'tofu',
        serial: 1,
        firstSeen: 0,
        lastSeen: 0,
      }),
    );

  it('are fetched through it, and must hold the key that the pipe is bound to', async () => {
    await accept();
    expect((await ring(pipe).verify(pduJson(events().create.pdu), '12')).ok).toBe(true);
    expect(https.calls).toEqual([]);
    expect(transport.calls).toHaveLength(1);
  });

  it('are refused where that key is not among them', async () => {
    await accept(testKey(8));
    expect((await ring(pipe).verify(pduJson(events().create.pdu), '12')).ok).toBe(false);
  });

  it('are the one that the pipe is bound to where the answer is empty', async () => {
    await accept();
    transport.answer = () => ({});
    expect((await ring(pipe).verify(pduJson(events().create.pdu), '12')).ok).toBe(true);
    clock.advanceTo(8 * DAY);
    transport.answer = () => {
      throw new FederationError('unreachable', 'gone');
    };
    expect((await ring(pipe).verify(pduJson(events().create.pdu), '12')).ok).toBe(false);
  });

  it('are not told by an empty answer where there is no pipe, or it is bound to another key', async () => {
    https.answer = () => ({});
    expect((await ring().verify(pduJson(events().create.pdu), '12')).ok).toBe(false);
    await accept(testKey(8));
    transport.answer = () => ({});
    expect((await ring(pipe).verify(pduJson(events().create.pdu), '12')).ok).toBe(false);
  });

  it('may come by themselves for a moment where the name of their server is the first', async () => {
    const time = new VirtualTime();
    clock = time.clock;
    const keys = ring(pipe, true, [], C);
    const verified = keys.verify(pduJson(events().create.pdu), '12');
    await time.settle();
    expect(transport.calls).toEqual([]);
    await keys.acceptClaimedKey(B, theirs.keyId, theirs.publicKey);
    expect((await time.until(verified, HOUR)).ok).toBe(true);
    expect(transport.calls).toEqual([]);
  });

  it('need no fetching at all once the identity has been accepted', async () => {
    const keys = ring(pipe);
    await keys.acceptClaimedKey(B, theirs.keyId, theirs.publicKey);
    expect((await keys.verify(pduJson(events().create.pdu), '12')).ok).toBe(true);
    expect([...transport.calls, ...https.calls]).toEqual([]);
  });

  it('are confirmed over HTTPS only', async () => {
    const keys = ring(pipe);
    await accept();
    await keys.verify(pduJson(events().create.pdu), '12');
    expect(await keys.hasConfirmedKeys(B)).toBe(false);
    expect(await keys.isConfirmed(B, theirs.keyId, theirs.publicKey)).toBe(true);
    expect(await keys.hasConfirmedKeys(B)).toBe(true);
    expect(await keys.isConfirmed(B, theirs.keyId, testKey(4).publicKey)).toBe(false);
    expect(https.calls).toHaveLength(1);
    clock.advanceTo(8 * DAY);
    https.answer = () => {
      throw new FederationError('unreachable', 'gone');
    };
    expect(await keys.isConfirmed(B, theirs.keyId, theirs.publicKey)).toBe(false);
    expect(await ring(pipe, false).isConfirmed(C, theirs.keyId, theirs.publicKey)).toBe(false);
  });
});

it('confirms no key that the key API has ceased to tell, though it did so within seven days', async () => {
  const keys = ring();
  expect(await keys.isConfirmed(B, theirs.keyId, theirs.publicKey)).toBe(true);
  const next = testKey(6, 'ed25519:next');
  https.answer = () => ownKeyDocument(B, next, clock.wall());
  clock.advanceTo(HOUR);
  expect(await keys.isConfirmed(B, next.keyId, next.publicKey)).toBe(true);
  expect(await keys.isConfirmed(B, theirs.keyId, theirs.publicKey)).toBe(false);
  expect(await keys.hasConfirmedKeys(B)).toBe(true);
});

it('does not let any number of strangers keep it from asking servers that it knows', async () => {
  const keys = ring();
  const [first, later] = [events().create, events(clock.wall() + 8 * DAY).create];
  expect((await keys.check(pduJson(first.pdu), '12')).ok).toBe(true);
  clock.advanceTo(8 * DAY);
  https.answer = (server) =>
    server === B ? ownKeyDocument(B, theirs, clock.wall()) : new Promise(() => undefined);
  for (let i = 0; i < 2_000; i++)
    void keys.requestKey(`s${i}.example` as ServerName, theirs.keyId, clock.wall());
  await expect.poll(() => https.calls.length).toBe(1 + 16);
  expect((await keys.check(pduJson(later.pdu), '12')).ok).toBe(true);
});

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Direction, EventType, type MatrixEvent, Preset } from 'matrix-js-sdk';
import { DecryptionFailureCode, type GeneratedSecretStorageKey } from 'matrix-js-sdk/lib/crypto-api/index.js';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { outputOf } from '../e2e/output.ts';
import { compareEmojis, EncryptedClient } from './encrypted_client.ts';
import { bodies, Complaints, eventually, follow, register, timeline } from './js_sdk_client.ts';
import { nioEnvironment } from './nio_environment.ts';
import { TwoProcesses } from './two_processes.ts';
import { SERVERS, type Server } from './two_servers.ts';

/*
 *   alice (three devices), carol ──HTTP── alpha.test ══ pipe over UDP ══ bravo.test ──HTTP── bob (two devices), nora
 *
 * The client library that Element is built on, with its cryptography in Rust, and in the end matrix-nio. One after another:
 * each case goes on with what the one before has left.
 */

const MANY = 1_000;
/** A sender makes a new key after so many messages, and gives it to every device: that is what must not be lost. */
const ROTATION = 20;
/** Which servers are killed when so many messages have been sent. */
const CRASHES = new Map<number, readonly Server[]>([
  [MANY / 4, ['bravo.test']],
  [MANY / 2, ['alpha.test']],
  [(MANY * 3) / 4, SERVERS],
]);
const PAGE = 100;
/**
 * Where /sync leaves a gap and what is behind it has something in it that this device has just sent, the library forgets
 * the gap. So those who send get as much of a timeline at once as there may be, and none is ahead of the other by more.
 */
const AT_ONCE = 100;
const LEAD = 40;

const nioIsMissing = await nioEnvironment.install();

describe('end-to-end encryption with matrix-js-sdk on two servers that a pipe connects', () => {
  let servers: TwoProcesses;
  let complaints: Complaints;
  let recoveryKey: GeneratedSecretStorageKey;
  let alice: EncryptedClient;
  let bob: EncryptedClient;
  let alicesTablet: EncryptedClient;
  let room: string;
  const devices: EncryptedClient[] = [];
  /** What has been said in the room. */
  const said: string[] = [];

  const login = async (
    server: Server,
    name: string,
    { key, atOnce }: { readonly key?: GeneratedSecretStorageKey; readonly atOnce?: number } = {},
  ): Promise<EncryptedClient> => {
    const device = await EncryptedClient.login(servers.url(server), name, complaints);
    device.recoveryKey = key;
    devices.push(device);
    await follow(device.client, atOnce, atOnce);
    return device;
  };
  const newcomer = async (server: Server, name: string): Promise<EncryptedClient> => {
    await register(servers.url(server), name, complaints);
    return login(server, name, { atOnce: AT_ONCE });
  };
  const say = async (who: EncryptedClient, body: string): Promise<void> => {
    await who.say(room, body);
    said.push(body);
  };
  const hears = ({ client }: EncryptedClient, body = said.at(-1)!): Promise<void> =>
    eventually(client, `"${body}" is there`, () => bodies(client, room).includes(body));
  const comesIn = async ({ client, id }: EncryptedClient, who: EncryptedClient): Promise<void> => {
    await who.client.invite(room, id);
    await eventually(client, 'they are invited', () => client.getRoom(room)?.getMyMembership() === 'invite');
    await client.joinRoom(room);
    await eventually(client, 'they are in', () => client.getRoom(room)?.getMyMembership() === 'join');
    const seen = () => who.client.getRoom(room)?.getMember(id)?.membership === 'join';
    await eventually(who.client, 'who joins is in', seen);
  };
  /** Loads all that came before, and waits until it is known what can be read of it. */
  const readsBack = async ({ client }: EncryptedClient): Promise<MatrixEvent[]> => {
    const live = client.getRoom(room)!.getLiveTimeline();
    while (live.getPaginationToken(Direction.Backward) !== null)
      await client.scrollback(client.getRoom(room)!, PAGE);
    const events = timeline(client, room).filter((event) => event.isEncrypted());
    await Promise.all(events.map((event) => event.getDecryptionPromise()));
    return events;
  };
  const readsAll = async (device: EncryptedClient): Promise<void> => {
    await readsBack(device);
    await eventually(device.client, 'all can be read', () => device.undecryptable.size === 0);
    expect(bodies(device.client, room).toSorted()).toEqual(said.toSorted());
    // What one person says stays in its order; their own client shows it before it is sent.
    for (const sender of [alice, bob].filter((one) => one !== device)) {
      const { localpart } = sender;
      const of = (all: readonly string[]) => all.filter((body) => body.startsWith(`${localpart} `));
      expect(of(bodies(device.client, room)), `${localpart}'s, on ${device.device}`).toEqual(of(said));
    }
  };

  beforeAll(async () => {
    complaints = new Complaints();
    servers = await TwoProcesses.open();
  });

  afterEach(() => {
    expect(complaints.take()).toEqual([]);
  });

  afterAll(async () => {
    for (const device of devices) device.stop();
    await servers?.close();
  });

  it('gives everybody signing keys, and alice a key backup, without a password for the first', async () => {
    alice = await newcomer('alpha.test', 'alice');
    bob = await newcomer('bravo.test', 'bob');
    for (const who of [alice, bob]) expect(await who.makeSigningKeys()).toBe(0);
    recoveryKey = await alice.crypto.createRecoveryKeyFromPassphrase();
    alice.recoveryKey = recoveryKey;
    await alice.crypto.bootstrapSecretStorage({
      createSecretStorageKey: async () => recoveryKey,
      setupNewKeyBackup: true,
    });
    expect(await alice.crypto.isSecretStorageReady()).toBe(true);
    expect(await alice.crypto.getActiveSessionBackupVersion()).not.toBeNull();
    // Other ones in their place need the password.
    expect(await bob.makeSigningKeys()).toBe(1);
  });

  it('talks in an encrypted room', async () => {
    const algorithm = 'm.megolm.v1.aes-sha2';
    const content = { algorithm, rotation_period_msgs: ROTATION };
    ({ room_id: room } = await alice.client.createRoom({
      preset: Preset.PrivateChat,
      initial_state: [{ type: EventType.RoomEncryption, state_key: '', content }],
    }));
    await comesIn(bob, alice);
    await say(alice, 'Hello from alpha');
    await hears(bob);
    await say(bob, 'Hello from bravo');
    await hears(alice);
    for (const { client } of [alice, bob])
      expect(
        timeline(client, room).filter((event) => event.getWireType() === 'm.room.encrypted').length,
      ).toBe(2);
  });

  it('verifies a user of the other server', async () => {
    expect(await alice.trusts(bob)).toBe(false);
    const theirs = bob.asked();
    const mine = await alice.crypto.requestVerificationDM(bob.id, room);
    expect(await compareEmojis(mine, await theirs)).toHaveLength(7);
    await eventually(alice.client, 'she trusts bob', () => alice.trusts(bob));
    await eventually(bob.client, 'he trusts alice', () => bob.trusts(alice));
    expect(await alice.knowsSigned(bob)).toBe(true);
  });

  it('gives a second device that its owner has verified the secrets, and what was said before', async () => {
    await eventually(alice.client, 'all keys are in the backup', () => alice.hasBackedUp());
    alicesTablet = await login('alpha.test', 'alice');
    await eventually(bob.client, 'he sees it', async () => (await bob.devicesOf(alice.id)).length === 2);
    expect(await bob.knowsSigned(alicesTablet)).toBe(false);
    const asked = alice.asked();
    expect(await alicesTablet.crypto.userHasCrossSigningKeys()).toBe(true);
    await compareEmojis(await alicesTablet.crypto.requestOwnUserVerification(), await asked);
    await eventually(alicesTablet.client, 'it has the secrets', async () => {
      return (
        (await alicesTablet.crypto.isCrossSigningReady()) &&
        (await alicesTablet.crypto.getSessionBackupPrivateKey()) !== null
      );
    });
    await eventually(bob.client, 'he knows that it is hers', () => bob.knowsSigned(alicesTablet));
    expect(await alicesTablet.trusts(bob)).toBe(true);
    await readsAll(alicesTablet);
  });

  it(`reads ${MANY} messages, each once, while both servers are killed and started again`, async () => {
    let up: Promise<unknown> = Promise.resolve();
    const crash = async (names: readonly Server[]): Promise<void> => {
      await Promise.all(names.map((name) => servers.kill(name)));
      await Promise.all(names.map((name) => servers.start(name)));
      for (const { client } of devices) client.retryImmediately();
    };
    const sent = { alice: 0, bob: 0 };
    let next = Promise.withResolvers<void>();
    const talks = async (who: EncryptedClient, name: 'alice' | 'bob'): Promise<void> => {
      for (let i = 0; i < MANY / 2; i++) {
        while (i - Math.min(sent.alice, sent.bob) > LEAD) await next.promise;
        const body = `${name} ${i}`;
        await who.say(room, body, () => up);
        said.push(body);
        sent[name]++;
        next.resolve();
        next = Promise.withResolvers();
        const crashing = CRASHES.get(sent.alice + sent.bob);
        // Both talk on meanwhile.
        if (crashing !== undefined) up = up.then(() => crash(crashing));
      }
    };
    await Promise.all([talks(alice, 'alice'), talks(bob, 'bob')]);
    await up;
    // What comes late must not push these out of what /sync has room for: each is said when all before it has arrived.
    await say(alice, 'Have you got all that?');
    await hears(bob);
    await say(bob, 'All of it');
    for (const device of devices) await hears(device);
    for (const device of devices) await readsAll(device);
    // That nobody was there was a reason to complain.
    for (const one of complaints.take()) expect(one).toMatch(/\/sync error|fetch failed|ConnectionError/);
  });

  it('reads everything on a third device, that gets the key backup back by the recovery key', async () => {
    await eventually(alice.client, 'all keys are in the backup', () => alice.hasBackedUp());
    const third = await login('alpha.test', 'alice', { key: recoveryKey });
    expect(await third.crypto.userHasCrossSigningKeys()).toBe(true);
    await third.crypto.bootstrapCrossSigning({});
    await third.crypto.loadSessionBackupPrivateKeyFromSecretStorage();
    const { imported, total } = await third.crypto.restoreKeyBackup();
    expect(imported).toBe(total);
    expect(total).toBeGreaterThanOrEqual(MANY / ROTATION);
    await readsAll(third);
    await eventually(bob.client, 'he knows that it is hers', () => bob.knowsSigned(third));
  });

  it('reads on a new device without a backup what is said from then on, and nothing else', async () => {
    const before = new Set(said);
    const second = await login('bravo.test', 'bob');
    await eventually(alice.client, 'she sees it', async () => (await alice.devicesOf(bob.id)).length === 2);
    await say(alice, 'for all of you');
    await hears(second);
    const events = await readsBack(second);
    const readable = events.filter((event) => !event.isDecryptionFailure());
    expect(readable.map((event) => event.getContent().body)).toEqual(['for all of you']);
    const reasons = new Set(second.undecryptable.values());
    expect(second.undecryptable.size).toBeGreaterThanOrEqual(before.size);
    expect([...reasons]).toEqual([DecryptionFailureCode.HISTORICAL_MESSAGE_NO_KEY_BACKUP]);

    // Nobody encrypts for it any more when it is gone.
    await second.client.logout(true);
    await eventually(alice.client, 'it is gone', async () => (await alice.devicesOf(bob.id)).length === 1);
  });

  it('lets somebody in who reads what is said from then on, and out again', async () => {
    const carol = await newcomer('alpha.test', 'carol');
    await comesIn(carol, bob);
    await say(bob, 'Welcome');
    await hears(carol);
    await say(carol, 'I am here');
    for (const who of [alice, bob]) await hears(who);
    const readable = (await readsBack(carol)).filter((event) => !event.isDecryptionFailure());
    expect(readable.map((event) => event.getContent().body)).toEqual(['Welcome', 'I am here']);
    await carol.client.leave(room);
    const gone = () => bob.client.getRoom(room)?.getMember(carol.id)?.membership === 'leave';
    await eventually(bob.client, 'carol has left', gone);
    await say(bob, 'Is she gone?');
    await hears(alice);
  });

  /* What nora does is in nio_encrypted.py. */
  it.skipIf(nioIsMissing !== undefined)(
    `talks with matrix-nio (skipped where it cannot be installed: ${nioIsMissing ?? 'it is'})`,
    async () => {
      const store = mkdtempSync(join(tmpdir(), 'ravine-nio-'));
      onTestFinished(() => rmSync(store, { recursive: true, force: true }));
      const program = join(import.meta.dirname, 'nio_encrypted.py');
      const url = servers.url('bravo.test');
      const child = spawn(nioEnvironment.python, [program, url, 'nora', store]);
      onTestFinished(() => void child.kill());
      const ended = new Promise((done) => child.once('close', done));
      const output = outputOf(child);
      const nora = await output.until(/^ready (\S+)\n/m);
      await alice.client.invite(room, nora);
      await output.until(/^joined\n/m);
      for (const { client } of [alice, bob])
        await eventually(client, 'nora is in', () => {
          return client.getRoom(room)?.getMember(nora)?.membership === 'join';
        });
      await say(alice, 'Hello nora, from alice');
      await say(bob, 'Hello nora, from bob');
      said.push('Hello from nio');
      for (const device of [alice, alicesTablet, bob]) await hears(device);
      await say(alice, 'Goodbye');
      expect(await ended, output.text()).toBe(0);
    },
  );

  it('has left nothing unread that its readers had a right to', async () => {
    for (const device of [alice, alicesTablet, bob]) {
      expect(device.undecryptable).toEqual(new Map());
      await readsAll(device);
    }
  });
});

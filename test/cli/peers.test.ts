import { writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { base64, base64url, hex } from '../../src/base/bytes.ts';
import { systemRandom } from '../../src/base/random.ts';
import { fingerprintGroups, fingerprintWords } from '../../src/federation/fingerprints.ts';
import { ownKeyDocument } from '../../src/federation/key_document.ts';
import { fingerprint } from '../../src/federation/peers.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { throwawayAuthority } from '../../src/mesh/authority.ts';
import { ownIdentity } from '../../src/server/identity.ts';
import { migrate } from '../../src/storage/migrate.ts';
import { noteWaitingKey } from '../../src/storage/peer_trust.ts';
import { putPipePeer } from '../../src/storage/pipe_peers.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import { openSqlite, type SqliteDatabase } from '../../src/storage/sqlite.ts';
import { testKey } from '../federation/fixtures.ts';
import { temporaryFolder } from '../storage/temporary_database.ts';
import { ravine } from './run.ts';

const HERE = 'here.test' as ServerName;
const THERE = 'there.test' as ServerName;
const key = testKey(2);
const other = testKey(3, 'ed25519:2');

interface Prepared {
  readonly config: string;
  readonly database: SqliteDatabase;
}

/** The data of a server that has been started once and stopped, without starting one. */
async function prepare(federation: object = {}): Promise<Prepared> {
  const folder = temporaryFolder();
  const config = join(folder, 'ravine.json');
  writeFileSync(config, JSON.stringify({ server_name: HERE, data: '.', federation }));
  const path = join(folder, 'ravine.db');
  migrate(path);
  const database = openSqlite({ path, durability: 'off' });
  onTestFinished(() => database.close());
  await ownIdentity({ serverName: HERE, database, sealing: IN_CLEAR, random: systemRandom, now: Date.now() });
  return { config, database };
}

const accepted = (database: SqliteDatabase): Promise<void> =>
  database.transaction((tx) =>
    putPipePeer(tx, {
      serverName: THERE,
      noiseKey: 'AAAA',
      signingKeyId: key.keyId,
      signingKey: base64(key.publicKey),
      trust: 'tofu',
      serial: 7,
      firstSeen: Date.UTC(2030, 0, 2, 3, 4),
      lastSeen: Date.UTC(2030, 0, 3, 4, 5),
    }),
  );

const waits = (database: SqliteDatabase): Promise<void> =>
  database.transaction((tx) =>
    noteWaitingKey(tx, {
      serverName: THERE,
      fingerprint: fingerprint(other.publicKey),
      signingKeyId: other.keyId,
      reason: 'the signing key is another than before',
      lastSeen: Date.UTC(2030, 0, 4),
    }),
  );

/** All forms of this server's secrets that could be printed. */
async function secretsOf(database: SqliteDatabase): Promise<string[]> {
  const rows = await database.all<{ secret: Uint8Array }>('SELECT secret FROM own_keys');
  return rows.flatMap((row) => {
    const secret = new Uint8Array(row.secret);
    return [hex(secret), base64(secret), base64url(secret)];
  });
}

describe('ravine peers on a server that is stopped', () => {
  test('lists the peers in a table, and warns of a signing key that waits', async () => {
    const { config, database } = await prepare({
      peers: [{ server_name: 'base.test', address: 'ravine://192.0.2.7:5683', trust: 'tofu' }],
    });
    await accepted(database);
    await waits(database);
    const { code, stdout } = await ravine('peers', '--config', config);
    expect(code).toBe(0);
    const short = fingerprintGroups(fingerprint(key.publicKey).slice(0, 16));
    const rows = stdout
      .split('\n')
      .slice(0, 3)
      .map((row) => row.split(/ {2,}/));
    expect(rows).toEqual([
      ['NAME', 'ADDRESS', 'TRUST', 'FINGERPRINT', 'FIRST SEEN (UTC)', 'LAST SEEN (UTC)', 'STATE'],
      ['base.test', 'ravine://192.0.2.7:5683', 'tofu', '-', '-', '-', 'not seen yet'],
      [THERE, '-', 'verified', short, '2030-01-02 03:04', '2030-01-03 04:05', 'NEW SIGNING KEY WAITS'],
    ]);
    expect(stdout).toContain('or somebody else');
  });

  test('shows fingerprints as words and as digits, accepts what waits, and forgets', async () => {
    const { config, database } = await prepare();
    await accepted(database);
    await waits(database);
    const show = await ravine('peers', 'show', THERE, '-c', config);
    const flat = show.stdout.replace(/\s+/g, ' ');
    for (const one of [key, other]) {
      expect(flat).toContain(fingerprintWords(fingerprint(one.publicKey)).join(' '));
      expect(flat).toContain(fingerprintGroups(fingerprint(one.publicKey)));
    }
    expect((await ravine('peers', 'accept', THERE, '-c', config)).code).toBe(0);
    const shown = JSON.parse((await ravine('peers', 'show', THERE, '--json', '-c', config)).stdout);
    expect(shown).toMatchObject({
      name: THERE,
      state: 'mismatch',
      trust: 'pinned',
      trust_source: 'command',
      pinned: { fingerprint: fingerprint(other.publicKey) },
      accepted: { fingerprint: fingerprint(key.publicKey), first_seen: '2030-01-02T03:04:00.000Z' },
      waiting: [],
    });
    expect((await ravine('peers', 'forget', THERE, '-c', config)).code).toBe(0);
    expect(JSON.parse((await ravine('peers', 'list', '--json', '-c', config)).stdout)).toEqual([]);
  });

  test('pins a fingerprint as it is written in groups', async () => {
    const { config } = await prepare();
    const groups = fingerprintGroups(fingerprint(key.publicKey)).split(' ');
    const pinned = await ravine('peers', 'pin', THERE, ...groups, '--json', '-c', config);
    expect(JSON.parse(pinned.stdout)).toMatchObject({
      name: THERE,
      pinned: { fingerprint: fingerprint(key.publicKey) },
    });
  });

  test('says in a sentence what is wrong', async () => {
    const { config } = await prepare();
    const nowhere = join(temporaryFolder(), 'ravine.json');
    writeFileSync(nowhere, '{}');
    const wrong: readonly (readonly [readonly string[], string])[] = [
      [['show', THERE], `Nothing is known of a server ${THERE}.`],
      [['show', 'no name'], '"no name" is not a server name'],
      [['pin', THERE, 'abcd'], 'That is not a fingerprint'],
      [['accept', THERE], `No signing key of ${THERE} waits.`],
      [['forget', THERE], `Nothing is stored of a server ${THERE}.`],
      [['rotate', '--cancel'], 'No new Noise key waits'],
      [['list', '-c', nowhere], 'There is no database'],
    ];
    for (const [args, sentence] of wrong) {
      const { code, stdout, stderr } = await ravine(
        'peers',
        ...args,
        ...(args.includes('-c') ? [] : ['-c', config]),
      );
      expect({ args, code, stdout }).toEqual({ args, code: 1, stdout: '' });
      expect(stderr).toMatch(/^ravine: .*\n$/);
      expect(stderr).toContain(sentence);
    }
  });
});

describe('ravine peers verify', () => {
  test('asks the key API over HTTPS, compares, and changes nothing', async () => {
    const authority = await throwawayAuthority();
    let published = key;
    const https = createServer(await authority.issue(THERE), (_, response) => {
      response.end(JSON.stringify(ownKeyDocument(THERE, published, Date.now())));
    });
    await new Promise<void>((done) => https.listen(0, '127.0.0.1', done));
    onTestFinished(() => {
      https.closeAllConnections();
      https.close();
    });
    const { port } = https.address() as AddressInfo;
    const ca = join(temporaryFolder(), 'ca.pem');
    writeFileSync(ca, authority.certificate);
    const { config, database } = await prepare({
      peers: [{ server_name: THERE, address: `https://127.0.0.1:${port}` }],
      certificate_authorities: [ca],
    });
    await accepted(database);
    const good = await ravine('peers', 'verify', THERE, '-c', config);
    expect(good).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('CONFIRMED, it is in use there.'),
    });
    published = other;
    const wrong = await ravine('peers', 'verify', THERE, '--json', '-c', config);
    expect(wrong.code).toBe(1);
    expect(JSON.parse(wrong.stdout)).toMatchObject({
      confirmed: false,
      compared: [{ fingerprint: fingerprint(key.publicKey), says: 'unknown' }],
      keys: [{ key_id: other.keyId, fingerprint: fingerprint(other.publicKey), retired: false }],
    });
    expect(await database.all('SELECT * FROM server_keys')).toEqual([]);
    https.closeAllConnections();
    await new Promise((done) => https.close(done));
    const gone = await ravine('peers', 'verify', THERE, '-c', config);
    expect(gone).toMatchObject({ code: 1, stderr: expect.stringContaining('does not answer over HTTPS') });
  });
});

describe('ravine keys', () => {
  test('shows what others compare, makes a new key and calls it off, and prints no secret', async () => {
    const { config, database } = await prepare();
    const before = JSON.parse((await ravine('keys', '--json', '-c', config)).stdout);
    const all = [await ravine('keys', '-c', config), await ravine('keys', 'rotate', '-c', config)];
    const after = await ravine('keys', 'show', '--json', '-c', config);
    const { signing, next } = JSON.parse(after.stdout);
    expect(signing).toEqual(before.signing);
    expect(all[1]!.stdout.replace(/\s+/g, ' ')).toContain(next.words);
    expect(next.key_id).not.toBe(signing.key_id);
    all.push(after, await ravine('keys', '-c', config), await ravine('peers', 'rotate', '-c', config));
    const secrets = await secretsOf(database);
    expect(secrets).toHaveLength(4 * 3);
    all.push(await ravine('keys', 'rotate', '--cancel', '-c', config));
    expect(JSON.parse((await ravine('keys', '--json', '-c', config)).stdout).next).toBe(null);
    expect(all.map(({ code }) => code)).toEqual(all.map(() => 0));
    const printed = all.map(({ stdout, stderr }) => stdout + stderr).join('');
    for (const secret of secrets) expect(printed).not.toContain(secret);
  });
});

test.each(['peers', 'keys'])('ravine %s --help has examples', async (command) => {
  const { code, stdout } = await ravine(command, '--help');
  expect(code).toBe(0);
  expect(stdout).toMatch(/Examples:\n {2}ravine /);
});

import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { base64, hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { ownIdentity } from '../../src/server/identity.ts';
import { openSealing } from '../../src/server/sealing.ts';
import { migrate } from '../../src/storage/migrate.ts';
import { pipeSessionStore } from '../../src/storage/pipe_sessions.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import { openSqlite } from '../../src/storage/sqlite.ts';
import { pipeSession } from '../storage/pipe_session.ts';
import { temporaryFolder } from '../storage/temporary_database.ts';
import { type Ran, ravine, ravineIn } from './run.ts';

const random = seededRandom(1);
const KEY = random.bytes(32);
const OTHER = random.bytes(32);

/** The data of a server that has been started once and stopped. @param key under which its secrets are sealed */
async function prepare(key?: Uint8Array): Promise<{ folder: string; config: string; secret: Uint8Array }> {
  const folder = temporaryFolder();
  const config = join(folder, 'ravine.json');
  writeFileSync(config, JSON.stringify({ server_name: 'here.test', data: '.' }));
  const path = join(folder, 'ravine.db');
  migrate(path);
  const sealing = key === undefined ? IN_CLEAR : openSealing(path, key, random);
  const database = openSqlite({ path, durability: 'off' });
  const serverName = 'here.test' as ServerName;
  const { signingSecret } = await ownIdentity({ serverName, database, sealing, random, now: 1_000 });
  await pipeSessionStore(database, sealing, 'udp').commit([{ kind: 'session', row: pipeSession(random, 1) }]);
  await database.close();
  return { folder, config, secret: signingSecret };
}

function keyFile(key: Uint8Array, mode = 0o600): string {
  const file = join(temporaryFolder(), 'seal.key');
  writeFileSync(file, `${base64(key)}\n`, { mode });
  return file;
}

const isSecretIn = (folder: string, secret: Uint8Array): boolean =>
  readdirSync(folder).some((file) => readFileSync(join(folder, file)).includes(Buffer.from(secret)));

describe('ravine backup', () => {
  test('makes a copy beside the database, and says what is in it and what is not', async () => {
    const { config, secret } = await prepare();
    const folder = temporaryFolder();
    const target = join(folder, 'copy.db');
    const { code, stdout } = await ravine('backup', target, '--config', config);
    expect(code).toBe(0);
    expect(stdout.split('\n').map((line) => line.split(/ {2,}/))).toEqual([
      ['backup', `${target}, ${statSync(target).size} bytes, checked`],
      ['server', 'here.test'],
      ['in it', expect.stringMatching(/^0 accounts, 0 rooms, 0 events, 0 to be sent; \d+ rows in all$/)],
      ['own keys', 'IN CLEAR: whoever has this file can be this server'],
      ['left out', '1 sessions of pipes, 0 one-time keys; configuration, certificates and seal key'],
      [''],
    ]);
    expect(statSync(target).mode & 0o777).toBe(0o600);
    expect(isSecretIn(folder, secret)).toBe(true);
    const again = await ravine('backup', target, '--config', config);
    expect(again).toEqual({
      code: 1,
      stdout: '',
      stderr: `ravine: ${target} exists already: a backup overwrites nothing.\n`,
    });
  });

  test('copies sealed keys as they are, without being given the seal key', async () => {
    const { config, secret } = await prepare(KEY);
    const folder = temporaryFolder();
    const target = join(folder, 'copy.db');
    const { code, stdout } = await ravine('backup', target, '--json', '-c', config);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ file: target, name: 'here.test', sealed: true },
      tables: { own_keys: 2, pipe_sessions: 0 },
      left_out: { pipe_sessions: 1, one_time_keys: 0 },
    });
    expect(isSecretIn(folder, secret)).toBe(false);
    writeFileSync(join(folder, 'copy.json'), JSON.stringify({ server_name: 'here.test', data: './data' }));
    mkdirSync(join(folder, 'data'));
    renameSync(target, join(folder, 'data', 'ravine.db'));
    const keys = ['keys', '--json', '-c'];
    const copied = await ravineIn({ RAVINE_SEAL_KEY: hex(KEY) }, ...keys, join(folder, 'copy.json'));
    const there = await ravineIn({ RAVINE_SEAL_KEY: base64(KEY) }, ...keys, config);
    expect(JSON.parse(copied.stdout)).toEqual(JSON.parse(there.stdout));
  });
});

describe('ravine keys', () => {
  test('seals, says so, changes the key and unseals; without the right key it says what is missing', async () => {
    const { folder, config, secret } = await prepare();
    const show = async (key?: Uint8Array): Promise<Ran> =>
      ravineIn(key === undefined ? {} : { RAVINE_SEAL_KEY: hex(key) }, 'keys', '--json', '-c', config);
    const first = await show();
    expect(JSON.parse(first.stdout)).toMatchObject({ sealed: false });
    expect(isSecretIn(folder, secret)).toBe(true);

    const sealed = await ravine('keys', 'seal', keyFile(KEY), '-c', config);
    expect(sealed).toMatchObject({ code: 0, stderr: '' });
    expect(isSecretIn(folder, secret)).toBe(false);
    const second = await show(KEY);
    expect(JSON.parse(second.stdout)).toEqual({ ...JSON.parse(first.stdout), sealed: true });
    expect(await show()).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^ravine: The keys in .* are sealed: give the key in RAVINE_SEAL_KEY/),
    });
    expect((await show(OTHER)).stderr).toContain('sealed by another key than the one given');
    // What needs no secret works without the key.
    expect(await ravine('peers', '--json', '-c', config)).toMatchObject({ code: 0 });

    const changed = await ravineIn(
      { RAVINE_SEAL_KEY_FILE: keyFile(KEY) },
      ...['keys', 'seal', keyFile(OTHER), '-c', config],
    );
    expect(changed).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('no longer by the one before'),
    });
    expect((await show(KEY)).code).toBe(1);
    expect((await show(OTHER)).code).toBe(0);
    expect((await ravine('keys', 'unseal', '-c', config)).stderr).toContain('are sealed: give the key');
    const unsealed = await ravineIn({ RAVINE_SEAL_KEY: hex(OTHER) }, 'keys', 'unseal', '-c', config);
    expect(unsealed.code).toBe(0);
    expect(await show()).toEqual(first);
    for (const { stdout, stderr } of [first, sealed, second, changed, unsealed])
      for (const one of [secret, KEY, OTHER]) {
        expect(stdout + stderr).not.toContain(hex(one));
        expect(stdout + stderr).not.toContain(base64(one));
      }
  });

  test('says in a sentence what is wrong with a seal key', async () => {
    const { config } = await prepare();
    const open = keyFile(KEY, 0o640);
    const short = keyFile(KEY.slice(1));
    const wrong: readonly (readonly [Readonly<Record<string, string>>, readonly string[], string])[] = [
      [{ RAVINE_SEAL_KEY: 'secret words' }, [], 'RAVINE_SEAL_KEY is not 32 bytes in hexadecimal or base64'],
      [{ RAVINE_SEAL_KEY: hex(KEY), RAVINE_SEAL_KEY_FILE: short }, [], 'are both set'],
      [{ RAVINE_SEAL_KEY_FILE: open }, [], 'others than its owner may use it (chmod 600)'],
      [{ RAVINE_SEAL_KEY_FILE: short }, [], 'is not 32 bytes'],
      [{}, ['seal', join(temporaryFolder(), 'nothing')], 'no such file'],
      [{}, ['unseal'], 'The secrets in the database are not sealed.'],
    ];
    for (const [environment, args, sentence] of wrong) {
      const { code, stdout, stderr } = await ravineIn(environment, 'keys', ...args, '-c', config);
      expect({ args, code, stdout }).toEqual({ args, code: 1, stdout: '' });
      expect(stderr).toMatch(/^ravine: .*\n$/);
      expect(stderr).toContain(sentence);
      expect(stderr).not.toContain('secret words');
    }
  });

  test('seals nothing while the server runs', async () => {
    const { folder, config } = await prepare();
    const database = openSqlite({ path: join(folder, 'ravine.db'), durability: 'off' });
    onTestFinished(() => database.close());
    expect(await database.all('SELECT * FROM own_keys')).toHaveLength(2);
    const { code, stderr } = await ravine('keys', 'seal', keyFile(KEY), '-c', config);
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: 'ravine: The database is in use: stop the server first.\n',
    });
    expect(await database.all('SELECT * FROM sealing')).toEqual([]);
  });
});

test('ravine backup --help has examples', async () => {
  const { code, stdout } = await ravine('backup', '--help');
  expect(code).toBe(0);
  expect(stdout).toMatch(/Examples:\n {2}ravine /);
});

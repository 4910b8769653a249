import { chmodSync, closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { checkAuthorities, checkCertificates } from '../../src/cli/doctor/certificates.ts';
import type { Finding } from '../../src/cli/doctor/finding.ts';
import {
  checkDatabase,
  checkFolder,
  checkLinks,
  checkName,
  checkPermissions,
} from '../../src/cli/doctor/here.ts';
import {
  checkClients,
  checkClock,
  checkRunning,
  checkServers,
  type Outside,
  type OutsideAnswer,
} from '../../src/cli/doctor/outside.ts';
import { type ThrowawayAuthority, throwawayAuthority } from '../../src/mesh/authority.ts';
import { type Config, completeConfig, type PartialConfig } from '../../src/server/config.ts';
import { migrate } from '../../src/storage/migrate.ts';
import { openSqlite } from '../../src/storage/sqlite.ts';
import { temporaryFolder } from '../storage/temporary_database.ts';
import { ravine } from './run.ts';

const NOW = Date.UTC(2030, 0, 1);
const DAY_MS = 24 * 60 * 60 * 1000;
/** SQLite's own, which migrations leave as it is. */
const PAGE_BYTES = 4096;

const configOf = (config: PartialConfig & { readonly server_name?: string }): Config =>
  completeConfig({ server_name: 'a.example', ...config }, '/nowhere');

/** What the checks have come to, in short. */
const inShort = (findings: Finding | readonly Finding[]): string[] =>
  [findings].flat().map(({ check, state, says }) => `${state} ${check}: ${says}`);

describe('the server name', () => {
  test.each([
    ['a.example', 'ok'],
    ['a.example:8448', 'ok'],
    ['localhost', 'warning'],
    ['localhost:8448', 'warning'],
    ['192.0.2.1', 'warning'],
    ['[2001:db8::1]:8448', 'warning'],
    ['ship', 'warning'],
    ['not a name', 'error'],
  ])('%s is found to be: %s', (server_name, state) => {
    expect(checkName(configOf({ server_name })).state).toBe(state);
  });
});

describe('the data', () => {
  test('may not be there yet', async () => {
    const config = configOf({ data: join(temporaryFolder(), 'data') });
    expect(checkFolder(config).map(({ state }) => state)).toEqual(['warning']);
    expect((await checkDatabase(config)).map(({ state }) => state)).toEqual(['warning']);
  });

  test('is well where it is its owner’s alone and whole', async () => {
    const data = temporaryFolder();
    migrate(join(data, 'ravine.db'));
    const config = configOf({ data });
    const findings = [
      ...checkFolder(config),
      ...(await checkDatabase(config)),
      ...checkPermissions(config, undefined),
    ];
    expect(findings.map(({ state }) => state)).toEqual(Array(findings.length).fill('ok'));
    expect(inShort(findings).join()).toContain('quick_check finds nothing wrong');
  });

  test('is not well where others may read it', () => {
    const data = temporaryFolder();
    migrate(join(data, 'ravine.db'));
    chmodSync(data, 0o755);
    chmodSync(join(data, 'ravine.db'), 0o640);
    const config = configOf({ data });
    expect(inShort(checkFolder(config))[0]).toMatch(/^warning permissions/);
    expect(checkPermissions(config, undefined)).toMatchObject([
      { todo: `chmod go= ${join(data, 'ravine.db')}` },
    ]);
  });

  test('is not well where a part of it is damaged that nobody reads', async () => {
    const data = temporaryFolder();
    const path = join(data, 'ravine.db');
    migrate(path);
    const database = openSqlite({ path, durability: 'off' });
    await database.transaction(async (tx) => {
      await tx.run("INSERT INTO users (user_id, created) VALUES ('@a:a.example', 0)");
      for (let hash = 0; hash < 100; hash++)
        await tx.run(
          "INSERT INTO filters (user_id, hash, json) VALUES ('@a:a.example', ?, ?)",
          ...[Uint8Array.of(hash), 'x'.repeat(2_000)],
        );
    });
    const leaf = await database.get<{ page: number }>(
      "SELECT max(pageno) AS page FROM dbstat WHERE name = 'sqlite_autoindex_filters_1'",
    );
    await database.close();
    const file = openSync(path, 'r+');
    // The page's first cell pointer.
    writeSync(file, Uint8Array.of(0xff, 0xff), 0, 2, (leaf!.page - 1) * PAGE_BYTES + 8);
    closeSync(file);
    expect(inShort(await checkDatabase(configOf({ data })))).toEqual([
      expect.stringMatching(/^ok database: at migration \d+, the newest$/),
      expect.stringMatching(/^error integrity: .*[Pp]age \d+/),
    ]);
  });

  test('is not well where it is no database of this version', async () => {
    const data = temporaryFolder();
    writeFileSync(join(data, 'ravine.db'), 'something else');
    expect((await checkDatabase(configOf({ data }))).map(({ state }) => state)).toEqual(['error']);
  });
});

describe('a configuration with a secret in it', () => {
  test('has to be its owner’s alone', () => {
    const folder = temporaryFolder();
    const file = join(folder, 'ravine.yaml');
    writeFileSync(file, '', { mode: 0o644 });
    const config = configOf({ data: folder, coap: { pipe: { psk: 'A'.repeat(43) } } });
    expect(inShort(checkPermissions(config, file))).toEqual([
      expect.stringMatching(/^warning .*ravine\.yaml/),
    ]);
    expect(inShort(checkPermissions(configOf({ data: folder }), file))).toEqual([
      expect.stringMatching(/^ok /),
    ]);
  });
});

describe('links', () => {
  test.each([
    [{ rate: null }, []],
    [{ rate: 100, mtu: 256 }, []],
    [{ rate: 100 }, ['Set the mtu to 750 or less.']],
    [{ rate: 10_000_001 }, ['Leave the rate out (null).']],
  ])('of %j are told to do: %j', (link, todo) => {
    const findings = checkLinks(configOf({ coap: { link } }));
    expect(findings.flatMap((one) => one.todo ?? [])).toEqual(todo);
  });

  test('that are not plugged in are told of', () => {
    const path = join(temporaryFolder(), 'ttyUSB0');
    const serial = [{ name: 'radio', path, baud: 9600, framing: 'kiss' as const }];
    expect(inShort(checkLinks(configOf({ coap: { serial } })))).toEqual([
      expect.stringMatching(/^warning serial line radio: ENOENT/),
    ]);
  });
});

describe('certificates', () => {
  let authority: ThrowawayAuthority;
  let issued: { readonly cert: string; readonly key: string };

  beforeAll(async () => {
    authority = await throwawayAuthority();
    issued = await authority.issue('a.example');
  });

  /** The findings about a listener with this certificate, `days` from today. */
  function found(
    { cert = issued.cert, key = issued.key, name = 'a.example', known = true } = {},
    days = 0,
  ): string[] {
    const folder = temporaryFolder();
    const [certificate, keyFile, ca] = ['cert.pem', 'key.pem', 'ca.pem'].map((file) => join(folder, file));
    writeFileSync(certificate!, cert);
    writeFileSync(keyFile!, key);
    writeFileSync(ca!, authority.certificate);
    const config = configOf({
      server_name: name,
      http: { listen: [{ host: '::', port: 8448, tls: { certificate: certificate!, key: keyFile! } }] },
      federation: { certificate_authorities: known ? [ca!] : [] },
    });
    return inShort(checkCertificates(config, Date.now() + days * DAY_MS));
  }

  test('that are good are good', () => {
    expect(found()).toEqual([
      expect.stringMatching(/^ok certificate of port 8448: DNS:a\.example, \d+ days left$/),
    ]);
  });

  test.each([
    [-1000, /^error .*it is valid from .* on only/],
    [360, /^warning .*it runs out in \d days/],
    [1000, /^error .*it has run out on/],
  ])('%i days from today are found wanting', (days, expected) => {
    expect(found({}, days)[0]).toMatch(expected);
  });

  test('of authorities have to be there', () => {
    const file = join(temporaryFolder(), 'ca.pem');
    const about = () =>
      inShort(checkAuthorities(configOf({ federation: { certificate_authorities: [file] } })));
    expect(about()).toEqual([expect.stringMatching(/^error .*ENOENT/)]);
    writeFileSync(file, 'nothing');
    expect(about()).toEqual([expect.stringMatching(/^error .*has no certificate/)]);
    writeFileSync(file, authority.certificate);
    expect(about()).toEqual([]);
  });

  test('of another host, of nobody known, by itself, or with another key are told of', async () => {
    expect(found({ name: 'b.example' })).toEqual([expect.stringMatching(/^error .*none of b\.example/)]);
    expect(found({ known: false })).toEqual([expect.stringMatching(/^warning .*no authority/)]);
    expect(found({ cert: `${issued.cert}\n${authority.certificate}`, known: false })).toEqual([
      expect.stringMatching(/^warning .*signed by itself/),
    ]);
    const { key } = await authority.issue('a.example');
    expect(found({ key })).toEqual([expect.stringMatching(/^error .*is not the key of/)]);
  });
});

describe('from the network', () => {
  const VERSIONS = { versions: ['v1.1'] };
  const WELL_KNOWN = 'https://a.example/.well-known/matrix/client';
  const BASE = 'https://matrix.a.example';
  const base = (base_url: string) => ({ 'm.homeserver': { base_url } });
  const config = configOf({ http: { public_base_url: BASE } });

  /** Answers by URL; whoever is not there is not reached. */
  function outside(
    answers: Readonly<Record<string, Partial<OutsideAnswer>>>,
    more: Partial<Outside> = {},
  ): Outside {
    return {
      async get(url) {
        const answer = answers[url];
        if (answer === undefined) throw new Error('connect ECONNREFUSED');
        return { status: 200, date: undefined, anyOrigin: true, json: undefined, ...answer };
      },
      udp: async () => 'free',
      ownKeys: async () => {
        throw new Error('The key API of a.example does not answer');
      },
      now: () => NOW,
      ...more,
    };
  }

  test('clients find the server by its name', async () => {
    const answers = {
      [WELL_KNOWN]: { json: base(`${BASE}/`) },
      [`${BASE}/_matrix/client/versions`]: { json: VERSIONS },
    };
    expect((await checkClients(config, outside(answers))).map(({ state }) => state)).toEqual(['ok', 'ok']);
  });

  test.each([
    ['nobody answers', undefined, 'warning'],
    ['the document is not there', { status: 404 }, 'warning'],
    ['it is another document', { json: { hello: 'world' } }, 'error'],
    ['it leads elsewhere', { json: base('https://b.example') }, 'error'],
    ['browsers may not read it', { json: base(BASE), anyOrigin: false }, 'error'],
  ])('clients do not find it where %s', async (_, answer, state) => {
    const there = outside(answer === undefined ? {} : { [WELL_KNOWN]: answer });
    expect((await checkClients(config, there)).map((one) => one.state)).toEqual([state, 'error']);
  });

  test('other servers meet the key of this one, or another, or nobody', async () => {
    const meeting = (key: string) => outside({}, { ownKeys: async () => [key] });
    expect((await checkServers('this', meeting('this'))).state).toBe('ok');
    expect(inShort(await checkServers('this', meeting('other')))[0]).toMatch(
      /^error .*another server answers/,
    );
    expect(inShort(await checkServers('this', outside({})))[0]).toMatch(/^error .*does not answer/);
  });

  test.each([
    [0, 'ok'],
    [-1_500, 'ok'],
    [70_000, 'warning'],
    [-70_000, 'warning'],
    [11 * 60_000, 'error'],
    [-11 * 60_000, 'error'],
  ])('a clock that is %i ms behind the other is: %s', async (behind, state) => {
    const date = Math.floor((NOW + behind) / 1000) * 1000;
    const there = outside({ 'https://clock.example/': { date } });
    expect((await checkClock('https://clock.example/', there)).state).toBe(state);
  });

  test('a clock that cannot be compared is told of', async () => {
    expect((await checkClock('https://clock.example/', outside({}))).state).toBe('warning');
    expect(
      (await checkClock('https://clock.example/', outside({ 'https://clock.example/': {} }))).state,
    ).toBe('warning');
  });

  test('on this machine it is seen who answers', async () => {
    const local = 'http://127.0.0.1:8008/_matrix/client/versions';
    const running = outside({ [local]: { json: VERSIONS } }, { udp: async () => 'answers' });
    expect(inShort(await checkRunning(config, running))).toEqual([
      'ok HTTP port 8008: a Matrix server answers',
      'ok UDP port 5683: it answers a CoAP ping',
    ]);
    const states = async (one: Outside) => (await checkRunning(config, one)).map(({ state }) => state);
    expect(await states(outside({}))).toEqual(['error', 'error']);
    const other = outside({ [local]: { json: { apache: true } } }, { udp: async () => 'taken' });
    expect(await states(other)).toEqual(['error', 'warning']);
  });
});

describe('ravine doctor', { timeout: 60_000 }, () => {
  test('finds a configuration that cannot be used, and nothing more', async () => {
    const file = join(temporaryFolder(), 'ravine.yaml');
    writeFileSync(file, 'server_nam: x\n');
    const { code, stdout } = await ravine('doctor', '--config', file, '--json');
    expect([code, JSON.parse(stdout)]).toEqual([
      1,
      [
        expect.objectContaining({
          check: 'configuration',
          state: 'error',
          says: expect.stringContaining('/server_nam'),
        }),
      ],
    ]);
  });

  test('looks at a server that is stopped, asks nobody, and fails', async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 'data'), { mode: 0o700 });
    migrate(join(folder, 'data', 'ravine.db'));
    const file = join(folder, 'ravine.json');
    const http = { listen: [{ host: '127.0.0.1', port: 9 }] };
    writeFileSync(file, JSON.stringify({ server_name: 'a.example', http, coap: { port: 0 } }));
    const { code, stdout } = await ravine('doctor', '--config', file, '--offline');
    expect(code).toBe(1);
    expect(stdout).toMatch(/^ok {8}configuration: .*ravine\.json$/m);
    expect(stdout).toMatch(/^ERROR {5}HTTP port 9: nobody answers.*\n {10}-> Start the server/m);
    expect(stdout).toMatch(/\nErrors: 2, warnings: 0, without fault: 9\.\n$/);
    expect(stdout).not.toContain('clock');
  });
});

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { readConfig } from '../../src/server/config.ts';
import { mediaFolder } from '../../src/server/media.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { type Ran, ravine } from './run.ts';

/* A server that runs in this process, and the command beside it, in a process of its own. */

const folder = mkdtempSync(join(tmpdir(), 'ravine-media-'));
const config = join(folder, 'ravine.json');
let server: RunningServer;
let token: string;

beforeAll(async () => {
  const quiet = { http: { listen: [] }, coap: { enabled: false }, log: { level: 'silent' } };
  writeFileSync(
    config,
    JSON.stringify({ ...quiet, server_name: 'here.test', data: 'data', registration: 'open' }),
  );
  server = await openServer(readConfig(config));
  const { app } = server.homeserver;
  const auth = { type: 'm.login.dummy' };
  const payload = { username: 'alice', password: 'through the looking glass', auth };
  const answer = await app.inject({ method: 'POST', url: '/_matrix/client/v3/register', payload });
  token = answer.json<{ access_token: string }>().access_token;
});
afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

const media = (...args: readonly string[]): Promise<Ran> => ravine('media', ...args, '--config', config);
async function json(...args: readonly string[]): Promise<JsonObject> {
  const { code, stdout, stderr } = await media(...args, '--json');
  expect([code, stderr]).toEqual([0, '']);
  return JSON.parse(stdout) as JsonObject;
}

const headers = () => ({ authorization: `Bearer ${token}`, 'content-type': 'text/plain' });
async function upload(text: string): Promise<string> {
  const url = '/_matrix/media/v3/upload?filename=a.txt';
  const answer = await server.homeserver.app.inject({
    method: 'POST',
    url,
    headers: headers(),
    payload: text,
  });
  return answer.json<{ content_uri: string }>().content_uri;
}
async function download(uri: string): Promise<number> {
  const url = uri.replace('mxc://', '/_matrix/client/v1/media/download/');
  return (await server.homeserver.app.inject({ url, headers: headers() })).statusCode;
}
const fileOf = (sha256: unknown): string =>
  join(mediaFolder(join(folder, 'data')), String(sha256).slice(0, 2), String(sha256));

test('files are listed, kept from everybody, and taken away, beside a server that runs', async () => {
  expect((await media()).stdout).toBe('There are no such files.\n');
  const [uri, same, other] = [await upload('Hello?'), await upload('Hello?'), await upload('Hello!')];
  const { totals, files } = (await json('list')) as unknown as { totals: JsonObject; files: JsonObject[] };
  expect(totals).toEqual({ upload: { files: 3, bytes: 18 } });
  const listed = files.find((one) => one.uri === uri)!;
  expect(listed).toMatchObject({
    ...{ kind: 'upload', uploader: '@alice:here.test', bytes: 6 },
    ...{ content_type: 'text/plain', file_name: 'a.txt', quarantined: false },
  });
  expect((await media('--user', '@alice:here.test', '--kind', 'upload')).stdout).toContain(uri);
  expect((await json('list', '--kind', 'remote')).files).toEqual([]);
  expect((await json('list', '--unused', '1')).files).toEqual([]);

  await json('quarantine', uri);
  expect([await download(uri), await download(same), await download(other)]).toEqual([404, 404, 200]);
  expect(await download(await upload('Hello?')), 'a new name does not help').toBe(404);
  expect((await json('list', '--quarantined')).files).toHaveLength(3);
  await json('release', uri);
  expect(await download(uri)).toBe(200);

  expect(await json('purge', '--kind', 'upload', '--dry-run')).toEqual({ files: 4, bytes: 24, done: false });
  expect(await json('purge', uri)).toEqual({ files: 1, bytes: 6, done: true });
  expect([await download(uri), await download(same)]).toEqual([404, 200]);
  expect(await json('purge', '--user', '@alice:here.test')).toEqual({ files: 3, bytes: 18, done: true });
  expect(await download(same)).toBe(404);
  expect(existsSync(fileOf(listed.sha256)), 'the server takes the file away').toBe(true);
  await server.homeserver.mediaKeeper.look();
  expect(existsSync(fileOf(listed.sha256))).toBe(false);
}, 120_000);

test('what makes no sense is said', async () => {
  const said = async (...args: readonly string[]) => {
    const { code, stderr } = await media(...args);
    return [code, stderr.trim()];
  };
  expect(await said('purge')).toEqual([1, expect.stringContaining('say by options which files')]);
  expect(await said('purge', 'mxc://here.test/x', '--kind', 'remote')).toEqual([1, expect.any(String)]);
  expect(await said('purge', 'mxc://here.test/nothing')).toEqual([1, expect.stringContaining('no file')]);
  expect(await said('quarantine', 'nonsense')).toEqual([1, expect.stringContaining('mxc://')]);
  expect((await said('list', '--kind', 'books'))[0]).toBe(1);
}, 120_000);

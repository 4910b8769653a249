import { existsSync, readdirSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { systemClock } from '../../src/base/time.ts';
import { Work } from '../../src/base/work.ts';
import { type HttpDoor, openHttpDoor } from '../../src/doors/https.ts';
import { startEphemeral } from '../../src/server/ephemeral.ts';
import type { Homeserver } from '../../src/server/homeserver.ts';
import { temporaryFolder } from '../storage/temporary_database.ts';

/* Files over real connections, which break off. */

const MAX_BYTES = 200_000;
let server: Homeserver;
let door: HttpDoor;
let folder: string;

afterEach(async () => {
  await door.close();
  await server.stop();
});

async function start(): Promise<string> {
  folder = temporaryFolder();
  server = await startEphemeral({
    ...{ clock: systemClock, work: new Work(), random: seededRandom(1), folder },
    config: { server_name: 'here.test', media: { max_upload_bytes: MAX_BYTES, max_user_files: 1 } },
  });
  door = await openHttpDoor(server.app, { host: '127.0.0.1', port: 0, clock: systemClock });
  const auth = { type: 'm.login.dummy' };
  const payload = { username: 'alice', password: 'through the looking glass', auth };
  const answer = await server.app.inject({ method: 'POST', url: '/_matrix/client/v3/register', payload });
  return answer.json<{ access_token: string }>().access_token;
}

/** Sends so many bytes without saying how many, in parts, until it is answered. */
function send(token: string, bytes: number): Promise<{ status: number; errcode: unknown; closes: boolean }> {
  return new Promise((resolve, reject) => {
    const upload = request(`http://127.0.0.1:${door.port}/_matrix/media/v3/upload`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'video/mp4' },
    });
    let isAnswered = false;
    upload.on('response', (response) => {
      isAnswered = true;
      let text = '';
      response.on('data', (part) => {
        text += String(part);
      });
      response.on('end', () => {
        const { errcode } = JSON.parse(text) as { errcode?: unknown };
        const closes = response.headers.connection === 'close';
        resolve({ status: response.statusCode ?? 0, errcode, closes });
        upload.destroy();
      });
    });
    upload.on('error', (error) => isAnswered || reject(error));
    const part = new Uint8Array(50_000);
    const next = (left: number): void => {
      if (isAnswered) return;
      if (left <= 0) return void upload.end();
      upload.write(part.subarray(0, left), () => next(left - part.length));
    };
    next(bytes);
  });
}

const arriving = (): readonly string[] => {
  const path = join(folder, 'here.test', 'media', 'arriving');
  return existsSync(path) ? readdirSync(path) : [];
};

test('whoever sends too much is told so while he sends, and nothing of it stays', async () => {
  const token = await start();
  expect(await send(token, 20_000_000)).toEqual({ status: 413, errcode: 'M_TOO_LARGE', closes: true });
  expect(arriving()).toEqual([]);
  expect(await send(token, MAX_BYTES)).toMatchObject({ status: 200, errcode: undefined });
  expect(await send(token, 20_000_000)).toEqual({ status: 403, errcode: 'M_FORBIDDEN', closes: true });
});

test('an upload that breaks off leaves nothing', async () => {
  const token = await start();
  const upload = request(`http://127.0.0.1:${door.port}/_matrix/media/v3/upload`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-length': 100_000 },
  });
  upload.on('error', () => undefined);
  upload.write(new Uint8Array(50_000));
  while (arriving().length === 0) await new Promise((resolve) => setImmediate(resolve));
  upload.destroy();
  while (arriving().length > 0) await new Promise((resolve) => setImmediate(resolve));
  expect(await send(token, 10)).toMatchObject({ status: 200 });
});

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join, resolve } from 'node:path';
import { Readable } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { outputOf } from '../e2e/output.ts';
import { temporaryFolder } from '../storage/temporary_database.ts';

const BIN = resolve(import.meta.dirname, '../../bin/ravine.js');
const MIB = 1024 * 1024;
const FILE_BYTES = 160 * MIB;
/** Were the file held anywhere it would be more; what it takes on its way is far less. */
const MAX_GROWTH_BYTES = 0.7 * FILE_BYTES;
const canMeasure = existsSync('/proc/self/status');
const reason = canMeasure ? '' : ' (not run: no /proc)';

/** The most memory that a process has ever had. */
const peakOf = (pid: number): number =>
  1024 * Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);

async function* bytes(): AsyncIterable<Uint8Array> {
  for (let n = 0; n < FILE_BYTES / MIB; n++) yield new Uint8Array(MIB).fill(n);
}

test.skipIf(!canMeasure)(`a large file goes in and out in constant memory${reason}`, async () => {
  const folder = temporaryFolder();
  const file = join(folder, 'ravine.json');
  writeFileSync(
    file,
    JSON.stringify({
      ...{ server_name: 'here.test', data: 'data', registration: 'open', coap: { enabled: false } },
      http: { listen: [{ host: '127.0.0.1', port: 0 }] },
      media: { max_upload_bytes: FILE_BYTES },
    }),
  );
  const child = spawn(process.execPath, [BIN, 'serve', '--config', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(async () => {
    const ended = new Promise((done) => child.once('exit', done));
    child.kill();
    await ended;
  });
  const url = await outputOf(child).until(/^ {2}(http:\/\/127\.0\.0\.1:\d+)$/m);
  const registered = await fetch(`${url}/_matrix/client/v3/register`, {
    method: 'POST',
    body: JSON.stringify({ username: 'alice', password: 'x'.repeat(20), auth: { type: 'm.login.dummy' } }),
  });
  const { access_token: token } = (await registered.json()) as { access_token: string };
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/octet-stream' };
  const before = peakOf(child.pid!);

  const uri = await new Promise<string>((done, failed) => {
    const upload = request(
      `${url}/_matrix/media/v3/upload`,
      { method: 'POST', headers: { ...headers, 'content-length': FILE_BYTES } },
      (response) => {
        let text = '';
        response.on('data', (part) => {
          text += String(part);
        });
        response.on('end', () => done((JSON.parse(text) as { content_uri: string }).content_uri));
      },
    );
    upload.on('error', failed);
    Readable.from(bytes()).pipe(upload);
  });
  const hash = createHash('sha256');
  const download = await fetch(`${url}/_matrix/client/v1/media/download/${uri.slice('mxc://'.length)}`, {
    headers,
  });
  let length = 0;
  for await (const part of download.body!) {
    hash.update(part);
    length += part.length;
    // Whoever reads slowly does not make the server read ahead.
    if (length % 7 === 0) await new Promise((next) => setImmediate(next));
  }
  const growth = peakOf(child.pid!) - before;
  const wanted = createHash('sha256');
  for await (const part of bytes()) wanted.update(part);
  expect([length, hash.digest('hex')]).toEqual([FILE_BYTES, wanted.digest('hex')]);
  console.info(`the server grew by ${(growth / MIB).toFixed(1)} MiB`);
  expect(growth).toBeLessThan(MAX_GROWTH_BYTES);
});

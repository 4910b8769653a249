import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { throwawayAuthority } from '../../src/mesh/authority.ts';
import { outputOf } from './output.ts';

const bin = resolve(import.meta.dirname, '../../bin/ravine.js');
const NAME = 'here.test';

/** The serial number of the certificate that a server presents, and the connection. */
function presented(
  port: number,
  ca: string,
): Promise<{ readonly serial: string; readonly socket: TLSSocket }> {
  return new Promise((done, failed) => {
    const socket = connect({ port, host: '127.0.0.1', servername: NAME, ca }, () =>
      done({ serial: socket.getPeerCertificate().serialNumber, socket }),
    );
    socket.once('error', failed);
  });
}

test('SIGHUP lets a server that runs present new certificates, and keep the old ones where the new ones are bad', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-sighup-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const authority = await throwawayAuthority();
  const files = { certificate: join(folder, 'fullchain.pem'), key: join(folder, 'privkey.pem') };
  const issue = async (): Promise<void> => {
    const { cert, key } = await authority.issue(NAME);
    writeFileSync(files.certificate, cert);
    writeFileSync(files.key, key);
  };
  await issue();
  const config = join(folder, 'ravine.json');
  const listen = [{ host: '127.0.0.1', port: 0, tls: files }];
  writeFileSync(config, JSON.stringify({ server_name: NAME, http: { listen }, coap: { enabled: false } }));
  const child = spawn(process.execPath, [bin, 'serve', '--config', config], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | null>((done) => child.once('exit', done));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const log = outputOf(child);
  const port = Number(await log.until(/^ {2}https:\/\/127\.0\.0\.1:(\d+)$/m));
  await log.until(/fingerprint, for others to pin/);

  const first = await presented(port, authority.certificate);
  onTestFinished(() => void first.socket.destroy());
  await issue();
  child.kill('SIGHUP');
  await log.until(/The certificates were read again\./);
  const second = await presented(port, authority.certificate);
  second.socket.destroy();
  expect(second.serial).not.toBe(first.serial);
  // Who was connected stays so.
  first.socket.write(`GET /_matrix/client/versions HTTP/1.1\r\nHost: ${NAME}\r\n\r\n`);
  const answer = await new Promise<Buffer>((done) => first.socket.once('data', done));
  expect(String(answer)).toMatch(/^HTTP\/1\.1 200 /);

  writeFileSync(files.key, 'no key');
  child.kill('SIGHUP');
  await log.until(/The certificates stay as they were: .*privkey\.pem/);
  const third = await presented(port, authority.certificate);
  third.socket.destroy();
  expect(third.serial).toBe(second.serial);
  child.kill('SIGTERM');
  expect(await ended).toBe(0);
});

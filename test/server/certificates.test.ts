import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type PeerCertificate, type TLSSocket, connect as tlsConnect } from 'node:tls';
import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { systemClock } from '../../src/base/time.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { type HttpDoor, openHttpDoor } from '../../src/doors/https.ts';
import { type ThrowawayAuthority, throwawayAuthority } from '../../src/mesh/authority.ts';
import { Certificates, readTls } from '../../src/server/certificates.ts';
import { ConfigError } from '../../src/server/config.ts';

const MINUTE = 60_000;
const NAME = 'a.example';

interface Material {
  readonly cert: string;
  readonly key: string;
}

let authority: ThrowawayAuthority;
let issued: Material[];
let files: { readonly certificate: string; readonly key: string };
let clock: VirtualClock;
let certificates: Certificates;
let door: HttpDoor;
let log: string[];

beforeAll(async () => {
  authority = await throwawayAuthority();
  issued = [await authority.issue(NAME), await authority.issue(NAME), await authority.issue(NAME)];
});

beforeEach(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-tls-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  files = { certificate: join(folder, 'fullchain.pem'), key: join(folder, 'privkey.pem') };
  write(issued[0]!);
  clock = new VirtualClock();
  log = [];
  certificates = new Certificates({
    clock,
    log: {
      info: (_: object, text: string) => log.push(text),
      warn: ({ problem }: { problem: string }, text: string) => log.push(`${text}: ${problem}`),
    } as never,
  });
  onTestFinished(() => certificates.close());
  const app = createApp({ clock, authenticate: async () => undefined });
  app.get('/here', { config: { auth: 'none' } }, async () => ({ here: true }));
  onTestFinished(() => app.close());
  const tls = readTls(files);
  door = await openHttpDoor(app, { host: '127.0.0.1', port: 0, tls, clock: systemClock });
  onTestFinished(() => door.close());
  certificates.guard(door, files, tls);
});

function write({ cert, key }: Partial<Material>): void {
  if (cert !== undefined) writeFileSync(files.certificate, cert);
  if (key !== undefined) writeFileSync(files.key, key);
}

function connect(): Promise<TLSSocket> {
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
  const socket = tlsConnect(
    { host: door.host, port: door.port, ca: authority.certificate, servername: NAME },
    () => resolve(socket),
  ).on('error', reject);
  onTestFinished(() => void socket.destroy());
  return promise;
}

function pass(until: number): void {
  for (let next = clock.next(); next !== null && next <= until; next = clock.next()) clock.step();
  clock.advanceTo(until);
}

const textOf = ({ raw }: PeerCertificate): string => raw.toString('base64');
const bodyOf = ({ cert }: Material): string => cert.replaceAll(/-----[^-]+-----|\s/g, '');

/** Which of the issued certificates a new connection is shown. */
async function presented(): Promise<number> {
  const shown = textOf((await connect()).getPeerCertificate());
  return issued.findIndex((one) => bodyOf(one) === shown);
}

/** Asks over a connection that there is. */
function ask(socket: TLSSocket): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let answer = '';
  socket.on('data', (chunk: Buffer) => {
    answer += chunk.toString();
    if (answer.includes('true')) resolve(answer);
  });
  socket.write('GET /here HTTP/1.1\r\nHost: a.example\r\n\r\n');
  return promise;
}

test('files that change are presented to new connections within a minute, and others go on', async () => {
  const open = await connect();
  write(issued[1]!);
  expect(await presented()).toBe(0);
  pass(MINUTE);
  expect(await presented()).toBe(1);
  expect(await ask(open)).toContain('200');
  expect(log).toEqual(['a new certificate is in use']);
  pass(5 * MINUTE);
  expect(log).toHaveLength(1);
});

test('files that do not fit together change nothing, are spoken of once, and do no harm when they fit again', async () => {
  const { cert } = issued[1]!;
  write({ cert });
  pass(5 * MINUTE);
  expect(await presented()).toBe(0);
  expect(log).toEqual([
    expect.stringMatching(/the old one stays: .*privkey\.pem is not the key of .*fullchain\.pem/),
  ]);
  write(issued[1]!);
  pass(6 * MINUTE);
  expect(await presented()).toBe(1);
  certificates.reload();
  write({ cert: issued[2]!.cert });
  pass(7 * MINUTE);
  expect(log).toHaveLength(3);
});

test.each([
  ['no certificate', () => write({ cert: 'nothing\n' })],
  ['no key', () => write({ key: '' })],
  ['another key', () => write({ key: issued[1]!.key })],
  ['no file', () => rmSync(files.certificate)],
])('whoever asks for a reload is told where there is %s, and the old certificate stays', async (_, spoil) => {
  spoil();
  expect(() => certificates.reload()).toThrow(ConfigError);
  expect(() => certificates.reload()).toThrow(/(fullchain|privkey)\.pem/);
  expect(await presented()).toBe(0);
});

test('whoever asks for a reload has it at once', async () => {
  write(issued[2]!);
  certificates.reload();
  expect(await presented()).toBe(2);
});

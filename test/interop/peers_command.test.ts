import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ravine } from '../cli/run.ts';
import { freePort } from '../free_port.ts';
import { temporaryFolder } from '../storage/temporary_database.ts';
import { RavineProcess } from './ravine_process.ts';

test('two servers that run: a new Noise key is taken, a new signing key waits until the operator accepts it', async () => {
  const folder = temporaryFolder();
  const [portA, portB] = [await freePort('udp'), await freePort('udp')];
  const open = (name: string, port: number, peer: string, peerPort: number): RavineProcess => {
    const server = new RavineProcess(join(folder, name), {
      server_name: `${name}.test`,
      coap: { host: '127.0.0.1', port },
      federation: {
        trust: 'tofu',
        peers: [{ server_name: `${peer}.test`, address: `ravine://127.0.0.1:${peerPort}` }],
      },
    });
    onTestFinished(() => server.end('SIGKILL'));
    return server;
  };
  const alpha = open('alpha', portA, 'bravo', portB);
  const bravo = open('bravo', portB, 'alpha', portA);
  const configOf = (name: string): string => join(folder, name, 'ravine.json');
  const peerOfAlpha = async () =>
    JSON.parse((await ravine('peers', 'show', 'bravo.test', '--json', '-c', configOf('alpha'))).stdout);
  await Promise.all([alpha.start(), bravo.start()]);
  await alpha.register('alice');
  const bob = await bravo.register('bob');
  const invite = () => bravo.call('POST', '/createRoom', bob, { invite: ['@alice:alpha.test'] });
  const restart = async (): Promise<void> => {
    await bravo.end('SIGTERM');
    await bravo.start();
  };

  expect((await invite()).status).toBe(200);
  const first = await peerOfAlpha();
  const own = JSON.parse((await ravine('keys', '--json', '-c', configOf('bravo'))).stdout);
  expect(first).toMatchObject({ trust: 'tofu', accepted: { fingerprint: own.signing.fingerprint } });

  expect((await ravine('peers', 'rotate', '-c', configOf('bravo'))).code).toBe(0);
  await restart();
  expect((await invite()).status).toBe(200);
  const second = await peerOfAlpha();
  expect(second.accepted.serial).toBeGreaterThan(first.accepted.serial);
  expect(second.accepted.fingerprint).toBe(own.signing.fingerprint);
  expect(second.waiting).toEqual([]);

  const rotated = JSON.parse((await ravine('keys', 'rotate', '--json', '-c', configOf('bravo'))).stdout);
  await restart();
  // It would wait for as long as a request may take.
  invite().catch(() => undefined);
  await expect.poll(async () => (await peerOfAlpha()).state, { timeout: 15_000 }).toBe('waiting');
  expect((await peerOfAlpha()).waiting).toMatchObject([{ fingerprint: rotated.next.fingerprint }]);
  const warning = alpha.output.split('\n').find((line) => line.includes('a new signing key was stopped'));
  expect(warning).toContain(rotated.next.fingerprint);
  expect(warning).toContain(own.signing.fingerprint);

  const done = await ravine(
    'peers',
    'accept',
    'bravo.test',
    rotated.next.fingerprint,
    '-c',
    configOf('alpha'),
  );
  expect(done.code).toBe(0);
  await restart();
  expect((await invite()).status).toBe(200);
  expect(await peerOfAlpha()).toMatchObject({
    trust: 'pinned',
    waiting: [],
    accepted: { fingerprint: rotated.next.fingerprint },
  });
});

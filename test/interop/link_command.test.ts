import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { MatrixUser } from '../../src/mesh/matrix_user.ts';
import { completeConfig } from '../../src/server/config.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { outputOf } from '../e2e/output.ts';
import { freePort } from '../free_port.ts';

/*
 *   alpha ──UDP── ravine link (a process: 50,000 bit/s, 20 ms, 10 % lost) ──UDP── bravo
 *
 * What docker-compose.yml sets up, on loopback.
 */
it('carries a conversation between two servers through the link command, in real time', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ravine-link-'));
  const [alphaUdp, bravoUdp] = [await freePort('udp'), await freePort('udp')];
  const link = spawn(
    process.execPath,
    [
      resolve(import.meta.dirname, '../../bin/ravine.js'),
      'link',
      ...['--left', `localhost:${alphaUdp}`, '--right', `localhost:${bravoUdp}`],
      ...['--left-port', '0', '--right-port', '0', '--rate', '50000', '--latency', '20', '--loss', '0.1'],
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const servers: RunningServer[] = [];
  try {
    const output = outputOf(link);
    const ports = {
      alpha: await output.until(/^left: .* sends to 127\.0\.0\.1:(\d+)$/m),
      bravo: await output.until(/^right: .* sends to 127\.0\.0\.1:(\d+)$/m),
    };
    const start = async (name: 'alpha' | 'bravo', port: number, peer: string): Promise<RunningServer> => {
      const config = {
        server_name: `${name}.test`,
        data: name,
        registration: 'open',
        log: { level: 'silent' },
        http: { listen: [] },
        coap: { port, link: { rate: 50_000, delay_ms: 20 } },
        federation: {
          peers: [
            { server_name: `${peer}.test`, address: `ravine://localhost:${ports[name]}`, trust: 'tofu' },
          ],
        },
      };
      const server = await openServer(completeConfig(config, folder));
      servers.push(server);
      return server;
    };
    const alpha = await start('alpha', alphaUdp, 'bravo');
    const bravo = await start('bravo', bravoUdp, 'alpha');
    const alice = await MatrixUser.register(alpha.homeserver.app, 'alice');
    const bob = await MatrixUser.register(bravo.homeserver.app, 'bob');
    const room = await alice.createRoom({ preset: 'private_chat', invite: [bob.id] });
    await bob.syncUntil((user) => user.invitedTo.has(room));
    await bob.join(room);
    const said = await alice.say(room, 'through the link');
    const answered = await bob.say(room, 'and back');
    for (const user of [alice, bob]) {
      await user.syncUntil(() => user.messages(room).length === 2);
      expect(new Set(user.messages(room).map(({ id }) => id))).toEqual(new Set([said, answered]));
    }
    expect(alpha.homeserver.counters().federation).toMatchObject({ https: 0, pipe: expect.any(Number) });
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    const ended = new Promise((done) => link.once('exit', done));
    link.kill('SIGTERM');
    expect(await ended).toBe(0);
    rmSync(folder, { recursive: true, force: true });
  }
});

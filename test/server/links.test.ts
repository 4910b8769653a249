import { mkdtempSync, rmSync } from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { systemClock } from '../../src/base/time.ts';
import { code, METHOD } from '../../src/coap/codes.ts';
import { decode, encode, NO_BYTES } from '../../src/coap/message.ts';
import { OPTION, stringOption } from '../../src/coap/options.ts';
import { ExchangeSocket } from '../../src/exchange/socket.ts';
import { openUdpLink } from '../../src/link/udp.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import { firstMessage } from '../../src/mesh/first_message.ts';
import { createIdentity } from '../../src/pipe/identity.ts';
import { completeConfig, type PartialConfig } from '../../src/server/config.ts';
import { createLogger } from '../../src/server/logger.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { freePort } from '../free_port.ts';

const hasIpv6 = Object.values(networkInterfaces()).some((all) =>
  all?.some(({ address }) => address === '::1'),
);

let folder: string;
const closing: { close(): Promise<void> }[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ravine-links-'));
});
afterEach(async () => {
  for (const resource of closing.splice(0).reverse()) await resource.close();
  rmSync(folder, { recursive: true, force: true });
});

async function start(name: string, config: PartialConfig): Promise<RunningServer> {
  const whole = {
    server_name: `${name}.example`,
    data: name,
    registration: 'open',
    log: { level: 'silent' },
    ...config,
  };
  const server = await openServer(completeConfig(whole, folder), createLogger('silent'));
  closing.push({ close: () => server.stop() });
  return server;
}

describe('one UDP socket', () => {
  const PATH = '/_matrix/federation/v1/version';

  test.skipIf(!hasIpv6)(
    'serves plain CoAP and pipes to IPv4 and IPv6 where it listens on :: (skipped where there is no ::1)',
    async () => {
      const server = await start('a', {
        http: { listen: [] },
        coap: { host: '::', port: 0 },
        federation: { trust: 'tofu' },
      });
      const port = server.udp!.split(':').at(-1)!;
      for (const [i, [own, other]] of [
        ['127.0.0.1', `127.0.0.1:${port}`],
        ['::1', `[::1]:${port}`],
      ].entries() as IterableIterator<[number, [string, string]]>) {
        const plain = await openUdpLink({ host: own, port: 0 });
        closing.push(plain);
        const answer = new Promise<Uint8Array>((resolve) => plain.onReceive((_, bytes) => resolve(bytes)));
        const options = PATH.slice(1)
          .split('/')
          .map((segment) => stringOption(OPTION.uriPath, segment));
        const get = {
          type: 'CON',
          code: METHOD.get,
          id: 1,
          token: NO_BYTES,
          options,
          payload: NO_BYTES,
        } as const;
        plain.send(other, encode(get));
        expect(decode(await answer), other).toMatchObject({ value: { type: 'ACK', code: code(2, 5) } });

        const socket = new ExchangeSocket({
          link: await openUdpLink({ host: own, port: 0 }),
          clock: systemClock,
          random: seededRandom(i),
          identity: createIdentity({
            serverName: `peer${i}.example`,
            noiseSecret: seededRandom(i + 10).bytes(32),
            signingKeyId: 'ed25519:1',
            signingSecret: seededRandom(i + 20).bytes(32),
            serial: 1,
          }),
          trust: { decide: async () => ({ trusted: true }) },
          plain: 'off',
        });
        closing.push(socket);
        const response = await socket.request(
          'a.example' as ServerName,
          other,
          { method: 'GET', path: PATH, query: '' },
          { timeoutMs: 10_000, priority: 1 },
        );
        expect(response.status, other).toBe(200);
      }
      expect(server.homeserver.counters().exchange).toMatchObject({ established: 2, plainRefused: 0 });
    },
  );
});

test('HTTP is served while models are read, and links that have them open after it', async () => {
  const server = await start('a', {
    http: { listen: [{ host: '127.0.0.1', port: 0 }] },
    coap: { port: 0, pipe: { models: 'large' } },
  });
  const order: string[] = [];
  const ready = server.ready.then(() => order.push('models'));
  const link = await openUdpLink({ host: '127.0.0.1', port: 0 });
  closing.push(link);
  const coap = new Promise<void>((resolve) =>
    link.onReceive(() => {
      order.push('CoAP');
      resolve();
    }),
  );
  const options = ['.well-known', 'core'].map((segment) => stringOption(OPTION.uriPath, segment));
  const get = { type: 'CON', code: METHOD.get, id: 1, token: NO_BYTES, options, payload: NO_BYTES } as const;
  link.send(server.udp!, encode(get));
  const response = await fetch(`http://127.0.0.1:${server.http[0]!.port}/_matrix/client/versions`);
  order.push(`HTTP ${response.status}`);
  await Promise.all([ready, coap]);
  expect(order).toEqual(['HTTP 200', 'models', 'CoAP']);
});

describe('pipes over WebSocket', () => {
  test('carry a conversation between two servers, each through the other’s HTTP listener', async () => {
    const ports = { alpha: await freePort('tcp'), bravo: await freePort('tcp') };
    const side = (own: 'alpha' | 'bravo', other: 'alpha' | 'bravo') =>
      start(own, {
        http: { listen: [{ host: '127.0.0.1', port: ports[own] }] },
        coap: { port: 0 },
        federation: {
          peers: [
            {
              server_name: `${other}.example`,
              address: `ravine+ws://127.0.0.1:${ports[other]}`,
              trust: 'tofu',
            },
          ],
        },
      });
    const alpha = await side('alpha', 'bravo');
    const bravo = await side('bravo', 'alpha');
    await firstMessage({
      alpha: alpha.homeserver.app,
      bravo: bravo.homeserver.app,
      phase: () => undefined,
      until: (outcome) => outcome,
    });
    for (const { homeserver } of [alpha, bravo]) {
      const { federation, exchange, links } = homeserver.counters();
      expect(federation.https).toBe(0);
      expect(exchange!.datagramsIn + exchange!.datagramsOut).toBe(0);
      expect(links.websocket!.established).toBeGreaterThan(0);
    }
    // The doors do not wait for connections that are open.
    const before = systemClock.monotonic();
    for (const server of closing.splice(0)) await server.close();
    expect(systemClock.monotonic() - before).toBeLessThan(1_500);
  });
});

test('a serial device that is not there keeps no server from starting', async () => {
  const server = await start('c', {
    http: { listen: [] },
    coap: {
      port: 0,
      serial: [{ name: 'radio', path: join(folder, 'none'), baud: 9600, framing: 'kiss' }],
    },
  });
  expect(Object.keys(server.homeserver.counters().links)).toEqual(['udp', 'serial:radio', 'websocket']);
});

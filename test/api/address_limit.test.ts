import type { FastifyInstance, InjectOptions } from 'fastify';
import { inject } from 'light-my-request';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type AppOptions, createApp } from '../../src/api/app.ts';
import { CALLER } from '../../src/api/caller.ts';
import { networkOf } from '../../src/base/network.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import type { ServerName } from '../../src/matrix/ids.ts';

async function limitedApp(
  options: Partial<AppOptions> = {},
): Promise<{ app: FastifyInstance; clock: VirtualClock }> {
  const clock = new VirtualClock();
  const app = createApp({ clock, authenticate: async () => undefined, ...options });
  onTestFinished(() => app.close());
  app.post('/limited', { config: { auth: 'none', limited: true } }, async () => ({}));
  app.post('/free', { config: { auth: 'none' } }, async () => ({}));
  await app.ready();
  return { app, clock };
}

/** How many requests are let through before the first that is not. */
async function allowed(app: FastifyInstance, options: InjectOptions): Promise<number> {
  for (let count = 0; count < 1_000; count++) {
    const { statusCode } = await app.inject({ method: 'POST', url: '/limited', ...options });
    if (statusCode === 429) return count;
    expect(statusCode).toBe(200);
  }
  return Number.POSITIVE_INFINITY;
}

const from = (remoteAddress: string, forwarded?: string): InjectOptions => ({
  remoteAddress,
  ...(forwarded === undefined ? {} : { headers: { 'x-forwarded-for': forwarded } }),
});

describe('a route that takes passwords', () => {
  test('answers a hundred requests from an address at once, and two a second from then on', async () => {
    const { app, clock } = await limitedApp();
    const one = from('192.0.2.1');
    expect(await allowed(app, one)).toBe(100);
    const refused = await app.inject({ method: 'POST', url: '/limited', ...one });
    expect(refused.statusCode).toBe(429);
    expect(refused.json()).toEqual({
      errcode: 'M_LIMIT_EXCEEDED',
      error: expect.any(String),
      retry_after_ms: 500,
    });
    expect(refused.headers['retry-after']).toBe('1');
    expect(refused.headers['access-control-allow-origin']).toBe('*');
    clock.advanceTo(1_000);
    expect(await allowed(app, one)).toBe(2);
  });

  test('does not read the body of one who comes too often', async () => {
    const { app } = await limitedApp();
    await allowed(app, from('192.0.2.1'));
    const headers = { 'content-type': 'application/json' };
    const request = { method: 'POST', url: '/limited', payload: '{not json', headers } as const;
    expect((await app.inject({ ...request, remoteAddress: '192.0.2.1' })).statusCode).toBe(429);
    expect((await app.inject({ ...request, remoteAddress: '192.0.2.2' })).statusCode).toBe(400);
  });

  test('lets others in, and the same one to other routes', async () => {
    const { app } = await limitedApp();
    await allowed(app, from('192.0.2.1'));
    expect(await allowed(app, from('192.0.2.2'))).toBe(100);
    const elsewhere = await app.inject({ method: 'POST', url: '/free', remoteAddress: '192.0.2.1' });
    expect(elsewhere.statusCode).toBe(200);
  });

  test('believes a proxy on this machine about who asks, and nobody else', async () => {
    const { app } = await limitedApp();
    expect(await allowed(app, from('127.0.0.1', '192.0.2.1'))).toBe(100);
    expect(await allowed(app, from('127.0.0.1', '192.0.2.2'))).toBe(100);
    expect(await allowed(app, from('127.0.0.1', '192.0.2.77, 192.0.2.1'))).toBe(0);
    expect(await allowed(app, from('192.0.2.2', '192.0.2.3'))).toBe(0);
  });

  test('believes the proxies that are configured instead, with those behind them', async () => {
    const { app } = await limitedApp({ trustedProxies: ['203.0.113.7', '2001:db8:1::/48'] });
    expect(await allowed(app, from('203.0.113.7', '192.0.2.1'))).toBe(100);
    expect(await allowed(app, from('2001:db8:1:9::2', '192.0.2.1, 203.0.113.7'))).toBe(0);
    expect(await allowed(app, from('127.0.0.1', '192.0.2.9'))).toBe(100);
    expect(await allowed(app, from('127.0.0.1', '192.0.2.10'))).toBe(0);
    expect(await allowed(app, from('203.0.113.8', '192.0.2.11'))).toBe(100);
    expect(await allowed(app, from('203.0.113.8', '192.0.2.12'))).toBe(0);
  });

  test('believes nobody where no proxy is configured', async () => {
    const { app } = await limitedApp({ trustedProxies: [] });
    expect(await allowed(app, from('127.0.0.1', '192.0.2.1'))).toBe(100);
    expect(await allowed(app, from('127.0.0.1', '192.0.2.2'))).toBe(0);
  });

  test('is the same for every port of a CoAP client', async () => {
    const { app } = await limitedApp();
    expect(await allowed(app, from('192.0.2.1:5683'))).toBe(100);
    expect(await allowed(app, from('192.0.2.1:5684'))).toBe(0);
  });

  test('counts a server that a door has proved by its name', async () => {
    const { app } = await limitedApp();
    await allowed(app, from('127.0.0.1'));
    const answer = await inject(
      (raw, response) => {
        raw[CALLER] = { kind: 'server', name: 'b.example' as ServerName };
        app.routing(raw, response);
      },
      { method: 'POST', url: '/limited', remoteAddress: '127.0.0.1' },
    );
    expect(answer.statusCode).toBe(200);
  });
});

describe('the network of an address', () => {
  test.each([
    ['192.0.2.1', '192.0.2.1'],
    ['192.0.2.1:5683', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::FFFF:192.0.2.1', '192.0.2.1'],
    ['[::ffff:192.0.2.1]:5683', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2'],
    ['2001:0DB8:0001:0002::', '2001:db8:1:2'],
    ['2001:db8:1:2::6', '2001:db8:1:2'],
    ['[2001:db8:1:2:ffff::6]:5683', '2001:db8:1:2'],
    ['2001:db8::2:3:4:5:6', '2001:db8:0:2'],
    ['1::3:4:5:6:7:08', '1:0:3:4'],
    ['64:ff9b::192.0.2.1', '64:ff9b:0:0'],
    ['::1', '0:0:0:0'],
    ['[::]:1', '0:0:0:0'],
    ['fe80::1%eth0', 'fe80:0:0:0'],
    ['', 'elsewhere'],
    ['junk', 'elsewhere'],
    ['300.1.1.1', 'elsewhere'],
  ])('of %s is %s', (address, network) => {
    expect(networkOf(address)).toBe(network);
  });
});

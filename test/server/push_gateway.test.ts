import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../src/base/time.ts';
import { Work } from '../../src/base/work.ts';
import { INTERNET } from '../../src/federation/internet.ts';
import { HttpPushGateway } from '../../src/server/push_gateway.ts';

const PATH = '/_matrix/push/v1/notify';
const BODY = { notification: { devices: [] } };
const servers: Server[] = [];
const gateways: HttpPushGateway[] = [];

/** A gateway on this machine that answers so. */
async function local(
  answer: (body: string) => { status: number; text: string } | undefined,
): Promise<string> {
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += chunk));
    request.on('end', () => {
      const given = answer(body);
      if (given === undefined) return;
      response.writeHead(given.status, { location: 'http://127.0.0.1:1/' }).end(given.text);
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function gateway(inside: readonly string[], address = '127.0.0.1'): HttpPushGateway {
  const made = new HttpPushGateway({
    ...{ clock: systemClock, work: new Work(), inside: new Set(inside) },
    internet: { ...INTERNET, lookup: async () => [{ address, family: 4 }] },
  });
  gateways.push(made);
  return made;
}

afterEach(async () => {
  await Promise.all(gateways.splice(0).map((each) => each.close()));
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

test('a gateway of the configuration is asked, and says which keys it rejects', async () => {
  let asked = '';
  const origin = await local((body) => {
    asked = body;
    return { status: 200, text: '{"rejected":["a",1]}' };
  });
  expect(await gateway([origin]).notify(origin + PATH, BODY, 5_000)).toEqual({ ok: true, value: ['a'] });
  expect(JSON.parse(asked)).toEqual(BODY);
});

test.each([
  [500, ''],
  [302, ''],
  [404, '{"rejected":["a"]}'],
])('an answer of %i is none', async (status, text) => {
  const origin = await local(() => ({ status, text }));
  expect((await gateway([origin]).notify(origin + PATH, BODY, 5_000)).ok).toBe(false);
});

test('what is too long, or no JSON, rejects nobody', async () => {
  for (const text of ['x', `{"rejected":["a"],"x":"${'x'.repeat(70_000)}"}`]) {
    const origin = await local(() => ({ status: 200, text }));
    expect(await gateway([origin]).notify(origin + PATH, BODY, 5_000)).toEqual({ ok: true, value: [] });
  }
});

test('a gateway that does not answer is waited for no longer than is said', async () => {
  const origin = await local(() => undefined);
  expect((await gateway([origin]).notify(origin + PATH, BODY, 50)).ok).toBe(false);
});

test('nobody else is asked at an inside address, by whatever name, nor without TLS', async () => {
  let count = 0;
  const origin = await local(() => {
    count++;
    return { status: 200, text: '{}' };
  });
  const port = origin.split(':').at(-1)!;
  for (const url of [
    origin,
    `https://127.0.0.1:${port}`,
    `https://[::1]:${port}`,
    `https://[::ffff:127.0.0.1]:${port}`,
    `https://2130706433:${port}`,
    `https://127.1:${port}`,
    'http://gateway.example',
  ])
    expect(await gateway(['http://other:1']).notify(url + PATH, BODY, 5_000)).toEqual({
      ...{ ok: false, problem: 'an inside address' },
    });
  for (const address of ['127.0.0.1', '10.0.0.1', '169.254.169.254', '192.168.0.1'])
    expect(await gateway([], address).notify(`https://gateway.example:${port}${PATH}`, BODY, 5_000)).toEqual({
      ...{ ok: false, problem: 'EACCES' },
    });
  expect(count).toBe(0);
});

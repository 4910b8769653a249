import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { Work } from '../../src/base/work.ts';
import { isPublicAddress } from '../../src/federation/addresses.ts';
import type { Internet } from '../../src/federation/internet.ts';
import { OutsideWeb } from '../../src/federation/outside_web.ts';
import { WebError } from '../../src/homeserver/media/ports.ts';

/** What the tests take for a public address, and for an inside one. Both are this machine. */
const PUBLIC = '127.0.0.2';
const INSIDE = '127.0.0.1';

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

interface Answer {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

async function serve(host: string, answer: (url: string) => Answer | undefined) {
  const urls: string[] = [];
  let connections = 0;
  const server = createServer((request, response) => {
    urls.push(`${request.headers.host}${request.url}`);
    const result = answer(request.url ?? '');
    if (result !== undefined) response.writeHead(result.status ?? 200, result.headers).end(result.body);
  });
  server.on('connection', () => connections++);
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  open.push({
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  });
  return { urls, connections: () => connections, port: (server.address() as AddressInfo).port };
}

/** @param names what name servers say, each time the next */
function webOf(
  names: Record<string, readonly (readonly string[])[]>,
  { port, clock = new VirtualClock() }: { port: number; clock?: VirtualClock },
): OutsideWeb {
  const asked = new Map<string, number>();
  const internet: Internet = {
    async lookup(host) {
      const times = asked.get(host) ?? 0;
      asked.set(host, times + 1);
      const answers = names[host];
      if (answers === undefined) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
      return answers[Math.min(times, answers.length - 1)]!.map((address) => ({ address, family: 4 }));
    },
    srv: async () => [],
    isPublicAddress: (address) => address === PUBLIC || isPublicAddress(address),
    portOf: (given) => (given === '' || given === '80' ? String(port) : given),
  };
  const web = new OutsideWeb({ clock, work: new Work(), internet });
  open.push(web);
  return web;
}

const OPTIONS = { accept: '*/*', timeoutMs: 10_000 };

async function get(web: OutsideWeb, url: string) {
  const { status, url: last, contentType, content } = await web.fetch(url, OPTIONS);
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(part);
  return { status, url: last, contentType, text: Buffer.concat(parts).toString() };
}

test('a page is fetched, over redirects that are absolute or relative', async () => {
  const { port, urls } = await serve(PUBLIC, (url) =>
    url === '/a'
      ? { status: 302, headers: { location: '/b?c#d' }, body: 'moved' }
      : url === '/b?c'
        ? { status: 308, headers: { location: 'http://other.example/e' } }
        : { headers: { 'content-type': 'text/html' }, body: 'Hello?' },
  );
  const web = webOf({ 'www.example': [[PUBLIC]], 'other.example': [[PUBLIC]] }, { port });
  expect(await get(web, 'http://www.example/a#x')).toEqual({
    ...{ status: 200, url: 'http://other.example/e', contentType: 'text/html', text: 'Hello?' },
  });
  expect(urls).toEqual(['www.example/a', 'www.example/b?c', 'other.example/e']);
});

test('no address that is not public is connected to, however it is written or named', async () => {
  const { port, connections } = await serve(INSIDE, () => ({ body: 'secret' }));
  const web = webOf(
    { 'inside.example': [[INSIDE]], 'six.example': [['::1']], localhost: [[INSIDE]] },
    { port },
  );
  const urls = [
    ...[
      '127.0.0.1',
      '127.1',
      '2130706433',
      '0x7f000001',
      '0177.0.0.1',
      '0.0.0.0',
      '[::1]',
      '[::ffff:127.0.0.1]',
    ],
    ...[
      '[::ffff:7f00:1]',
      '10.0.0.1',
      '192.168.1.1',
      '169.254.169.254',
      '[fd00::1]',
      '[fe80::1]',
      '[64:ff9b::7f00:1]',
    ],
    ...['inside.example', 'six.example', 'localhost', '１２７.0.0.1', '127.0.0.1.'],
  ].map((host) => `http://${host}/`);
  for (const url of [...urls, 'http://user:password@www.example/', 'ftp://www.example/', 'nonsense'])
    await expect(web.fetch(url, OPTIONS), url).rejects.toThrow(WebError);
  expect(connections()).toBe(0);
});

test('no redirect leads inside', async () => {
  const inside = await serve(INSIDE, () => ({ body: 'secret' }));
  const targets = [
    `http://127.0.0.1:${inside.port}/`,
    'http://inside.example/',
    '//inside.example/',
    'file:///etc/passwd',
    'http://[::1]/',
  ];
  const { port } = await serve(PUBLIC, (url) => ({
    status: 302,
    headers: { location: targets[Number(url.slice(1))]! },
  }));
  const names = { 'www.example': [[PUBLIC]], 'inside.example': [[INSIDE]] };
  for (const at of targets.keys())
    await expect(webOf(names, { port }).fetch(`http://www.example/${at}`, OPTIONS)).rejects.toThrow(WebError);
  expect(inside.connections()).toBe(0);
});

test('a name that is public first and inside then is connected to where it was judged', async () => {
  const inside = await serve(INSIDE, () => ({ body: 'secret' }));
  const { port } = await serve(PUBLIC, () => ({ status: 302, headers: { location: '/again' } }));
  const web = webOf({ 'rebound.example': [[PUBLIC], [INSIDE]] }, { port });
  await expect(web.fetch('http://rebound.example/', OPTIONS)).rejects.toThrow('not at a public address');
  // Both at once: the inside one is left out.
  const both = webOf({ 'both.example': [[INSIDE, PUBLIC]] }, { port: inside.port });
  await expect(both.fetch('http://both.example/', OPTIONS)).rejects.toThrow(WebError);
  expect(inside.connections()).toBe(0);
});

test('redirects end, and so does patience', async () => {
  const round = await serve(PUBLIC, () => ({ status: 301, headers: { location: '/' } }));
  await expect(
    webOf({ 'www.example': [[PUBLIC]] }, round).fetch('http://www.example/', OPTIONS),
  ).rejects.toThrow('too often');
  expect(round.urls).toHaveLength(6);
  const silent = await serve(PUBLIC, () => undefined);
  const clock = new VirtualClock();
  const answer = webOf({ 'www.example': [[PUBLIC]] }, { ...silent, clock }).fetch(
    'http://www.example/',
    OPTIONS,
  );
  const refused = expect(answer).rejects.toThrow(WebError);
  while (silent.urls.length === 0) await new Promise((resolve) => setImmediate(resolve));
  clock.step();
  await refused;
});

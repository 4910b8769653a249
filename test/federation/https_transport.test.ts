import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { Work } from '../../src/base/work.ts';
import { HttpsTransport } from '../../src/federation/https_transport.ts';
import type { Internet } from '../../src/federation/internet.ts';
import type { FederationCall } from '../../src/federation/transport.ts';
import { RequestAuthenticator } from '../../src/federation/x_matrix.ts';
import type { MatrixError } from '../../src/matrix/error.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonValue } from '../../src/matrix/json.ts';
import { type ThrowawayAuthority, throwawayAuthority } from '../../src/mesh/authority.ts';
import { A, B, C, testKey } from './fixtures.ts';

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly headers?: Record<string, string>;
}

interface Received {
  readonly method: string;
  readonly url: string;
  readonly host: string | undefined;
  readonly authorization: string | undefined;
  readonly body: string;
}

const key = testKey(1);
let authority: ThrowawayAuthority;
const open: { close(): unknown }[] = [];

beforeAll(async () => {
  authority = await throwawayAuthority();
});

afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

/** An HTTPS server on the loopback address, with a certificate for `name`, that answers from a function. */
async function serve(name: string, answer: (received: Received) => Answer | undefined, host = '127.0.0.1') {
  const certificate = await authority.issue(name);
  const received: Received[] = [];
  const server: Server = createServer(certificate, async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const { method = '', url = '', headers } = request;
    const one = { method, url, host: headers.host, authorization: headers.authorization, body };
    received.push(one);
    const result = answer(one);
    if (result !== undefined) response.writeHead(result.status, result.headers).end(result.body);
  });
  const connections: unknown[] = [];
  server.on('connection', (socket) => connections.push(socket));
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  open.push({
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  });
  return { received, connections, port: (server.address() as AddressInfo).port };
}

function transportTo(
  addresses: Record<string, string>,
  options: { trusted?: boolean; clock?: VirtualClock; internet?: Internet } = {},
) {
  const work = new Work();
  const transport = new HttpsTransport({
    serverName: A,
    signingKey: key,
    clock: options.clock ?? new VirtualClock(),
    random: seededRandom(1),
    work,
    peers: Object.entries(addresses).map(([serverName, address]) => ({
      serverName: serverName as ServerName,
      address,
    })),
    ...(options.internet && { internet: options.internet }),
    ...(options.trusted !== false && { certificateAuthorities: [authority.certificate] }),
  });
  open.push(transport);
  return { transport, work };
}

const call = (changes: Partial<FederationCall> = {}): FederationCall => ({
  method: 'PUT',
  path: '/_matrix/federation/v1/send/%24x',
  query: 'a=%2F&b=1',
  body: { pdus: ['ä'] },
  timeoutMs: 1_000,
  priority: 1,
  ...changes,
});

describe('federation over HTTPS', () => {
  it('connects where the configuration says, as the server it is for, and signs what it sends', async () => {
    const { received, port } = await serve('b.example', () => ({ status: 200, body: '{"ok":true}' }));
    const { transport, work } = transportTo({ [B]: `https://127.0.0.1:${port}` });
    const answer = transport.request(B, call());
    expect(work.pending).toBe(1);
    expect(await answer).toEqual({ status: 200, body: { ok: true } });
    expect(received).toHaveLength(1);
    const { method, url, host, authorization, body } = received[0]!;
    expect({ method, url, host, body }).toEqual({
      method: 'PUT',
      url: '/_matrix/federation/v1/send/%24x?a=%2F&b=1',
      host: B,
      body: '{"pdus":["ä"]}',
    });
    const authenticator = new RequestAuthenticator({
      serverName: B,
      clock: new VirtualClock(),
      keys: { requestKey: async () => key.publicKey },
    });
    const content = JSON.parse(body) as JsonValue;
    expect(await authenticator.authenticate({ method, uri: url, content, authorization })).toBe(A);
  });

  it('passes on what the other server says is wrong', async () => {
    const { port } = await serve('b.example', () => ({
      status: 403,
      body: '{"errcode":"M_FORBIDDEN","error":"no","room_version":"12","soft_logout":true,"retry_after_ms":{}}',
    }));
    const { transport } = transportTo({ [B]: `https://127.0.0.1:${port}` });
    const error = await transport.request(B, call()).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ status: 403, errcode: 'M_FORBIDDEN', message: 'no' });
    expect((error as MatrixError).extra).toEqual({ room_version: '12' });
  });

  it('takes an error page for an error, and an answer that is not JSON for none', async () => {
    let status = 502;
    const { port } = await serve('b.example', () => ({ status, body: '<html>' }));
    const { transport } = transportTo({ [B]: `https://127.0.0.1:${port}` });
    await expect(transport.request(B, call())).rejects.toMatchObject({ status: 502, errcode: 'M_UNKNOWN' });
    status = 200;
    await expect(transport.request(B, call())).rejects.toMatchObject({ problem: 'bad_answer' });
  });

  it('refuses a certificate for another name, and one of an authority that is not trusted', async () => {
    const { received, port } = await serve('c.example', () => ({ status: 200, body: '{}' }));
    const { transport } = transportTo({ [B]: `https://127.0.0.1:${port}`, [C]: `https://127.0.0.1:${port}` });
    await expect(transport.request(B, call())).rejects.toMatchObject({ problem: 'refused' });
    await expect(transport.request(C, call())).resolves.toMatchObject({ status: 200 });
    // Also while a connection to the same address as another server is open.
    await expect(transport.request(B, call())).rejects.toMatchObject({ problem: 'refused' });
    const strict = transportTo({ [C]: `https://127.0.0.1:${port}` }, { trusted: false });
    await expect(strict.transport.request(C, call())).rejects.toMatchObject({ problem: 'refused' });
    expect(received).toHaveLength(1);
  });

  it('never connects to an inside address that the configuration does not name', async () => {
    const { connections, port } = await serve('localhost', () => ({ status: 200, body: '{}' }));
    const { transport } = transportTo({});
    const names = [
      '127.0.0.1',
      '[::1]',
      'localhost',
      '127.0.0.1.',
      '2130706433',
      '127.1',
      '0x7f.1',
      '[::ffff:127.0.0.1]',
    ];
    for (const host of names) {
      const name = `${host}:${port}`;
      await expect(transport.request(name as ServerName, call()), name).rejects.toMatchObject({
        name: 'FederationError',
      });
    }
    expect(connections).toEqual([]);
  });

  it('gives up when our clock says so, or when it is told to', async () => {
    const { received, port } = await serve('b.example', () => undefined);
    const clock = new VirtualClock();
    const { transport } = transportTo({ [B]: `https://127.0.0.1:${port}` }, { clock });
    const late = expect(transport.request(B, call({ timeoutMs: 60_000 }))).rejects.toMatchObject({
      problem: 'timeout',
    });
    await expect.poll(() => received.length).toBe(1);
    expect(clock.next()).toBe(60_000);
    clock.step();
    await late;
    const controller = new AbortController();
    const stopped = expect(transport.request(B, call({ signal: controller.signal }))).rejects.toMatchObject({
      problem: 'unreachable',
    });
    await expect.poll(() => received.length).toBe(2);
    controller.abort();
    await stopped;
    expect(clock.next()).toBeNull();
  });

  it('says that nobody is there where nobody is', async () => {
    const { transport } = transportTo({ [B]: 'https://127.0.0.1:1' });
    await expect(transport.request(B, call())).rejects.toMatchObject({ problem: 'unreachable' });
  });
});

/** Addresses that the tests take for public ones, and one that they take for an inside one. All are this machine. */
const PUBLIC = '127.0.0.2';
const OTHER_PUBLIC = '127.0.0.3';
const INSIDE = '127.0.0.1';

/** An internet of these names, whose ports are where the tests have found free ones. */
function internet(world: {
  readonly names?: Record<string, readonly string[]>;
  readonly services?: Record<string, readonly { name: string; port: number }[]>;
  readonly ports?: Record<string, number>;
}): Internet & { readonly asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    async lookup(host) {
      asked.push(host);
      const addresses = world.names?.[host];
      if (addresses === undefined) throw Object.assign(new Error('no such name'), { code: 'ENOTFOUND' });
      return addresses.map((address) => ({ address, family: 4 }));
    },
    srv: async (name) =>
      (world.services?.[name] ?? []).map((record, i) => ({ ...record, priority: i, weight: 0 })),
    isPublicAddress: (address) => address !== INSIDE && address.startsWith('127.0.0.'),
    portOf: (port) => String(world.ports?.[port === '' ? '443' : port] ?? port),
  };
}

const OK = { status: 200, body: '{"ok":true}' };

describe('a server that is found by its name', () => {
  /** A server with a certificate for c.example, to which b.example delegates in the way that the answer says. */
  async function delegated(wellKnown: (port: number, url: string) => Answer) {
    const there = await serve('c.example', () => OK, OTHER_PUBLIC);
    const here = await serve('b.example', ({ url }) => wellKnown(there.port, url), PUBLIC);
    const inside = await serve('inside.example', () => OK, INSIDE);
    const world = internet({
      names: { [B]: [PUBLIC], [C]: [OTHER_PUBLIC], 'inside.example': [INSIDE] },
      // What does not follow the delegation comes to a closed port.
      ports: { 443: here.port, 8448: 1, 9: inside.port },
    });
    return { there, here, inside, ...transportTo({}, { internet: world }) };
  }
  const to = (name: string): Answer => ({ status: 200, body: JSON.stringify({ 'm.server': name }) });
  const redirect = (location: string): Answer => ({ status: 302, body: 'moved', headers: { location } });

  it('is where its well-known file says, with the certificate of that name', async () => {
    const { there, here, transport } = await delegated((port) => to(`${C}:${port}`));
    expect(await transport.request(B, call())).toEqual({ status: 200, body: { ok: true } });
    expect(there.received[0]!.host).toBe(`${C}:${there.port}`);
    expect(here.received.map(({ url }) => url)).toEqual(['/.well-known/matrix/server']);
    expect(here.received[0]!.authorization).toBeUndefined();
    await transport.request(B, call());
    expect(here.received).toHaveLength(1);
  });

  it('may redirect to that file, also with a relative address', async () => {
    const { there, transport } = await delegated((port, url) =>
      url === '/there'
        ? to(`${C}:${port}`)
        : redirect(url === '/.well-known/matrix/server' ? '/on' : `https://${B}/there`),
    );
    await transport.request(B, call());
    expect(there.received).toHaveLength(1);
  });

  it.each<[string, (port: number, url: string) => Answer, number]>([
    ['redirects for ever', (_, url) => redirect(`${url}x`), 6],
    ['redirects to plain HTTP', () => redirect(`http://${C}/`), 1],
    ['redirects to an inside address', () => redirect(`https://${INSIDE}:9/`), 1],
    ['redirects to an inside address in disguise', () => redirect('https://2130706433:9/'), 1],
    ['redirects to a name of an inside address', () => redirect('https://inside.example:9/'), 1],
    ['redirects to no URL', () => redirect('https://['), 1],
    [
      'is too long',
      (port) => ({
        status: 200,
        body: JSON.stringify({ 'm.server': `${C}:${port}`, x: 'x'.repeat(51_200) }),
      }),
      1,
    ],
    ['is not JSON', () => ({ status: 200, body: 'm.server' }), 1],
    ['names an inside address in disguise', () => to('127.1:9'), 1],
    ['is missing', () => ({ status: 404, body: '{}' }), 1],
  ])('is at its own name where the file %s', async (_, wellKnown, requests) => {
    const { there, here, inside, transport } = await delegated(wellKnown);
    await expect(transport.request(B, call())).rejects.toMatchObject({ problem: 'unreachable' });
    expect(here.received).toHaveLength(requests);
    expect(there.received).toHaveLength(0);
    expect(inside.connections).toEqual([]);
  });

  it('is where its SRV records say, with the certificate of its own name, the next where one is closed', async () => {
    const { received, port } = await serve('b.example', () => OK, PUBLIC);
    const { transport } = transportTo(
      {},
      {
        internet: internet({
          names: { 's.example': [PUBLIC] },
          services: {
            '_matrix-fed._tcp.b.example': [
              { name: 's.example', port: 1 },
              { name: 's.example', port },
            ],
          },
        }),
      },
    );
    await transport.request(B, call());
    expect(received.map(({ host }) => host)).toEqual([B]);
  });

  it('is not followed to an inside address by SRV records', async () => {
    const { connections, port } = await serve('b.example', () => OK, INSIDE);
    const names = [
      INSIDE,
      '127.1',
      'inside.example',
      `x@${INSIDE}`,
      `${INSIDE}/x`,
      '[::1]',
      `${INSIDE}:1`,
      '',
    ];
    for (const name of names) {
      const world = internet({
        names: { 'inside.example': [INSIDE], [B]: [INSIDE] },
        services: { '_matrix._tcp.b.example': [{ name, port }] },
        ports: { 8448: port },
      });
      const { transport } = transportTo({}, { internet: world });
      await expect(transport.request(B, call()), name).rejects.toMatchObject({ name: 'FederationError' });
    }
    expect(connections).toEqual([]);
  });

  it('is reached at its public address only where it has inside ones as well', async () => {
    const inside = await serve('b.example', () => OK, INSIDE);
    const { received, port } = await serve('b.example', () => OK, PUBLIC);
    const world = internet({ names: { [B]: [INSIDE, PUBLIC, INSIDE] } });
    const { transport } = transportTo({}, { internet: world });
    await transport.request(`${B}:${port}` as ServerName, call());
    expect(received).toHaveLength(1);
    expect(inside.connections).toEqual([]);
  });

  it('is reached inside where the configuration says so by a name, and is never redirected', async () => {
    const { received, port } = await serve('b.example', () => redirect(`https://${B}/elsewhere`), INSIDE);
    const world = internet({ names: { 'gate.example': [INSIDE] } });
    const { transport } = transportTo({ [B]: `https://gate.example:${port}/` }, { internet: world });
    await expect(transport.request(B, call())).rejects.toMatchObject({ errcode: 'M_UNKNOWN' });
    expect(received.map(({ host }) => host)).toEqual([B]);
    expect(world.asked).toEqual(['gate.example']);
  });
});

it('keeps no connection to a server that it only asks for its keys', async () => {
  const { received, connections, port } = await serve('b.example', () => ({ status: 200, body: '{}' }));
  const { transport } = transportTo({ [B]: `https://127.0.0.1:${port}` });
  const get = (path: string) => transport.request(B, { method: 'GET', path, timeoutMs: 1_000, priority: 2 });
  // More than a pool has connections.
  for (let i = 0; i < 8; i++) await get('/_matrix/key/v2/server');
  expect(received).toHaveLength(8);
  expect(connections).toHaveLength(8);
});

it('takes no answer that is too large', async () => {
  const { port } = await serve('b.example', () => ({
    status: 200,
    body: `"${'x'.repeat(48 * 1024 * 1024)}"`,
  }));
  const { transport } = transportTo({ [B]: `https://127.0.0.1:${port}` });
  await expect(transport.request(B, call())).rejects.toMatchObject({ problem: 'bad_answer' });
});

describe('a file over HTTPS', () => {
  const get: FederationCall = { method: 'GET', path: '/file', timeoutMs: 1_000, priority: 5 };
  const read = async (content: AsyncIterable<Uint8Array>): Promise<number> => {
    let length = 0;
    for await (const part of content) length += part.length;
    return length;
  };

  it('comes as it is sent, and is counted as work until it has come', async () => {
    const body = 'x'.repeat(3_000_000);
    const { port } = await serve('b.example', () => ({
      status: 200,
      headers: { 'content-type': 'a/b; c=d' },
      body,
    }));
    const { transport, work } = transportTo({ [B]: `https://127.0.0.1:${port}` });
    const { contentType, content } = await transport.download(B, get);
    expect(contentType).toBe('a/b; c=d');
    expect(await read(content)).toBe(3_000_000);
    expect(work.pending).toBe(0);
  });

  it('is refused as the other server says', async () => {
    const { port } = await serve('b.example', () => ({
      status: 404,
      body: '{"errcode":"M_NOT_FOUND","error":"no"}',
    }));
    const { transport } = transportTo({ [B]: `https://127.0.0.1:${port}` });
    await expect(transport.download(B, get)).rejects.toMatchObject({ status: 404, errcode: 'M_NOT_FOUND' });
  });

  it('that stops coming is given up when our clock says so, and one that nobody wants any more at once', async () => {
    const { port, connections } = await serve('b.example', () => ({
      status: 200,
      headers: { 'content-length': '1000' },
      body: 'only this',
    }));
    const clock = new VirtualClock();
    const { transport } = transportTo({ [B]: `https://127.0.0.1:${port}` }, { clock });
    const { content } = await transport.download(B, get);
    const failed = expect(read(content)).rejects.toMatchObject({ problem: 'timeout' });
    clock.step();
    await failed;
    const second = await transport.download(B, get);
    await second.content[Symbol.asyncIterator]().return?.();
    expect(clock.next()).toBeNull();
    const sockets = connections as { readonly destroyed: boolean }[];
    while (sockets.some(({ destroyed }) => !destroyed)) await new Promise((resolve) => setImmediate(resolve));
  });
});

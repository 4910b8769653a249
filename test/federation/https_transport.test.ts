import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { Work } from '../../src/base/work.ts';
import { HttpsTransport } from '../../src/federation/https_transport.ts';
import type { FederationCall } from '../../src/federation/transport.ts';
import { RequestAuthenticator } from '../../src/federation/x_matrix.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonValue } from '../../src/matrix/json.ts';
import { type ThrowawayAuthority, throwawayAuthority } from '../../src/mesh/authority.ts';
import { A, B, C, testKey } from './fixtures.ts';

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
async function serve(
  name: string,
  answer: (received: Received) => { status: number; body: string } | undefined,
) {
  const certificate = await authority.issue(name);
  const received: Received[] = [];
  const server: Server = createServer(certificate, async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const { method = '', url = '', headers } = request;
    const one = { method, url, host: headers.host, authorization: headers.authorization, body };
    received.push(one);
    const result = answer(one);
    if (result !== undefined) response.writeHead(result.status).end(result.body);
  });
  const connections: unknown[] = [];
  server.on('connection', (socket) => connections.push(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
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
  options: { trusted?: boolean; clock?: VirtualClock } = {},
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
      body: '{"errcode":"M_FORBIDDEN","error":"no","room_version":"12"}',
    }));
    const { transport } = transportTo({ [B]: `https://127.0.0.1:${port}` });
    await expect(transport.request(B, call())).rejects.toMatchObject({
      status: 403,
      errcode: 'M_FORBIDDEN',
      message: 'no',
      extra: { room_version: '12' },
    });
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
    for (const name of [`127.0.0.1:${port}`, `[::1]:${port}`, `localhost:${port}`]) {
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

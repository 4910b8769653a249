import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { PassThrough } from 'node:stream';
import { type PeerCertificate, connect as tlsConnect } from 'node:tls';
import type { FastifyInstance } from 'fastify';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { systemClock } from '../../src/base/time.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { type HttpDoor, type HttpDoorOptions, openHttpDoor } from '../../src/doors/https.ts';
import { throwawayAuthority } from '../../src/mesh/authority.ts';

interface Parked {
  readonly entered: Promise<void>;
  readonly aborted: Promise<void>;
  release(): void;
}

/** An app with a quick route and one that answers when the test says so. */
function exampleApp(): { app: FastifyInstance; parked: Parked } {
  const app = createApp({ clock: new VirtualClock(), authenticate: async () => undefined });
  onTestFinished(() => app.close());
  const entered = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  app.get('/quick', { config: { auth: 'none' } }, async () => ({ quick: true }));
  app.get('/parked', { config: { auth: 'none' } }, async (request) => {
    request.signal.addEventListener('abort', () => aborted.resolve());
    entered.resolve();
    await released.promise;
    return { parked: true };
  });
  return { app, parked: { entered: entered.promise, aborted: aborted.promise, release: released.resolve } };
}

async function open(app: FastifyInstance, options: Partial<HttpDoorOptions> = {}): Promise<HttpDoor> {
  const door = await openHttpDoor(app, { host: '127.0.0.1', port: 0, clock: systemClock, ...options });
  onTestFinished(() => door.close());
  return door;
}

function get(
  door: HttpDoor,
  path: string,
  tls?: { ca: string },
): Promise<{ status: number; body: string; connection: string | undefined }> {
  return new Promise((resolve, reject) => {
    const target = { host: door.host, port: door.port, path, agent: false as const };
    const request =
      tls === undefined
        ? httpRequest(target)
        : httpsRequest({ ...target, ca: tls.ca, servername: 'a.example' });
    request.on('error', reject).on('response', (response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode!, body, connection: response.headers.connection }),
      );
    });
    request.end();
  });
}

/** Sends bytes as they are, and answers everything that comes back until the server hangs up. */
function raw(door: HttpDoor, text: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = connect(door.port, door.host, () => socket.write(text));
    socket.on('data', (chunk) => {
      answer += chunk;
    });
    // A reset ends it as well.
    socket.on('error', () => undefined).on('close', () => resolve(answer));
  });
}

describe('an HTTP door', () => {
  test('binds a free port and lets requests in', async () => {
    const door = await open(exampleApp().app);
    expect(door).toMatchObject({ host: '127.0.0.1', port: expect.any(Number) });
    expect(door.port).toBeGreaterThan(0);
    expect(await get(door, '/quick')).toMatchObject({ status: 200, body: '{"quick":true}' });
  });

  test('is one of several of the same app', async () => {
    const { app } = exampleApp();
    const [one, two] = [await open(app), await open(app)];
    await one.close();
    expect((await get(two, '/quick')).status).toBe(200);
    await expect(get(one, '/quick')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('says so where the port is taken', async () => {
    const { app } = exampleApp();
    const door = await open(app);
    await expect(open(app, { port: door.port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });

  test('answers what is not HTTP, and headers that are too large, in Matrix terms', async () => {
    const door = await open(exampleApp().app);
    expect(await raw(door, 'hello\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 [\s\S]*"errcode":"M_UNKNOWN"/);
    const large = await raw(door, `GET /quick HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`);
    expect(large).toMatch(/^HTTP\/1\.1 431 [\s\S]*"errcode":"M_TOO_LARGE"/);
  });

  test('tells the handler that a client has hung up', async () => {
    const { app, parked } = exampleApp();
    const door = await open(app);
    const socket = connect(door.port, door.host, () =>
      socket.write('GET /parked HTTP/1.1\r\nHost: a\r\n\r\n'),
    );
    await parked.entered;
    socket.destroy();
    await parked.aborted;
    parked.release();
  });
});

describe('closing it', () => {
  test('lets a request finish and then ends its connection', async () => {
    const { app, parked } = exampleApp();
    const door = await open(app, { clock: new VirtualClock() });
    const answer = get(door, '/parked');
    await parked.entered;
    const closed = door.close();
    parked.release();
    expect(await answer).toMatchObject({ status: 200, body: '{"parked":true}', connection: 'close' });
    await closed;
  });

  test('ends the connection also after an answer that had begun', async () => {
    const { app } = exampleApp();
    const body = new PassThrough();
    app.get('/begun', { config: { auth: 'none' } }, (_, reply) => reply.send(body));
    const door = await open(app, { clock: new VirtualClock() });
    const begun = Promise.withResolvers<void>();
    const socket = connect(door.port, door.host, () =>
      socket.write('GET /begun HTTP/1.1\r\nHost: a\r\n\r\n'),
    );
    socket.on('data', () => begun.resolve());
    const ended = new Promise((resolve) => socket.on('close', resolve));
    body.write('first');
    await begun.promise;
    const closed = door.close();
    body.end('last');
    await closed;
    await ended;
  });

  test('does not wait for connections that are idle', async () => {
    const door = await open(exampleApp().app, { clock: new VirtualClock() });
    const socket = connect(door.port, door.host);
    let answer = '';
    await new Promise<void>((resolve) => {
      socket.on('data', (chunk) => {
        answer += chunk;
        if (answer.includes('"quick":true')) resolve();
      });
      socket.write('GET /quick HTTP/1.1\r\nHost: a\r\n\r\n');
    });
    const ended = new Promise((resolve) => socket.on('close', resolve));
    await door.close();
    await ended;
  });

  test('cuts off what is still open when the grace is over, also what never became a request', async () => {
    const { app, parked } = exampleApp();
    const clock = new VirtualClock();
    const door = await open(app, { clock });
    const answer = get(door, '/parked');
    const outcome = expect(answer).rejects.toMatchObject({ code: 'ECONNRESET' });
    const half = raw(door, 'GET /qu');
    await parked.entered;
    const closed = door.close();
    expect(clock.next()).toBe(2_000);
    clock.step();
    await closed;
    await outcome;
    expect(await half).toBe('');
    parked.release();
  });
});

describe('an HTTPS door', () => {
  test('presents its certificate, and another one after a reload', async () => {
    const authority = await throwawayAuthority();
    const [first, second] = [await authority.issue('a.example'), await authority.issue('a.example')];
    const tls = ({ cert, key }: typeof first) => ({ cert, key });
    const door = await open(exampleApp().app, { tls: tls(first) });
    expect(await get(door, '/quick', { ca: authority.certificate })).toMatchObject({ status: 200 });
    const before = await fingerprint(door, authority.certificate);
    door.reload(tls(second));
    const after = await fingerprint(door, authority.certificate);
    expect(after).not.toBe(before);
    expect(() => door.reload({ cert: first.cert, key: second.key })).toThrow(/key/i);
    expect(await fingerprint(door, authority.certificate)).toBe(after);
  });

  test('closes over a handshake that never ends', async () => {
    const authority = await throwawayAuthority();
    const { cert, key } = await authority.issue('a.example');
    const clock = new VirtualClock();
    const door = await open(exampleApp().app, { tls: { cert, key }, clock });
    const socket = connect(door.port, door.host);
    const gone = new Promise((resolve) => socket.on('close', resolve));
    await new Promise((resolve) => socket.on('connect', resolve));
    expect(await get(door, '/quick', { ca: authority.certificate })).toMatchObject({ status: 200 });
    const closed = door.close();
    clock.step();
    await closed;
    await gone;
  });

  test('does not open with a key of another certificate', async () => {
    const authority = await throwawayAuthority();
    const [first, second] = [await authority.issue('a.example'), await authority.issue('a.example')];
    await expect(open(exampleApp().app, { tls: { cert: first.cert, key: second.key } })).rejects.toThrow(
      /key/i,
    );
  });
});

function fingerprint(door: HttpDoor, ca: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({ host: door.host, port: door.port, servername: 'a.example', ca }, () => {
      const certificate: PeerCertificate = socket.getPeerCertificate();
      socket.end();
      resolve(certificate.fingerprint256);
    });
    socket.on('error', reject);
  });
}

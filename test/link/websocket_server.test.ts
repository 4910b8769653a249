import { once } from 'node:events';
import { request } from 'node:http';
import { connect as connectTcp } from 'node:net';
import Fastify from 'fastify';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { systemClock } from '../../src/base/time.ts';
import { code, METHOD } from '../../src/coap/codes.ts';
import { NO_BYTES } from '../../src/coap/message.ts';
import { type HttpDoor, openHttpDoor } from '../../src/doors/https.ts';
import { CoapSocket } from '../../src/exchange/coap_socket.ts';
import { coapOverWebSocket } from '../../src/exchange/websocket_coap.ts';
import { dialWebSocket, openWebSocketLink, WebSocketLink } from '../../src/link/websocket.ts';
import { webSocketDialler, webSocketUpgrader } from '../../src/link/websocket_server.ts';

const PATH = '/.well-known/coap';
const GET = { code: METHOD.get, options: [], payload: NO_BYTES };

describe('WebSocket connections of an HTTP door', () => {
  let door: HttpDoor;
  let link: WebSocketLink;
  let url: string;
  const closing: { close(): Promise<void> }[] = [];

  beforeEach(async () => {
    link = new WebSocketLink({ clock: systemClock, random: seededRandom(1) });
    const app = Fastify({ pluginTimeout: 0 });
    app.get('/ordinary', async () => 'an ordinary answer');
    door = await openHttpDoor(app, {
      host: '127.0.0.1',
      port: 0,
      clock: systemClock,
      upgrader: webSocketUpgrader(link),
    });
    url = `ws://127.0.0.1:${door.port}`;
    closing.push(app, door, link);
  });
  afterEach(async () => {
    for (const resource of closing.splice(0).reverse()) await resource.close();
  });

  function serve(plain: boolean): CoapSocket {
    const server = new CoapSocket({
      link: coapOverWebSocket({ link, plain }),
      clock: systemClock,
      random: seededRandom(2),
    });
    server.onRequest(async ({ payload }) => ({ code: code(2, 5), options: [], payload }));
    closing.push(server);
    return server;
  }

  it.each([
    ['the platform’s WebSocket', dialWebSocket],
    ['the ws library', webSocketDialler(undefined)],
  ])('answers CoAP through %s', async (_, dial) => {
    serve(true);
    const client = new CoapSocket({
      link: coapOverWebSocket({
        link: openWebSocketLink({ url, clock: systemClock, random: seededRandom(3), dial }),
        plain: false,
      }),
      clock: systemClock,
      random: seededRandom(4),
    });
    closing.push(client);
    const payload = seededRandom(5).bytes(20_000);
    const response = await client.request(url, { ...GET, code: METHOD.post, payload }, { timeoutMs: 10_000 });
    expect(response.code).toBe(code(2, 5));
    expect(hex(response.payload)).toBe(hex(payload));
  });

  const connect = (headers: Record<string, string> = {}, protocols = ['coap'], path = PATH): WebSocket => {
    const socket = new WebSocket(`${url}${path}`, protocols, { headers });
    closing.push({
      close: async () => {
        socket.on('error', () => undefined);
        socket.terminate();
      },
    });
    return socket;
  };
  const refusal = async (socket: WebSocket): Promise<number | undefined> => {
    const [, response] = await once(socket, 'unexpected-response');
    return response.statusCode;
  };

  it('takes only the subprotocol coap, and no other path', async () => {
    expect(await refusal(connect({}, ['mqtt']))).toBe(400);
    expect(await refusal(connect({}, []))).toBe(400);
    expect(await refusal(connect({}, ['coap'], '/ordinary'))).toBe(200);
    const socket = connect({}, ['mqtt', 'coap']);
    await once(socket, 'open');
    expect(socket.protocol).toBe('coap');
  });

  it('leaves requests for other protocols to HTTP', async () => {
    const asked = request(`http://127.0.0.1:${door.port}/ordinary`, {
      headers: { connection: 'upgrade', upgrade: 'h2c' },
    });
    asked.end();
    const [response] = await once(asked, 'response');
    expect(response.statusCode).toBe(200);
    response.resume();
  });

  it('serves a page of any site nothing but a refusal where plain CoAP is off', async () => {
    serve(false);
    const socket = connect({ origin: 'https://evil.example' });
    const messages: string[] = [];
    socket.on('message', (data: Buffer) => messages.push(data.toString('hex')));
    await once(socket, 'open');
    socket.send(Buffer.from('00e1', 'hex'));
    socket.send(Buffer.from('010107', 'hex'));
    while (messages.length < 2) await once(socket, 'message');
    expect(messages[0]).toBe('00e12301000020');
    expect(messages[1]!.slice(0, 6)).toBe(`01${((4 << 5) | 3).toString(16)}07`);
  });

  it('believes a proxy on this machine about whom it speaks for, and only the nearest hops', async () => {
    const opened: string[] = [];
    link.onConnection({ opened: (address) => opened.push(address), closed: () => undefined });
    for (const forwarded of [
      '203.0.113.9, 198.51.100.4',
      '203.0.113.9, 127.0.0.1',
      'nonsense',
      '::1, 2001:db8::1',
    ])
      await once(connect({ 'x-forwarded-for': forwarded }), 'open');
    expect(opened).toEqual(['198.51.100.4:1', '203.0.113.9:2', '127.0.0.1:3', '[2001:db8::1]:4']);
  });

  it('closes on text and on messages that are too large', async () => {
    const text = connect();
    await once(text, 'open');
    text.send('hello');
    expect((await once(text, 'close'))[0]).toBe(1003);
    const large = connect();
    await once(large, 'open');
    large.send(new Uint8Array(64 * 1024 + 1));
    expect((await once(large, 'close'))[0]).toBe(1009);
  });

  it('closes on a message in very many frames, each of which costs memory besides its bytes', async () => {
    const socket = connect();
    await once(socket, 'open');
    for (let frame = 0; frame < 300; frame++) socket.send(Uint8Array.of(0), { fin: false });
    expect((await once(socket, 'close'))[0]).toBe(1008);
  });

  it('keeps no socket of a refused request, whose client never ends it', async () => {
    const client = connectTcp({ port: door.port, host: '127.0.0.1', allowHalfOpen: true });
    client.write(
      `GET ${PATH} HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
        'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
    );
    client.resume();
    await once(client, 'end');
    // What is written to a socket that is no more is answered by a reset.
    client.on('error', () => undefined);
    const closed = once(client, 'close').catch((error: NodeJS.ErrnoException) => [error.code]);
    const writing = setInterval(() => client.write('x'), 10);
    await closed;
    clearInterval(writing);
    expect(client.errored).toMatchObject({ code: expect.stringMatching(/^(ECONNRESET|EPIPE)$/) });
  });

  it('counts the addresses of one IPv6 network as one', async () => {
    const sockets = Array.from({ length: 64 }, (_, i) =>
      connect({ 'x-forwarded-for': `2001:db8::${(i + 1).toString(16)}` }),
    );
    await Promise.all(sockets.map((socket) => once(socket, 'open')));
    expect(await refusal(connect({ 'x-forwarded-for': '2001:db8:0:0:ffff::1' }))).toBe(503);
    await once(connect({ 'x-forwarded-for': '2001:db8:0:1::1' }), 'open');
  });

  it('has so many connections of one host', async () => {
    const sockets = Array.from({ length: 64 }, () => connect());
    await Promise.all(sockets.map((socket) => once(socket, 'open')));
    expect(await refusal(connect())).toBe(503);
    sockets[0]!.close();
    await once(sockets[0]!, 'close');
    await once(connect(), 'open');
  });
});

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { versionRoutes } from '../../src/api/client/versions.ts';
import { seededRandom, systemRandom } from '../../src/base/random.ts';
import { systemClock } from '../../src/base/time.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { openCoapDoor } from '../../src/doors/coap.ts';
import { ExchangeSocket } from '../../src/exchange/socket.ts';
import { openUdpLink } from '../../src/link/udp.ts';
import type { DeviceId, UserId } from '../../src/matrix/ids.ts';
import type { JsonValue } from '../../src/matrix/json.ts';
import { createIdentity } from '../../src/pipe/identity.ts';
import { COAP_CLIENT, type CoapAnswer, coapClient, hasCoapClient } from './coap_client.ts';

/** Larger than any datagram. */
const LARGE = Array.from({ length: 3000 }, (_, i) => ({ i, text: `entry ${i}` }));
const ALICE = { user: '@alice:interop.example' as UserId, device: 'D' as DeviceId };

describe.skipIf(!hasCoapClient)(`libcoap's client (skipped where ${COAP_CLIENT} is not installed)`, () => {
  let folder: string;
  let base: string;
  let app: FastifyInstance;
  let socket: ExchangeSocket;
  let puts: JsonValue[];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'ravine-libcoap-'));
    puts = [];
    const codec = { encode: encodeJson, decode: decodeJson };
    app = createApp({
      clock: systemClock,
      cbor: codec,
      authenticate: async (token) => (token === 'good' ? ALICE : undefined),
    });
    versionRoutes(app);
    app.get('/whoami', { config: { auth: 'device' } }, async (request) => request.requester);
    app.get('/large', { config: { auth: 'none' } }, async () => LARGE);
    app.get('/echo/:name', { config: { auth: 'none' } }, async (request) => ({
      params: request.params,
      query: request.query,
    }));
    app.put('/large', { config: { auth: 'device' } }, async (request) => {
      puts.push(request.body as JsonValue);
      return { entries: (request.body as JsonValue[]).length };
    });
    const link = await openUdpLink({ host: '127.0.0.1', port: 0 });
    base = `coap://${link.address}`;
    socket = new ExchangeSocket({
      link,
      clock: systemClock,
      random: systemRandom,
      identity: createIdentity({
        serverName: 'interop.example',
        noiseSecret: seededRandom(1).bytes(32),
        signingKeyId: 'ed25519:1',
        signingSecret: seededRandom(2).bytes(32),
        serial: 1,
      }),
      trust: { decide: async () => ({ trusted: false, reason: 'nobody' }) },
      plain: 'loopback',
    });
    await openCoapDoor(app, socket, codec);
  });

  afterAll(async () => {
    await socket.close();
    await app.close();
    rmSync(folder, { recursive: true });
  });

  const coap = (...args: string[]): Promise<CoapAnswer> => coapClient(base, folder, ...args);

  const cbor = (bytes: Uint8Array): JsonValue => {
    const decoded = decodeJson(bytes);
    if (!decoded.ok) throw new Error(decoded.problem);
    return decoded.value;
  };
  const jsonText = (bytes: Uint8Array): JsonValue => JSON.parse(Buffer.from(bytes).toString()) as JsonValue;

  test('gets the versions, in CBOR where it does not say otherwise and in JSON where it does', async () => {
    const versions = {
      versions: expect.arrayContaining(['v1.1']),
      unstable_features: expect.any(Object),
    };
    expect(cbor((await coap('/_matrix/client/versions')).body)).toEqual(versions);
    expect(cbor((await coap('-A', '60', '/_matrix/client/versions')).body)).toEqual(versions);
    expect(jsonText((await coap('-A', '50', '/_matrix/client/versions')).body)).toEqual(versions);
  });

  test('finds what is there', async () => {
    expect(Buffer.from((await coap('/.well-known/core')).body).toString()).toBe(
      '</_matrix/client/versions>;rt="matrix";ct="50 60"',
    );
  });

  test('has its path and query understood', async () => {
    const { body } = await coap('-A', '50', '/echo/%21room%3Aa%2Fb?from=a%20b%26c&dir=b');
    expect(jsonText(body)).toEqual({ params: { name: '!room:a/b' }, query: { from: 'a b&c', dir: 'b' } });
  });

  test('gets the Matrix error beside the code', async () => {
    const wrong = await coap('-A', '50', '-O', '256,wrong', '/whoami');
    expect(wrong.code).toBe('4.01');
    expect(wrong.said).toContain('M_UNKNOWN_TOKEN');
    const missing = await coap('-A', '50', '/whoami');
    expect(missing.code).toBe('4.01');
    expect(missing.said).toContain('M_MISSING_TOKEN');
    const nowhere = await coap('-A', '50', '/nowhere');
    expect(nowhere.code).toBe('4.04');
    expect(nowhere.said).toContain('M_UNRECOGNIZED');
  });

  test('is let in with its token', async () => {
    expect(jsonText((await coap('-A', '50', '-O', '256,good', '/whoami')).body)).toEqual(ALICE);
  });

  test.each([[], ['-b', '64'], ['-b', '256']])('gets a large answer in blocks (%s %s)', async (...block) => {
    const blocks = socket.counters.plain.blocksOut;
    expect(cbor((await coap(...block, '/large')).body)).toEqual(LARGE);
    expect(socket.counters.plain.blocksOut).toBeGreaterThan(blocks + 50);
  });

  test.each([[], ['-b', '64'], ['-b', '512']])(
    'puts a large request in blocks, once (%s %s)',
    async (...block) => {
      const file = join(folder, 'in');
      writeFileSync(file, encodeJson(LARGE));
      const before = puts.length;
      const { body } = await coap(...block, '-m', 'put', '-t', '60', '-O', '256,good', '-f', file, '/large');
      expect(cbor(body)).toEqual({ entries: LARGE.length });
      expect(puts.slice(before)).toEqual([LARGE]);
    },
  );

  test('may lose datagrams on the way', async () => {
    const before = puts.length;
    const file = join(folder, 'in');
    const text = JSON.stringify(LARGE.slice(0, 200));
    writeFileSync(file, text);
    // The second and the fifth datagram that it sends.
    const { body } = await coap('-l', '2,5', '-m', 'put', '-t', '50', '-O', '256,good', '-f', file, '/large');
    expect(jsonText(body)).toEqual({ entries: 200 });
    expect(puts).toHaveLength(before + 1);
  });

  test('gets a Matrix error for a payload that is none', async () => {
    const { code, said } = await coap(
      '-m',
      'put',
      '-t',
      '50',
      '-A',
      '50',
      '-O',
      '256,good',
      '-e',
      '%7Bnot json',
      '/large',
    );
    expect(code).toBe('4.00');
    expect(said).toContain('M_NOT_JSON');
  });
});

import { describe, expect, it, test } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { openCoapDoor } from '../../src/doors/coap.ts';
import type { Caller } from '../../src/exchange/request.ts';
import { isSecret } from '../../src/exchange/secret_routes.ts';
import type { RequestHandler } from '../../src/exchange/serving.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { NetworkConfig } from '../../src/pipe/network.ts';
import { FAST, put, World } from '../exchange/world.ts';

const get = (path: string, authorization?: string) => ({
  ...{ method: 'GET', path, query: '' },
  ...(authorization === undefined ? {} : { authorization }),
});

describe('where everybody can read', () => {
  it.each([
    '/_matrix/client/v3/login',
    '/_matrix/client/r0/login/',
    '/_matrix/client/v3//login',
    '/_matrix/client/v3/log%69n',
    '/_matrix/client/v3/login%2Fsso',
    '/_matrix/client/v3/keys/upload',
    '/_matrix/client/v3/room_keys/version',
    '/_matrix/client/v3/sendToDevice/m.room_key/1',
    '/_matrix/client/v3/account/password',
    '/_matrix/client/v3/devices/PHONE',
    '/_matrix/client/v3/voip/turnServer',
    '/_matrix/client/v3/user/@a:b/openid/request_token',
    '/_matrix/federation/v1/user/keys/claim',
    '/_matrix/federation/v1/user/devices/@a:b',
    '/_synapse/admin/v1/register',
    '/_matrix/client/v1/login/get_token',
    '/_matrix/client/v3/%',
  ])('%s is secret', (path) => {
    expect(isSecret(get(path))).toBe(true);
  });

  it.each([
    '/_matrix/client/versions',
    '/_matrix/client/v3/rooms/!keys:b/send/m.room.message/login',
    '/_matrix/client/v3/user/@openid:b/filter',
    '/_matrix/federation/v1/send/1',
    '/_matrix/federation/v1/version',
    '/_matrix/key/v2/server',
    '/.well-known/core',
  ])('%s is not', (path) => {
    expect(isSecret(get(path))).toBe(false);
    expect(isSecret(get(path, 'Bearer token'))).toBe(true);
  });

  it('the door refuses what is secret, and lets everything through that comes another way', async () => {
    const cbor = { encode: encodeJson, decode: decodeJson };
    const app = createApp({ clock: new VirtualClock(), cbor, authenticate: async () => undefined });
    const path = '/_matrix/client/v3/login';
    app.get(path, { config: { auth: 'none' } }, async () => ({ flows: [] }));
    let handle: RequestHandler | undefined;
    await openCoapDoor(app, { onRequest: (given) => (handle = given) }, cbor);
    const ask = (caller: Caller) => handle!(caller, get(path), new AbortController().signal);
    const name = 'a.example' as ServerName;
    const device = { kind: 'device', key: 'a'.repeat(64), address: 'a:1' } as const;
    for (const caller of [{ kind: 'server', name } as const, device]) {
      expect(await ask({ ...caller, mode: 'authenticated-only' })).toMatchObject({
        status: 403,
        body: { value: { errcode: 'M_FORBIDDEN' } },
      });
      expect(await ask(caller)).toMatchObject({ status: 200 });
    }
    await app.close();
  });
});

test('a request through a readable pipe has its mode in the caller and in every line of the log', async () => {
  const world = new World(1);
  const lines: object[] = [];
  const line = (fields: object): void => void lines.push(fields);
  const log = { debug: line, warn: line, error: line };
  const network: NetworkConfig = { mode: 'authenticated-only', station: 'DL1ABC' };
  world.connect('a', 'b', FAST);
  const a = world.start('a', FAST, { network, log });
  const b = world.start('b', FAST, { network, log });
  const asked = a.socket.request(b.name, b.address, put('readable'), { timeoutMs: 60_000, priority: 1 });
  expect(await world.time.until(asked, 60_000)).toMatchObject({ status: 200 });
  expect(b.handled[0]!.caller).toEqual({ kind: 'server', name: 'a.example', mode: 'authenticated-only' });
  expect(lines.length).toBeGreaterThan(1);
  for (const fields of lines) expect(fields).toMatchObject({ mode: 'authenticated-only' });
});

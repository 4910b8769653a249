import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { completeConfig } from '../../src/server/config.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { COAP_CLIENT, type CoapAnswer, coapClient, hasCoapClient } from './coap_client.ts';

/* One complete server; the same requests as JSON and CBOR over HTTP and through plain CoAP from libcoap's client. */

let folder: string;
let server: RunningServer;
let url: string;
let token: string;
let room: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ravine-doors-'));
  const config = {
    server_name: 'doors.test',
    registration: 'open',
    log: { level: 'silent' },
    http: { listen: [{ host: '127.0.0.1', port: 0 }] },
    coap: { port: 0 },
  };
  server = await openServer(completeConfig(config, folder));
  url = `http://127.0.0.1:${server.http[0]!.port}`;
  const account = { username: 'alice', password: 'a long password', auth: { type: 'm.login.dummy' } };
  token = String((await http('POST', '/_matrix/client/v3/register', account)).value.access_token);
  room = String((await http('POST', '/_matrix/client/v3/createRoom', {})).value.room_id);
});

afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A request over HTTP, with JSON or CBOR both ways. */
async function http(
  method: string,
  path: string,
  body?: JsonObject,
  type = 'application/json',
): Promise<{ status: number; type: string | null; value: JsonObject }> {
  const encode = (value: JsonObject) =>
    type === 'application/json' ? JSON.stringify(value) : encodeJson(value);
  const response = await fetch(url + path, {
    method,
    headers: {
      accept: type,
      'content-type': type,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
    ...(body === undefined ? {} : { body: encode(body) as string | Buffer<ArrayBuffer> }),
  });
  const bytes = new Uint8Array(await response.arrayBuffer());
  return {
    status: response.status,
    type: response.headers.get('content-type'),
    value: (type === 'application/json' ? json(bytes) : cbor(bytes)) as JsonObject,
  };
}

const json = (bytes: Uint8Array): JsonValue => JSON.parse(new TextDecoder().decode(bytes)) as JsonValue;

function cbor(bytes: Uint8Array): JsonValue {
  const decoded = decodeJson(bytes);
  if (!decoded.ok) throw new Error(decoded.problem);
  return decoded.value;
}

const sendPath = (txn: string): string =>
  `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/m.room.message/${txn}`;

describe('a CBOR body over HTTP', () => {
  it('does what the JSON body does, and is answered in CBOR', async () => {
    const sent = await http(
      'PUT',
      sendPath('cbor'),
      { msgtype: 'm.text', body: 'as CBOR' },
      'application/cbor',
    );
    expect(sent).toMatchObject({ status: 200, type: expect.stringContaining('application/cbor') });
    const again = await http('PUT', sendPath('cbor'), { msgtype: 'm.text', body: 'as CBOR' });
    expect(again.value).toEqual(sent.value);
    const event = await http(
      'GET',
      `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/event/${encodeURIComponent(String(sent.value.event_id))}`,
    );
    expect(event.value.content).toEqual({ msgtype: 'm.text', body: 'as CBOR' });
  });

  it('is refused with M_NOT_JSON where it is malformed', async () => {
    const response = await fetch(url + sendPath('bad'), {
      method: 'PUT',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/cbor' },
      body: new Uint8Array([0xa1, 0x61]),
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ errcode: 'M_NOT_JSON' });
  });
});

describe.skipIf(!hasCoapClient)(
  `libcoap's client on the whole server (skipped where ${COAP_CLIENT} is not installed)`,
  () => {
    const coap = (...args: string[]): Promise<CoapAnswer> =>
      coapClient(`coap://${server.udp}`, folder, ...args);

    it('gets what HTTP gets from /versions', async () => {
      const { value } = await http('GET', '/_matrix/client/versions');
      expect(json((await coap('-A', '50', '/_matrix/client/versions')).body)).toEqual(value);
      expect(cbor((await coap('/_matrix/client/versions')).body)).toEqual(value);
    });

    it('asks who it is with its token, and sees M_UNKNOWN_TOKEN for a wrong one', async () => {
      const who = await coap('-A', '50', '-O', `256,${token}`, '/_matrix/client/v3/account/whoami');
      expect(json(who.body)).toMatchObject({ user_id: '@alice:doors.test' });
      const wrong = await coap('-A', '50', '-O', '256,wrong', '/_matrix/client/v3/account/whoami');
      expect(wrong.code).toBe('4.01');
      expect(wrong.said).toContain('M_UNKNOWN_TOKEN');
    });

    it('sends a message that arrives in the room, once', async () => {
      const file = join(folder, 'message.cbor');
      writeFileSync(file, encodeJson({ msgtype: 'm.text', body: 'from libcoap' }));
      const send = () =>
        coap('-m', 'put', '-t', '60', '-A', '50', '-O', `256,${token}`, '-f', file, sendPath('libcoap'));
      const first = json((await send()).body) as JsonObject;
      expect(json((await send()).body)).toEqual(first);
      const { value } = await http(
        'GET',
        `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/messages?dir=b&limit=20`,
      );
      const found = (value.chunk as JsonObject[]).filter(
        ({ content }) => (content as JsonObject).body === 'from libcoap',
      );
      expect(found.map(({ event_id }) => event_id)).toEqual([first.event_id]);
    });
  },
);

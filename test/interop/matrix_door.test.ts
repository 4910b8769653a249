import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { fromUtf8 } from '../../src/base/bytes.ts';
import { OPTION, uintOption } from '../../src/coap/options.ts';
import { decodeJson } from '../../src/compact/cbor.ts';
import { completeConfig } from '../../src/server/config.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { AiocoapClient, installAiocoap } from './aiocoap_peer.ts';
import { COAP_CLIENT, hasCoapClient } from './coap_client.ts';
import { LibcoapClient } from './libcoap_peer.ts';
import { NodeCoapClient } from './node_coap_peer.ts';
import type { PeerClient } from './peers.ts';

/* One complete server, and CoAP clients of three makes at the door of its Matrix API. */

const noAiocoap = await installAiocoap();
const VERSIONS = { versions: expect.arrayContaining(['v1.1']), unstable_features: expect.any(Object) };

let folder: string;
let server: RunningServer;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ravine-door-'));
  const config = {
    server_name: 'door.test',
    log: { level: 'silent' },
    http: { listen: [] },
    coap: { port: 0 },
  };
  server = await openServer(completeConfig(config, folder));
});

afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function getsTheVersions(client: PeerClient): Promise<void> {
  try {
    const get = { method: 'GET', target: '/_matrix/client/versions' } as const;
    const asCbor = await client.request(server.udp!, get);
    expect(asCbor.code).toBe('2.05');
    expect(decodeJson(asCbor.payload)).toEqual({ ok: true, value: VERSIONS });
    const asJson = await client.request(server.udp!, { ...get, options: [uintOption(OPTION.accept, 50)] });
    expect(JSON.parse(fromUtf8(asJson.payload)!)).toEqual(VERSIONS);
    const unknown = await client.request(server.udp!, { method: 'GET', target: '/_matrix/client/nowhere' });
    expect(unknown.code).toBe('4.04');
  } finally {
    await client.stop();
  }
}

it.skipIf(!hasCoapClient)(`libcoap gets the versions (skipped where ${COAP_CLIENT} is not installed)`, () =>
  getsTheVersions(new LibcoapClient()),
);
it.skipIf(noAiocoap !== undefined)(
  'aiocoap gets the versions (skipped where python3, venv or its registry is missing)',
  () => getsTheVersions(new AiocoapClient()),
);
it('node-coap gets the versions', () => getsTheVersions(new NodeCoapClient()));

it.runIf(process.env.CI)('has every peer where everything has to run', () => {
  expect(hasCoapClient).toBe(true);
  expect(noAiocoap).toBeUndefined();
});

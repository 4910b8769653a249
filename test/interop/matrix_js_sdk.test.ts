import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  ClientEvent,
  createClient,
  type MatrixClient,
  type MatrixEvent,
  Preset,
  RoomEvent,
  SyncState,
} from 'matrix-js-sdk';
import type { Logger } from 'matrix-js-sdk/lib/logger.js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { throwawayAuthority } from '../../src/mesh/authority.ts';
import { completeConfig, type PartialConfig } from '../../src/server/config.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { freePort } from '../free_port.ts';

/*
 *   alice ──HTTP── alpha.test ══ pipe over UDP, or HTTPS ══ bravo.test ──HTTP── bob
 *
 * Two complete servers on loopback with real sockets and files, and the client library that Element is built on.
 */

/** The library logs every request. */
const quiet: Logger = {
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  getChild: () => quiet,
};

let folder: string;
const running = new Map<string, RunningServer>();
const clients: MatrixClient[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ravine-js-sdk-'));
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.stopClient();
  await Promise.all([...running.values()].map((server) => server.stop()));
  running.clear();
  rmSync(folder, { recursive: true, force: true });
});

async function start(name: string, config: PartialConfig): Promise<RunningServer> {
  const complete = completeConfig(
    {
      server_name: name,
      data: join(folder, name),
      log: { level: 'silent' },
      registration: 'open',
      ...config,
    },
    folder,
  );
  const server = await openServer(complete);
  running.set(name, server);
  return server;
}

async function stop(name: string): Promise<void> {
  await running.get(name)!.stop();
  running.delete(name);
}

/** Registers a user and starts a client that syncs. */
async function logIn(baseUrl: string, username: string): Promise<MatrixClient> {
  const password = 'a long enough password';
  const anonymous = createClient({ baseUrl, logger: quiet });
  const first = await anonymous
    .registerRequest({ username, password })
    .catch((error) => error.data as { session: string });
  const session = (first as { session: string }).session;
  await anonymous.registerRequest({
    username,
    password,
    inhibit_login: true,
    auth: { type: 'm.login.dummy', session },
  });
  const login = await anonymous.loginRequest({
    type: 'm.login.password',
    identifier: { type: 'm.id.user', user: username },
    password,
  });
  const client = createClient({
    baseUrl,
    logger: quiet,
    userId: login.user_id,
    accessToken: login.access_token,
    deviceId: login.device_id,
  });
  clients.push(client);
  const prepared = new Promise<void>((resolve) => {
    client.on(ClientEvent.Sync, (state) => {
      if (state === SyncState.Prepared) resolve();
    });
  });
  await client.startClient({ initialSyncLimit: 20 });
  await prepared;
  return client;
}

/** Resolves once `client` has a room for which `predicate` holds, looking again whenever something arrives. */
function eventually(client: MatrixClient, predicate: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (!predicate()) return;
      client.off(ClientEvent.Event, look);
      client.off(ClientEvent.Sync, look);
      client.off(RoomEvent.MyMembership, look);
      resolve();
    };
    client.on(ClientEvent.Event, look);
    client.on(ClientEvent.Sync, look);
    client.on(RoomEvent.MyMembership, look);
    look();
  });
}

function bodies(client: MatrixClient, room: string): string[] {
  const events: MatrixEvent[] = client.getRoom(room)?.getLiveTimeline().getEvents() ?? [];
  return events
    .filter((event) => event.getType() === 'm.room.message' && event.status === null)
    .map((event) => event.getContent().body as string);
}

/** Whether all of `texts` are in the client's timeline, each exactly once, in this order. */
function shows(client: MatrixClient, room: string, texts: readonly string[]): boolean {
  return JSON.stringify(bodies(client, room)) === JSON.stringify(texts);
}

/** Log in, create, invite, join, talk, restart bravo in the middle, talk on. */
async function conversation(
  alphaUrl: string,
  bravoUrl: string,
  restartBravo: () => Promise<void>,
): Promise<void> {
  const alice = await logIn(alphaUrl, 'alice');
  const bob = await logIn(bravoUrl, 'bob');
  const { room_id: room } = await alice.createRoom({ preset: Preset.PrivateChat, name: 'The ravine' });
  await alice.invite(room, bob.getUserId()!);
  await eventually(bob, () => bob.getRoom(room)?.getMyMembership() === 'invite');
  await bob.joinRoom(room);
  await eventually(alice, () => alice.getRoom(room)?.getMember(bob.getUserId()!)?.membership === 'join');
  await eventually(bob, () => bob.getRoom(room)?.getMyMembership() === 'join');
  expect(bob.getRoom(room)?.name).toBe('The ravine');

  const said: string[] = [];
  const say = async (who: MatrixClient, body: string): Promise<void> => {
    await who.sendTextMessage(room, body);
    said.push(body);
  };
  await say(alice, 'Hello from alpha');
  await eventually(bob, () => shows(bob, room, said));
  await say(bob, 'Hello from bravo');
  await eventually(alice, () => shows(alice, room, said));

  bob.stopClient();
  await stop('bravo.test');
  await say(alice, 'while you were away 1');
  await say(alice, 'while you were away 2');
  await restartBravo();
  const bobAgain = createClient({
    baseUrl: bravoUrl,
    logger: quiet,
    userId: bob.getUserId()!,
    accessToken: bob.getAccessToken()!,
    deviceId: bob.getDeviceId()!,
  });
  clients.push(bobAgain);
  await bobAgain.startClient({ initialSyncLimit: 20 });
  await eventually(bobAgain, () => shows(bobAgain, room, said));
  await say(bobAgain, 'I am back');
  await eventually(alice, () => shows(alice, room, said));
  await say(alice, 'Good');
  await eventually(bobAgain, () => shows(bobAgain, room, said));

  const ids = (client: MatrixClient): string[] =>
    client
      .getRoom(room)!
      .getLiveTimeline()
      .getEvents()
      .filter((event) => event.getType() === 'm.room.message')
      .map((event) => event.getId()!);
  expect(ids(bobAgain)).toEqual(ids(alice));
}

describe('matrix-js-sdk on two servers', () => {
  it('talks through a Noise pipe over UDP, and no HTTPS federation request is made', async () => {
    const [alphaHttp, bravoHttp, alphaUdp, bravoUdp] = [
      await freePort('tcp'),
      await freePort('tcp'),
      await freePort('udp'),
      await freePort('udp'),
    ];
    const alpha = await start('alpha.test', {
      http: { listen: [{ host: '127.0.0.1', port: alphaHttp }] },
      coap: { port: alphaUdp },
      federation: {
        peers: [{ server_name: 'bravo.test', address: `ravine://127.0.0.1:${bravoUdp}`, trust: 'tofu' }],
      },
    });
    const startBravo = (): Promise<RunningServer> =>
      start('bravo.test', {
        http: { listen: [{ host: '127.0.0.1', port: bravoHttp }] },
        coap: { port: bravoUdp },
        federation: {
          peers: [{ server_name: 'alpha.test', address: `ravine://127.0.0.1:${alphaUdp}`, trust: 'tofu' }],
        },
      });
    const firstBravo = await startBravo();
    await conversation(`http://127.0.0.1:${alphaHttp}`, `http://127.0.0.1:${bravoHttp}`, async () => {
      await startBravo();
    });
    const counters = [alpha, firstBravo, running.get('bravo.test')!].map(
      (server) => server.homeserver.counters().federation,
    );
    for (const { pipe, https } of counters) {
      expect(pipe).toBeGreaterThan(0);
      expect(https).toBe(0);
    }
  });

  it('talks over HTTPS where there is no pipe', async () => {
    const authority = await throwawayAuthority();
    const file = (name: string, pem: string): string => {
      const path = join(folder, name);
      writeFileSync(path, pem, { mode: 0o600 });
      return path;
    };
    const ca = file('ca.pem', authority.certificate);
    const ports = {
      alphaHttp: await freePort('tcp'),
      bravoHttp: await freePort('tcp'),
      alphaTls: await freePort('tcp'),
      bravoTls: await freePort('tcp'),
    };
    const side = async (
      name: string,
      http: number,
      tls: number,
      peer: string,
      peerTls: number,
    ): Promise<PartialConfig> => {
      const issued = await authority.issue(name);
      return {
        coap: { enabled: false },
        http: {
          listen: [
            { host: '127.0.0.1', port: http },
            {
              host: '127.0.0.1',
              port: tls,
              tls: { certificate: file(`${name}.pem`, issued.cert), key: file(`${name}.key`, issued.key) },
            },
          ],
        },
        federation: {
          peers: [{ server_name: peer, address: `https://127.0.0.1:${peerTls}` }],
          certificate_authorities: [ca],
        },
      };
    };
    const alphaConfig = await side(
      'alpha.test',
      ports.alphaHttp,
      ports.alphaTls,
      'bravo.test',
      ports.bravoTls,
    );
    const bravoConfig = await side(
      'bravo.test',
      ports.bravoHttp,
      ports.bravoTls,
      'alpha.test',
      ports.alphaTls,
    );
    const alpha = await start('alpha.test', alphaConfig);
    await start('bravo.test', bravoConfig);
    await conversation(
      `http://127.0.0.1:${ports.alphaHttp}`,
      `http://127.0.0.1:${ports.bravoHttp}`,
      async () => {
        await start('bravo.test', bravoConfig);
      },
    );
    expect(alpha.homeserver.counters().federation.pipe).toBe(0);
    expect(alpha.homeserver.counters().federation.https).toBeGreaterThan(0);
    expect(readFileSync(ca, 'utf8')).toContain('BEGIN CERTIFICATE');
  });
});

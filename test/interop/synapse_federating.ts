import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sleep, systemClock } from '../../src/base/time.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { throwawayAuthority } from '../../src/mesh/authority.ts';
import { completeConfig } from '../../src/server/config.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { freePort } from '../free_port.ts';
import { PeerProcess } from './peer_process.ts';
import { synapseEnvironment } from './synapse_rules_peer.ts';

const PROGRAM = join(import.meta.dirname, 'synapse_rules_server.py');
const START_MS = 90_000;
const LOOK_AGAIN_MS = 200;
const MANY = { per_second: 10_000, burst_count: 10_000 };

/** A user of one of the two servers. */
export interface Person {
  readonly id: string;
  /** @param path whole, or below /_matrix/client/v3 @throws where the status is no 2xx */
  ask(method: string, path: string, body?: JsonObject): Promise<JsonObject>;
}

/** A Ravine and a Synapse on loopback that federate over HTTPS, with certificates of an authority of their own. */
export class RavineAndSynapse {
  readonly ravine: string;
  readonly synapse: string;
  readonly #folder: string;
  readonly #ports: Readonly<Record<'ravineClients' | 'synapseClients', number>>;
  readonly #server: RunningServer;
  readonly #process: PeerProcess;

  private constructor(
    folder: string,
    names: { readonly ravine: string; readonly synapse: string },
    ports: Readonly<Record<'ravineClients' | 'synapseClients', number>>,
    server: RunningServer,
    process: PeerProcess,
  ) {
    this.#folder = folder;
    this.ravine = names.ravine;
    this.synapse = names.synapse;
    this.#ports = ports;
    this.#server = server;
    this.#process = process;
  }

  static async start(): Promise<RavineAndSynapse> {
    const folder = mkdtempSync(join(tmpdir(), 'ravine-synapse-'));
    const authority = await throwawayAuthority();
    const { cert, key } = await authority.issue('localhost');
    const file = (name: string, text: string): string => {
      const path = join(folder, name);
      writeFileSync(path, text, { mode: 0o600 });
      return path;
    };
    const ca = file('ca.pem', authority.certificate);
    const tls = { certificate: file('cert.pem', cert), key: file('key.pem', key) };
    const [ravine, ravineClients] = [await freePort('tcp'), await freePort('tcp')];
    const [synapse, synapseClients] = [await freePort('tcp'), await freePort('tcp')];
    const names = { ravine: `localhost:${ravine}`, synapse: `localhost:${synapse}` };
    const server = await openServer(
      completeConfig(
        {
          ...{ server_name: names.ravine, data: join(folder, 'ravine'), log: { level: 'silent' } },
          ...{ registration: 'open', limits: null, presence: { enabled: true }, coap: { enabled: false } },
          http: {
            listen: [
              { host: '127.0.0.1', port: ravineClients },
              { host: '127.0.0.1', port: ravine, tls },
            ],
          },
          federation: {
            peers: [{ server_name: names.synapse, address: `https://127.0.0.1:${synapse}` }],
            certificate_authorities: [ca],
          },
        },
        folder,
      ),
    );
    const process = await startSynapse(join(folder, 'synapse'), {
      server_name: names.synapse,
      listeners: [
        listener(synapseClients, false, ['client']),
        listener(synapse, true, ['client', 'federation']),
      ],
      tls_certificate_path: tls.certificate,
      tls_private_key_path: tls.key,
      federation_custom_ca_list: [ca],
      ip_range_blacklist: [],
      // Else who asks again is told the same for two minutes.
      caches: { sync_response_cache_duration: '0s' },
      allow_public_rooms_over_federation: true,
      room_list_publication_rules: [{ action: 'allow' }],
    });
    const both = new RavineAndSynapse(folder, names, { ravineClients, synapseClients }, server, process);
    await until(async () => {
      if (!process.running) throw new Error(`Synapse does not start: ${process.output.text()}`);
      return both.#call('synapse', 'GET', '/_matrix/client/versions').then(
        () => true,
        () => false,
      );
    });
    return both;
  }

  async person(at: 'ravine' | 'synapse', username: string): Promise<Person> {
    const body = { username, password: 'a long password 1', auth: { type: 'm.login.dummy' } };
    const made = await this.#call(at, 'POST', '/_matrix/client/v3/register', body);
    const token = String(made.access_token);
    return {
      id: String(made.user_id),
      ask: (method, path, content) =>
        this.#call(at, method, path.startsWith('/_') ? path : `/_matrix/client/v3${path}`, content, token),
    };
  }

  async stop(): Promise<void> {
    await this.#server.stop();
    await this.#process.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #call(
    at: 'ravine' | 'synapse',
    method: string,
    path: string,
    body?: JsonObject,
    token?: string,
  ): Promise<JsonObject> {
    const port = at === 'ravine' ? this.#ports.ravineClients : this.#ports.synapseClients;
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${at}: ${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text) as JsonObject;
  }
}

const listener = (port: number, tls: boolean, names: readonly string[]) => ({
  ...{ port, tls, bind_addresses: ['127.0.0.1'], type: 'http' },
  resources: [{ names }],
});

async function startSynapse(folder: string, config: object): Promise<PeerProcess> {
  const media = join(folder, 'media');
  mkdirSync(media, { recursive: true });
  const log = { version: 1, root: { level: 'ERROR' }, disable_existing_loggers: false };
  writeFileSync(join(folder, 'log.yaml'), JSON.stringify(log));
  const path = join(folder, 'homeserver.yaml');
  const whole = {
    ...{ pid_file: join(folder, 'pid'), log_config: join(folder, 'log.yaml'), media_store_path: media },
    database: { name: 'sqlite3', args: { database: join(folder, 'synapse.db') } },
    signing_key_path: join(folder, 'signing.key'),
    ...{ macaroon_secret_key: 'macaroon', registration_shared_secret: 'registration', form_secret: 'form' },
    ...{ report_stats: false, trusted_key_servers: [], suppress_key_server_warning: true },
    ...{ enable_registration: true, enable_registration_without_verification: true },
    ...{ rc_message: MANY, rc_registration: MANY, rc_room_creation: MANY },
    rc_login: { address: MANY, account: MANY },
    rc_joins: { local: MANY, remote: MANY },
    rc_invites: { per_room: MANY, per_user: MANY, per_issuer: MANY },
    rc_federation: {
      window_size: 1_000,
      sleep_limit: 10_000,
      sleep_delay: 1,
      reject_limit: 10_000,
      concurrent: 50,
    },
    ...config,
  };
  // YAML is a superset of JSON.
  writeFileSync(path, JSON.stringify(whole));
  const run = (...args: string[]): PeerProcess =>
    PeerProcess.start(synapseEnvironment.python, PROGRAM, ...args, '-c', path);
  const keys = run('--generate-keys');
  await until(async () => !keys.running);
  return run();
}

/** Waits until something is so. */
export async function until(condition: () => Promise<boolean>, what = 'it'): Promise<void> {
  const deadline = systemClock.monotonic() + START_MS;
  while (!(await condition())) {
    if (systemClock.monotonic() > deadline) throw new Error(`${what} takes too long`);
    await sleep(systemClock, LOOK_AGAIN_MS);
  }
}

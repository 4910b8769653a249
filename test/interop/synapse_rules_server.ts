import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { sleep, systemClock } from '../../src/base/time.ts';
import type { EventId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import type { Pdu } from '../../src/matrix/pdu.ts';
import { freePort } from '../free_port.ts';
import { PeerProcess } from './peer_process.ts';
import { synapseEnvironment } from './synapse_rules_peer.ts';

const PROGRAM = join(import.meta.dirname, 'synapse_rules_server.py');
const NAME = 'synapse.test';
const START_MS = 60_000;
const LOOK_AGAIN_MS = 200;
const MANY = { per_second: 10_000, burst_count: 10_000 };

/** An event as Synapse keeps it. */
export interface KeptEvent {
  readonly id: EventId;
  readonly pdu: Pdu;
  readonly rejected: boolean;
}

/** A Synapse of its own on loopback, with whom nobody federates. */
export class SynapseServer {
  readonly #folder: string;
  readonly #process: PeerProcess;
  readonly #url: string;

  private constructor(folder: string, process: PeerProcess, url: string) {
    this.#folder = folder;
    this.#process = process;
    this.#url = url;
  }

  /** @param folder of its own, which exists */
  static async start(folder: string): Promise<SynapseServer> {
    const port = await freePort('tcp');
    const media = join(folder, 'media');
    mkdirSync(media);
    const config = {
      server_name: NAME,
      pid_file: join(folder, 'pid'),
      listeners: [{ port, bind_addresses: ['127.0.0.1'], type: 'http', resources: [{ names: ['client'] }] }],
      database: { name: 'sqlite3', args: { database: join(folder, 'synapse.db') } },
      media_store_path: media,
      signing_key_path: join(folder, 'signing.key'),
      macaroon_secret_key: 'macaroon',
      registration_shared_secret: 'registration',
      form_secret: 'form',
      report_stats: false,
      trusted_key_servers: [],
      enable_registration: true,
      enable_registration_without_verification: true,
      rc_message: MANY,
      rc_registration: MANY,
      rc_room_creation: MANY,
      rc_login: { address: MANY, account: MANY },
      rc_joins: { local: MANY },
      rc_invites: { per_room: MANY, per_user: MANY, per_issuer: MANY },
    };
    const path = join(folder, 'homeserver.yaml');
    // YAML is a superset of JSON. Elsewhere Synapse would make the log's configuration in the current folder.
    const log = { version: 1, root: { level: 'ERROR' }, disable_existing_loggers: false };
    writeFileSync(join(folder, 'log.yaml'), JSON.stringify(log));
    writeFileSync(path, JSON.stringify({ ...config, log_config: join(folder, 'log.yaml') }));
    const run = (...args: string[]): PeerProcess =>
      PeerProcess.start(synapseEnvironment.python, PROGRAM, ...args, '-c', path);
    const keys = run('--generate-keys');
    await until(() => !keys.running);
    const process = run();
    const server = new SynapseServer(folder, process, `http://127.0.0.1:${port}`);
    await until(async () => {
      if (!process.running) throw new Error(`Synapse does not start: ${process.output.text()}`);
      return server.#ask('GET', '/_matrix/client/versions').then(
        () => true,
        () => false,
      );
    });
    return server;
  }

  /** @returns the user's token */
  async register(username: string): Promise<string> {
    const body = { username, password: 'password', auth: { type: 'm.login.dummy' } };
    return (await this.#ask('POST', '/_matrix/client/v3/register', undefined, body)).access_token as string;
  }

  /** A request of the client-server API, which has to succeed. */
  client(method: string, path: string, token: string, body: JsonObject = {}): Promise<JsonObject> {
    return this.#ask(method, `/_matrix/client/v3${path}`, token, method === 'GET' ? undefined : body);
  }

  /** All events of a room, in the order in which they came to be. */
  events(room: string): KeptEvent[] {
    const database = new DatabaseSync(join(this.#folder, 'synapse.db'), { readOnly: true });
    const rows = database
      .prepare(
        `SELECT j.event_id AS id, j.json AS json, r.event_id IS NOT NULL AS rejected FROM event_json j
         JOIN events e USING (event_id) LEFT JOIN rejections r USING (event_id)
         WHERE j.room_id = ? ORDER BY e.stream_ordering`,
      )
      .all(room) as unknown as { id: EventId; json: string; rejected: number }[];
    database.close();
    return rows.map(({ id, json, rejected }) => ({
      id,
      pdu: JSON.parse(json) as Pdu,
      rejected: rejected !== 0,
    }));
  }

  stop(): Promise<void> {
    return this.#process.stop();
  }

  async #ask(method: string, path: string, token?: string, body?: JsonObject): Promise<JsonObject> {
    const response = await fetch(this.#url + path, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return JSON.parse(text) as JsonObject;
  }
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = systemClock.monotonic() + START_MS;
  while (!(await condition())) {
    if (systemClock.monotonic() > deadline) throw new Error('Synapse takes too long');
    await sleep(systemClock, LOOK_AGAIN_MS);
  }
}

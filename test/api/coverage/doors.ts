import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fromUtf8, utf8 } from '../../../src/base/bytes.ts';
import { seededRandom } from '../../../src/base/random.ts';
import { VirtualTime } from '../../../src/base/virtual_time.ts';
import { decodeJson, encodeJson } from '../../../src/compact/cbor.ts';
import { CoapSocket } from '../../../src/exchange/coap_socket.ts';
import { ALL_LAYERS, type Layers } from '../../../src/exchange/layers.ts';
import { plainCodec } from '../../../src/exchange/plain_codec.ts';
import type { Body } from '../../../src/exchange/request.ts';
import type { Web } from '../../../src/homeserver/media/ports.ts';
import { SimulatedNetwork } from '../../../src/link/simulated.ts';
import type { ServerName } from '../../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../../src/matrix/json.ts';
import type { PartialConfig } from '../../../src/server/config.ts';
import { startEphemeral } from '../../../src/server/ephemeral.ts';
import type { Homeserver } from '../../../src/server/homeserver.ts';
import { DeviceClient } from '../../exchange/device_client.ts';
import { FAST } from '../../exchange/world.ts';
import { MemoryHttps } from './memory_https.ts';
import { NOT_SERVED, nameOf, operationOf, SERVED } from './operations.ts';
import { PEER, Peer } from './peer.ts';

/*
 * The same test through each door of one homeserver, in virtual time and without a socket of the system:
 *
 *   HTTPS, JSON   TLS and HTTP in memory        CoAP   datagrams, CBOR in them, an access token in an option
 *   HTTPS, CBOR   the same, CBOR both ways      pipe   a device's Noise pipe, no token, short forms of bodies
 *
 * Which operations have been answered with a 2xx through which door is noted by the way: see coverage.test.ts.
 */

export const DOORS = ['HTTPS, JSON', 'HTTPS, CBOR', 'CoAP', 'pipe'] as const;
export type DoorName = (typeof DOORS)[number];

export const SERVER = 'home.example' as ServerName;
const PATIENCE_MS = 60 * 60_000;
/** Between two accounts: at the rate to which one address is held there are never too many. */
const BETWEEN_ACCOUNTS_MS = 2_000;
/** Of one user, whatever the test is about. */
export const PASSWORD = 'through the looking glass';
/** In virtual time. */
const REQUEST_TIMEOUT_MS = 10 * 60_000;

export interface Answer {
  readonly status: number;
  /** Whatever JSON was answered: an object as a rule, and an empty one where nothing was. */
  readonly body: JsonObject;
  /** What was answered where it is no JSON. */
  readonly bytes?: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
}

/** Somebody who asks the server through one door. */
export interface Asker {
  /**
   * @param path as in a request line, with the query; whole, or below /_matrix/client/v3
   * @param body JSON; what is undefined in it is left out
   */
  ask(method: string, path: string, body?: object | JsonValue): Promise<Answer>;
  /** The same without letting time pass: for what goes on while something else happens. See `Door.until`. */
  begin(method: string, path: string, body?: object | JsonValue): Promise<Answer>;
  /** As `ask`, with a file. @param headers over HTTP only */
  send(
    method: string,
    path: string,
    file?: SentFile,
    headers?: Readonly<Record<string, string>>,
  ): Promise<Answer>;
}

/** A file that is sent in the place of JSON. */
export type SentFile = Extract<Body, { kind: 'bytes' }>;

/** A user who is logged in on one device, through the door that it was asked for. */
export interface User extends Asker {
  readonly id: string;
  readonly localpart: string;
  readonly device: string;
  /** Its access token; through the pipe, where the device's key is what counts, undefined. */
  readonly token: string | undefined;
}

/** One way into the server, and everything that a test needs of it. */
export interface Door {
  readonly name: DoorName;
  readonly server: Homeserver;
  readonly time: VirtualTime;
  /** A new account, logged in. @param name its localpart begins with it; it is another one in each test */
  user(name?: string): Promise<User>;
  /** Logs that user in on another device, through this door. */
  again(user: User, device?: string): Promise<User>;
  /** Somebody without an account, or with just this access token. */
  stranger(token?: string): Asker;
  /** Another server, away.example: through the pipe as itself, else with signed requests. */
  peer(): Asker & Pick<Peer, 'sign' | 'files'>;
  /** Lets time pass until it settles. */
  until<T>(outcome: Promise<T>): Promise<T>;
  /** Lets so many milliseconds pass. */
  pass(ms: number): Promise<void>;
}

type Ask = (
  method: string,
  path: string,
  body: JsonValue | undefined,
  file?: SentFile,
  headers?: Readonly<Record<string, string>>,
) => Promise<Answer>;

/**
 * Starts a server for one test file, and checks at its end that each operation which the list of served operations
 * names this file for has succeeded through each door.
 * @param url import.meta.url of the test file
 * @param config besides: open registration, and nothing in the log
 * @param layers of what crosses pipes; without forms, for tests that ask as another server
 * @param web what the server sees of it
 */
export function doorsOf(
  url: string,
  config: PartialConfig = {},
  layers: Layers = ALL_LAYERS,
  web: Web | undefined = undefined,
) {
  const file = url.split('/test/api/').at(-1) ?? basename(url);
  const record = new Successes();
  let world: World;
  beforeAll(async () => {
    world = await World.start(config, layers, record, web);
  });
  afterAll(async () => {
    await world.close();
    record.check(file);
  });

  /** A test once for each door. */
  const eachDoor = (title: string, run: (door: Door) => Promise<void>): void => {
    test.each(DOORS)(`${title} (%s)`, (name) => run(world.door(name)));
  };
  return { eachDoor, door: (name: DoorName): Door => world.door(name) };
}

/** Which operations were answered with a 2xx, and through which doors. */
class Successes {
  readonly #doors = new Map<string, Set<DoorName>>();

  note(door: DoorName, method: string, path: string, status: number): void {
    const operation = status >= 200 && status <= 299 ? operationOf(method, path) : undefined;
    if (operation === undefined) return;
    const name = nameOf(operation);
    const doors = this.#doors.get(name) ?? new Set();
    this.#doors.set(name, doors.add(door));
  }

  check(file: string): void {
    const mine = [...SERVED].filter(([, shown]) => shown === file).map(([name]) => name);
    const missing = mine.flatMap((name) =>
      DOORS.filter((door) => this.#doors.get(name)?.has(door) !== true).map(
        (door) => `${name} through ${door}`,
      ),
    );
    expect(missing, `served.tsv says that ${file} shows these to succeed`).toEqual([]);
    const denied = [...this.#doors.keys()].filter((name) => NOT_SERVED.has(name));
    expect(denied, 'these are not served, says not_served.tsv, and have just been answered').toEqual([]);
  }
}

/** One homeserver, and its clients. */
class World {
  readonly time = new VirtualTime();
  readonly #record: Successes;
  readonly #folder = mkdtempSync(join(tmpdir(), 'ravine-api-'));
  readonly #network: SimulatedNetwork;
  readonly #devices: DeviceClient[] = [];
  #server!: Homeserver;
  #https!: MemoryHttps;
  #peer!: Peer;
  #coap!: CoapSocket;
  #users = 0;

  private constructor(record: Successes) {
    this.#record = record;
    this.#network = new SimulatedNetwork({ clock: this.time.clock, random: seededRandom(1) });
  }

  static async start(
    config: PartialConfig,
    layers: Layers,
    record: Successes,
    web: Web | undefined,
  ): Promise<World> {
    const world = new World(record);
    const { clock, work } = world.time;
    world.#server = await world.until(
      startEphemeral({
        ...{ clock, work, folder: world.#folder },
        random: seededRandom(2),
        config: {
          ...config,
          server_name: SERVER,
          coap: { ...config.coap, plain: 'trusted' },
          federation: { peers: [{ server_name: PEER, address: 'ravine://away', trust: 'tofu' }] },
        },
        layers,
        web,
        link: world.#network.join('home', FAST),
      }),
    );
    world.#https = await MemoryHttps.open(world.#server.app);
    world.#network.connect('plain', 'home', { rate: null, latency: 0 });
    world.#coap = new CoapSocket({
      ...{ clock, random: seededRandom(3) },
      link: world.#network.join('plain', FAST),
    });
    world.#network.connect('away', 'home', { rate: null, latency: 0 });
    const link = world.#network.join('away', FAST);
    world.#peer = new Peer({ link, clock, random: seededRandom(4) });
    return world;
  }

  async close(): Promise<void> {
    this.#https.close();
    await this.until(this.#coap.close());
    await this.until(this.#peer.socket.close());
    for (const { socket } of this.#devices) await this.until(socket.close());
    await this.until(this.#server.stop());
    rmSync(this.#folder, { recursive: true, force: true });
  }

  until<T>(outcome: Promise<T>): Promise<T> {
    return this.time.until(outcome, PATIENCE_MS);
  }

  door(name: DoorName): Door {
    return {
      name,
      server: this.#server,
      time: this.time,
      user: (localpart = 'user') => this.#user(name, `${localpart}-${this.#users++}`),
      again: (user, device) => this.#logIn(name, user.localpart, device),
      stranger: (token) => this.#asker(name, this.#way(name, token)),
      peer: () => ({
        ...this.#asker(name, this.#peerWay(name)),
        sign: (template, version) => this.#peer.sign(template, version),
        files: this.#peer.files,
      }),
      until: (outcome) => this.until(outcome),
      pass: (ms) => this.time.pass(ms),
    };
  }

  async #user(door: DoorName, localpart: string): Promise<User> {
    await this.time.pass(BETWEEN_ACCOUNTS_MS);
    await this.until(this.#server.accounts.create(localpart, PASSWORD));
    return this.#logIn(door, localpart);
  }

  async #logIn(door: DoorName, localpart: string, device?: string): Promise<User> {
    await this.time.pass(BETWEEN_ACCOUNTS_MS);
    if (door === 'pipe') {
      const client = this.#device();
      const answer = await this.until(client.logIn(localpart, PASSWORD, device));
      const { user_id: id, device_id: known } = bodyOf(answer.body).body;
      const asker = this.#asker(door, pipeWay(client));
      return { ...asker, id: String(id), localpart, device: String(known), token: undefined };
    }
    const { status, body } = await this.#asker(door, this.#way(door)).ask('POST', '/login', {
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user: localpart },
      password: PASSWORD,
      ...(device !== undefined && { device_id: device }),
    });
    expect(status, JSON.stringify(body)).toBe(200);
    const token = String(body.access_token);
    const asker = this.#asker(door, this.#way(door, token));
    return { ...asker, id: String(body.user_id), localpart, device: String(body.device_id), token };
  }

  /** A device with a key of its own. */
  #device(): DeviceClient {
    const number = this.#devices.length;
    const address = `device-${number}`;
    this.#network.connect(address, 'home', { rate: null, latency: 0 });
    const device = new DeviceClient({
      link: this.#network.join(address, FAST),
      clock: this.time.clock,
      random: seededRandom(2_000 + number),
      secret: seededRandom(3_000 + number).bytes(32),
      server: SERVER,
      address: 'home',
    });
    this.#devices.push(device);
    return device;
  }

  #asker(door: DoorName, way: Ask): Asker {
    const begin: Asker['begin'] = async (method, path, body) => {
      const whole = /^\/(_|\.well-known)/.test(path) ? path : `/_matrix/client/v3${path}`;
      const json = body === undefined ? undefined : (JSON.parse(JSON.stringify(body)) as JsonValue);
      const answer = await way(method, whole, json);
      this.#record.note(door, method, whole, answer.status);
      return answer;
    };
    const send: Asker['send'] = async (method, path, file, headers) => {
      const answer = await this.until(way(method, path, undefined, file, headers));
      this.#record.note(door, method, path, answer.status);
      return answer;
    };
    return { begin, send, ask: (...request) => this.until(begin(...request)) };
  }

  #way(door: DoorName, token?: string): Ask {
    const authorization = token === undefined ? undefined : `Bearer ${token}`;
    if (door === 'pipe') return pipeWay(this.#device(), authorization);
    return this.#openWay(door, authorization);
  }

  /** Through a door that proves nobody. */
  #openWay(door: Exclude<DoorName, 'pipe'>, authorization: string | undefined): Ask {
    if (door === 'CoAP') return coapWay(this.#coap, authorization);
    return httpsWay(this.#https, door === 'HTTPS, CBOR', authorization);
  }

  #peerWay(door: DoorName): Ask {
    return async (method, path, body) => {
      if (door !== 'pipe') {
        const authorization = this.#peer.authorization(SERVER, method, path, body);
        return this.#openWay(door, authorization)(method, path, body);
      }
      const response = await this.#peer.socket.request(
        SERVER,
        'home',
        {
          method,
          ...targetOf(path),
          ...(body !== undefined && { body: { kind: 'json', value: body } as const }),
        },
        { timeoutMs: REQUEST_TIMEOUT_MS, priority: 1 },
      );
      const { status, headers } = response;
      return { status, headers, ...bodyOf(response.body) };
    };
  }
}

const httpsWay =
  (https: MemoryHttps, isCbor: boolean, authorization: string | undefined): Ask =>
  async (method, path, body, file, besides) => {
    const type = isCbor ? 'application/cbor' : 'application/json';
    const json = body === undefined ? undefined : isCbor ? encodeJson(body) : utf8(JSON.stringify(body));
    const written = file?.bytes ?? json;
    const headers = {
      accept: type,
      ...(authorization !== undefined && { authorization }),
      ...(written !== undefined && {
        'content-type': file?.contentType ?? type,
        'content-length': String(written.length),
      }),
      ...besides,
    };
    const { status, headers: answered, bytes } = await https.request(method, path, headers, written);
    const contentType = answered['content-type']?.split(';', 1)[0] ?? '';
    if (answered['content-disposition'] !== undefined) return { status, headers: answered, body: {}, bytes };
    return { status, headers: answered, ...contentOf(contentType, bytes) };
  };

const coapWay =
  (socket: CoapSocket, authorization: string | undefined): Ask =>
  async (method, path, body, file) => {
    const coap = plainCodec.encodeRequest({
      ...{ method, ...targetOf(path) },
      ...(authorization !== undefined && { authorization }),
      ...(body !== undefined && { body: { kind: 'json', value: body } as const }),
      ...(file && { body: file }),
    });
    if (!coap.ok) throw new Error(coap.problem);
    const response = await socket.request('home', coap.value, { timeoutMs: REQUEST_TIMEOUT_MS });
    const decoded = plainCodec.decodeResponse(response);
    if (!decoded.ok) throw new Error(decoded.problem);
    const { status, headers } = decoded.value;
    return { status, headers, ...bodyOf(decoded.value.body) };
  };

const pipeWay =
  (device: DeviceClient, authorization?: string): Ask =>
  async (method, path, body, file) => {
    const {
      status,
      headers,
      body: answered,
    } = await device.request(method, targetOf(path), body, authorization, REQUEST_TIMEOUT_MS, file);
    return { status, headers, ...bodyOf(answered) };
  };

function targetOf(path: string): { readonly path: string; readonly query: string } {
  const [, route = '', query = ''] = /^([^?]*)\??(.*)$/s.exec(path) ?? [];
  return { path: route, query };
}

function bodyOf(body: Body | undefined): Pick<Answer, 'body' | 'bytes'> {
  if (body === undefined) return { body: {} };
  if (body.kind === 'json') return { body: body.value as JsonObject };
  if (body.kind === 'bytes') return { body: {}, bytes: body.bytes };
  throw new Error('a form that nobody has read');
}

function contentOf(type: string, bytes: Uint8Array): Pick<Answer, 'body' | 'bytes'> {
  if (bytes.length === 0) return { body: {} };
  if (type === 'application/json') return { body: JSON.parse(fromUtf8(bytes) ?? '') as JsonObject };
  if (type !== 'application/cbor') return { body: {}, bytes };
  const decoded = decodeJson(bytes);
  if (!decoded.ok) throw new Error(decoded.problem);
  return { body: decoded.value as JsonObject };
}

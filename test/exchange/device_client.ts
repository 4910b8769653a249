import { hex } from '../../src/base/bytes.ts';
import type { Random } from '../../src/base/random.ts';
import type { Clock } from '../../src/base/time.ts';
import type { CompactReader } from '../../src/compact/value_reader.ts';
import { sha256 } from '../../src/crypto/sha256.ts';
import { KnownRooms } from '../../src/device/known_rooms.ts';
import type { Body } from '../../src/exchange/request.ts';
import type { ExchangeResponse } from '../../src/exchange/response.ts';
import { ExchangeSocket } from '../../src/exchange/socket.ts';
import type { ExchangeObservation, ExchangeOptions } from '../../src/exchange/socket_options.ts';
import type { TrustPolicy } from '../../src/exchange/trust.ts';
import type { Link } from '../../src/link/link.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { createDeviceIdentity, type DeviceIdentity } from '../../src/pipe/identity.ts';

const TIMEOUT_MS = 5 * 60_000;

export interface DeviceClientOptions {
  readonly link: Link;
  readonly clock: Clock;
  readonly random: Random;
  /** 32 bytes: the secret half of the device's key. */
  readonly secret: Uint8Array;
  readonly server: ServerName;
  readonly address: string;
  /** SHA-256 of the server's signing key in hexadecimal; left out: the first key seen is kept. */
  readonly fingerprint?: string;
  readonly network?: ExchangeOptions['network'];
}

/** A user's device that talks to its homeserver through a pipe. */
export class DeviceClient {
  readonly socket: ExchangeSocket;
  readonly observed: ExchangeObservation[] = [];
  /** Why one side has refused the other. */
  readonly refusals: string[] = [];
  readonly #identity: DeviceIdentity;
  readonly #options: DeviceClientOptions;
  readonly #rooms = new KnownRooms();
  #user = '';

  constructor(options: DeviceClientOptions) {
    const { link, clock, random, secret, network } = options;
    this.#options = options;
    this.#identity = createDeviceIdentity(secret);
    this.socket = new ExchangeSocket({
      link,
      clock,
      random,
      identity: this.#identity,
      trust: trustIn(options),
      plain: 'off',
      ...(network && { network }),
      onRefused: ({ by, reason }) => this.refusals.push(`${by}: ${reason}`),
      observer: (observation) => this.observed.push(observation),
    });
  }

  /** The public half of its key, as the server names it. */
  get key(): string {
    return hex(this.#identity.noisePublic);
  }

  /** Asks the client-server API. @param path below /_matrix/client/v3, or whole where it begins with /_matrix */
  ask(
    method: string,
    path: string,
    body?: JsonObject,
    authorization?: string,
    timeoutMs = TIMEOUT_MS,
  ): Promise<ExchangeResponse> {
    const [route = '', query = ''] = path.split('?');
    const target = route.startsWith('/_matrix') ? route : `/_matrix/client/v3${route}`;
    return this.request(method, { path: target, query }, body, authorization, timeoutMs);
  }

  /** Asks for anything, as a request line has it, and reads short forms of answers. */
  async request(
    method: string,
    target: { readonly path: string; readonly query: string },
    body: JsonValue | undefined,
    authorization: string | undefined,
    timeoutMs: number,
    file?: Extract<Body, { kind: 'bytes' }>,
  ): Promise<ExchangeResponse> {
    const { server, address } = this.#options;
    const { path, query } = target;
    const response = await this.socket.request(
      server,
      address,
      {
        ...{ method, path, query },
        ...(authorization !== undefined && { authorization }),
        ...(body !== undefined && { body: { kind: 'json', value: body } as const }),
        ...(file && { body: file }),
      },
      { timeoutMs, priority: 1 },
    );
    const { body: answer } = response;
    if (answer?.kind !== 'compact') return response;
    const since = new URLSearchParams(query).get('since') ?? undefined;
    const value =
      method === 'GET'
        ? this.#synced(answer.reader, since)
        : this.#sent(answer.reader, path, body as JsonObject | undefined);
    return { ...response, body: { kind: 'json', value } };
  }

  #synced(reader: CompactReader, since: string | undefined): JsonObject {
    const read = this.#rooms.read(reader, since);
    if (!read.ok) throw new Error(read.problem);
    return read.value;
  }

  #sent(reader: CompactReader, target: string, content: JsonObject = {}): JsonObject {
    const [, , , , , room = '', , type = ''] = target.split('/').map(decodeURIComponent);
    const sent = { type, sender: this.#user, stateKey: undefined, content };
    const computed = this.#rooms.sent(reader.bytes.subarray(reader.at), room, sent);
    if (!computed.ok) throw new Error(computed.problem);
    return { event_id: computed.value.eventId };
  }

  async logIn(user: string, password: string, deviceId?: string): Promise<ExchangeResponse> {
    const response = await this.ask('POST', '/login', {
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user },
      password,
      ...(deviceId !== undefined && { device_id: deviceId }),
    });
    if (response.status === 200) this.#user = String(json(response).user_id);
    return response;
  }
}

/** Takes the one server that is to be called, under the key that is pinned or that came first. */
function trustIn({ server, fingerprint }: DeviceClientOptions): TrustPolicy {
  let known = fingerprint;
  return {
    async decide(claim) {
      if (claim.kind !== 'server' || claim.serverName !== server)
        return { trusted: false, reason: 'it is not the server that was called' };
      const found = hex(sha256(claim.signingPublic));
      known ??= found;
      return found === known
        ? { trusted: true }
        : { trusted: false, reason: 'it has not the key of the server that was called' };
    },
  };
}

/** The JSON of an answer. */
export function json({ body }: ExchangeResponse): JsonObject {
  if (body?.kind !== 'json') throw new Error('the answer has no JSON');
  return body.value as JsonObject;
}

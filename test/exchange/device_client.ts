import { hex } from '../../src/base/bytes.ts';
import type { Random } from '../../src/base/random.ts';
import type { Clock } from '../../src/base/time.ts';
import { sha256 } from '../../src/crypto/sha256.ts';
import type { ExchangeResponse } from '../../src/exchange/response.ts';
import { ExchangeSocket } from '../../src/exchange/socket.ts';
import type { ExchangeObservation, ExchangeOptions } from '../../src/exchange/socket_options.ts';
import type { TrustPolicy } from '../../src/exchange/trust.ts';
import type { Link } from '../../src/link/link.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
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
    const { server, address } = this.#options;
    const [route = '', query = ''] = path.split('?');
    return this.socket.request(
      server,
      address,
      {
        method,
        path: route.startsWith('/_matrix') ? route : `/_matrix/client/v3${route}`,
        query,
        ...(authorization !== undefined && { authorization }),
        ...(body !== undefined && { body: { kind: 'json', value: body } as const }),
      },
      { timeoutMs, priority: 1 },
    );
  }

  logIn(user: string, password: string, deviceId?: string): Promise<ExchangeResponse> {
    return this.ask('POST', '/login', {
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user },
      password,
      ...(deviceId !== undefined && { device_id: deviceId }),
    });
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

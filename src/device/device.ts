import { equal } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import { hashInEventId } from '../compact/pdu/literal.ts';
import { checkIn } from '../compact/pdu/send_answer.ts';
import type { ExchangeRequest } from '../exchange/request.ts';
import type { ExchangeResponse } from '../exchange/response.ts';
import { ExchangeSocket } from '../exchange/socket.ts';
import type { ExchangeOptions } from '../exchange/socket_options.ts';
import type { TrustPolicy } from '../exchange/trust.ts';
import type { Address, Link } from '../link/link.ts';
import { MatrixError } from '../matrix/error.ts';
import type { ServerName } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, own } from '../matrix/json.ts';
import { createDeviceIdentity } from '../pipe/identity.ts';
import { KnownRooms } from './known_rooms.ts';
import { type SyncOptions, SyncStream, syncRequest } from './sync_stream.ts';

/** How long a request may take: on a link of 100 bit/s with losses nothing is quick. */
const PATIENCE_MS: Millis = 10 * 60_000;
const PRIORITY = 1;
/** Events that are looked at where an own one is looked for. */
const NEWEST = 20;
const NOTHING = new Uint8Array(0);

export interface DeviceOptions {
  /** The device closes it. */
  readonly link: Link;
  readonly clock: Clock;
  readonly random: Random;
  /** 32 bytes: the secret half of the device's key, which is its credential once it has logged in. */
  readonly secret: Uint8Array;
  readonly server: ServerName;
  readonly address: Address;
  /** Which server keys are taken. */
  readonly trust: TrustPolicy;
  /** More of the socket's, such as where sessions are kept. */
  readonly socket?: Partial<
    Pick<
      ExchangeOptions,
      | 'store'
      | 'network'
      | 'keepAliveMs'
      | 'timing'
      | 'fits'
      | 'log'
      | 'observer'
      | 'dictionaries'
      | 'models'
      | 'layers'
    >
  >;
}

/** A call of the client-server API. */
export interface DeviceCall {
  readonly method: string;
  /** With the query, as in a URL. */
  readonly target: string;
  readonly body?: JsonObject;
}

/** What a client on the other side of a slow link is: a user's device that talks to its homeserver through a pipe. */
export class Device {
  readonly socket: ExchangeSocket;
  readonly #clock: Clock;
  readonly #server: ServerName;
  readonly #address: Address;
  readonly #streams = new Set<SyncStream>();
  readonly #rooms = new KnownRooms();
  /** Its owner, once it has logged in. */
  #user: string | undefined;

  constructor({ link, clock, random, secret, server, address, trust, socket }: DeviceOptions) {
    this.#clock = clock;
    this.#server = server;
    this.#address = address;
    this.socket = new ExchangeSocket({
      ...{ link, clock, random, trust, plain: 'off', ...socket },
      identity: createDeviceIdentity(secret),
    });
  }

  /** Asks the homeserver. @throws ExchangeError where there is no answer */
  request(request: ExchangeRequest, timeoutMs = PATIENCE_MS): Promise<ExchangeResponse> {
    return this.socket.request(this.#server, this.#address, request, { timeoutMs, priority: PRIORITY });
  }

  /**
   * Asks the homeserver and answers the JSON of an answer of success.
   * @throws MatrixError where it is another, ExchangeError where there is none
   */
  async call({ method, target, body }: DeviceCall): Promise<JsonObject> {
    const [path = '', query = ''] = target.split('?');
    const json = body === undefined ? {} : { body: { kind: 'json', value: body } as const };
    return successOf(await this.request({ method, path, query, ...json }));
  }

  /** Binds the device's key to the account: from then on it needs no token. @param deviceId of a device that exists */
  async logIn(user: string, password: string, deviceId?: string): Promise<void> {
    const { user_id } = await this.call({
      method: 'POST',
      target: '/_matrix/client/v3/login',
      body: {
        type: 'm.login.password',
        identifier: { type: 'm.id.user', user },
        password,
        ...(deviceId !== undefined && { device_id: deviceId }),
      },
    });
    this.#user = String(user_id);
  }

  /**
   * Sends an event and answers its id, which is computed where the device has the room from /sync.
   * @throws MatrixError where the server refuses, ExchangeError where there is no answer
   */
  async send(room: string, type: string, content: JsonObject): Promise<string> {
    const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/${encodeURIComponent(type)}/~`;
    const body = { kind: 'json', value: content } as const;
    const response = await this.request({ method: 'PUT', path, query: '', body });
    if (response.status !== 200 || response.body?.kind !== 'compact')
      return String(successOf(response).event_id);
    const { reader } = response.body;
    const bytes = reader.bytes.subarray(reader.at);
    const sent = { type, sender: this.#user ?? '', stateKey: undefined, content };
    const computed = this.#rooms.sent(bytes, room, sent);
    return computed.ok ? computed.value.eventId : this.#find(room, bytes);
  }

  /** Looks for an event that the device has sent and cannot compute the id of: it is among the newest of the room. */
  async #find(room: string, answer: Uint8Array): Promise<string> {
    const target = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/messages?dir=b&limit=${NEWEST}`;
    const { chunk } = await this.call({ method: 'GET', target });
    const check = checkIn(answer);
    const found = (Array.isArray(chunk) ? chunk : []).find(
      (event) =>
        isJsonObject(event) &&
        equal(hashInEventId(String(event.event_id))?.subarray(0, check.length) ?? NOTHING, check),
    );
    if (check.length === 0 || found === undefined || !isJsonObject(found))
      throw new MatrixError(502, 'M_UNKNOWN', 'The event was sent, and its id is not known');
    return String(found.event_id);
  }

  /** Asks for /sync once. @throws MatrixError, ExchangeError */
  async sync(query: { readonly since?: string; readonly filter?: string } = {}): Promise<JsonObject> {
    const response = await this.request(syncRequest(query));
    const json = response.status === 200 ? this.#read(response, query.since) : undefined;
    return json ?? successOf(await this.request(syncRequest({ ...query, whole: true })));
  }

  #read({ body }: ExchangeResponse, since: string | undefined): JsonObject | undefined {
    if (body?.kind !== 'compact')
      return body?.kind === 'json' && isJsonObject(body.value) ? body.value : undefined;
    const read = this.#rooms.read(body.reader, since);
    return read.ok ? read.value : undefined;
  }

  /** Follows what happens, until the stream is closed. */
  follow(options: SyncOptions): SyncStream {
    const stream = new SyncStream(
      {
        observe: (request, events, signal) =>
          this.socket.observe(this.#server, this.#address, request, {
            ...{ timeoutMs: PATIENCE_MS, priority: PRIORITY, signal, ...events },
          }),
        read: (response, since) => this.#read(response, since),
      },
      this.#clock,
      options,
    );
    this.#streams.add(stream);
    return stream;
  }

  async close(): Promise<void> {
    // Without a word: a device that is switched off goes on from its position when it is switched on.
    for (const stream of this.#streams) stream.abandon();
    await this.socket.close();
  }
}

function jsonOf({ body }: ExchangeResponse): JsonObject | undefined {
  return body?.kind === 'json' && isJsonObject(body.value) ? body.value : undefined;
}

function successOf(response: ExchangeResponse): JsonObject {
  const json = jsonOf(response);
  if (response.status === 200 && json !== undefined) return json;
  const text = (key: string, otherwise: string): string => {
    const value = json && own(json, key);
    return typeof value === 'string' ? value : otherwise;
  };
  throw new MatrixError(
    response.status,
    text('errcode', 'M_UNKNOWN'),
    text('error', 'The answer has no JSON'),
  );
}

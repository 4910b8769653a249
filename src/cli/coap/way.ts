import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { fromHex, hex } from '../../base/bytes.ts';
import { systemRandom } from '../../base/random.ts';
import { type Millis, systemClock } from '../../base/time.ts';
import type { CoapRequest, CoapResponse } from '../../coap/api.ts';
import type { BlockSize } from '../../coap/block.ts';
import { modelledTiming, rfc7252Timing, type Timing } from '../../coap/timing.ts';
import {
  type CoapObservation,
  type CoapObserveOptions,
  type CoapRequestOptions,
  CoapSocket,
} from '../../exchange/coap_socket.ts';
import { NO_RECORD, timingOf } from '../../exchange/link_timing.ts';
import { plainCodec } from '../../exchange/plain_codec.ts';
import { ExchangeSocket } from '../../exchange/socket.ts';
import type { ExchangeObservation } from '../../exchange/socket_options.ts';
import { coapOverWebSocket } from '../../exchange/websocket_coap.ts';
import { fingerprint, matchesPin } from '../../federation/peers.ts';
import type { Address, Link, LinkProfile } from '../../link/link.ts';
import { openUdpLink } from '../../link/udp.ts';
import {
  dialWebSocket,
  type MessageSocket,
  openWebSocketLink,
  WEBSOCKET_PATH,
} from '../../link/websocket.ts';
import { parseServerName, type ServerName } from '../../matrix/ids.ts';
import { createIdentity, isServerName, keyVersionOf, type ServerIdentity } from '../../pipe/identity.ts';
import { lookupAddress } from '../../server/lookup.ts';
import type { CoapUri } from './uri.ts';

/** What was typed cannot be done. The message is a sentence. */
export class UsageError extends Error {}

/** There is no way to the server, or no answer from it. The message is a sentence. */
export class UnreachableError extends Error {}

/** Ends what is asked for as soon as the way is known to lead nowhere, instead of at its deadline. */
class DeadEnd {
  readonly #found = new AbortController();

  /** @param problem a sentence */
  found(problem: string): void {
    this.#found.abort(new UnreachableError(problem));
  }

  /** Runs work that ends early with a signal. @throws UnreachableError where a dead end was found */
  async during<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    try {
      return await work(this.#found.signal);
    } catch (error) {
      this.#found.signal.throwIfAborted();
      throw error;
    }
  }
}

/** The way to one server. */
export interface Way {
  request(request: CoapRequest, options: CoapRequestOptions): Promise<CoapResponse>;
  /** These two are undefined where what is on the way cannot do it. */
  readonly ping: ((options: CoapRequestOptions) => Promise<void>) | undefined;
  readonly observe:
    | ((request: CoapRequest, options: CoapObserveOptions) => Promise<CoapObservation>)
    | undefined;
  close(): Promise<void>;
}

export interface WayOptions {
  readonly rate?: number;
  /** Milliseconds. */
  readonly delay?: Millis;
  readonly blockSize?: BlockSize;
  readonly fingerprint?: string;
  readonly trustAny?: true;
  /** A file. */
  readonly identity?: string;
  readonly observer: (observation: ExchangeObservation) => void;
  /** Takes a remark for the user. */
  readonly note: (text: string) => void;
}

/** Opens what the URI's scheme asks for. @throws UsageError, UnreachableError */
export function openWay(uri: CoapUri, options: WayOptions): Promise<Way> {
  const isPipe = uri.scheme === 'ravine';
  const typed = options.fingerprint ?? options.trustAny ?? options.identity;
  if (!isPipe && typed !== undefined)
    throw new UsageError('--fingerprint, --trust-any and --identity are for pipes, with URIs ravine://.');
  if (isPipe) return openPipe(uri, options);
  return uri.scheme === 'coap' ? openPlain(uri, options) : Promise.resolve(openWebSocket(uri, options));
}

async function openPlain(uri: CoapUri, options: WayOptions): Promise<Way> {
  const { link, to } = await openUdp(uri, options);
  return wayOver(link, to, timing(link.profile, options.blockSize), options);
}

function openWebSocket({ scheme, host, port }: CoapUri, options: WayOptions): Way {
  if (options.rate !== undefined)
    throw new UsageError('--rate is for links of datagrams, not for WebSockets.');
  const authority = `${isIPv6(host) ? `[${host}]` : host}:${port}`;
  const url = `${scheme === 'coap+ws' ? 'ws' : 'wss'}://${authority}${WEBSOCKET_PATH}`;
  const deadEnd = new DeadEnd();
  const dial = tellingOfFailure(() => deadEnd.found(`No WebSocket for CoAP can be opened at ${url}.`));
  const connection = openWebSocketLink({ url, clock: systemClock, random: systemRandom, dial });
  const link = coapOverWebSocket({ link: connection, plain: false });
  const way = wayOver(link, url, timing(link.profile, options.blockSize), options);
  return {
    ...way,
    request: (request, details) => deadEnd.during((signal) => way.request(request, { ...details, signal })),
    ping: (details) => deadEnd.during((signal) => way.ping!({ ...details, signal })),
    observe: (request, details) =>
      deadEnd.during((signal) =>
        way.observe!(request, {
          ...details,
          signal: details.signal === undefined ? signal : AbortSignal.any([signal, details.signal]),
        }),
      ),
  };
}

/** Connects; the link tries again for ever where that fails, and a command should not. */
function tellingOfFailure(onFailure: () => void): (url: string) => MessageSocket {
  let wasOpen = false;
  return (url) => {
    const socket = dialWebSocket(url);
    const { listen } = socket;
    return Object.assign(socket, {
      listen: (listener: Parameters<MessageSocket['listen']>[0]) =>
        listen({
          ...listener,
          opened() {
            wasOpen = true;
            listener.opened();
          },
          closed() {
            if (!wasOpen) onFailure();
            listener.closed();
          },
        }),
    });
  };
}

function wayOver(link: Link, to: Address, timing: Timing, { observer }: WayOptions): Way {
  const socket = new CoapSocket({ link, clock: systemClock, random: systemRandom, timing, observer });
  return {
    request: (request, options) => socket.request(to, request, options),
    ping: (options) => socket.ping(to, options),
    observe: (request, options) => socket.observe(to, request, options),
    close: () => socket.close(),
  };
}

async function openUdp(
  { host, port }: CoapUri,
  { rate, delay, note }: WayOptions,
): Promise<{ link: Link; to: Address }> {
  const to = isIPv6(host) ? `[${host}]:${port}` : await lookupAddress(`${host}:${port}`);
  if (to === undefined) throw new UnreachableError(`The name ${host} has no address.`);
  if (!to.startsWith(`${host}:`)) note(`${host} is ${to}`);
  const profile = { ...(rate !== undefined && { rate }), ...(delay !== undefined && { delay }) };
  const link = await openUdpLink({ host: to.startsWith('[') ? '::' : '0.0.0.0', port: 0, profile });
  return { link, to };
}

/** The link's own timers, with blocks of another size where one was asked for. */
function timing(profile: LinkProfile, blockSize: BlockSize | undefined): Timing {
  if (blockSize === undefined) return timingOf(profile, NO_RECORD);
  const { rate, delay, overhead, mtu } = profile;
  if (rate === null) return rfc7252Timing({ blockSize });
  const modelled = modelledTiming({ rate, delay, overhead, mtu });
  return { ...modelled, blockSize, undividedSize: blockSize, announceBlockSize: true };
}

/** Through a pipe a request is HTTP's, as between two servers: only what both say can be asked for. */
async function openPipe(uri: CoapUri, options: WayOptions): Promise<Way> {
  const serverName = parseServerName(uri.serverName);
  if (!serverName.ok) throw new UsageError(`${uri.serverName} is not a server name.`);
  if (options.blockSize !== undefined)
    throw new UsageError('In a pipe the link decides about the size of blocks.');
  const deadEnd = new DeadEnd();
  const trust = trustOf(options, deadEnd);
  const identity = identityOf(options.identity);
  options.note(`who asks is ${identity.serverName}, fingerprint ${fingerprint(identity.signingPublic)}`);
  const { link, to } = await openUdp(uri, options);
  const { observer } = options;
  const socket = new ExchangeSocket({
    link,
    clock: systemClock,
    random: systemRandom,
    identity,
    trust,
    plain: 'off',
    onRefused: ({ by, reason }) =>
      deadEnd.found(`The pipe was refused${by === 'peer' ? ` by ${uri.serverName}` : ''}: ${reason}.`),
    observer,
  });
  return {
    request: (request, details) =>
      deadEnd.during((signal) => throughPipe(socket, serverName.value, to, request, { ...details, signal })),
    ping: undefined,
    observe: undefined,
    close: () => socket.close(),
  };
}

async function throughPipe(
  socket: ExchangeSocket,
  server: ServerName,
  to: Address,
  request: CoapRequest,
  { timeoutMs, signal }: CoapRequestOptions,
): Promise<CoapResponse> {
  const decoded = plainCodec.decodeRequest(request);
  if (!decoded.ok) throw new UsageError(`This does not go through a pipe: ${decoded.problem.message}.`);
  const details = { timeoutMs, priority: 1, ...(signal && { signal }) } as const;
  return plainCodec.encodeResponse(await socket.request(server, to, decoded.value, details), request);
}

/** A fingerprint as `ravine serve` prints it. */
const FINGERPRINT = /^[0-9a-fA-F]{64}$/;

function trustOf(
  { fingerprint: pin, trustAny, note }: WayOptions,
  deadEnd: DeadEnd,
): ConstructorParameters<typeof ExchangeSocket>[0]['trust'] {
  if ((pin === undefined) === (trustAny === undefined))
    throw new UsageError(
      'Say whose pipe you trust: --fingerprint with what the server prints when it starts, or --trust-any.',
    );
  if (pin !== undefined && !FINGERPRINT.test(pin))
    throw new UsageError('A fingerprint has 64 hexadecimal digits; the server prints it when it starts.');
  return {
    decide: async (claim) => {
      if (claim.kind === 'device') return { trusted: false, reason: 'a device cannot be called' };
      const { serverName, signingPublic } = claim;
      const found = fingerprint(signingPublic);
      if (pin === undefined) note(`${serverName} has the fingerprint ${found}, which was not checked`);
      if (pin === undefined || matchesPin(pin, signingPublic)) return { trusted: true };
      const reason = `its fingerprint is ${found}, not the expected one`;
      deadEnd.found(`${serverName} is not trusted: ${reason}.`);
      return { trusted: false, reason };
    },
  };
}

const SECRET_BYTES = 32;
/** Readable by its owner only. */
const OWNER_ONLY = 0o600;

interface StoredIdentity {
  readonly server_name: string;
  readonly signing_key_id: string;
  /** 32 bytes in hexadecimal. */
  readonly signing_secret: string;
  readonly noise_secret: string;
  readonly serial: number;
}

/** The identity in a file, which is made where it is missing; without a file a new one that nobody knows. */
function identityOf(file: string | undefined): ServerIdentity {
  if (file !== undefined && existsSync(file)) return identityFrom(file, readFileSync(file, 'utf8'));
  const fresh: StoredIdentity = {
    server_name: `ravine-coap-${hex(systemRandom.bytes(6))}.invalid`,
    signing_key_id: 'ed25519:coap',
    signing_secret: hex(systemRandom.bytes(SECRET_BYTES)),
    noise_secret: hex(systemRandom.bytes(SECRET_BYTES)),
    serial: systemClock.wall(),
  };
  const text = `${JSON.stringify(fresh, undefined, 2)}\n`;
  if (file !== undefined) writeFileSync(file, text, { mode: OWNER_ONLY, flag: 'wx' });
  return identityFrom(file ?? '', text);
}

function identityFrom(file: string, text: string): ServerIdentity {
  const wrong = new UsageError(
    `${file} holds no identity: remove it, and a new one is made, or repair it. It is JSON with server_name, signing_key_id, signing_secret, noise_secret (64 hexadecimal digits each) and serial.`,
  );
  let stored: Partial<StoredIdentity>;
  try {
    stored = JSON.parse(text) as Partial<StoredIdentity>;
  } catch {
    throw wrong;
  }
  const { server_name: serverName = '', signing_key_id: signingKeyId = '', serial = -1 } = stored ?? {};
  const signingSecret = fromHex(String(stored?.signing_secret));
  const noiseSecret = fromHex(String(stored?.noise_secret));
  const valid =
    isServerName(String(serverName)) &&
    keyVersionOf(String(signingKeyId)) !== undefined &&
    Number.isSafeInteger(serial) &&
    serial >= 0 &&
    serial < 2 ** 48;
  if (!valid || signingSecret?.length !== SECRET_BYTES || noiseSecret?.length !== SECRET_BYTES) throw wrong;
  return createIdentity({ serverName, noiseSecret, signingKeyId, signingSecret, serial });
}

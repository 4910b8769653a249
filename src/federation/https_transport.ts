import { type LookupAddress, type LookupOptions, promises } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { checkServerIdentity, createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { Agent, buildConnector, type Dispatcher, request } from 'undici';
import { fromUtf8 } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import type { Work } from '../base/work.ts';
import type { ServerName } from '../matrix/ids.ts';
import { parseServerName } from '../matrix/ids.ts';
import { type JsonValue, parseJson } from '../matrix/json.ts';
import type { SigningKey } from '../matrix/signing.ts';
import { isPublicAddress } from './addresses.ts';
import { maxAge, ServerResolver, type SrvRecord, splitServerName, type Target } from './server_resolution.ts';
import { type FederationCall, FederationError, type FederationTransport, remoteError } from './transport.ts';
import type { PeerEntry } from './transports.ts';
import { authorizationHeader } from './x_matrix.ts';

/** Largest answer, in bytes: the state of a large room (see MAX_STATE_EVENTS) in send_join. */
const MAX_ANSWER_BYTES = 48 * 1024 * 1024;
const MAX_WELL_KNOWN_BYTES = 50 * 1024;
const MAX_WELL_KNOWN_REDIRECTS = 5;
const WELL_KNOWN_TIMEOUT_MS: Millis = 15_000;
/** Connections kept open, one pool for each host and port. */
const MAX_ORIGINS = 1000;
const KEEP_ALIVE_MS: Millis = 60_000;
const CONNECTIONS_PER_ORIGIN = 4;

const KEY_PATH = '/_matrix/key/';
const HTTPS_SCHEME = 'https://';

/** Carries federation over HTTPS with X-Matrix signatures (server-server API, "Request Authentication"). */
export class HttpsTransport implements FederationTransport {
  readonly #options: HttpsTransportOptions;
  readonly #resolver: ServerResolver;
  /** Where the configuration says that a server is. */
  readonly #overrides: ReadonlyMap<ServerName, Target>;
  readonly #internet: Internet;
  #pools: Pools | undefined;

  constructor(options: HttpsTransportOptions) {
    this.#options = options;
    this.#internet = options.internet ?? INTERNET;
    this.#overrides = overrides(options.peers);
    this.#resolver = new ServerResolver({
      sources: { wellKnown: (host) => this.#wellKnown(host), srv: this.#internet.srv },
      clock: options.clock,
      random: options.random,
    });
  }

  request(destination: ServerName, call: FederationCall): ReturnType<FederationTransport['request']> {
    return this.#options.work.run(() => this.#request(destination, call));
  }

  async close(): Promise<void> {
    await Promise.all([this.#pools?.outside.destroy(), this.#pools?.configured.destroy()]);
  }

  /** Made on first use: reading all certificates takes a while, and a server with pipes only never needs them. */
  #openPools(): Pools {
    if (this.#pools === undefined) {
      const system = [...getCACertificates('default'), ...getCACertificates('system')];
      const ca = [...new Set([...system, ...(this.#options.certificateAuthorities ?? [])])];
      const secureContext = createSecureContext({ ca });
      this.#pools = {
        outside: pool(secureContext, this.#internet, this.#internet.isPublicAddress),
        configured: pool(secureContext, this.#internet, () => true),
      };
    }
    return this.#pools;
  }

  async #request(destination: ServerName, call: FederationCall): ReturnType<FederationTransport['request']> {
    const override = this.#overrides.get(destination);
    const timeout = this.#deadline(call.timeoutMs, call.signal);
    try {
      const targets =
        override === undefined
          ? (await this.#resolver.resolve(destination)).filter(({ host }) => this.#mayConnect(host))
          : [override];
      const { outside, configured } = this.#openPools();
      const dispatcher = override === undefined ? outside : configured;
      const { status, body } = await this.#firstAnswer(destination, call, {
        targets,
        dispatcher,
        signal: timeout.signal,
      });
      if (status >= 200 && status <= 299) {
        if (body === undefined)
          throw new FederationError('bad_answer', `${destination} did not answer with JSON`);
        return { status, body };
      }
      throw remoteError(status, body ?? null);
    } finally {
      timeout.end();
    }
  }

  /** Tries one target after another until one can be connected to. */
  async #firstAnswer(
    destination: ServerName,
    call: FederationCall,
    way: {
      readonly targets: readonly Target[];
      readonly dispatcher: Dispatcher;
      readonly signal: AbortSignal;
    },
  ): Promise<{ status: number; body: JsonValue | undefined }> {
    const uri = call.query === undefined || call.query === '' ? call.path : `${call.path}?${call.query}`;
    const authorization = authorizationHeader(
      { origin: this.#options.serverName, destination, method: call.method, uri, content: call.body },
      this.#options.signingKey,
    );
    let problem = new FederationError('unreachable', `${destination} is not at a public address`);
    for (const target of way.targets) {
      try {
        const answer = await request(`${HTTPS_SCHEME}${authority(target)}${uri}`, {
          method: call.method,
          dispatcher: way.dispatcher,
          signal: way.signal,
          // As for a well-known file: asking for keys is what a stranger makes us do first.
          reset: call.path.startsWith(KEY_PATH),
          headers: {
            host: target.hostHeader,
            authorization,
            ...(call.body !== undefined && { 'content-type': 'application/json' }),
          },
          ...(call.body !== undefined && { body: JSON.stringify(call.body) }),
        });
        return {
          status: answer.statusCode,
          body: readJson(await readBounded(answer.body, MAX_ANSWER_BYTES)),
        };
      } catch (error) {
        problem = asFederationError(destination, error, way.signal);
        if (!hasNotArrived(error)) throw problem;
      }
    }
    throw problem;
  }

  async #wellKnown(host: string): Promise<{ body: unknown; maxAgeMs: Millis | undefined } | undefined> {
    const timeout = this.#deadline(WELL_KNOWN_TIMEOUT_MS);
    try {
      let url = `${HTTPS_SCHEME}${host}/.well-known/matrix/server`;
      for (let redirects = 0; redirects <= MAX_WELL_KNOWN_REDIRECTS; redirects++) {
        const address = new URL(url);
        if (address.protocol !== 'https:' || !this.#mayConnect(address.hostname)) return undefined;
        const answer = await request(url, {
          dispatcher: this.#openPools().outside,
          signal: timeout.signal,
          // Anybody can name hosts to us. Their connections are not kept, so that they do not use up MAX_ORIGINS.
          reset: true,
        });
        const bytes = await readBounded(answer.body, MAX_WELL_KNOWN_BYTES);
        const { location, 'cache-control': cacheControl } = answer.headers;
        if (answer.statusCode >= 300 && answer.statusCode <= 399 && typeof location === 'string') {
          url = new URL(location, url).href;
          continue;
        }
        if (answer.statusCode !== 200) return undefined;
        return { body: readJson(bytes), maxAgeMs: maxAge([cacheControl].flat().join(',')) };
      }
      return undefined;
    } catch {
      // The specification goes on without delegation, whatever went wrong.
      return undefined;
    } finally {
      timeout.end();
    }
  }

  /**
   * A literal address is not looked up, so that it is judged here: as the URL parser reads it, to which `2130706433` and
   * `127.1` are addresses as well.
   */
  #mayConnect(host: string): boolean {
    const read = URL.parse(`${HTTPS_SCHEME}${bracketed(host)}`)?.hostname;
    if (read === undefined) return false;
    const bare = read.replace(/^\[|\]$/g, '');
    return isIP(bare) === 0 || this.#internet.isPublicAddress(bare);
  }

  /** A signal that aborts after `timeoutMs` of our clock, or with `outer`. */
  #deadline(timeoutMs: Millis, outer?: AbortSignal): { readonly signal: AbortSignal; end(): void } {
    const controller = new AbortController();
    const cancel = this.#options.clock.after(timeoutMs, () => controller.abort(TIMED_OUT));
    const signal = outer === undefined ? controller.signal : AbortSignal.any([controller.signal, outer]);
    return { signal, end: cancel };
  }
}

interface HttpsTransportOptions {
  readonly serverName: ServerName;
  readonly signingKey: SigningKey;
  readonly clock: Clock;
  readonly random: Random;
  readonly work: Work;
  readonly peers: readonly PeerEntry[];
  /** Certificates in PEM that are trusted in addition to the system's. */
  readonly certificateAuthorities?: readonly string[];
  /** Another one than the real one, for tests. */
  readonly internet?: Internet;
}

/** Who has which name and address. */
export interface Internet {
  lookup(host: string, options: LookupOptions): Promise<readonly LookupAddress[]>;
  /** SRV records; none where the lookup fails. */
  srv(name: string): Promise<readonly SrvRecord[]>;
  isPublicAddress(address: string): boolean;
  /** The port to connect to for one that a URL names. */
  portOf(port: string): string;
}

const INTERNET: Internet = {
  lookup: (host, options) => promises.lookup(host, { ...options, all: true }),
  srv: (name) => promises.resolveSrv(name).catch(() => []),
  isPublicAddress,
  portOf: (port) => port,
};

interface Pools {
  /** For servers that anybody can name: never connects to an inside address. */
  readonly outside: Agent;
  /** For the addresses in the configuration. */
  readonly configured: Agent;
}

const TIMED_OUT = new Error('timed out');

function overrides(peers: readonly PeerEntry[]): ReadonlyMap<ServerName, Target> {
  const targets = new Map<ServerName, Target>();
  for (const { serverName, address } of peers) {
    if (!address.startsWith(HTTPS_SCHEME)) continue;
    const name = parseServerName(address.slice(HTTPS_SCHEME.length).replace(/\/$/, ''));
    if (!name.ok) throw new Error(`the address of peer ${serverName} is not https://host:port`);
    const { host, port = 443 } = splitServerName(name.value);
    targets.set(serverName, { host, port, hostHeader: serverName });
  }
  return targets;
}

/**
 * Undici takes the name for SNI and for the certificate from the Host header, which is the one that the specification
 * means; SNI is left out where that is an IP address, and Node.js then checks the certificate for the host connected to.
 */
function pool(
  secureContext: SecureContext,
  internet: Internet,
  isAllowed: (address: string) => boolean,
): Agent {
  const lookup = lookupOf(internet, isAllowed);
  const connect = buildConnector({ secureContext, timeout: 0, checkServerIdentity, allowH2: false, lookup });
  return new Agent({
    connections: CONNECTIONS_PER_ORIGIN,
    maxOrigins: MAX_ORIGINS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    // All timeouts are ours, by our clock.
    headersTimeout: 0,
    bodyTimeout: 0,
    allowH2: false,
    connect: (options, done) => connect({ ...options, port: internet.portOf(options.port) }, done),
  });
}

/** Looks a host name up and leaves out addresses, so that no name server can lead us to the inside. */
function lookupOf(internet: Internet, isAllowed: (address: string) => boolean): LookupFunction {
  return (host, options, done) => {
    internet.lookup(host, options).then(
      (addresses) => {
        const usable = addresses.filter(({ address }) => isAllowed(address));
        const first = usable[0];
        if (first === undefined) done(Object.assign(new Error('inside address'), { code: 'EACCES' }), []);
        else if (options.all === true) done(null, usable);
        else done(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => done(error, []),
    );
  };
}

function authority({ host, port }: Target): string {
  return `${bracketed(host)}:${port}`;
}

const bracketed = (host: string): string => (isIP(host) === 6 ? `[${host}]` : host);

async function readBounded(body: Dispatcher.ResponseData['body'], limit: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > limit) {
      body.destroy();
      throw new FederationError('bad_answer', `an answer of more than ${limit} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length);
}

function readJson(bytes: Uint8Array): JsonValue | undefined {
  try {
    return parseJson(fromUtf8(bytes) ?? '');
  } catch {
    return undefined;
  }
}

/** Errors after which the request cannot have reached the server, so that another address may be tried. */
const NOT_ARRIVED = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EACCES',
  'ETIMEDOUT',
]);

function hasNotArrived(error: unknown): boolean {
  return error instanceof Error && 'code' in error && NOT_ARRIVED.has(String(error.code));
}

function asFederationError(destination: ServerName, error: unknown, signal: AbortSignal): FederationError {
  if (error instanceof FederationError) return error;
  if (signal.aborted && signal.reason === TIMED_OUT) {
    return new FederationError('timeout', `${destination} did not answer in time`);
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
  const refused = /CERT|TLS|SSL|VERIFY|EACCES/.test(code);
  return new FederationError(refused ? 'refused' : 'unreachable', `${destination}: ${code}`);
}

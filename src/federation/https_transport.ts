import { type Agent, type Dispatcher, request } from 'undici';
import { fromUtf8 } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import type { Work } from '../base/work.ts';
import { MatrixError } from '../matrix/error.ts';
import type { ServerName } from '../matrix/ids.ts';
import { parseServerName } from '../matrix/ids.ts';
import { type JsonValue, parseJson } from '../matrix/json.ts';
import type { SigningKey } from '../matrix/signing.ts';
import {
  bracketed,
  contentOf,
  deadline,
  INTERNET,
  type Internet,
  mayConnect,
  pool,
  TIMED_OUT,
  trusting,
} from './internet.ts';
import { maxAge, ServerResolver, splitServerName, type Target } from './server_resolution.ts';
import {
  type DownloadTransport,
  type FederationCall,
  type FederationDownload,
  FederationError,
  type FederationTransport,
  remoteError,
} from './transport.ts';
import type { PeerEntry } from './transports.ts';
import { authorizationHeader } from './x_matrix.ts';

/** Largest answer, in bytes: the state of a large room (see MAX_STATE_EVENTS) in send_join. */
const MAX_ANSWER_BYTES = 48 * 1024 * 1024;
/** Of an error in the place of a file. */
const MAX_ERROR_BYTES = 64 * 1024;
const MAX_WELL_KNOWN_BYTES = 50 * 1024;
const MAX_WELL_KNOWN_REDIRECTS = 5;
const WELL_KNOWN_TIMEOUT_MS: Millis = 15_000;

const KEY_PATH = '/_matrix/key/';
const HTTPS_SCHEME = 'https://';

/** Carries federation over HTTPS with X-Matrix signatures (server-server API, "Request Authentication"). */
export class HttpsTransport implements FederationTransport, DownloadTransport {
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

  download(destination: ServerName, call: FederationCall): Promise<FederationDownload> {
    return this.#options.work.run(() => this.#download(destination, call));
  }

  async close(): Promise<void> {
    await Promise.all([this.#pools?.outside.destroy(), this.#pools?.configured.destroy()]);
  }

  /** Made on first use: reading all certificates takes a while, and a server with pipes only never needs them. */
  #openPools(): Pools {
    if (this.#pools === undefined) {
      const secureContext = trusting(this.#options.certificateAuthorities);
      this.#pools = {
        outside: pool(secureContext, this.#internet, this.#internet.isPublicAddress),
        configured: pool(secureContext, this.#internet, () => true),
      };
    }
    return this.#pools;
  }

  async #request(destination: ServerName, call: FederationCall): ReturnType<FederationTransport['request']> {
    const timeout = deadline(this.#options.clock, call.timeoutMs, call.signal);
    try {
      const answer = await this.#answer(destination, call, timeout.signal);
      const body = readJson(await readBounded(answer.body, MAX_ANSWER_BYTES));
      if (!isSuccess(answer.statusCode)) throw remoteError(answer.statusCode, body ?? null);
      if (body === undefined)
        throw new FederationError('bad_answer', `${destination} did not answer with JSON`);
      return { status: answer.statusCode, body };
    } catch (error) {
      throw asFailure(destination, error, timeout.signal);
    } finally {
      timeout.end();
    }
  }

  async #download(destination: ServerName, call: FederationCall): Promise<FederationDownload> {
    const timeout = deadline(this.#options.clock, call.timeoutMs, call.signal);
    try {
      const { statusCode, headers, body } = await this.#answer(destination, call, timeout.signal);
      if (!isSuccess(statusCode))
        throw remoteError(statusCode, readJson(await readBounded(body, MAX_ERROR_BYTES)) ?? null);
      const contentType = [headers['content-type']].flat()[0] ?? '';
      const failed = (error: unknown): Error => asFailure(destination, error, timeout.signal);
      return { contentType, content: contentOf(body, this.#options.work, timeout.end, failed) };
    } catch (error) {
      timeout.end();
      throw asFailure(destination, error, timeout.signal);
    }
  }

  /** Tries one target after another until one can be connected to. */
  async #answer(
    destination: ServerName,
    call: FederationCall,
    signal: AbortSignal,
  ): Promise<Dispatcher.ResponseData> {
    const override = this.#overrides.get(destination);
    const targets =
      override === undefined
        ? (await this.#resolver.resolve(destination)).filter(({ host }) => mayConnect(host, this.#internet))
        : [override];
    const { outside, configured } = this.#openPools();
    const dispatcher = override === undefined ? outside : configured;
    const uri = call.query === undefined || call.query === '' ? call.path : `${call.path}?${call.query}`;
    const authorization = authorizationHeader(
      { origin: this.#options.serverName, destination, method: call.method, uri, content: call.body },
      this.#options.signingKey,
    );
    let problem: unknown = new FederationError('unreachable', `${destination} is not at a public address`);
    for (const target of targets) {
      try {
        return await request(`${HTTPS_SCHEME}${authority(target)}${uri}`, {
          method: call.method,
          dispatcher,
          signal,
          // As for a well-known file: asking for keys is what a stranger makes us do first.
          reset: call.path.startsWith(KEY_PATH),
          headers: {
            host: target.hostHeader,
            authorization,
            ...(call.body !== undefined && { 'content-type': 'application/json' }),
          },
          ...(call.body !== undefined && { body: JSON.stringify(call.body) }),
        });
      } catch (error) {
        problem = error;
        if (!hasNotArrived(error)) throw error;
      }
    }
    throw problem;
  }

  async #wellKnown(host: string): Promise<{ body: unknown; maxAgeMs: Millis | undefined } | undefined> {
    const timeout = deadline(this.#options.clock, WELL_KNOWN_TIMEOUT_MS);
    try {
      let url = `${HTTPS_SCHEME}${host}/.well-known/matrix/server`;
      for (let redirects = 0; redirects <= MAX_WELL_KNOWN_REDIRECTS; redirects++) {
        const address = new URL(url);
        if (address.protocol !== 'https:' || !mayConnect(address.hostname, this.#internet)) return undefined;
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

interface Pools {
  /** For servers that anybody can name: never connects to an inside address. */
  readonly outside: Agent;
  /** For the addresses in the configuration. */
  readonly configured: Agent;
}

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

function authority({ host, port }: Target): string {
  return `${bracketed(host)}:${port}`;
}

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

const isSuccess = (status: number): boolean => status >= 200 && status <= 299;

/** What is told of an error: MatrixError and FederationError as they are. */
function asFailure(destination: ServerName, error: unknown, signal: AbortSignal): Error {
  if (error instanceof FederationError || error instanceof MatrixError) return error;
  if (signal.aborted && signal.reason === TIMED_OUT) {
    return new FederationError('timeout', `${destination} did not answer in time`);
  }
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
  const refused = /CERT|TLS|SSL|VERIFY|EACCES/.test(code);
  return new FederationError(refused ? 'refused' : 'unreachable', `${destination}: ${code}`);
}

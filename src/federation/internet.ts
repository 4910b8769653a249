import { type LookupAddress, type LookupOptions, promises } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import { checkServerIdentity, createSecureContext, getCACertificates, type SecureContext } from 'node:tls';
import { Agent, buildConnector, type Dispatcher } from 'undici';
import type { Clock, Millis } from '../base/time.ts';
import type { Work } from '../base/work.ts';
import { isPublicAddress } from './addresses.ts';
import type { SrvRecord } from './server_resolution.ts';

/** Connections kept open, one pool for each host and port. */
const MAX_ORIGINS = 1000;
const KEEP_ALIVE_MS: Millis = 60_000;
const CONNECTIONS_PER_ORIGIN = 4;

/** Who has which name and address. */
export interface Internet {
  lookup(host: string, options: LookupOptions): Promise<readonly LookupAddress[]>;
  /** SRV records; none where the lookup fails. */
  srv(name: string): Promise<readonly SrvRecord[]>;
  isPublicAddress(address: string): boolean;
  /** The port to connect to for one that a URL names. */
  portOf(port: string): string;
}

export const INTERNET: Internet = {
  lookup: (host, options) => promises.lookup(host, { ...options, all: true }),
  srv: (name) => promises.resolveSrv(name).catch(() => []),
  isPublicAddress,
  portOf: (port) => port,
};

/** Trusts what the system trusts, and these. Reading all certificates takes a while. */
export function trusting(certificateAuthorities: readonly string[] = []): SecureContext {
  const system = [...getCACertificates('default'), ...getCACertificates('system')];
  return createSecureContext({ ca: [...new Set([...system, ...certificateAuthorities])] });
}

/**
 * Connections that go only where `isAllowed` lets them: what is looked up is judged, and connected to, at one time, so that
 * no name server can say one thing first and another then. Addresses in URLs are not looked up: see `mayConnect`.
 *
 * Undici takes the name for SNI and for the certificate from the Host header, which is the one that the specification
 * means; SNI is left out where that is an IP address, and Node.js then checks the certificate for the host connected to.
 */
export function pool(
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

/**
 * Whether a host of a URL may be connected to. A literal address is not looked up, so that it is judged here: as the URL
 * parser reads it, to which `2130706433` and `127.1` are addresses as well.
 */
export function mayConnect(host: string, internet: Internet): boolean {
  const read = URL.parse(`https://${bracketed(host)}`)?.hostname;
  if (read === undefined) return false;
  const bare = read.replace(/^\[|\]$/g, '');
  return isIP(bare) === 0 || internet.isPublicAddress(bare);
}

export const bracketed = (host: string): string => (isIP(host) === 6 ? `[${host}]` : host);

/** Why a request ended that took longer than it may. */
export const TIMED_OUT = new Error('timed out');

/** A signal that aborts after `timeoutMs` of `clock`, or with `outer`. */
export function deadline(
  clock: Clock,
  timeoutMs: Millis,
  outer?: AbortSignal,
): { readonly signal: AbortSignal; end(): void } {
  const controller = new AbortController();
  const cancel = clock.after(timeoutMs, () => controller.abort(TIMED_OUT));
  const signal = outer === undefined ? controller.signal : AbortSignal.any([controller.signal, outer]);
  return { signal, end: cancel };
}

/**
 * The body of an answer as it comes.
 * @param end called once, when it has been read or given up, also before anything of it was read
 * @param problemOf what is thrown for an error of the network
 */
export function contentOf(
  body: Dispatcher.ResponseData['body'],
  work: Work,
  end: () => void,
  problemOf: (error: unknown) => Error,
): AsyncIterable<Uint8Array> {
  const parts = (body as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  const close = (): void => {
    end();
    body.destroy();
  };
  // Not a generator: one that was never begun does not run its end.
  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      try {
        const part = await work.run(() => parts.next());
        if (part.done) close();
        return part;
      } catch (error) {
        close();
        throw problemOf(error);
      }
    },
    async return() {
      close();
      return { done: true, value: undefined };
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}

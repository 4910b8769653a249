import { bad, ok, type Result } from '../base/result.ts';
import type { ServerName } from '../matrix/ids.ts';
import {
  type DownloadTransport,
  type FederationCall,
  type FederationDownload,
  FederationError,
  type FederationTransport,
} from './transport.ts';

/** What the configuration says of one other server. */
export interface PeerEntry {
  readonly serverName: ServerName;
  /** As parsePeerAddress reads it. */
  readonly address: string;
  readonly trust?: PeerTrust;
}

/**
 * Why the signing key in a server's pipe identity is believed. `verified`: the key API of that server confirms it over
 * HTTPS. `tofu`: the first one seen. `pinned`: it is this one, either `ed25519:` and the key in unpadded base64, or the
 * SHA-256 of its 32 bytes in base64 or in hexadecimal.
 */
export type PeerTrust = 'verified' | 'tofu' | { readonly pinned: string };

export type TransportKind = 'https' | 'pipe';

/** Where a server behind a pipe is: over which link, and its address there in that link's notation. */
export interface PipeAddress {
  /** UDP_LINK, WEBSOCKET_LINK, or serialLink(name). */
  readonly link: string;
  readonly address: string;
}

export const UDP_LINK = 'udp';
export const WEBSOCKET_LINK = 'websocket';
export const serialLink = (name: string): string => `serial:${name}`;

/**
 * Where a peer entry's address leads.
 *
 * - `https://host:port`: over HTTPS, to just there (undefined)
 * - `ravine://host:port`: through a pipe over UDP
 * - `ravine+wss://host[:port][/path]`, `ravine+ws://...`: through a pipe over WebSocket; without a path, RFC 8323's
 * - `ravine+serial://name[/callsign]`: through a pipe over the serial link of that name, to the station of that callsign
 *   where the link has such
 */
export function parsePeerAddress(address: string): Result<PipeAddress | undefined> {
  const match = /^([a-z+]+):\/\/([^/\s]+)(\/\S*)?$/.exec(address);
  const [, scheme = '', host = '', path = ''] = match ?? [];
  switch (scheme) {
    case 'https':
      return path === '' ? ok(undefined) : bad('an address with https:// has no path');
    case 'ravine':
      return path === ''
        ? ok({ link: UDP_LINK, address: host })
        : bad('an address with ravine:// has no path');
    case 'ravine+ws':
    case 'ravine+wss': {
      const url = address.slice('ravine+'.length);
      return URL.canParse(url)
        ? ok({ link: WEBSOCKET_LINK, address: url })
        : bad('it is not the URL of a WebSocket');
    }
    case 'ravine+serial': {
      const link = serialLink(host);
      return ok({ link, address: path.length > 1 ? path.slice(1) : link });
    }
    default:
      return bad(
        'it starts with none of https://, ravine://, ravine+wss://, ravine+ws:// and ravine+serial://',
      );
  }
}

/** The addresses of the servers that are reached through a pipe. */
export function pipeAddresses(peers: readonly PeerEntry[]): ReadonlyMap<ServerName, PipeAddress> {
  return new Map(
    peers.flatMap(({ serverName, address }) => {
      const parsed = parsePeerAddress(address);
      return parsed.ok && parsed.value !== undefined ? [[serverName, parsed.value] as const] : [];
    }),
  );
}

type Transport = FederationTransport & Partial<DownloadTransport>;

/** Chooses the transport for each server: the pipe where a peer entry says so, HTTPS elsewhere. */
export class Transports implements FederationTransport, DownloadTransport {
  /** Requests begun, by transport. */
  readonly counters: Record<TransportKind, number> = { https: 0, pipe: 0 };
  readonly #own: ServerName;
  readonly #inPipe: ReadonlySet<ServerName>;
  readonly #transports: Readonly<Partial<Record<TransportKind, Transport>>>;

  constructor({
    serverName,
    peers,
    https,
    pipe,
  }: {
    readonly serverName: ServerName;
    readonly peers: readonly PeerEntry[];
    /** Without it, only servers behind a pipe can be reached. */
    readonly https?: Transport;
    readonly pipe?: Transport;
  }) {
    this.#own = serverName;
    this.#inPipe = new Set(pipeAddresses(peers).keys());
    this.#transports = { ...(https && { https }), ...(pipe && { pipe }) };
  }

  kindFor(destination: ServerName): TransportKind {
    return this.#inPipe.has(destination) ? 'pipe' : 'https';
  }

  /** @param kind the transport to use, where it is not the one for that server */
  async request(
    destination: ServerName,
    call: FederationCall,
    kind: TransportKind = this.kindFor(destination),
  ): ReturnType<FederationTransport['request']> {
    return this.#transport(destination, kind).request(destination, call);
  }

  async download(destination: ServerName, call: FederationCall): Promise<FederationDownload> {
    const kind = this.kindFor(destination);
    const transport = this.#transport(destination, kind);
    if (transport.download === undefined)
      throw new FederationError('unreachable', `no files come over ${kind} from ${destination}`);
    return transport.download(destination, call);
  }

  /** Counts what is begun. */
  #transport(destination: ServerName, kind: TransportKind): Transport {
    if (destination === this.#own)
      throw new FederationError('refused', 'a server does not federate with itself');
    const transport = this.#transports[kind];
    if (transport === undefined)
      throw new FederationError('unreachable', `no ${kind} transport for ${destination}`);
    this.counters[kind]++;
    return transport;
  }
}

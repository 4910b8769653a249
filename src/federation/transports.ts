import type { ServerName } from '../matrix/ids.ts';
import { type FederationCall, FederationError, type FederationTransport } from './transport.ts';

/** What the configuration says of one other server. */
export interface PeerEntry {
  readonly serverName: ServerName;
  /** `ravine://host:port`: through a pipe to that address of the link. `https://host:port`: connect there. */
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

const PIPE_SCHEME = 'ravine://';

/** The addresses of the servers that are reached through a pipe, in the link's notation. */
export function pipeAddresses(peers: readonly PeerEntry[]): ReadonlyMap<ServerName, string> {
  return new Map(
    peers.flatMap(({ serverName, address }) =>
      address.startsWith(PIPE_SCHEME) ? [[serverName, address.slice(PIPE_SCHEME.length)] as const] : [],
    ),
  );
}

/** Chooses the transport for each server: the pipe where a peer entry says so, HTTPS elsewhere. */
export class Transports implements FederationTransport {
  /** Requests begun, by transport. */
  readonly counters: Record<TransportKind, number> = { https: 0, pipe: 0 };
  readonly #own: ServerName;
  readonly #inPipe: ReadonlySet<ServerName>;
  readonly #transports: Readonly<Partial<Record<TransportKind, FederationTransport>>>;

  constructor({
    serverName,
    peers,
    https,
    pipe,
  }: {
    readonly serverName: ServerName;
    readonly peers: readonly PeerEntry[];
    /** Without it, only servers behind a pipe can be reached. */
    readonly https?: FederationTransport;
    readonly pipe?: FederationTransport;
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
    if (destination === this.#own)
      throw new FederationError('refused', 'a server does not federate with itself');
    const transport = this.#transports[kind];
    if (transport === undefined)
      throw new FederationError('unreachable', `no ${kind} transport for ${destination}`);
    this.counters[kind]++;
    return transport.request(destination, call);
  }
}

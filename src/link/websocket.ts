import type { Random } from '../base/random.ts';
import type { Cancel, Clock, Millis } from '../base/time.ts';
import type { Address, Link, LinkProfile } from './link.ts';

/** One WebSocket, as the server's and a browser's can be made to look. */
export interface MessageSocket {
  /** Bytes that were sent and have not left this process. */
  readonly bufferedBytes: number;
  /** Sets the one listener; an opening that failed is a closing. */
  listen(listener: {
    opened(): void;
    message(bytes: Uint8Array): void;
    /** Something else was heard that shows that the other side lives. */
    heard(): void;
    closed(): void;
  }): void;
  send(bytes: Uint8Array): void;
  /** Asks the other side for a sign of life; undefined where that cannot be done (browsers). */
  readonly ping?: () => void;
  close(code: number, reason: string): void;
  /** Cuts the connection at once, where that can be done. */
  destroy(): void;
}

/** A link over connections, of which each carries whole messages reliably and in order, or ends. */
export interface ConnectionLink extends Link {
  /**
   * Returns whether the message is on its way. Where it is not, there is no connection: the last message to one that is
   * being opened goes out when it is, the others are lost.
   */
  send(to: Address, bytes: Uint8Array): boolean;
  /** Sets the one listener. Between `opened` and `closed` of an address it names one connection. */
  onConnection(listener: { opened(address: Address): void; closed(address: Address): void }): void;
  /** Ends a connection. An outgoing one is made again, after `holdOffMs` at the earliest. */
  drop(address: Address, reason: string, holdOffMs?: Millis): void;
}

// RFC 8323, sections 4.1 and 8.3.
export const WEBSOCKET_SUBPROTOCOL = 'coap';
export const WEBSOCKET_PATH = '/.well-known/coap';

/** RFC 6455, section 7.4.1. */
const NORMAL_CLOSURE = 1000;
const GOING_AWAY = 1001;

// Ours.
/** Bytes of one message that is taken. */
export const MAX_MESSAGE_BYTES = 64 * 1024;
/** A connection whose other side does not read is cut where more than this waits. */
const MAX_BUFFERED_BYTES = 256 * 1024;
/** Connections that others have made, of all and from one network. */
const MAX_ACCEPTED = 1024;
const MAX_ACCEPTED_OF_NETWORK = 64;
/** Connections that this side makes. */
const MAX_DIALLED = 256;
/** After this silence the other side is asked for a sign of life, and after twice this silence it is given up. */
const QUIET_MS: Millis = 45_000;
/** How long an opening may take. */
const OPENING_MS: Millis = 30_000;
const FIRST_RETRY_MS: Millis = 1_000;
const LONGEST_RETRY_MS: Millis = 60_000;
const LONGEST_HOLD_OFF_MS: Millis = 3_600_000;

const PROFILE: LinkProfile = {
  // What a peer takes that has not said otherwise (RFC 8323, section 5.3.1).
  mtu: 1152,
  rate: null,
  delay: 0,
  // Ethernet, IPv4, TCP with timestamps, and the head of a masked frame.
  overhead: 14 + 20 + 32 + 8,
};

interface Connection {
  readonly address: Address;
  readonly socket: MessageSocket;
  /** Where it comes from; undefined: it was dialled. */
  readonly network: string | undefined;
  open: boolean;
  /** Ends the wait for it to open. */
  opening: Cancel;
  heardAt: Millis;
  /** What was sent last while it was being opened: losing the first message would cost its sender a timer. */
  early: Uint8Array | undefined;
}

/** A URL that is kept connected. */
interface Dialled {
  readonly url: string;
  retryAfterMs: Millis;
  retry: Cancel;
}

export interface WebSocketLinkOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Makes a connection to a URL `ws://` or `wss://`; without it only accepted connections carry anything. */
  readonly dial?: (url: string) => MessageSocket;
}

/**
 * All WebSocket connections of one endpoint. Those that others have made are named by their host and a number; those to
 * a URL by the URL: one is made when something is first sent there, and again whenever it has ended.
 */
export class WebSocketLink implements ConnectionLink {
  readonly profile = PROFILE;
  /** Messages that did not go out, and connections that were not taken. */
  readonly counters = { lost: 0, refused: 0 };
  readonly #options: WebSocketLinkOptions;
  readonly #connections = new Map<Address, Connection>();
  /** Connections that came from each network. */
  readonly #networks = new Map<string, number>();
  #accepted = 0;
  readonly #dialled = new Map<string, Dialled>();
  #numbers = 0;
  #receive: (from: Address, bytes: Uint8Array) => void = () => undefined;
  #listener: Parameters<ConnectionLink['onConnection']>[0] | undefined;
  #sweep: Cancel | undefined;
  #closed = false;

  constructor(options: WebSocketLinkOptions) {
    this.#options = options;
  }

  /** Connections, those being opened included. */
  get size(): number {
    return this.#connections.size;
  }

  onReceive(receive: (from: Address, bytes: Uint8Array) => void): void {
    this.#receive = receive;
  }

  onConnection(listener: Parameters<ConnectionLink['onConnection']>[0]): void {
    this.#listener = listener;
  }

  /** Whether one more connection from a network finds room. */
  hasRoomFor(network: string): boolean {
    if (this.#closed || this.#accepted >= MAX_ACCEPTED) return false;
    return (this.#networks.get(network) ?? 0) < MAX_ACCEPTED_OF_NETWORK;
  }

  /**
   * Takes a connection that is open.
   * @param host the IP address of the other side
   * @param network what one owner of addresses has as a rule, in whatever form: `host` or a part of it
   */
  accept(socket: MessageSocket, host: string, network: string): void {
    if (!this.hasRoomFor(network)) {
      this.counters.refused++;
      socket.destroy();
      return;
    }
    this.#networks.set(network, (this.#networks.get(network) ?? 0) + 1);
    this.#accepted++;
    // In the form of an address with a port, by which callers are held to rates.
    const address = `${host.includes(':') ? `[${host}]` : host}:${++this.#numbers}`;
    const connection = this.#add(address, socket, network);
    this.#opened(connection);
  }

  /** Keeps a connection to a URL from now on. */
  connect(url: string): void {
    if (this.#closed || !URL.canParse(url) || this.#dialled.has(url) || this.#options.dial === undefined)
      return;
    if (this.#dialled.size >= MAX_DIALLED) return;
    const dialled: Dialled = { url, retryAfterMs: FIRST_RETRY_MS, retry: () => undefined };
    this.#dialled.set(url, dialled);
    this.#dial(dialled);
  }

  send(to: Address, bytes: Uint8Array): boolean {
    if (isWebSocketUrl(to)) this.connect(to);
    const connection = this.#connections.get(to);
    if (connection?.open) {
      if (connection.socket.bufferedBytes + bytes.length <= MAX_BUFFERED_BYTES) {
        connection.socket.send(bytes);
        return true;
      }
      this.#cut(connection);
    } else if (connection !== undefined) connection.early = bytes;
    this.counters.lost++;
    return false;
  }

  drop(address: Address, reason: string, holdOffMs: Millis = 0): void {
    const connection = this.#connections.get(address);
    if (connection === undefined) return;
    const dialled = this.#dialled.get(address);
    if (dialled !== undefined)
      dialled.retryAfterMs = Math.max(dialled.retryAfterMs, Math.min(holdOffMs, LONGEST_HOLD_OFF_MS));
    connection.socket.close(NORMAL_CLOSURE, reason);
    this.#ended(connection);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#sweep?.();
    this.#sweep = undefined;
    for (const dialled of this.#dialled.values()) dialled.retry();
    for (const connection of [...this.#connections.values()]) {
      connection.socket.close(GOING_AWAY, 'going away');
      this.#ended(connection);
    }
  }

  #dial(dialled: Dialled): void {
    const socket = this.#options.dial!(withPath(dialled.url));
    const connection = this.#add(dialled.url, socket, undefined);
    connection.opening = this.#options.clock.after(OPENING_MS, () => this.#cut(connection));
  }

  #add(address: Address, socket: MessageSocket, network: string | undefined): Connection {
    const { clock } = this.#options;
    const connection: Connection = {
      address,
      socket,
      network,
      open: false,
      opening: () => undefined,
      heardAt: clock.monotonic(),
      early: undefined,
    };
    this.#connections.set(address, connection);
    const current = (): boolean => this.#connections.get(address) === connection;
    socket.listen({
      opened: () => {
        if (current() && !connection.open) this.#opened(connection);
      },
      message: (bytes) => {
        connection.heardAt = clock.monotonic();
        if (!current()) return;
        if (bytes.length > MAX_MESSAGE_BYTES) this.#cut(connection);
        else this.#receive(address, bytes);
      },
      heard: () => {
        connection.heardAt = clock.monotonic();
      },
      closed: () => this.#ended(connection),
    });
    this.#sweep ??= clock.after(QUIET_MS, () => this.#lookAfter());
    return connection;
  }

  #opened(connection: Connection): void {
    connection.open = true;
    connection.opening();
    connection.heardAt = this.#options.clock.monotonic();
    const dialled = this.#dialled.get(connection.address);
    if (dialled !== undefined) dialled.retryAfterMs = FIRST_RETRY_MS;
    this.#listener?.opened(connection.address);
    if (connection.early !== undefined) this.send(connection.address, connection.early);
    connection.early = undefined;
  }

  #cut(connection: Connection): void {
    connection.socket.destroy();
    this.#ended(connection);
  }

  #ended(connection: Connection): void {
    const { address, network } = connection;
    if (this.#connections.get(address) !== connection) return;
    this.#connections.delete(address);
    connection.opening();
    if (network !== undefined) {
      this.#accepted--;
      const left = this.#networks.get(network)! - 1;
      if (left > 0) this.#networks.set(network, left);
      else this.#networks.delete(network);
    }
    if (connection.open) this.#listener?.closed(address);
    const dialled = this.#dialled.get(address);
    if (dialled === undefined || this.#closed) return;
    // Those whom a server has lost at once should not come back at once.
    const wait = dialled.retryAfterMs * (1 + this.#options.random.fraction() / 2);
    dialled.retryAfterMs = Math.min(2 * dialled.retryAfterMs, LONGEST_RETRY_MS);
    dialled.retry = this.#options.clock.after(wait, () => this.#dial(dialled));
  }

  /** Asks quiet connections for a sign of life, and gives up those that give none. */
  #lookAfter(): void {
    this.#sweep = undefined;
    const now = this.#options.clock.monotonic();
    for (const connection of [...this.#connections.values()]) {
      const { open, socket, heardAt } = connection;
      if (!open || socket.ping === undefined || now - heardAt < QUIET_MS) continue;
      if (now - heardAt >= 2 * QUIET_MS) this.#cut(connection);
      else socket.ping();
    }
    if (this.#connections.size > 0 && !this.#closed)
      this.#sweep = this.#options.clock.after(QUIET_MS, () => this.#lookAfter());
  }
}

/** Whether an address is one of those to which connections are made, and made again. */
export const isWebSocketUrl = (address: Address): boolean => /^wss?:\/\//.test(address);

/** A URL without a path means RFC 8323's. */
function withPath(url: string): string {
  const parsed = new URL(url);
  if (parsed.pathname === '/') parsed.pathname = WEBSOCKET_PATH;
  return parsed.href;
}

/** The part of the WebSocket of browsers and Node.js that is used. */
interface WebSocketLike {
  binaryType: string;
  readonly readyState: number;
  readonly bufferedAmount: number;
  addEventListener(type: string, listener: (event: { readonly data?: unknown }) => void): void;
  send(bytes: Uint8Array<ArrayBuffer>): void;
  close(code?: number, reason?: string): void;
}

/** Connects with the platform's own WebSocket, in a browser or in Node.js. */
export function dialWebSocket(url: string): MessageSocket {
  return fromWebSocket(new WebSocket(url, WEBSOCKET_SUBPROTOCOL) as unknown as WebSocketLike);
}

function fromWebSocket(socket: WebSocketLike): MessageSocket {
  socket.binaryType = 'arraybuffer';
  return {
    get bufferedBytes() {
      return socket.bufferedAmount;
    },
    listen({ opened, message, closed }) {
      socket.addEventListener('open', opened);
      socket.addEventListener('message', ({ data }) => {
        // Text is no message of ours (RFC 8323, section 4.2).
        if (data instanceof ArrayBuffer) message(new Uint8Array(data));
        else socket.close();
      });
      socket.addEventListener('close', closed);
    },
    send: (bytes) => socket.send(new Uint8Array(bytes)),
    // Browsers let a page say nothing but that the end is a normal one.
    close: (_, reason) => socket.close(NORMAL_CLOSURE, reason),
    destroy: () => socket.close(),
  };
}

/**
 * A link to the server at a URL, connected from now on and again after each loss; its address there is the URL. Runs in
 * browsers as well.
 */
export function openWebSocketLink({
  url,
  clock,
  random,
  dial = dialWebSocket,
}: Omit<WebSocketLinkOptions, 'dial'> & {
  readonly url: string;
  readonly dial?: (url: string) => MessageSocket;
}): WebSocketLink {
  const link = new WebSocketLink({ clock, random, dial });
  link.connect(url);
  return link;
}

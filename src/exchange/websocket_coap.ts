import { hex, utf8 } from '../base/bytes.ts';
import { code, EMPTY, isRequest, isResponse } from '../coap/codes.ts';
import { decode, encode, type Message, NO_BYTES } from '../coap/message.ts';
import { OPTION, type Option, uintOption } from '../coap/options.ts';
import {
  abort,
  BASE_MAX_MESSAGE_SIZE,
  csm,
  decodeReliable,
  encodeReliable,
  isSignal,
  ping,
  pong,
  type ReliableMessage,
  readSignal,
  type SignalProblem,
} from '../coap/reliable_message.ts';
import type { Address, Link } from '../link/link.ts';
import { type ConnectionLink, isWebSocketUrl, MAX_MESSAGE_BYTES } from '../link/websocket.ts';

/** The first byte of a pipe record; a message over WebSocket starts with less than 16. */
const FIRST_PIPE_BYTE = 0x80;
/** The specification's: sixteen bits of message id, and 24 of Observe (RFC 7641, section 4.4). */
const MESSAGE_IDS = 2 ** 16;
const OBSERVE_VALUES = 2 ** 24;

// Ours.
/** Own requests on one connection whose end is reported when it is lost. */
const MAX_OPEN_REQUESTS = 1024;
/** Connections for which a message waits. */
const MAX_EARLY = 256;

const FORBIDDEN = code(4, 3);
const REFUSAL = utf8('plain CoAP is not served here');
const SERVICE_UNAVAILABLE = code(5, 3);
const CONNECTION_LOST = utf8('the connection was lost');

/** What is known of one connection. */
class Connection {
  introduced = false;
  /** What the peer takes. */
  maxMessageSize = BASE_MAX_MESSAGE_SIZE;
  /** The peer wants it to end; for how long it is not to be made again. */
  releasedForMs: number | undefined;
  /** Tokens of own requests and observations without an end, the oldest first. */
  readonly open = new Map<string, Uint8Array>();
  #nextId = 0;
  #nextObserve = 0;

  /** An id for a message that came without one. */
  takeId(): number {
    const id = this.#nextId;
    this.#nextId = (id + 1) % MESSAGE_IDS;
    return id;
  }

  takeObserve(): number {
    this.#nextObserve = (this.#nextObserve + 1) % OBSERVE_VALUES;
    return this.#nextObserve;
  }

  opened(token: Uint8Array): void {
    this.open.set(hex(token), token);
    if (this.open.size <= MAX_OPEN_REQUESTS) return;
    const [oldest] = this.open.keys();
    this.open.delete(oldest!);
  }
}

/**
 * Lets an endpoint of CoAP over UDP speak over WebSocket (RFC 8323), where messages have neither type nor id, since the
 * connection is reliable:
 *
 * - a confirmable message of ours goes out without both, and its acknowledgement is made here at once. Where there is no
 *   connection it stays away, so that the endpoint sends the message again;
 * - an acknowledgement with a response goes out as that response; other acknowledgements and resets end here;
 * - a request of the peer's is handed in as confirmable, since each has to be answered, also one that is refused; a
 *   response as non-confirmable. Both get fresh ids;
 * - a ping becomes a Ping, and its Pong the reset that answers a ping over UDP;
 * - where the connection is lost, what was asked on it is answered 5.03: nobody else would tell.
 *
 * Pipe records pass as they are, each a message of its own.
 * @param plain whether the peers' requests outside of pipes are served; else they get 4.03. A page of any site may open
 *   a WebSocket to a server that its reader can reach, and a proxy makes everybody's come from its own address: where
 *   a connection comes from proves nothing, so that "loopback" cannot be a reason to serve it
 */
export function coapOverWebSocket({
  link,
  plain,
}: {
  readonly link: ConnectionLink;
  readonly plain: boolean;
}): Link {
  return new WebSocketCoap(link, plain);
}

class WebSocketCoap implements Link {
  readonly profile;
  readonly #link: ConnectionLink;
  readonly #plain: boolean;
  readonly #connections = new Map<Address, Connection>();
  /** The last confirmable message for a connection that is not there yet. */
  readonly #early = new Map<Address, Uint8Array>();
  #receive: (from: Address, bytes: Uint8Array) => void = () => undefined;

  constructor(link: ConnectionLink, plain: boolean) {
    this.#link = link;
    this.#plain = plain;
    this.profile = link.profile;
    link.onConnection({
      opened: (address) => this.#opened(address),
      closed: (address) => this.#closed(address),
    });
    link.onReceive((from, bytes) => this.#received(from, bytes));
  }

  onReceive(receive: (from: Address, bytes: Uint8Array) => void): void {
    this.#receive = receive;
  }

  close(): Promise<void> {
    return this.#link.close();
  }

  send(to: Address, bytes: Uint8Array): void {
    if ((bytes[0] ?? 0) >= FIRST_PIPE_BYTE) {
      this.#link.send(to, bytes);
      return;
    }
    const decoded = decode(bytes);
    if (!decoded.ok) return;
    const connection = this.#connections.get(to);
    if (connection !== undefined) this.#sendOn(connection, to, decoded.value);
    else if (decoded.value.type === 'CON' && isWebSocketUrl(to)) this.#keepEarly(to, bytes);
  }

  /** Only where a connection may come: one that others have made is never made again. */
  #keepEarly(to: Address, bytes: Uint8Array): void {
    if (this.#early.size < MAX_EARLY || this.#early.has(to)) this.#early.set(to, bytes);
  }

  #sendOn(connection: Connection, to: Address, message: Message): void {
    const { type, code: of, id, token } = message;
    if (type === 'RST') return;
    if (of === EMPTY) {
      if (type === 'CON') this.#write(to, ping(Uint8Array.of(id >> 8, id & 0xff)));
      return;
    }
    const asks = isRequest(of);
    if (asks && connection.releasedForMs !== undefined) return;
    const reliable = encodeReliable(message);
    if (reliable.length > connection.maxMessageSize || !this.#link.send(to, reliable)) return;
    if (asks) connection.opened(token);
    if (type === 'CON') this.#handIn(to, { ...NOTHING, type: 'ACK', id });
  }

  #opened(address: Address): void {
    const connection = new Connection();
    this.#connections.set(address, connection);
    this.#write(address, csm(MAX_MESSAGE_BYTES));
    const early = this.#early.get(address);
    this.#early.delete(address);
    if (early !== undefined) this.send(address, early);
  }

  #closed(address: Address): void {
    const connection = this.#connections.get(address);
    if (connection === undefined) return;
    this.#connections.delete(address);
    for (const token of connection.open.values()) {
      const response = { code: SERVICE_UNAVAILABLE, token, options: [], payload: CONNECTION_LOST };
      this.#handIn(address, { ...response, type: 'NON', id: connection.takeId() });
    }
  }

  #received(from: Address, bytes: Uint8Array): void {
    if ((bytes[0] ?? 0) >= FIRST_PIPE_BYTE) {
      this.#receive(from, bytes);
      return;
    }
    const connection = this.#connections.get(from);
    if (connection === undefined) return;
    const decoded = decodeReliable(bytes);
    if (!decoded.ok) this.#abort(from, { sentence: decoded.problem, badCsmOption: null });
    // An empty message keeps a connection alive and says nothing (RFC 8323, section 3.4).
    else if (decoded.value.code !== EMPTY) this.#onMessage(connection, from, decoded.value);
  }

  #onMessage(connection: Connection, from: Address, message: ReliableMessage): void {
    if (isSignal(message.code)) this.#onSignal(connection, from, message);
    else if (!connection.introduced)
      this.#abort(from, { sentence: 'the first message is a CSM', badCsmOption: null });
    else if (isRequest(message.code)) this.#onRequest(connection, from, message);
    else if (isResponse(message.code)) this.#onResponse(connection, from, message);
  }

  #onRequest(connection: Connection, from: Address, message: ReliableMessage): void {
    if (this.#plain) this.#handIn(from, { ...message, type: 'CON', id: connection.takeId() });
    else this.#write(from, { code: FORBIDDEN, token: message.token, options: [], payload: REFUSAL });
  }

  #onResponse(connection: Connection, from: Address, message: ReliableMessage): void {
    const notifies = message.options.some(({ number }) => number === OPTION.observe);
    if (!notifies) connection.open.delete(hex(message.token));
    // The order is the connection's, and the value may be anything (section 7.1); over UDP the value is the order.
    const options = message.options.map(
      (option): Option =>
        option.number === OPTION.observe ? uintOption(OPTION.observe, connection.takeObserve()) : option,
    );
    this.#handIn(from, { ...message, options, type: 'NON', id: connection.takeId() });
    this.#endIfReleased(connection, from);
  }

  #onSignal(connection: Connection, from: Address, message: ReliableMessage): void {
    const signal = readSignal(message);
    if (!signal.ok) {
      this.#abort(from, signal.problem);
      return;
    }
    const { value } = signal;
    if (value.kind !== 'csm' && value.kind !== 'abort' && !connection.introduced) {
      this.#abort(from, { sentence: 'the first message is a CSM', badCsmOption: null });
      return;
    }
    switch (value.kind) {
      case 'csm':
        connection.introduced = true;
        connection.maxMessageSize = value.maxMessageSize ?? connection.maxMessageSize;
        break;
      case 'ping':
        this.#write(from, pong(value.token));
        break;
      case 'pong':
        this.#onPong(from, value.token);
        break;
      case 'release':
        connection.releasedForMs = value.holdOffSeconds * 1000;
        this.#endIfReleased(connection, from);
        break;
      case 'abort':
        this.#link.drop(from, 'aborted');
    }
  }

  #onPong(from: Address, token: Uint8Array): void {
    const [high, low] = token;
    if (token.length === 2) this.#handIn(from, { ...NOTHING, type: 'RST', id: (high! << 8) | low! });
  }

  /** A peer that has released the connection still answers what it was asked (section 5.5). */
  #endIfReleased({ releasedForMs, open }: Connection, address: Address): void {
    if (releasedForMs !== undefined && open.size === 0) this.#link.drop(address, 'released', releasedForMs);
  }

  #abort(address: Address, problem: SignalProblem): void {
    this.#write(address, abort(problem));
    this.#link.drop(address, 'aborted');
  }

  #write(to: Address, message: ReliableMessage): void {
    this.#link.send(to, encodeReliable(message));
  }

  #handIn(from: Address, message: Message): void {
    this.#receive(from, encode(message));
  }
}

const NOTHING = { code: EMPTY, token: NO_BYTES, options: [], payload: NO_BYTES } as const;

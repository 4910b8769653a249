import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import { getCACertificates } from 'node:tls';
import { WebSocket, WebSocketServer } from 'ws';
import { networkOf } from '../base/network.ts';
import {
  MAX_MESSAGE_BYTES,
  type MessageSocket,
  WEBSOCKET_PATH,
  WEBSOCKET_SUBPROTOCOL,
  type WebSocketLink,
} from './websocket.ts';

/** RFC 6455, section 7.4.1. */
const UNSUPPORTED_DATA = 1003;

// Ours.
/** A message may come in so many frames, and what is not yet a frame in so many pieces: each costs more than its bytes. */
const MAX_FRAGMENTS = 256;
const MAX_PIECES = 4096;
const LIMITS = {
  maxPayload: MAX_MESSAGE_BYTES,
  maxFragments: MAX_FRAGMENTS,
  maxBufferedChunks: MAX_PIECES,
};

/** Takes the requests of an HTTP server that ask for CoAP over WebSocket (RFC 8323, section 4.1) into a link. */
export function webSocketUpgrader(link: WebSocketLink): {
  /** Whether it is such a request; others are ordinary ones. */
  accepts(request: IncomingMessage): boolean;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
} {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    ...LIMITS,
    // What is compressed beside a secret gives it away, and pipe records do not compress.
    perMessageDeflate: false,
    handleProtocols: (offered) => (offered.has(WEBSOCKET_SUBPROTOCOL) ? WEBSOCKET_SUBPROTOCOL : false),
  });
  return {
    accepts: ({ url = '', headers }) =>
      url.split('?', 1)[0] === WEBSOCKET_PATH && headers.upgrade?.toLowerCase() === 'websocket',
    upgrade(request, socket, head) {
      const host = clientAddress(request);
      if (!offersCoap(request)) refuse(socket, '400 Bad Request', 'The subprotocol is "coap".');
      else if (host === undefined || !link.hasRoomFor(networkOf(host)))
        refuse(socket, '503 Service Unavailable', 'Too many connections.');
      else
        server.handleUpgrade(request, socket, head, (opened) =>
          link.accept(messageSocket(opened), host, networkOf(host)),
        );
    },
  };
}

/** Makes connections to other servers. @param authorities PEM certificates trusted besides the system's */
export function webSocketDialler(authorities: readonly string[] = []): (url: string) => MessageSocket {
  // Left out: what Node.js trusts by itself.
  const ca = authorities.length > 0 && {
    ca: [...getCACertificates('default'), ...getCACertificates('system'), ...authorities],
  };
  return (url) =>
    messageSocket(
      new WebSocket(url, WEBSOCKET_SUBPROTOCOL, {
        ...LIMITS,
        perMessageDeflate: false,
        followRedirects: false,
        ...ca,
      }),
    );
}

const offersCoap = ({ headers }: IncomingMessage): boolean =>
  (headers['sec-websocket-protocol'] ?? '')
    .split(',')
    .some((protocol) => protocol.trim() === WEBSOCKET_SUBPROTOCOL);

/** Where a request comes from. As for all of HTTP, a proxy on this machine is believed, and nobody else. */
function clientAddress({ socket, headers }: IncomingMessage): string | undefined {
  const forwarded = [headers['x-forwarded-for'] ?? []]
    .flat()
    .flatMap((line) => line.split(','))
    .map((address) => address.trim());
  let address = plainAddress(socket.remoteAddress);
  while (address !== undefined && isLoopback(address) && forwarded.length > 0) {
    const before = plainAddress(forwarded.pop());
    if (before === undefined) break;
    address = before;
  }
  return address;
}

/** An IP address, IPv4 in its own form; undefined where it is none. */
function plainAddress(text: string | undefined): string | undefined {
  const address = text?.replace(/^::ffff:(?=\d+\.)/i, '') ?? '';
  return isIP(address) === 0 ? undefined : address;
}

const isLoopback = (address: string): boolean => address.startsWith('127.') || address === '::1';

function refuse(socket: Duplex, status: string, sentence: string): void {
  socket.on('error', () => socket.destroy());
  // No timer of the HTTP server watches this socket any more: the other side's end is not waited for.
  socket.once('finish', () => socket.destroy());
  socket.end(
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: text/plain\r\n` +
      `Content-Length: ${Buffer.byteLength(sentence)}\r\n\r\n${sentence}`,
  );
}

function messageSocket(socket: WebSocket): MessageSocket {
  return {
    get bufferedBytes() {
      return socket.bufferedAmount;
    },
    listen({ opened, message, heard, closed }) {
      socket.on('open', opened);
      socket.on('message', (data, isBinary) => {
        // Text is no message of ours (RFC 8323, section 4.2).
        if (isBinary) message(new Uint8Array(data as Buffer));
        else socket.close(UNSUPPORTED_DATA, 'binary messages only');
      });
      socket.on('ping', heard);
      socket.on('pong', heard);
      socket.on('close', closed);
      // A close follows, which says the same.
      socket.on('error', () => undefined);
    },
    send: (bytes) => socket.send(bytes),
    ping: () => socket.ping(),
    close: (code, reason) => socket.close(code, reason),
    destroy: () => socket.terminate(),
  };
}

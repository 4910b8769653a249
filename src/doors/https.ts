import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import type { Clock } from '../base/time.ts';
import { MatrixError } from '../matrix/error.ts';

/** From the first byte of a request to the end of its headers. */
const HEADERS_TIMEOUT_MS = 30_000;
/** From the first byte of a request to its last: an upload over a slow line takes its time. An answer may take longer. */
const REQUEST_TIMEOUT_MS = 300_000;
/** How long an idle connection stays: longer than the minute after which proxies give up theirs. */
const KEEP_ALIVE_TIMEOUT_MS = 75_000;
/** Bytes of a request's line and headers. */
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_CONNECTIONS = 10_000;
/** How long requests that are being answered may go on when the door closes. */
const CLOSE_GRACE_MS = 2_000;

/** A certificate chain and its key, PEM. */
export interface TlsMaterial {
  readonly cert: string;
  readonly key: string;
}

/** Takes requests for another protocol. */
export interface Upgrader {
  /** Whether it wants that request; others are ordinary ones. */
  accepts(request: IncomingMessage): boolean;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
}

export interface HttpDoorOptions {
  /** The address to listen on. */
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** Left out: plain HTTP, for a proxy in front or for tests. */
  readonly tls?: TlsMaterial | undefined;
  readonly clock: Clock;
  /** Without it, requests for another protocol are ordinary ones. */
  readonly upgrader?: Upgrader | undefined;
}

export interface HttpDoor {
  readonly host: string;
  /** The port that was bound. */
  readonly port: number;
  /** Presents another certificate to connections from now on. @throws Error where the two do not fit together */
  reload(tls: TlsMaterial): void;
  /** Takes no new connection, lets requests finish for a moment, and cuts off the rest. */
  close(): Promise<void>;
}

/**
 * Lets HTTP or HTTPS requests into the app. An app can have several doors.
 * @throws Error where the address cannot be bound or the certificate not be used
 */
export async function openHttpDoor(app: FastifyInstance, options: HttpDoorOptions): Promise<HttpDoor> {
  await app.ready();
  const answering = new Set<ServerResponse>();
  const handle = (request: IncomingMessage, response: ServerResponse): void => {
    answering.add(response);
    response.once('close', () => answering.delete(response));
    app.routing(request, response);
  };
  const server = createServer(options, handle);
  const sockets = trackSockets(server);
  await listen(server, options);
  const { address, port } = server.address() as AddressInfo;
  let closed: Promise<void> | undefined;

  return {
    host: address,
    port,
    reload({ cert, key }) {
      (server as HttpsServer).setSecureContext({ cert, key });
    },
    close() {
      closed ??= close(server, sockets, answering, options.clock);
      return closed;
    },
  };
}

function createServer(
  { tls, upgrader }: HttpDoorOptions,
  handle: (request: IncomingMessage, response: ServerResponse) => void,
): Server | HttpsServer {
  const limits = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    maxHeaderSize: MAX_HEADER_BYTES,
    shouldUpgradeCallback: (request: IncomingMessage) => upgrader?.accepts(request) ?? false,
  };
  const server =
    tls === undefined
      ? createHttpServer(limits, handle)
      : createHttpsServer({ ...limits, cert: tls.cert, key: tls.key }, handle);
  server.maxConnections = MAX_CONNECTIONS;
  server.on('clientError', refuse);
  if (upgrader !== undefined) server.on('upgrade', (...request) => upgrader.upgrade(...request));
  return server;
}

/** The sockets below TLS, so that one in its handshake is known too. */
function trackSockets(server: Server | HttpsServer): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  return sockets;
}

function listen(server: Server | HttpsServer, { host, port }: HttpDoorOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

async function close(
  server: Server | HttpsServer,
  sockets: ReadonlySet<Socket>,
  answering: ReadonlySet<ServerResponse>,
  clock: Clock,
): Promise<void> {
  const allClosed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  server.closeIdleConnections();
  for (const response of answering) {
    if (!response.headersSent) response.setHeader('connection', 'close');
    response.once('close', () => server.closeIdleConnections());
  }
  const cancel = clock.after(CLOSE_GRACE_MS, () => {
    for (const socket of sockets) socket.destroy();
  });
  await allClosed;
  cancel();
}

/** Answers what is no HTTP request, or not one of ours, in Matrix's terms. */
function refuse(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const [reason, matrix] = reasonOf(error.code);
  const body = JSON.stringify(matrix.toJson());
  socket.end(
    `HTTP/1.1 ${matrix.status} ${reason}\r\nConnection: close\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nAccess-Control-Allow-Origin: *\r\n\r\n${body}`,
  );
}

function reasonOf(code: string | undefined): readonly [string, MatrixError] {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return [
        'Request Header Fields Too Large',
        new MatrixError(431, 'M_TOO_LARGE', 'The headers are too large.'),
      ];
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return ['Request Timeout', new MatrixError(408, 'M_UNKNOWN', 'The request took too long to arrive.')];
    default:
      return ['Bad Request', new MatrixError(400, 'M_UNKNOWN', 'That is not HTTP.')];
  }
}

import { type ClientRequest, Agent as HttpAgent, request as httpRequest } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import { type Duplex, duplexPair } from 'node:stream';
import { connect } from 'node:tls';
import type { FastifyInstance } from 'fastify';
import { throwawayAuthority } from '../../../src/mesh/authority.ts';

const HOST = 'home.example';
/** Whom the server takes the caller for. */
const CALLER = '192.0.2.1';

export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly bytes: Uint8Array;
}

/** HTTPS between a client and an app in one process: TLS and HTTP as on a network, and no socket of the system. */
export class MemoryHttps {
  readonly #server: Server;
  readonly #agent: HttpAgent;

  private constructor(server: Server, agent: HttpAgent) {
    this.#server = server;
    this.#agent = agent;
  }

  static async open(app: FastifyInstance): Promise<MemoryHttps> {
    const authority = await throwawayAuthority();
    const server = createServer(await authority.issue(HOST), (request, response) =>
      app.routing(request, response),
    );
    server.prependListener('secureConnection', (socket) =>
      Object.defineProperty(socket, 'remoteAddress', { value: CALLER }),
    );
    const agent = new HttpAgent({ keepAlive: true });
    // The agent of https would open a socket of the system.
    agent.createConnection = (): Duplex => {
      const [near, far] = duplexPair();
      server.emit('connection', far as Socket);
      return connect({ socket: near, ca: authority.certificate, servername: HOST });
    };
    return new MemoryHttps(server, agent);
  }

  request(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    body: Uint8Array | undefined,
  ): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const request: ClientRequest = httpRequest(
        { agent: this.#agent, host: HOST, method, path, headers },
        (response) => {
          const parts: Buffer[] = [];
          response.on('data', (part: Buffer) => parts.push(part));
          response.on('error', reject);
          response.on('end', () => {
            const kept = Object.entries(response.headers).map(([name, value]) => [name, String(value)]);
            const bytes = new Uint8Array(Buffer.concat(parts));
            resolve({ status: response.statusCode ?? 0, headers: Object.fromEntries(kept), bytes });
          });
        },
      );
      request.on('error', reject);
      request.end(body);
    });
  }

  close(): void {
    this.#agent.destroy();
    this.#server.closeAllConnections();
  }
}

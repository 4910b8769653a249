import { createSocket } from 'node:dgram';
import {
  Agent,
  createServer,
  type IncomingMessage,
  type ObserveReadStream,
  type OutgoingMessage,
} from 'coap';
import { BLOCK_SIZES } from '../../src/coap/block.ts';
import type { Address } from '../../src/link/link.ts';
import {
  inverted,
  large,
  locationOf,
  type PeerAnswer,
  type PeerClient,
  type PeerRequest,
  type PeerServer,
} from './peers.ts';

/** Path segments and arguments of a target (RFC 7252, section 6.4). */
function decomposed(target: string): { readonly path: string[]; readonly query: string[] } {
  const [path = '', query] = target.split('?');
  return {
    path: path.split('/').slice(1).map(decodeURIComponent),
    query: query === undefined ? [] : query.split('&').map(decodeURIComponent),
  };
}

const buffers = (texts: readonly string[]): Buffer[] => texts.map((text) => Buffer.from(text));

export class NodeCoapClient implements PeerClient {
  /** Its own one, since `Agent.close` does not come to an end after a request that was given up. */
  readonly #udp = createSocket('udp4');
  readonly #agent = new Agent({ socket: this.#udp });

  request(server: Address, request: PeerRequest): Promise<PeerAnswer> {
    const { payload, timeoutMs = 30_000 } = request;
    return new Promise((resolve, reject) => {
      const message = this.#message(server, request);
      // Its own timer runs for four minutes.
      const timer = setTimeout(() => {
        this.#agent.abort(message);
        reject(new Error('no answer'));
      }, timeoutMs);
      message.on('error', (error: Error) => {
        clearTimeout(timer);
        reject(error);
      });
      message.on('response', (response: IncomingMessage) => {
        clearTimeout(timer);
        resolve(answerOf(response));
      });
      message.end(payload === undefined ? undefined : Buffer.from(payload));
    });
  }

  observe(
    server: Address,
    target: string,
    onValue: (text: string, length: number) => void,
  ): Promise<() => Promise<void>> {
    return new Promise((resolve, reject) => {
      const message = this.#message(server, { method: 'GET', target }, true);
      message.on('error', reject);
      message.on('response', (stream: ObserveReadStream) => {
        stream.on('data', (value: Buffer) => onValue(value.toString(), value.length));
        resolve(async () => stream.close(true));
      });
      message.end();
    });
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.#udp.close(() => resolve());
    });
  }

  #message(server: Address, request: PeerRequest, observe = false): OutgoingMessage {
    const { method, target, options = [], blockSize, confirmable = true, payload } = request;
    const [host, port] = server.split(':');
    const { path, query } = decomposed(target);
    const message = this.#agent.request({
      host: host!,
      port: Number(port),
      method,
      confirmable,
      // It repeats what is here when it deregisters.
      ...(observe ? { observe: true, pathname: target } : {}),
    });
    message.setOption('Uri-Path', buffers(path));
    if (query.length > 0) message.setOption('Uri-Query', buffers(query));
    const names = new Set(options.map(({ number }) => number));
    for (const name of names) {
      const values = options.filter(({ number }) => number === name).map(({ value }) => Buffer.from(value));
      message.setOption(String(name), values);
    }
    const size = Buffer.of(BLOCK_SIZES.findIndex((one) => one === (blockSize ?? 1024)));
    // It divides a body only where it is told to.
    if (payload !== undefined && payload.length > (blockSize ?? 1024)) message.setOption('Block1', size);
    else if (blockSize !== undefined) message.setOption('Block2', size);
    return message;
  }
}

function answerOf({ code, payload, _packet }: IncomingMessage): PeerAnswer {
  const path = raw(_packet, 'Location-Path').map(String);
  const query = raw(_packet, 'Location-Query').map(String);
  return {
    code,
    payload: new Uint8Array(payload),
    eTag: raw(_packet, 'ETag')[0]?.toString('hex'),
    location: locationOf(path, query),
  };
}

type Handler = (request: IncomingMessage, response: OutgoingMessage, path: string[]) => void;

/** How long the server thinks before it answers separately. */
const SEPARATE_MS = 500;

const send = (response: OutgoingMessage, code: string, payload: Uint8Array | string = ''): void => {
  response.code = code;
  response.end(Buffer.from(payload));
};

/** Options by name, as bytes; the library has made text of some. */
const raw = ({ options }: IncomingMessage['_packet'], name: string): Buffer[] =>
  (options ?? [])
    .filter((option) => option.name === name)
    .map(({ value }) => Buffer.from(value as Buffer | string));

/** A server of node-coap with the resources that the tests ask for, in this process. */
export async function startNodeCoapServer(): Promise<PeerServer> {
  const udp = createSocket('udp4');
  await new Promise<void>((resolve) => udp.bind(0, '127.0.0.1', resolve));
  const resources = nodeCoapResources();
  const server = createServer((request, response) => {
    const path = raw(request._packet, 'Uri-Path').map(String);
    const handler = resources.get(path.join('/')) ?? (path[0] === 'echo' ? echo : undefined);
    if (handler === undefined) send(response, '4.04');
    else handler(request, response, path);
  });
  await new Promise<void>((resolve) => server.listen(udp, () => resolve()));
  return {
    address: `127.0.0.1:${udp.address().port}`,
    stop: async () => {
      server.close();
      await new Promise<void>((resolve) => udp.close(() => resolve()));
    },
  };
}

const echo: Handler = (request, response, path) =>
  send(response, '2.05', JSON.stringify({ path, query: raw(request._packet, 'Uri-Query').map(String) }));

function nodeCoapResources(): ReadonlyMap<string, Handler> {
  return new Map<string, Handler>([
    ['test', kept('test')],
    ['seg1/seg2/seg3', kept('test')],
    [
      'large',
      ({ method }, response) => (method === 'GET' ? send(response, '2.05', large()) : send(response, '4.05')),
    ],
    ['large-update', kept('')],
    [
      'large-post',
      ({ method, payload }, response) =>
        send(response, method === 'FETCH' ? '2.05' : '2.04', inverted(new Uint8Array(payload))),
    ],
    [
      'separate',
      (_request, response) => void setTimeout(() => send(response, '2.05', 'separate'), SEPARATE_MS),
    ],
    ['obs', observed(1)],
    ['obs-large', observed(100_000)],
    [
      'validate',
      (request, response) => {
        response.setOption('ETag', [Buffer.of(1, 2)]);
        const known = raw(request._packet, 'ETag').some((tag) => tag.equals(Buffer.of(1, 2)));
        send(response, known ? '2.03' : '2.05', known ? '' : 'valid');
      },
    ],
    [
      'location',
      (_request, response) => {
        response.setOption('Location-Path', [Buffer.from('location'), Buffer.from('1')]);
        response.setOption('Location-Query', [Buffer.from('a=b')]);
        send(response, '2.01');
      },
    ],
  ]);
}

/** Keeps what is put, and says which other method it was asked by. */
function kept(first: string): Handler {
  let value = Buffer.from(first);
  return ({ method, payload, headers }, response) => {
    if (method === 'GET') return send(response, headers.Accept === undefined ? '2.05' : '4.06', value);
    if (method === 'PUT') value = Buffer.from(payload);
    else if (method === 'DELETE') value = Buffer.from(first);
    else return send(response, method === 'FETCH' ? '2.05' : '2.04', `${method} ${payload}`);
    send(response, method === 'PUT' ? '2.04' : '2.02');
  };
}

/** A PUT sets its text; its representation is that text so many times. */
function observed(times: number): Handler {
  let value = '0';
  const streams = new Set<OutgoingMessage>();
  return (request, response) => {
    if (request.method === 'PUT') {
      value = String(request.payload);
      send(response, '2.04');
      for (const stream of streams) stream.write(value.repeat(times));
    } else if (request.headers.Observe === 0) {
      streams.add(response);
      response.on('finish', () => streams.delete(response));
      response.write(value.repeat(times));
    } else send(response, '2.05', value.repeat(times));
  };
}

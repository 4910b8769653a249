import { systemRandom } from '../../src/base/random.ts';
import { type Cancel, systemClock } from '../../src/base/time.ts';
import type { CoapStep } from '../../src/coap/api.ts';
import { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { rfc7252Timing } from '../../src/coap/timing.ts';
import { decodeJson, encodeJson } from '../../src/compact/cbor.ts';
import { plainCodec } from '../../src/exchange/plain_codec.ts';
import { openUdpLink, type UdpLink } from '../../src/link/udp.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import type { RunningServer } from '../../src/server/open.ts';

export interface ClientRequest {
  readonly method: string;
  /** Percent-encoded, without the query. */
  readonly path: string;
  /** Percent-encoded, without the question mark. */
  readonly query: string;
  readonly token?: string | undefined;
  readonly body?: JsonObject | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ClientAnswer {
  readonly status: number;
  readonly value: JsonValue;
  readonly retryAfter: string | null;
}

/** One client's own way to a server. */
export interface ClientDoor {
  /** Rejects where the signal aborts first. */
  call(request: ClientRequest): Promise<ClientAnswer>;
  close(): Promise<void>;
}

export type DoorName = 'JSON over HTTP' | 'CBOR over HTTP' | 'plain CoAP';

export async function openDoor(name: DoorName, server: RunningServer): Promise<ClientDoor> {
  if (name === 'plain CoAP') return CoapClient.open(server.udp!);
  const url = `http://127.0.0.1:${server.http[0]!.port}`;
  return httpDoor(url, name === 'CBOR over HTTP' ? 'application/cbor' : 'application/json');
}

function httpDoor(url: string, type: 'application/json' | 'application/cbor'): ClientDoor {
  return {
    async call({ method, path, query, token, body, signal }) {
      const response = await fetch(`${url}${path}${query === '' ? '' : `?${query}`}`, {
        method,
        headers: {
          accept: type,
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { 'content-type': type }),
        },
        ...(body === undefined ? {} : { body: write(body, type) }),
        ...(signal === undefined ? {} : { signal }),
      });
      const answered = response.headers.get('content-type')?.split(';', 1)[0];
      if (answered !== type) throw new Error(`${method} ${path} is answered in ${answered}`);
      return {
        status: response.status,
        value: read(new Uint8Array(await response.arrayBuffer()), type),
        retryAfter: response.headers.get('retry-after'),
      };
    },
    close: async () => undefined,
  };
}

const write = (body: JsonObject, type: string): string | Buffer<ArrayBuffer> =>
  type === 'application/cbor' ? Buffer.from(encodeJson(body)) : JSON.stringify(body);

function read(bytes: Uint8Array, type: string): JsonValue {
  if (type === 'application/json') return JSON.parse(new TextDecoder().decode(bytes)) as JsonValue;
  const decoded = decodeJson(bytes);
  if (!decoded.ok) throw new Error(decoded.problem);
  return decoded.value;
}

interface Waiting {
  readonly resolve: (answer: ClientAnswer) => void;
  readonly reject: (error: Error) => void;
}

/** Longer than any long poll of a test. */
const TIMEOUT_MS = 60_000;

/** A client of plain CoAP with a UDP socket of its own. */
class CoapClient implements ClientDoor {
  readonly #link: UdpLink;
  readonly #server: string;
  readonly #endpoint = new CoapEndpoint({ random: systemRandom, timing: () => rfc7252Timing() });
  readonly #waiting = new Map<number, Waiting>();
  #cancelTimer: Cancel = () => undefined;

  private constructor(link: UdpLink, server: string) {
    this.#link = link;
    this.#server = server;
    link.onReceive((from, bytes) => {
      if (from === server) this.#apply(this.#endpoint.receive(from, bytes, systemClock.monotonic()));
    });
  }

  static async open(server: string): Promise<CoapClient> {
    return new CoapClient(await openUdpLink({ host: '127.0.0.1', port: 0 }), server);
  }

  call({ method, path, query, token, body, signal }: ClientRequest): Promise<ClientAnswer> {
    const encoded = plainCodec.encodeRequest({
      method,
      path,
      query,
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { body: { kind: 'json', value: body } }),
    });
    if (!encoded.ok) throw new Error(encoded.problem);
    return new Promise((resolve, reject) => {
      const now = systemClock.monotonic();
      const options = { deadline: now + TIMEOUT_MS, priority: 1 } as const;
      const { handle, step } = this.#endpoint.request(this.#server, encoded.value, options, now);
      this.#waiting.set(handle, { resolve, reject });
      signal?.addEventListener('abort', () =>
        this.#apply(this.#endpoint.cancel(handle, systemClock.monotonic())),
      );
      this.#apply(step);
    });
  }

  async close(): Promise<void> {
    this.#cancelTimer();
    await this.#link.close();
  }

  #apply({ datagrams, events, deadline }: CoapStep): void {
    this.#cancelTimer();
    const now = systemClock.monotonic();
    if (deadline !== null)
      this.#cancelTimer = systemClock.after(deadline - now, () =>
        this.#apply(this.#endpoint.tick(systemClock.monotonic())),
      );
    for (const { peer, bytes, receipt } of datagrams) {
      this.#link.send(peer, bytes);
      if (receipt !== null) this.#apply(this.#endpoint.left(receipt, systemClock.monotonic()));
    }
    for (const event of events) {
      if (event.kind !== 'response' && event.kind !== 'failed') continue;
      const waiting = this.#waiting.get(event.handle);
      this.#waiting.delete(event.handle);
      if (event.kind === 'failed') {
        waiting?.reject(new Error(event.reason));
        continue;
      }
      const decoded = plainCodec.decodeResponse(event.response);
      if (!decoded.ok || decoded.value.body?.kind !== 'json') {
        waiting?.reject(new Error(decoded.ok ? 'the answer has no JSON' : decoded.problem));
        continue;
      }
      const { status, headers, body } = decoded.value;
      waiting?.resolve({ status, value: body.value, retryAfter: headers['retry-after'] ?? null });
    }
  }
}

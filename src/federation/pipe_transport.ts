import type { Millis } from '../base/time.ts';
import { type Body, type ExchangeRequest, jsonOf } from '../exchange/request.ts';
import type { ExchangeResponse } from '../exchange/response.ts';
import type { ServerName } from '../matrix/ids.ts';
import type { JsonValue } from '../matrix/json.ts';
import { type FederationForms, shortPath } from './forms/federation_forms.ts';
import {
  type DownloadTransport,
  type FederationCall,
  type FederationDownload,
  FederationError,
  type FederationTransport,
  remoteError,
} from './transport.ts';
import type { PipeAddress } from './transports.ts';

/** The part of an ExchangeSocket that carries requests. */
interface PipeRequester {
  request(
    peer: ServerName,
    address: string,
    request: ExchangeRequest,
    options: {
      readonly timeoutMs: Millis;
      readonly priority: FederationCall['priority'];
      readonly signal?: AbortSignal;
    },
  ): Promise<ExchangeResponse>;
}

interface Answer {
  readonly status: number;
  /** Undefined where the answer is not JSON. */
  readonly value: JsonValue | undefined;
}

/** What is on one link. */
export interface PipeLink {
  readonly socket: PipeRequester;
  /** The link's rate in bits a second, null where it is not known, and its one-way delay. */
  readonly profile: { readonly rate: number | null; readonly delay: Millis };
}

// How long a request through the pipe may take
// --------------------------------------------
// The exchange underneath knows the link: it repeats what gets lost, and waits while the peer is away. This timeout is
// not what finds a loss; it ends what would go on for ever, so that it may be generous, and has to be: what has been
// carried of a request or an answer is lost with it, and a repetition begins again. It is the time that callers over
// HTTPS would give, or on a slow link the airtime of this request and of an answer of ordinary size, with patience for
// loss; the longer the caller would wait over HTTPS, the more often that (a join, ten times). At 100 bit/s: 87 minutes
// for a small request, 8 hours for one of 70 KB, and 15 hours for a join.

/** What an ordinary request and its answer may weigh together, in bytes: a join of a room with 30 members. */
const TYPICAL_BYTES = 16 * 1024;
/** How many times that airtime is allowed, since a lossy link sends things more than once and has other traffic. */
const PATIENCE = 4;
/** Round trips that block-wise transfer of that much may take. */
const ROUND_TRIPS = 20;
/** How long a caller gives an ordinary request over HTTPS. */
const ORDINARY_TIMEOUT_MS: Millis = 60_000;
/** Bits a second of the slowest link that is reckoned with: a lower rate gives no longer timeout. */
const LEAST_RATE = 10;

/** Carries federation through a Noise pipe. Who speaks is proved by the pipe: nothing is signed. */
export class PipeTransport implements FederationTransport, DownloadTransport {
  readonly #links: ReadonlyMap<string, PipeLink>;
  readonly #addresses: ReadonlyMap<ServerName, PipeAddress>;
  readonly #forms: FederationForms | undefined;

  constructor({
    links,
    addresses,
    forms,
  }: {
    /** By the name that a PipeAddress has for them. */
    readonly links: ReadonlyMap<string, PipeLink>;
    /** Where each server behind a pipe is. */
    readonly addresses: ReadonlyMap<ServerName, PipeAddress>;
    /** How bodies are written in fewer bytes; left out: all as JSON. */
    readonly forms?: FederationForms;
  }) {
    this.#links = links;
    this.#addresses = addresses;
    this.#forms = forms;
  }

  #timeoutOf({ timeoutMs, body }: FederationCall, { rate, delay }: PipeLink['profile']): Millis {
    if (rate === null) return timeoutMs;
    // More than it takes on the link, where it is packed.
    const bodyBytes = body === undefined ? 0 : JSON.stringify(body).length;
    const carried = (PATIENCE * (TYPICAL_BYTES + bodyBytes) * 8 * 1000) / Math.max(rate, LEAST_RATE);
    const trips = ROUND_TRIPS * (1 + bodyBytes / TYPICAL_BYTES) * 2 * delay;
    return Math.max(timeoutMs, (carried + trips) * Math.max(1, timeoutMs / ORDINARY_TIMEOUT_MS));
  }

  async request(destination: ServerName, call: FederationCall): ReturnType<FederationTransport['request']> {
    const { link, address } = this.#wayTo(destination);
    const { method, query = '' } = call;
    const send = async (body: Body | undefined): Promise<Answer> => {
      const request: ExchangeRequest = { method, path: shortPath(call, body), query, ...(body && { body }) };
      const answer = await this.#exchange(destination, address, link, request, call);
      return { status: answer.status, value: this.#valueOf(destination, request, answer.body) };
    };
    const json: Body | undefined = call.body === undefined ? undefined : { kind: 'json', value: call.body };
    const { status, value } =
      call.body === undefined || this.#forms === undefined
        ? await send(json)
        : await this.#forms.exchange(destination, call, call.body, (formed) => send(formed ?? json));
    if (status < 200 || status > 299) throw remoteError(status, value ?? null);
    if (value === undefined)
      throw new FederationError('bad_answer', `${destination} did not answer with JSON`);
    return { status, body: value };
  }

  /** All of it is there when the promise settles: it has come over blocks. */
  async download(destination: ServerName, call: FederationCall): Promise<FederationDownload> {
    const { link, address } = this.#wayTo(destination);
    const { method, path, query = '' } = call;
    const request: ExchangeRequest = { method, path, query };
    const { status, body } = await this.#exchange(destination, address, link, request, call);
    if (status < 200 || status > 299) throw remoteError(status, jsonOf(body) ?? null);
    if (body?.kind !== 'bytes')
      throw new FederationError('bad_answer', `${destination} did not answer with a file`);
    return { contentType: body.contentType, content: whole(body.bytes) };
  }

  #wayTo(destination: ServerName): { readonly link: PipeLink; readonly address: string } {
    const at = this.#addresses.get(destination);
    const link = at && this.#links.get(at.link);
    if (link === undefined) throw new FederationError('unreachable', `no pipe leads to ${destination}`);
    return { link, address: at!.address };
  }

  /** The JSON of an answer, which may be in a short form; undefined where it is none. */
  #valueOf(server: ServerName, request: ExchangeRequest, body: Body | undefined): JsonValue | undefined {
    if (body === undefined) return {};
    if (body.kind !== 'compact') return jsonOf(body);
    const restored = this.#forms?.restoreAnswer(request, body.reader, { server, body: jsonOf(request.body) });
    return restored?.ok ? restored.value : undefined;
  }

  async #exchange(
    destination: ServerName,
    address: string,
    { socket, profile }: PipeLink,
    request: ExchangeRequest,
    call: FederationCall,
  ): Promise<ExchangeResponse> {
    try {
      return await socket.request(destination, address, request, {
        timeoutMs: this.#timeoutOf(call, profile),
        priority: call.priority,
        ...(call.signal !== undefined && { signal: call.signal }),
      });
    } catch (error) {
      const reason = error instanceof Error && 'reason' in error ? error.reason : undefined;
      const problem = reason === 'timeout' || reason === 'refused' ? reason : 'unreachable';
      throw new FederationError(
        problem,
        `${destination}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }
}

async function* whole(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

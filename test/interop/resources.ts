import { equal, fromUtf8, utf8 } from '../../src/base/bytes.ts';
import { systemRandom } from '../../src/base/random.ts';
import { sleep, systemClock } from '../../src/base/time.ts';
import type { CoapRequest, CoapResponse } from '../../src/coap/api.ts';
import { METHOD } from '../../src/coap/codes.ts';
import { NO_BYTES } from '../../src/coap/message.ts';
import {
  firstOption,
  firstUint,
  OPTION,
  type Option,
  stringOf,
  stringOption,
  uintOption,
} from '../../src/coap/options.ts';
import { rfc7252Timing, type Timing } from '../../src/coap/timing.ts';
import { CoapSocket } from '../../src/exchange/coap_socket.ts';
import { ObservedResource } from '../../src/exchange/observed_resource.ts';
import type { ExchangeObservation } from '../../src/exchange/socket_options.ts';
import type { Address } from '../../src/link/link.ts';
import { openUdpLink } from '../../src/link/udp.ts';
import { codeOf, inverted, LARGE_BYTES, large } from './peers.ts';

/** Longer than the time after which a request is acknowledged without its answer. */
const SEPARATE_MS = 1_300;

const E_TAG = Uint8Array.of(1, 2);

/** What the resources act on beyond the endpoint (RFC 7252, section 5.10.8). */
const UNDERSTOOD = [OPTION.ifMatch, OPTION.ifNoneMatch];

export const answer = (
  code: string,
  payload: Uint8Array | string = NO_BYTES,
  options: Option[] = [],
): CoapResponse => ({
  code: codeOf(code),
  options,
  payload: typeof payload === 'string' ? utf8(payload) : payload,
});

const texts = (request: CoapRequest, number: number): string[] =>
  request.options.filter((option) => option.number === number).map((option) => stringOf(option)!);

type Answer = CoapResponse | ObservedResource;
type Handler = (request: CoapRequest) => Answer | Promise<Answer>;
type Resource = Partial<Record<keyof typeof METHOD, Handler>>;

/** The server that every peer's client meets: CoAP over UDP on a free port, and resources for each thing to try. */
export class TestServer {
  readonly address: Address;
  readonly socket: CoapSocket;
  readonly observed = new ObservedResource(answer('2.05', '0'));
  readonly stopped = new ObservedResource(answer('2.05', 'before'));
  readonly largeObserved = new ObservedResource(answer('2.05', '0'.repeat(LARGE_BYTES)));
  /** Every datagram, in order. */
  readonly seen: ExchangeObservation[];
  readonly #resources: ReadonlyMap<string, Resource>;

  private constructor(address: Address, socket: CoapSocket, seen: ExchangeObservation[]) {
    this.address = address;
    this.socket = socket;
    this.seen = seen;
    this.#resources = new Map<string, Resource>([
      ...resources(),
      ['obs', { get: () => this.observed }],
      ['stopped', { get: () => this.stopped }],
      ['obs-large', { get: () => this.largeObserved }],
    ]);
    socket.onRequest((request) => this.#answer(request));
  }

  static async open({ timing = rfc7252Timing() }: { readonly timing?: Timing } = {}): Promise<TestServer> {
    const link = await openUdpLink({ host: '127.0.0.1', port: 0 });
    const seen: ExchangeObservation[] = [];
    const observer = (one: ExchangeObservation): void => {
      seen.push(one);
    };
    const socket = new CoapSocket({
      link,
      clock: systemClock,
      random: systemRandom,
      timing,
      understood: UNDERSTOOD,
      observer,
    });
    return new TestServer(link.address, socket, seen);
  }

  close(): Promise<void> {
    return this.socket.close();
  }

  async #answer(request: CoapRequest): Promise<Answer> {
    const path = texts(request, OPTION.uriPath);
    const resource = this.#resources.get(path.join('/')) ?? (path[0] === 'echo' ? ECHO : undefined);
    if (resource === undefined) return answer('4.04', 'no such resource');
    const [name] = Object.entries(METHOD).find(([, value]) => value === request.code)!;
    const handler = resource[name as keyof typeof METHOD];
    return handler === undefined ? answer('4.05') : handler(request);
  }
}

/** Says what it was asked for. */
const ECHO: Resource = {
  get: (request) => {
    const said = { path: texts(request, OPTION.uriPath), query: texts(request, OPTION.uriQuery) };
    return answer('2.05', JSON.stringify(said), [uintOption(OPTION.contentFormat, 50)]);
  },
};

function resources(): ReadonlyMap<string, Resource> {
  const created = new Set<string>();
  return new Map<string, Resource>([
    ['test', testResource()],
    ['seg1/seg2/seg3', testResource()],
    ['large', { get: () => answer('2.05', large()) }],
    ['large-update', stored(NO_BYTES)],
    [
      'large-post',
      {
        post: ({ payload }) => answer('2.04', inverted(payload)),
        fetch: ({ payload }) => answer('2.05', inverted(payload)),
      },
    ],
    [
      'separate',
      {
        get: async () => {
          await sleep(systemClock, SEPARATE_MS);
          return answer('2.05', 'separate');
        },
      },
    ],
    [
      'validate',
      {
        get: ({ options }) => {
          const eTag = { number: OPTION.eTag, value: E_TAG };
          const known = options.some(({ number, value }) => number === OPTION.eTag && equal(value, E_TAG));
          return known ? answer('2.03', NO_BYTES, [eTag]) : answer('2.05', 'valid', [eTag]);
        },
        put: ({ options }) => {
          const matches = options.filter(({ number }) => number === OPTION.ifMatch);
          const met = matches.length === 0 || matches.some(({ value }) => equal(value, E_TAG));
          return answer(met ? '2.04' : '4.12');
        },
      },
    ],
    [
      'create',
      {
        put: ({ options }) => {
          const exists = created.has('create');
          if (exists && firstOption(options, OPTION.ifNoneMatch) !== undefined) return answer('4.12');
          created.add('create');
          return answer(exists ? '2.04' : '2.01');
        },
      },
    ],
    [
      'location',
      {
        post: () =>
          answer('2.01', NO_BYTES, [
            stringOption(OPTION.locationPath, 'location'),
            stringOption(OPTION.locationPath, '1'),
            stringOption(OPTION.locationQuery, 'a=b'),
          ]),
      },
    ],
  ]);
}

/** Keeps what is put. */
function stored(first: Uint8Array): Resource {
  let value = first;
  return {
    get: () => answer('2.05', value),
    put: ({ payload }) => {
      value = payload;
      return answer('2.04');
    },
    delete: () => {
      value = first;
      return answer('2.02');
    },
  };
}

/** Takes every method, and text only. */
function testResource(): Resource {
  const kept = stored(utf8('test'));
  const named =
    (code: string, method: string): Handler =>
    ({ payload }) =>
      answer(code, `${method} ${fromUtf8(payload)}`);
  return {
    ...kept,
    get: (request) => {
      if ((firstUint(request.options, OPTION.accept) ?? 0) !== 0) return answer('4.06');
      return kept.get!(request);
    },
    put: (request) => {
      if ((firstUint(request.options, OPTION.contentFormat) ?? 0) !== 0) return answer('4.15');
      return kept.put!(request);
    },
    post: named('2.04', 'POST'),
    fetch: named('2.05', 'FETCH'),
    patch: named('2.04', 'PATCH'),
    ipatch: named('2.04', 'iPATCH'),
  };
}

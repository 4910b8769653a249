import { equal, utf8 } from '../../../src/base/bytes.ts';
import type { Millis } from '../../../src/base/time.ts';
import type { CoapRequest, CoapResponse } from '../../../src/coap/api.ts';
import { code, METHOD } from '../../../src/coap/codes.ts';
import { NO_BYTES } from '../../../src/coap/message.ts';
import {
  firstOption,
  firstUint,
  OPTION,
  type Option,
  stringOption,
  uintOption,
} from '../../../src/coap/options.ts';
import { type Asked, type Party, texts } from './wire.ts';

export const TEXT = 0;
export const XML = 41;

/** "A couple of seconds": past the moment at which a server acknowledges empty. */
export const SEPARATE_DELAY: Millis = 3_000;

/** Of the large bodies. */
export const LARGE_BYTES = 1700;

/** A body that takes several blocks of every size, and of which no two blocks are alike. */
export const large = (name: string, length = LARGE_BYTES): Uint8Array =>
  Uint8Array.from({ length }, (_, at) =>
    at % 64 === 63 ? 10 : name.charCodeAt((at + (at >> 6)) % name.length),
  );

/** An entity-tag of a body: unlike for every two bodies of a test. */
function entityTag(payload: Uint8Array): Option {
  const sum = payload.reduce((hash, byte) => (Math.imul(hash, 31) + byte) >>> 0, payload.length);
  return uintOption(OPTION.eTag, 2 ** 24 + (sum % 2 ** 24));
}

export const content = (payload: Uint8Array | string, ...options: Option[]): CoapResponse => ({
  code: code(2, 5),
  options: options.some(({ number }) => number === OPTION.contentFormat)
    ? options
    : [uintOption(OPTION.contentFormat, TEXT), ...options],
  payload: typeof payload === 'string' ? utf8(payload) : payload,
});

export const answer = (value: number, ...options: Option[]): CoapResponse => ({
  code: value,
  options,
  payload: NO_BYTES,
});

const CREATED = code(2, 1);
const DELETED = code(2, 2);
const CHANGED = code(2, 4);
const NOT_FOUND = code(4, 4);
const NOT_ALLOWED = code(4, 5);
const NOT_ACCEPTABLE = code(4, 6);
const PRECONDITION_FAILED = code(4, 12);

/** What the server acts on beside what names a resource. */
export const CONDITIONS = [OPTION.ifMatch, OPTION.ifNoneMatch];

interface Answer {
  readonly response: CoapResponse;
  readonly after?: Millis;
}

/** A resource with a state that changes by itself, and the exchanges that name its observers. */
interface Observable {
  response: CoapResponse;
  readonly confirmable: boolean;
  readonly observers: Set<number>;
}

type Handler = (request: CoapRequest) => Answer | CoapResponse;

/** The server that the ETSI test descriptions presuppose: their resources, on a CoapEndpoint. */
export class PlugtestServer {
  /** What PUT and POST brought, by path. */
  readonly stored = new Map<string, Uint8Array>();
  readonly received: CoapRequest[] = [];
  readonly handlers = new Map<string, Handler>();
  readonly #observables = new Map<string, Observable>();
  readonly #party: Party;

  constructor(party: Party) {
    this.#party = party;
    party.onEvent = (event) => {
      if (event.kind === 'observer_gone') this.#forget(event.exchange);
    };
    this.stored.set('/validate', utf8('first'));
    this.stored.set('/large-update', large('large-update'));
    const { handlers } = this;
    handlers.set('/test', testResource);
    handlers.set('/seg1/seg2/seg3', () => content('segments'));
    handlers.set('/query', (request) => content(texts(request.options, OPTION.uriQuery).join('&')));
    handlers.set('/separate', () => ({ response: content('separate'), after: SEPARATE_DELAY }));
    handlers.set('/large', () => content(large('large')));
    handlers.set('/large-update', (request) => this.#store('/large-update', request));
    handlers.set('/large-create', (request) => this.#create('/large-create/1', request));
    handlers.set('/large-post', () => ({ ...content(large('answer')), code: CHANGED }));
    handlers.set('/validate', (request) => this.#validated('/validate', request));
    handlers.set('/create1', (request) => this.#validated('/create1', request));
    handlers.set('/location-query', () =>
      answer(CREATED, ...['first=1', 'second=2'].map((one) => stringOption(OPTION.locationQuery, one))),
    );
    handlers.set('/multi-format', multiFormat);
    party.onRequest = (asked) => this.#answer(asked);
  }

  /** Makes a resource that can be observed. */
  observable(path: string, response: CoapResponse, confirmable = true): void {
    this.#observables.set(path, { response, confirmable, observers: new Set() });
  }

  /** How many observe a resource. */
  observers(path: string): number {
    return this.#observables.get(path)?.observers.size ?? 0;
  }

  /** The state of the resource is another from now on; an error is its end. */
  change(path: string, response: CoapResponse): void {
    const observable = this.#observables.get(path);
    if (observable === undefined) throw new Error(`${path} cannot be observed`);
    observable.response = response;
    const { confirmable } = observable;
    for (const exchange of [...observable.observers]) {
      if (response.code >> 5 !== 2) observable.observers.delete(exchange);
      this.#party.do((endpoint, now) => endpoint.notify(exchange, response, now, { confirmable }));
    }
  }

  /** What a reboot of the server does to the application. */
  forgetObservers(): void {
    for (const { observers } of this.#observables.values()) observers.clear();
  }

  #forget(exchange: number): void {
    for (const { observers } of this.#observables.values()) observers.delete(exchange);
  }

  #observed(observable: Observable, { exchange, observe, request }: Asked, path: string): void {
    const { payload, options } = request;
    if (request.code === METHOD.get && observe) observable.observers.add(exchange);
    const response = request.code === METHOD.get ? observable.response : answer(CHANGED);
    this.#party.do((endpoint, now) => endpoint.respond(exchange, response, now, 1, { observe }));
    if (request.code === METHOD.delete) this.change(path, answer(NOT_FOUND));
    if (request.code === METHOD.put) {
      const known = firstUint(observable.response.options, OPTION.contentFormat);
      const same = firstUint(options, OPTION.contentFormat) === known;
      this.change(path, same ? content(payload) : answer(NOT_ACCEPTABLE));
    }
  }

  #answer(asked: Asked): void {
    this.received.push(asked.request);
    const path = texts(asked.request.options, OPTION.uriPath)
      .map((segment) => `/${segment}`)
      .join('');
    const observable = this.#observables.get(path);
    if (observable !== undefined) {
      this.#observed(observable, asked, path);
      return;
    }
    const stored = this.stored.get(path);
    const result = this.handlers.get(path)?.(asked.request) ?? (stored ? content(stored) : answer(NOT_FOUND));
    const { response, after = 0 } = 'response' in result ? result : { response: result };
    this.#party.wire.clock.after(after, () =>
      this.#party.do((endpoint, now) => endpoint.respond(asked.exchange, response, now)),
    );
  }

  #store(path: string, { code: method, payload }: CoapRequest): CoapResponse {
    if (method === METHOD.get) return content(this.stored.get(path) ?? NO_BYTES);
    if (method !== METHOD.put) return answer(NOT_ALLOWED);
    this.stored.set(path, payload);
    return answer(CHANGED);
  }

  #create(path: string, { code: method, payload }: CoapRequest): CoapResponse {
    if (method !== METHOD.post) return answer(NOT_ALLOWED);
    this.stored.set(path, payload);
    const location = path.slice(1).split('/');
    return answer(CREATED, ...location.map((segment) => stringOption(OPTION.locationPath, segment)));
  }

  /** RFC 7252, sections 5.10.6.2 and 5.10.8. */
  #validated(path: string, { code: method, options, payload }: CoapRequest): CoapResponse {
    const present = this.stored.get(path);
    const tag = present === undefined ? undefined : entityTag(present);
    const names = (number: number): boolean =>
      tag !== undefined && options.some((one) => one.number === number && equal(one.value, tag.value));
    if (method === METHOD.get) {
      if (present === undefined || tag === undefined) return answer(NOT_FOUND);
      return names(OPTION.eTag) ? answer(code(2, 3), tag) : content(present, tag);
    }
    if (firstOption(options, OPTION.ifMatch) !== undefined && !names(OPTION.ifMatch)) {
      return answer(PRECONDITION_FAILED);
    }
    if (firstOption(options, OPTION.ifNoneMatch) !== undefined && present !== undefined) {
      return answer(PRECONDITION_FAILED);
    }
    this.stored.set(path, payload);
    return answer(present === undefined ? CREATED : CHANGED);
  }
}

const LOCATION = ['location1', 'location2', 'location3'];

function testResource({ code: method }: CoapRequest): CoapResponse {
  switch (method) {
    case METHOD.get:
      return content('test');
    case METHOD.put:
      return answer(CHANGED);
    case METHOD.post:
      return answer(CREATED, ...LOCATION.map((segment) => stringOption(OPTION.locationPath, segment)));
    case METHOD.delete:
      return answer(DELETED);
    default:
      return answer(NOT_ALLOWED);
  }
}

function multiFormat({ options }: CoapRequest): CoapResponse {
  const wanted = firstUint(options, OPTION.accept) ?? TEXT;
  if (wanted === TEXT) return content('text');
  if (wanted === XML) return content('<xml/>', uintOption(OPTION.contentFormat, XML));
  return answer(NOT_ACCEPTABLE);
}

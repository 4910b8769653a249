import { expect } from 'vitest';
import { hex, utf8 } from '../../../src/base/bytes.ts';
import type { Millis } from '../../../src/base/time.ts';
import type { CoapConfig, CoapRequest, CoapResponse, FailureReason } from '../../../src/coap/api.ts';
import { type Message, NO_BYTES } from '../../../src/coap/message.ts';
import { firstUint, OPTION, type Option, stringOption } from '../../../src/coap/options.ts';
import { PlugtestServer } from './plugtest_server.ts';
import { Party, texts, Wire } from './wire.ts';

/** Longer than everything that is tried; a lost message must have been sent again long before. */
const DEADLINE: Millis = 600_000;

export interface Wanted {
  /** `/a/b?x=1&y=2`; no percent-encoding. */
  readonly uri: string;
  readonly options?: readonly Option[];
  readonly payload?: Uint8Array | string;
  readonly confirmable?: boolean;
}

export function requestOf(method: number, { uri, options = [], payload = NO_BYTES }: Wanted): CoapRequest {
  const [path = '', query] = uri.split('?');
  const segments = path.split('/').slice(1);
  return {
    code: method,
    options: [
      ...segments.filter((segment) => segment !== '').map((segment) => stringOption(OPTION.uriPath, segment)),
      ...(query?.split('&') ?? []).map((one) => stringOption(OPTION.uriQuery, one)),
      ...options,
    ],
    payload: typeof payload === 'string' ? utf8(payload) : payload,
  };
}

export interface PlugtestOptions {
  readonly client?: Partial<CoapConfig>;
  readonly server?: Partial<CoapConfig>;
}

/** A client, a plugtest server, and what crosses between them. */
export class Plugtest {
  readonly wire: Wire;
  readonly client: Party;
  readonly server: Party;
  readonly resources: PlugtestServer;

  constructor(seed: number, { client = {}, server = {} }: PlugtestOptions = {}) {
    this.wire = new Wire(seed);
    this.client = new Party(this.wire, 'client', seed + 1, client);
    this.server = new Party(this.wire, 'server', seed + 2, {
      understood: [OPTION.ifMatch, OPTION.ifNoneMatch],
      ...server,
    });
    this.resources = new PlugtestServer(this.server);
  }

  /** Stimulus: the client sends a request. Answers its handle. */
  ask(method: number, wanted: Wanted, client: Party = this.client): number {
    const { confirmable = true } = wanted;
    let handle = -1;
    client.do((endpoint, now) => {
      const options = { deadline: now + DEADLINE, priority: 1, confirmable } as const;
      const begun = endpoint.request('server', requestOf(method, wanted), options, now);
      handle = begun.handle;
      return begun.step;
    });
    return handle;
  }

  /** Stimulus: the client registers as an observer. Answers its handle. */
  observe(uri: string, confirmable = true): number {
    let handle = -1;
    this.client.do((endpoint, now) => {
      const options = { deadline: now + DEADLINE, priority: 1, confirmable } as const;
      const begun = endpoint.observe('server', requestOf(1, { uri }), options, now);
      handle = begun.handle;
      return begun.step;
    });
    return handle;
  }

  /** Stimulus: the client asks whether the server is there. Answers its handle. */
  ping(): number {
    let handle = -1;
    this.client.do((endpoint, now) => {
      const begun = endpoint.ping('server', { deadline: now + DEADLINE, priority: 1 }, now);
      handle = begun.handle;
      return begun.step;
    });
    return handle;
  }

  /** What the client has displayed of an observation, oldest first. */
  observed(handle: number): CoapResponse[] {
    return this.client.events.flatMap((event) =>
      (event.kind === 'response' || event.kind === 'notification') && event.handle === handle
        ? [event.response]
        : [],
    );
  }

  /** A request, and time for its answer. Answers what the client displays. */
  exchange(method: number, wanted: Wanted, duration: Millis = 10_000): CoapResponse {
    const handle = this.ask(method, wanted);
    this.wire.run(duration);
    return this.displayed(handle);
  }

  /** The response that the client got for a request. */
  displayed(handle: number, client: Party = this.client): CoapResponse {
    const ends = client.events.filter((event) => 'handle' in event && event.handle === handle);
    expect(
      ends.map(({ kind }) => kind),
      this.wire.trace,
    ).toEqual(['response']);
    const end = ends[0]!;
    if (end.kind !== 'response') throw new Error('unreachable');
    return end.response;
  }

  failure(handle: number): FailureReason {
    const end = this.client.events.find((event) => event.kind === 'failed' && event.handle === handle);
    if (end?.kind !== 'failed') throw new Error(`the request did not fail${this.wire.trace}`);
    return end.reason;
  }

  message(at: number): Message {
    const message = this.wire.messages.at(at);
    if (message === undefined) throw new Error(`there is no message ${at}${this.wire.trace}`);
    return message;
  }

  expectLadder(...lines: string[]): void {
    expect(this.wire.ladder, this.wire.trace).toEqual(lines);
  }

  /** The response in the acknowledgement of a request: its id, its token. */
  expectPiggybacked(request: number, response: number): void {
    const asked = this.message(request);
    const { id, token } = asked;
    expect(this.message(response), this.wire.trace).toMatchObject({ type: 'ACK', id, token });
  }

  /** The response in a message of its own: another id, the request's token. */
  expectSeparate(type: 'CON' | 'NON', request: number, response: number): void {
    const { token } = this.message(request);
    expect(this.message(response), this.wire.trace).toMatchObject({ type, token });
  }

  /** Four bytes: type and code 0.00, and the id of what it answers. */
  expectEmpty(type: 'ACK' | 'RST', of: number, reply: number): void {
    const { id } = this.message(of);
    expect(this.message(reply), this.wire.trace).toMatchObject({ type, code: 0, id });
    expect(this.wire.crossings.at(reply)?.bytes, this.wire.trace).toHaveLength(4);
  }

  /** A token as the descriptions want it: one to eight bytes. */
  expectToken(request: number): void {
    const { length } = this.message(request).token;
    expect(length, this.wire.trace).toBeGreaterThanOrEqual(1);
    expect(length, this.wire.trace).toBeLessThanOrEqual(8);
  }

  /** Messages that are new ones each: no two share an id. */
  expectOtherIds(...messages: number[]): void {
    const ids = messages.map((at) => this.message(at).id);
    expect(new Set(ids).size, this.wire.trace).toBe(ids.length);
  }

  /** Copies of one message, to the byte. */
  expectCopies(first: number, ...copies: number[]): void {
    const bytes = copies.map((at) => hex(this.wire.crossings.at(at)!.bytes));
    expect(bytes, this.wire.trace).toEqual(copies.map(() => hex(this.wire.crossings.at(first)!.bytes)));
  }

  format(at: number): number | undefined {
    return firstUint(this.message(at).options, OPTION.contentFormat);
  }

  /** The values of the options of that number in a message, as text. */
  values(at: number, number: number): string[] {
    return texts(this.message(at).options, number);
  }

  /** The raw values of the options of that number in a message. */
  raw(at: number, number: number): Uint8Array[] {
    return this.message(at)
      .options.filter((option) => option.number === number)
      .map(({ value }) => value);
  }
}

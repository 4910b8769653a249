import { hex } from '../../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../../src/base/random.ts';
import type { Millis } from '../../../src/base/time.ts';
import { VirtualClock } from '../../../src/base/virtual_clock.ts';
import type { CoapConfig, CoapEvent, CoapRequest, CoapStep } from '../../../src/coap/api.ts';
import { blockOf } from '../../../src/coap/block.ts';
import { codeLabel, isRequest } from '../../../src/coap/codes.ts';
import { CoapEndpoint } from '../../../src/coap/endpoint.ts';
import { decode, type Message } from '../../../src/coap/message.ts';
import { firstUint, OPTION, type Option, stringOf } from '../../../src/coap/options.ts';
import { rfc7252Timing } from '../../../src/coap/timing.ts';
import type { Link } from '../../../src/link/link.ts';
import { SimulatedNetwork } from '../../../src/link/simulated.ts';

/** One way, in milliseconds: short beside every timer, and not zero, so that an order is an order. */
const LATENCY: Millis = 50;

/** A message that one side handed to the network, whether or not it arrived. */
export interface Crossing {
  readonly at: Millis;
  readonly from: string;
  readonly to: string;
  readonly message: Message;
  readonly bytes: Uint8Array;
  readonly lost: boolean;
}

/**
 * The network between a client and a server: an analyser that keeps every message, and a gateway that loses the ones
 * it is told to.
 */
export class Wire {
  readonly clock = new VirtualClock();
  readonly crossings: Crossing[] = [];
  readonly #network: SimulatedNetwork;
  /** Written anew only when something has crossed since: it is asked for with every check. */
  #trace = { length: 0, text: '\n' };
  /** Asked about each message; true loses it. */
  lose: (crossing: Omit<Crossing, 'lost'>) => boolean = () => false;

  constructor(seed: number) {
    this.#network = new SimulatedNetwork({
      clock: this.clock,
      random: seededRandom(seed),
      observe: () => undefined,
    });
    this.#network.connect('client', 'server', { latency: LATENCY });
    this.#network.connect('other', 'server', { latency: LATENCY });
  }

  /** Joins under a name; one of `client`, `other` and `server`. */
  join(name: string): Link {
    const link = this.#network.join(name, { mtu: 1200, rate: null, delay: 0, overhead: 42 });
    const send = (to: string, bytes: Uint8Array): void => {
      const result = decode(bytes);
      if (!result.ok) throw new Error(`${name} sent what is no message: ${result.problem.reason}`);
      const crossing = { at: this.clock.monotonic(), from: name, to, message: result.value, bytes };
      const lost = this.lose(crossing);
      this.crossings.push({ ...crossing, lost });
      if (!lost) link.send(to, bytes);
    };
    return {
      profile: link.profile,
      send,
      onReceive: (receive) => link.onReceive(receive),
      close: () => link.close(),
    };
  }

  /** Lets time pass. */
  run(duration: Millis): void {
    const end = this.clock.monotonic() + duration;
    for (let next = this.clock.next(); next !== null && next <= end; next = this.clock.next())
      this.clock.step();
    this.clock.advanceTo(end);
  }

  /** The messages themselves, oldest first. */
  get messages(): Message[] {
    return this.crossings.map(({ message }) => message);
  }

  /**
   * What crossed, a line for each message, the client on the left: `CON GET /test ->`, `<- ACK 2.05`; `-x` and `x-`
   * where it was lost. Block options are written as RFC 7959 does, `1:` or `2:` and number, more, size.
   */
  get ladder(): string[] {
    return this.crossings.map(({ from, message, lost }) => {
      const text = describeMessage(message);
      if (from === 'server') return `${lost ? 'x-' : '<-'} ${text}`;
      return `${from === 'other' ? 'other ' : ''}${text} ${lost ? '-x' : '->'}`;
    });
  }

  /** The ladder with times, ids and tokens: what a failed check prints. */
  get trace(): string {
    if (this.#trace.length !== this.crossings.length) {
      const { ladder } = this;
      const lines = this.crossings.map(({ at, message }, n) => {
        const id = message.id.toString(16).padStart(4, '0');
        const token = hex(message.token).padEnd(8);
        return `${(at / 1000).toFixed(3).padStart(10)} s  id ${id}  token ${token}  ${ladder[n]}`;
      });
      this.#trace = { length: lines.length, text: `\n${lines.join('\n')}\n` };
    }
    return this.#trace.text;
  }
}

/** `CON GET /test?a=1 obs=0 2:0/0/64`. */
function describeMessage({ type, code, options }: Message): string {
  const name = code === 0 ? '' : ` ${codeLabel(code)}`;
  const path = texts(options, OPTION.uriPath).map((segment) => `/${segment}`);
  const query = texts(options, OPTION.uriQuery);
  const target = isRequest(code)
    ? ` ${path.join('') || '/'}${query.length > 0 ? `?${query.join('&')}` : ''}`
    : '';
  const observe = firstUint(options, OPTION.observe);
  const observed = observe === undefined ? '' : isRequest(code) ? ` obs=${observe}` : ' obs';
  return `${type}${name}${target}${observed}${blockLabel(options, 1)}${blockLabel(options, 2)}`;
}

function blockLabel(options: readonly Option[], which: 1 | 2): string {
  const block = blockOf(options, which === 1 ? OPTION.block1 : OPTION.block2);
  if (!block.ok || block.value === undefined) return '';
  const { num, more, size } = block.value;
  return ` ${which}:${num}/${more ? 1 : 0}/${size}`;
}

/** The values of all options of that number, as text. */
export const texts = (options: readonly Option[], number: number): string[] =>
  options.filter((option) => option.number === number).map((option) => stringOf(option) ?? '?');

/** What a handler has to be given to answer a request, now or later. */
export interface Asked {
  readonly peer: string;
  readonly request: CoapRequest;
  readonly exchange: number;
  /** Whether the client asks to be registered as an observer. */
  readonly observe: boolean;
}

/** One CoapEndpoint at the wire, with the smallest possible driver. */
export class Party {
  readonly name: string;
  readonly wire: Wire;
  /** What the endpoint told its application. */
  readonly events: CoapEvent[] = [];
  onRequest: (asked: Asked) => void = () => undefined;
  onEvent: (event: CoapEvent) => void = () => undefined;
  #endpoint: CoapEndpoint;
  readonly #config: Partial<CoapConfig>;
  readonly #random: Random;
  readonly #link: Link;
  #on = true;
  #disarm: () => void = () => undefined;

  constructor(wire: Wire, name: string, seed: number, config: Partial<CoapConfig> = {}) {
    this.name = name;
    this.wire = wire;
    this.#config = config;
    this.#random = seededRandom(seed);
    this.#endpoint = this.#boot();
    this.#link = wire.join(name);
    this.#link.onReceive((from, bytes) => {
      if (this.#on) this.#apply(this.#endpoint.receive(from, bytes, this.#now()));
    });
  }

  get endpoint(): CoapEndpoint {
    return this.#endpoint;
  }

  /** Hands the endpoint something to do, and does what it answers. */
  do(act: (endpoint: CoapEndpoint, now: Millis) => CoapStep): void {
    this.#apply(act(this.#endpoint, this.#now()));
  }

  /** Sends bytes past the endpoint, as a client that is not ours would. */
  sendRaw(to: string, bytes: Uint8Array): void {
    this.#link.send(to, bytes);
  }

  /** A new endpoint that remembers nothing. */
  reboot(): void {
    this.#disarm();
    this.#endpoint = this.#boot();
    this.#on = true;
  }

  switchOff(): void {
    this.#disarm();
    this.#on = false;
  }

  #boot(): CoapEndpoint {
    return new CoapEndpoint({ random: this.#random, timing: () => rfc7252Timing(), ...this.#config });
  }

  #now(): Millis {
    return this.wire.clock.monotonic();
  }

  #apply(step: CoapStep): void {
    const now = this.#now();
    this.#disarm();
    const { deadline } = step;
    this.#disarm =
      deadline === null
        ? () => undefined
        : this.wire.clock.after(deadline - now, () => this.#apply(this.#endpoint.tick(this.#now())));
    for (const { peer, bytes } of step.datagrams) this.#link.send(peer, bytes);
    for (const { receipt } of step.datagrams) {
      if (receipt !== null) this.#apply(this.#endpoint.left(receipt, now));
    }
    for (const event of step.events) {
      this.events.push(event);
      this.onEvent(event);
      if (event.kind === 'request') this.onRequest(event);
    }
  }
}

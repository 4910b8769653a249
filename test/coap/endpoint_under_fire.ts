import type { Random } from '../../src/base/random.ts';
import type { Millis } from '../../src/base/time.ts';
import type { CoapEvent, CoapResponse, CoapStep } from '../../src/coap/api.ts';
import { blockOption } from '../../src/coap/block.ts';
import { isRequest } from '../../src/coap/codes.ts';
import { type CoapLimits, DEFAULT_LIMITS } from '../../src/coap/core.ts';
import { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { decode, encode, type Message } from '../../src/coap/message.ts';
import { OPTION, stringOf } from '../../src/coap/options.ts';
import { modelledTiming, rfc7252Timing } from '../../src/coap/timing.ts';
import { Hostile, type Shot } from './hostile.ts';

/** Small, so that all of them are reached soon. */
export const TIGHT_LIMITS: CoapLimits = {
  ...DEFAULT_LIMITS,
  peers: 500,
  exchanges: 30,
  exchangesPerPeer: 10,
  observers: 40,
  observersPerPeer: 8,
  rememberedPerPeer: 500,
  remembered: 4_000,
  replyBytes: 20_000,
  bodyBytes: 4_000,
  assemblies: 10,
  assembliesPerPeer: 3,
  assemblyBytes: 10_000,
  bodies: 5,
  cachedBodyBytes: 10_000,
};

const MOST_OBSERVATIONS = 20;

/** What `held` may say at the most. */
const BOUNDS: Readonly<Record<string, number>> = {
  peers: TIGHT_LIMITS.peers,
  exchanges: TIGHT_LIMITS.exchanges,
  observers: TIGHT_LIMITS.observers,
  // Our own: no more than are started here.
  observations: MOST_OBSERVATIONS,
  // Block by block, and by selective repeat.
  uploads: 2 * TIGHT_LIMITS.assemblies,
  uploadsOver: 4_096,
  responses: TIGHT_LIMITS.bodies,
  assembling: TIGHT_LIMITS.assemblyBytes,
  cachedBodyBytes: TIGHT_LIMITS.cachedBodyBytes,
  remembered: TIGHT_LIMITS.remembered,
  replyBytes: TIGHT_LIMITS.replyBytes,
};

const STRANGERS = 2_000;
const MOST_ASKED = 16;
const NOTHING = new Uint8Array(0);

/** One endpoint that serves, asks and is shot at, while time passes. Fails by throwing. */
export class EndpointUnderFire {
  readonly #random: Random;
  readonly #hostile: Hostile;
  readonly #endpoint: CoapEndpoint;
  readonly #open: {
    readonly exchange: number;
    readonly observe: boolean;
    readonly response: CoapResponse;
  }[] = [];
  readonly #observers = new Set<number>();
  readonly #observations = new Set<number>();
  readonly #selective: boolean;
  /** Our own requests, the latest ones. */
  readonly #asked: { readonly to: string; readonly message: Message }[] = [];
  #now: Millis = 0;
  #shots = 0;
  #delivered = 0;
  #started = 0;
  #ended = 0;

  /** @param selective whether it speaks selective repeat, and the shots do. */
  constructor(random: Random, selective = false) {
    this.#selective = selective;
    this.#random = random;
    this.#hostile = new Hostile(random, STRANGERS, (index) => `p${index}`);
    const timing = selective
      ? modelledTiming({ rate: 50_000, delay: 300, overhead: 62, mtu: 100 })
      : rfc7252Timing({ nstart: 3, blockSize: 64 });
    this.#endpoint = new CoapEndpoint({ random, timing: () => timing, limits: TIGHT_LIMITS, selective });
  }

  get counters(): CoapEndpoint['counters'] {
    return this.#endpoint.counters;
  }

  get held(): CoapEndpoint['held'] {
    return this.#endpoint.held;
  }

  shoot(): void {
    const n = this.#shots++;
    this.#now += this.#random.integer(40);
    const { from, bytes } = this.#selective ? this.#selectiveShot() : this.#hostile.next();
    this.#apply(this.#endpoint.receive(from, bytes, this.#now));
    if (n % 8 === 0) this.#answer();
    if (n % 10 === 0) this.#apply(this.#endpoint.tick(this.#now));
    if (n % 50 === 0) this.#ask(from);
    if (n % 1_000 === 0) this.#notify();
    if (n % 500 === 0) this.#observe(from);
    if (n % 20_000 === 0) this.#apply(this.#endpoint.restarted(from, this.#now));
    if (n % 30_000 === 0) this.#apply(this.#endpoint.forget(from, this.#now));
    if (n % 200 === 0) this.#check();
  }

  /** Half of the blocks belong to selective transfers, and some shots are blocks of answers to what was asked. */
  #selectiveShot(): Shot {
    const aim = this.#asked[this.#random.integer(this.#asked.length + 1)];
    if (aim !== undefined && this.#random.integer(4) === 0) {
      const { to, message } = aim;
      const block = { num: this.#random.integer(8), more: this.#random.integer(6) > 0, size: 16 } as const;
      const type = (['ACK', 'CON', 'NON', 'NON'] as const)[this.#random.integer(4)]!;
      const id = type === 'ACK' ? message.id : this.#random.integer(2 ** 16);
      const options = [blockOption(OPTION.qBlock2, block)];
      const payload = new Uint8Array(block.more ? 16 : this.#random.integer(17));
      return { from: to, bytes: encode({ ...message, type, id, code: 0x45, options, payload }) };
    }
    const shot = this.#hostile.next();
    const message = decode(shot.bytes.slice());
    if (!message.ok || this.#random.integer(2) === 0) return shot;
    const numbers = new Map<number, number>([
      [OPTION.block1, OPTION.qBlock1],
      [OPTION.block2, OPTION.qBlock2],
    ]);
    const options = message.value.options.map(({ number, value }) => ({
      number: numbers.get(number) ?? number,
      value,
    }));
    return { from: shot.from, bytes: encode({ ...message.value, options }) };
  }

  /** Answers what is open and lets everything expire. */
  drain(): { readonly delivered: number; readonly started: number; readonly ended: number } {
    while (this.#open.length > 0) this.#answer();
    for (const handle of [...this.#observations]) this.#apply(this.#endpoint.cancel(handle, this.#now));
    for (const exchange of [...this.#observers])
      this.#apply(this.#endpoint.endObservation(exchange, this.#now));
    let step = this.#endpoint.tick(this.#now);
    for (; step.deadline !== null; step = this.#endpoint.tick(this.#now)) {
      this.#apply(step);
      this.#now = Math.max(this.#now, step.deadline);
    }
    this.#apply(step);
    return { delivered: this.#delivered, started: this.#started, ended: this.#ended };
  }

  #apply(step: CoapStep): void {
    for (const { peer, bytes, receipt } of step.datagrams) {
      this.#hostile.observe(peer, bytes);
      const message = decode(bytes);
      if (message.ok && message.value.type === 'CON' && isRequest(message.value.code)) {
        this.#asked.push({ to: peer, message: message.value });
        if (this.#asked.length > MOST_ASKED) this.#asked.shift();
      }
      if (receipt !== null && this.#random.integer(4) > 0)
        this.#apply(this.#endpoint.left(receipt, this.#now));
    }
    for (const event of step.events) this.#on(event);
  }

  #on(event: CoapEvent): void {
    switch (event.kind) {
      case 'request': {
        this.#delivered++;
        const { exchange, observe, request } = event;
        const large = request.options.some((option) => stringOf(option) === 'large');
        const payload = new Uint8Array(this.#random.integer(large ? 3_000 : 60));
        this.#open.push({ exchange, observe, response: { code: 0x45, options: [], payload } });
        break;
      }
      case 'observer_gone':
        this.#observers.delete(event.exchange);
        break;
      case 'response':
      case 'failed':
        if (!this.#observations.has(event.handle)) this.#ended++;
        else if (event.kind === 'failed' || !event.observing) this.#observations.delete(event.handle);
    }
  }

  #answer(): void {
    const [one] = this.#open.splice(this.#random.integer(this.#open.length + 1), 1);
    if (one === undefined) return;
    const { exchange, observe, response } = one;
    if (observe) this.#observers.add(exchange);
    this.#apply(this.#endpoint.respond(exchange, response, this.#now, 1, { observe }));
  }

  #notify(): void {
    for (const exchange of [...this.#observers]) {
      const code = this.#random.integer(50) > 0 ? 0x45 : 0x84;
      if (code === 0x84) this.#observers.delete(exchange);
      const response = { code, options: [], payload: new Uint8Array(this.#random.integer(200)) };
      this.#apply(this.#endpoint.notify(exchange, response, this.#now));
    }
  }

  #observe(peer: string): void {
    const [oldest] = this.#observations;
    if (oldest !== undefined && this.#observations.size >= MOST_OBSERVATIONS) {
      this.#apply(this.#endpoint.cancel(oldest, this.#now));
    }
    const request = { code: 1, options: [], payload: NOTHING };
    const details = { deadline: this.#now + 20_000, priority: 1 } as const;
    const { handle, step } = this.#endpoint.observe(peer, request, details, this.#now);
    this.#observations.add(handle);
    this.#apply(step);
  }

  #ask(peer: string): void {
    const code = 1 + this.#random.integer(4);
    const payload = code === 1 ? NOTHING : new Uint8Array(this.#random.integer(300));
    const options = [{ number: OPTION.uriPath, value: this.#random.bytes(2) }];
    const request = { code, options, payload };
    this.#started++;
    const details = { deadline: this.#now + 20_000, priority: 1 } as const;
    this.#apply(this.#endpoint.request(peer, request, details, this.#now).step);
  }

  #check(): void {
    const { held } = this.#endpoint;
    for (const [name, count] of Object.entries(held)) {
      const bound = BOUNDS[name];
      if (bound === undefined) throw new Error(`${name} has no bound`);
      if (count > bound)
        throw new Error(`shot ${this.#shots}: ${count} ${name}, and no more than ${bound} are allowed`);
    }
  }
}

import type { Priority } from '../../src/base/priority.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import type { Millis } from '../../src/base/time.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import type { CoapEvent, CoapRequest, CoapResponse, CoapStep } from '../../src/coap/api.ts';
import type { CoapLimits } from '../../src/coap/core.ts';
import { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { modelledTiming, rfc7252Timing, type Timing } from '../../src/coap/timing.ts';
import type { Link } from '../../src/link/link.ts';
import { Pacer, type PacerStep } from '../../src/link/pacer.ts';
import { type Conditions, type LinkObservation, SimulatedNetwork } from '../../src/link/simulated.ts';

interface Tag {
  readonly receipt: number | null;
  readonly label: string;
}

export type Outcome = { readonly at: Millis; readonly response?: CoapResponse; readonly reason?: string };

/** One endpoint with a pacer, a link and a handler that answers after a while: the smallest possible driver. */
export class Host {
  readonly endpoint: CoapEndpoint;
  readonly outcomes = new Map<number, Outcome>();
  readonly unanswered: number[] = [];
  /** Requests delivered to the handler, in order. */
  readonly delivered: CoapRequest[] = [];
  /** What each observation was told, in order: the first response too. */
  readonly told = new Map<number, CoapResponse[]>();
  /** Whether the handler's responses accept registrations, and who has registered. */
  observable = false;
  readonly observers = new Set<number>();
  handler: (request: CoapRequest) => { readonly after: Millis; readonly response: CoapResponse };
  readonly #clock: VirtualClock;
  readonly #link: Link;
  readonly #pacer: Pacer<Tag>;
  readonly #timers: Record<'endpoint' | 'pacer', () => void> = {
    endpoint: () => undefined,
    pacer: () => undefined,
  };

  constructor(
    clock: VirtualClock,
    link: Link,
    random: Random,
    timing: Timing,
    handler: Host['handler'],
    {
      limits = {},
      selective = false,
    }: { readonly limits?: Partial<CoapLimits>; readonly selective?: boolean } = {},
  ) {
    this.#clock = clock;
    this.#link = link;
    this.handler = handler;
    this.#pacer = new Pacer(link.profile);
    this.endpoint = new CoapEndpoint({ random, timing: () => timing, limits, selective });
    link.onReceive((from, bytes) => this.apply(this.endpoint.receive(from, bytes, clock.monotonic())));
  }

  request(peer: string, request: CoapRequest, timeout: Millis, priority: Priority = 1): number {
    const now = this.#clock.monotonic();
    const { handle, step } = this.endpoint.request(peer, request, { deadline: now + timeout, priority }, now);
    this.apply(step);
    return handle;
  }

  observe(peer: string, request: CoapRequest, timeout: Millis, priority: Priority = 1): number {
    const now = this.#clock.monotonic();
    const { handle, step } = this.endpoint.observe(peer, request, { deadline: now + timeout, priority }, now);
    this.told.set(handle, []);
    this.apply(step);
    return handle;
  }

  /** Tells all observers. */
  notify(response: CoapResponse): void {
    for (const observer of [...this.observers]) {
      this.apply(this.endpoint.notify(observer, response, this.#clock.monotonic()));
    }
  }

  apply(step: CoapStep): void {
    const now = this.#clock.monotonic();
    // First, since what follows may bring a newer step with an earlier deadline.
    this.#timers.endpoint();
    this.#timers.endpoint = this.#arm(step.deadline, () =>
      this.apply(this.endpoint.tick(this.#clock.monotonic())),
    );
    for (const { peer, bytes, priority, receipt, label } of step.datagrams) {
      this.#paced(this.#pacer.enqueue({ to: peer, bytes, priority, tag: { receipt, label } }, now));
    }
    for (const event of step.events) this.#event(event);
  }

  #arm(deadline: Millis | null, run: () => void): () => void {
    return deadline === null ? () => undefined : this.#clock.after(deadline - this.#clock.monotonic(), run);
  }

  #paced(step: PacerStep<Tag>): void {
    this.#timers.pacer();
    this.#timers.pacer = this.#arm(step.deadline, () =>
      this.#paced(this.#pacer.tick(this.#clock.monotonic())),
    );
    for (const { to, bytes, tag } of step.datagrams) this.#link.send(to, bytes, tag.label);
    for (const { tag } of step.events) {
      if (tag.receipt !== null) this.apply(this.endpoint.left(tag.receipt, this.#clock.monotonic()));
    }
  }

  #event(event: CoapEvent): void {
    const at = this.#clock.monotonic();
    switch (event.kind) {
      case 'request': {
        this.delivered.push(event.request);
        const { after, response } = this.handler(event.request);
        const observe = event.observe && this.observable;
        if (observe) this.observers.add(event.exchange);
        const answer = (): void => {
          const now = this.#clock.monotonic();
          this.apply(this.endpoint.respond(event.exchange, response, now, 1, { observe }));
        };
        this.#clock.after(after, answer);
        break;
      }
      case 'observer_gone':
        this.observers.delete(event.exchange);
        break;
      case 'notification':
        this.told.get(event.handle)!.push(event.response);
        break;
      case 'sent':
        this.outcomes.set(event.handle, { at });
        break;
      case 'response':
      case 'failed':
        if (event.kind === 'response' && event.observing) {
          this.told.get(event.handle)!.push(event.response);
          break;
        }
        if (this.outcomes.has(event.handle)) throw new Error(`request ${event.handle} ended twice`);
        this.outcomes.set(
          event.handle,
          event.kind === 'response' ? { at, response: event.response } : { at, reason: event.reason },
        );
        break;
      case 'unanswered':
        this.unanswered.push(event.attempts);
        break;
    }
  }
}

export interface Pair {
  readonly clock: VirtualClock;
  readonly network: SimulatedNetwork;
  readonly a: Host;
  readonly b: Host;
  readonly seen: LinkObservation[];
  /** Runs until nothing is due before `until`. */
  run(until: Millis): void;
}

export const OVERHEAD = 62;

/** Two hosts, `a` and `b`, over one emulated link. */
export function pair(options: {
  readonly seed: number;
  readonly conditions?: Partial<Conditions>;
  readonly timing?: Timing | (() => Timing);
  readonly handler?: Host['handler'];
  readonly limits?: Partial<CoapLimits>;
  /** Whether large bodies go by selective repeat. */
  readonly selective?: boolean;
}): Pair {
  const { seed, conditions = {}, limits = {}, selective = false } = options;
  const clock = new VirtualClock();
  const seen: LinkObservation[] = [];
  const network = new SimulatedNetwork({
    clock,
    random: seededRandom(seed),
    observe: (one) => seen.push(one),
  });
  const rate = conditions.rate ?? null;
  const delay = conditions.latency ?? 0;
  const profile = { mtu: 1200, rate, delay, overhead: OVERHEAD };
  const { timing: given } = options;
  const timing = (): Timing =>
    (typeof given === 'function' ? given() : given) ??
    (rate === null ? rfc7252Timing() : modelledTiming({ rate, delay, overhead: OVERHEAD, mtu: 1200 }));
  const handler = options.handler ?? echo;
  const host = (name: string, salt: number): Host =>
    new Host(clock, network.join(name, profile), seededRandom(seed * 2 + salt), timing(), handler, {
      limits,
      selective,
    });
  const [a, b] = [host('a', 1), host('b', 1_000_003)];
  network.connect('a', 'b', conditions);
  const run = (until: Millis): void => {
    for (let next = clock.next(); next !== null && next <= until; next = clock.next()) clock.step();
    clock.advanceTo(until);
  };
  return { clock, network, a, b, seen, run };
}

/** Answers 2.04 with the request's own payload, at once. */
export const echo: Host['handler'] = (request) => ({
  after: 0,
  response: { code: 0x44, options: [], payload: request.payload },
});

import type { Random } from '../../src/base/random.ts';
import type { Millis } from '../../src/base/time.ts';
import type { VirtualClock } from '../../src/base/virtual_clock.ts';
import type { CoapEvent, CoapStep } from '../../src/coap/api.ts';
import { CoapEndpoint } from '../../src/coap/endpoint.ts';
import type { Timing } from '../../src/coap/timing.ts';
import { Driver } from '../../src/exchange/driver.ts';
import type { Link } from '../../src/link/link.ts';
import { Pacer, type PacerStep } from '../../src/link/pacer.ts';
import { TIGHT_LIMITS } from '../coap/endpoint_under_fire.ts';

interface Tag {
  readonly label: string;
  readonly receipt: number | null;
}

/** Bounds that the traffic of one simulation stays inside of, but not far. */
export const LIMITS = {
  ...TIGHT_LIMITS,
  peers: 8,
  assemblies: 32,
  assembliesPerPeer: 16,
  assemblyBytes: 60_000,
  bodies: 32,
  cachedBodyBytes: 100_000,
};
const PACER_LIMITS = { items: 64, bytes: 64 * 1024 };

/** A CoAP endpoint with a real pacer on an emulated link: everything that is lost when a process ends. */
export class CoapNode {
  readonly endpoint: CoapEndpoint;
  readonly #link: Link;
  readonly #pacer: Pacer<Tag>;
  readonly #driver: Driver<'pacer' | 'coap'>;
  readonly #onEvent: (event: CoapEvent, now: Millis) => void;

  /** Takes the link over from whoever had it before. */
  constructor(parts: {
    readonly clock: VirtualClock;
    readonly link: Link;
    readonly random: Random;
    readonly timing: Timing;
    /** Whether large bodies go by selective repeat. */
    readonly selective: boolean;
    readonly onEvent: (event: CoapEvent, now: Millis) => void;
  }) {
    const { clock, link, random, timing, selective, onEvent } = parts;
    this.#link = link;
    this.#onEvent = onEvent;
    this.endpoint = new CoapEndpoint({ random, timing: () => timing, limits: LIMITS, selective });
    this.#pacer = new Pacer<Tag>(link.profile, PACER_LIMITS);
    this.#driver = new Driver(clock, {
      pacer: (now) => this.#paced(this.#pacer.tick(now), now),
      coap: (now) => this.#apply(this.endpoint.tick(now), now),
    });
    link.onReceive((from, bytes) => this.do((now) => this.endpoint.receive(from, bytes, now)));
  }

  /** Whether the process still runs. */
  get alive(): boolean {
    return !this.#driver.closed;
  }

  get waiting(): number {
    return this.#pacer.waiting;
  }

  /** Whatever the endpoint is asked to do; nothing once the process has ended. */
  do(input: (now: Millis) => CoapStep): void {
    if (this.alive) this.#driver.enter((now) => this.#apply(input(now), now));
  }

  /** Ends the process, as a power cut does. */
  end(): void {
    this.#driver.close();
  }

  #apply(step: CoapStep, now: Millis): void {
    this.#driver.setDeadline('coap', step.deadline);
    for (const { peer: to, bytes, priority, receipt, label } of step.datagrams) {
      this.#paced(this.#pacer.enqueue({ to, bytes, priority, tag: { receipt, label } }, now), now);
    }
    for (const event of step.events) this.#onEvent(event, now);
  }

  #paced(step: PacerStep<Tag>, now: Millis): void {
    this.#driver.setDeadline('pacer', step.deadline);
    for (const { to, bytes, tag } of step.datagrams) this.#link.send(to, bytes, tag.label);
    for (const event of step.events) {
      const { receipt } = event.tag;
      const at = event.kind === 'left' ? event.at : now;
      if (receipt !== null) this.#apply(this.endpoint.left(receipt, at), at);
    }
  }
}

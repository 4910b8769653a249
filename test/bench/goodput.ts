import { seededRandom } from '../../src/base/random.ts';
import type { Millis } from '../../src/base/time.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import type { CoapEvent, CoapStep } from '../../src/coap/api.ts';
import { METHOD } from '../../src/coap/codes.ts';
import { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { FittedTiming } from '../../src/coap/fitted_timing.ts';
import { rfc7252Timing, type Timing } from '../../src/coap/timing.ts';
import { Driver } from '../../src/exchange/driver.ts';
import type { Link, LinkProfile } from '../../src/link/link.ts';
import { Pacer, type PacerStep } from '../../src/link/pacer.ts';
import { SimulatedNetwork } from '../../src/link/simulated.ts';

/** Bytes on the wire of a request and of its answer, and what of them is not CoAP. */
const REQUEST_BYTES = 90;
const ANSWER_BYTES = 70;
const OVERHEAD = 62;
/** Header and token of four bytes; in front of a payload one more. */
const HEAD_BYTES = 8;
const MTU = 1200;
const CHANGED = 0x44;

const LINKS = [
  { rate: 100, delay: 2_000 },
  { rate: 1_200, delay: 300 },
  { rate: 50_000, delay: 50 },
] as const;
const LOSSES = [0, 0.1, 0.3] as const;
const TIMERS = ['RFC 7252', 'ours'] as const;
/** Exchanges that are offered at a time: the next comes when one has ended. */
const OFFERED = [1, 4] as const;

/** "Within a deadline of ten airtimes": of undisturbed exchanges. */
const DEADLINE_AIRTIMES = 10;
/** Where ten airtimes are less than RFC 7252's timers take by themselves (MAX_TRANSMIT_WAIT, 93 s). */
const SHORTEST_DEADLINE: Millis = 120_000;
const EXCHANGES = 1_000;
/** Where 99.9 % has to be shown. */
const MANY_EXCHANGES = 10_000;
const SEED = 1;

export interface Cell {
  readonly rate: number;
  readonly delay: Millis;
  /** Each way. */
  readonly loss: number;
  readonly timers: (typeof TIMERS)[number];
  readonly offered: number;
  readonly exchanges: number;
}

export interface Goodput extends Cell {
  /** Requests and answers that were of use, each counted once, in bits a second. */
  readonly goodput: number;
  readonly meanMs: Millis;
  readonly p95Ms: Millis;
  /** Copies of a request, the first included. */
  readonly sends: number;
  /** Copies that did not wait for their timer. */
  readonly repeated: number;
  /** The part of exchanges that ended within ten airtimes of an undisturbed one. */
  readonly inTime: number;
  /** The part without an answer. */
  readonly failed: number;
}

/** An undisturbed exchange: both packets' serialisation and propagation. */
const exchangeAirtime = ({ rate, delay }: Pick<Cell, 'rate' | 'delay'>): Millis =>
  ((REQUEST_BYTES + ANSWER_BYTES) * 8000) / rate + 2 * delay;

/** One endpoint on the link. */
class Side {
  readonly endpoint: CoapEndpoint;
  readonly #clock: VirtualClock;
  readonly #link: Link;
  readonly #pacer: Pacer<number | null>;
  readonly #driver: Driver<'coap' | 'pacer'>;
  readonly #onEvent: (event: CoapEvent) => void;

  constructor(parts: {
    clock: VirtualClock;
    link: Link;
    seed: number;
    timing: (pacer: Pacer<number | null>) => Timing;
    /** Whether datagrams wait for each other here, or in the link. */
    paced: boolean;
    onEvent: (side: Side, event: CoapEvent) => void;
  }) {
    const { clock, link, seed, paced } = parts;
    this.#clock = clock;
    this.#link = link;
    this.#pacer = new Pacer({ ...link.profile, rate: paced ? link.profile.rate : null });
    const timing = parts.timing(this.#pacer);
    this.endpoint = new CoapEndpoint({ random: seededRandom(seed), timing: () => timing });
    this.#onEvent = (event) => parts.onEvent(this, event);
    this.#driver = new Driver(clock, {
      coap: (now) => this.#apply(this.endpoint.tick(now), now),
      pacer: (now) => this.#applyPacer(this.#pacer.tick(now), now),
    });
    link.onReceive((from, bytes) => this.enter((now) => this.endpoint.receive(from, bytes, now)));
  }

  enter(input: (now: Millis) => CoapStep): void {
    this.#driver.enter((now) => this.#apply(input(now), now));
  }

  get now(): Millis {
    return this.#clock.monotonic();
  }

  #apply(step: CoapStep, now: Millis): void {
    this.#driver.setDeadline('coap', step.deadline);
    for (const { peer: to, bytes, priority, receipt } of step.datagrams)
      this.#applyPacer(this.#pacer.enqueue({ to, bytes, priority, tag: receipt }, now), now);
    for (const event of step.events) this.#onEvent(event);
  }

  #applyPacer(step: PacerStep<number | null>, now: Millis): void {
    this.#driver.setDeadline('pacer', step.deadline);
    for (const { to, bytes } of step.datagrams) this.#link.send(to, bytes);
    for (const { tag } of step.events) if (tag !== null) this.#apply(this.endpoint.left(tag, now), now);
  }
}

/** Runs the exchanges of one cell of the table, in virtual time. */
export function measure(cell: Cell, seed = SEED): Goodput {
  const { rate, delay, loss, timers, offered, exchanges } = cell;
  const clock = new VirtualClock();
  const network = new SimulatedNetwork({ clock, random: seededRandom(seed) });
  const profile: LinkProfile = { mtu: MTU, rate, delay, overhead: OVERHEAD };
  const ours = timers === 'ours';
  const timing = (pacer: Pacer<number | null>): Timing =>
    ours
      ? new FittedTiming(
          { rate, delay, overhead: OVERHEAD, mtu: MTU },
          { idle: () => pacer.isIdle(clock.monotonic()) },
        )
      : rfc7252Timing();
  const deadline = offered * Math.max(DEADLINE_AIRTIMES * exchangeAirtime(cell), SHORTEST_DEADLINE);

  const begun = new Map<number, Millis>();
  const took: Millis[] = [];
  let [started, ended, lastEnd] = [0, 0, 0];
  const start = (side: Side): void => {
    if (started === exchanges) return;
    started++;
    const payload = new Uint8Array(REQUEST_BYTES - OVERHEAD - HEAD_BYTES - 1);
    side.enter((now) => {
      const options = { deadline: now + deadline, priority: 1 } as const;
      const request = { code: METHOD.put, options: [], payload };
      const { handle, step } = side.endpoint.request('b', request, options, now);
      begun.set(handle, now);
      return step;
    });
  };
  const onAnswer = (side: Side, event: CoapEvent): void => {
    if (event.kind !== 'response' && event.kind !== 'failed') return;
    if (event.kind === 'response') took.push(side.now - begun.get(event.handle)!);
    begun.delete(event.handle);
    ended++;
    lastEnd = side.now;
    start(side);
  };
  const onRequest = (side: Side, event: CoapEvent): void => {
    if (event.kind !== 'request') return;
    const answer = { code: CHANGED, options: [], payload: new Uint8Array(0) };
    side.enter((now) => side.endpoint.respond(event.exchange, answer, now));
  };
  const common = { clock, timing, paced: ours };
  const a = new Side({ ...common, link: network.join('a', profile), seed: seed + 1, onEvent: onAnswer });
  new Side({ ...common, link: network.join('b', profile), seed: seed + 2, onEvent: onRequest });
  network.connect('a', 'b', { rate, latency: delay, loss });
  for (let n = 0; n < offered; n++) start(a);
  while (ended < exchanges && clock.step());

  const sorted = took.toSorted((one, other) => one - other);
  const { requestsOut, resent, repeated } = a.endpoint.counters;
  const inTime = DEADLINE_AIRTIMES * offered * exchangeAirtime(cell);
  return {
    ...cell,
    goodput: (took.length * (REQUEST_BYTES + ANSWER_BYTES) * 8000) / lastEnd,
    meanMs: took.reduce((sum, one) => sum + one, 0) / took.length,
    p95Ms: sorted[Math.ceil(sorted.length * 0.95) - 1]!,
    sends: (requestsOut + resent) / requestsOut,
    repeated: repeated / requestsOut,
    inTime: took.filter((one) => one <= inTime).length / exchanges,
    failed: 1 - took.length / exchanges,
  };
}

/** Every cell of the table, in its order. */
export const CELLS: readonly Cell[] = OFFERED.flatMap((offered) =>
  LINKS.flatMap((link) =>
    LOSSES.flatMap((loss) =>
      TIMERS.map((timers) => ({
        ...link,
        loss,
        timers,
        offered,
        exchanges: link.rate === 100 && loss === 0.3 && offered === 1 ? MANY_EXCHANGES : EXCHANGES,
      })),
    ),
  ),
);

const HEADINGS = [
  'at once',
  'bit/s',
  'delay ms',
  'loss each way',
  'timers',
  'exchanges',
  'goodput bit/s',
  'mean s',
  'p95 s',
  'sends',
  'of them early',
  'in ten airtimes %',
  'failed %',
] as const;

/** The table in Markdown. */
export function render(rows: readonly Goodput[]): string {
  const cells = rows.map((row) => [
    row.offered,
    row.rate,
    row.delay,
    `${row.loss * 100} %`,
    row.timers,
    row.exchanges,
    row.goodput.toPrecision(3),
    (row.meanMs / 1000).toFixed(2),
    (row.p95Ms / 1000).toFixed(2),
    row.sends.toFixed(2),
    row.repeated.toFixed(2),
    (row.inTime * 100).toFixed(2),
    (row.failed * 100).toFixed(2),
  ]);
  const line = (values: readonly (string | number)[]): string => `| ${values.join(' | ')} |`;
  return [line(HEADINGS), line(HEADINGS.map(() => '--:')), ...cells.map(line), ''].join('\n');
}

/** `npm run bench -- goodput`: prints the table. */
export async function run({ json }: { readonly json: boolean }): Promise<boolean> {
  const rows = CELLS.map((cell) => measure(cell));
  process.stdout.write(json ? `${JSON.stringify(rows)}\n` : render(rows));
  return true;
}

import { equal } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import type { Millis } from '../../src/base/time.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import type { CoapEvent, CoapResponse } from '../../src/coap/api.ts';
import { code as codeOf, METHOD } from '../../src/coap/codes.ts';
import { NO_BYTES } from '../../src/coap/message.ts';
import { OPTION, stringOf, stringOption, uintOption } from '../../src/coap/options.ts';
import { modelledTiming, rfc7252Timing, type Timing } from '../../src/coap/timing.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD, type Link } from '../../src/link/link.ts';
import { type Fate, SimulatedNetwork } from '../../src/link/simulated.ts';
import { CoapNode, LIMITS } from './coap_node.ts';

const MTU = 1200;
const LARGEST_BODY = 3_000;
const NODES = ['a', 'b', 'c'];
const CONTENT = codeOf(2, 5);
const METHODS = [METHOD.get, METHOD.put, METHOD.post, METHOD.fetch];

/** Elective and no part of the cache-key: requests that differ only here look alike. */
const ALIKE = 65_052;

/** Bits a second, and what follows from it: how long requests are started for, how long one may take, Max-Age. */
const SPEEDS = [
  { rate: null, startsMs: 20_000, deadlineMs: 200_000, maxAgeS: 60 },
  { rate: 50_000, startsMs: 20_000, deadlineMs: 200_000, maxAgeS: 60 },
  { rate: 1_200, startsMs: 60_000, deadlineMs: 1_500_000, maxAgeS: 300 },
  { rate: 100, startsMs: 600_000, deadlineMs: 3_600_000, maxAgeS: 3_000 },
] as const;

/** What can be counted of one run; summed over many, none of it may be zero. */
export const NO_COUNTS = {
  answered: 0,
  timeouts: 0,
  resets: 0,
  cancelled: 0,
  answeredNon: 0,
  deliveredTwice: 0,
  restarts: 0,
  restartsTold: 0,
  lost: 0,
  duplicated: 0,
  partitioned: 0,
  corruptedDropped: 0,
  corruptedDelivered: 0,
  resent: 0,
  duplicates: 0,
  separate: 0,
  blocksIn: 0,
  blocksOut: 0,
  transfersRestarted: 0,
  selectiveTransfers: 0,
  blocksAgain: 0,
  observed: 0,
  notificationsIn: 0,
  notificationsStale: 0,
  observersGone: 0,
  observationsFailed: 0,
  converged: 0,
};
export type Counts = { -readonly [Name in keyof typeof NO_COUNTS]: number };

interface Asked {
  readonly name: string;
  readonly from: number;
  readonly to: number;
  readonly method: number;
  readonly bodyBytes: number;
  readonly answerBytes: number;
  readonly confirmable: boolean;
  /** The process that asked. */
  readonly by: CoapNode;
  ends: number;
  delivered: number;
}

interface Observation {
  readonly from: number;
  readonly to: number;
  readonly by: CoapNode;
  readonly handle: number;
  /** Null: over. */
  version: number | null;
}

interface Resource {
  version: number;
  readonly observers: Set<number>;
}

/** A body that nobody else has: a block in the wrong place, or of another body, shows. */
function bodyOf(name: string, length: number): Uint8Array {
  let state = 7;
  for (let i = 0; i < name.length; i++) state = (Math.imul(state, 31) + name.charCodeAt(i)) >>> 0;
  const body = new Uint8Array(length);
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    body[i] = state >>> 24;
  }
  return body;
}

/** FNV-1a: every change of a single bit shows, as in UDP's checksum. */
function checksum(bytes: Uint8Array, start = 0x811c9dc5): number {
  let sum = start;
  for (let i = 0; i < bytes.length; i++) sum = Math.imul(sum ^ bytes[i]!, 0x01000193);
  return sum >>> 0;
}

/**
 * Two or three endpoints over a bad network: requests of all kinds both ways, an observed resource on each, cancelled
 * requests, restarts and partitions; then the network heals and everything comes to rest. Everything follows from the seed.
 */
export class CoapWorld {
  readonly counts: Counts = { ...NO_COUNTS };
  /** Of all datagrams in their order. */
  digest = 0;
  readonly #random: Random;
  readonly #clock = new VirtualClock();
  readonly #network: SimulatedNetwork;
  readonly #speed: (typeof SPEEDS)[number];
  readonly #timing: Timing;
  readonly #latency: Millis;
  readonly #nameOption: number;
  /** Whether datagrams with a flipped bit arrive; UDP would not let them. */
  readonly #corrupted: boolean;
  /** Whether large bodies go by selective repeat, as they do in a pipe. */
  readonly #selective: boolean;
  readonly #links: Link[] = [];
  readonly #nodes: CoapNode[] = [];
  readonly #resources: Resource[] = [];
  readonly #asked: Asked[] = [];
  readonly #byHandle = new Map<CoapNode, Map<number, Asked | Observation>>();
  readonly #observations: Observation[] = [];
  readonly #restarts: number[];
  #steps = 0;

  constructor(seed: number) {
    const random = seededRandom(seed);
    this.#random = random;
    this.#speed = SPEEDS[seed % SPEEDS.length]!;
    this.#latency = 20 + random.integer(1_000);
    this.#nameOption = random.integer(2) === 0 ? OPTION.uriQuery : ALIKE;
    this.#corrupted = random.integer(10) === 0;
    this.#selective = random.integer(2) === 0;
    const { rate } = this.#speed;
    const nstart = 1 + random.integer(4);
    const link = {
      rate: rate ?? 0,
      delay: this.#latency,
      overhead: ETHERNET_IPV4_UDP_OVERHEAD + 4,
      mtu: MTU,
    };
    const blockSize = ([64, 256, 1024] as const)[random.integer(3)]!;
    this.#timing = rate === null ? rfc7252Timing({ nstart, blockSize }) : { ...modelledTiming(link), nstart };
    const fates: Partial<Record<Fate, 'lost' | 'duplicated' | 'partitioned'>> = {
      lost: 'lost',
      duplicated: 'duplicated',
      partitioned: 'partitioned',
    };
    this.#network = new SimulatedNetwork({
      clock: this.#clock,
      random: seededRandom(seed + 2 ** 31),
      observe: ({ fate }) => {
        const name = fates[fate];
        if (name !== undefined) this.counts[name]++;
        if (fate === 'corrupted' && this.#corrupted) this.counts.corruptedDelivered++;
      },
    });
    const size = 2 + random.integer(2);
    this.#restarts = new Array<number>(size).fill(0);
    for (let index = 0; index < size; index++) {
      this.#links.push(this.#join(NODES[index]!));
      this.#resources.push({ version: 1, observers: new Set() });
      this.#nodes.push(this.#start(index));
    }
    this.#connect();
  }

  /** Runs from the first request to where nothing is left, and checks what must hold. */
  run(): void {
    const { startsMs, deadlineMs, maxAgeS } = this.#speed;
    const random = this.#random;
    const size = this.#nodes.length;
    const at = (run: () => void, within: Millis = startsMs): void => {
      this.#clock.after(random.integer(within), run);
    };
    const couple = (): [number, number] => {
      const from = random.integer(size);
      return [from, (from + 1 + random.integer(size - 1)) % size];
    };
    for (let n = 4 + random.integer(6); n > 0; n--) {
      const [from, to] = couple();
      at(() => this.#ask(from, to));
    }
    for (let n = random.integer(3); n > 0; n--) {
      const [from, to] = couple();
      at(() => this.#observe(from, to), startsMs / 4);
      for (let change = random.integer(6); change >= 0; change--) at(() => this.#change(to), 2 * startsMs);
    }
    if (random.integer(3) === 0) {
      const [victim] = couple();
      at(() => this.#restart(victim), 2 * startsMs);
    }
    if (random.integer(3) === 0) {
      const [from, to] = couple();
      at(() => this.#partition(from, to, random.integer(2 * startsMs)));
    }
    this.#until(2 * startsMs + deadlineMs + 1_000);
    this.#heal();
    // Whoever has missed a notification asks again after its Max-Age and 15 s, perhaps more than once.
    this.#pass(4 * maxAgeS * 1_000 + this.#timing.exchangeLifetime);
    this.#checkObservations();
    this.#endObservations();
    this.#pass(3 * this.#timing.exchangeLifetime + 600_000);
    this.#checkRequests();
    this.#checkRest();
  }

  #join(name: string): Link {
    const { rate } = this.#speed;
    const overhead = ETHERNET_IPV4_UDP_OVERHEAD + (this.#corrupted ? 4 : 0);
    const link = this.#network.join(name, { mtu: MTU, rate, delay: this.#latency, overhead });
    return {
      profile: link.profile,
      send: (to, bytes, label) => {
        const sum = checksum(bytes);
        this.digest = checksum(Uint8Array.of(to.charCodeAt(0)), this.digest ^ sum);
        if (this.#corrupted) {
          link.send(to, bytes, label);
          return;
        }
        const checked = new Uint8Array(bytes.length + 4);
        checked.set(bytes);
        new DataView(checked.buffer).setUint32(bytes.length, sum);
        link.send(to, checked, label);
      },
      onReceive: (receive) =>
        link.onReceive((from, bytes) => {
          if (this.#corrupted) {
            receive(from, bytes);
            return;
          }
          const content = bytes.slice(0, -4);
          const sum = new DataView(bytes.buffer).getUint32(content.length);
          if (sum === checksum(content)) receive(from, content);
          else this.counts.corruptedDropped++;
        }),
      close: () => link.close(),
    };
  }

  #connect(): void {
    const random = this.#random;
    const slow = this.#speed.rate !== null && this.#speed.rate < 10_000;
    for (let a = 0; a < this.#nodes.length; a++) {
      for (let b = 0; b < a; b++) {
        const there = {
          rate: this.#speed.rate,
          latency: this.#latency,
          jitter: random.integer(500),
          loss: random.integer(6) / 10,
          duplication: random.integer(3) / 8,
          reordering: random.integer(3) / 8,
          reorderingDelay: slow ? 30_000 : 10_000,
          corruption: random.integer(3) / 20,
        };
        this.#network.connect(NODES[a]!, NODES[b]!, there);
      }
    }
  }

  #heal(): void {
    const quiet = { loss: 0, duplication: 0, reordering: 0, corruption: 0, partitioned: false };
    for (const from of this.#nodes.keys())
      for (const to of this.#nodes.keys())
        if (from !== to) this.#network.change(NODES[from]!, NODES[to]!, quiet);
  }

  #partition(a: number, b: number, duration: Millis): void {
    const set = (partitioned: boolean): void => {
      this.#network.change(NODES[a]!, NODES[b]!, { partitioned });
      if (this.#random.integer(2) === 0) this.#network.change(NODES[b]!, NODES[a]!, { partitioned });
    };
    set(true);
    this.#clock.after(duration, () => this.#reconnect(a, b));
  }

  #reconnect(a: number, b: number): void {
    this.#network.change(NODES[a]!, NODES[b]!, { partitioned: false });
    this.#network.change(NODES[b]!, NODES[a]!, { partitioned: false });
  }

  #start(index: number): CoapNode {
    const node: CoapNode = new CoapNode({
      clock: this.#clock,
      link: this.#links[index]!,
      random: seededRandom(this.#random.integer(2 ** 32)),
      timing: this.#timing,
      selective: this.#selective,
      onEvent: (event) => this.#onEvent(index, node, event),
    });
    this.#byHandle.set(node, new Map());
    return node;
  }

  #restart(index: number): void {
    this.#collect(this.#nodes[index]!);
    this.#nodes[index]!.end();
    this.#restarts[index]!++;
    this.counts.restarts++;
    this.#resources[index]!.observers.clear();
    for (const observation of this.#observations) {
      if (observation.from === index) observation.version = null;
    }
    this.#nodes[index] = this.#start(index);
    if (this.#random.integer(2) === 0) return;
    // As a handshake of the pipe tells it: before anything else from the new process.
    this.counts.restartsTold++;
    for (const [other, node] of this.#nodes.entries()) {
      if (other !== index) node.do((now) => node.endpoint.restarted(NODES[index]!, now));
    }
  }

  #ask(from: number, to: number): void {
    const random = this.#random;
    const node = this.#nodes[from]!;
    const size = (): number => (random.integer(3) === 0 ? random.integer(LARGEST_BODY) : random.integer(200));
    const method = METHODS[random.integer(METHODS.length)]!;
    const [bodyBytes, answerBytes] = [method === METHOD.get ? 0 : size(), size()];
    const confirmable = random.integer(6) > 0;
    const name = `${this.#asked.length}.${answerBytes}.${random.integer(2) * random.integer(6_000)}`;
    const asked: Asked = {
      ...{ name, from, to, method, bodyBytes, answerBytes, confirmable },
      ...{ by: node, ends: 0, delivered: 0 },
    };
    this.#asked.push(asked);
    const request = {
      code: method,
      options: [stringOption(this.#nameOption, name)],
      payload: bodyOf(name, bodyBytes),
    };
    const priority = random.integer(6) as 0;
    let handle = 0;
    node.do((now) => {
      const options = { deadline: now + this.#speed.deadlineMs, priority, confirmable };
      const started = node.endpoint.request(NODES[to]!, request, options, now);
      handle = started.handle;
      this.#byHandle.get(node)!.set(handle, asked);
      return started.step;
    });
    if (random.integer(10) > 0) return;
    this.#clock.after(random.integer(this.#speed.deadlineMs / 10), () =>
      node.do((now) => node.endpoint.cancel(handle, now)),
    );
  }

  #observe(from: number, to: number): void {
    const node = this.#nodes[from]!;
    const request = {
      code: METHOD.get,
      options: [stringOption(OPTION.uriPath, 'state')],
      payload: NO_BYTES,
    };
    node.do((now) => {
      const options = { deadline: now + this.#speed.deadlineMs, priority: 2 } as const;
      const { handle, step } = node.endpoint.observe(NODES[to]!, request, options, now);
      const observation: Observation = { from, to, by: node, handle, version: 0 };
      this.#observations.push(observation);
      this.#byHandle.get(node)!.set(handle, observation);
      return step;
    });
  }

  #change(index: number): void {
    const resource = this.#resources[index]!;
    resource.version++;
    const node = this.#nodes[index]!;
    for (const exchange of [...resource.observers])
      node.do((now) => node.endpoint.notify(exchange, this.#state(index), now));
  }

  /** Of every third version more than fits into a datagram. */
  #state(index: number): CoapResponse {
    const { version } = this.#resources[index]!;
    const payload = bodyOf(`state ${index} ${version}`, version % 3 === 0 ? 2_000 : 40);
    new DataView(payload.buffer).setUint32(0, version);
    return { code: CONTENT, options: [uintOption(OPTION.maxAge, this.#speed.maxAgeS)], payload };
  }

  #onEvent(index: number, node: CoapNode, event: CoapEvent): void {
    if (++this.#steps % 16 === 0) this.#checkBounds(node);
    switch (event.kind) {
      case 'request':
        this.#serve(index, node, event);
        break;
      case 'response':
      case 'failed':
      case 'notification':
      case 'sent':
        this.#ended(node, event);
        break;
      case 'observer_gone':
        this.counts.observersGone++;
        this.#resources[index]!.observers.delete(event.exchange);
        break;
    }
  }

  #serve(index: number, node: CoapNode, event: Extract<CoapEvent, { kind: 'request' }>): void {
    const { request, exchange } = event;
    const named = request.options.find(({ number }) => number === this.#nameOption);
    if (named === undefined) {
      if (event.observe) this.#resources[index]!.observers.add(exchange);
      node.do((now) =>
        node.endpoint.respond(exchange, this.#state(index), now, 1, { observe: event.observe }),
      );
      return;
    }
    const name = stringOf(named) ?? '';
    const [number, answerBytes, after] = name.split('.').map(Number);
    const asked = this.#asked[number ?? -1];
    if (asked?.name === name && asked.to === index) {
      asked.delivered++;
      if (!this.#corrupted && !equal(request.payload, bodyOf(name, asked.bodyBytes)))
        throw new Error(`request ${name} has arrived with another body`);
    } else if (!this.#corrupted) throw new Error(`request ${name} was never sent to ${NODES[index]}`);
    const payload = bodyOf(`answer ${name}`, Math.min(answerBytes || 0, LARGEST_BODY));
    this.#clock.after(after || 0, () =>
      node.do((now) => node.endpoint.respond(exchange, { code: CONTENT, options: [], payload }, now)),
    );
  }

  #ended(
    node: CoapNode,
    event: Extract<CoapEvent, { kind: 'response' | 'failed' | 'notification' | 'sent' }>,
  ): void {
    const one = this.#byHandle.get(node)!.get(event.handle);
    if (one === undefined) throw new Error(`handle ${event.handle} was never given out`);
    if ('version' in one) {
      this.#observed(one, event);
      return;
    }
    one.ends++;
    if (event.kind === 'response') {
      const { response } = event;
      if (one.confirmable) this.counts.answered++;
      else this.counts.answeredNon++;
      if (this.#corrupted) return;
      if (one.delivered === 0) throw new Error(`request ${one.name} was answered and never delivered`);
      const right =
        response.code === CONTENT && equal(response.payload, bodyOf(`answer ${one.name}`, one.answerBytes));
      if (!right) throw new Error(`request ${one.name} has got another answer: ${response.code}`);
    } else if (event.kind === 'failed') {
      if (event.reason === 'timeout') this.counts.timeouts++;
      if (event.reason === 'reset') this.counts.resets++;
      if (event.reason === 'cancelled') this.counts.cancelled++;
      // Anything else is against the rules of two endpoints that keep them.
      const allowed = [
        'timeout',
        'reset',
        'cancelled',
        ...(this.#corrupted || this.#lossOfState(one) ? ['bad_response'] : []),
      ];
      if (!allowed.includes(event.reason)) throw new Error(`request ${one.name} has failed: ${event.reason}`);
    } else throw new Error(`request ${one.name} has ended as ${event.kind}`);
  }

  #lossOfState({ to }: Asked): boolean {
    return this.#restarts[to]! > 0;
  }

  #observed(
    observation: Observation,
    event: Extract<CoapEvent, { kind: 'response' | 'failed' | 'notification' | 'sent' }>,
  ): void {
    if (observation.version === null) {
      throw new Error(`an observation that is over has got ${event.kind}`);
    }
    if (event.kind === 'failed') {
      if (event.reason !== 'cancelled') this.counts.observationsFailed++;
      observation.version = null;
      return;
    }
    if (event.kind === 'sent') throw new Error('an observation has no No-Response');
    const { payload } = event.response;
    const version = payload.length < 4 ? 0 : new DataView(payload.buffer, payload.byteOffset).getUint32(0);
    if (event.kind === 'response') this.counts.observed++;
    if (!this.#corrupted) {
      const expected = bodyOf(`state ${observation.to} ${version}`, version % 3 === 0 ? 2_000 : 40);
      if (!equal(payload.subarray(4), expected.subarray(4)))
        throw new Error('a state is mixed out of several');
      if (version < observation.version && this.#restarts[observation.to] === 0)
        throw new Error(`version ${version} has come after ${observation.version}`);
    }
    const over = event.kind === 'response' && !event.observing;
    observation.version = over ? null : version;
  }

  #checkObservations(): void {
    for (const { from, to, version } of this.#observations) {
      if (version === null || this.#corrupted) continue;
      const newest = this.#resources[to]!.version;
      if (version !== newest)
        throw new Error(`${NODES[from]} sees version ${version} of ${NODES[to]}, which has ${newest}`);
      this.counts.converged++;
    }
  }

  #endObservations(): void {
    for (const { by, handle } of this.#observations) by.do((now) => by.endpoint.cancel(handle, now));
    // Whoever has restarted and does not know any more that it observes finds out with the next change.
    for (const after of [1, 2])
      for (const index of this.#nodes.keys()) this.#clock.after(after * 100_000, () => this.#change(index));
  }

  #checkRequests(): void {
    for (const { name, by, ends, delivered, from, to, method } of this.#asked) {
      const gone = !this.#nodes.includes(by);
      if (ends !== 1 && !(gone && ends === 0)) throw new Error(`request ${name} has ended ${ends} times`);
      if (delivered > 1) this.counts.deliveredTwice++;
      if (this.#corrupted) continue;
      // A restarted server does again what was on its way, and what it is sent once its restart is known; where it is
      // told that the client has restarted, it forgets which of its messages it has seen. And what is only read is
      // asked for block by block, each of which a server without memory takes for a new request.
      const safe = method === METHOD.get || method === METHOD.fetch;
      const most = 1 + (this.#restarts[to]! + this.#restarts[from]!) * (safe ? 5 : 2);
      if (delivered > most) throw new Error(`request ${name} was delivered ${delivered} times`);
    }
  }

  #checkRest(): void {
    for (const [index, node] of this.#nodes.entries()) {
      this.#collect(node);
      const held = Object.entries(node.endpoint.held).filter(([, count]) => count > 0);
      if (held.length > 0)
        throw new Error(
          `${NODES[index]} still holds ${held.map(([name, count]) => `${count} ${name}`).join(', ')}`,
        );
      if (node.waiting > 0) throw new Error(`${node.waiting} datagrams still wait`);
    }
  }

  #checkBounds(node: CoapNode): void {
    const { held } = node.endpoint;
    for (const [name, bound] of [
      ['peers', LIMITS.peers],
      ['exchanges', LIMITS.exchanges],
      ['uploads', 2 * LIMITS.assemblies],
      ['responses', LIMITS.bodies],
      ['assembling', LIMITS.assemblyBytes],
      ['cachedBodyBytes', LIMITS.cachedBodyBytes],
      ['remembered', LIMITS.remembered],
      ['replyBytes', LIMITS.replyBytes],
    ] as const) {
      if ((held[name] ?? 0) > bound)
        throw new Error(`${held[name]} ${name}, and no more than ${bound} are allowed`);
    }
  }

  #collect({ endpoint: { counters } }: CoapNode): void {
    this.counts.resent += counters.resent;
    this.counts.duplicates += counters.duplicates;
    this.counts.separate += counters.separateResponses;
    this.counts.blocksIn += counters.blocksIn;
    this.counts.blocksOut += counters.blocksOut;
    this.counts.transfersRestarted += counters.transfersRestarted;
    this.counts.selectiveTransfers += counters.selectiveTransfers;
    this.counts.blocksAgain += counters.blocksAgain;
    this.counts.notificationsIn += counters.notificationsIn;
    this.counts.notificationsStale += counters.notificationsStale;
  }

  #pass(duration: Millis): void {
    this.#until(this.#clock.monotonic() + duration);
  }

  #until(end: Millis): void {
    const clock = this.#clock;
    for (let next = clock.next(); next !== null && next <= end; next = clock.next()) clock.step();
    clock.advanceTo(end);
  }
}

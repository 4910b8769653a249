import { assert } from '../base/assert.ts';
import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import { type Address, airtime, type Link, type LinkProfile } from './link.ts';

/** What happens to datagrams in one direction between two endpoints. Probabilities are 0 to 1. */
export interface Conditions {
  /** Bits a second, or null: no airtime. */
  readonly rate: number | null;
  /** Propagation, in milliseconds, and the most that is added at random. */
  readonly latency: Millis;
  readonly jitter: Millis;
  readonly loss: number;
  readonly duplication: number;
  /** How often a datagram is held back so that later ones overtake it, and for how long at most. */
  readonly reordering: number;
  readonly reorderingDelay: Millis;
  /** How often one bit is flipped. */
  readonly corruption: number;
  /** Bytes of payload; what is longer is dropped. */
  readonly mtu: number;
  /** Datagrams that wait for the one that is being serialised. */
  readonly queueLimit: number;
  /** Nothing gets through. */
  readonly partitioned: boolean;
}

const IDEAL: Conditions = {
  rate: null,
  latency: 0,
  jitter: 0,
  loss: 0,
  duplication: 0,
  reordering: 0,
  reorderingDelay: 0,
  corruption: 0,
  mtu: Number.POSITIVE_INFINITY,
  queueLimit: 64,
  partitioned: false,
};

/**
 * `sent`: accepted; every other fate follows it, except those that mean it was not (`overflow`, `too_large`,
 * `partitioned`, `unknown`). `duplicated`: a second copy is on its way. `corrupted`: one bit of what will be delivered
 * is another.
 */
export type Fate =
  | 'sent'
  | 'delivered'
  | 'lost'
  | 'duplicated'
  | 'corrupted'
  | 'overflow'
  | 'too_large'
  | 'partitioned'
  | 'unknown';

export interface LinkObservation {
  /** Monotonic milliseconds. */
  readonly at: Millis;
  readonly from: Address;
  readonly to: Address;
  /** Length of the payload. */
  readonly bytes: number;
  /** Length with the sender's overhead. */
  readonly wire: number;
  readonly label: string;
  readonly fate: Fate;
}

interface Direction {
  conditions: Conditions;
  /** When the last bit of everything accepted so far has left. */
  busyUntil: Millis;
  /** The latest arrival so far: jitter alone does not reorder. */
  lastArrival: Millis;
  waiting: number;
}

class SimulatedLink implements Link {
  readonly profile: LinkProfile;
  readonly #transmit: (to: Address, bytes: Uint8Array, label: string) => void;
  readonly #leave: () => void;
  #receive: (from: Address, bytes: Uint8Array) => void = () => undefined;

  constructor(
    profile: LinkProfile,
    transmit: (to: Address, bytes: Uint8Array, label: string) => void,
    leave: () => void,
  ) {
    this.profile = profile;
    this.#transmit = transmit;
    this.#leave = leave;
  }

  send(to: Address, bytes: Uint8Array, label = ''): void {
    this.#transmit(to, bytes, label);
  }

  onReceive(receive: (from: Address, bytes: Uint8Array) => void): void {
    this.#receive = receive;
  }

  deliver(from: Address, bytes: Uint8Array): void {
    this.#receive(from, bytes);
  }

  close(): Promise<void> {
    this.#leave();
    return Promise.resolve();
  }
}

/**
 * Named endpoints and the ways between them, on whatever clock: the same seed and the same calls give the same deliveries.
 * Each direction serialises one datagram at a time; its airtime counts the overhead of lower layers.
 */
export class SimulatedNetwork {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #observe: (observation: LinkObservation) => void;
  readonly #links = new Map<Address, SimulatedLink>();
  readonly #directions = new Map<string, Direction>();

  constructor(parts: {
    readonly clock: Clock;
    readonly random: Random;
    readonly observe?: (observation: LinkObservation) => void;
  }) {
    this.#clock = parts.clock;
    this.#random = parts.random;
    this.#observe = parts.observe ?? (() => undefined);
  }

  /** Adds an endpoint. Its name is its address; a closed endpoint's name may be used again. */
  join(name: Address, profile: LinkProfile): Link {
    assert(!this.#links.has(name), 'an endpoint joins once');
    const link: SimulatedLink = new SimulatedLink(
      profile,
      (to, bytes, label) => this.#send(name, profile, to, bytes, label),
      () => {
        if (this.#links.get(name) === link) this.#links.delete(name);
      },
    );
    this.#links.set(name, link);
    return link;
  }

  /** Makes a way between two endpoints: `back` is the other direction, like `there` where it is left out. */
  connect(a: Address, b: Address, there: Partial<Conditions>, back: Partial<Conditions> = there): void {
    this.#directions.set(directionOf(a, b), newDirection(there));
    this.#directions.set(directionOf(b, a), newDirection(back));
  }

  /** Changes one direction from now on; datagrams on their way are not affected. */
  change(from: Address, to: Address, conditions: Partial<Conditions>): void {
    const direction = this.#directions.get(directionOf(from, to));
    assert(direction !== undefined, 'only a way that exists can be changed');
    direction.conditions = { ...direction.conditions, ...conditions };
  }

  #send(from: Address, profile: LinkProfile, to: Address, bytes: Uint8Array, label: string): void {
    const observe = (fate: Fate): void => {
      const wire = bytes.length + profile.overhead;
      this.#observe({ at: this.#clock.monotonic(), from, to, bytes: bytes.length, wire, label, fate });
    };
    const direction = this.#directions.get(directionOf(from, to));
    if (direction === undefined) {
      observe('unknown');
      return;
    }
    const { conditions } = direction;
    if (bytes.length > conditions.mtu) {
      observe('too_large');
      return;
    }
    if (conditions.partitioned) {
      observe('partitioned');
      return;
    }
    if (direction.waiting > conditions.queueLimit) {
      observe('overflow');
      return;
    }
    observe('sent');
    const now = this.#clock.monotonic();
    const serialisation = airtime({ ...profile, rate: conditions.rate }, bytes.length);
    const leavesAt = Math.max(now, direction.busyUntil) + serialisation;
    direction.busyUntil = leavesAt;
    direction.waiting++;
    this.#clock.after(leavesAt - now, () => {
      direction.waiting--;
    });
    // Every datagram throws the same dice, so that one condition does not shift the others' outcomes.
    const throwDie = (): number => this.#random.fraction();
    const [lost, doubled, held, flipped] = [throwDie(), throwDie(), throwDie(), throwDie()];
    const [jitter, hold, gap, where] = [throwDie(), throwDie(), throwDie(), throwDie()];
    let arrivesAt = leavesAt + conditions.latency + jitter * conditions.jitter;
    if (held < conditions.reordering) arrivesAt += hold * conditions.reorderingDelay;
    else {
      arrivesAt = Math.max(arrivesAt, direction.lastArrival);
      direction.lastArrival = arrivesAt;
    }
    if (lost < conditions.loss) {
      this.#clock.after(arrivesAt - now, () => observe('lost'));
      return;
    }
    const copy = new Uint8Array(bytes);
    if (flipped < conditions.corruption && copy.length > 0) {
      const bit = Math.floor(where * copy.length * 8);
      copy[bit >> 3]! ^= 1 << (bit & 7);
      observe('corrupted');
    }
    const deliver = (): void => {
      const link = this.#links.get(to);
      observe(link === undefined ? 'unknown' : 'delivered');
      link?.deliver(from, new Uint8Array(copy));
    };
    this.#clock.after(arrivesAt - now, deliver);
    if (doubled < conditions.duplication) {
      observe('duplicated');
      this.#clock.after(arrivesAt - now + gap * (conditions.reorderingDelay + conditions.jitter), deliver);
    }
  }
}

const newDirection = (conditions: Partial<Conditions>): Direction => ({
  conditions: { ...IDEAL, ...conditions },
  busyUntil: 0,
  lastArrival: 0,
  waiting: 0,
});

/** Addresses hold no line break. */
const directionOf = (from: Address, to: Address): string => `${from}\n${to}`;

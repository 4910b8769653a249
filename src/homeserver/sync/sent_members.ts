import type { Requester } from '../accounts.ts';

/** Devices remembered; the one unused for longest goes first. */
const MAX_DEVICES = 1_000;
/** Membership events remembered for one device. */
const MAX_SENT = 5_000;

interface Device {
  /** The token with which the device last came, and what it had been sent by then. */
  readonly since: number;
  readonly received: ReadonlySet<string>;
  /** The token that it was answered, and what went along with it. */
  readonly next: number;
  readonly sent: readonly string[];
}

/** What one sync knows and adds. */
export interface SentRound {
  /** Whether the device certainly has this membership event. */
  has(eventId: string): boolean;
  /** Notes that the answer holds this membership event. */
  add(eventId: string): void;
  /** Says with which token the round is answered. */
  answered(next: number): void;
}

/**
 * Which membership events each device has, so that lazy loading need not send them again (client-server API,
 * "Lazy-loading room members"). A device has what an answer held once it comes back with that answer's token; where
 * it comes back with another, the answer got lost. Forgetting, as at a restart, costs only a repetition.
 */
export class SentMembers {
  /** In the order of use. */
  readonly #devices = new Map<string, Device>();

  /** Starts a sync from a token; without one the device starts over and has nothing. */
  round({ user, device }: Requester, since: number | undefined): SentRound {
    const key = `${user}\u0000${device}`;
    const received = this.#received(key, since);
    const sent: string[] = [];
    return {
      has: (eventId) => received.has(eventId),
      add: (eventId) => {
        sent.push(eventId);
      },
      answered: (next) => {
        this.#devices.delete(key);
        // With the token unchanged, a repeated request would look like a receipt.
        this.#devices.set(key, { since: since ?? -1, received, next, sent: next === since ? [] : sent });
        if (this.#devices.size > MAX_DEVICES) this.#devices.delete(this.#devices.keys().next().value!);
      },
    };
  }

  #received(key: string, since: number | undefined): ReadonlySet<string> {
    const device = this.#devices.get(key);
    if (device === undefined || since === undefined) return new Set();
    if (since === device.next) {
      const all = [...device.received, ...device.sent];
      return new Set(all.slice(-MAX_SENT));
    }
    return since === device.since ? device.received : new Set();
  }
}

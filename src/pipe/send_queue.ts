import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';

/** What the driver wants to have sent to a peer. */
export interface Outgoing {
  readonly bytes: Uint8Array;
  readonly priority: Priority;
  readonly receipt: number | null;
  readonly label: string;
  /** Which request's message it is, and which copy: see CoapDatagram. Left out: a message alone. */
  readonly request?: number | null;
  readonly copy?: number;
  /** A whole request that may go in an IK1, which anybody can repeat. */
  readonly early?: boolean;
}

interface Waiting {
  readonly item: Outgoing;
  readonly since: Millis;
}

/** What waits for a session with one peer. Bounded in number, bytes and time. */
export class SendQueue {
  readonly #limits: {
    readonly queuedRecords: number;
    readonly queuedBytes: number;
    readonly queuedMs: Millis;
  };
  #waiting: Waiting[] = [];

  constructor(limits: {
    readonly queuedRecords: number;
    readonly queuedBytes: number;
    readonly queuedMs: Millis;
  }) {
    this.#limits = limits;
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  /** Adds `item`. Returns what had to go for it. */
  add(item: Outgoing, now: Millis): Outgoing[] {
    this.#waiting.push({ item, since: now });
    const dropped: Outgoing[] = [];
    while (this.#waiting.length > this.#limits.queuedRecords || this.#bytes() > this.#limits.queuedBytes) {
      dropped.push(this.#removeLeastUrgent());
    }
    return dropped;
  }

  /** Removes and returns what has waited for too long. */
  expire(now: Millis): Outgoing[] {
    const isOld = ({ since }: Waiting): boolean => now - since >= this.#limits.queuedMs;
    const old = this.#waiting.filter(isOld);
    this.#waiting = this.#waiting.filter((waiting) => !isOld(waiting));
    return old.map(({ item }) => item);
  }

  /** Removes and returns what is most urgent, and of that the first that came. */
  take(): Outgoing | undefined {
    return this.#waiting.splice(this.#best(), 1)[0]?.item;
  }

  /** Takes one out. Returns whether it was there. */
  remove(item: Outgoing): boolean {
    const at = this.#waiting.findIndex((waiting) => waiting.item === item);
    if (at >= 0) this.#waiting.splice(at, 1);
    return at >= 0;
  }

  /** Takes out what would be told of by this receipt. */
  withdraw(receipt: number): void {
    this.#waiting = this.#waiting.filter(({ item }) => item.receipt !== receipt);
  }

  /** What `take` would return. */
  peek(): Outgoing | undefined {
    return this.#waiting[this.#best()]?.item;
  }

  #best(): number {
    let best = 0;
    this.#waiting.forEach(({ item }, i) => {
      if (item.priority < this.#waiting[best]!.item.priority) best = i;
    });
    return best;
  }

  #bytes(): number {
    return this.#waiting.reduce((sum, { item }) => sum + item.bytes.length, 0);
  }

  /** Of the least urgent class the youngest: what came first has waited for longest. */
  #removeLeastUrgent(): Outgoing {
    let worst = 0;
    this.#waiting.forEach(({ item }, i) => {
      if (item.priority >= this.#waiting[worst]!.item.priority) worst = i;
    });
    return this.#waiting.splice(worst, 1)[0]!.item;
  }
}

import type { Priority } from '../base/priority.ts';
import type { Step } from '../base/step.ts';
import type { Millis } from '../base/time.ts';
import { AirtimeBudget } from './airtime_budget.ts';
import { type Address, airtime, type LinkProfile } from './link.ts';

export interface PacerItem<Tag> {
  readonly to: Address;
  readonly bytes: Uint8Array;
  readonly priority: Priority;
  /** Handed back in events. */
  readonly tag: Tag;
}

export type PacerEvent<Tag> =
  /** The last bit has left at the instant `at`. */
  | { readonly kind: 'left'; readonly tag: Tag; readonly at: Millis }
  /** It found no room and is never sent. */
  | { readonly kind: 'dropped'; readonly tag: Tag };

/** `datagrams` are to be handed to the link now. */
export type PacerStep<Tag> = Step<never, PacerItem<Tag>, PacerEvent<Tag>>;

export interface PacerLimits {
  /** Datagrams that wait. */
  readonly items: number;
  /** Bytes of payload that wait. */
  readonly bytes: number;
  /** The part of the airtime that the two lowest classes get even while higher ones wait. */
  readonly lowShare: number;
}

const DEFAULT_LIMITS: PacerLimits = { items: 512, bytes: 512 * 1024, lowShare: 0.05 };

/** Backfill and media. */
const LOW: Priority = 4;

/** A driver's clock may be early by what rounding leaves. */
const ROUNDING: Millis = 1e-3;

/** Where the rate is not known: so much may leave at once, and then so fast, so that a socket's buffer does not overflow. */
const BURST_BYTES = 128 * 1024;
const BYTES_PER_MS = 12_500;

/** With more than this part of an hour's airtime used, nothing is sent that could be left out. */
const SCARCE = 0.5;

/**
 * Hands datagrams to a link no faster than it carries them, so that nothing queues behind it (in the kernel or the modem)
 * where priorities do not reach. Where the rate is known at most one datagram is in the link at a time; the next
 * is the oldest of the most urgent class. What has begun is finished. Where an hour's airtime is bounded, what would
 * exceed it waits, acknowledgements too, and whatever is most urgent then goes first. Pure.
 */
export class Pacer<Tag> {
  readonly #profile: LinkProfile;
  readonly #limits: PacerLimits;
  /** By class, the oldest first. */
  readonly #waiting: PacerItem<Tag>[][] = [[], [], [], [], [], []];
  #items = 0;
  #bytes = 0;
  /** What is in the link, and when its last bit will have left. */
  #inLink: { readonly tag: Tag; readonly until: Millis } | null = null;
  /** Airtime that the lowest classes are owed. */
  #owed: Millis = 0;
  readonly #budget: AirtimeBudget | null;
  /** When an hour's budget allows what is next, where it does not yet. */
  #forbiddenUntil: Millis | null = null;
  /** Where the rate is not known: bytes that may leave at once, as of an instant. */
  #allowed = { bytes: BURST_BYTES, at: Number.NEGATIVE_INFINITY };
  #datagrams: PacerItem<Tag>[] = [];
  #events: PacerEvent<Tag>[] = [];

  constructor(profile: LinkProfile, limits: Partial<PacerLimits> = {}) {
    this.#profile = profile;
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    const { rate, airtimePerHourMs } = profile;
    this.#budget =
      rate === null || airtimePerHourMs === undefined ? null : new AirtimeBudget(airtimePerHourMs);
  }

  /** Datagrams that wait, the one in the link not counted. */
  get waiting(): number {
    return this.#items;
  }

  /** When a budget of airtime lets go what is next, where it does not yet. */
  get forbiddenUntil(): Millis | null {
    return this.#forbiddenUntil;
  }

  /** Whether the link has nothing to do, and airtime to spare. */
  isIdle(now: Millis): boolean {
    const scarce = this.#budget !== null && this.#budget.used(now) > SCARCE;
    return this.#inLink === null && this.#items === 0 && !scarce;
  }

  enqueue(item: PacerItem<Tag>, now: Millis): PacerStep<Tag> {
    if (this.#budget?.allows(airtime(this.#profile, item.bytes.length)) === false) {
      this.#events.push({ kind: 'dropped', tag: item.tag });
      return this.#step();
    }
    this.#advance(now);
    this.#waiting[item.priority]!.push(item);
    this.#items++;
    this.#bytes += item.bytes.length;
    // The link first: what can leave at once needs no room.
    this.#advance(now);
    while (this.#items > this.#limits.items || this.#bytes > this.#limits.bytes) this.#dropOne();
    return this.#step();
  }

  /** Time has passed; called at the step's deadline at the latest. */
  tick(now: Millis): PacerStep<Tag> {
    this.#advance(now);
    return this.#step();
  }

  #step(): PacerStep<Tag> {
    const deadline = this.#inLink?.until ?? this.#forbiddenUntil;
    const step = { writes: [], datagrams: this.#datagrams, events: this.#events, deadline };
    this.#datagrams = [];
    this.#events = [];
    return step;
  }

  #advance(now: Millis): void {
    if (this.#profile.rate === null) {
      this.#release(now);
      return;
    }
    if (this.#inLink !== null) {
      if (this.#inLink.until > now + ROUNDING) return;
      this.#events.push({ kind: 'left', tag: this.#inLink.tag, at: this.#inLink.until });
      this.#inLink = null;
    }
    this.#forbiddenUntil = null;
    const turn = this.#turn();
    if (turn === undefined) return;
    const time = this.#airtimeOf(turn);
    const at = this.#budget?.freeAt(time, now) ?? now;
    if (at > now + ROUNDING) {
      this.#forbiddenUntil = at;
      return;
    }
    this.#account(turn);
    const item = this.#take(turn, 0);
    this.#budget?.use(time, now);
    this.#datagrams.push(item);
    this.#inLink = { tag: item.tag, until: now + time };
  }

  /** Hands over what the bound for links of unknown rate allows. */
  #release(now: Millis): void {
    const { bytes, at } = this.#allowed;
    let allowed = Math.min(BURST_BYTES, bytes + (now - at) * BYTES_PER_MS);
    this.#forbiddenUntil = null;
    for (let turn = this.#turn(); turn !== undefined; turn = this.#turn()) {
      if (allowed <= 0) {
        this.#forbiddenUntil = now - (allowed - 1) / BYTES_PER_MS;
        break;
      }
      const item = this.#take(turn, 0);
      allowed -= item.bytes.length;
      this.#datagrams.push(item);
      this.#events.push({ kind: 'left', tag: item.tag, at: now });
    }
    this.#allowed = { bytes: allowed, at: now };
  }

  /** The class that goes next. */
  #turn(): PacerItem<Tag>[] | undefined {
    const urgent = this.#waiting.find((items) => items.length > 0);
    const low = this.#low();
    const owed = low !== undefined && this.#limits.lowShare > 0 && this.#owed >= this.#airtimeOf(low);
    return owed ? low : urgent;
  }

  /** Keeps account of what the lowest classes are owed when it is the turn of a class. */
  #account(turn: PacerItem<Tag>[]): void {
    const low = this.#low();
    const share = this.#limits.lowShare;
    if (turn === low || low === undefined) this.#owed = 0;
    else this.#owed += (this.#airtimeOf(turn) * share) / (1 - share);
  }

  #low(): PacerItem<Tag>[] | undefined {
    return this.#waiting.slice(LOW).find((items) => items.length > 0);
  }

  /** Of the oldest of a class. */
  #airtimeOf(items: PacerItem<Tag>[]): Millis {
    return airtime(this.#profile, items[0]!.bytes.length);
  }

  /** The newest of the least urgent class gives way. */
  #dropOne(): void {
    const least = this.#waiting.findLast((items) => items.length > 0)!;
    this.#events.push({ kind: 'dropped', tag: this.#take(least, least.length - 1).tag });
  }

  #take(items: PacerItem<Tag>[], at: number): PacerItem<Tag> {
    const item = items.splice(at, 1)[0]!;
    this.#items--;
    this.#bytes -= item.bytes.length;
    return item;
  }
}

import type { Priority } from '../base/priority.ts';
import type { Step } from '../base/step.ts';
import type { Millis } from '../base/time.ts';
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

/**
 * Hands datagrams to a link no faster than it carries them, so that nothing queues behind it (in the kernel or the modem)
 * where priorities do not reach. Where the rate is known at most one datagram is in the link at a time; the next
 * is the oldest of the most urgent class. What has begun is finished. Pure.
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
  #datagrams: PacerItem<Tag>[] = [];
  #events: PacerEvent<Tag>[] = [];

  constructor(profile: LinkProfile, limits: Partial<PacerLimits> = {}) {
    this.#profile = profile;
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
  }

  /** Datagrams that wait, the one in the link not counted. */
  get waiting(): number {
    return this.#items;
  }

  enqueue(item: PacerItem<Tag>, now: Millis): PacerStep<Tag> {
    if (this.#profile.rate === null) {
      this.#datagrams.push(item);
      this.#events.push({ kind: 'left', tag: item.tag, at: now });
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
    const step = {
      writes: [],
      datagrams: this.#datagrams,
      events: this.#events,
      deadline: this.#inLink?.until ?? null,
    };
    this.#datagrams = [];
    this.#events = [];
    return step;
  }

  #advance(now: Millis): void {
    if (this.#inLink !== null) {
      if (this.#inLink.until > now + ROUNDING) return;
      this.#events.push({ kind: 'left', tag: this.#inLink.tag, at: this.#inLink.until });
      this.#inLink = null;
    }
    const item = this.#next();
    if (item === undefined) return;
    this.#datagrams.push(item);
    this.#inLink = { tag: item.tag, until: now + airtime(this.#profile, item.bytes.length) };
  }

  /** Takes out what goes next, and keeps account of what the lowest classes are owed. */
  #next(): PacerItem<Tag> | undefined {
    const urgent = this.#waiting.find((items) => items.length > 0);
    const low = this.#waiting.slice(LOW).find((items) => items.length > 0);
    if (urgent === undefined) return undefined;
    const time = (items: PacerItem<Tag>[]): Millis => airtime(this.#profile, items[0]!.bytes.length);
    const share = this.#limits.lowShare;
    const turn = low !== undefined && share > 0 && this.#owed >= time(low) ? low : urgent;
    if (turn === low || low === undefined) this.#owed = 0;
    else this.#owed += (time(turn) * share) / (1 - share);
    return this.#take(turn, 0);
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

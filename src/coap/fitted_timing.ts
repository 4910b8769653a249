import type { Millis } from '../base/time.ts';
import type { BlockSize } from './block.ts';
import { isRequest, METHOD } from './codes.ts';
import {
  type LinkFit,
  LONGEST_FIXED,
  LONGEST_TRIP,
  LONGEST_VARIATION,
  LONGEST_WIRE,
  type Longest,
  MOST_CODES,
  MOST_SAMPLES,
  SLOWER,
  SLOWEST_BYTE,
} from './link_fit.ts';
import { type SelectiveWindow, selectiveWindow } from './selective_window.ts';
import {
  BLOCK_HEAD_BYTES,
  backedOff,
  CHECKPOINT_REPLY_BYTES,
  type Delivery,
  EMPTY_MESSAGE_BYTES,
  type LinkModel,
  LONGEST_INTERVAL,
  MESSAGE_HEAD_BYTES,
  MOST_PARALLEL,
  modelledTiming,
  type Sent,
  STEADY_RETRIES,
  type Timing,
  VARIATION,
} from './timing.ts';

interface Expected {
  readonly longest: Longest;
  readonly hesitated: number;
}

/** RFC 6298's K: so many mean deviations are waited beyond what is predicted. */
const DEVIATIONS = 4;
/** The least weight of a sample in what is predicted and in its deviation (RFC 6298 has 1/8 and 1/4). */
const GAIN = 1 / 4;
/** What an older sample keeps with each newer one: about twenty count. */
const MEMORY = 0.95;
/** How far a sample may be off at the best, for its weight. */
const LEAST_NOISE: Millis = VARIATION / DEVIATIONS;
/** What an older maximum, and a guess, keeps with each exchange. */
const SEEN_DECAY = 0.97;
const GUESS_DECAY = 0.85;
const OURS_DECAY = 0.9;
/** A peer that has hesitated so lately may do so again: within about fifty exchanges. */
const HESITATED = 0.2;
/** By how much the least grows with each sample, so that a shorter way of the past is forgotten. */
const LEAST_GROWTH = 1.02;
/** A timer longer than `LONGEST_INTERVAL` is at most so many times what the link's rate alone leads to. */
const MOST_COMPUTED = 2;
/** How many samples the least has to be the least of. */
const LEAST_SAMPLES = 10;
/** What older copies and replies keep with each exchange: about twenty count. */
const LOSS_DECAY = 0.95;
const LOSS_PRIOR = 4;
/** An answer that comes before this part of the least time after a copy left was not to that copy. */
const TOO_EARLY = 0.9;
/** Answers to several copies come at this part of their distance at least. */
const SPREAD = 0.5;
/** A copy that was not answered this part of the predicted time after it left is lost. */
const TOO_LATE = 0.95;

/** The part of copies without a reply above which the link is lossy: 13 % each way. */
const LOSSY = 0.25;
/** Part of the interval after which a message is repeated, once the timer has run out twice. */
const EARLY_PART = 0.4;
/** Copies of one message before their timer, and the airtime of all of them beside that of messages answered. */
const MOST_EARLY = 12;
const EARLY_SHARE = 2;

/**
 * Timers for one peer on a link with a configured rate: those of `modelledTiming` at first, then fitted to the round
 * trips of which it is known to which copy they belong (Karn's rule), or can be told. Their parts tighten with every exchange, and loosen at
 * once where something took longer. Keeps account of the loss as well: where it is high and the link idle, an urgent
 * message is repeated before its timer.
 */
export class FittedTiming implements Timing {
  readonly maxRetransmit = null;
  readonly blockSize: BlockSize;
  readonly undividedSize: number;
  readonly announceBlockSize = false;
  readonly separateAfter: Millis;
  readonly exchangeLifetime: Millis;
  readonly nonLifetime: Millis;
  readonly #modelled: Timing;
  readonly #overhead: number;
  readonly #perByte: Millis;
  readonly #slowestByte: Millis;
  readonly #idle: () => boolean;
  readonly #onChange: () => void;
  #samples: number;
  #fixed: Millis;
  #perByteThere: Millis;
  #perByteBack: Millis;
  #hesitation: Millis;
  #variation: Millis;
  #copies: number;
  #replies: number;
  #least: Millis;
  #ours: number;
  #inTheWay: Longest;
  readonly #expected: Map<number, Expected>;
  /**
   * What is known about fixed, there, back and hesitation: the inverse of their covariance. Not kept over a restart: the
   * first samples after it count for more.
   */
  #known: readonly (readonly number[])[] = [0, 1, 2, 3].map(() => [0, 0, 0, 0]);
  /** Until when replies may arrive to copies of messages that have been answered. */
  #repliesUntil: Millis = Number.NEGATIVE_INFINITY;
  /** Airtime for copies before their timer. */
  #credit: Millis = 0;

  /**
   * @param options.fit what `snapshot` answered before a restart, checked by `checkedFit`
   * @param options.idle whether the link has nothing to do and nothing forbids to use it
   * @param options.onChange told that something has been learned
   */
  constructor(
    model: LinkModel,
    options: { readonly fit?: LinkFit; readonly idle?: () => boolean; readonly onChange?: () => void } = {},
  ) {
    const modelled = modelledTiming(model);
    this.#modelled = modelled;
    this.blockSize = modelled.blockSize;
    this.undividedSize = modelled.undividedSize ?? modelled.blockSize;
    this.separateAfter = modelled.separateAfter;
    this.exchangeLifetime = modelled.exchangeLifetime;
    this.nonLifetime = modelled.nonLifetime;
    this.#overhead = model.overhead;
    this.#perByte = 8000 / model.rate;
    this.#slowestByte = Math.min(SLOWER * this.#perByte, SLOWEST_BYTE);
    this.#idle = options.idle ?? (() => false);
    this.#onChange = options.onChange ?? (() => undefined);
    const longest = this.undividedSize + MESSAGE_HEAD_BYTES + model.overhead;
    const fit: LinkFit = options.fit ?? {
      samples: 0,
      fixed: 2 * model.delay,
      perByteThere: 0,
      perByteBack: this.#perByte,
      hesitation: modelled.separateAfter,
      variation: (modelled.separateAfter + VARIATION) / DEVIATIONS,
      copies: LOSS_PRIOR,
      replies: LOSS_PRIOR,
      least: 0,
      ours: longest,
      inTheWay: [0, longest],
      expected: [],
    };
    this.#samples = fit.samples;
    this.#fixed = fit.fixed;
    this.#perByteThere = fit.perByteThere;
    this.#perByteBack = fit.perByteBack;
    this.#hesitation = fit.hesitation;
    this.#variation = fit.variation;
    this.#copies = fit.copies;
    this.#replies = fit.replies;
    this.#least = fit.least;
    this.#ours = fit.ours;
    this.#inTheWay = fit.inTheWay;
    this.#expected = new Map(
      fit.expected.map(([code, seen, guess, hesitated]) => [code, { longest: [seen, guess], hesitated }]),
    );
  }

  /** What has been learned, for `checkedFit` after a restart. */
  snapshot(): LinkFit {
    return {
      samples: this.#samples,
      fixed: this.#fixed,
      perByteThere: this.#perByteThere,
      perByteBack: this.#perByteBack,
      hesitation: this.#hesitation,
      variation: this.#variation,
      copies: this.#copies,
      replies: this.#replies,
      least: this.#least,
      ours: this.#ours,
      inTheWay: this.#inTheWay,
      expected: [...this.#expected].map(([code, { longest, hesitated }]) => [code, ...longest, hesitated]),
    };
  }

  /** The part of copies that stay without a reply: 0 to 1. */
  get loss(): number {
    return 1 - this.#replies / this.#copies;
  }

  /** The bandwidth-delay product in packets. */
  get nstart(): number {
    if (this.#samples === 0) return this.#modelled.nstart;
    return Math.min(MOST_PARALLEL, 1 + Math.floor(this.#fixed / (this.#ours * this.#perByte)));
  }

  /** What fills a round trip as it is known now; a slower hop behind the first one counts. */
  get window(): SelectiveWindow {
    const airtime = (messageBytes: number, perByte: Millis): Millis =>
      (messageBytes + this.#overhead) * perByte;
    const slowest = Math.max(this.#perByte, this.#perByteThere);
    const block = airtime(this.blockSize + BLOCK_HEAD_BYTES, slowest);
    return selectiveWindow(block, this.#fixed + airtime(CHECKPOINT_REPLY_BYTES, this.#perByteBack));
  }

  retransmitAfter(attempt: number, bytesSent: number, random: number, sent?: Sent): Millis {
    return backedOff(this.#interval(bytesSent, sent), attempt, random);
  }

  repeatAfter(attempt: number, bytesSent: number, random: number, sent: Sent): Millis | null {
    const early = attempt - STEADY_RETRIES;
    if (early < 0 || early >= MOST_EARLY || this.loss < LOSSY) return null;
    return this.#interval(bytesSent, sent) * EARLY_PART + random * VARIATION;
  }

  mayRepeat(bytesSent: number): boolean {
    const airtime = this.#perByte * (bytesSent + this.#overhead);
    if (this.loss < LOSSY || this.#credit < airtime || !this.#idle()) return false;
    this.#credit -= airtime;
    return true;
  }

  probeAfter(probes: number): Millis {
    return this.#modelled.probeAfter(probes);
  }

  heard(bytesReceived: number): void {
    this.#inTheWay = longer(this.#inTheWay, Math.min(bytesReceived + this.#overhead, LONGEST_WIRE));
  }

  replied(delivery: Delivery): void {
    const { leftAt, repliedAt } = delivery;
    const first = repliedAt[0];
    const newest = leftAt.at(-1);
    if (first === undefined || newest === undefined) return;
    this.#onChange();
    const trip = this.#trip(delivery);
    const predicted = this.#predict(trip);
    if (repliedAt.length > 1) {
      this.#repliedAgain(delivery, trip, predicted);
      return;
    }
    this.#expect(delivery.code, trip);
    this.#inTheWay = longer(this.#inTheWay, 0);
    this.#ours = Math.max(trip.there, this.#ours * OURS_DECAY);
    this.#earn(trip.there);
    const answered = answeredAt(delivery);
    const due = leftAt.filter((left) => left === answered || first - left >= predicted * TOO_LATE).length;
    this.#count(Math.max(1, due), 1);
    const undisturbed = (answered ?? leftAt[0]!) >= this.#repliesUntil;
    // Copies that will be answered yet: their replies may be in the way of others.
    if (delivery.copies > leftAt.length) this.#repliesUntil = first + this.#perByte * trip.there + predicted;
    else if (first - newest < predicted * TOO_LATE) this.#repliesUntil = newest + predicted;
    if (answered !== undefined) {
      if (undisturbed && isClear(delivery)) this.#sample(trip, first - answered);
    } else if (leftAt.length === 1) {
      if (undisturbed) this.#sample(trip, first - newest);
    } else if (leftAt.length === 2 && this.#isTooEarly(first - newest, trip) && this.loss < LOSSY) {
      // It answers the first copy: the second was sent too soon.
      this.#sample(trip, first - leftAt[0]!);
    }
  }

  /** One more copy than the one that had been answered was not lost either. */
  #repliedAgain(delivery: Delivery, trip: Trip, predicted: Millis): void {
    const { copies, leftAt, repliedAt } = delivery;
    // What is more was doubled on the way.
    if (repliedAt.length > copies) return;
    const [first, newest] = [repliedAt[0]!, leftAt.at(-1)!];
    const answered = answeredAt(delivery);
    if (answered !== undefined) {
      if (first - answered < predicted * TOO_LATE) this.#copies++;
      this.#replies = Math.min(this.#copies, this.#replies + 1);
      if (isClear(delivery)) this.#sample(trip, repliedAt.at(-1)! - answered);
      return;
    }
    const counted = leftAt.filter((left) => first - left >= predicted * TOO_LATE).length;
    if (repliedAt.length > Math.max(1, counted)) this.#copies++;
    this.#replies = Math.min(this.#copies, this.#replies + 1);
    // Where all of them were answered, at the distance in which they left, none was lost, and the first answer was to
    // the first: so the others were sent too soon.
    const span = repliedAt.at(-1)! - first;
    const all = repliedAt.length === copies && leftAt.length === copies;
    if (!all || span < (newest - leftAt[0]!) * SPREAD) return;
    if (!this.#isTooEarly(first - newest, trip)) this.#sample(trip, first - leftAt[0]!);
  }

  /** Whether a reply cannot be to a copy that left so long before it. */
  #isTooEarly(after: Millis, { back }: Trip): boolean {
    const least = this.#samples < LEAST_SAMPLES ? 0 : this.#least;
    return after < (least + this.#perByte * back) * TOO_EARLY;
  }

  /** The time for a reply. However late a peer has answered, it cannot make this side wait for ever. */
  #interval(bytesSent: number, sent: Sent | undefined): Millis {
    const computed = this.#modelled.retransmitAfter(0, bytesSent, 0);
    return Math.min(this.#fitted(bytesSent, sent), Math.max(LONGEST_INTERVAL, MOST_COMPUTED * computed));
  }

  /** The time for a reply as the fit has it, with all that may be in front of it. */
  #fitted(bytesSent: number, sent: Sent | undefined): Millis {
    const own = this.#replyTime(sent?.code);
    const others = ((sent?.outstanding ?? 1) - 1) * this.#replyTime(undefined);
    // Nothing is shorter than what lower layers add.
    const longest = Math.max(...this.#inTheWay);
    const inTheWay = longest < this.#overhead + EMPTY_MESSAGE_BYTES ? 0 : longest;
    return (
      this.#fixed +
      this.#perByteThere * (bytesSent + this.#overhead) +
      own +
      others +
      this.#perByteBack * inTheWay +
      Math.max(DEVIATIONS * this.#variation, VARIATION)
    );
  }

  /**
   * The part of the time for the longest reply to expect that is neither fixed nor ours: to a message with that code, or
   * to any where it is not given.
   */
  #replyTime(code: number | undefined): Millis {
    if (code === undefined) {
      const known = [...this.#expected.keys()];
      return Math.max(...(known.length > 0 ? known : [METHOD.get]).map((one) => this.#replyTime(one)));
    }
    const { longest, hesitated } = this.#expected.get(code) ?? this.#unknown(code);
    const time = this.#perByteBack * Math.max(...longest);
    if (hesitated < HESITATED) return time;
    return Math.max(time, this.#hesitation + this.#perByteBack * (EMPTY_MESSAGE_BYTES + this.#overhead));
  }

  /** A request of a kind that has not been sent yet may have the longest answer; other messages are acknowledged. */
  #unknown(code: number): Expected {
    const bytes = isRequest(code) ? this.undividedSize + MESSAGE_HEAD_BYTES : EMPTY_MESSAGE_BYTES;
    return { longest: [0, bytes + this.#overhead], hesitated: 0 };
  }

  #expect(code: number, { back, hesitant }: Trip): void {
    const before = this.#expected.get(code) ?? this.#unknown(code);
    if (!this.#expected.has(code) && this.#expected.size >= MOST_CODES) return;
    const longest = longer(before.longest, back);
    this.#expected.set(code, { longest, hesitated: hesitant === 1 ? 1 : before.hesitated * SEEN_DECAY });
  }

  #trip({ code, bytesSent, bytesReceived, empty }: Delivery): Trip {
    return {
      there: Math.min(bytesSent + this.#overhead, LONGEST_WIRE),
      back: Math.min(bytesReceived + this.#overhead, LONGEST_WIRE),
      hesitant: empty && isRequest(code) ? 1 : 0,
    };
  }

  #predict({ there, back, hesitant }: Trip): Millis {
    return this.#fixed + this.#perByteThere * there + this.#perByteBack * back + this.#hesitation * hesitant;
  }

  /**
   * Takes in one round trip: recursive least squares with forgetting. A quarter of what was not predicted is corrected at
   * least, so that a change is followed at once, in the direction in which there is the most doubt.
   */
  #sample(trip: Trip, measured: Millis): void {
    const took = within(measured, LONGEST_TRIP);
    const residual = took - this.#predict(trip);
    const deviation = Math.max(GAIN, 1 / (this.#samples + 2));
    this.#variation += deviation * (Math.abs(residual) - this.#variation);
    this.#variation = Math.min(this.#variation, LONGEST_VARIATION);
    // In units of what is not known of each part at first, so that all are alike.
    const byte = this.#perByte / 2;
    const units = [this.separateAfter + VARIATION, byte, byte, this.separateAfter / 2];
    const x = [1, trip.there, trip.back, trip.hesitant].map((one, i) => one * units[i]!);
    const noise = Math.max(this.#variation, LEAST_NOISE) ** 2;
    const direction = solve(this.#known, x);
    const doubt = dot(direction, x);
    const weight = Math.max(GAIN, doubt / (doubt + noise)) / doubt;
    const [fixed, there, back, hesitation] = direction.map((one, i) => weight * residual * one * units[i]!);
    this.#fixed = within(this.#fixed + fixed!, LONGEST_FIXED);
    this.#perByteThere = within(this.#perByteThere + there!, this.#slowestByte);
    this.#perByteBack = within(this.#perByteBack + back!, this.#slowestByte);
    this.#hesitation = within(this.#hesitation + hesitation!, LONGEST_FIXED);
    this.#known = this.#known.map((row, i) => row.map((one, j) => one * MEMORY + (x[i]! * x[j]!) / noise));
    const least = Math.max(0, took - this.#perByte * trip.back);
    this.#least = this.#samples === 0 ? least : Math.min(least, this.#least * LEAST_GROWTH);
    this.#least = Math.min(this.#least, LONGEST_FIXED);
    this.#samples = Math.min(this.#samples + 1, MOST_SAMPLES);
  }

  #count(copies: number, replies: number): void {
    this.#copies = this.#copies * LOSS_DECAY + copies;
    this.#replies = this.#replies * LOSS_DECAY + replies;
  }

  #earn(wireBytes: number): void {
    const airtime = this.#perByte * wireBytes;
    this.#credit = Math.min(this.#credit + EARLY_SHARE * airtime, MOST_EARLY * airtime);
  }
}

/** One round trip: bytes on the wire, and 1 where the peer hesitated before it acknowledged. */
interface Trip {
  readonly there: number;
  readonly back: number;
  readonly hesitant: 0 | 1;
}

/** When the copy left that the newest reply is to; undefined where that is not known. */
const answeredAt = ({ leftAt, answered }: Delivery): Millis | undefined =>
  answered === undefined ? undefined : leftAt[answered];

/** Whether the peer is known to have hesitated or not: it acknowledges only the first copy that it gets late. */
const isClear = ({ answered, empty, code }: Delivery): boolean =>
  answered === 0 || !empty || !isRequest(code);

const dot = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((sum, one, at) => sum + one * b[at]!, 0);

/** The solution of (1 + `matrix`) x = `right` by elimination; `matrix` is symmetric and positive. */
function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, i) => [...row.map((one, j) => (i === j ? one + 1 : one)), right[i]!]);
  for (const [i, pivot] of rows.entries()) {
    for (const [j, row] of rows.entries()) {
      if (j === i) continue;
      const factor = row[i]! / pivot[i]!;
      for (let at = i; at < row.length; at++) row[at]! -= factor * pivot[at]!;
    }
  }
  return rows.map((row, i) => row.at(-1)! / row[i]!);
}

const longer = ([seen, guess]: Longest, newest: number): Longest => [
  Math.max(newest, seen * SEEN_DECAY),
  guess * GUESS_DECAY,
];

const within = (value: number, most: number): number => Math.min(Math.max(0, value), most);

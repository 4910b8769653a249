import type { Millis } from '../base/time.ts';
import { BLOCK_SIZES } from '../coap/block.ts';
import { FittedTiming } from '../coap/fitted_timing.ts';
import { checkedFit, type LinkFit } from '../coap/link_fit.ts';
import { type LinkModel, modelledTiming, rfc7252Timing, type Timing } from '../coap/timing.ts';
import type { LinkProfile } from '../link/link.ts';
import type { ExchangeLog } from './socket_options.ts';

/** What a record adds to a message (docs/protocol.md). */
export interface RecordCost {
  /** Flags, connection id of one byte, packet number of one and tag. */
  readonly usual: number;
  /** A connection id of four bytes, a salt and a number of four, and what has been seen in front of the message. */
  readonly most: number;
}

export const PIPE_RECORD: RecordCost = { usual: 1 + 1 + 1 + 16, most: 1 + 4 + 8 + 4 + 1 + 8 + 16 };
export const NO_RECORD: RecordCost = { usual: 0, most: 0 };

/** What a message has beside a block: header, token, options of a long path. */
const MESSAGE_HEAD_BYTES = 128;

/** Peers with a fit; the one that has had one for the longest time gives way. */
export const MOST_FITTED_PEERS = 4096;

/** A changed fit is saved so long after the change, and when the socket closes. */
const SAVE_AFTER: Millis = 10 * 60_000;

/** Where the fits of a link's timers are kept over restarts, one text for each peer. */
export interface LinkFits {
  /** What was kept before this start. */
  readonly known: ReadonlyMap<string, string>;
  /** Keeps some, in the place of those before. */
  save(fits: ReadonlyMap<string, string>): Promise<void>;
}

/**
 * When messages are sent again on a link, and how large their blocks are.
 * @param record what a pipe adds to a message
 */
export function timingOf(profile: LinkProfile, record: RecordCost): Timing {
  const model = modelOf(profile, record);
  if (model !== null) return modelledTiming(model);
  const room = profile.mtu - record.most - MESSAGE_HEAD_BYTES;
  const blockSize = BLOCK_SIZES.findLast((size) => size <= room) ?? BLOCK_SIZES[0];
  return rfc7252Timing({ blockSize });
}

/** The largest CoAP message that a link carries: see `timingOf`. */
export const largestMessage = ({ mtu, largest = mtu }: LinkProfile, record: RecordCost): number =>
  largest - record.most;

/** Null where the rate is not known. */
function modelOf({ rate, delay, overhead, mtu }: LinkProfile, { usual, most }: RecordCost): LinkModel | null {
  return rate === null ? null : { rate, delay, overhead: overhead + usual, mtu: mtu - most };
}

/**
 * The timers towards the servers behind a link's pipes. Where the rate is known each peer has its own, fitted to what its
 * round trips take, and kept over restarts; elsewhere all have RFC 7252's.
 */
export class PeerTimings {
  readonly #model: LinkModel | null;
  readonly #common: Timing;
  readonly #idle: () => boolean;
  readonly #fits: LinkFits | undefined;
  readonly #log: ExchangeLog | undefined;
  readonly #fitted = new Map<string, FittedTiming>();
  /** Peers of which the fit has changed since it was saved. */
  readonly #changed = new Set<string>();
  #saveAt: Millis | null = null;
  #saved: Promise<void> = Promise.resolve();

  constructor(parts: {
    readonly profile: LinkProfile;
    readonly idle: () => boolean;
    readonly fits?: LinkFits | undefined;
    readonly log?: ExchangeLog | undefined;
  }) {
    this.#model = modelOf(parts.profile, PIPE_RECORD);
    this.#common = timingOf(parts.profile, PIPE_RECORD);
    this.#idle = parts.idle;
    this.#fits = parts.fits;
    this.#log = parts.log;
  }

  of(peer: string): Timing {
    if (this.#model === null) return this.#common;
    const known = this.#fitted.get(peer);
    if (known !== undefined) return known;
    const fit = this.#known(peer, this.#model);
    const timing = new FittedTiming(this.#model, {
      idle: this.#idle,
      ...(fit !== undefined && { fit }),
      onChange: () => this.#changed.add(peer),
    });
    if (this.#fitted.size >= MOST_FITTED_PEERS) this.#forget(this.#fitted.keys().next().value!);
    this.#fitted.set(peer, timing);
    return timing;
  }

  /** When `save` is due. */
  deadline(now: Millis): Millis | null {
    if (this.#changed.size === 0 || this.#fits === undefined) return null;
    this.#saveAt ??= now + SAVE_AFTER;
    return this.#saveAt;
  }

  /** Saves what has changed, after what is being saved. Never rejects: what is not saved is learned again. */
  save(): Promise<void> {
    this.#saveAt = null;
    const fits = this.#fits;
    if (fits !== undefined && this.#changed.size > 0) {
      const texts = new Map(
        [...this.#changed].map((peer) => [peer, this.#text(this.#fitted.get(peer)!.snapshot())]),
      );
      this.#changed.clear();
      this.#saved = this.#saved
        .then(() => fits.save(texts))
        .catch((error: unknown) =>
          this.#log?.warn({ err: error }, 'the timers of a link could not be saved'),
        );
    }
    return this.#saved;
  }

  #forget(peer: string): void {
    this.#fitted.delete(peer);
    this.#changed.delete(peer);
  }

  /** With the link's parameters: under others it would mislead. */
  #text(fit: LinkFit): string {
    return JSON.stringify({ link: parametersOf(this.#model!), fit });
  }

  #known(peer: string, model: LinkModel): LinkFit | undefined {
    const text = this.#fits?.known.get(peer);
    if (text === undefined) return undefined;
    const kept = parsed(text);
    if (kept?.link !== undefined && kept.link !== parametersOf(model)) return undefined;
    const fit = checkedFit(kept?.fit);
    if (fit === undefined) this.#log?.warn({ peer }, 'the kept timers of a peer are broken, and not used');
    return fit;
  }
}

const parametersOf = ({ rate, delay, overhead }: LinkModel): string => `${rate} ${delay} ${overhead}`;

function parsed(text: string): { readonly link?: unknown; readonly fit?: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

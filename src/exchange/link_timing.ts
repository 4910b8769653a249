import type { Millis } from '../base/time.ts';
import { BLOCK_SIZES } from '../coap/block.ts';
import { FittedTiming } from '../coap/fitted_timing.ts';
import { checkedFit, type LinkFit } from '../coap/link_fit.ts';
import { type LinkModel, modelledTiming, rfc7252Timing, type Timing } from '../coap/timing.ts';
import type { LinkProfile } from '../link/link.ts';
import { type Agreement, NOTHING_AGREED } from '../pipe/agreement.ts';
import { MOST_HEADER_BYTES } from '../pipe/message_header.ts';
import type { MessageTimes } from '../pipe/message_names.ts';
import type { ExchangeLog } from './socket_options.ts';

/** What a record adds to a message in RFC 7252's form (docs/protocol.md, "Records" and "CoAP in records"). */
export interface RecordCost {
  readonly usual: number;
  readonly most: number;
  /** What a message has beside a block: header, token, options. */
  readonly head: number;
}

/** RFC 7252's header and a token of two bytes, in the place of which a compact header stands. */
const REPLACED = 4 + 2;

/** A pipe's. In a request the path is part of the payload, so that options need little room. */
export const PIPE_RECORD: RecordCost = {
  /** Flags, connection id of one byte, packet number of one, compact header of one, and tag. */
  usual: 1 + 1 + 1 + 1 + 16 - REPLACED,
  /** A connection id of four bytes, a salt and a number of four, what has been seen, the longest header, and tag. */
  most: 1 + 4 + 8 + 4 + (1 + 8) + MOST_HEADER_BYTES + 16 - REPLACED,
  head: 80,
};
export const NO_RECORD: RecordCost = { usual: 0, most: 0, head: 128 };

/** Where timers come from a model, no reply comes later than this part of the lifetime of a message: eight intervals. */
const LONGEST_REPLY = 1 / 10;

/** How long messages matter where they are repeated by these timers. */
export const messageTimesOf = ({ exchangeLifetime, maxRetransmit }: Timing): MessageTimes => ({
  exchangeLifetime,
  longestReply: maxRetransmit === null ? exchangeLifetime * LONGEST_REPLY : exchangeLifetime,
});

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
  const room = profile.mtu - record.most - record.head;
  const blockSize = BLOCK_SIZES.findLast((size) => size <= room) ?? BLOCK_SIZES[0];
  return rfc7252Timing({ blockSize });
}

/** The largest CoAP message that a link carries, and that a peer at its other end can take: see `timingOf`. */
export const largestMessage = (
  { mtu, largest = mtu }: LinkProfile,
  record: RecordCost,
  agreed: Pick<Agreement, 'mtu'> = NOTHING_AGREED,
): number => Math.min(largest, agreed.mtu ?? largest) - record.most;

/** A link as it is towards a peer that takes no longer datagrams, or no more of them in a second. */
const narrowed = (profile: LinkProfile, { mtu, rate }: Agreement): LinkProfile => ({
  ...profile,
  mtu: Math.min(profile.mtu, mtu ?? profile.mtu),
  rate: profile.rate === null ? null : Math.min(profile.rate, rate ?? profile.rate),
});

/** Null where the rate is not known. */
function modelOf({ rate, delay, overhead, mtu }: LinkProfile, { usual, most }: RecordCost): LinkModel | null {
  return rate === null ? null : { rate, delay, overhead: overhead + usual, mtu: mtu - most };
}

/**
 * The timers towards the servers behind a link's pipes. Where the rate is known each peer has its own, fitted to what its
 * round trips take, and kept over restarts; elsewhere all have RFC 7252's.
 */
export class PeerTimings {
  readonly #profile: LinkProfile;
  readonly #agreed: (peer: string) => Agreement;
  readonly #idle: () => boolean;
  readonly #fits: LinkFits | undefined;
  readonly #log: ExchangeLog | undefined;
  /** By what the link is like, where its rate is not known. */
  readonly #common = new Map<number, Timing>();
  readonly #fitted = new Map<string, { readonly timing: FittedTiming; readonly model: LinkModel }>();
  /** Peers of which the fit has changed since it was saved. */
  readonly #changed = new Set<string>();
  #saveAt: Millis | null = null;
  #saved: Promise<void> = Promise.resolve();

  constructor(parts: {
    readonly profile: LinkProfile;
    readonly idle: () => boolean;
    /** What has been agreed with a peer; left out: nothing. */
    readonly agreed?: (peer: string) => Agreement;
    readonly fits?: LinkFits | undefined;
    readonly log?: ExchangeLog | undefined;
  }) {
    this.#profile = parts.profile;
    this.#agreed = parts.agreed ?? (() => NOTHING_AGREED);
    this.#idle = parts.idle;
    this.#fits = parts.fits;
    this.#log = parts.log;
  }

  of(peer: string): Timing {
    const profile = narrowed(this.#profile, this.#agreed(peer));
    const model = modelOf(profile, PIPE_RECORD);
    if (model === null) return this.#commonOf(profile);
    const known = this.#fitted.get(peer);
    // With another rate or MTU what was learned does not fit.
    if (known !== undefined && known.model.rate === model.rate && known.model.mtu === model.mtu)
      return known.timing;
    const fit = this.#known(peer, model);
    const timing = new FittedTiming(model, {
      idle: this.#idle,
      ...(fit !== undefined && { fit }),
      onChange: () => this.#changed.add(peer),
    });
    if (this.#fitted.size >= MOST_FITTED_PEERS) this.#forget(this.#fitted.keys().next().value!);
    this.#fitted.set(peer, { timing, model });
    return timing;
  }

  #commonOf(profile: LinkProfile): Timing {
    const known = this.#common.get(profile.mtu);
    if (known !== undefined) return known;
    const timing = timingOf(profile, PIPE_RECORD);
    if (this.#common.size >= MOST_FITTED_PEERS) this.#common.clear();
    this.#common.set(profile.mtu, timing);
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
      const texts = new Map([...this.#changed].map((peer) => [peer, textOf(this.#fitted.get(peer)!)]));
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

/** With the link's parameters: under others it would mislead. */
const textOf = ({ timing, model }: { readonly timing: FittedTiming; readonly model: LinkModel }): string =>
  JSON.stringify({ link: parametersOf(model), fit: timing.snapshot() });

const parametersOf = ({ rate, delay, overhead }: LinkModel): string => `${rate} ${delay} ${overhead}`;

function parsed(text: string): { readonly link?: unknown; readonly fit?: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

import { hex } from '../base/bytes.ts';
import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { CoapResponse } from './api.ts';
import type { Bodies } from './bodies.ts';
import { isSuccess } from './codes.ts';
import type { Core, Peer } from './core.ts';
import { OPTION, uintOption } from './options.ts';
import { SelectiveSender } from './selective_sender.ts';
import type { BodyTransfer, SelectiveTransfers } from './selective_transfers.ts';

/** Of the bytes that may be kept for large responses: the others are for those that are fetched block by block. */
const SHARE = 1 / 2;

/** Large responses that are being sent by selective repeat. */
export class SelectiveResponses {
  readonly #core: Core;
  readonly #transfers: SelectiveTransfers;
  readonly #bodies: Bodies;
  readonly #open = new Set<BodyTransfer>();

  constructor(core: Core, transfers: SelectiveTransfers, bodies: Bodies) {
    this.#core = core;
    this.#bodies = bodies;
    this.#transfers = transfers;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Whether a response goes this way: it is large, the link has a window, and there is room for it. */
  admits(peer: Peer, { code, payload: { length } }: CoapResponse): boolean {
    const { window, blockSize, undividedSize = blockSize } = this.#core.timing(peer.name);
    const { bodies, bodyBytes, cachedBodyBytes } = this.#core.limits;
    if (window === undefined || !isSuccess(code) || length <= undividedSize || length > bodyBytes)
      return false;
    return this.#open.size < bodies && this.#core.responding + length <= cachedBodyBytes * SHARE;
  }

  /** Begins with a response that is admitted; nothing of it is sent yet. */
  start(
    peer: Peer,
    token: Uint8Array,
    response: CoapResponse,
    priority: Priority,
    now: Millis,
  ): BodyTransfer {
    const { code, payload } = response;
    const { window, blockSize, exchangeLifetime } = this.#core.timing(peer.name);
    const before = peer.downloads.get(hex(token));
    if (before !== undefined) this.end(before, now);
    const transfer = this.#transfers.create({
      ...{ peer, code, priority, request: null },
      // The body may outlive the datagram that the token came in.
      token: token.slice(),
      options: [...response.options, uintOption(OPTION.size2, payload.length)],
      deadline: now + exchangeLifetime,
      sender: new SelectiveSender(payload, blockSize, window!),
    });
    this.#open.add(transfer);
    this.#core.responding += transfer.sender.length;
    this.#bodies.trim();
    peer.downloads.set(hex(token), transfer);
    return transfer;
  }

  /** Sends nothing more of it: all of it has arrived, or nobody wants it. */
  end(transfer: BodyTransfer, now: Millis): void {
    this.#transfers.end(transfer, now);
    if (!this.#open.delete(transfer)) return;
    this.#core.responding -= transfer.sender.length;
    transfer.peer.downloads.delete(hex(transfer.token));
  }

  /** Ends those of which nothing has been heard for too long. */
  expire(now: Millis): void {
    for (const transfer of [...this.#open]) if (transfer.deadline <= now) this.end(transfer, now);
  }

  forget(peer: Peer, now: Millis): void {
    for (const transfer of [...peer.downloads.values()]) this.end(transfer, now);
  }
}

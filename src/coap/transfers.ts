import type { Millis } from '../base/time.ts';
import type { CoapResponse } from './api.ts';
import type { Uploads } from './assembly.ts';
import { type Block, blockOf, blockOption, smaller } from './block.ts';
import { type Bodies, blockOfResponse } from './bodies.ts';
import { code, METHOD } from './codes.ts';
import type { Core, Peer } from './core.ts';
import { type Message, NO_BYTES } from './message.ts';
import { firstOption, firstUint, OPTION, type Option, uintOption } from './options.ts';

/** What a request says about the block-wise operation that it belongs to, and about how its response is to be cut. */
export interface Asked {
  readonly peer: Peer;
  /** See `operationKey`. */
  readonly key: string;
  /** What a FETCH selects, where that is in one message: part of what its response depends on (RFC 8132, section 2). */
  readonly selector: Uint8Array;
  /** The last block of the request, which its response names. */
  readonly block1: Block | undefined;
  /** The block of the response that is asked for. */
  readonly block2: Block | undefined;
  /** Whether the size of the response is asked for. */
  readonly size2: boolean;
}

export type TransferProgress =
  | { readonly kind: 'answer'; readonly response: CoapResponse }
  | { readonly kind: 'deliver'; readonly payload: Uint8Array };

/** The server's half of block-wise transfer in both directions (RFC 7959). */
export class Transfers {
  readonly #core: Core;
  readonly #uploads: Uploads;
  readonly #bodies: Bodies;

  constructor(core: Core, uploads: Uploads, bodies: Bodies) {
    this.#core = core;
    this.#uploads = uploads;
    this.#bodies = bodies;
  }

  /** Answers what block-wise transfer can answer by itself; otherwise the whole payload for the application. */
  arrived(
    asked: Asked,
    message: Pick<Message, 'code' | 'payload'>,
    options: readonly Option[],
    now: Millis,
  ): TransferProgress {
    const { peer, key, block1, block2, selector } = asked;
    const answer = (response: CoapResponse) => ({ kind: 'answer', response }) as const;
    const { blockSize } = this.#core.timing(peer.name);
    const { bodyBytes } = this.#core.limits;
    const tooLarge = { ...plain(code(4, 13)), options: [uintOption(OPTION.size1, bodyBytes)] };
    if (block1 === undefined) {
      if (message.payload.length > bodyBytes) return answer(tooLarge);
      const whole = { kind: 'deliver', payload: message.payload } as const;
      if (block2 === undefined || block2.num === 0) return whole;
      const kept = this.#bodies.find(peer, key, selector, now);
      if (kept !== undefined) {
        this.#core.counters.blocksOut++;
        return answer(blockOfResponse(kept, block2, blockSize, asked.size2));
      }
      // What is safe may be asked again at any block, if it is all here; whatever else would be done a second time.
      if (message.code === METHOD.get || (message.code === METHOD.fetch && selector.length > 0)) return whole;
      return answer(plain(code(4, 8)));
    }
    this.#core.counters.blocksIn++;
    if ((firstUint(options, OPTION.size1) ?? 0) > bodyBytes) return answer(tooLarge);
    const progress = this.#uploads.add(peer, key, block1, message.payload, now);
    if (progress.kind === 'complete') return { kind: 'deliver', payload: progress.body };
    if (progress.kind === 'refused') {
      return answer(progress.code === tooLarge.code ? tooLarge : plain(progress.code));
    }
    const size = smaller(block1.size, blockSize);
    return answer({ ...plain(code(2, 31)), options: [blockOption(OPTION.block1, { ...block1, size })] });
  }

  /**
   * The part of a response that goes into one message: all of it, or the block that was asked for.
   * @param order rises with what is said about one operation: what is older does not replace what is newer.
   */
  divided(asked: Asked, order: number, response: CoapResponse, now: Millis): CoapResponse {
    const { peer, key, selector, block1, block2, size2 } = asked;
    const { blockSize, undividedSize = blockSize } = this.#core.timing(peer.name);
    const ofBlock1 = block1 === undefined ? [] : [blockOption(OPTION.block1, { ...block1, more: false })];
    const { length } = response.payload;
    if (length > this.#core.limits.bodyBytes) return plain(code(5, 0));
    const wanted = block2 ?? { num: 0, more: false, size: blockSize };
    const room = block2 === undefined ? undividedSize : smaller(wanted.size, blockSize);
    if (wanted.num === 0 && length <= room) {
      const total = size2 ? [uintOption(OPTION.size2, length)] : [];
      return { ...response, options: [...response.options, ...ofBlock1, ...total] };
    }
    this.#core.counters.blocksOut++;
    const kept = this.#bodies.keep(peer, key, { selector, order }, response, now);
    const part = blockOfResponse(kept, wanted, blockSize, size2);
    return { ...part, options: [...part.options, ...ofBlock1] };
  }
}

export const plain = (value: number): CoapResponse => ({ code: value, options: [], payload: NO_BYTES });

/** What a request asks for; where a block option has the reserved size, as if it were not there. */
export function askedOf(peer: Peer, key: string, message: Message, options: readonly Option[]): Asked {
  const block1 = blockOf(options, OPTION.block1);
  const block2 = blockOf(options, OPTION.block2);
  const whole = block1.ok && block1.value === undefined;
  return {
    peer,
    key,
    selector: message.code === METHOD.fetch && whole ? message.payload : NO_BYTES,
    block1: block1.ok ? block1.value : undefined,
    block2: block2.ok ? block2.value : undefined,
    size2: firstOption(options, OPTION.size2) !== undefined,
  };
}

/** RFC 7959, section 2.2: SZX 7 must lead to 4.00. */
export const hasReservedBlock = (options: readonly Option[]): boolean =>
  !blockOf(options, OPTION.block1).ok || !blockOf(options, OPTION.block2).ok;

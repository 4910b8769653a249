import { assert } from '../base/assert.ts';
import { type Block, type BlockSize, MOST_BLOCKS } from './block.ts';
import { hasArrived, type MissingBlocks, REACH } from './missing_blocks.ts';
import type { SelectiveWindow } from './selective_window.ts';

/** Once blocks got lost, so many of the last are all checkpoints: one of them is likelier to be answered at once. */
const LAST_CHECKPOINTS = 4;

/** What goes to the link now. */
export interface BlockToSend {
  readonly block: Block;
  readonly payload: Uint8Array;
  /** Where it is not null the block goes in a confirmable message, and this names it from then on. */
  readonly checkpoint: number | null;
  /** Whether it has been sent before. */
  readonly isAgain: boolean;
  /** Whether nothing is known that has to go after it: if it arrives, the body may be complete. */
  readonly isLast: boolean;
}

/** `superseded`: checkpoints that ask what has been answered now; no more copies of them are sent. */
export type AcknowledgementProgress =
  | { readonly kind: 'ignored' | 'bad' }
  | { readonly kind: 'going_on' | 'complete'; readonly superseded: readonly number[] };

/**
 * Sends one body in blocks, many in flight, and again only those that got lost: the sending half of selective repeat.
 * Most blocks go in non-confirmable messages. A checkpoint goes in a confirmable one, which the message layer repeats
 * until it is acknowledged; the acknowledgement says which blocks have arrived, and what has left before the
 * checkpoint and is missing goes again, before anything new. The last block that may leave is always a checkpoint, so
 * that no block's fate stays unknown. Pure.
 */
export class SelectiveSender {
  readonly #body: Uint8Array;
  readonly #size: BlockSize;
  readonly #count: number;
  readonly #window: SelectiveWindow;
  readonly #asksFirst: boolean;
  /** Blocks that have left and of which nothing is known, with their place in the order of sending; oldest first. */
  readonly #inFlight = new Map<number, number>();
  /** Blocks that have to go again, the lowest first. */
  #lost = new Set<number>();
  /** No block from here on has been sent. */
  #next = 0;
  /** The first missing block, as the receiver said last. */
  #firstMissing = 0;
  /** Blocks sent so far, copies included. */
  #order = 0;
  #sinceCheckpoint = 0;
  /** Places in the order of sending, the oldest first. */
  readonly #checkpoints = new Set<number>();
  #withLink = false;
  /** Whether any block had to go again. */
  #hasLost = false;
  #isComplete = false;

  /**
   * @param options.asksFirst whether the first block is a checkpoint: where it is not known that the receiver is there,
   * that shows before a window is spent
   */
  constructor(
    body: Uint8Array,
    size: BlockSize,
    window: SelectiveWindow,
    { asksFirst = false }: { readonly asksFirst?: boolean } = {},
  ) {
    assert(body.length > 0 && body.length <= size * MOST_BLOCKS, 'a body has 1 to 2^20 blocks');
    assert(window.blocks > 0 && window.interval > 0, 'a window has room for a block');
    this.#body = body;
    this.#size = size;
    this.#count = Math.ceil(body.length / size);
    this.#window = window;
    this.#asksFirst = asksFirst;
  }

  /** Bytes of the body. */
  get length(): number {
    return this.#body.length;
  }

  /** Blocks of the body. */
  get count(): number {
    return this.#count;
  }

  /** Blocks that have left and of which nothing is known. */
  get inFlight(): number {
    return this.#inFlight.size;
  }

  /**
   * The block that goes next, or null: one is with the link, or nothing may be sent before a checkpoint is answered.
   * One at a time, so that what is more urgent passes in between; `left` has to follow.
   */
  next(): BlockToSend | null {
    if (this.#isComplete || this.#withLink) return null;
    const num = this.#choose();
    if (num === undefined) return null;
    const isAgain = num < this.#next;
    this.#lost.delete(num);
    this.#next = Math.max(this.#next, num + 1);
    this.#order++;
    this.#sinceCheckpoint++;
    this.#withLink = true;
    this.#inFlight.delete(num);
    this.#inFlight.set(num, this.#order);
    const isCheckpoint = this.#isCheckpoint();
    if (isCheckpoint) {
      this.#sinceCheckpoint = 0;
      this.#checkpoints.add(this.#order);
    }
    const start = num * this.#size;
    return {
      block: { num, more: num + 1 < this.#count, size: this.#size },
      payload: this.#body.subarray(start, start + this.#size),
      checkpoint: isCheckpoint ? this.#order : null,
      isAgain,
      isLast: this.#lost.size === 0 && this.#next === this.#count,
    };
  }

  /** The last bit of the block from `next` has left, or it was dropped: its first copy, where it is a checkpoint. */
  left(): void {
    this.#withLink = false;
  }

  /** A checkpoint was acknowledged. `bad`: with what cannot be true; `ignored`: nobody waits for it any more. */
  acknowledged(checkpoint: number, missing: MissingBlocks): AcknowledgementProgress {
    if (!this.#checkpoints.has(checkpoint)) return { kind: 'ignored' };
    if (missing.first > this.#next) return { kind: 'bad' };
    const superseded = [...this.#checkpoints].filter((other) => other <= checkpoint);
    for (const other of superseded) this.#checkpoints.delete(other);
    this.#firstMissing = missing.first;
    this.#isComplete = missing.first === this.#count;
    const lost = [...this.#lost].filter((num) => hasArrived(missing, num) !== true);
    // All that was sent, and not only what is in flight: a receiver may have forgotten what it had.
    for (let num = missing.first; num < this.#next; num++) {
      const order = this.#inFlight.get(num);
      const arrived = hasArrived(missing, num);
      if (arrived === undefined) break;
      if (!arrived && !this.#lost.has(num) && (order ?? 0) <= checkpoint) lost.push(num);
    }
    for (const [num, order] of this.#inFlight) {
      if (order <= checkpoint || hasArrived(missing, num) === true) this.#inFlight.delete(num);
    }
    this.#hasLost ||= lost.length > 0;
    this.#lost = new Set(lost.sort((a, b) => a - b));
    return { kind: this.#isComplete ? 'complete' : 'going_on', superseded };
  }

  /**
   * The timer of a checkpoint has run out. Returns whether it is worth another copy; not where a newer one asks the
   * same, and then it is over.
   */
  unanswered(checkpoint: number): boolean {
    const isNewest = [...this.#checkpoints].at(-1) === checkpoint;
    if (!isNewest) this.#checkpoints.delete(checkpoint);
    return isNewest;
  }

  /** The message layer sends no more copies of a checkpoint; another one takes its place. */
  givenUp(checkpoint: number): void {
    this.#checkpoints.delete(checkpoint);
  }

  /** Whether the block that goes now has to be one. */
  #isCheckpoint(): boolean {
    if (this.#asksFirst && this.#order === 1) return true;
    if (this.#sinceCheckpoint >= this.#window.interval || this.#waiting() === undefined) return true;
    return this.#hasLost && this.#lost.size + this.#count - this.#next < LAST_CHECKPOINTS;
  }

  /** The block to send, if any. */
  #choose(): number | undefined {
    const waiting = this.#waiting();
    if (waiting !== undefined) return waiting;
    // The last block that left need not be a checkpoint: what seemed lost and was to follow it has turned out to
    // have arrived, or the checkpoint was given up.
    const newest = [...this.#inFlight].at(-1);
    const newestCheckpoint = [...this.#checkpoints].at(-1) ?? 0;
    return newest !== undefined && newest[1] > newestCheckpoint ? newest[0] : undefined;
  }

  /** The next block that has to go and may. */
  #waiting(): number | undefined {
    if (this.#inFlight.size >= this.#window.blocks) return undefined;
    for (const num of this.#lost) return num;
    return this.#next < this.#count && this.#next <= this.#firstMissing + REACH ? this.#next : undefined;
  }
}

import { type Block, type BlockSize, MOST_BLOCKS } from './block.ts';
import { code } from './codes.ts';
import type { CoapLimits } from './core.ts';
import { type MissingBlocks, missingBlocks, REACH } from './missing_blocks.ts';
import { firstUint, OPTION, type Option } from './options.ts';

/** What all bodies in assembly at one endpoint share. */
export interface AssemblySpace {
  readonly limits: Pick<CoapLimits, 'bodyBytes' | 'assemblyBytes'>;
  /** Bytes that they take. */
  assembling: number;
}

/**
 * What a block leads to. `stored`: blocks are missing yet. `ignored`: it has arrived before, or is out of reach.
 * `complete`: the whole body, once, with the options that came with its first block. `refused`: the transfer is over.
 */
export type BlockProgress =
  | { readonly kind: 'stored' | 'ignored' }
  | { readonly kind: 'complete'; readonly body: Uint8Array; readonly options: readonly Option[] }
  | { readonly kind: 'refused'; readonly code: number };

const FIRST_BLOCKS = 4;

/**
 * Puts one body together from blocks that come in any order, several times or not at all: the receiving half of
 * selective repeat. Nothing of it is handed out before all is there. Pure.
 */
export class SelectiveReceiver {
  readonly #space: AssemblySpace;
  #size: BlockSize | null = null;
  #bytes = new Uint8Array(0);
  /** Every block before it has arrived. */
  #first = 0;
  /** Blocks behind it that have arrived, at most `REACH`. */
  readonly #behind = new Set<number>();
  /** The number of the last block and the length of the body, once that block has arrived. */
  #last: { readonly num: number; readonly length: number } | null = null;
  /** Of the first block. */
  #options: readonly Option[] = [];
  #isOver = false;

  constructor(space: AssemblySpace) {
    this.#space = space;
  }

  /** What has arrived; stays true after the end, for acknowledgements of late checkpoints. */
  get missing(): MissingBlocks {
    return missingBlocks(this.#first, this.#behind);
  }

  /** Takes a block in. Whatever comes after the end is `ignored`. */
  add({ num, more, size }: Block, options: readonly Option[], payload: Uint8Array): BlockProgress {
    if (this.#isOver || this.#has(num) || num > this.#first + REACH) return { kind: 'ignored' };
    if (!this.#fits({ num, more, size }, payload.length)) return this.#refuse(code(4, 0));
    const start = num * size;
    const announced = firstUint(options, OPTION.size1) ?? firstUint(options, OPTION.size2) ?? 0;
    const { bodyBytes } = this.#space.limits;
    if (Math.max(start + payload.length, announced) > bodyBytes) return this.#refuse(code(4, 13));
    if (!this.#reserve(start + payload.length, size)) return this.#refuse(code(5, 3));
    this.#bytes.set(payload, start);
    this.#size = size;
    if (num === 0) this.#options = options;
    if (!more) this.#last = { num, length: start + payload.length };
    this.#mark(num);
    if (this.#last === null || this.#first <= this.#last.num) return { kind: 'stored' };
    const body = this.#bytes.slice(0, this.#last.length);
    this.end();
    return { kind: 'complete', body, options: this.#options };
  }

  /** Gives back what it holds: the body is wanted no more, or has been too long on its way. */
  end(): void {
    this.#isOver = true;
    this.#space.assembling -= this.#bytes.length;
    this.#bytes = new Uint8Array(0);
  }

  #has(num: number): boolean {
    return num < this.#first || this.#behind.has(num);
  }

  /** Whether a block that has not arrived yet is one of the body that the others belong to. */
  #fits({ num, more, size }: Block, length: number): boolean {
    if (this.#size !== null && this.#size !== size) return false;
    if (more)
      return length === size && num + 1 < MOST_BLOCKS && (this.#last === null || num < this.#last.num);
    const highest = Math.max(this.#first - 1, ...this.#behind);
    return this.#last === null && length > 0 && length <= size && num > highest;
  }

  /** Makes room by doubling, so that a transfer takes no more than twice what has arrived and the reach. */
  #reserve(length: number, size: BlockSize): boolean {
    const held = this.#bytes.length;
    if (length <= held) return true;
    const { bodyBytes, assemblyBytes } = this.#space.limits;
    const free = assemblyBytes - this.#space.assembling;
    if (length - held > free) return false;
    const wanted = Math.max(length, 2 * held, FIRST_BLOCKS * size);
    const bytes = new Uint8Array(Math.min(wanted, bodyBytes, held + free));
    bytes.set(this.#bytes);
    this.#space.assembling += bytes.length - held;
    this.#bytes = bytes;
    return true;
  }

  #mark(num: number): void {
    if (num > this.#first) {
      this.#behind.add(num);
      return;
    }
    do this.#first++;
    while (this.#behind.delete(this.#first));
  }

  #refuse(value: number): BlockProgress {
    this.end();
    return { kind: 'refused', code: value };
  }
}

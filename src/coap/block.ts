import { assert } from '../base/assert.ts';
import { hex } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { firstOption, firstUint, isNoCacheKey, OPTION, type Option, uintOption } from './options.ts';

/** RFC 7959, section 2.2: 2^(SZX + 4) bytes; SZX 7 is reserved. */
export const BLOCK_SIZES = [16, 32, 64, 128, 256, 512, 1024] as const;
export type BlockSize = (typeof BLOCK_SIZES)[number];

/** The value of a Block1 or Block2 option: block `num` of a body that is cut into pieces of `size` bytes. */
export interface Block {
  readonly num: number;
  readonly more: boolean;
  readonly size: BlockSize;
}

/** RFC 7959, section 2.2, and RFC 9177, section 4.2. */
const LONGEST_BLOCK_BYTES = 3;

/** Twenty bits of block number. */
export const MOST_BLOCKS = 2 ** 20;

export function blockOption(number: number, { num, more, size }: Block): Option {
  assert(num >= 0 && num < MOST_BLOCKS, 'a block number has twenty bits');
  return uintOption(number, num * 16 + (more ? 8 : 0) + BLOCK_SIZES.indexOf(size));
}

/** The block option of that number, undefined where there is none, a problem where its size is the reserved one. */
export function blockOf(options: readonly Option[], number: number): Result<Block | undefined, 'reserved'> {
  const value = firstUint(options, number);
  if (value === undefined) return ok(undefined);
  const size = BLOCK_SIZES[value & 7];
  return size === undefined ? bad('reserved') : ok({ num: value >> 4, more: (value & 8) !== 0, size });
}

/**
 * The block of a body that goes by selective repeat, in a message's options as they arrived: undefined where there is
 * none, or none that can be.
 */
export function selectiveBlockOf(options: readonly Option[], number: number): Block | undefined {
  const option = firstOption(options, number);
  if (option === undefined || option.value.length > LONGEST_BLOCK_BYTES) return undefined;
  const block = blockOf([option], number);
  return block.ok ? block.value : undefined;
}

export const smaller = (a: BlockSize, b: BlockSize): BlockSize => (a < b ? a : b);

/** Options that belong to one exchange of a block-wise transfer and not to the request as a whole. */
export const TRANSFER_OPTIONS: ReadonlySet<number> = new Set([
  OPTION.block1,
  OPTION.block2,
  OPTION.qBlock1,
  OPTION.qBlock2,
  OPTION.size1,
  OPTION.size2,
]);

/**
 * What two requests must have in common to belong to one block-wise operation, beside the peer: method and cache-key
 * (RFC 7252, section 5.6), thereby the Request-Tag (RFC 9175, section 3.2). Observe comes with the first block
 * only (RFC 7959, section 2.6). Never the token, which a client may change with every block.
 */
export function operationKey(code: number, options: readonly Option[]): string {
  const parts = options
    .filter(
      ({ number }) => !TRANSFER_OPTIONS.has(number) && number !== OPTION.observe && !isNoCacheKey(number),
    )
    .sort((a, b) => a.number - b.number)
    .map(({ number, value }) => `${number}=${hex(value)}`);
  return `${code} ${parts.join(' ')}`;
}

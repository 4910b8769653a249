import type { Readable } from 'node:stream';

/** 64 hexadecimal digits. */
export type Sha256 = string;

/** Content is longer than the one who takes it wants it. */
export class ContentTooLarge extends Error {
  override name = 'ContentTooLarge';
}

/** Content that a store has taken. */
export interface TakenContent {
  readonly sha256: Sha256;
  /** In bytes. */
  readonly size: number;
  /** Until this is called nobody removes the content. To be called once it is written down what it is for, or that it is for nothing. */
  release(): void;
}

/** Bytes `start` to `end`, both included. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** Where the bytes of media are kept, by what they are: the same bytes are kept once. */
export interface MediaStore {
  /**
   * Takes content, in constant memory; it is durable when the promise settles.
   * @throws ContentTooLarge behind `maxBytes`; whatever `content` throws. Nothing stays then
   */
  put(content: AsyncIterable<Uint8Array>, maxBytes: number): Promise<TakenContent>;
  /** The bytes, or a part of them; undefined where they are not here. Whoever takes the stream reads or destroys it. */
  open(sha256: Sha256, range?: ByteRange): Promise<Readable | undefined>;
  /** Calls `use` with the name of a file that has the content; undefined where it is not here. */
  withFile<T>(sha256: Sha256, use: (path: string) => Promise<T>): Promise<T | undefined>;
  /** Removes what is neither wanted nor just being taken. @param isWanted whether something is written down about it */
  remove(sha256: Sha256, isWanted: () => Promise<boolean>): Promise<void>;
  /** Everything that is here, a part at a time, for looking for what nobody wants. */
  list(): AsyncIterable<readonly Sha256[]>;
}

import type { HandleKind } from './forms.ts';

/**
 * What both ends know besides the bytes. It has to be the same on both sides, or other texts and times come out: whatever
 * is in it follows from the session, from acknowledged history, or from the message's own place in the session.
 */
export interface CompactContext {
  /** A time, in milliseconds, near which times are expected; 0 where there is none. */
  readonly now?: number;
  /** Server names that are expected: those of both ends, the room's. At most MAX_SERVERS count. */
  readonly servers?: readonly string[];
  readonly handles?: MessageHandles;
  /** Of a writer: bytes count more than work, on both sides. What the reader has to know of it is said in the message. */
  readonly isSparing?: boolean;
}

/** How one message names what has a handle. `write` is asked by the writer of the message, the rest by its reader. */
export interface MessageHandles {
  /** How to write this text; undefined: as a text. */
  write(kind: HandleKind, text: string): HandleMark | undefined;
  /** The text of a handle. */
  read(kind: HandleKind, slot: number): string | HandleProblem;
  /** The message says so; false: the handle is beyond the bounds. */
  introduce(kind: HandleKind, slot: number, text: string): boolean;
}

export type HandleMark =
  | { readonly kind: 'known'; readonly slot: number }
  | { readonly kind: 'introduce'; readonly slot: number };

/** Nobody has introduced it here, or somebody has given it another meaning since. */
export interface HandleProblem {
  readonly kind: 'unknown handle';
}

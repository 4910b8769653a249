import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import type { Said } from './agreement.ts';
import type { IdentityClaim } from './identity.ts';
import type { Chain } from './key_schedule.ts';

/** What of a session survives a restart. With it anybody is this side: to be kept where only the owner can read. */
export interface StoredSession {
  /** This side's connection id, which names the session: of those that exist at a time, each has another. */
  readonly local: number;
  readonly remote: number;
  readonly initiator: boolean;
  readonly generation: number;
  /** The peer's identity, as it was trusted. */
  readonly claim: IdentityClaim;
  readonly said: Said;
  /** Names the newest start of the peer that this side knows of. */
  readonly peerBoot: Uint8Array;
  /** Eight bytes: a digest of the mode and the pre-shared key under which the session was agreed about. */
  readonly network: Uint8Array;
  readonly address: Address;
  /** Unix time in milliseconds. */
  readonly createdAt: Millis;
  /** Unix time in milliseconds: no clock was earlier than this when the row was written. */
  readonly savedAt: Millis;
  /** Of the epoch of `ceiling`. */
  readonly send: Chain;
  /** Numbers from here on have not been used. */
  readonly ceiling: number;
  /** Of the epoch of `highest`. */
  readonly receive: Chain;
  /** The highest number received; -1: none. */
  readonly highest: number;
  /** This side's salts that the peer may know, newest first. */
  readonly ownSalts: readonly Uint8Array[];
  readonly peerSalt: Uint8Array;
}

/**
 * What has to be on the disk. Each write names a whole row, so the last one of a session counts. To be
 * committed in order; after a commit the driver calls `stored` with the token of the last write in it.
 */
export type PipeWrite =
  | { readonly token: number; readonly kind: 'session'; readonly row: StoredSession }
  | { readonly token: number; readonly kind: 'forget'; readonly local: number };

/** Where sessions are kept. */
export interface PipeStore {
  /** All rows, in the order in which they were written last. */
  load(): Promise<readonly StoredSession[]>;
  /** All of the writes or none of them, in order. Resolves once they are on the disk. */
  commit(writes: readonly PipeWrite[]): Promise<void>;
}

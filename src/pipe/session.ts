import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import type { TransportKeys } from '../noise/handshake_state.ts';
import type { IdentityClaim } from './identity.ts';
import {
  type ConnectionId,
  LAST_PACKET_NUMBER,
  type PipeRecord,
  type TransportKind,
  transportHeader,
} from './record.ts';
import { ReplayWindow } from './replay_window.ts';

/** A hint may name one of the last so many records. */
const HINTED_RECORDS = 1_024;

export type TransportRecord = Extract<PipeRecord, { kind: TransportKind }>;

/** What a finished handshake has agreed about. */
export interface SessionTerms {
  /** Names the session to the driver. */
  readonly number: number;
  readonly initiator: boolean;
  readonly local: ConnectionId;
  readonly remote: ConnectionId;
  readonly keys: TransportKeys;
  readonly claim: IdentityClaim;
  /** The peer's. */
  readonly bootId: Uint8Array;
  readonly generation: number;
  readonly address: Address;
  readonly createdAt: Millis;
}

/** An initiator's XX3, sent again until a record on the session shows that it has arrived. */
export interface Unconfirmed {
  readonly id: number;
  /** The XX2 that it answers: another copy of it asks for XX3 again. */
  readonly second: Uint8Array;
  readonly third: Uint8Array;
  attempts: number;
  dueAt: Millis;
  /** Length of the longest record that goes behind XX3: the answer to it confirms the session. */
  carried: number;
}

/** What a session has made of a record that claims to be its own. */
export type Opened =
  | { readonly kind: 'plaintext'; readonly plaintext: Uint8Array }
  | { readonly kind: 'forged' }
  | { readonly kind: 'replayed' };

/** The keys of one handshake and what has been done with them. */
export class Session {
  readonly kind = 'session';
  readonly terms: SessionTerms;
  readonly #window = new ReplayWindow();
  #nextNumber = 0;
  #address: Address;

  state: 'undecided' | 'established' | 'refused' = 'undecided';
  /** Which of the peer's boots it belongs to, counted by this side. */
  boot = 0;
  /** Why this side has refused it. */
  refusal = '';
  /** Records that wait for the driver's decision. */
  held: Uint8Array[] = [];
  heldBytes = 0;
  unconfirmed: Unconfirmed | undefined;
  /** A responder's: SHA-256 of the XX3, of which another copy asks for a confirmation. */
  thirdDigest: Uint8Array | undefined;
  /** A record of the peer has arrived, so both sides have the keys. */
  heard = false;
  lastHeardAt: Millis;
  /** When a session that has been replaced or refused is forgotten. */
  retireAt: Millis | undefined;

  constructor(terms: SessionTerms) {
    this.terms = terms;
    this.#address = terms.address;
    this.lastHeardAt = terms.createdAt;
  }

  /** Where the peer is, as far as authenticated records have told. */
  get address(): Address {
    return this.#address;
  }

  get recordsSent(): number {
    return this.#nextNumber;
  }

  get usedUp(): boolean {
    return this.#nextNumber > LAST_PACKET_NUMBER;
  }

  /** A record for the peer. Each has a new number: the nonce is never used again. */
  seal(kind: TransportKind, plaintext: Uint8Array): Uint8Array {
    assert(!this.usedUp, 'the session has packet numbers left');
    const number = this.#nextNumber++;
    const header = transportHeader(kind, this.terms.remote, number);
    return concat(header, this.terms.keys.send.encryptAt(BigInt(number), header, plaintext));
  }

  /** Authenticates a record first; then the window, the address and the time change, and only then. */
  open(record: TransportRecord, from: Address, now: Millis): Opened {
    const plaintext = this.terms.keys.receive.decryptAt(BigInt(record.number), record.header, record.sealed);
    if (plaintext === undefined) return { kind: 'forged' };
    const newest = record.number > this.#window.highest;
    if (!this.#window.accept(record.number)) return { kind: 'replayed' };
    if (newest) this.#address = from;
    this.lastHeardAt = Math.max(this.lastHeardAt, now);
    return { kind: 'plaintext', plaintext };
  }

  /** Whether a hint about record `number` can be about a record of this session. */
  mayHaveSent(number: number): boolean {
    return number < this.#nextNumber && number >= this.#nextNumber - HINTED_RECORDS;
  }
}

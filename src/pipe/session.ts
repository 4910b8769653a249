import { assert } from '../base/assert.ts';
import { concat, equal } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import { TAG_BYTES } from '../crypto/aead.ts';
import type { Address } from '../link/link.ts';
import type { TransportSecrets } from '../noise/handshake_state.ts';
import type { Agreement, Said } from './agreement.ts';
import type { PipeEvent } from './events.ts';
import { type IdentityClaim, nameOf } from './identity.ts';
import { type Chain, FIRST_SALT, phaseOf, ReceiveKeys, SendKeys } from './key_schedule.ts';
import { type SessionNames, sessionNames } from './message_names.ts';
import type { Network } from './network.ts';
import {
  expandNumber,
  LAST_PACKET_NUMBER,
  type NumberLength,
  numberLength,
  truncateNumber,
} from './packet_number.ts';
import { Path } from './path.ts';
import {
  type ConnectionId,
  MAX_PLAINTEXT_BYTES,
  type PipeRecord,
  type TransportKind,
  type TruncatedNumber,
  transportHeader,
} from './record.ts';
import { ReplayWindow } from './replay_window.ts';
import { partSeen, withSeen } from './seen.ts';

// docs/protocol.md, "Packet numbers" and "After a start".
/** Received records after which the peer is told how far they have come. */
const SEEN_INTERVAL = 64;
/** The same while the peer does not know that its new salt is known. */
const SALTED_SEEN_INTERVAL = 4;

const NOTHING = new Uint8Array(0);
/** A hint may name one of the last so many records. */
const HINTED_RECORDS = 1_024;
/** Numbers that one write reserves. */
export const RESERVED_NUMBERS = 256;
/** Salts that are tried: this start's, the last one that the peer has confirmed, and the newest between. */
const MAX_OWN_SALTS = 5;
/** Of each receiving key; then the session is to be replaced (wire rule: the AEAD's limits are honoured). */
export const MAX_FORGERIES = 2 ** 20;

export type TransportRecord = Extract<PipeRecord, { kind: TransportKind }>;

/** What a finished handshake has agreed about. */
export interface SessionTerms {
  /** Names the session to the driver. */
  readonly number: number;
  readonly initiator: boolean;
  readonly local: ConnectionId;
  readonly remote: ConnectionId;
  readonly claim: IdentityClaim;
  readonly network: Network;
  /** The peer's. */
  readonly bootId: Uint8Array;
  readonly generation: number;
  /** What both sides have said of themselves, and what follows from it. */
  readonly said: Said;
  readonly agreed: Agreement;
  readonly address: Address;
  readonly createdAt: Millis;
}

/** Keys, salts and numbers: what changes with the records, and has to survive a restart. See StoredSession. */
export interface SessionProgress {
  readonly send: Chain;
  readonly ceiling: number;
  readonly receive: Chain;
  readonly highest: number;
  readonly ownSalts: readonly Uint8Array[];
  readonly peerSalt: Uint8Array;
}

/** Where a handshake leaves off. */
export const firstProgress = ({ send, receive }: TransportSecrets): SessionProgress => ({
  send: { epoch: 0, secret: send },
  ceiling: 0,
  receive: { epoch: 0, secret: receive },
  highest: -1,
  ownSalts: [FIRST_SALT],
  peerSalt: FIRST_SALT,
});

/** What an initiator says last, again and again until a record on the session shows that it has arrived. */
export interface Unconfirmed {
  readonly id: number;
  /** The XX2 or IK2 that it answers: another copy of that asks for it again. */
  readonly second: Uint8Array;
  /** XX3; behind an IK2 there is none, and a record asks for a confirmation. */
  readonly third: Uint8Array | undefined;
  attempts: number;
  dueAt: Millis;
  /** Length of the longest record that goes behind it: the answer to it confirms the session. */
  carried: number;
  /** Another address at which the peer may be. */
  elsewhere?: Address;
}

/** What was in a record, without the number that may be in front of it. */
export interface Payload {
  readonly bytes: Uint8Array;
  readonly number: number;
  /** Whether the number has one byte in the record, and whether that has the resend bit. */
  readonly isShort: boolean;
  readonly isResend: boolean;
}

/** What a session has made of a record that claims to be its own. */
export type Opened =
  | {
      readonly kind: 'plaintext';
      readonly payload: Payload;
      /** The peer has started anew. */
      readonly newSalt: Uint8Array | undefined;
    }
  /** Genuine, but sealed before the peer knew that this side has started anew: it may be a repetition. */
  | { readonly kind: 'stale'; readonly newSalt: Uint8Array | undefined }
  /** Genuine and against the rules. */
  | { readonly kind: 'malformed'; readonly newSalt: Uint8Array | undefined }
  | { readonly kind: 'forged' }
  | { readonly kind: 'replayed' };

interface SealOptions {
  readonly isResend?: boolean;
  readonly isLong?: boolean;
  readonly numbers?: number;
}

/** The keys of one handshake and what has been done with them. */
export class Session {
  readonly kind = 'session';
  readonly terms: SessionTerms;
  readonly path: Path;
  /** What messages on it are named by. */
  readonly names: SessionNames;
  readonly #sendKeys: SendKeys;
  readonly #receiveKeys: ReceiveKeys;
  readonly #window: ReplayWindow;
  #nextNumber: number;
  /** Numbers from here on wait until a ceiling above them has been stored. */
  #limit = Number.POSITIVE_INFINITY;
  /** The ceiling of the newest snapshot; infinite where there is none. */
  #ceiling = Number.POSITIVE_INFINITY;
  /** The highest own number known to have arrived; -1: none. */
  #arrived: number;
  /** This start's first number, until the peer is known to have this start's salt. */
  #firstSalted: number | undefined;
  /** The highest number received that a restart would not forget: the peer may rely on no other. */
  #stored: number;
  /** Whether a restart would not forget the peer's salt. */
  #isSaltStored = true;
  /** Records received since the peer was told of `#stored`, and since the last snapshot. */
  #untold = 0;
  #unsaved = 0;
  /** The next record of data tells of `#stored`. */
  #mustTell = false;
  /** There is something else than numbers that the last snapshot does not have. */
  #changed = false;

  state: 'undecided' | 'established' | 'refused' = 'undecided';
  /** Which of the peer's boots it belongs to, counted by this side. */
  boot = 0;
  /** The control record that has ended it, which is what every later record of the peer is answered by. */
  farewell: Uint8Array = NOTHING;
  /** Records that wait for the driver's decision. */
  held: Payload[] = [];
  heldBytes = 0;
  unconfirmed: Unconfirmed | undefined;
  /** A responder's: SHA-256 of the XX3, of which another copy asks for a confirmation. */
  thirdDigest: Uint8Array | undefined;
  /** The peer has asked for a confirmation before it could be given. */
  isAsked = false;
  /** A record of the peer has arrived, so both sides have the keys. */
  heard = false;
  lastHeardAt: Millis;
  /** When a session that has been replaced or refused is forgotten. */
  retireAt: Millis | undefined;
  /** The peer has not shown yet that it has the pre-shared key: told once it has. */
  unreported: Extract<PipeEvent, { kind: 'established' }> | undefined;
  /** There is a row of it in the store, or there will be. */
  isKept = false;

  /**
   * @param newSalt of this start, where the session goes on after a restart: then it sends once its progress has been
   * stored. Left out: it has just been agreed about.
   */
  constructor(terms: SessionTerms, progress: SessionProgress, newSalt?: Uint8Array) {
    const { send, ceiling, receive, highest, ownSalts, peerSalt } = progress;
    const salts = newSalt === undefined ? ownSalts : withNewest(newSalt, ownSalts);
    this.terms = terms;
    this.path = new Path(terms.address);
    this.names = sessionNames(terms.generation, terms.initiator);
    this.lastHeardAt = terms.createdAt;
    const { local, remote, network, claim } = terms;
    const told = (to: ConnectionId, sends: boolean) =>
      network.keyLog &&
      ((epoch: number, key: Uint8Array) =>
        network.keyLog?.record(to, epoch, key, { name: nameOf(claim), sends }));
    this.#sendKeys = new SendKeys(send, salts[0]!, peerSalt, told(remote, false));
    this.#receiveKeys = new ReceiveKeys(receive, salts, peerSalt, told(local, true));
    this.#window = new ReplayWindow(highest);
    this.#stored = highest;
    this.#nextNumber = ceiling;
    this.#arrived = ceiling - 1;
    if (newSalt === undefined) return;
    this.#limit = ceiling;
    this.#firstSalted = ceiling;
    this.#changed = true;
  }

  /** Where the peer is, as far as it has been proved. */
  get address(): Address {
    return this.path.address;
  }

  /** The number of the next record; it tells how many have been sent at most. */
  get nextNumber(): number {
    return this.#nextNumber;
  }

  get usedUp(): boolean {
    return this.#isUsedUpAt(this.#nextNumber);
  }

  #isUsedUpAt(number: number): boolean {
    return number > LAST_PACKET_NUMBER || number - this.#arrived > 2 ** 31;
  }

  /** Whether the next number may be used, which a restart in between would not repeat. */
  get maySend(): boolean {
    return !this.usedUp && this.#nextNumber < this.#limit;
  }

  /** Whether the peer has the session as well, as far as this side can know. */
  get isShared(): boolean {
    return this.heard || !this.terms.initiator;
  }

  get forgeries(): number {
    return this.#receiveKeys.forgeries;
  }

  /** Whether so many numbers from the next one on may be used. */
  maySendAfter(skipped: number): boolean {
    return (
      this.maySend &&
      this.#nextNumber + skipped < this.#limit &&
      !this.#isUsedUpAt(this.#nextNumber + skipped)
    );
  }

  /** Leaves numbers out, which is harmless: see `maySendAfter`. */
  skip(numbers: number): void {
    assert(this.maySendAfter(numbers), 'numbers that are left out are reserved as well');
    this.#nextNumber += numbers;
  }

  /** How many bytes the next record's number has. */
  get nextNumberLength(): NumberLength {
    return this.#firstSalted === undefined ? numberLength(this.#nextNumber, this.#arrived) : 4;
  }

  /**
   * A record for the peer. Each has a new number: the nonce is never used again.
   * @param options.isLong whether its number has more bytes than one in any case
   * @param options.numbers how many numbers it takes
   */
  seal(
    kind: TransportKind,
    payload: Uint8Array,
    { isResend = false, isLong = false, numbers = 1 }: SealOptions = {},
  ): Uint8Array {
    assert(this.maySendAfter(numbers - 1), 'the session has packet numbers that are reserved');
    const salt = this.#firstSalted === undefined ? undefined : this.#receiveKeys.ownSalts[0];
    const shortest = this.nextNumberLength;
    const length = isLong && shortest === 1 ? 2 : shortest;
    const number = this.#nextNumber;
    this.#nextNumber += numbers;
    const header = transportHeader(kind, this.terms.remote, {
      phase: phaseOf(number),
      isResend,
      salt,
      truncated: truncateNumber(number, length),
      numberLength: length,
    });
    if (kind !== 'data' || !this.#mustTell) return this.#sealed(number, header, payload);
    this.#mustTell = false;
    // What came since the snapshot has not been told.
    this.#untold = this.#unsaved;
    return this.#sealed(number, header, withSeen(this.#stored, payload));
  }

  /** A whole record; where nothing may be encrypted, all of it is associated data and the tag is all that is sealed. */
  #sealed(number: number, header: Uint8Array, plaintext: Uint8Array): Uint8Array {
    const { mode, station } = this.terms.network;
    const isReadable = mode === 'authenticated-only';
    const clear = isReadable ? concat(header, station, plaintext) : header;
    return concat(clear, this.#sendKeys.seal(number, clear, isReadable ? NOTHING : plaintext));
  }

  /**
   * Authenticates a record first; then the salt, the window, the address and the time change, and only then.
   * @param makeChallenge see Path
   */
  open(record: TransportRecord, from: Address, now: Millis, makeChallenge: () => Uint8Array): Opened {
    const { clear, header, sealed } = record;
    const { associated, tagged, readable } = partRecord(record, this.terms.network);
    const number = expandNumber(clear.truncated, clear.numberLength, this.#window.highest);
    const isNewest = number > this.#window.highest;
    const keys = this.#receiveKeys;
    const salt = clear.salt ?? keys.peerSalt;
    const hasNewSalt = !equal(salt, keys.peerSalt);
    // The peer's numbers grow across its starts, so an older salt never comes with a higher number.
    if (number > LAST_PACKET_NUMBER || (hasNewSalt && !isNewest)) return { kind: 'forged' };
    const genuine = keys.open(number, clear.phase, salt, associated, tagged);
    if (genuine === undefined) return { kind: 'forged' };
    const isStale = genuine.ownSalt > 0;
    if (isStale && !isNewest) return { kind: 'stale', newSalt: undefined };
    if (!this.#window.accept(number)) return { kind: 'replayed' };
    // The disk is to forget an epoch that is over as well.
    if (genuine.advance()) this.#changed = true;
    if (hasNewSalt) {
      this.#sendKeys.setPeerSalt(salt);
      this.#isSaltStored = false;
    }
    const newSalt = hasNewSalt ? salt : undefined;
    if (isStale) return { kind: 'stale', newSalt };
    this.#countReceived(clear.salt !== undefined);
    if (isNewest) this.path.heard(from, header.length + sealed.length, makeChallenge);
    this.lastHeardAt = Math.max(this.lastHeardAt, now);
    const plaintext = readable ?? genuine.plaintext;
    const isShort = clear.numberLength === 1;
    const payload = { bytes: plaintext, number, isShort, isResend: clear.isResend };
    if (record.kind === 'control') return { kind: 'plaintext', payload, newSalt };
    const parted = partSeen(plaintext);
    // A reply can be as long as what it replies to, and has to find room in a record as well.
    if (parted === undefined || parted.payload.length > MAX_PLAINTEXT_BYTES)
      return { kind: 'malformed', newSalt };
    if (parted.seen !== undefined) this.#hasSeen(parted.seen);
    return { kind: 'plaintext', payload: { ...payload, bytes: parted.payload }, newSalt };
  }

  /** Whether a hint about a record whose number ends like that can be about one of this session. */
  mayHaveSent({ truncated, numberLength: length }: TruncatedNumber): boolean {
    const range = 2 ** (8 * length);
    const back = (((this.#nextNumber - 1 - truncated) % range) + range) % range;
    return back < Math.min(HINTED_RECORDS, this.#nextNumber);
  }

  /** Whether a snapshot is to be stored. */
  get wantsSaving(): boolean {
    return (
      this.#changed ||
      this.#unsaved >= SEEN_INTERVAL ||
      this.#nextNumber > this.#ceiling - RESERVED_NUMBERS / 2
    );
  }

  /** What is to be stored now. It reserves numbers, which may be used once it is stored. */
  snapshot(): SessionProgress {
    const { chain, ownSalts, peerSalt } = this.#receiveKeys;
    const ceiling = this.#nextNumber + RESERVED_NUMBERS;
    // Before the first one is on the disk a crash loses the keys as well.
    if (this.#limit === Number.POSITIVE_INFINITY) this.#limit = ceiling;
    this.#ceiling = ceiling;
    this.#changed = false;
    this.#unsaved = 0;
    return {
      send: this.#sendKeys.chainFor(ceiling),
      ceiling,
      receive: chain,
      highest: this.#window.highest,
      ownSalts,
      peerSalt,
    };
  }

  /** A snapshot is on the disk. */
  saved({ ceiling, highest, peerSalt }: SessionProgress): void {
    this.#limit = ceiling;
    this.#stored = highest;
    // Half, since a snapshot that sending has caused comes early.
    if (this.#untold >= SEEN_INTERVAL / 2) this.#mustTell = true;
    if (this.#isSaltStored || !equal(peerSalt, this.#receiveKeys.peerSalt)) return;
    this.#isSaltStored = true;
    this.#mustTell = true;
  }

  #countReceived(isSalted: boolean): void {
    this.#untold++;
    this.#unsaved++;
    // What told the peer that its salt is known has been lost.
    if (isSalted && this.#isSaltStored && this.#untold >= SALTED_SEEN_INTERVAL) this.#mustTell = true;
  }

  /** The peer has received this side's number `seen`, and will not forget it. */
  #hasSeen(seen: number): void {
    if (seen >= this.#nextNumber) return;
    this.#arrived = Math.max(this.#arrived, seen);
    if (this.#firstSalted === undefined || seen < this.#firstSalted) return;
    this.#firstSalted = undefined;
    this.#receiveKeys.confirmSalt();
    this.#changed = true;
  }
}

/** What of a record is associated data and what is sealed; and what has been readable, without the station. */
function partRecord(
  { header, sealed }: TransportRecord,
  { mode }: Network,
): { associated: Uint8Array; tagged: Uint8Array; readable: Uint8Array | undefined } {
  if (mode === 'encrypted') return { associated: header, tagged: sealed, readable: undefined };
  const tagAt = sealed.length - TAG_BYTES;
  const readable = sealed.slice(0, tagAt);
  return {
    associated: concat(header, readable),
    tagged: sealed.slice(tagAt),
    readable: readable.slice(1 + (readable[0] ?? 0)),
  };
}

function withNewest(newest: Uint8Array, salts: readonly Uint8Array[]): readonly Uint8Array[] {
  const all = [newest, ...salts];
  return all.length <= MAX_OWN_SALTS ? all : [...all.slice(0, MAX_OWN_SALTS - 1), all.at(-1)!];
}

import { assert } from '../base/assert.ts';
import { concat, equal, utf8 } from '../base/bytes.ts';
import { KEY_BYTES } from '../crypto/aead.ts';
import { SUITE } from './prologue.ts';
import { SALT_BYTES } from './record.ts';

// docs/protocol.md, "Keys of records".
export const EPOCH_RECORDS = 1_024;
const NEXT = utf8('ravine pipe next');
const KEY = utf8('ravine pipe key');
const NO_SALT = new Uint8Array(0);
/** The salt of a side that has not started anew since the handshake. */
export const FIRST_SALT: Uint8Array = new Uint8Array(SALT_BYTES);

/**
 * How far ahead of the newest epoch a record may be: 16,384 records that were all lost. Bounds what a forged number
 * costs.
 */
const MAX_EPOCHS_AHEAD = 16;

/** A step of the ratchet of one direction. Earlier steps do not follow from it, later ones do. */
export interface Chain {
  readonly epoch: number;
  /** 32 bytes. */
  readonly secret: Uint8Array;
}

export const epochOf = (number: number): number => Math.floor(number / EPOCH_RECORDS);

/** The key phase in a record's first byte. */
export const phaseOf = (number: number): 0 | 1 => (epochOf(number) % 2 === 0 ? 0 : 1);

const nextSecret = (secret: Uint8Array): Uint8Array => SUITE.hash.hkdf(NO_SALT, secret, KEY_BYTES, NEXT);

/** Is told of keys under which records are sealed, or have come. */
type OnKey = (epoch: number, key: Uint8Array) => void;

/** The key of an epoch. The salts are at this leaf and not at the root, so that the root need not be kept for new salts. */
const keyOf = (secret: Uint8Array, senderSalt: Uint8Array, receiverSalt: Uint8Array): Uint8Array =>
  SUITE.hash.hkdf(concat(senderSalt, receiverSalt), secret, KEY_BYTES, KEY);

/** The chain at a later epoch, or a copy of it at its own. Leaves `chain` as it is. */
export function chainAt(chain: Chain, epoch: number): Chain {
  assert(epoch >= chain.epoch, 'a ratchet does not go back');
  let secret: Uint8Array = chain.secret.slice();
  for (let at = chain.epoch; at < epoch; at++) {
    const next = nextSecret(secret);
    secret.fill(0);
    secret = next;
  }
  return { epoch, secret };
}

/** The keys under which one side of a session sends. */
export class SendKeys {
  #chain: Chain;
  #key: Uint8Array;
  readonly #ownSalt: Uint8Array;
  #peerSalt: Uint8Array;
  readonly #onKey: OnKey | undefined;

  constructor(chain: Chain, ownSalt: Uint8Array, peerSalt: Uint8Array, onKey?: OnKey) {
    this.#chain = chainAt(chain, chain.epoch);
    this.#ownSalt = ownSalt;
    this.#peerSalt = peerSalt;
    this.#onKey = onKey;
    this.#key = keyOf(this.#chain.secret, ownSalt, peerSalt);
    onKey?.(chain.epoch, this.#key);
  }

  /** From now on the peer opens under this salt of its own. */
  setPeerSalt(salt: Uint8Array): void {
    this.#peerSalt = salt;
    this.#change(this.#chain);
  }

  /** The caller answers for never using a number twice, and for numbers that only grow. */
  seal(number: number, header: Uint8Array, plaintext: Uint8Array): Uint8Array {
    if (epochOf(number) !== this.#chain.epoch) {
      const old = this.#chain;
      this.#change(chainAt(old, epochOf(number)));
      old.secret.fill(0);
    }
    return SUITE.cipher.aead.seal(this.#key, SUITE.cipher.nonce(BigInt(number)), header, plaintext);
  }

  /** What is enough to go on at `number`, and not for what was sent in earlier epochs. */
  chainFor(number: number): Chain {
    return chainAt(this.#chain, epochOf(number));
  }

  #change(chain: Chain): void {
    this.#key.fill(0);
    this.#chain = chain;
    this.#key = keyOf(chain.secret, this.#ownSalt, this.#peerSalt);
    this.#onKey?.(chain.epoch, this.#key);
  }
}

/** A record that fits one of the keys. Nothing has changed yet. */
export interface Genuine {
  readonly plaintext: Uint8Array;
  /** Which of this side's salts it was sealed for: 0 is the newest. */
  readonly ownSalt: number;
  /** Makes this record's salt and epoch the newest. Returns whether they were not. */
  advance(): boolean;
}

/** The keys under which one side of a session receives: those of the newest epoch and of the one before. */
export class ReceiveKeys {
  #chain: Chain;
  /** This side's salts that the peer may know, newest first. */
  #ownSalts: readonly Uint8Array[];
  #peerSalt: Uint8Array;
  /** Of the newest epoch, one for each of this side's salts. */
  #keys: readonly Uint8Array[];
  /** Of the epoch before, for this side's newest salt. */
  #previous: Uint8Array | undefined;
  #forgeries = 0;
  readonly #onKey: OnKey | undefined;

  constructor(chain: Chain, ownSalts: readonly Uint8Array[], peerSalt: Uint8Array, onKey?: OnKey) {
    this.#chain = chainAt(chain, chain.epoch);
    this.#ownSalts = ownSalts;
    this.#peerSalt = peerSalt;
    this.#onKey = onKey;
    this.#keys = this.#keysAt(this.#chain.secret, peerSalt);
    for (const key of this.#keys) onKey?.(chain.epoch, key);
  }

  get chain(): Chain {
    return chainAt(this.#chain, this.#chain.epoch);
  }

  get peerSalt(): Uint8Array {
    return this.#peerSalt;
  }

  get ownSalts(): readonly Uint8Array[] {
    return this.#ownSalts;
  }

  /** Records that did not fit since the keys have changed. */
  get forgeries(): number {
    return this.#forgeries;
  }

  /** The peer has this side's newest salt for good: what it sent under earlier ones is of no use any more. */
  confirmSalt(): void {
    this.#ownSalts = this.#ownSalts.slice(0, 1);
    for (const key of this.#keys.slice(1)) key.fill(0);
    this.#keys = this.#keys.slice(0, 1);
  }

  /**
   * Tries a record with every key that it can be sealed under; undefined for a forgery. Everything new is computed in
   * locals.
   * @param salt the sender's
   */
  open(
    number: number,
    phase: 0 | 1,
    salt: Uint8Array,
    header: Uint8Array,
    sealed: Uint8Array,
  ): Genuine | undefined {
    const epoch = epochOf(number);
    const ahead = epoch - this.#chain.epoch;
    const isNewSalt = !equal(salt, this.#peerSalt);
    if (phase !== phaseOf(number) || ahead > MAX_EPOCHS_AHEAD || ahead < (isNewSalt ? 0 : -1))
      return undefined;
    let keys: readonly Uint8Array[];
    let chain = this.#chain;
    if (ahead < 0) {
      keys = this.#previous === undefined ? [] : [this.#previous];
    } else if (ahead === 0 && !isNewSalt) {
      keys = this.#keys;
    } else {
      chain = chainAt(this.#chain, epoch);
      keys = this.#keysAt(chain.secret, salt);
    }
    const nonce = SUITE.cipher.nonce(BigInt(number));
    for (const [ownSalt, key] of keys.entries()) {
      const plaintext = SUITE.cipher.aead.open(key, nonce, header, sealed);
      if (plaintext === undefined) continue;
      const advance = (): boolean => {
        if (chain === this.#chain) return false;
        this.#advance(chain, keys, salt, isNewSalt);
        return true;
      };
      return { plaintext, ownSalt, advance };
    }
    this.#forgeries++;
    return undefined;
  }

  #keysAt(secret: Uint8Array, peerSalt: Uint8Array): readonly Uint8Array[] {
    return this.#ownSalts.map((ownSalt) => keyOf(secret, peerSalt, ownSalt));
  }

  #advance(chain: Chain, keys: readonly Uint8Array[], salt: Uint8Array, isNewSalt: boolean): void {
    const steps = chain.epoch - this.#chain.epoch;
    this.#previous?.fill(0);
    if (isNewSalt || steps === 0) {
      this.#previous = undefined;
    } else {
      const before = chainAt(this.#chain, chain.epoch - 1);
      this.#previous = keyOf(before.secret, salt, this.#ownSalts[0]!);
      before.secret.fill(0);
    }
    this.#chain.secret.fill(0);
    for (const key of this.#keys) key.fill(0);
    this.#chain = chain;
    this.#keys = keys;
    for (const key of keys) this.#onKey?.(chain.epoch, key);
    this.#peerSalt = salt;
    this.#forgeries = 0;
  }
}

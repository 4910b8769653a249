import { assert } from '../base/assert.ts';
import { concat } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { TAG_BYTES } from '../crypto/aead.ts';
import { type KeyPair, sharedSecret, X25519_BYTES } from '../crypto/x25519.ts';
import type { CipherState } from './cipher_state.ts';
import type { Pattern, Role, Token } from './pattern.ts';
import type { Suite } from './suite.ts';
import { SymmetricState } from './symmetric_state.ts';

/** Noise revision 34, section 3: the longest message. */
export const MAX_MESSAGE_BYTES = 65_535;
/** Section 9.1. */
const PSK_BYTES = 32;

/** Why a message of the peer was not read. */
export type NoiseProblem = 'too_short' | 'too_long' | 'forged';

export interface HandshakeOptions {
  readonly pattern: Pattern;
  readonly suite: Suite;
  readonly role: Role;
  /** What both sides have to agree about; it is authenticated, not sent (section 6). */
  readonly prologue: Uint8Array;
  /** Makes this side's ephemeral key, at most once. */
  readonly generate: () => KeyPair;
  readonly static?: KeyPair;
  /** The ephemeral key that this side has sent before the handshake, for patterns that go on from there. */
  readonly ephemeral?: KeyPair;
  /** The peer's static or ephemeral key, for patterns in which it is known before. */
  readonly remoteStatic?: Uint8Array;
  readonly remoteEphemeral?: Uint8Array;
  /** As many keys of 32 bytes as the pattern has `psk` tokens, in their order. */
  readonly psks?: readonly Uint8Array[];
}

/** The keys of one side, by Noise's names. */
interface Keys {
  e: KeyPair | undefined;
  readonly s: KeyPair | undefined;
  re: Uint8Array | undefined;
  rs: Uint8Array | undefined;
  /** The pre-shared keys that have not been mixed in. */
  psks: readonly Uint8Array[];
}

/** The keys for records, once the handshake is over. */
export interface TransportKeys {
  readonly send: CipherState;
  readonly receive: CipherState;
}

/** The same keys as bytes, 32 each. */
export interface TransportSecrets {
  readonly send: Uint8Array;
  readonly receive: Uint8Array;
}

/**
 * A handshake (Noise revision 34, section 5.3). A message that cannot be read leaves the state as it was, so that
 * the genuine one can still follow.
 */
export class HandshakeState {
  readonly #options: HandshakeOptions;
  #symmetric: SymmetricState;
  #keys: Keys;
  #position = 0;
  /** With pre-shared keys an ephemeral key goes into the chaining key as well (section 9.2). */
  readonly #mixesEphemeral: boolean;

  constructor(options: HandshakeOptions) {
    const { pattern, suite, role, prologue } = options;
    this.#options = options;
    this.#symmetric = SymmetricState.initialize(suite, `Noise_${pattern.name}_${suite.name}`);
    const { ephemeral, remoteEphemeral, remoteStatic, psks = [] } = options;
    this.#keys = { e: ephemeral, s: options.static, re: remoteEphemeral, rs: remoteStatic, psks };
    const places = pattern.messages.flatMap(({ tokens }) => tokens.filter((token) => token === 'psk'));
    assert(psks.length === places.length, 'there is a pre-shared key for each place in the pattern');
    assert(
      psks.every(({ length }) => length === PSK_BYTES),
      'a pre-shared key has 32 bytes',
    );
    this.#mixesEphemeral = psks.length > 0;
    this.#symmetric.mixHash(prologue);
    for (const { by, token } of pattern.before) {
      const key = publicKey(this.#keys, token, by === role);
      assert(key !== undefined, `the ${by}'s key ${token} is known before the handshake`);
      this.#symmetric.mixHash(key);
      if (token === 'e' && this.#mixesEphemeral) this.#symmetric.mixKey(key);
    }
  }

  /** A copy that goes its own way: what an initiator tries an answer on before it knows whose answer it is. */
  fork(): HandshakeState {
    const copy = new HandshakeState(this.#options);
    copy.#symmetric = this.#symmetric.clone();
    copy.#keys = { ...this.#keys };
    copy.#position = this.#position;
    return copy;
  }

  get finished(): boolean {
    return this.#position === this.#options.pattern.messages.length;
  }

  /** The peer's static key, once it is known. It is the peer's own only after a message that proves it. */
  get remoteStatic(): Uint8Array | undefined {
    return this.#keys.rs;
  }

  /** Identifies the finished handshake for channel binding (section 11.2). */
  get handshakeHash(): Uint8Array {
    assert(this.finished, 'the handshake is finished');
    return this.#symmetric.handshakeHash;
  }

  /** The next message. It must be this side's turn. */
  writeMessage(payload: Uint8Array): Uint8Array {
    const { role } = this.#options;
    const message = this.#next();
    assert(message.by === role, 'it is this side that writes now');
    const symmetric = this.#symmetric;
    const parts: Uint8Array[] = [];
    for (const token of message.tokens) {
      if (token === 'e') {
        assert(this.#keys.e === undefined, 'an ephemeral key is sent once');
        this.#keys.e = this.#options.generate();
        parts.push(this.#keys.e.public);
        symmetric.mixHash(this.#keys.e.public);
        if (this.#mixesEphemeral) symmetric.mixKey(this.#keys.e.public);
      } else if (token === 's') {
        assert(this.#keys.s !== undefined, 'the pattern needs a static key');
        parts.push(symmetric.encryptAndHash(this.#keys.s.public));
      } else if (token === 'psk') {
        symmetric.mixKeyAndHash(nextPsk(this.#keys));
      } else {
        symmetric.mixKey(diffieHellman(this.#keys, token, role));
      }
    }
    parts.push(symmetric.encryptAndHash(payload));
    this.#position++;
    const bytes = concat(...parts);
    assert(bytes.length <= MAX_MESSAGE_BYTES, 'a Noise message fits into 65,535 bytes');
    return bytes;
  }

  /** The payload of the peer's next message. It must be the peer's turn. */
  readMessage(bytes: Uint8Array): Result<Uint8Array, NoiseProblem> {
    const { role } = this.#options;
    const message = this.#next();
    assert(message.by !== role, 'it is the peer that writes now');
    if (bytes.length > MAX_MESSAGE_BYTES) return bad('too_long');
    // All in locals: nothing is kept of a message before its last tag has been checked.
    const symmetric = this.#symmetric.clone();
    const keys = { ...this.#keys };
    let at = 0;
    for (const token of message.tokens) {
      if (token === 'psk') {
        symmetric.mixKeyAndHash(nextPsk(keys));
        continue;
      }
      if (token !== 'e' && token !== 's') {
        symmetric.mixKey(diffieHellman(keys, token, role));
        continue;
      }
      const end = at + X25519_BYTES + (token === 's' && symmetric.hasKey ? TAG_BYTES : 0);
      if (end > bytes.length) return bad('too_short');
      const field = bytes.slice(at, end);
      at = end;
      if (token === 'e') {
        keys.re = field;
        symmetric.mixHash(field);
        if (this.#mixesEphemeral) symmetric.mixKey(field);
      } else {
        keys.rs = symmetric.decryptAndHash(field);
        if (keys.rs === undefined) return bad('forged');
      }
    }
    if (symmetric.hasKey && bytes.length - at < TAG_BYTES) return bad('too_short');
    const payload = symmetric.decryptAndHash(bytes.slice(at));
    if (payload === undefined) return bad('forged');
    this.#symmetric = symmetric;
    this.#keys = keys;
    this.#position++;
    return ok(payload);
  }

  /** What `split` puts into its ciphers, for a protocol that derives its keys from these; only once, instead of it. */
  splitKeys(): TransportSecrets {
    assert(this.finished, 'the handshake is finished');
    const [first, second] = this.#symmetric.splitKeys();
    return this.#options.role === 'initiator'
      ? { send: first, receive: second }
      : { send: second, receive: first };
  }

  /** The keys for records; only once, after the last message (section 5.2, `Split`). */
  split(): TransportKeys {
    assert(this.finished, 'the handshake is finished');
    const [first, second] = this.#symmetric.split();
    return this.#options.role === 'initiator'
      ? { send: first, receive: second }
      : { send: second, receive: first };
  }

  #next(): Pattern['messages'][number] {
    const message = this.#options.pattern.messages[this.#position];
    assert(message !== undefined, 'the handshake has a message left');
    return message;
  }
}

function nextPsk(keys: Keys): Uint8Array {
  const [next, ...rest] = keys.psks;
  assert(next !== undefined, 'the pattern has a key for each place');
  keys.psks = rest;
  return next;
}

function publicKey(keys: Keys, token: 'e' | 's', own: boolean): Uint8Array | undefined {
  if (token === 'e') return own ? keys.e?.public : keys.re;
  return own ? keys.s?.public : keys.rs;
}

/** The shared secret that `token` names: its first letter is the initiator's key, its second the responder's. */
function diffieHellman(keys: Keys, token: Exclude<Token, 'e' | 's' | 'psk'>, role: Role): Uint8Array {
  const [own, other] = role === 'initiator' ? [token[0], token[1]] : [token[1], token[0]];
  const secret = own === 'e' ? keys.e?.secret : keys.s?.secret;
  const remote = other === 'e' ? keys.re : keys.rs;
  assert(secret !== undefined && remote !== undefined, `both keys of ${token} are known`);
  return sharedSecret(secret, remote);
}

import { base64 } from '../../../src/base/bytes.ts';
import { seededRandom } from '../../../src/base/random.ts';
import type { KeyId, ServerName } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { signingKey, signJson } from '../../../src/matrix/signing.ts';
import type { KeyUsage } from '../../../src/storage/cross_signing.ts';

/** An Ed25519 key pair of a client. */
export interface KeyPair {
  /** Unpadded base64. */
  readonly publicKey: string;
  /** A copy of the object with a signature added. @param name of the key, without the algorithm; left out: its public key */
  sign(object: JsonObject, user: string, name?: string): JsonObject;
}

export function keyPair(seed: number): KeyPair {
  const secret = seededRandom(seed).bytes(32);
  const { publicKey } = signingKey('ed25519:x' as KeyId, secret);
  const text = base64(publicKey);
  return {
    publicKey: text,
    sign: (object, user, name = text) =>
      signJson(object, user as ServerName, signingKey(`ed25519:${name}` as KeyId, secret)),
  };
}

/** The keys of one device, as its client makes them. */
export class DeviceOwner {
  readonly user: string;
  readonly device: string;
  readonly pair: KeyPair;
  readonly #seed: number;

  constructor({ id: user, device }: { readonly id: string; readonly device: string }, seed: number) {
    this.user = user;
    this.device = device;
    this.#seed = seed;
    this.pair = keyPair(seed);
  }

  identityKeys(): JsonObject {
    const { user, device } = this;
    const object = {
      user_id: user,
      device_id: device,
      algorithms: ['m.olm.v1.curve25519-aes-sha2', 'm.megolm.v1.aes-sha2'],
      keys: {
        [`curve25519:${device}`]: base64(seededRandom(this.#seed + 1).bytes(32)),
        [`ed25519:${device}`]: this.pair.publicKey,
      },
      signatures: {},
    };
    return this.pair.sign(object, user, device);
  }

  /** One-time keys whose ids are the names. */
  oneTimeKeys(...names: readonly string[]): JsonObject {
    return Object.fromEntries(names.map((name) => [`signed_curve25519:${name}`, this.oneTimeKey(name)]));
  }

  oneTimeKey(content: string, more: JsonObject = {}): JsonObject {
    return this.pair.sign(
      { key: base64(Buffer.from(content.padEnd(32, '.'))), ...more },
      this.user,
      this.device,
    );
  }
}

/** A user's cross-signing keys. */
export class CrossSigner {
  readonly user: string;
  readonly pairs: Readonly<Record<KeyUsage, KeyPair>>;

  constructor(user: string, seed: number) {
    this.user = user;
    this.pairs = {
      master: keyPair(seed),
      self_signing: keyPair(seed + 1),
      user_signing: keyPair(seed + 2),
    };
  }

  key(usage: KeyUsage): JsonObject {
    const { publicKey } = this.pairs[usage];
    const object = {
      user_id: this.user,
      usage: [usage],
      keys: { [`ed25519:${publicKey}`]: publicKey },
    };
    return usage === 'master' ? object : this.pairs.master.sign(object, this.user);
  }

  /** What is uploaded. */
  body(): JsonObject {
    return {
      master_key: this.key('master'),
      self_signing_key: this.key('self_signing'),
      user_signing_key: this.key('user_signing'),
    };
  }
}

/** An object with nobody's signatures. */
export const unsigned = ({ signatures: _, ...object }: JsonObject): JsonObject => object;

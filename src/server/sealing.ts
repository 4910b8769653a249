import { readFileSync, statSync } from 'node:fs';
import { concat, fromBase64, fromHex, utf8 } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import { chaCha20Poly1305, KEY_BYTES, NONCE_BYTES, TAG_BYTES } from '../crypto/aead.ts';
import { SHA256 } from '../crypto/hash.ts';
import { changeSealing, checkSealing, finishErasure, isSealed } from '../storage/sealed_database.ts';
import { IN_CLEAR, type Sealing, SealingError, type SecretPlace } from '../storage/sealing.ts';
import { ConfigError } from './config.ts';

/** The environment variables that give the key: the key itself, or a file that has it. */
export const SEAL_KEY = 'RAVINE_SEAL_KEY';
export const SEAL_KEY_FILE = 'RAVINE_SEAL_KEY_FILE';

/** Whoever may read, write or run a file besides its owner. */
const OTHERS_MODE = 0o077;

const FORM = 1;
/** Long enough that random ones never meet, however often a session is stored. */
const SALT_BYTES = 24;
const INFO = utf8('ravine seal 1');
/** Each derived key seals once. */
const NONCE = new Uint8Array(NONCE_BYTES);

/**
 * The key that the environment gives; undefined where it gives none.
 * @throws ConfigError where it is no key of 32 bytes, or its file can be read by others
 */
export function sealKeyOf(environment: Readonly<Record<string, string | undefined>>): Uint8Array | undefined {
  const { [SEAL_KEY]: text, [SEAL_KEY_FILE]: file } = environment;
  if (text !== undefined && file !== undefined)
    throw new ConfigError(`${SEAL_KEY} and ${SEAL_KEY_FILE} are both set: one of them is enough`);
  if (file !== undefined) return readSealKey(file);
  return text === undefined ? undefined : parseSealKey(text, SEAL_KEY);
}

/** @throws ConfigError where the file has no key of 32 bytes, or can be read by others */
export function readSealKey(file: string): Uint8Array {
  let text: string;
  try {
    // On Windows the mode says nothing about others.
    if (process.platform !== 'win32' && (statSync(file).mode & OTHERS_MODE) !== 0)
      throw new Error('others than its owner may use it (chmod 600)');
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigError(
      `the seal key in ${file}: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  return parseSealKey(text, file);
}

function parseSealKey(text: string, source: string): Uint8Array {
  const bare = text.trim();
  const key = fromHex(bare);
  const bytes = key?.length === KEY_BYTES ? key : fromBase64(bare);
  if (bytes?.length !== KEY_BYTES)
    throw new ConfigError(`${source} is not ${KEY_BYTES} bytes in hexadecimal or base64`);
  return bytes;
}

/**
 * Seals by ChaCha20-Poly1305 under a key of its own for each secret: HKDF-SHA-256 (RFC 5869) of `key` under a random salt.
 * What comes out is a byte of the form, the salt, ciphertext and tag.
 * @param key 32 bytes
 */
export function createSealing(key: Uint8Array, random: Random): Sealing {
  const keyUnder = (salt: Uint8Array): Uint8Array => SHA256.hkdf(salt, key, KEY_BYTES, INFO);
  return {
    seal(place, secret) {
      const salt = random.bytes(SALT_BYTES);
      const sealed = chaCha20Poly1305.seal(keyUnder(salt), NONCE, associated(place), secret);
      return concat(Uint8Array.of(FORM), salt, sealed);
    },
    open(place, kept) {
      const salt = kept.slice(1, 1 + SALT_BYTES);
      const sealed = kept.slice(1 + SALT_BYTES);
      const secret =
        kept[0] === FORM && sealed.length >= TAG_BYTES
          ? chaCha20Poly1305.open(keyUnder(salt), NONCE, associated(place), sealed)
          : undefined;
      if (secret === undefined)
        throw new SealingError(`What is in ${place.slice(0, 2).join('.')} was not sealed there by this key.`);
      return secret;
    },
  };
}

const associated = (place: SecretPlace): Uint8Array => utf8(JSON.stringify(place));

/**
 * How the secrets of a database file are kept. What is in clear is sealed first where there is a key; nobody else
 * may have the file open then.
 * @throws SealingError where the key is missing or another one
 */
export function openSealing(path: string, key: Uint8Array | undefined, random: Random): Sealing {
  const sealing = key && createSealing(key, random);
  if (!isSealed(path)) {
    if (sealing === undefined) return IN_CLEAR;
    changeSealing(path, IN_CLEAR, sealing);
    return sealing;
  }
  if (sealing === undefined) throw missingKey(path);
  checkKey(path, sealing);
  finishErasure(path);
  return sealing;
}

/**
 * The same for a file that a server may have open, of which nothing is changed. Where the key is missing, what needs no
 * secret works without it.
 * @throws SealingError where the key is another one
 */
export function sealingOf(path: string, key: Uint8Array | undefined, random: Random): Sealing {
  if (!isSealed(path)) return IN_CLEAR;
  if (key !== undefined) {
    const sealing = createSealing(key, random);
    checkKey(path, sealing);
    return sealing;
  }
  const refuse = (): never => {
    throw missingKey(path);
  };
  return { seal: refuse, open: refuse };
}

const missingKey = (path: string): SealingError =>
  new SealingError(
    `The keys in ${path} are sealed: give the key in ${SEAL_KEY}, or a file that has it in ${SEAL_KEY_FILE}.`,
  );

function checkKey(path: string, sealing: Sealing): void {
  try {
    checkSealing(path, sealing);
  } catch (error) {
    if (!(error instanceof SealingError)) throw error;
    throw new SealingError(`The keys in ${path} are sealed by another key than the one given.`);
  }
}

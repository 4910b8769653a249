import { base64 } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import type { Millis } from '../base/time.ts';
import { publicKeyOf } from '../crypto/ed25519.ts';
import { X25519_BYTES } from '../crypto/x25519.ts';
import type { KeyId, ServerName } from '../matrix/ids.ts';
import { createIdentity, type ServerIdentity } from '../pipe/identity.ts';
import type { Database, Transaction } from '../storage/database.ts';
import {
  currentKey,
  type DatedKey,
  nextKey,
  ownKey,
  promoteNextKey,
  putNextKey,
  type RetiredKey,
  retiredKeys,
  retireKey,
  serverFact,
} from '../storage/own_keys.ts';
import type { Sealing } from '../storage/sealing.ts';
import { ConfigError } from './config.ts';

const ED25519_SEED_BYTES = 32;
/** Letters of a signing key's version. */
const KEY_VERSION_LENGTH = 6;
const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

/** Who this server is: its signing key, those that it had before, and the identity that it shows in pipes. */
export interface OwnIdentity {
  readonly signingKeyId: KeyId;
  /** 32 bytes. */
  readonly signingSecret: Uint8Array;
  readonly retired: readonly RetiredKey[];
  readonly pipe: ServerIdentity;
}

/**
 * The identity in the database, made at the first start. Keys that were to be changed at the next start are changed.
 * @param now Unix time in milliseconds
 * @throws ConfigError where the database belongs to a server of another name
 */
export async function ownIdentity({
  serverName,
  database,
  sealing,
  random,
  now,
}: {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly sealing: Sealing;
  readonly random: Random;
  readonly now: Millis;
}): Promise<OwnIdentity> {
  const written = await database.transaction((tx) => serverFact(tx, 'server_name', serverName));
  if (written !== serverName) {
    throw new ConfigError(`the data belongs to the server ${written}: a server's name can never change`);
  }
  await database.transaction((tx) => changeKeys(tx, sealing, now));
  const signing = await ownKey(database, sealing, 'signing', () => newSigningKey(random), now);
  // The serial of a Noise key is when it was made: a later one is higher, whatever became of the data in between.
  const noise = await ownKey(
    database,
    sealing,
    'noise',
    () => ({ keyId: String(now), secret: random.bytes(X25519_BYTES) }),
    now,
  );
  return {
    signingKeyId: signing.keyId as KeyId,
    signingSecret: signing.secret,
    retired: await retiredKeys(database),
    pipe: createIdentity({
      serverName,
      noiseSecret: noise.secret,
      signingKeyId: signing.keyId,
      signingSecret: signing.secret,
      serial: Number(noise.keyId),
    }),
  };
}

/** Takes new keys into use. Of a signing key that goes only the public half stays, so that old events can be checked. */
async function changeKeys(tx: Transaction, sealing: Sealing, now: Millis): Promise<void> {
  const signing = await currentKey(tx, sealing, 'signing');
  if ((await promoteNextKey(tx, sealing, 'signing')) && signing !== undefined) {
    const publicKey = base64(publicKeyOf(signing.secret));
    await retireKey(tx, { keyId: signing.keyId, publicKey, expired: now });
  }
  await promoteNextKey(tx, sealing, 'noise');
}

/**
 * Makes the Noise key that the next start changes to; in the place of one that waits already.
 * @param now Unix time in milliseconds
 * @returns its serial
 */
export async function rotateNoiseKey(
  tx: Transaction,
  sealing: Sealing,
  random: Random,
  now: Millis,
): Promise<number> {
  const current = await currentKey(tx, sealing, 'noise');
  const serial = Math.max(now, Number(current?.keyId ?? 0) + 1);
  await putNextKey(tx, sealing, 'noise', {
    keyId: String(serial),
    secret: random.bytes(X25519_BYTES),
    created: now,
  });
  return serial;
}

/**
 * Makes the signing key that the next start changes to; in the place of one that waits already.
 * @param now Unix time in milliseconds
 */
export async function rotateSigningKey(
  tx: Transaction,
  sealing: Sealing,
  random: Random,
  now: Millis,
): Promise<DatedKey> {
  const used = new Set([
    (await currentKey(tx, sealing, 'signing'))?.keyId,
    (await nextKey(tx, sealing, 'signing'))?.keyId,
    ...(await retiredKeys(tx)).map(({ keyId }) => keyId),
  ]);
  let key = newSigningKey(random);
  while (used.has(key.keyId)) key = newSigningKey(random);
  const dated = { ...key, created: now };
  await putNextKey(tx, sealing, 'signing', dated);
  return dated;
}

function newSigningKey(random: Random): { keyId: string; secret: Uint8Array } {
  const version = Array.from(
    { length: KEY_VERSION_LENGTH },
    () => LETTERS[random.integer(LETTERS.length)],
  ).join('');
  return { keyId: `ed25519:${version}`, secret: random.bytes(ED25519_SEED_BYTES) };
}

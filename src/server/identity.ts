import type { Random } from '../base/random.ts';
import type { Millis } from '../base/time.ts';
import { X25519_BYTES } from '../crypto/x25519.ts';
import type { KeyId, ServerName } from '../matrix/ids.ts';
import { createIdentity, type LocalIdentity } from '../pipe/identity.ts';
import type { Database } from '../storage/database.ts';
import { ownKey, serverFact } from '../storage/own_keys.ts';
import { ConfigError } from './config.ts';

const ED25519_SEED_BYTES = 32;
/** Letters of a signing key's version. */
const KEY_VERSION_LENGTH = 6;
const LETTERS = 'abcdefghijklmnopqrstuvwxyz';

/** Who this server is: its signing key, and the identity that it shows in pipes. */
export interface OwnIdentity {
  readonly signingKeyId: KeyId;
  /** 32 bytes. */
  readonly signingSecret: Uint8Array;
  readonly pipe: LocalIdentity;
}

/**
 * The identity in the database, made at the first start.
 * @param now Unix time in milliseconds
 * @throws ConfigError where the database belongs to a server of another name
 */
export async function ownIdentity({
  serverName,
  database,
  random,
  now,
}: {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly random: Random;
  readonly now: Millis;
}): Promise<OwnIdentity> {
  const written = await database.transaction((tx) => serverFact(tx, 'server_name', serverName));
  if (written !== serverName) {
    throw new ConfigError(`the data belongs to the server ${written}: a server's name can never change`);
  }
  const signing = await ownKey(database, 'signing', () => newSigningKey(random), now);
  // The serial of a Noise key is when it was made: a later one is higher, whatever became of the data in between.
  const noise = await ownKey(
    database,
    'noise',
    () => ({ keyId: String(now), secret: random.bytes(X25519_BYTES) }),
    now,
  );
  return {
    signingKeyId: signing.keyId as KeyId,
    signingSecret: signing.secret,
    pipe: createIdentity({
      serverName,
      noiseSecret: noise.secret,
      signingKeyId: signing.keyId,
      signingSecret: signing.secret,
      serial: Number(noise.keyId),
    }),
  };
}

function newSigningKey(random: Random): { keyId: string; secret: Uint8Array } {
  const version = Array.from(
    { length: KEY_VERSION_LENGTH },
    () => LETTERS[random.integer(LETTERS.length)],
  ).join('');
  return { keyId: `ed25519:${version}`, secret: random.bytes(ED25519_SEED_BYTES) };
}

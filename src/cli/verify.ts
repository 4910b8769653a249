import { readFileSync } from 'node:fs';
import { fromBase64 } from '../base/bytes.ts';
import { systemRandom } from '../base/random.ts';
import { type Millis, systemClock } from '../base/time.ts';
import { Work } from '../base/work.ts';
import { HttpsTransport } from '../federation/https_transport.ts';
import { requestKeys } from '../federation/key_document.ts';
import { fingerprint } from '../federation/peers.ts';
import type { KeyId, ServerName } from '../matrix/ids.ts';
import { signingKey } from '../matrix/signing.ts';
import { peerEntry } from '../server/homeserver.ts';
import { currentKey } from '../storage/own_keys.ts';
import type { ServerData } from './data.ts';

/** A signing key as its server's key API tells it. */
export interface KeyApiFinding {
  readonly keyId: KeyId;
  readonly fingerprint: string;
  /** From `old_verify_keys`. */
  readonly retired: boolean;
  /** Unix time in milliseconds; of a retired key the end of its use. */
  readonly validUntil: Millis;
}

/**
 * Asks a server for its signing keys over HTTPS, as the running server would, and keeps nothing.
 * @throws Error where there is no good answer
 */
export async function askKeyApi(
  { config, serverName, database, sealing }: ServerData,
  server: ServerName,
): Promise<readonly KeyApiFinding[]> {
  const own = await currentKey(database, sealing, 'signing');
  if (own === undefined) throw new Error('The server has not been started yet: "ravine serve" does.');
  const https = new HttpsTransport({
    serverName,
    signingKey: signingKey(own.keyId as KeyId, own.secret),
    clock: systemClock,
    random: systemRandom,
    work: new Work(),
    peers: config.federation.peers.map(peerEntry),
    certificateAuthorities: config.federation.certificate_authorities.map((file) =>
      readFileSync(file, 'utf8'),
    ),
  });
  try {
    const keys = await requestKeys(
      (call) => https.request(server, call),
      server,
      () => systemClock.wall(),
    ).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`The key API of ${server} does not answer over HTTPS (${reason}).`);
    });
    if (!keys.ok) throw new Error(`The answer of ${server} is no good: ${keys.problem}.`);
    return keys.value.keys.map(({ keyId, publicKey, retired, validUntil }) => ({
      keyId,
      fingerprint: fingerprint(fromBase64(publicKey) ?? new Uint8Array()),
      retired,
      validUntil,
    }));
  } finally {
    await https.close();
  }
}

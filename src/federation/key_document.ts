import { base64, fromBase64 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Millis } from '../base/time.ts';
import { canonicalJson } from '../matrix/canonical_json.ts';
import { type KeyId, parseKeyId, type ServerName } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import { type SigningKey, signJson, verifyJson } from '../matrix/signing.ts';
import type { StoredDocument, StoredKey } from '../storage/server_keys.ts';
import { type FederationCall, type FederationTransport, path } from './transport.ts';

/** The specification's: a key is believed for no longer than seven days without asking again. */
export const MAX_KEY_VALIDITY_MS: Millis = 7 * 24 * 60 * 60 * 1000;

/** How long others may use what we publish before they ask again: as long as they may at all, since asking costs. */
const OWN_KEY_VALIDITY_MS = MAX_KEY_VALIDITY_MS;
export const KEY_PATH = '/_matrix/key/v2/server';
const FETCH_TIMEOUT_MS: Millis = 30_000;
/** Keys in one document, of either kind. */
const MAX_KEYS = 64;
const ED25519_KEY_BYTES = 32;

/**
 * This server's answer to `GET /_matrix/key/v2/server` (server-server API, "Publishing Keys").
 * @param retired keys that it used to have
 */
export function ownKeyDocument(
  serverName: ServerName,
  key: SigningKey,
  now: Millis,
  retired: readonly StoredKey[] = [],
): JsonObject {
  return signJson(
    {
      server_name: serverName,
      valid_until_ts: now + OWN_KEY_VALIDITY_MS,
      verify_keys: { [key.keyId]: { key: base64(key.publicKey) } },
      old_verify_keys: Object.fromEntries(
        retired.map(({ keyId, publicKey, validUntil }) => [
          keyId,
          { key: publicKey, expired_ts: validUntil },
        ]),
      ),
    },
    serverName,
    key,
  );
}

/** Whether a document has this key and no other, now or ever. */
export function isOnlyKey(document: JsonValue, keyId: string, publicKey: Uint8Array): boolean {
  if (!isJsonObject(document)) return false;
  const [keys, old] = [own(document, 'verify_keys'), own(document, 'old_verify_keys') ?? {}];
  if (!isJsonObject(keys) || !isJsonObject(old) || Object.keys(old).length > 0) return false;
  const [id, ...others] = Object.keys(keys);
  const key = id === undefined ? undefined : own(keys, id);
  return id === keyId && others.length === 0 && isJsonObject(key) && own(key, 'key') === base64(publicKey);
}

/** What a server says of its keys. */
export interface ToldKeys {
  readonly keys: readonly StoredKey[];
  /** Left out: through a pipe it has told them without a document. */
  readonly document?: StoredDocument;
}

/**
 * Asks a server for its keys and checks the answer.
 * @param request sends a call to that server
 * @param bound the key to which its pipe is bound: through a pipe, an empty answer says that it has this one and no other
 * @param keyId in the path, which asks for the document even so
 * @throws FederationError where it does not answer
 */
export async function requestKeys(
  request: (call: FederationCall) => ReturnType<FederationTransport['request']>,
  server: ServerName,
  now: () => Millis,
  { bound, keyId }: { readonly bound?: () => Promise<StoredKey | undefined>; readonly keyId?: KeyId } = {},
): Promise<Result<ToldKeys>> {
  const asked = keyId === undefined ? KEY_PATH : path`/_matrix/key/v2/server/${keyId}`;
  const { body } = await request({ method: 'GET', path: asked, timeoutMs: FETCH_TIMEOUT_MS, priority: 1 });
  if (bound !== undefined && isJsonObject(body) && Object.keys(body).length === 0) {
    const key = await bound();
    return key === undefined ? bad('its pipe is bound to no key') : ok({ keys: [key] });
  }
  const keys = parseKeyDocument(body, server, now());
  if (!keys.ok) return keys;
  const document = body as JsonObject;
  return ok({
    keys: keys.value,
    document: { validUntil: Number(own(document, 'valid_until_ts')), document },
  });
}

/**
 * The keys in a document that a notary has answered with: signed by the notary and by the server whose keys they are, which has
 * to be one that it was asked for (server-server API, "Querying keys through another server").
 * @param keyOf the notary's key of that id, undefined where it has none
 */
export async function parseNotaryDocument(
  document: JsonValue,
  asked: ReadonlySet<ServerName>,
  { notary, keyOf }: { notary: ServerName; keyOf: (keyId: KeyId) => Promise<Uint8Array | undefined> },
  now: Millis,
): Promise<Result<{ readonly server: ServerName; readonly keys: readonly StoredKey[] }>> {
  if (!isJsonObject(document)) return bad('not an object');
  const server = own(document, 'server_name') as ServerName;
  if (!asked.has(server)) return bad('the keys of a server that it was not asked for');
  const keys = parseKeyDocument(document, server, now);
  if (!keys.ok) return keys;
  const signatures = own(own(document, 'signatures') as JsonObject, notary);
  let good = 0;
  for (const id of isJsonObject(signatures) ? Object.keys(signatures).slice(0, MAX_KEYS) : []) {
    const keyId = parseKeyId(id);
    const key = keyId.ok ? await keyOf(keyId.value) : undefined;
    if (!keyId.ok || key === undefined) continue;
    if (!verifyJson(document, notary, keyId.value, key)) return bad('a wrong signature of the notary');
    good++;
  }
  return good > 0 ? ok({ server, keys: keys.value }) : bad('not signed by the notary');
}

/**
 * The keys in another server's key document, which has to be signed by at least one of the keys in use, and wrongly by
 * none of them. Keys of algorithms that we do not know are left out.
 */
export function parseKeyDocument(
  document: JsonValue,
  server: ServerName,
  now: Millis,
): Result<readonly StoredKey[]> {
  if (!isJsonObject(document)) return bad('not an object');
  if (own(document, 'server_name') !== server) return bad('the keys of another server');
  const validUntil = own(document, 'valid_until_ts');
  if (!isInstant(validUntil)) return bad('valid_until_ts is not an instant');
  const current = keysIn(own(document, 'verify_keys'));
  const retired = keysIn(own(document, 'old_verify_keys') ?? {});
  if (current === undefined || retired === undefined)
    return bad('verify_keys or old_verify_keys is malformed');
  if (!canonicalJson(document, 'any').ok) return bad('not canonical JSON, so nobody can sign it');
  const signatures = own(document, 'signatures');
  const ours = isJsonObject(signatures) ? own(signatures, server) : undefined;
  const signers = current.filter(({ keyId }) => isJsonObject(ours) && own(ours, keyId) !== undefined);
  if (signers.length === 0) return bad('not signed by any of its keys');
  if (!signers.every(({ keyId, bytes }) => verifyJson(document, server, keyId, bytes)))
    return bad('a wrong signature');
  const until = Math.min(validUntil, now + MAX_KEY_VALIDITY_MS);
  return ok([
    ...current.map(({ keyId, bytes }) => storedKey(keyId, bytes, until, false)),
    ...retired.flatMap(({ keyId, bytes, entry }) => {
      const expired = own(entry, 'expired_ts');
      const isCurrent = current.some((key) => key.keyId === keyId);
      return isInstant(expired) && !isCurrent ? [storedKey(keyId, bytes, expired, true)] : [];
    }),
  ]);
}

interface ListedKey {
  readonly keyId: KeyId;
  readonly bytes: Uint8Array;
  readonly entry: JsonObject;
}

/** The ed25519 keys of a list; undefined where it is not a list of keys or too long. */
function keysIn(list: JsonValue | undefined): readonly ListedKey[] | undefined {
  if (!isJsonObject(list)) return undefined;
  const entries = Object.entries(list);
  if (entries.length > MAX_KEYS) return undefined;
  const keys: ListedKey[] = [];
  for (const [id, entry] of entries) {
    const keyId = parseKeyId(id);
    if (!keyId.ok || !id.startsWith('ed25519:')) continue;
    const text = isJsonObject(entry) ? own(entry, 'key') : undefined;
    const bytes = typeof text === 'string' ? fromBase64(text) : undefined;
    if (bytes?.length !== ED25519_KEY_BYTES) return undefined;
    keys.push({ keyId: keyId.value, bytes, entry: entry as JsonObject });
  }
  return keys;
}

function storedKey(keyId: KeyId, bytes: Uint8Array, validUntil: Millis, retired: boolean): StoredKey {
  return { keyId, publicKey: base64(bytes), validUntil, retired, confirmedUntil: 0 };
}

const isInstant = (value: JsonValue | undefined): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 0;

import { fromBase64 } from '../../base/bytes.ts';
import { canonicalJson } from '../../matrix/canonical_json.ts';
import type { KeyId, ServerName, UserId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import { verifyJson } from '../../matrix/signing.ts';
import type { SignatureRow } from '../../storage/cross_signing.ts';

export const ED25519 = 'ed25519:';
const KEY_BYTES = 32;

/** The bytes of an Ed25519 public key; undefined where the text is none. */
export function ed25519Key(text: unknown): Uint8Array | undefined {
  const key = typeof text === 'string' ? fromBase64(text) : undefined;
  return key?.length === KEY_BYTES ? key : undefined;
}

/** Whether an object carries a user's valid signature by a key. @param keyId with the algorithm */
export function isSignedBy(
  object: JsonObject,
  user: UserId,
  keyId: string,
  publicKey: Uint8Array | undefined,
): boolean {
  // Signing JSON knows one place for those who sign, servers and users alike.
  return (
    publicKey !== undefined && verifyJson(object, user as string as ServerName, keyId as KeyId, publicKey)
  );
}

/** The signatures of one user in an object, by key. */
export function signaturesOf(object: JsonObject, user: string): [keyId: string, signature: string][] {
  const ofUser = objectIn(objectIn(object, 'signatures'), user);
  return Object.entries(ofUser).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
}

/** Whether two objects are the same but for their signatures and what no signature covers. */
export const isSameSigned = (one: JsonObject, other: JsonObject): boolean =>
  isSameJson(signedPart(one), signedPart(other));

export function isSameJson(one: JsonValue, other: JsonValue): boolean {
  const [a, b] = [canonicalJson(one, 'any'), canonicalJson(other, 'any')];
  return a.ok && b.ok && a.value === b.value;
}

/**
 * An object with the signatures that one may see, its owner's and the viewer's (client-server API, "Cross-signing"), and those
 * among `more` that are.
 * @param viewer undefined: another server, on behalf of users that are not known
 */
export function withVisibleSignatures(
  object: JsonObject,
  { owner, viewer }: { readonly owner: UserId; readonly viewer: UserId | undefined },
  more: readonly SignatureRow[] = [],
): JsonObject {
  const signatures = new Map<string, Map<string, JsonValue>>();
  for (const signer of new Set([owner, viewer ?? owner])) {
    const own = new Map<string, JsonValue>(signaturesOf(object, signer));
    for (const row of more) if (row.signer === signer) own.set(row.signerKey, row.signature);
    if (own.size > 0) signatures.set(signer, own);
  }
  if (signatures.size === 0 && own(object, 'signatures') === undefined) return object;
  return {
    ...object,
    signatures: Object.fromEntries([...signatures].map(([user, keys]) => [user, Object.fromEntries(keys)])),
  };
}

export function objectIn(object: JsonObject, key: string): JsonObject {
  const value = own(object, key);
  return isJsonObject(value) ? value : {};
}

function signedPart(object: JsonObject): JsonObject {
  const { signatures: _signatures, unsigned: _unsigned, ...signed } = object;
  return signed;
}

import { base64, equal, fromBase64, utf8 } from '../base/bytes.ts';
import { publicKeyOf, sign, verify } from '../crypto/ed25519.ts';
import { canonicalBytes, canonicalJson } from './canonical_json.ts';
import { contentHash, identify, protectedText } from './hashes.ts';
import { type KeyId, parseUserId, type ServerName, serverOf } from './ids.ts';
import { isJsonObject, type JsonObject, own } from './json.ts';
import type { Event, Pdu, UnsignedPdu } from './pdu.ts';
import type { RoomVersion } from './room_version.ts';

/** The one algorithm that signing key identifiers name (appendices, "Signing Details"). */
const ALGORITHM_PREFIX = 'ed25519:';

/** A key that signs for a server. */
export interface SigningKey {
  readonly keyId: KeyId;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** An Ed25519 signature, 64 bytes. */
  sign(message: Uint8Array): Uint8Array;
}

/** The signing key of a 32-byte Ed25519 seed. */
export const signingKey = (keyId: KeyId, secret: Uint8Array): SigningKey => ({
  keyId,
  publicKey: publicKeyOf(secret),
  sign: (message) => sign(secret, message),
});

/**
 * A copy of `object` with a signature added (appendices, "Signing JSON"). `signatures` and `unsigned` are not covered,
 * and what they hold stays. The object must have a canonical form: that of `any` numbers, which only what quotes events of
 * old rooms has need of.
 */
export function signJson(object: JsonObject, server: ServerName, key: SigningKey): JsonObject {
  const { signatures, unsigned: _unsigned, ...covered } = object;
  const before = isJsonObject(signatures) ? signatures : {};
  const ofServer = own(before, server);
  const signature = base64(key.sign(canonicalBytes(covered, 'any')));
  const ours = { ...(isJsonObject(ofServer) ? ofServer : {}), [key.keyId]: signature };
  return { ...object, signatures: { ...before, [server]: ours } };
}

/** Whether `object` carries `server`'s valid signature under `keyId` (appendices, "Checking for a Signature"). */
export function verifyJson(
  object: JsonObject,
  server: ServerName,
  keyId: KeyId,
  publicKey: Uint8Array,
): boolean {
  const { signatures, unsigned: _unsigned, ...covered } = object;
  const signature = signatureIn(signatures, server, keyId);
  if (signature === undefined) return false;
  const text = canonicalJson(covered, 'any');
  return text.ok && verify(publicKey, utf8(text.value), signature);
}

/**
 * Hashes, signs and identifies an event of our own (server-server API, "Adding hashes and signatures to outgoing
 * events"). Its content must have a canonical form; the size limit is `parsePdu`'s to check.
 */
export function signEvent(
  unsigned: UnsignedPdu,
  version: RoomVersion,
  server: ServerName,
  key: SigningKey,
): Event {
  const hashes = { sha256: base64(contentHash(unsigned, version)) };
  return addSignature(identify({ ...unsigned, hashes, signatures: {} }, version), version, server, key);
}

/** The event with one more signature; its id stays as it is. */
export function addSignature(event: Event, version: RoomVersion, server: ServerName, key: SigningKey): Event {
  const { pdu } = event;
  const signature = base64(key.sign(utf8(protectedText(pdu, version))));
  const before = Object.hasOwn(pdu.signatures, server) ? pdu.signatures[server] : {};
  const signatures = { ...pdu.signatures, [server]: { ...before, [key.keyId]: signature } };
  return { ...event, pdu: { ...pdu, signatures } };
}

/**
 * The servers that must have signed an event (server-server API, "Validating hashes and signatures on received
 * events"): the sender's, unless the event is a third-party invite, which the invited user's server may send in the
 * inviter's name and which rule 5.4.1 authorises by the identity server's signature; and by rule 5.2 the server of
 * `join_authorised_via_users_server`. In room versions 1 and 2 also the server of the event id, which that server made.
 */
export function requiredSigners(pdu: Pdu, version: RoomVersion): ServerName[] {
  const signers = new Set<ServerName>();
  if (!isThirdPartyInvite(pdu)) signers.add(serverOf(pdu.sender));
  if (pdu.type === 'm.room.member' && version.restrictedJoins) {
    const authoriser = own(pdu.content, 'join_authorised_via_users_server');
    // What is no user id has no server: rule 5.2.1 rejects it.
    const user = typeof authoriser === 'string' ? parseUserId(authoriser) : undefined;
    if (user?.ok) signers.add(serverOf(user.value));
  }
  if (version.eventIds === 'stated' && pdu.event_id !== undefined) signers.add(serverOf(pdu.event_id));
  return [...signers];
}

/** Whether `server` signed the event with this key. The full event and its redacted copy answer the same. */
export function verifyEventSignature(
  pdu: Pdu,
  version: RoomVersion,
  server: ServerName,
  keyId: KeyId,
  publicKey: Uint8Array,
): boolean {
  const signature = signatureIn(pdu.signatures, server, keyId);
  return signature !== undefined && verify(publicKey, utf8(protectedText(pdu, version)), signature);
}

/** Whether the event is the whole one that was signed; if not, it has to be redacted before it is used. */
export function contentHashMatches(pdu: Pdu, version: RoomVersion): boolean {
  const claimed = fromBase64(pdu.hashes.sha256);
  return claimed !== undefined && equal(claimed, contentHash(pdu, version));
}

function isThirdPartyInvite(pdu: Pdu): boolean {
  return (
    pdu.type === 'm.room.member' &&
    own(pdu.content, 'membership') === 'invite' &&
    isJsonObject(own(pdu.content, 'third_party_invite'))
  );
}

function signatureIn(signatures: unknown, server: ServerName, keyId: KeyId): Uint8Array | undefined {
  const ofServer = isJsonObject(signatures) ? own(signatures, server) : undefined;
  const signature = isJsonObject(ofServer) ? own(ofServer, keyId) : undefined;
  return typeof signature === 'string' && keyId.startsWith(ALGORITHM_PREFIX)
    ? fromBase64(signature)
    : undefined;
}

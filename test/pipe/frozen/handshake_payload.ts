// The codec as it was before version 1 was completed; it is not to be changed.
import { concat, fromUtf8, utf8 } from '../../../src/base/bytes.ts';
import { bad, ok, type Result } from '../../../src/base/result.ts';
import { TAG_BYTES } from '../../../src/crypto/aead.ts';
import { X25519_BYTES } from '../../../src/crypto/x25519.ts';
import {
  encodeSerial,
  isServerName,
  keyIdOf,
  keyVersionOf,
  MAX_KEY_VERSION_BYTES,
  SERIAL_BYTES,
  type ServerIdentity,
} from '../../../src/pipe/identity.ts';
import { type ConnectionId, connectionIdLength, decodeConnectionId, encodeConnectionId } from './record.ts';

// docs/protocol.md, "Handshake payloads".
export const BOOT_ID_BYTES = 8;
const GENERATION_BYTES = 4;
const SIGNING_KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const FLAG_OPENING = 0x01;

/** The identity in a payload. Its binding has not been verified yet, and the Noise key comes from the handshake. */
export interface SentIdentity {
  readonly bootId: Uint8Array;
  readonly serial: number;
  readonly signingPublic: Uint8Array;
  readonly binding: Uint8Array;
  readonly signingKeyId: string;
  readonly serverName: string;
}

/** What only a responder says: its connection id, and whether it was opening a session itself to the same address. */
export interface Answered {
  readonly connectionId: ConnectionId;
  readonly opening: boolean;
}

/** What only an initiator says: the number of the session in the order of sessions between the two. */
export interface Confirmed {
  readonly generation: number;
}

const identityBytes = (identity: ServerIdentity, bootId: Uint8Array): Uint8Array => {
  const version = utf8(keyVersionOf(identity.signingKeyId)!);
  const name = utf8(identity.serverName);
  return concat(
    bootId,
    encodeSerial(identity.serial),
    identity.signingPublic,
    identity.binding,
    Uint8Array.of(version.length),
    version,
    Uint8Array.of(name.length),
    name,
  );
};

/** The payload of XX2. */
export function encodeAnswered(identity: ServerIdentity, bootId: Uint8Array, said: Answered): Uint8Array {
  const flags = Uint8Array.of(said.opening ? FLAG_OPENING : 0);
  return concat(flags, encodeConnectionId(said.connectionId), identityBytes(identity, bootId));
}

/** The payload of XX3. */
export function encodeConfirmed(identity: ServerIdentity, bootId: Uint8Array, said: Confirmed): Uint8Array {
  const generation = new Uint8Array(GENERATION_BYTES);
  new DataView(generation.buffer).setUint32(0, said.generation);
  return concat(Uint8Array.of(0), generation, identityBytes(identity, bootId));
}

export function decodeAnswered(bytes: Uint8Array): Result<Answered & SentIdentity> {
  const flags = bytes[0];
  const connectionId = decodeConnectionId(bytes, 1);
  if (flags === undefined || connectionId === undefined) return bad('too short');
  const identity = decodeIdentity(bytes.subarray(1 + connectionIdLength(connectionId)));
  return identity.ok
    ? ok({ connectionId, opening: (flags & FLAG_OPENING) !== 0, ...identity.value })
    : identity;
}

export function decodeConfirmed(bytes: Uint8Array): Result<Confirmed & SentIdentity> {
  if (bytes.length < 1 + GENERATION_BYTES) return bad('too short');
  const generation = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
  const identity = decodeIdentity(bytes.subarray(1 + GENERATION_BYTES));
  return identity.ok ? ok({ generation, ...identity.value }) : identity;
}

function decodeIdentity(bytes: Uint8Array): Result<SentIdentity> {
  let at = 0;
  const take = (length: number): Uint8Array => {
    at += length;
    return bytes.slice(at - length, at);
  };
  const bootId = take(BOOT_ID_BYTES);
  const serialBytes = take(SERIAL_BYTES);
  const signingPublic = take(SIGNING_KEY_BYTES);
  const binding = take(SIGNATURE_BYTES);
  const version = take(take(1)[0] ?? 0);
  const name = take(take(1)[0] ?? 0);
  // What follows the name belongs to later versions.
  if (at > bytes.length) return bad('too short');
  const signingKeyId = keyIdOf(fromUtf8(version) ?? '');
  const serverName = fromUtf8(name) ?? '';
  if (signingKeyId === undefined || !isServerName(serverName)) return bad('not a name');
  const view = new DataView(serialBytes.buffer);
  const serial = view.getUint16(0) * 2 ** 32 + view.getUint32(2);
  return ok({ bootId, serial, signingPublic, binding, signingKeyId, serverName });
}

/** How long an XX2 is whose responder has a name of `nameLength` bytes; at most, where the rest is not known. */
export function longestSecond(nameLength: number): number {
  const longestId = 4;
  const payload =
    1 +
    longestId +
    BOOT_ID_BYTES +
    SERIAL_BYTES +
    SIGNING_KEY_BYTES +
    SIGNATURE_BYTES +
    2 +
    MAX_KEY_VERSION_BYTES +
    nameLength;
  return 1 + longestId + 2 * X25519_BYTES + TAG_BYTES + payload + TAG_BYTES;
}

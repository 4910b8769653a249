import { concat, fromUtf8, utf8 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { TAG_BYTES } from '../crypto/aead.ts';
import { X25519_BYTES } from '../crypto/x25519.ts';
import { capabilitiesAt, isOpening, withOpening } from './agreement.ts';
import {
  CHECK_BYTES,
  decodeSerial,
  encodeSerial,
  isServerName,
  keyIdOf,
  keyVersionOf,
  type LocalIdentity,
  MAX_KEY_VERSION_BYTES,
  SERIAL_BYTES,
  type ServerIdentity,
} from './identity.ts';
import { type Network, readableBytes } from './network.ts';
import { type ConnectionId, connectionIdLength, decodeConnectionId, encodeConnectionId } from './record.ts';

// docs/protocol.md, "Handshake payloads".
export const BOOT_ID_BYTES = 8;
const GENERATION_BYTES = 6;
const SIGNING_KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
/** Stands where a server has the first byte of its serial. */
const DEVICE_MARK = 0xff;

/** A server's identity in a payload. Its binding has not been verified yet, and the Noise key comes from the handshake. */
export interface SentServer {
  readonly kind: 'server';
  readonly serial: number;
  readonly signingPublic: Uint8Array;
  readonly binding: Uint8Array;
  readonly signingKeyId: string;
  readonly serverName: string;
}

/** A device has said no more than that it is one. */
export interface SentDevice {
  readonly kind: 'device';
}

export interface SentIdentity {
  readonly bootId: Uint8Array;
  readonly identity: SentServer | SentDevice;
}

/** What only a responder says: its connection id, and whether it was opening a session to the same peer itself. */
export interface Answered {
  readonly connectionId: ConnectionId;
  readonly opening: boolean;
  /** None where the initiator is not known to negotiate, or knows them already. */
  readonly capabilities: Uint8Array;
}

/** What only an initiator says. */
export interface Confirmed {
  /** The number of the session in the order of sessions between the two, below 2^48. */
  readonly generation: number;
  readonly capabilities: Uint8Array;
}

/** What IK1 says. Who it is from is known by its static key; `check` shows whether that is still so. */
export interface Resumed extends Confirmed {
  /** The start of the digest of the initiator's identity. */
  readonly check: Uint8Array;
  readonly bootId: Uint8Array;
}

/** What IK2 says. */
export interface Accepted extends Answered {
  readonly bootId: Uint8Array;
}

const identityBytes = (identity: LocalIdentity, bootId: Uint8Array): Uint8Array => {
  if (identity.kind === 'device') return concat(bootId, Uint8Array.of(DEVICE_MARK));
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

/** What XX1 says in front of its padding. */
export const encodeProposal = ({ generation, capabilities }: Confirmed): Uint8Array =>
  concat(capabilities.subarray(0, 1), encodeSerial(generation), capabilities.subarray(1));

/** @returns undefined where there is nothing but padding */
export function decodeProposal(bytes: Uint8Array): Result<Confirmed | undefined> {
  const capabilities = capabilitiesAt(bytes, 0, 1 + GENERATION_BYTES);
  if (!capabilities.ok) return capabilities;
  if (capabilities.value.length === 0) return ok(undefined);
  if (bytes.length < 1 + GENERATION_BYTES) return bad('too short');
  return ok({ generation: decodeSerial(bytes, 1), capabilities: capabilities.value });
}

/** The payload of XX2. */
export function encodeAnswered(identity: ServerIdentity, bootId: Uint8Array, said: Answered): Uint8Array {
  const { connectionId, opening, capabilities } = said;
  return concat(
    encodeConnectionId(connectionId),
    identityBytes(identity, bootId),
    withOpening(capabilities, opening),
  );
}

/**
 * The payload of XX3.
 * @param said undefined: the responder has read it in XX1
 */
export function encodeConfirmed(
  identity: LocalIdentity,
  bootId: Uint8Array,
  said: Confirmed | undefined,
): Uint8Array {
  const own = identityBytes(identity, bootId);
  return said === undefined ? own : concat(encodeSerial(said.generation), own, said.capabilities);
}

/** The payload of IK1 without padding. */
export const encodeResumed = ({ generation, check, bootId, capabilities }: Resumed): Uint8Array =>
  concat(encodeSerial(generation), check, bootId, capabilities);

export function decodeResumed(bytes: Uint8Array): Result<Resumed> {
  const checkAt = GENERATION_BYTES;
  const bootAt = checkAt + CHECK_BYTES;
  const end = bootAt + BOOT_ID_BYTES;
  if (bytes.length < end) return bad('too short');
  const capabilities = capabilitiesAt(bytes, end);
  if (!capabilities.ok) return capabilities;
  return ok({
    generation: decodeSerial(bytes, 0),
    check: bytes.slice(checkAt, bootAt),
    bootId: bytes.slice(bootAt, end),
    capabilities: capabilities.value,
  });
}

/** The payload of IK2. */
export const encodeAccepted = (said: Accepted): Uint8Array =>
  concat(encodeConnectionId(said.connectionId), said.bootId, withOpening(said.capabilities, said.opening));

export function decodeAccepted(bytes: Uint8Array): Result<Accepted> {
  const connectionId = decodeConnectionId(bytes, 0);
  if (connectionId === undefined) return bad('too short');
  const bootAt = connectionIdLength(connectionId);
  const end = bootAt + BOOT_ID_BYTES;
  if (bytes.length < end) return bad('too short');
  const capabilities = capabilitiesAt(bytes, end);
  if (!capabilities.ok) return capabilities;
  return ok({
    connectionId,
    bootId: bytes.slice(bootAt, end),
    opening: isOpening(bytes[end]),
    capabilities: capabilities.value,
  });
}

export function decodeAnswered(
  bytes: Uint8Array,
): Result<Answered & { readonly bootId: Uint8Array; readonly identity: SentServer }> {
  const connectionId = decodeConnectionId(bytes, 0);
  if (connectionId === undefined) return bad('too short');
  const decoded = decodeIdentity(bytes, connectionIdLength(connectionId));
  if (!decoded.ok) return decoded;
  const { bootId, identity, end } = decoded.value;
  if (identity.kind === 'device') return bad('a device answers nobody');
  const capabilities = capabilitiesAt(bytes, end);
  if (!capabilities.ok) return capabilities;
  return ok({
    connectionId,
    bootId,
    identity,
    opening: isOpening(bytes[end]),
    capabilities: capabilities.value,
  });
}

/** @param proposal what XX1 has said; undefined: it is in XX3 */
export function decodeConfirmed(
  bytes: Uint8Array,
  proposal: Confirmed | undefined,
): Result<Confirmed & SentIdentity> {
  const identityAt = proposal === undefined ? GENERATION_BYTES : 0;
  if (bytes.length < identityAt) return bad('too short');
  const decoded = decodeIdentity(bytes, identityAt);
  if (!decoded.ok) return decoded;
  const { end, ...said } = decoded.value;
  if (proposal !== undefined) return ok({ ...proposal, ...said });
  const capabilities = capabilitiesAt(bytes, end);
  if (!capabilities.ok) return capabilities;
  return ok({ generation: decodeSerial(bytes, 0), capabilities: capabilities.value, ...said });
}

/** What follows at `end` are features, and what belongs to later versions. */
function decodeIdentity(bytes: Uint8Array, from: number): Result<SentIdentity & { readonly end: number }> {
  let at = from;
  const take = (length: number): Uint8Array => {
    at += length;
    return bytes.slice(at - length, at);
  };
  const bootId = take(BOOT_ID_BYTES);
  if (bytes[at] === DEVICE_MARK) return ok({ bootId, identity: { kind: 'device' }, end: at + 1 });
  const serialBytes = take(SERIAL_BYTES);
  const signingPublic = take(SIGNING_KEY_BYTES);
  const binding = take(SIGNATURE_BYTES);
  const version = take(take(1)[0] ?? 0);
  const name = take(take(1)[0] ?? 0);
  if (at > bytes.length) return bad('too short');
  const signingKeyId = keyIdOf(fromUtf8(version) ?? '');
  const serverName = fromUtf8(name) ?? '';
  if (signingKeyId === undefined || !isServerName(serverName)) return bad('not a name');
  const serial = decodeSerial(serialBytes, 0);
  return ok({
    bootId,
    identity: { kind: 'server', serial, signingPublic, binding, signingKeyId, serverName },
    end: at,
  });
}

/** Room in the longest XX2 for the parameters of one whose key version has so many bytes. */
export const roomForParameters = (keyVersionBytes: number): number => MAX_KEY_VERSION_BYTES - keyVersionBytes;

/** How long an XX2 is whose responder has a name of `nameLength` bytes; at most, where the rest is not known. */
export function longestSecond(nameLength: number, network: Network): number {
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
  return 1 + longestId + 2 * X25519_BYTES + TAG_BYTES + payload + TAG_BYTES + readableBytes(network);
}

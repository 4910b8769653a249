import { concat, fromUtf8, utf8 } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { TAG_BYTES } from '../crypto/aead.ts';
import { X25519_BYTES } from '../crypto/x25519.ts';
import { capabilitiesAt, flagsOf, NO_CAPABILITIES, withFlags } from './agreement.ts';
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
  SERIAL_MARK,
  type ServerIdentity,
} from './identity.ts';
import { type Network, readableBytes } from './network.ts';
import { type ConnectionId, connectionIdLength, decodeConnectionId, encodeConnectionId } from './record.ts';
import { decodeVarint, encodeVarint } from './varint.ts';

// docs/protocol.md, "Handshake payloads".
export const BOOT_ID_BYTES = 8;
const GENERATION_BYTES = 6;
const SIGNING_KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
/** Stands where a server has the first byte of its serial. */
const DEVICE_MARK = 0xff;
/** In the byte behind the zero byte that ends the name in XX3: nothing follows that would be answered. */
const NOTHING_FOLLOWS = 0x01;
/** In a serial's first byte, of XX2: the name is the one that was called. */
const NAME_LEFT_OUT = 0x80;

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
  /** A message with a compact header, of the number EARLY_NUMBER. Only where no capabilities are said. */
  readonly early?: Uint8Array | undefined;
}

/** What IK2 says. */
export interface Accepted extends Answered {
  readonly bootId: Uint8Array;
  /** The early data of the IK1 was taken. */
  readonly early?: boolean;
}

/**
 * Where the name of a server's identity is. `called`: its receiver has called it by that name, and it is left out. `last`: nothing
 * stands behind it but a zero byte and what belongs to later versions, so that it needs no length.
 */
type NamePlace = 'within' | 'called' | 'last';

function identityBytes(identity: LocalIdentity, bootId: Uint8Array, place: NamePlace): Uint8Array {
  if (identity.kind === 'device') return concat(bootId, Uint8Array.of(DEVICE_MARK));
  const version = utf8(keyVersionOf(identity.signingKeyId)!);
  const name = utf8(identity.serverName);
  return concat(
    bootId,
    encodeSerial(identity.serial + (place === 'called' ? SERIAL_MARK : 0)),
    identity.signingPublic,
    identity.binding,
    Uint8Array.of(version.length),
    version,
    ...(place === 'within' ? [Uint8Array.of(name.length)] : []),
    ...(place === 'called' ? [] : [name]),
  );
}

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

/**
 * The payload of XX2.
 * @param isNegotiated XX1 has told capabilities: so the initiator knows that a name may be left out
 */
export function encodeAnswered(
  identity: ServerIdentity,
  bootId: Uint8Array,
  said: Answered,
  isNegotiated = false,
): Uint8Array {
  const { connectionId, opening, capabilities } = said;
  return concat(
    encodeConnectionId(connectionId),
    identityBytes(identity, bootId, isNegotiated ? 'called' : 'within'),
    withFlags(capabilities, { opening }),
  );
}

/**
 * The payload of XX3.
 * @param said undefined: the responder has read it in XX1
 * @param isAll nothing follows it at once: the responder answers, as it would answer that
 */
export function encodeConfirmed(
  identity: LocalIdentity,
  bootId: Uint8Array,
  said: Confirmed | undefined,
  isAll = false,
): Uint8Array {
  const end = isAll && identity.kind === 'server' ? Uint8Array.of(0, NOTHING_FOLLOWS) : new Uint8Array();
  if (said === undefined) return concat(identityBytes(identity, bootId, 'last'), end);
  return concat(encodeSerial(said.generation), identityBytes(identity, bootId, 'within'), said.capabilities);
}

/** The payload of IK1 without padding. */
export const encodeResumed = ({ generation, check, bootId, capabilities, early }: Resumed): Uint8Array =>
  concat(
    encodeSerial(generation),
    check,
    bootId,
    early === undefined
      ? capabilities
      : concat(withFlags(NO_CAPABILITIES, { early: true }), encodeVarint(early.length), early),
  );

/** How long the payload of an IK1 is that has nothing but early data of so many bytes behind the boot id. */
export const resumedLength = (earlyBytes: number): number =>
  GENERATION_BYTES + CHECK_BYTES + BOOT_ID_BYTES + 1 + encodeVarint(earlyBytes).length + earlyBytes;

/** What is there is discarded where it is cut off, and the handshake goes on. */
function earlyAt(bytes: Uint8Array, at: number, capabilities: Uint8Array): Uint8Array | undefined {
  if (capabilities.length > 0 || !flagsOf(bytes[at]).early) return undefined;
  const length = decodeVarint(bytes, at + 1, bytes.length);
  if (length === undefined || length.end + length.value > bytes.length) return undefined;
  return bytes.slice(length.end, length.end + length.value);
}

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
    early: earlyAt(bytes, end, capabilities.value),
  });
}

/** The payload of IK2. */
export const encodeAccepted = (said: Accepted): Uint8Array =>
  concat(encodeConnectionId(said.connectionId), said.bootId, withFlags(said.capabilities, said));

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
    ...flagsOf(bytes[end]),
    capabilities: capabilities.value,
  });
}

/** @param called the name that the initiator has called the responder by */
export function decodeAnswered(
  bytes: Uint8Array,
  called: string,
): Result<Answered & { readonly bootId: Uint8Array; readonly identity: SentServer }> {
  const connectionId = decodeConnectionId(bytes, 0);
  if (connectionId === undefined) return bad('too short');
  const identityAt = connectionIdLength(connectionId);
  const isCalled = ((bytes[identityAt + BOOT_ID_BYTES] ?? 0) & NAME_LEFT_OUT) !== 0;
  const decoded = decodeIdentity(bytes, identityAt, isCalled ? 'called' : 'within', called);
  if (!decoded.ok) return decoded;
  const { bootId, identity, end } = decoded.value;
  if (identity.kind === 'device') return bad('a device answers nobody');
  const capabilities = capabilitiesAt(bytes, end);
  if (!capabilities.ok) return capabilities;
  return ok({
    connectionId,
    bootId,
    identity,
    opening: flagsOf(bytes[end]).opening,
    capabilities: capabilities.value,
  });
}

/** @param proposal what XX1 has said; undefined: it is in XX3 */
export function decodeConfirmed(
  bytes: Uint8Array,
  proposal: Confirmed | undefined,
): Result<Confirmed & SentIdentity & { readonly isAll?: boolean }> {
  const identityAt = proposal === undefined ? GENERATION_BYTES : 0;
  if (bytes.length < identityAt) return bad('too short');
  const decoded = decodeIdentity(bytes, identityAt, proposal === undefined ? 'within' : 'last');
  if (!decoded.ok) return decoded;
  const { end, ...said } = decoded.value;
  const isAll = bytes[end] === 0 && ((bytes[end + 1] ?? 0) & NOTHING_FOLLOWS) !== 0;
  if (proposal !== undefined) return ok({ ...proposal, ...said, ...(isAll && { isAll }) });
  const capabilities = capabilitiesAt(bytes, end);
  if (!capabilities.ok) return capabilities;
  return ok({ generation: decodeSerial(bytes, 0), capabilities: capabilities.value, ...said });
}

/** What follows at `end` are features, and what belongs to later versions. */
function decodeIdentity(
  bytes: Uint8Array,
  from: number,
  place: NamePlace,
  called = '',
): Result<SentIdentity & { readonly end: number }> {
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
  let serverName = called;
  if (place !== 'called') {
    const zeroAt = bytes.indexOf(0, at);
    const toEnd = (zeroAt < 0 ? bytes.length : zeroAt) - at;
    serverName = fromUtf8(take(place === 'last' ? Math.max(0, toEnd) : (take(1)[0] ?? 0))) ?? '';
  }
  if (at > bytes.length) return bad('too short');
  const signingKeyId = keyIdOf(fromUtf8(version) ?? '');
  if (signingKeyId === undefined || !isServerName(serverName)) return bad('not a name');
  const serial = decodeSerial(serialBytes, 0) - (place === 'called' ? SERIAL_MARK : 0);
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

// The payloads as they were before sides negotiated; it is not to be changed.
import { concat, fromUtf8, utf8 } from '../../../src/base/bytes.ts';
import { bad, ok, type Result } from '../../../src/base/result.ts';
import {
  CHECK_BYTES,
  encodeSerial,
  isServerName,
  keyIdOf,
  keyVersionOf,
  SERIAL_BYTES,
  type ServerIdentity,
} from '../../../src/pipe/identity.ts';
import {
  type ConnectionId,
  connectionIdLength,
  decodeConnectionId,
  encodeConnectionId,
} from '../../../src/pipe/record.ts';

// docs/protocol.md, "Handshake payloads".
export const BOOT_ID_BYTES = 8;
const GENERATION_BYTES = 6;
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

/** What only a responder says: its connection id, and whether it was opening a session to the same peer itself. */
export interface Answered {
  readonly connectionId: ConnectionId;
  readonly opening: boolean;
}

/** What only an initiator says: the number of the session in the order of sessions between the two, below 2^48. */
export interface Confirmed {
  readonly generation: number;
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

/** Flags stand at the end and are left out where there are none. */
const encodeFlags = ({ opening }: Answered): Uint8Array =>
  opening ? Uint8Array.of(FLAG_OPENING) : new Uint8Array(0);

const isOpening = (bytes: Uint8Array, at: number): boolean => ((bytes[at] ?? 0) & FLAG_OPENING) !== 0;

/** The payload of XX2. */
export function encodeAnswered(identity: ServerIdentity, bootId: Uint8Array, said: Answered): Uint8Array {
  return concat(encodeConnectionId(said.connectionId), identityBytes(identity, bootId), encodeFlags(said));
}

/** The payload of XX3. */
export function encodeConfirmed(identity: ServerIdentity, bootId: Uint8Array, said: Confirmed): Uint8Array {
  return concat(encodeSerial(said.generation), identityBytes(identity, bootId));
}

/** The payload of IK1 without padding. */
export const encodeResumed = ({ generation, check, bootId }: Resumed): Uint8Array =>
  concat(encodeSerial(generation), check, bootId);

export function decodeResumed(bytes: Uint8Array): Result<Resumed> {
  const checkAt = GENERATION_BYTES;
  const bootAt = checkAt + CHECK_BYTES;
  const end = bootAt + BOOT_ID_BYTES;
  if (bytes.length < end) return bad('too short');
  return ok({
    generation: decodeSerial(bytes, 0),
    check: bytes.slice(checkAt, bootAt),
    bootId: bytes.slice(bootAt, end),
  });
}

/** The payload of IK2. */
export const encodeAccepted = (said: Accepted): Uint8Array =>
  concat(encodeConnectionId(said.connectionId), said.bootId, encodeFlags(said));

export function decodeAccepted(bytes: Uint8Array): Result<Accepted> {
  const connectionId = decodeConnectionId(bytes, 0);
  if (connectionId === undefined) return bad('too short');
  const bootAt = connectionIdLength(connectionId);
  const end = bootAt + BOOT_ID_BYTES;
  if (bytes.length < end) return bad('too short');
  return ok({ connectionId, bootId: bytes.slice(bootAt, end), opening: isOpening(bytes, end) });
}

export function decodeAnswered(bytes: Uint8Array): Result<Answered & SentIdentity> {
  const connectionId = decodeConnectionId(bytes, 0);
  if (connectionId === undefined) return bad('too short');
  const identity = decodeIdentity(bytes, connectionIdLength(connectionId));
  if (!identity.ok) return identity;
  return ok({ connectionId, opening: isOpening(bytes, identity.value.end), ...identity.value.said });
}

export function decodeConfirmed(bytes: Uint8Array): Result<Confirmed & SentIdentity> {
  if (bytes.length < GENERATION_BYTES) return bad('too short');
  const generation = decodeSerial(bytes, 0);
  const identity = decodeIdentity(bytes, GENERATION_BYTES);
  return identity.ok ? ok({ generation, ...identity.value.said }) : identity;
}

/** What follows at `end` are flags, and what belongs to later versions. */
function decodeIdentity(bytes: Uint8Array, from: number): Result<{ said: SentIdentity; end: number }> {
  let at = from;
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
  if (at > bytes.length) return bad('too short');
  const signingKeyId = keyIdOf(fromUtf8(version) ?? '');
  const serverName = fromUtf8(name) ?? '';
  if (signingKeyId === undefined || !isServerName(serverName)) return bad('not a name');
  const serial = decodeSerial(serialBytes, 0);
  return ok({ said: { bootId, serial, signingPublic, binding, signingKeyId, serverName }, end: at });
}

/** A number of six bytes. */
function decodeSerial(bytes: Uint8Array, at: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  return view.getUint16(0) * 2 ** 32 + view.getUint32(2);
}

import { assert } from '../base/assert.ts';
import { concat, hex, utf8 } from '../base/bytes.ts';
import { publicKeyOf, sign, verify } from '../crypto/ed25519.ts';
import { sha256 } from '../crypto/sha256.ts';
import { keyPairOf } from '../crypto/x25519.ts';

// docs/protocol.md, "Identity".
const CONTEXT = utf8('ravine pipe identity 1\0');
export const SERIAL_BYTES = 6;
/** How much of an identity's digest goes into IK1. */
export const CHECK_BYTES = 6;
export const MAX_KEY_VERSION_BYTES = 32;
const ALGORITHM = 'ed25519:';
const SERVER_NAME = /^[\x21-\x7e]{1,255}$/;
/** The names of peers that are devices; no server has such a one. */
const DEVICE_NAME = /^device:([0-9a-f]{64})$/;
/** Its highest bit is free for a mark, and it never begins with what stands there in a device's identity. */
export const SERIAL_MARK = 2 ** 47;
const MAX_SERIAL = 0x7f_00_00_00_00_00 - 1;
const NOTHING = new Uint8Array(0);
const KEY_VERSION = /^[A-Za-z0-9_]{1,32}$/;

/**
 * Who a server says it is. The Noise handshake has proved that it holds the secret of `noisePublic`, and `signingPublic`
 * has signed that this key is `serverName`'s. Whether `signingPublic` is that server's is the driver's decision.
 */
export interface ServerClaim {
  readonly kind: 'server';
  readonly serverName: string;
  readonly noisePublic: Uint8Array;
  /** `ed25519:` and a version of 1 to 32 letters, digits and underscores. */
  readonly signingKeyId: string;
  readonly signingPublic: Uint8Array;
  /** Grows with each new Noise key under one signing key; below 127 * 2^40. */
  readonly serial: number;
}

/** A client: a key whose secret it holds, and nothing else. Whose it is, the layers above know from a login. */
export interface DeviceClaim {
  readonly kind: 'device';
  readonly noisePublic: Uint8Array;
}

export type IdentityClaim = ServerClaim | DeviceClaim;

/** Who this server is, with the secret that proves it. */
export interface ServerIdentity extends ServerClaim {
  /** 32 bytes. */
  readonly noiseSecret: Uint8Array;
  /** 64 bytes: the signing key's signature that binds the Noise key to the name. */
  readonly binding: Uint8Array;
}

/** A client's own key. */
export interface DeviceIdentity extends DeviceClaim {
  /** 32 bytes. */
  readonly noiseSecret: Uint8Array;
}

export type LocalIdentity = ServerIdentity | DeviceIdentity;

/** The name of a peer at a pipe: a server's own, or `device:` and the key of a device in 64 hexadecimal digits. */
export const nameOf = (claim: IdentityClaim): string =>
  claim.kind === 'server' ? claim.serverName : `device:${hex(claim.noisePublic)}`;

/** The 64 hexadecimal digits in a device's name; undefined: it is a server's name. */
export const deviceKeyOf = (name: string): string | undefined => DEVICE_NAME.exec(name)?.[1];

export const isServerName = (name: string): boolean =>
  SERVER_NAME.test(name) && deviceKeyOf(name) === undefined;

/** The part of a signing key id that is sent, or undefined where it is not an id that this version can send. */
export function keyVersionOf(signingKeyId: string): string | undefined {
  const version = signingKeyId.slice(ALGORITHM.length);
  return signingKeyId.startsWith(ALGORITHM) && KEY_VERSION.test(version) ? version : undefined;
}

export const keyIdOf = (version: string): string | undefined =>
  KEY_VERSION.test(version) ? `${ALGORITHM}${version}` : undefined;

/** An integer below 2^48, big-endian. */
export function encodeSerial(serial: number): Uint8Array {
  const bytes = new Uint8Array(SERIAL_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, Math.floor(serial / 2 ** 32));
  view.setUint32(2, serial % 2 ** 32);
  return bytes;
}

/** The integer of six bytes at `at`. */
export function decodeSerial(bytes: Uint8Array, at: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  return view.getUint16(0) * 2 ** 32 + view.getUint32(2);
}

const withLength = (text: string): Uint8Array => {
  const bytes = utf8(text);
  return concat(Uint8Array.of(bytes.length), bytes);
};

function signedBytes(claim: Omit<ServerClaim, 'kind' | 'signingPublic'>): Uint8Array {
  return concat(
    CONTEXT,
    withLength(claim.serverName),
    withLength(claim.signingKeyId),
    claim.noisePublic,
    encodeSerial(claim.serial),
  );
}

/** Binds a Noise key to a server name with the server's signing key. The arguments are this server's own. */
export function createIdentity(options: {
  readonly serverName: string;
  readonly noiseSecret: Uint8Array;
  readonly signingKeyId: string;
  /** The 32-byte seed of the ed25519 key. */
  readonly signingSecret: Uint8Array;
  readonly serial: number;
}): ServerIdentity {
  const { serverName, noiseSecret, signingKeyId, signingSecret, serial } = options;
  assert(isServerName(serverName), 'a server name is 1 to 255 printable ASCII characters');
  assert(
    keyVersionOf(signingKeyId) !== undefined,
    'a signing key id is ed25519: and 1 to 32 of [A-Za-z0-9_]',
  );
  assert(Number.isSafeInteger(serial) && serial >= 0 && serial <= MAX_SERIAL, 'a serial is below 127 * 2^40');
  const noisePublic = keyPairOf(noiseSecret).public;
  const signingPublic = publicKeyOf(signingSecret);
  const binding = sign(signingSecret, signedBytes({ serverName, noisePublic, signingKeyId, serial }));
  return {
    kind: 'server',
    serverName,
    noiseSecret,
    noisePublic,
    signingKeyId,
    signingPublic,
    binding,
    serial,
  };
}

/** @param noiseSecret 32 random bytes that the device keeps */
export const createDeviceIdentity = (noiseSecret: Uint8Array): DeviceIdentity => ({
  kind: 'device',
  noiseSecret,
  noisePublic: keyPairOf(noiseSecret).public,
});

/**
 * The digest of all that an identity says: where both sides have the same one, it need not be sent again.
 * @param capabilities what the side has said besides, if that need not be sent again either
 * @returns 32 bytes
 */
export function identityDigest(claim: IdentityClaim, capabilities: Uint8Array = NOTHING): Uint8Array {
  const identity =
    claim.kind === 'server'
      ? sha256(concat(signedBytes(claim), claim.signingPublic))
      : sha256(concat(CONTEXT, withLength(''), claim.noisePublic));
  return capabilities.length === 0 ? identity : sha256(concat(identity, capabilities));
}

/** Whether `binding` is the claimed signing key's signature over the rest of the claim. */
export function isBound(claim: ServerClaim, binding: Uint8Array): boolean {
  return verify(claim.signingPublic, signedBytes(claim), binding);
}

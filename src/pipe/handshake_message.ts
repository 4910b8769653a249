import { concat, equal } from '../base/bytes.ts';
import type { Random } from '../base/random.ts';
import { bad, ok, type Result } from '../base/result.ts';
import { TAG_BYTES } from '../crypto/aead.ts';
import { sha256 } from '../crypto/sha256.ts';
import { generateKeyPair, type KeyPair, X25519_BYTES } from '../crypto/x25519.ts';
import { type HandshakeOptions, HandshakeState, type NoiseProblem } from '../noise/handshake_state.ts';
import { IK, type Role, withPsk, XX, XXfallback } from '../noise/pattern.ts';
import type { LocalIdentity } from './identity.ts';
import { DIGEST_BYTES, LENGTH_BYTES, type Network } from './network.ts';
import { prologue, SUITE } from './prologue.ts';

// docs/protocol.md, "Handshake" and "Modes".
const PATTERNS = {
  open: { XX, IK, XXfallback },
  closed: { XX: withPsk(XX, 3), IK: withPsk(IK, 2), XXfallback: withPsk(XXfallback, 2) },
} as const;

/** What a side brings into every handshake. */
export interface Party {
  readonly identity: LocalIdentity;
  readonly random: Random;
  readonly network: Network;
  /** What it says of itself. */
  readonly capabilities: Uint8Array;
}

/** Noise's state for one handshake of this protocol. */
export function createHandshake(
  pattern: keyof typeof PATTERNS.open,
  role: Role,
  { identity, random, network }: Party,
  options: {
    readonly header: Uint8Array;
    /** See `prologue`. */
    readonly digest?: Uint8Array;
    readonly generate?: () => KeyPair;
  } & Pick<HandshakeOptions, 'ephemeral' | 'remoteStatic' | 'remoteEphemeral'>,
): HandshakeState {
  const { header, digest, ...rest } = options;
  return new HandshakeState({
    pattern: PATTERNS[network.psk === undefined ? 'open' : 'closed'][pattern],
    suite: SUITE,
    role,
    prologue: prologue(header, network, digest),
    static: { secret: identity.noiseSecret, public: identity.noisePublic },
    generate: () => generateKeyPair(random),
    ...(network.psk === undefined ? {} : { psks: [network.psk] }),
    ...rest,
  });
}

/** The length of a first message that says nothing. */
export const emptyFirstLength = (pattern: 'XX' | 'IK', network: Network): number =>
  X25519_BYTES +
  (pattern === 'IK' ? X25519_BYTES + 2 * TAG_BYTES : network.psk === undefined ? 0 : TAG_BYTES) +
  (network.mode === 'encrypted' ? 0 : LENGTH_BYTES + network.station.length + DIGEST_BYTES);

/** The next message of a handshake, which says `payload`: sealed, or readable with its digest sealed. */
export function writeMessage(handshake: HandshakeState, payload: Uint8Array, network: Network): Uint8Array {
  if (network.mode === 'encrypted') {
    const message = handshake.writeMessage(payload);
    network.keyLog?.handshake(message, payload);
    return message;
  }
  const readable = concat(network.station, payload);
  const length = Uint8Array.of(readable.length >> 8, readable.length & 0xff);
  return concat(length, readable, handshake.writeMessage(sha256(readable)));
}

/** What the peer's next message says. To be read on a fork: the state of a readable one that was changed is of no use. */
export function readMessage(
  handshake: HandshakeState,
  message: Uint8Array,
  network: Network,
): Result<Uint8Array, NoiseProblem> {
  if (network.mode === 'encrypted') {
    const payload = handshake.readMessage(message);
    if (payload.ok) network.keyLog?.handshake(message, payload.value);
    return payload;
  }
  const parts = partMessage(message);
  if (parts === undefined) return bad('too_short');
  const digest = handshake.readMessage(parts.noise);
  if (!digest.ok) return digest;
  if (!equal(digest.value, sha256(parts.readable))) return bad('forged');
  const stationEnd = 1 + (parts.readable[0] ?? 0);
  return stationEnd > parts.readable.length ? bad('too_short') : ok(parts.readable.slice(stationEnd));
}

/** The ephemeral key at the start of a message that has one. */
export function ephemeralOf(message: Uint8Array, network: Network): Uint8Array | undefined {
  const noise = network.mode === 'encrypted' ? message : partMessage(message)?.noise;
  return noise === undefined || noise.length < X25519_BYTES ? undefined : noise.slice(0, X25519_BYTES);
}

function partMessage(message: Uint8Array): { readable: Uint8Array; noise: Uint8Array } | undefined {
  if (message.length < LENGTH_BYTES) return undefined;
  const end = LENGTH_BYTES + message[0]! * 256 + message[1]!;
  if (end > message.length) return undefined;
  return { readable: message.slice(LENGTH_BYTES, end), noise: message.slice(end) };
}

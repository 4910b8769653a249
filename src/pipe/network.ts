import { assert } from '../base/assert.ts';
import { concat, utf8 } from '../base/bytes.ts';
import { sha256 } from '../crypto/sha256.ts';
import type { KeyLog } from './key_log.ts';

// docs/protocol.md, "Modes".
export const PSK_BYTES = 32;
const FLAG_PSK = 0x01;
const FLAG_READABLE = 0x02;
const NETWORK_BYTES = 8;
const STATION = /^[\x21-\x7e]{1,16}$/;
const MAX_STATION_BYTES = 16;
/** Of a readable handshake message: the length of what is readable, and its digest, which Noise carries. */
export const LENGTH_BYTES = 2;
export const DIGEST_BYTES = 32;

/**
 * `authenticated-only` is for amateur radio, where encryption is not allowed: everything is readable by everybody, and
 * nobody can change it.
 */
export type PipeMode = 'encrypted' | 'authenticated-only';

/** What both ends have to be configured with alike, but for the station and the log. It is in the prologue and never negotiated. */
export interface NetworkConfig {
  readonly mode: PipeMode;
  /** 32 bytes that all servers of a closed network have; who has not got them finishes no handshake. */
  readonly psk?: Uint8Array;
  /** Of `authenticated-only`: who transmits, 1 to 16 printable ASCII characters; in clear in every record. */
  readonly station?: string;
  /** Left out: no key is told to anybody. */
  readonly keyLog?: KeyLog;
}

export const OPEN_NETWORK: NetworkConfig = { mode: 'encrypted' };

/** A network configuration in the forms in which it is used. */
export interface Network {
  readonly mode: PipeMode;
  readonly psk: Uint8Array | undefined;
  /** In the prologue. */
  readonly flags: number;
  /** In front of what is readable: its length and the station; empty where everything is encrypted. */
  readonly station: Uint8Array;
  /** Tells apart the sessions of different networks; a secret is not found out from it. */
  readonly digest: Uint8Array;
  readonly keyLog: KeyLog | undefined;
}

/** @throws an assertion where the configuration is none; whoever reads it from a file has checked it. */
export function networkOf({ mode, psk, station, keyLog }: NetworkConfig): Network {
  const isReadable = mode === 'authenticated-only';
  assert(psk === undefined || psk.length === PSK_BYTES, 'a pre-shared key has 32 bytes');
  assert(!isReadable || STATION.test(station ?? ''), 'a station is 1 to 16 printable ASCII characters');
  const flags = (psk === undefined ? 0 : FLAG_PSK) | (isReadable ? FLAG_READABLE : 0);
  const name = utf8(isReadable ? station! : '');
  return {
    mode,
    psk,
    flags,
    keyLog,
    station: isReadable ? concat(Uint8Array.of(name.length), name) : name,
    digest: sha256(
      concat(utf8('ravine pipe network\0'), Uint8Array.of(flags), psk ?? name.subarray(0, 0)),
    ).slice(0, NETWORK_BYTES),
  };
}

/** Bytes that a readable handshake message takes at most besides its ordinary ones. */
export const readableBytes = ({ mode }: Network): number =>
  mode === 'encrypted' ? 0 : LENGTH_BYTES + 1 + MAX_STATION_BYTES + DIGEST_BYTES;

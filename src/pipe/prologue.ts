import { concat, utf8 } from '../base/bytes.ts';
import { suite } from '../noise/suite.ts';
import type { Network } from './network.ts';

// docs/protocol.md, "Prologue".
const NAME = utf8('ravine pipe 1');

export const SUITE = suite('ChaChaPoly', 'SHA256');

/**
 * What both sides of a handshake hash before its first message.
 * @param header the clear start of the first message; refused versions are in it
 * @param digest of IK the SHA-256 of the responder's identity, of XXfallback that of the refused IK1
 */
export const prologue = (header: Uint8Array, { flags }: Network, digest?: Uint8Array): Uint8Array =>
  concat(NAME, header, Uint8Array.of(flags), digest ?? new Uint8Array(0));

import type { Random } from '../../src/base/random.ts';
import type { PipeSessionRow } from '../../src/storage/pipe_sessions.ts';

/** A session as it is kept, with keys and names thrown. */
export const pipeSession = (
  random: Random,
  local: number,
  changes: Partial<PipeSessionRow> = {},
): PipeSessionRow => ({
  local,
  remote: 0xffff_ffff,
  initiator: local % 2 === 0,
  generation: 2 ** 48 - 1,
  claim: {
    kind: 'server',
    serverName: 'b.example',
    noisePublic: random.bytes(32),
    signingKeyId: 'ed25519:1',
    signingPublic: random.bytes(32),
    serial: 2 ** 48 - 1,
  },
  said: { own: random.bytes(1), peer: random.bytes(9) },
  peerBoot: random.bytes(8),
  network: random.bytes(8),
  address: '[::1]:5683',
  createdAt: 1_700_000_000_000,
  savedAt: 1_700_000_000_001,
  send: { epoch: 2 ** 38 - 1, secret: random.bytes(32) },
  ceiling: 2 ** 48,
  receive: { epoch: 0, secret: random.bytes(32) },
  highest: -1,
  ownSalts: [random.bytes(8), random.bytes(8)],
  peerSalt: random.bytes(8),
  ...changes,
});

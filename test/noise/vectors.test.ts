import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it, test } from 'vitest';
import { fromHex, hex } from '../../src/base/bytes.ts';
import { keyPairOf } from '../../src/crypto/x25519.ts';
import { HandshakeState } from '../../src/noise/handshake_state.ts';
import { IK, type Pattern, type Role, XX } from '../../src/noise/pattern.ts';
import { suite } from '../../src/noise/suite.ts';
import kept from './vectors.json' with { type: 'json' };

interface Vector {
  protocol_name: string;
  handshake_hash?: string;
  messages: { payload: string; ciphertext: string }[];
  [key: string]: unknown;
}

const PATTERNS: Record<string, Pattern> = { XX, IK };
const NAME = /^Noise_(XX|IK)_25519_(ChaChaPoly|AESGCM)_(SHA256|SHA512|BLAKE2s|BLAKE2b)$/;

function side(vector: Vector, role: Role): HandshakeState {
  const [, pattern, cipher, hash] = NAME.exec(vector.protocol_name)!;
  const prefix = role === 'initiator' ? 'init' : 'resp';
  const bytes = (name: string): Uint8Array | undefined =>
    typeof vector[`${prefix}_${name}`] === 'string'
      ? fromHex(vector[`${prefix}_${name}`] as string)
      : undefined;
  const remoteStatic = bytes('remote_static');
  return new HandshakeState({
    pattern: PATTERNS[pattern!]!,
    suite: suite(cipher as 'ChaChaPoly', hash as 'SHA256'),
    role,
    prologue: bytes('prologue')!,
    static: keyPairOf(bytes('static')!),
    generate: () => keyPairOf(bytes('ephemeral')!),
    ...(remoteStatic ? { remoteStatic } : {}),
  });
}

/** Plays a vector from both sides, transport messages included. */
function play(vector: Vector): void {
  const initiator = side(vector, 'initiator');
  const responder = side(vector, 'responder');
  let transport: ReturnType<HandshakeState['split']>[] | undefined;
  vector.messages.forEach(({ payload, ciphertext }, index) => {
    const [from, to] = index % 2 === 0 ? [0, 1] : [1, 0];
    const sides = [initiator, responder];
    if (!initiator.finished) {
      expect(hex(sides[from]!.writeMessage(fromHex(payload)!))).toBe(ciphertext);
      const read = sides[to]!.readMessage(fromHex(ciphertext)!);
      expect(read.ok && hex(read.value)).toBe(payload);
      return;
    }
    transport ??= [initiator.split(), responder.split()];
    const none = new Uint8Array(0);
    expect(hex(transport[from]!.send.encryptWithAd(none, fromHex(payload)!))).toBe(ciphertext);
    expect(hex(transport[to]!.receive.decryptWithAd(none, fromHex(ciphertext)!)!)).toBe(payload);
  });
  expect(responder.finished).toBe(true);
  expect(hex(initiator.handshakeHash)).toBe(hex(responder.handshakeHash));
  if (vector.handshake_hash !== undefined) expect(hex(initiator.handshakeHash)).toBe(vector.handshake_hash);
}

describe('the vectors kept in the project', () => {
  it.each(kept.vectors as Vector[])('$protocol_name', play);
});

const SHARED = '../shared/vectors/noise';

describe.each(['cacophony.txt', 'snow.txt'])('all XX and IK vectors for 25519 of %s', (file) => {
  const there = existsSync(`${SHARED}/${file}`);
  test.skipIf(!there)(`pass (skipped where ${SHARED}/${file} is absent)`, () => {
    const { vectors } = JSON.parse(readFileSync(`${SHARED}/${file}`, 'utf8')) as { vectors: Vector[] };
    const relevant = vectors.filter(({ protocol_name }) => NAME.test(protocol_name));
    expect(relevant).toHaveLength(16);
    relevant.forEach(play);
  });
});

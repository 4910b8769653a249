import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it, test } from 'vitest';
import { fromHex, hex } from '../../src/base/bytes.ts';
import { keyPairOf } from '../../src/crypto/x25519.ts';
import { HandshakeState } from '../../src/noise/handshake_state.ts';
import { IK, type Pattern, type Role, withPsk, XX, XXfallback } from '../../src/noise/pattern.ts';
import { suite } from '../../src/noise/suite.ts';
import kept from './vectors.json' with { type: 'json' };

interface Vector {
  protocol_name: string;
  handshake_hash?: string;
  messages: { payload: string; ciphertext: string }[];
  [key: string]: unknown;
}

const NAME = /^Noise_(XX|IK)((?:\+?psk\d)*)_25519_(ChaChaPoly|AESGCM)_(SHA256|SHA512|BLAKE2s|BLAKE2b)$/;

function patternOf(name: string): Pattern {
  const [, base, modifiers] = NAME.exec(name)!;
  const pattern = base === 'XX' ? XX : IK;
  const places = modifiers!.match(/\d/g) ?? [];
  return places.length === 0 ? pattern : withPsk(pattern, ...places.map(Number));
}

const suiteOf = (name: string) => {
  const [cipher, hash] = name.split('_').slice(-2);
  return suite(cipher as 'ChaChaPoly', hash as 'SHA256');
};

function side(vector: Vector, role: Role): HandshakeState {
  const prefix = role === 'initiator' ? 'init' : 'resp';
  const bytes = (name: string): Uint8Array | undefined =>
    typeof vector[`${prefix}_${name}`] === 'string'
      ? fromHex(vector[`${prefix}_${name}`] as string)
      : undefined;
  const remoteStatic = bytes('remote_static');
  return new HandshakeState({
    pattern: patternOf(vector.protocol_name),
    suite: suiteOf(vector.protocol_name),
    role,
    prologue: bytes('prologue')!,
    static: keyPairOf(bytes('static')!),
    generate: () => keyPairOf(bytes('ephemeral')!),
    ...(remoteStatic ? { remoteStatic } : {}),
    psks: ((vector[`${prefix}_psks`] as string[] | undefined) ?? []).map((psk) => fromHex(psk)!),
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

describe.each([
  // For 25519, eight of each pattern: XX, IK, XXpsk3, IKpsk1, IKpsk2.
  ['cacophony.txt', 40],
  // XX, IK, four of XX with several keys, IKpsk0+psk2.
  ['snow.txt', 56],
])('all vectors of %s for XX and IK with 25519, with and without pre-shared keys', (file, count) => {
  const there = existsSync(`${SHARED}/${file}`);
  test.skipIf(!there)(`pass (skipped where ${SHARED}/${file} is absent)`, () => {
    const { vectors } = JSON.parse(readFileSync(`${SHARED}/${file}`, 'utf8')) as { vectors: Vector[] };
    const relevant = vectors.filter(({ protocol_name }) => NAME.test(protocol_name));
    expect(relevant).toHaveLength(count);
    relevant.forEach(play);
  });
});

/**
 * IK whose responder has another key than the initiator thinks, then XXfallback. The vectors are of an older revision,
 * in which the responder became the initiator: so the two keys of `split` change places.
 */
function playFallback(vector: Vector & { name: string }): void {
  const bytes = (name: string): Uint8Array => fromHex(vector[name] as string)!;
  const common = { suite: suiteOf(vector.name), prologue: bytes('init_prologue') };
  const [initiatorStatic, responderStatic] = [
    keyPairOf(bytes('init_static')),
    keyPairOf(bytes('resp_static')),
  ];
  const ephemeral = keyPairOf(bytes('init_ephemeral'));
  const generate = (): never => {
    throw new Error('the ephemeral key is the one of IK');
  };
  const [first, ...messages] = vector.messages.map(({ payload, ciphertext }) => ({
    payload: fromHex(payload)!,
    ciphertext: fromHex(ciphertext)!,
  }));
  const ik = new HandshakeState({
    ...common,
    pattern: IK,
    role: 'initiator',
    static: initiatorStatic,
    remoteStatic: bytes('init_remote_static'),
    generate: () => ephemeral,
  });
  expect(ik.writeMessage(first!.payload)).toEqual(first!.ciphertext);
  const unable = new HandshakeState({
    ...common,
    pattern: IK,
    role: 'responder',
    static: responderStatic,
    generate,
  });
  expect(unable.readMessage(first!.ciphertext)).toEqual({ ok: false, problem: 'forged' });

  const initiator = new HandshakeState({
    ...common,
    pattern: XXfallback,
    role: 'initiator',
    static: initiatorStatic,
    ephemeral,
    generate,
  });
  const responder = new HandshakeState({
    ...common,
    pattern: XXfallback,
    role: 'responder',
    static: responderStatic,
    remoteEphemeral: first!.ciphertext.slice(0, 32),
    generate: () => keyPairOf(bytes('resp_ephemeral')),
  });
  const none = new Uint8Array(0);
  const keys: ReturnType<HandshakeState['split']>[] = [];
  messages.forEach(({ payload, ciphertext }, index) => {
    const sides = [responder, initiator];
    const [from, to] = index % 2 === 0 ? [0, 1] : [1, 0];
    if (index < 2) {
      expect(sides[from]!.writeMessage(payload)).toEqual(ciphertext);
      expect(sides[to]!.readMessage(ciphertext)).toEqual({ ok: true, value: payload });
      return;
    }
    if (index === 2) keys.push(responder.split(), initiator.split());
    // In revision 34 the initiator sends with the first key, in these vectors the responder does.
    expect(keys[from]!.receive.encryptWithAd(none, payload)).toEqual(ciphertext);
    expect(keys[to]!.send.decryptWithAd(none, ciphertext)).toEqual(payload);
  });
  expect(hex(initiator.handshakeHash)).toBe(vector.handshake_hash);
}

describe('XXfallback', () => {
  it('goes on from an IK message that could not be read', () => {
    playFallback(kept.fallback as unknown as Vector & { name: string });
  });

  const file = `${SHARED}/noise-c-fallback.txt`;
  test.skipIf(!existsSync(file))(
    `passes all of its vectors for 25519 (skipped where ${file} is absent)`,
    () => {
      const { vectors } = JSON.parse(readFileSync(file, 'utf8')) as {
        vectors: (Vector & { name: string })[];
      };
      const relevant = vectors.filter(({ name }) => name.startsWith('Noise_XXfallback_25519_'));
      expect(relevant).toHaveLength(8);
      relevant.forEach(playFallback);
    },
  );
});

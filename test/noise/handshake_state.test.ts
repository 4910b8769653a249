import { describe, expect, it } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { generateKeyPair } from '../../src/crypto/x25519.ts';
import { CipherState } from '../../src/noise/cipher_state.ts';
import { HandshakeState } from '../../src/noise/handshake_state.ts';
import { IK, type Pattern, withPsk, XX, XXfallback } from '../../src/noise/pattern.ts';
import { suite } from '../../src/noise/suite.ts';

const SUITE = suite('ChaChaPoly', 'SHA256');

function both(pattern: Pattern, seed: number): HandshakeState[] {
  const random = seededRandom(seed);
  const [initiatorKey, responderKey] = [generateKeyPair(random), generateKeyPair(random)];
  const common = { pattern, suite: SUITE, prologue: utf8('p'), generate: () => generateKeyPair(random) };
  const known = pattern.before.length > 0 ? { remoteStatic: responderKey.public } : {};
  return [
    new HandshakeState({ ...common, role: 'initiator', static: initiatorKey, ...known }),
    new HandshakeState({ ...common, role: 'responder', static: responderKey }),
  ];
}

describe('HandshakeState', () => {
  it.each([XX, IK])(
    '$name: after a forged, cut or foreign message the genuine one is read all the same',
    (pattern) => {
      const sides = both(pattern, 1);
      const attackers = both(pattern, 2);
      pattern.messages.forEach((_, index) => {
        const [writer, reader] = index % 2 === 0 ? [0, 1] : [1, 0];
        const genuine = sides[writer]!.writeMessage(utf8('payload'));
        const foreign = attackers[writer]!.writeMessage(utf8('payload'));
        attackers[reader]!.readMessage(foreign);
        // The first message of XX is in clear: any 32 bytes are a valid one, so nothing there can be forged.
        if (pattern !== XX || index > 0) {
          for (let at = 0; at < genuine.length; at++) {
            const forged = genuine.slice();
            forged[at]! ^= 0x55;
            expect(sides[reader]!.readMessage(forged).ok, `byte ${at} of message ${index}`).toBe(false);
          }
          expect(sides[reader]!.readMessage(foreign).ok && index > 0).toBe(false);
        }
        expect(sides[reader]!.readMessage(genuine.subarray(0, 20))).toEqual({
          ok: false,
          problem: 'too_short',
        });
        const read = sides[reader]!.readMessage(genuine);
        expect(read.ok && read.value).toEqual(utf8('payload'));
      });
      expect(sides.every(({ finished }) => finished)).toBe(true);
      expect(sides[0]!.handshakeHash).toEqual(sides[1]!.handshakeHash);
    },
  );

  it('a fork goes its own way', () => {
    const [initiator, responder] = both(XX, 3);
    const [, otherResponder] = both(XX, 4);
    const first = initiator!.writeMessage(new Uint8Array(0));
    const fork = initiator!.fork();
    otherResponder!.readMessage(first);
    responder!.readMessage(first);
    expect(fork.readMessage(otherResponder!.writeMessage(new Uint8Array(0))).ok).toBe(true);
    expect(initiator!.readMessage(responder!.writeMessage(new Uint8Array(0))).ok).toBe(true);
    expect(fork.remoteStatic).not.toEqual(initiator!.remoteStatic);
  });
});

it('names its patterns as section 8 has it: the first modifier is appended, each further one follows a plus', () => {
  const names = [
    XX,
    IK,
    XXfallback,
    withPsk(XX, 3),
    withPsk(IK, 2),
    withPsk(XXfallback, 2),
    withPsk(XX, 0, 3),
  ];
  expect(names.map(({ name }) => name)).toEqual([
    ...['XX', 'IK', 'XXfallback'],
    ...['XXpsk3', 'IKpsk2', 'XXfallback+psk2', 'XXpsk0+psk3'],
  ]);
});

describe('CipherState', () => {
  it('opens records in any order by their nonce, and keeps its own counter where a forgery fails', () => {
    const key = seededRandom(5).bytes(32);
    const [sender, receiver] = [new CipherState(SUITE.cipher, key), new CipherState(SUITE.cipher, key)];
    const header = utf8('header');
    const sealed = [0n, 1n, 2n ** 63n].map((n) => ({ n, bytes: sender.encryptAt(n, header, utf8(`${n}`)) }));
    for (const { n, bytes } of sealed.reverse()) {
      expect(receiver.decryptAt(n, header, bytes)).toEqual(utf8(`${n}`));
      expect(receiver.decryptAt(n + 1n, header, bytes)).toBeUndefined();
      expect(receiver.decryptAt(n, utf8('other'), bytes)).toBeUndefined();
    }
    expect(receiver.decryptWithAd(header, new Uint8Array(20))).toBeUndefined();
    expect(receiver.decryptWithAd(header, sender.encryptWithAd(header, utf8('first')))).toEqual(
      utf8('first'),
    );
  });

  it('has no nonce 2^64 - 1', () => {
    const cipher = new CipherState(SUITE.cipher, seededRandom(6).bytes(32));
    const last = 2n ** 64n - 1n;
    expect(() => cipher.encryptAt(last, new Uint8Array(0), new Uint8Array(0))).toThrow('nonces');
    expect(cipher.decryptAt(last, new Uint8Array(0), new Uint8Array(16))).toBeUndefined();
  });
});

import { afterEach, describe, expect, it } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { chaCha20Poly1305 } from '../../src/crypto/aead.ts';
import { SHA256 } from '../../src/crypto/hash.ts';
import {
  type Chain,
  chainAt,
  EPOCH_RECORDS,
  FIRST_SALT,
  phaseOf,
  ReceiveKeys,
  SendKeys,
} from '../../src/pipe/key_schedule.ts';

const random = seededRandom(1);
const HEADER = utf8('header');
const TEXT = utf8('text');
const MAX_EPOCHS_AHEAD = 16;
const at = (epoch: number): number => epoch * EPOCH_RECORDS;

const first = (): Chain => ({ epoch: 0, secret: random.bytes(32) });

/** One direction, with the salts that both sides start from. */
function direction(senderSalt = FIRST_SALT, receiverSalts = [FIRST_SALT]) {
  const chain = first();
  const send = new SendKeys(chain, senderSalt, receiverSalts.at(-1)!);
  const receive = new ReceiveKeys(chain, receiverSalts, FIRST_SALT);
  const seal = (number: number): Uint8Array => send.seal(number, HEADER, TEXT);
  const open = (number: number, sealed: Uint8Array, salt = senderSalt) =>
    receive.open(number, phaseOf(number), salt, HEADER, sealed);
  return { chain, send, receive, seal, open };
}

/** The keys that the AEAD is handed, as they are: to see whether they are erased later. */
const handed = new Set<Uint8Array>();
const original = { ...chaCha20Poly1305 };
function watchKeys(): void {
  handed.clear();
  for (const name of ['seal', 'open'] as const) {
    const run = original[name];
    chaCha20Poly1305[name] = ((key, ...rest) => {
      handed.add(key);
      return run(key, ...rest);
    }) as typeof run & typeof original.seal & typeof original.open;
  }
}
afterEach(() => {
  Object.assign(chaCha20Poly1305, original);
});

describe('epochs', () => {
  it('both sides change keys at every 1,024th number, and the phase says which', () => {
    const { seal, open } = direction();
    for (const number of [0, 1_023, 1_024, 1_025, 2_047, 2_048, 5_000]) {
      const sealed = seal(number);
      expect(open(number + 1_024, sealed)).toBeUndefined();
      const genuine = open(number, sealed);
      expect(genuine?.plaintext).toEqual(TEXT);
      genuine?.advance();
    }
    expect([0, 1_023, 1_024, 2_048].map(phaseOf)).toEqual([0, 0, 1, 0]);
  });

  it('a record of the epoch before is still read, one of the epoch before that is not', () => {
    const { seal, open } = direction();
    const [zero, one, two] = [0, 1, 2].map((epoch) => seal(at(epoch)));
    open(at(1), one!)?.advance();
    expect(open(0, zero!)?.plaintext).toEqual(TEXT);
    open(at(2), two!)?.advance();
    expect(open(at(1), one!)?.plaintext).toEqual(TEXT);
    expect(open(0, zero!)).toBeUndefined();
  });

  it('sixteen epochs may be missed, and not one more', () => {
    const { seal, open } = direction();
    const near = seal(at(MAX_EPOCHS_AHEAD));
    const far = seal(at(MAX_EPOCHS_AHEAD + 1));
    expect(open(at(MAX_EPOCHS_AHEAD + 1), far)).toBeUndefined();
    open(at(MAX_EPOCHS_AHEAD), near)?.advance();
    expect(open(at(MAX_EPOCHS_AHEAD + 1), far)?.plaintext).toEqual(TEXT);
  });

  it('forgeries of every epoch and salt change nothing, and are counted until the keys change', () => {
    const { seal, open, receive } = direction();
    const [genuine, next] = [seal(5), seal(at(1))];
    for (let epoch = 0; epoch <= MAX_EPOCHS_AHEAD; epoch++) {
      open(at(epoch) + 7, random.bytes(30));
      open(at(epoch) + 7, random.bytes(30), random.bytes(8));
    }
    expect(receive.forgeries).toBe(2 * (MAX_EPOCHS_AHEAD + 1));
    expect(open(5, genuine)?.plaintext).toEqual(TEXT);
    open(at(1), next)?.advance();
    expect(receive.forgeries).toBe(0);
  });

  it('what is kept of an epoch opens nothing of earlier ones', () => {
    const { chain, seal } = direction();
    const [zero, one, two] = [0, 1, 2].map((epoch) => seal(at(epoch)));
    const later = new ReceiveKeys(chainAt(chain, 1), [FIRST_SALT], FIRST_SALT);
    const open = (number: number, sealed: Uint8Array) =>
      later.open(number, phaseOf(number), FIRST_SALT, HEADER, sealed);
    expect(open(0, zero!)).toBeUndefined();
    expect(open(at(1), one!)?.plaintext).toEqual(TEXT);
    expect(open(at(2), two!)?.plaintext).toEqual(TEXT);
  });

  it('keys that are over are erased in memory', () => {
    const { seal, open, send } = direction();
    watchKeys();
    for (let epoch = 0; epoch < 4; epoch++) open(at(epoch), seal(at(epoch)))?.advance();
    const isErased = (key: Uint8Array): boolean => key.every((byte) => byte === 0);
    // Sender's 0, 1, 2 and 3; receiver's 0, 1, 2 and 3, of which 2 is derived again for what is late.
    const left = [...handed].filter((key) => !isErased(key));
    expect(handed.size).toBe(8);
    expect(left).toHaveLength(2);
    send.setPeerSalt(random.bytes(8));
    expect([...handed].filter((key) => !isErased(key))).toHaveLength(1);
  });

  it('what keys of an epoch that is over follow from is erased in memory as well', () => {
    const secrets = new Set<Uint8Array>();
    const derive = SHA256.hkdf;
    // What a key or the next secret is derived from, as it is held.
    SHA256.hkdf = (salt, secret, ...rest) => {
      secrets.add(secret);
      return derive(salt, secret, ...rest);
    };
    try {
      const { chain, seal, open } = direction();
      for (let epoch = 0; epoch < 4; epoch++) open(at(epoch), seal(at(epoch)))?.advance();
      secrets.delete(chain.secret);
      const left = [...secrets].filter((secret) => secret.some((byte) => byte !== 0));
      // The sender's and the receiver's newest.
      expect([secrets.size > 6, left.length]).toEqual([true, 2]);
    } finally {
      SHA256.hkdf = derive;
    }
  });
});

describe('salts', () => {
  const [old, fresh, sender] = [random.bytes(8), random.bytes(8), random.bytes(8)];

  it('a sender’s new salt is accepted where it is advanced to, and the old one is gone then', () => {
    const chain = first();
    const receive = new ReceiveKeys(chain, [FIRST_SALT], FIRST_SALT);
    const before = new SendKeys(chain, FIRST_SALT, FIRST_SALT).seal(3, HEADER, TEXT);
    const after = new SendKeys(chain, sender, FIRST_SALT).seal(300, HEADER, TEXT);
    expect(receive.open(300, 0, FIRST_SALT, HEADER, after)).toBeUndefined();
    expect(receive.open(300, 0, old, HEADER, after)).toBeUndefined();
    const genuine = receive.open(300, 0, sender, HEADER, after);
    expect(receive.open(3, 0, FIRST_SALT, HEADER, before)?.plaintext).toEqual(TEXT);
    expect(genuine?.advance()).toBe(true);
    expect(receive.open(3, 0, receive.peerSalt, HEADER, before)).toBeUndefined();
    expect(receive.peerSalt).toEqual(sender);
  });

  it('says for which of the receiver’s salts a record was sealed, until the newest is confirmed', () => {
    const chain = first();
    const receive = new ReceiveKeys(chain, [fresh, old, FIRST_SALT], FIRST_SALT);
    const sealedFor = (salt: Uint8Array): Uint8Array =>
      new SendKeys(chain, FIRST_SALT, salt).seal(1, HEADER, TEXT);
    const ownSalt = (salt: Uint8Array) => receive.open(1, 0, FIRST_SALT, HEADER, sealedFor(salt))?.ownSalt;
    expect([fresh, old, FIRST_SALT, sender].map(ownSalt)).toEqual([0, 1, 2, undefined]);
    receive.confirmSalt();
    expect([fresh, old, FIRST_SALT, sender].map(ownSalt)).toEqual([0, undefined, undefined, undefined]);
  });
});

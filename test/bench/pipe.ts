import * as node from 'node:crypto';
import { ed25519, x25519 } from '@noble/curves/ed25519.js';
import { seededRandom } from '../../src/base/random.ts';
import { systemClock } from '../../src/base/time.ts';
import { type Aead, chaCha20Poly1305 } from '../../src/crypto/aead.ts';
import * as ownEd25519 from '../../src/crypto/ed25519.ts';
import * as ownX25519 from '../../src/crypto/x25519.ts';
import { PipeEndpoint, type PipeStep } from '../../src/pipe/endpoint.ts';
import { identityOf } from '../pipe/harness.ts';
import { type HandshakeBytes, measureBytes, type RecordBytes } from './pipe_bytes.ts';

const PAYLOADS = [30, 100, 1_100] as const;
/** Odd, for the median. */
const ROUNDS = 15;
const WARM_UP_ROUNDS = 3;
/** So long does a round of one kind of work take, about. */
const ROUND_MS = 15;
const PHASE_MS = 1_000;
const LOOPBACK_TIMING = { rate: null, delay: 0, overhead: 42 };

/** Operations a second. */
interface Pair {
  readonly name: string;
  readonly noble: number;
  readonly node: number;
  /** Which of them `src/crypto` uses. */
  readonly used: 'noble' | 'node';
}

interface Speed {
  readonly name: string;
  readonly perSecond: number;
}

let sink = 0;

/** How often a second `work` can be done; it returns something that depends on it, so that nothing is left out. */
function perSecond(work: () => number, forMs: number): number {
  const start = systemClock.monotonic();
  let done = 0;
  let elapsed = 0;
  do {
    for (let i = 0; i < 8; i++) sink += work();
    done += 8;
    elapsed = systemClock.monotonic() - start;
  } while (elapsed < forMs);
  return (1000 * done) / elapsed;
}

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((x, y) => x - y)[(numbers.length - 1) / 2]!;

/** Measures both in turns, so that whatever else the machine does meets both. */
function compare(
  name: string,
  used: 'noble' | 'node',
  works: { readonly noble: () => number; readonly node: () => number },
): Pair {
  const rounds = { noble: [] as number[], node: [] as number[] };
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    for (const which of ['noble', 'node'] as const) {
      const measured = perSecond(works[which], ROUND_MS);
      if (round >= 0) rounds[which].push(measured);
    }
  }
  return { name, used, noble: median(rounds.noble), node: median(rounds.node) };
}

/** The same by OpenSSL (RFC 8439). */
const nodeAead: Aead = {
  seal(key, nonce, associated, plaintext) {
    const cipher = node.createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 });
    cipher.setAAD(associated, { plaintextLength: plaintext.length });
    return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  },
  open(key, nonce, associated, sealed) {
    const end = sealed.length - 16;
    const cipher = node.createDecipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 });
    cipher.setAAD(associated, { plaintextLength: end });
    cipher.setAuthTag(sealed.subarray(end));
    const plaintext = cipher.update(sealed.subarray(0, end));
    cipher.final();
    return plaintext;
  },
};

function comparePrimitives(seed: number): Pair[] {
  const random = seededRandom(seed);
  const [key, nonce, header] = [random.bytes(32), random.bytes(12), random.bytes(3)];
  const aeads = PAYLOADS.flatMap((length) => {
    const plaintext = random.bytes(length);
    const sealed = chaCha20Poly1305.seal(key, nonce, header, plaintext);
    const works = (aead: Aead) => ({
      seal: () => aead.seal(key, nonce, header, plaintext).length,
      open: () => aead.open(key, nonce, header, sealed)!.length,
    });
    const [noble, openssl] = [works(chaCha20Poly1305), works(nodeAead)];
    return (['seal', 'open'] as const).map((work) =>
      compare(`ChaCha20-Poly1305, ${work} ${length} bytes`, 'noble', {
        noble: noble[work],
        node: openssl[work],
      }),
    );
  });
  const [secret, text] = [random.bytes(32), random.bytes(100)];
  const peer = ownX25519.keyPairOf(random.bytes(32)).public;
  const signingPublic = ownEd25519.publicKeyOf(secret);
  const signature = ownEd25519.sign(secret, text);
  return [
    ...aeads,
    compare('X25519, key pair', 'node', {
      noble: () => x25519.getPublicKey(secret)[0]!,
      node: () => ownX25519.keyPairOf(secret).public[0]!,
    }),
    compare('X25519, shared secret', 'node', {
      noble: () => x25519.getSharedSecret(secret, peer)[0]!,
      node: () => ownX25519.sharedSecret(secret, peer)[0]!,
    }),
    compare('ed25519, sign', 'node', {
      noble: () => ed25519.sign(text, secret)[0]!,
      node: () => ownEd25519.sign(secret, text)[0]!,
    }),
    compare('ed25519, verify', 'node', {
      noble: () => Number(ed25519.verify(signature, text, signingPublic)),
      node: () => Number(ownEd25519.verify(signingPublic, text, signature)),
    }),
  ];
}

/** Two endpoints that hand each other their datagrams at once and trust each other. */
class Conversation {
  readonly #endpoints: readonly [PipeEndpoint, PipeEndpoint];
  #now = 0;
  payloads = 0;
  established = 0;
  /** First messages of IK. */
  resumptions = 0;

  constructor(seed: number) {
    const random = seededRandom(seed);
    // Answers are not what is to be bounded here.
    const limits = { answersPerSecond: 1e9, answersBurst: 1e9, readsPerSecond: 1e9, readsBurst: 1e9 };
    const endpoint = (name: string) =>
      new PipeEndpoint({
        identity: identityOf(name, random),
        random,
        limits,
        handshakeTiming: () => LOOPBACK_TIMING,
        // Time stands still, so that ids would never be free again.
        messageTimes: () => ({ exchangeLifetime: 0, longestReply: 0 }),
      });
    this.#endpoints = [endpoint('alpha.example'), endpoint('bravo.example')];
    this.#endpoints[0].setPeer('bravo.example', 'bravo');
    this.#endpoints[1].setPeer('alpha.example', 'alpha');
  }

  /** One record from alpha to bravo, and one back. */
  exchange(bytes: Uint8Array): number {
    const item = { bytes, priority: 1, receipt: null, label: '' } as const;
    this.#run(0, this.#endpoints[0].send('bravo.example', [item], this.#now));
    this.#run(1, this.#endpoints[1].send('alpha.example', [item], this.#now));
    return this.payloads;
  }

  /** A new session beside the old one. */
  renew(): number {
    this.#now += PHASE_MS * 1000;
    this.#run(0, this.#endpoints[0].renew('bravo.example', this.#now));
    this.#run(0, this.#endpoints[0].tick(this.#now));
    this.#run(1, this.#endpoints[1].tick(this.#now));
    return this.established;
  }

  #run(side: 0 | 1, step: PipeStep): void {
    const own = this.#endpoints[side];
    const other = side === 0 ? 1 : 0;
    for (const { bytes, label } of step.datagrams) {
      if (label === 'IK1') this.resumptions++;
      const from = side === 0 ? 'alpha' : 'bravo';
      this.#run(other, this.#endpoints[other].receive(from, bytes, this.#now));
    }
    for (const event of step.events) {
      if (event.kind === 'payload') this.payloads++;
      if (event.kind === 'established') this.established++;
      if (event.kind === 'identity') this.#run(side, own.decide(event.session, { trusted: true }, this.#now));
    }
  }
}

/** Whole handshakes, and whole records from the payload to the payload, each with the work of both sides. */
function measureEndpoints(seed: number): Speed[] {
  const first = new Uint8Array(PAYLOADS[0]).fill(0x45);
  const xx = perSecond(() => {
    const pair = new Conversation(seed);
    return pair.exchange(first);
  }, PHASE_MS);
  const pair = new Conversation(seed);
  pair.exchange(first);
  let renewals = 0;
  const ik = perSecond(() => {
    renewals++;
    return pair.renew();
  }, PHASE_MS);
  if (pair.resumptions !== renewals || pair.established !== 2 * (renewals + 1))
    throw new Error('each renewal is an IK that makes one session');
  const records = PAYLOADS.map((length) => {
    const bytes = new Uint8Array(length).fill(0x45);
    const talking = new Conversation(seed);
    return {
      name: `records of ${length} bytes, sealed and opened`,
      perSecond: 2 * perSecond(() => talking.exchange(bytes), PHASE_MS),
    };
  });
  return [
    { name: 'XX handshakes, two new servers and a record each way', perSecond: xx },
    { name: 'IK handshakes', perSecond: ik },
    ...records,
  ];
}

/**
 * Bytes of handshakes and records from captured datagrams beside their budgets; handshakes and records a second; the
 * primitives of noble and of node:crypto side by side.
 * @returns whether the bytes keep their budgets
 */
export async function run({
  json,
  seed,
}: {
  readonly json: boolean;
  readonly seed: number;
}): Promise<boolean> {
  const { handshakes, records } = measureBytes();
  const speeds = measureEndpoints(seed);
  const pairs = comparePrimitives(seed);
  const kept =
    handshakes.every(({ rest, budget }) => rest <= budget) &&
    records.every(({ overhead, budget }) => overhead <= budget);
  if (json) {
    process.stdout.write(`${JSON.stringify({ kept, handshakes, records, speeds, pairs, sink })}\n`);
  } else {
    const tables = [handshakeTable(handshakes), recordTable(records), speedTable(speeds), pairTable(pairs)];
    const verdict = kept ? 'The bytes keep their budgets.' : 'Too many bytes.';
    process.stdout.write(`${tables.join('\n\n')}\n\n${verdict}\n`);
  }
  return kept;
}

const whole = (number: number): string => Math.round(number).toLocaleString('en');

const line = (name: string, ...cells: readonly (string | number)[]): string =>
  [name.padEnd(54), ...cells.map((cell) => String(cell).padStart(11))].join('');

const handshakeTable = (rows: readonly HandshakeBytes[]): string =>
  [
    line('bytes on the wire', 'in all', 'identities', 'padding', 'the rest', 'budget'),
    ...rows.map(({ name, records, total, identities, padding, rest, budget }) =>
      line(`${name}, ${records} records`, total, identities, padding, rest, budget),
    ),
  ].join('\n');

const recordTable = (rows: readonly RecordBytes[]): string =>
  [
    line('a data record', 'bytes', 'overhead', 'budget'),
    ...rows.map(({ name, bytes, overhead, budget }) => line(name, bytes, overhead, budget)),
  ].join('\n');

const speedTable = (rows: readonly Speed[]): string =>
  [
    line('both sides in one thread', 'a second'),
    ...rows.map(({ name, perSecond }) => line(name, whole(perSecond))),
  ].join('\n');

const pairTable = (rows: readonly Pair[]): string =>
  [
    line('primitives, a second', 'noble', 'node:crypto', 'in use'),
    ...rows.map(({ name, noble, node: openssl, used }) => line(name, whole(noble), whole(openssl), used)),
  ].join('\n');

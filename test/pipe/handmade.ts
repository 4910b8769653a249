import { concat } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { generateKeyPair } from '../../src/crypto/x25519.ts';
import { HandshakeState } from '../../src/noise/handshake_state.ts';
import { IK, type Role, XX } from '../../src/noise/pattern.ts';
import { type Agreement, NO_CAPABILITIES } from '../../src/pipe/agreement.ts';
import type { ServerIdentity } from '../../src/pipe/identity.ts';
import { networkOf, OPEN_NETWORK } from '../../src/pipe/network.ts';
import { prologue, SUITE } from '../../src/pipe/prologue.ts';
import {
  type ConnectionId,
  decodeRecord,
  type FirstRecord,
  firstHeader,
  handshakeHeader,
} from '../../src/pipe/record.ts';
import { firstProgress, Session } from '../../src/pipe/session.ts';
import { identityOf, type Network } from './harness.ts';

const NETWORK = networkOf(OPEN_NETWORK);
const VERSION = 0x11;

/** A server of which each handshake message is made by hand: one of another release than this. */
export class Handmade {
  readonly bootId: Uint8Array;
  readonly identity: ServerIdentity;
  readonly #random: Random;
  readonly #network: Network;
  readonly #to: string;
  #nextId = 0x40;
  session!: Session;

  /** At the address `handmade`; it talks to the one at `to`. */
  constructor(network: Network, to: string, seed = 9) {
    this.#network = network;
    this.#to = to;
    this.#random = seededRandom(seed);
    this.identity = identityOf('handmade.example', this.#random);
    this.bootId = this.#random.bytes(8);
  }

  newId(): ConnectionId {
    return this.#nextId++ as ConnectionId;
  }

  /** @param remote with it IK, without XX */
  handshake(
    role: Role,
    header: Uint8Array,
    ik?: { readonly digest: Uint8Array; readonly remote?: Uint8Array },
  ): HandshakeState {
    return new HandshakeState({
      pattern: ik === undefined ? XX : IK,
      suite: SUITE,
      role,
      prologue: prologue(header, NETWORK, ik?.digest),
      static: { secret: this.identity.noiseSecret, public: this.identity.noisePublic },
      generate: () => generateKeyPair(this.#random),
      ...(ik?.remote && { remoteStatic: ik.remote }),
    });
  }

  header(kind: 'XX1' | 'IK1', source: ConnectionId): Uint8Array {
    return firstHeader(kind, { version: VERSION, refused: [], source });
  }

  deliver(bytes: Uint8Array): void {
    this.#network.deliver('handmade', this.#to, bytes);
  }

  later(kind: 'XX2' | 'XX3' | 'IK2', destination: ConnectionId, message: Uint8Array): void {
    this.deliver(concat(handshakeHeader(kind, destination), message));
  }

  /** The newest datagram of that kind that came here. */
  received(label: string): Uint8Array {
    const found = this.#network.captured.findLast(
      ({ datagram }) => datagram.to === 'handmade' && datagram.label.startsWith(label),
    );
    if (found === undefined) throw new Error(`no ${label} has come`);
    return found.datagram.bytes;
  }

  /** The newest first message of that kind. */
  first(kind: 'XX1' | 'IK1'): FirstRecord {
    const record = decodeRecord(this.received(kind));
    if (!record.ok || (record.value.kind !== 'XX1' && record.value.kind !== 'IK1'))
      throw new Error(`no ${kind}`);
    return record.value;
  }

  /** The Noise message of the newest other handshake message of that kind. */
  message(kind: 'XX2' | 'XX3' | 'IK2'): Uint8Array {
    const record = decodeRecord(this.received(kind));
    if (!record.ok || record.value.kind !== kind) throw new Error(`no ${kind}`);
    return record.value.message;
  }

  /** The session of a finished handshake. */
  begin(
    handshake: HandshakeState,
    terms: { readonly initiator: boolean; readonly local: ConnectionId; readonly remote: ConnectionId },
    claim: ServerIdentity,
    agreed: Agreement,
  ): void {
    this.session = new Session(
      {
        ...{ ...terms, claim, agreed, number: 1, network: NETWORK, bootId: this.bootId, generation: 1 },
        said: { own: NO_CAPABILITIES, peer: NO_CAPABILITIES },
        address: this.#to,
        createdAt: 0,
      },
      firstProgress(handshake.splitKeys()),
    );
  }

  /** A control record: the code 2, "confirm". */
  confirm(): void {
    this.deliver(this.session.seal('control', Uint8Array.of(2)));
  }

  /** Whether the newest record that came here is one of the session. */
  canOpen(label: string): boolean {
    const record = decodeRecord(this.received(label));
    if (!record.ok || (record.value.kind !== 'data' && record.value.kind !== 'control')) return false;
    return this.session.open(record.value, this.#to, 0, () => new Uint8Array(8)).kind === 'plaintext';
  }
}

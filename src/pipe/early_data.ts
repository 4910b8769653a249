import { equal, hex } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import { type MessageParts, partMessage } from '../coap/message.ts';
import type { Address } from '../link/link.ts';
import type { Verdict } from './events.ts';
import { type IdentityClaim, nameOf } from './identity.ts';
import type { Peer } from './peer.ts';
import type { EarlyGeneration } from './resumption.ts';
import { type Outgoing, SendQueue } from './send_queue.ts';
import type { PipeState } from './state.ts';

/** The request of an IK1, until it is handed on. */
export interface EarlyRequest {
  readonly kind: 'early';
  /** Names it to the driver, which decides about the identity. */
  readonly number: number;
  readonly claim: IdentityClaim;
  readonly address: Address;
  readonly generation: number;
  readonly message: Uint8Array;
  readonly createdAt: Millis;
}

/** What is said to a peer in answer to early data, while the peer has not shown that it is there. */
export interface HeldReplies {
  readonly until: Millis;
  readonly address: Address;
  readonly answers: (message: MessageParts) => boolean;
  readonly queue: SendQueue;
}

/**
 * The responder's side of early data (docs/protocol.md, "Early data"): a request that comes in an IK1 is handed on once the
 * driver trusts its sender, and the generation of the IK1 is on the disk: no later one with that generation is accepted.
 */
export class EarlyData {
  readonly #state: PipeState;
  /** Trusted, and waiting for the disk: by the token of the write, in order. */
  #storing: { readonly token: number; readonly early: EarlyRequest }[] = [];

  constructor(state: PipeState) {
    this.#state = state;
  }

  /** Whether early data of that peer can be read. */
  isWelcome(claim: IdentityClaim): boolean {
    const { takesEarlyData, peers } = this.#state;
    return takesEarlyData && peers.find(nameOf(claim))?.isCompact === true;
  }

  /** An IK1 that was accepted has brought it. */
  arrived(early: Pick<EarlyRequest, 'claim' | 'address' | 'generation' | 'message'>, now: Millis): void {
    const number = this.#state.nextNumber();
    this.#state.ask({ kind: 'early', number, ...early, createdAt: now }, early.address);
  }

  /** The driver has decided about its sender. */
  decided(early: EarlyRequest, verdict: Verdict, now: Millis): void {
    // A disk that is slower than the handshakes must not fill the memory: what is discarded comes again in a record.
    if (!verdict.trusted || this.#storing.length >= this.#state.limits.undecided) {
      this.#state.statistics.earlyDiscarded++;
      return;
    }
    const { claim, generation } = early;
    const token = this.#state.saving.writeEarly({ noisePublic: claim.noisePublic, generation });
    if (token === undefined) this.#handOn(early, now);
    else this.#storing.push({ token, early });
  }

  /** All writes up to `token` are on the disk. */
  stored(token: number, now: Millis): void {
    const done = this.#storing.filter((storing) => storing.token <= token);
    this.#storing = this.#storing.filter((storing) => storing.token > token);
    for (const { early } of done) this.#handOn(early, now);
  }

  /** Discards what a peer has sent and what waits for it. */
  forget(name: string): void {
    const isOf = ({ claim }: EarlyRequest): boolean => nameOf(claim) === name;
    const count = this.#storing.length;
    this.#storing = this.#storing.filter(({ early }) => !isOf(early));
    this.#state.statistics.earlyDiscarded += count - this.#storing.length;
    for (const waiting of [...this.#state.undecided.values()])
      if (waiting.kind === 'early' && isOf(waiting)) this.#state.removeUndecided(waiting);
    const peer = this.#state.peers.find(name);
    if (peer !== undefined) this.#state.dropped(this.#state.takeHeld(peer));
  }

  #handOn(early: EarlyRequest, now: Millis): void {
    const { claim, address, generation, message } = early;
    const peer = this.#state.peer(nameOf(claim));
    const request =
      peer.isCompact === true ? this.#state.messages.openEarly(peer, generation, message, now) : undefined;
    if (request === undefined) {
      this.#state.statistics.earlyDiscarded++;
      return;
    }
    this.#state.statistics.earlyTaken++;
    const { parts, bytes } = request;
    const isThere = peer.sessions.some(({ terms }) => !terms.initiator && terms.generation === generation);
    if (!isThere) this.#holdReplies(peer, parts, address, now);
    this.#state.events.push({ kind: 'early', peer: peer.name, address, bytes });
  }

  /** No reply may meet an old session, which the peer may have lost, or begin a handshake beside the peer's. */
  #holdReplies(peer: Peer, { id, token }: MessageParts, address: Address, now: Millis): void {
    const { limits } = this.#state;
    const before = this.#state.takeHeld(peer);
    const queue = new SendQueue(limits);
    for (const item of before) this.#state.dropped(queue.add(item, now));
    this.#state.hold(peer, {
      until: now + limits.halfOpenMs,
      address,
      queue,
      answers: (message) =>
        message.type === 'ACK' || message.type === 'RST' ? message.id === id : equal(message.token, token),
    });
  }
}

/** Whether an item has to wait for the session that early data has announced. */
export const isHeld = ({ held }: Peer, { bytes }: Outgoing): boolean => {
  if (held === undefined) return false;
  const message = partMessage(bytes);
  return message !== undefined && held.answers(message);
};

/** Up to which generation early data of each static key was taken, as far as this side remembers. */
export class EarlyGenerations {
  readonly #most: number;
  /** The one that was taken last at the end. */
  readonly #generations = new Map<string, number>();

  constructor(most: number) {
    this.#most = most;
  }

  of(noisePublic: Uint8Array): number {
    return this.#generations.get(hex(noisePublic)) ?? -1;
  }

  note({ noisePublic, generation }: EarlyGeneration): void {
    const key = hex(noisePublic);
    const highest = Math.max(generation, this.of(noisePublic));
    this.#generations.delete(key);
    this.#generations.set(key, highest);
    if (this.#generations.size > this.#most) this.#generations.delete(this.#generations.keys().next().value!);
  }
}

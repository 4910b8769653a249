import { concat, equal } from '../base/bytes.ts';
import { bad, ok, type Result } from '../base/result.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import { NO_CAPABILITIES } from './agreement.ts';
import { ephemeralOf, type Party, writeMessage } from './handshake_message.ts';
import { encodeConfirmed } from './handshake_payload.ts';
import { type AnswerProblem, type Known, Offer, type ReadAnswer } from './offer.ts';
import { type ConnectionId, handshakeHeader, MAX_REFUSED_OFFERS } from './record.ts';
import type { Outgoing } from './send_queue.ts';

/** Authentic answers that one opening reads; then it takes a new ephemeral key. */
const MAX_ANSWERS = 64;

/** One answer to an opening: authentic for whoever has sent it, which may be an attacker. */
export interface Candidate extends ReadAnswer {
  /** Names it, and the session that it may become, to the driver. */
  readonly number: number;
  readonly opening: Opening;
  /** Of the first message that it answers. */
  readonly known: Known | undefined;
  /** The whole datagram. */
  readonly second: Uint8Array;
  /** Where the session goes: the source of the answer is believed only where the first message went to. */
  readonly address: Address;
  readonly createdAt: Millis;
}

/** A request that goes in an IK1 (docs/protocol.md, "Early data"). */
export interface EarlyMessage {
  readonly item: Outgoing;
  readonly bytes: Uint8Array;
  /** It has been sent before, on a session that seems to be over; else it waits in the queue of the peer. */
  readonly isRepeated: boolean;
}

/** The initiator's side of a handshake with one peer, from the first message to the answer that the driver trusts. */
export class Opening {
  readonly kind = 'opening';
  readonly id: number;
  readonly peer: string;
  readonly local: ConnectionId;
  readonly startedAt: Millis;
  /** Of the session that may come of it: said in the first message. */
  readonly generation: number;
  /** What is sent along. */
  readonly early: EarlyMessage | undefined;
  readonly #party: Party;
  readonly #bootId: Uint8Array;
  /** Each with an older version than the one before. Answers to all of them are read. */
  readonly #offers: Offer[];
  /** The ephemeral keys of the answers that were authentic. */
  readonly #answers: Uint8Array[] = [];
  #cookie: Uint8Array | undefined;

  /** Timers that have fired without an answer. */
  attempts = 0;
  copies = 0;
  dueAt: Millis;
  /** Where the last first message went. */
  target: Address | undefined;
  /** Everywhere that it went. */
  readonly targets = new Set<Address>();
  /** Answers that the driver has not decided about. */
  undecided: Candidate[] = [];
  /** A trusted answer that waits, because the peer's own opening goes first. */
  deferred: Candidate | undefined;

  constructor(options: {
    readonly id: number;
    readonly peer: string;
    readonly local: ConnectionId;
    readonly party: Party;
    readonly version: number;
    readonly bootId: Uint8Array;
    readonly generation: number;
    readonly known: Known | undefined;
    readonly early: EarlyMessage | undefined;
    readonly now: Millis;
  }) {
    const { id, peer, local, party, version, bootId, generation, known, early, now } = options;
    this.id = id;
    this.peer = peer;
    this.local = local;
    this.startedAt = now;
    this.dueAt = now;
    this.generation = generation;
    this.early = early;
    this.#party = party;
    this.#bootId = bootId;
    const offered = { party, local, peer, version, refused: [], bootId, generation, known };
    this.#offers = [new Offer({ ...offered, early: early?.bytes })];
  }

  get #newest(): Offer {
    return this.#offers.at(-1)!;
  }

  get label(): 'XX1' | 'IK1' {
    return this.#newest.label;
  }

  /** The whole first message, as it is to be sent now. */
  get first(): Uint8Array {
    return this.#newest.datagram(this.#cookie);
  }

  get isFull(): boolean {
    return this.#answers.length >= MAX_ANSWERS;
  }

  /** Sends this along from now on. Returns whether it is new. */
  setCookie(cookie: Uint8Array): boolean {
    if (this.#cookie !== undefined && equal(this.#cookie, cookie)) return false;
    this.#cookie = cookie;
    return true;
  }

  /**
   * Offers an older version beside the others: whoever says that the peer has no newer one may lie, and is found out by
   * a peer that sees what was refused. Returns whether that is possible.
   */
  offer(version: number): boolean {
    const refused = this.#offers.map((offer) => offer.version);
    if (refused.includes(version) || refused.length > MAX_REFUSED_OFFERS) return false;
    const { local, peer, generation } = this;
    this.#offers.push(
      new Offer({ party: this.#party, local, peer, version, refused, bootId: this.#bootId, generation }),
    );
    this.#cookie = undefined;
    return true;
  }

  /** Reads the Noise message of an answer whose datagram is `second`. The opening goes on as if it had not come. */
  read(
    from: Address,
    second: Uint8Array,
    { kind, message }: { readonly kind: 'XX2' | 'IK2'; readonly message: Uint8Array },
    number: number,
    now: Millis,
  ): Result<Candidate, AnswerProblem | 'known'> {
    const ephemeral = ephemeralOf(message, this.#party.network);
    if (ephemeral === undefined) return bad('malformed');
    // One ephemeral key of a responder, one answer: a second text under it would make XX3 repeat a nonce.
    if (this.#answers.some((known) => equal(known, ephemeral))) return bad('known');
    for (const offer of this.#offers) {
      const read = offer.read(kind, message);
      if (!read.ok && read.problem === 'forged') continue;
      this.#answers.push(ephemeral);
      if (!read.ok) return read;
      return ok({
        ...read.value,
        number,
        opening: this,
        known: offer.known,
        second,
        address: this.targets.has(from) ? from : this.target!,
        createdAt: now,
      });
    }
    return bad('forged');
  }

  /**
   * The XX3 for an XX2; once for each, as it uses up the handshake's last nonces.
   * @param generation of the session, where the responder has not read what was said in XX1
   */
  confirm({ said, handshake }: Candidate, generation: number | undefined, isAll: boolean): Uint8Array {
    const { identity, network, capabilities } = this.#party;
    const negotiates = said.capabilities.length > 0;
    const payload = encodeConfirmed(
      identity,
      this.#bootId,
      generation === undefined
        ? undefined
        : { generation, capabilities: negotiates ? capabilities : NO_CAPABILITIES },
      isAll,
    );
    return concat(handshakeHeader('XX3', said.connectionId), writeMessage(handshake, payload, network));
  }
}

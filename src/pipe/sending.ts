import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import { encodeChallenge } from './control.ts';
import type { PipeDatagram } from './events.ts';
import type { DataRecord } from './messages.ts';
import type { Peer } from './peer.ts';
import { longestTransport } from './record.ts';
import type { Session } from './session.ts';
import type { PipeState } from './state.ts';

/** How records leave: each on the session to send on, to where the peer may be. */
export class Sending {
  readonly #state: PipeState;

  constructor(state: PipeState) {
    this.#state = state;
  }

  /** Sends what waits for `peer`, as far as there is a session with numbers that may be used. */
  flush(peer: Peer, now: Millis): void {
    while (!peer.queue.isEmpty) {
      const session = this.#state.current(peer);
      if (!session?.maySend) return;
      const sealed = this.#state.messages.seal(peer, session, now);
      if ('dropped' in sealed) this.#state.dropped([sealed.dropped]);
      else {
        const item = sealed.items.find(({ early }) => early === true);
        if (item !== undefined) peer.unheard ??= { item, at: now };
        this.#data(session, sealed);
      }
      this.#state.saving.save(session, now);
    }
  }

  /** Something outside of sessions, of a handshake most often. */
  own(to: Address, bytes: Uint8Array, label: string, handshake: number | null = null): void {
    this.#state.datagrams.push({ to, bytes, priority: 0, receipts: [], handshake, label });
  }

  /** A control record. It is not sent where no number may be used now: whoever waits for it asks again. */
  control(
    session: Session,
    plaintext: Uint8Array,
    label: string,
    now: Millis,
    handshake: number | null = null,
  ): void {
    if (!session.maySend) return;
    const bytes = session.seal('control', plaintext);
    this.#record(session, bytes, { priority: 0, receipts: [], handshake, label });
    this.#state.saving.save(session, now);
  }

  /** A control record in answer to what anybody can have sent. */
  answer(session: Session, plaintext: Uint8Array, label: string, now: Millis): void {
    const length = longestTransport(session.terms.remote, plaintext.length);
    if (this.#state.strangers.mayAnswer(session.address, length, now))
      this.control(session, plaintext, label, now);
  }

  /** Asks at the address where the peer's newest record came from whether it is there. */
  challenge(session: Session, now: Millis): void {
    const { challenge } = session.path;
    if (challenge === undefined || !session.maySend) return;
    const plaintext = encodeChallenge(challenge);
    const to = session.path.challengeTo(longestTransport(session.terms.remote, plaintext.length));
    if (to === undefined) return;
    this.own(to, session.seal('control', plaintext), 'challenge');
    this.#state.saving.save(session, now);
  }

  #data(session: Session, { bytes, items }: DataRecord): void {
    const { unconfirmed } = session;
    if (unconfirmed !== undefined) unconfirmed.carried = Math.max(unconfirmed.carried, bytes.length);
    const receipts = items.flatMap(({ receipt }) => (receipt === null ? [] : [receipt]));
    const label = `data ${items.map((item) => item.label).join(' + ')}`;
    this.#record(session, bytes, { priority: items[0]!.priority, receipts, handshake: null, label });
  }

  /** Sends one record, to each of the addresses where the peer may be. */
  #record(session: Session, bytes: Uint8Array, rest: Omit<PipeDatagram, 'to' | 'bytes'>): void {
    const addresses = session.path.route(bytes.length);
    if (addresses.length === 0)
      for (const receipt of rest.receipts) this.#state.events.push({ kind: 'dropped', receipt });
    addresses.forEach((to, i) => {
      const receipts = i === addresses.length - 1 ? rest.receipts : [];
      this.#state.datagrams.push({ ...rest, to, bytes, receipts });
    });
  }
}

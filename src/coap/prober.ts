import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { FailureReason } from './api.ts';
import { EMPTY } from './codes.ts';
import type { Core, Peer } from './core.ts';
import { NO_BYTES } from './message.ts';
import type { Outgoing } from './outgoing.ts';
import type { Draft, Transmission, Transmitter } from './transmitter.ts';

const PING: Draft = { code: EMPTY, token: NO_BYTES, options: [], payload: NO_BYTES };

/** The question whether a peer still lives: the timer until it is asked, or the ping that asks. */
export interface Probe {
  readonly kind: 'probe';
  readonly peer: Peer;
  /** Pings since a request was last acknowledged. */
  sent: number;
  /** The one ping that is on its way. */
  transmission: Transmission | null;
}

/**
 * Asks peers that have acknowledged a request and owe the answer whether they live (ping, RFC 7252, section 4.3).
 * Nothing else would tell that such a peer has restarted and forgotten the request: it is sent no copies any more.
 */
export class Prober {
  readonly #core: Core;
  readonly #transmitter: Transmitter;
  /** Those of the application, with their handles. */
  readonly #pings = new Map<Transmission, number>();

  constructor(core: Core, transmitter: Transmitter) {
    this.#core = core;
    this.#transmitter = transmitter;
  }

  /** The peer has acknowledged a request and will answer it separately: at this moment it lives. */
  acknowledged({ probe }: Peer, now: Millis): void {
    probe.sent = 0;
    if (probe.transmission === null) this.#arm(probe, now);
  }

  /** A request does not wait for a separate answer any more. After the last one the peer is left alone. */
  released({ probe }: Peer, now: Millis): void {
    if (owed(probe.peer).length > 0) return;
    const { transmission } = probe;
    this.#core.timers.clear(probe);
    probe.sent = 0;
    probe.transmission = null;
    if (transmission !== null) this.#transmitter.stop(transmission, now);
  }

  /** The peer has not answered for a while. */
  fire(probe: Probe, now: Millis): void {
    const { peer } = probe;
    const requests = owed(peer);
    // What is on its way anyway asks the same.
    if (peer.outstanding.size > 0 || peer.queue.length > 0) {
      this.#arm(probe, now);
      return;
    }
    probe.sent++;
    this.#core.counters.probes++;
    const details = {
      priority: requests[0]!.priority,
      label: 'ping',
      request: null,
      deadline: Math.max(...requests.map(({ deadline }) => deadline)),
    };
    probe.transmission = this.#transmitter.submit(peer, PING, details, now);
  }

  /** Sends a ping of the application's. */
  ping(
    peer: Peer,
    handle: number,
    { deadline, priority }: { readonly deadline: Millis; readonly priority: Priority },
    now: Millis,
  ): void {
    const details = { priority, label: 'ping', request: null, deadline };
    this.#pings.set(this.#transmitter.submit(peer, PING, details, now), handle);
  }

  /** Gives a ping of the application's up. */
  cancel(handle: number, now: Millis): void {
    for (const [transmission, owner] of this.#pings) if (owner === handle) this.#giveUp(transmission, now);
  }

  /** Gives up all that the application has sent to a peer. */
  forget(peer: Peer, now: Millis): void {
    for (const transmission of this.#pings.keys())
      if (transmission.peer === peer) this.#giveUp(transmission, now);
  }

  #giveUp(transmission: Transmission, now: Millis): void {
    this.#transmitter.stop(transmission, now);
    this.ended(transmission, now, 'cancelled');
  }

  /** A ping was answered (pong: a reset) or given up; where it was another message, nothing happens. */
  ended(transmission: Transmission, now: Millis, reason?: FailureReason): void {
    const handle = this.#pings.get(transmission);
    if (handle !== undefined) {
      this.#pings.delete(transmission);
      this.#core.events.push(
        reason === undefined ? { kind: 'sent', handle } : { kind: 'failed', handle, reason },
      );
    }
    const { probe } = transmission.peer;
    if (probe.transmission !== transmission) return;
    probe.transmission = null;
    this.#arm(probe, now);
  }

  #arm(probe: Probe, now: Millis): void {
    this.#core.timers.set(probe, now + this.#core.timing(probe.peer.name).probeAfter(probe.sent));
  }
}

/** Our requests that the peer has acknowledged and not answered, although it surely will. */
const owed = (peer: Peer): Outgoing[] =>
  [...peer.awaited.values()].filter(
    ({ transmission, upload, confirmable, unwanted }) =>
      transmission === null && upload === null && confirmable && unwanted === 0,
  );

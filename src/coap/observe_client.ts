import { equal, hex } from '../base/bytes.ts';
import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { CoapRequest, CoapResponse, FailureReason, RequestOptions } from './api.ts';
import { blockOf, operationKey } from './block.ts';
import type { Client } from './client.ts';
import { isSuccess } from './codes.ts';
import type { Core, Peer } from './core.ts';
import type { Message } from './message.ts';
import { OBSERVE } from './observe_server.ts';
import { firstUint, maxAgeOf, OPTION, type Option, recognised, uintOption } from './options.ts';
import {
  isUnsent,
  type Listener,
  NO_RESPONSE_AT_ALL,
  type Outgoing,
  superseded,
  wholeResponse,
} from './outgoing.ts';

/** A resource of which we want to know the changes (RFC 7641, section 3). */
export interface Observation {
  readonly kind: 'observation';
  readonly handle: number;
  readonly peer: Peer;
  readonly request: CoapRequest;
  /** See `operationKey`. */
  readonly key: string;
  readonly priority: Priority;
  readonly confirmable: boolean;
  /** See `RequestOptions`. */
  readonly renews: boolean;
  /** How long a registration, or the fetching of a large representation, may take. */
  readonly patience: Millis;
  readonly token: Uint8Array;
  /** The Request-Tag that it was registered with: undefined before that, null without. */
  tag: Option | null | undefined;
  /** The registration that is on its way. */
  registering: Outgoing | null;
  /** The rest of the newest representation. */
  fetching: Outgoing | null;
  /** The newest representation's number, and when it came. */
  latest: { readonly sequence: number; readonly at: Millis } | null;
  /** Whether the application has got the first response. */
  established: boolean;
  /** Whether the server has ended it: what is being fetched is the last. */
  ending: boolean;
  /** How often in succession a large representation has changed before the rest of it was there. */
  changes: number;
}

/** RFC 7641, section 3.4: half of the numbers there are, and the time in which a server does not use up as many. */
const HALF_OF_SEQUENCE = 2 ** 23;
const SEQUENCE_LIFETIME: Millis = 128_000;
/** RFC 7641, section 3.3.1: how long after its Max-Age a representation is asked for. */
const SHORTEST_RENEWAL_DELAY: Millis = 5_000;
const LONGEST_RENEWAL_DELAY: Millis = 15_000;

/** Ours: after so many changes in succession it is waited for a quieter moment. */
const MOST_CHANGES = 3;

/** The client's half of RFC 7641: registers, tells old from new, renews, and lets go. */
export class Observations {
  readonly #core: Core;
  readonly #client: Client;
  readonly #understood: ReadonlySet<number>;
  readonly #byHandle = new Map<number, Observation>();

  constructor(core: Core, client: Client) {
    this.#core = core;
    this.#client = client;
    this.#understood = new Set([OPTION.block2, ...core.understood]);
  }

  get size(): number {
    return this.#byHandle.size;
  }

  /**
   * Whether a target is being observed: same method, payload, and options of the cache-key.
   * @param supersedes what names the request whose place the new one takes: that one does not count
   */
  observes(peer: Peer, { code, options, payload }: CoapRequest, supersedes: string | undefined): boolean {
    const key = operationKey(code, options);
    const givesWay = superseded(peer, supersedes);
    return [...peer.observed.values()].some(
      (other) =>
        other.key === key &&
        equal(other.request.payload, payload) &&
        !other.ending &&
        (givesWay === undefined || other.registering !== givesWay),
    );
  }

  start(peer: Peer, handle: number, request: CoapRequest, options: RequestOptions, now: Millis): void {
    const observation: Observation = {
      kind: 'observation',
      handle,
      peer,
      request,
      key: operationKey(request.code, request.options),
      priority: options.priority,
      confirmable: options.confirmable ?? true,
      renews: options.renews ?? true,
      patience: Math.max(0, options.deadline - now),
      token: peer.tokens.takeHandle(),
      tag: undefined,
      registering: null,
      fetching: null,
      latest: null,
      established: false,
      ending: false,
      changes: 0,
    };
    this.#byHandle.set(handle, observation);
    peer.observed.set(hex(observation.token), observation);
    this.#register(observation, options.supersedes, now);
  }

  /** Ends an observation and tells the server. Returns whether there was one with that handle. */
  cancel(handle: number, now: Millis): boolean {
    const observation = this.#byHandle.get(handle);
    if (observation === undefined) return false;
    const { registering, ending, peer, request, priority, confirmable, patience, token, tag } = observation;
    const unknown = ending || (!observation.established && registering !== null && isUnsent(registering));
    const isOneMessage = registering?.uploadSize == null && request.payload.length <= this.#room(peer);
    this.#remove(observation, now);
    this.#core.events.push({ kind: 'failed', handle, reason: 'cancelled' });
    // A body of several messages would have to go all over again: the next notification is rejected instead.
    if (unknown || !isOneMessage) this.#release(observation);
    else {
      const observing = { token, option: uintOption(OPTION.observe, OBSERVE.deregister) };
      const release = (): void => this.#release(observation);
      this.#client.start(
        peer,
        // The representation would come once more; where a byte is dear it is not wanted (RFC 7967).
        this.#isModelled(peer) ? quiet(request) : request,
        { deadline: now + patience, priority, confirmable, observing, tag: tag ?? null },
        { begun: release, completed: release, failed: release, sent: release },
        now,
      );
    }
    return true;
  }

  /** Ends an observation without a word to the server: what still comes of it is rejected. */
  drop(handle: number, now: Millis): void {
    const observation = this.#byHandle.get(handle);
    if (observation === undefined) return;
    this.#remove(observation, now);
    this.#release(observation);
  }

  /**
   * A message with the observation's token that answers none of our requests.
   * @returns false where it has to be rejected.
   */
  arrived(observation: Observation, message: Message, now: Millis): boolean {
    if (observation.ending) return false;
    const options = recognised(message.options, this.#understood, 'response');
    const block2 = options.ok ? blockOf(options.value, OPTION.block2) : undefined;
    if (!options.ok || block2?.ok !== true || (block2.value?.num ?? 0) !== 0) {
      this.#fail(observation, 'bad_response', now);
      return false;
    }
    this.#begun(
      observation,
      { code: message.code, options: options.value, payload: message.payload },
      false,
      now,
    );
    return true;
  }

  /** What is known has become too old: asks for it again, with the same token. */
  fire(observation: Observation, now: Millis): void {
    if (observation.registering !== null || observation.ending) return;
    if (observation.fetching !== null) this.#renewAfter(observation, 0, now);
    else this.#register(observation, undefined, now);
  }

  /** The peer has forgotten its observers: all of our requests to it start over, and so do the observations. */
  restart(peer: Peer, now: Millis): void {
    const registered = [...peer.observed.values()].filter(
      ({ registering, ending }) => registering === null && !ending,
    );
    for (const observation of registered) this.#stopFetching(observation, now);
    this.#client.restart(peer, now);
    for (const observation of peer.observed.values()) observation.latest = null;
    for (const observation of registered) {
      if (observation.renews) this.#register(observation, undefined, now);
      else this.#fail(observation, 'reset', now);
    }
  }

  forget(peer: Peer, now: Millis): void {
    for (const observation of [...peer.observed.values()]) this.#fail(observation, 'cancelled', now);
  }

  #register(observation: Observation, supersedes: string | undefined, now: Millis): void {
    const { peer, request, priority, confirmable, patience, token, tag } = observation;
    this.#core.timers.clear(observation);
    const observing = { token, option: uintOption(OPTION.observe, OBSERVE.register) };
    const listener: Listener = {
      begun: (response, piggybacked, then) => {
        observation.tag = observation.registering?.tag ?? null;
        observation.registering = null;
        this.#begun(observation, response, piggybacked, then);
      },
      completed: () => undefined,
      failed: (reason, then) => this.#fail(observation, reason, then),
      sent: (then) => this.#fail(observation, 'timeout', then),
    };
    const options = { deadline: now + patience, priority, confirmable, supersedes, observing };
    observation.registering = this.#client.start(
      peer,
      request,
      tag === undefined ? options : { ...options, tag },
      listener,
      now,
    );
  }

  /** A representation, or its first block: the newest, a late one, or the last. */
  #begun(observation: Observation, response: CoapResponse, piggybacked: boolean, now: Millis): void {
    const sequence = firstUint(response.options, OPTION.observe);
    const continues = isSuccess(response.code) && sequence !== undefined;
    if (observation.established) this.#core.counters.notificationsIn++;
    if (continues) {
      this.#renewAfter(observation, maxAgeOf(response.options) * 1_000, now);
      // The answer in the acknowledgement of a registration was made after it, whatever its number says.
      if (!piggybacked && !isNewer(sequence, observation.latest, now)) {
        this.#core.counters.notificationsStale++;
        return;
      }
      observation.latest = { sequence, at: now };
    } else {
      observation.ending = true;
      this.#core.timers.clear(observation);
    }
    this.#stopFetching(observation, now);
    const block2 = blockOf(response.options, OPTION.block2);
    if (block2.ok && block2.value?.more === true) this.#fetchRest(observation, response, now);
    else this.#deliver(observation, wholeResponse(response, response.payload), now);
  }

  #fetchRest(observation: Observation, first: CoapResponse, now: Millis): void {
    const { peer, request, priority, confirmable, patience, tag = null } = observation;
    const listener: Listener = {
      completed: (response, then) => {
        observation.fetching = null;
        this.#deliver(observation, response, then);
      },
      changed: (then) => this.#changed(observation, then),
      failed: (reason, then) => this.#fail(observation, reason, then),
      sent: (then) => this.#fail(observation, 'timeout', then),
    };
    const options = { deadline: now + patience, priority, confirmable, tag };
    const fetching = this.#client.fetchRest(peer, request, first, options, listener, now);
    // Its first block may have been against the rules.
    if (this.#byHandle.has(observation.handle)) observation.fetching = fetching;
  }

  /**
   * The rest is of something newer. A plain request for it would have no number, and the notification that comes late
   * could not be told from one that is newer: so it is asked for by registering again.
   */
  #changed(observation: Observation, now: Millis): void {
    observation.fetching = null;
    observation.changes++;
    if (observation.ending) this.#fail(observation, 'bad_response', now);
    else if (observation.registering !== null) return;
    else if (observation.changes > MOST_CHANGES) this.#renewAfter(observation, 0, now);
    else this.#register(observation, undefined, now);
  }

  #deliver(observation: Observation, response: CoapResponse, now: Millis): void {
    const { handle, ending, established } = observation;
    observation.established = true;
    observation.changes = 0;
    if (ending) {
      this.#remove(observation, now);
      this.#release(observation);
    }
    const { events } = this.#core;
    if (!established) events.push({ kind: 'response', handle, response, observing: !ending });
    else {
      events.push({ kind: 'notification', handle, response });
      if (ending) events.push({ kind: 'failed', handle, reason: 'ended' });
    }
  }

  #renewAfter(observation: Observation, delay: Millis, now: Millis): void {
    if (!observation.renews) return;
    const spread = LONGEST_RENEWAL_DELAY - SHORTEST_RENEWAL_DELAY;
    // Where a lost notification takes long to be repeated, it is waited for.
    const timing = this.#core.timing(observation.peer.name);
    const copy = timing.maxRetransmit === null ? timing.retransmitAfter(0, 0, 0) : 0;
    const wait = delay + copy + SHORTEST_RENEWAL_DELAY + this.#core.random.fraction() * spread;
    this.#core.timers.set(observation, now + wait);
  }

  #fail(observation: Observation, reason: FailureReason, now: Millis): void {
    this.#remove(observation, now);
    this.#release(observation);
    this.#core.events.push({ kind: 'failed', handle: observation.handle, reason });
  }

  #stopFetching(observation: Observation, now: Millis): void {
    const { fetching } = observation;
    observation.fetching = null;
    if (fetching !== null) this.#client.drop(fetching, now);
  }

  #remove(observation: Observation, now: Millis): void {
    const { peer, handle, token, registering } = observation;
    this.#byHandle.delete(handle);
    peer.observed.delete(hex(token));
    this.#core.timers.clear(observation);
    this.#stopFetching(observation, now);
    observation.registering = null;
    if (registering !== null) this.#client.drop(registering, now);
  }

  /** What still comes with its token is rejected, and no request uses that for a while. */
  #release({ peer, token }: Observation): void {
    peer.tokens.release(hex(token), false);
  }

  #room(peer: Peer): number {
    const { blockSize, undividedSize = blockSize } = this.#core.timing(peer.name);
    return undividedSize;
  }

  #isModelled(peer: Peer): boolean {
    return this.#core.timing(peer.name).maxRetransmit === null;
  }
}

/** Whether a notification is newer than the latest one (RFC 7641, section 3.4). */
function isNewer(sequence: number, latest: Observation['latest'], now: Millis): boolean {
  if (latest === null || now > latest.at + SEQUENCE_LIFETIME) return true;
  const ahead = sequence - latest.sequence;
  return (ahead > 0 && ahead < HALF_OF_SEQUENCE) || ahead < -HALF_OF_SEQUENCE;
}

const quiet = (request: CoapRequest): CoapRequest => ({
  ...request,
  options: [...request.options, uintOption(OPTION.noResponse, NO_RESPONSE_AT_ALL)],
});

import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { CoapDatagram, CoapEvent, CoapResponse, CoapStep } from '../coap/api.ts';
import { CoapEndpoint } from '../coap/endpoint.ts';
import type { Timing } from '../coap/timing.ts';
import { type Address, type Link, sustainedRate } from '../link/link.ts';
import { Pacer, type PacerStep } from '../link/pacer.ts';
import type { ServerName } from '../matrix/ids.ts';
import type { Agreement } from '../pipe/agreement.ts';
import { Allowance } from '../pipe/allowance.ts';
import { PipeEndpoint, type PipeEvent, type PipeStep } from '../pipe/endpoint.ts';
import { deviceKeyOf, nameOf } from '../pipe/identity.ts';
import { messageOf } from '../pipe/peer_messages.ts';
import { AgreedForms, OWN_DICTIONARIES } from './agreed_form.ts';
import { AirtimeWatch } from './airtime_watch.ts';
import { PeerCoders } from './coders.ts';
import { Driver } from './driver.ts';
import { isEarlySend, mayBeEarly, TOO_EARLY } from './early_requests.ts';
import { ExchangeError } from './exchange_error.ts';
import { ALL_LAYERS } from './layers.ts';
import {
  largestMessage,
  messageTimesOf,
  NO_RECORD,
  PeerTimings,
  PIPE_RECORD,
  timingOf,
} from './link_timing.ts';
import { Observations } from './observations.ts';
import { OpenRequests } from './open_requests.ts';
import { type ExchangeObserved, type ExchangeObserveOptions, OwnObservations } from './own_observations.ts';
import { TARGET } from './own_options.ts';
import { plainCodec } from './plain_codec.ts';
import { isAllowed, mustProve, type PlainPolicy, refusal } from './plain_policy.ts';
import type { Caller, ExchangeRequest } from './request.ts';
import { type ExchangeResponse, errorResponse } from './response.ts';
import { isSecret } from './secret_routes.ts';
import { type RequestHandler, Serving } from './serving.ts';
import { SessionKeeper } from './session_keeper.ts';
import type {
  ExchangeCounters,
  ExchangeHeld,
  ExchangeLog,
  ExchangeObservation,
  ExchangeOptions,
  ExchangeRequestOptions,
} from './socket_options.ts';
import type { TrustPolicy } from './trust.ts';

// The specification's: how the first byte tells apart what shares a port (docs/protocol.md, "One port").
const FIRST_PIPE_BYTE = 0x80;
const FIRST_PLAIN_BYTE = 0x40;

// Ours.
/** Unanswered copies, with nothing else coming from the peer, after which the session is suspected to be gone. */
const SUSPICIOUS_ATTEMPTS = 3;
/** Peers whose silence is counted; past it counting begins anew. */
const MAX_SILENT_PEERS = 4096;
/** Refusals of plain CoAP: a rate per second, what may come at once, and the share of a known rate's airtime. */
const REFUSALS_PER_SECOND = 1;
const REFUSALS_BURST = 4;
const REFUSALS_SHARE = 0.02;
/** Whatever strangers can cause goes after the messages and the state of those who have proved who they are. */
const STRANGER_PRIORITY: Priority = 3;
/** Authenticated inside the pipe, so that nobody gains from guessing a token. */
const PIPE_TOKEN_BYTES = 2;
const PIPE_HANDLE_BYTES = 1;

/** Inputs that wait while sessions are loaded, at most, where more datagrams come. */
const MAX_WAITING_INPUTS = 1_024;
/** How long a device with a session is tried to be told of a start. */
const START_TOLD_MS: Millis = 10 * 60_000;

/** Which of the two CoAP endpoints: the one inside the pipe, or the one for everybody's CoAP. */
type Layer = 'pipe' | 'plain';

/** What the pacer hands back when a datagram has left. */
interface Tag {
  readonly label: string;
  readonly layer: Layer;
  readonly receipts: readonly number[];
  readonly handshake: number | null;
}

/**
 * One datagram link with everything on it: pipes with other servers, CoAP inside them, and plain CoAP. Drives the pure
 * machines: hands them datagrams and the time, sends what they return through the pacer, and turns their events into
 * calls of the handler and settled promises.
 *
 *     link ─> first byte ─┬─> PipeEndpoint ─> CoapEndpoint ─> AgreedForms ┐
 *                         └─────────────────> CoapEndpoint ─> plainCodec ─┴> handler
 */
export class ExchangeSocket {
  readonly counters: ExchangeCounters;
  readonly #link: Link;
  readonly #trust: TrustPolicy;
  readonly #earlySends: boolean;
  readonly #plain: PlainPolicy;
  /** Marks what everybody can read: in callers, and in every line of the log about a pipe. */
  readonly #mode: { readonly mode?: 'authenticated-only' };
  readonly #keeper: SessionKeeper | undefined;
  readonly #log: ExchangeLog | undefined;
  readonly #onRefused: ExchangeOptions['onRefused'];
  readonly #observer: ((observation: ExchangeObservation) => void) | undefined;
  readonly #pipe: PipeEndpoint;
  readonly #forms: AgreedForms;
  readonly #coap: Readonly<Record<Layer, CoapEndpoint>>;
  readonly #pacer: Pacer<Tag>;
  readonly #open = new OpenRequests();
  readonly #serving: Serving;
  /** Others' observations, and this side's own. */
  readonly #observations: Observations;
  readonly #observing: OwnObservations;
  readonly #refusals = new Allowance(REFUSALS_PER_SECOND, REFUSALS_BURST, REFUSALS_SHARE);
  readonly #timings: PeerTimings;
  readonly #airtime: AirtimeWatch;
  readonly #driver: Driver<'pacer' | 'pipe' | 'inPipe' | 'plain' | 'fits' | 'keepAlive'>;
  readonly #keepAliveMs: Millis | undefined;
  /** Copies that were not answered since something came from a peer through the pipe. */
  readonly #silence = new Map<string, number>();
  #handle: RequestHandler | undefined;

  constructor({
    link,
    clock,
    random,
    identity,
    trust,
    acceptDevices = false,
    earlySends = false,
    deferredSignatures = false,
    plain,
    store,
    network,
    models = [],
    layers = ALL_LAYERS,
    dictionaries = OWN_DICTIONARIES,
    keepAliveMs,
    linkName,
    timing,
    fits,
    limits,
    log,
    onRefused,
    observer,
  }: ExchangeOptions) {
    this.#link = link;
    this.#trust = trust;
    this.#earlySends = earlySends;
    this.#keepAliveMs = keepAliveMs;
    this.#plain = plain;
    this.#mode = network?.mode === 'authenticated-only' ? { mode: network.mode } : {};
    this.#keeper = store && new SessionKeeper(store, clock, (token) => this.#stored(token), log);
    this.#log = log;
    this.#onRefused = onRefused;
    this.#observer = observer;
    const { profile } = link;
    const coders = new PeerCoders(models, { layers });
    this.#forms = new AgreedForms((peer) => this.#pipe.agreed(peer), {
      coders,
      session: (peer) => this.#pipe.sessionName(peer),
      link: linkName,
      ownServer: identity.kind === 'server' ? identity.serverName : null,
      now: () => this.#driver.latest,
      random,
      layers,
    });
    this.#airtime = new AirtimeWatch(log);
    this.#timings = new PeerTimings({
      profile,
      idle: () => this.#pacer.isIdle(this.#driver.latest),
      agreed: (peer) => this.#pipe.agreed(peer),
      fits,
      log,
    });
    const plainTiming = timing?.plain ?? timingOf(profile, NO_RECORD);
    const handshakeTiming = { ...profile, sustainedRate: sustainedRate(profile) };
    this.#pipe = new PipeEndpoint({
      identity,
      acceptDevices,
      random,
      capabilities: {
        mtu: profile.mtu,
        rate: profile.rate,
        dictionaries: [...coders.models, ...dictionaries],
        earlyData: earlySends,
        deferredSignatures,
      },
      handshakeTiming: () => handshakeTiming,
      messageTimes: (peer) => messageTimesOf(timing?.pipe ?? this.#timings.of(peer)),
      ...(network === undefined ? {} : { network }),
      isPersistent: store !== undefined,
      wallOrigin: clock.wall() - clock.monotonic(),
      ...(limits?.pipe === undefined ? {} : { limits: limits.pipe }),
    });
    const pipeTiming = (peer: string): Timing => timing?.pipe ?? this.#timings.of(peer);
    const coapOptions = { random, ...(limits?.coap === undefined ? {} : { limits: limits.coap }) };
    this.#coap = {
      pipe: new CoapEndpoint({
        ...coapOptions,
        timing: pipeTiming,
        mtu: (peer) => largestMessage(profile, PIPE_RECORD, this.#pipe.agreed(peer)),
        tokenBytes: PIPE_TOKEN_BYTES,
        handleBytes: PIPE_HANDLE_BYTES,
        selective: true,
      }),
      plain: new CoapEndpoint({
        ...coapOptions,
        timing: () => plainTiming,
        mtu: largestMessage(profile, NO_RECORD),
        understood: [TARGET],
        mustProve: (peer) => mustProve(plain, peer),
      }),
    };
    this.#pacer = new Pacer<Tag>(profile, limits?.pacer);
    this.#driver = new Driver(clock, {
      pacer: (now) => this.#applyPacer(this.#pacer.tick(now), now),
      pipe: (now) => this.#applyPipe(this.#pipe.tick(now), now),
      inPipe: (now) => this.#applyCoap('pipe', this.#coap.pipe.tick(now), now),
      plain: (now) => this.#applyCoap('plain', this.#coap.plain.tick(now), now),
      fits: () => {
        this.#driver.setDeadline('fits', null);
        void this.#timings.save();
      },
      keepAlive: (now) => this.#keepAlive(now),
    });
    this.#serving = new Serving((error) => log?.error({ err: error }, 'a request handler failed'));
    this.#observations = new Observations(clock, {
      ask: (caller, request, signal) => this.#serving.run(this.#handle!, caller, request, undefined, signal),
      room: (peer) => this.#coap.pipe.undivided(peer),
      notify: (exchange, notification) =>
        this.#driver.enter((now) =>
          this.#applyCoap(
            'pipe',
            this.#coap.pipe.notify(exchange, notification, now, { confirmable: true }),
            now,
          ),
        ),
      end: (exchange) =>
        this.#driver.enter((now) =>
          this.#applyCoap('pipe', this.#coap.pipe.endObservation(exchange, now), now),
        ),
    });
    this.#observing = new OwnObservations(
      (peer, response, request) => this.#forms.decodeResponse(peer, response, { request }),
      (handle) =>
        this.#driver.enter((now) =>
          this.#applyCoap('pipe', this.#coap.pipe.dropObservation(handle, now), now),
        ),
    );
    const held = (): ExchangeHeld => ({
      pipe: this.#pipe.sizes,
      inPipe: this.#coap.pipe.held,
      plain: this.#coap.plain.held,
      requests: this.#open.size,
      serving: this.#serving.size,
      pacer: this.#pacer.waiting,
    });
    this.counters = {
      get held() {
        return held();
      },
      ...{
        datagramsIn: 0,
        datagramsOut: 0,
        bytesIn: 0,
        bytesOut: 0,
        ignored: 0,
        plainRefused: 0,
        dropped: 0,
      },
      ...{ established: 0, resumed: 0, restarts: 0, refused: 0, unreachable: 0 },
      ...{ requestsIn: 0, requestsOut: 0, responsesIn: 0, malformedIn: 0, earlyIn: 0, tooEarly: 0 },
      written: this.#forms.written,
      inPipe: this.#coap.pipe.counters,
      plain: this.#coap.plain.counters,
      pipe: this.#pipe.statistics,
    };
    link.onReceive((from, bytes) => {
      // What finds no room while sessions are loaded is lost, as on any link.
      if (this.#driver.waiting < MAX_WAITING_INPUTS)
        this.#driver.enter((now) => this.#received(from, bytes, now));
    });
    if (this.#keeper !== undefined) this.#resume(this.#keeper);
  }

  /** Loads the sessions of the last process. Everything else waits: a peer's record must not meet a stranger. */
  #resume(keeper: SessionKeeper): void {
    this.#driver.pause();
    keeper.load().then(({ sessions, early }) => {
      if (this.#driver.closed) return;
      this.counters.resumed = sessions.length;
      this.#driver.resume((now) => {
        this.#applyPipe(this.#pipe.restored(sessions, now, early), now);
        for (const { claim } of sessions) if (claim.kind === 'device') this.#tellOfStart(nameOf(claim), now);
      });
    });
  }

  /** A device that observes has to register anew, and does not know it before it hears of this start. */
  #tellOfStart(device: string, now: Millis): void {
    const details = { deadline: now + START_TOLD_MS, priority: STRANGER_PRIORITY };
    this.#applyCoap('pipe', this.#coap.pipe.ping(device, details, now).step, now);
  }

  /** Of all peers at once: one that something has gone to meanwhile gets one record more than it needs. */
  #keepAlive(now: Millis): void {
    const { peers } = this.#observing;
    const interval = this.#keepAliveMs;
    this.#driver.setDeadline('keepAlive', interval === undefined || peers.size === 0 ? null : now + interval);
    for (const peer of peers) this.#applyPipe(this.#pipe.keepAlive(peer, now), now);
  }

  #stored(token: number): void {
    this.#driver.enter((now) => {
      if (!this.#driver.closed) this.#applyPipe(this.#pipe.stored(token, now), now);
    });
  }

  /** Sets the one handler of requests; until then, and without one, every request gets 503. */
  onRequest(handle: RequestHandler): void {
    this.#handle = handle;
  }

  /** What has been agreed with a peer: in its session, or else in the last one that is remembered. */
  agreed(peer: string): Agreement {
    return this.#pipe.agreed(peer);
  }

  /**
   * Sends a request through the pipe to a server and waits for its answer, of whatever status. It is written for what is known
   * of the peer now; to one that is met for the first time in the form that every peer reads.
   * @param address where the configuration or discovery says that the server is; the pipe may know a newer one
   * @throws ExchangeError where there is no answer
   */
  request(
    peer: ServerName,
    address: Address,
    request: ExchangeRequest,
    options: ExchangeRequestOptions,
  ): Promise<ExchangeResponse> {
    const { timeoutMs, signal, ...how } = options;
    if (signal?.aborted)
      return Promise.reject(new ExchangeError('cancelled', 'nobody waits for the request'));
    // The peer would refuse it as well, when everybody has read it.
    if (this.#mode.mode !== undefined && isSecret(request))
      return Promise.reject(
        new ExchangeError('invalid', 'everybody can read what passes there, and this is not for everybody'),
      );
    return new Promise((resolve, reject) => {
      this.#driver.enter((now) => {
        if (this.#driver.closed) return reject(new ExchangeError('closed', 'the socket is closed'));
        this.#pipe.setPeer(peer, address);
        const details = { ...how, deadline: now + timeoutMs };
        let latest: number | undefined;
        let name: number | undefined;
        const cancel = (): void =>
          this.#driver.enter((then) => {
            if (latest !== undefined) this.#applyCoap('pipe', this.#coap.pipe.cancel(latest, then), then);
          });
        const settle = <T>(how: (outcome: T) => void) => {
          return (outcome: T): void => {
            signal?.removeEventListener('abort', cancel);
            how(outcome);
          };
        };
        const ask = (then: Millis, early: boolean, isAgain = false): void => {
          const encoded = this.#forms.encodeRequest(peer, request, { isEarly: early, isAgain });
          if (!encoded.ok) {
            settle(reject)(new ExchangeError('invalid', encoded.problem));
            return;
          }
          // What the peer has not understood is the same request under the same name: it may have done it before its start.
          const as = isAgain && name !== undefined ? { early, name } : { early };
          const asked = this.#coap.pipe.request(peer, encoded.value, { ...details, ...as }, then);
          const { handle, step } = asked;
          latest = handle;
          name = asked.name;
          const answered = (response: ExchangeResponse): void => {
            this.#forms.ended(encoded.value, response);
            if (this.#forms.isMisread(peer, encoded.value, response)) ask(this.#driver.latest, false, true);
            else settle(resolve)(response);
          };
          const failed = (error: ExchangeError): void => {
            this.#forms.ended(encoded.value);
            settle(reject)(error);
          };
          const again = (at: Millis): void => {
            this.#forms.ended(encoded.value);
            ask(at, false);
          };
          const read = (answer: CoapResponse) =>
            this.#forms.decodeResponse(peer, answer, { request, sent: encoded.value });
          const open = { peer, resolve: answered, reject: failed, read };
          // Where it was too early: once more, on the session that has brought this answer.
          this.#open.add(handle, early ? { ...open, again } : open);
          this.#applyCoap('pipe', step, then);
        };
        this.counters.requestsOut++;
        signal?.addEventListener('abort', cancel, { once: true });
        ask(now, this.#earlySends && isEarlySend(request));
      });
    });
  }

  /**
   * Asks a server for /sync and for what comes after it (docs/protocol.md, "Observing /sync"), until the signal aborts.
   * Nothing is renewed by itself: a position that is not the server's any more has to be replaced by whoever asks.
   * @throws ExchangeError where there is no first answer
   */
  observe(
    peer: ServerName,
    address: Address,
    request: ExchangeRequest,
    { timeoutMs, priority, signal, onNotification, onEnd }: ExchangeObserveOptions,
  ): Promise<ExchangeObserved> {
    if (signal?.aborted) return Promise.reject(new ExchangeError('cancelled', 'nobody waits for the answer'));
    return new Promise((resolve, reject) => {
      this.#driver.enter((now) => {
        if (this.#driver.closed) return reject(new ExchangeError('closed', 'the socket is closed'));
        this.#pipe.setPeer(peer, address);
        const encoded = this.#forms.encodeRequest(peer, request, { isUnnamed: true });
        if (!encoded.ok) return reject(new ExchangeError('invalid', encoded.problem));
        // Nothing is learnt from it.
        this.#forms.ended(encoded.value);
        const details = { priority, deadline: now + timeoutMs, renews: false };
        const { handle, step } = this.#coap.pipe.observe(peer, encoded.value, details, now);
        const cancel = (): void =>
          this.#driver.enter((then) => this.#applyCoap('pipe', this.#coap.pipe.cancel(handle, then), then));
        const ended: ExchangeObserveOptions['onEnd'] = (reason) => {
          signal?.removeEventListener('abort', cancel);
          onEnd(reason);
        };
        signal?.addEventListener('abort', cancel, { once: true });
        this.#observing.add(handle, {
          peer,
          request,
          resolve,
          reject,
          options: { onNotification, onEnd: ended },
        });
        this.#applyCoap('pipe', step, now);
      });
    });
  }

  /** Ends the sessions of a peer of the pipe. @param reason told to the peer */
  forget(peer: string, reason: string): void {
    this.#driver.enter((now) => {
      if (!this.#driver.closed) this.#applyPipe(this.#pipe.forget(peer, reason, now), now);
    });
  }

  /**
   * Rejects what is open, aborts the handlers, closes the link, and waits for the handlers' end. Nothing is sent any more: peers
   * find out by their timers.
   */
  async close(): Promise<void> {
    if (this.#driver.closed) return;
    this.#driver.close();
    this.#open.close();
    this.#observing.close();
    const observed = this.#observations.close();
    const served = this.#serving.close();
    const saved = this.#timings.save();
    await this.#link.close();
    await served;
    await observed;
    await saved;
    await this.#keeper?.close();
  }

  #received(from: Address, bytes: Uint8Array, now: Millis): void {
    this.counters.datagramsIn++;
    this.counters.bytesIn += bytes.length;
    this.#observer?.({ direction: 'received', at: now, peer: from, bytes, label: '' });
    const first = bytes[0] ?? 0;
    if (first >= FIRST_PIPE_BYTE) this.#applyPipe(this.#pipe.receive(from, bytes, now), now);
    else if (first < FIRST_PLAIN_BYTE) this.counters.ignored++;
    else if (isAllowed(this.#plain, from))
      this.#applyCoap('plain', this.#coap.plain.receive(from, bytes, now), now);
    else this.#refusePlain(from, bytes, now);
  }

  #refusePlain(from: Address, bytes: Uint8Array, now: Millis): void {
    this.counters.plainRefused++;
    const answer = refusal(bytes);
    if (answer === undefined) return;
    const { profile } = this.#link;
    const wireBytes = answer.length + profile.overhead;
    const cost = { wireBytes, rate: sustainedRate(profile), isKnown: () => true };
    if (!this.#refusals.take(cost, now)) return;
    this.#send(from, answer, 0, { label: 'ACK 4.03', layer: 'plain', receipts: [], handshake: null }, now);
  }

  /** @param isEarly whether all of it has come of early data */
  #applyCoap(layer: Layer, step: CoapStep, now: Millis, isEarly = false): void {
    this.#driver.setDeadline(layer === 'pipe' ? 'inPipe' : 'plain', step.deadline);
    this.#driver.setDeadline('fits', this.#timings.deadline(now));
    if (layer === 'pipe') {
      // What goes to one peer goes at once, so that it can share a record.
      for (const [peer, datagrams] of Map.groupBy(step.datagrams, ({ peer }) => peer))
        this.#applyPipe(this.#pipe.send(peer, this.#ranked(peer, datagrams), now), now);
    } else {
      for (const { peer, bytes, priority, receipt, label } of step.datagrams) {
        const tag = { label, layer, receipts: receipt === null ? [] : [receipt], handshake: null };
        this.#send(peer, bytes, lower(priority, STRANGER_PRIORITY), tag, now);
      }
    }
    for (const event of step.events) this.#onCoap(layer, event, now, isEarly);
  }

  #ranked(peer: string, datagrams: readonly CoapDatagram[]): readonly CoapDatagram[] {
    if (!this.#trust.isStranger?.(peer)) return datagrams;
    return datagrams.map((datagram) => ({
      ...datagram,
      priority: lower(datagram.priority, STRANGER_PRIORITY),
    }));
  }

  #applyPipe(step: PipeStep, now: Millis): void {
    this.#driver.setDeadline('pipe', step.deadline);
    // The endpoint uses nothing that a crash would repeat before it is told that this is on the disk.
    this.#keeper?.keep(step.writes);
    for (const { to, bytes, priority, receipts, handshake, label } of step.datagrams)
      this.#send(to, bytes, priority, { label, layer: 'pipe', receipts, handshake }, now);
    for (const event of step.events) this.#onPipe(event, now);
  }

  #send(to: Address, bytes: Uint8Array, priority: Priority, tag: Tag, now: Millis): void {
    this.#applyPacer(this.#pacer.enqueue({ to, bytes, priority, tag }, now), now);
  }

  #applyPacer(step: PacerStep<Tag>, now: Millis): void {
    this.#driver.setDeadline('pacer', step.deadline);
    this.#airtime.see(this.#pacer.forbiddenUntil, now);
    for (const { to, bytes, tag } of step.datagrams) {
      if (this.#driver.closed) break;
      this.counters.datagramsOut++;
      this.counters.bytesOut += bytes.length;
      this.#observer?.({ direction: 'sent', at: now, peer: to, bytes, label: tag.label });
      this.#link.send(to, bytes, tag.label);
    }
    for (const event of step.events) {
      if (event.kind === 'dropped') this.counters.dropped++;
      this.#left(event.tag, event.kind === 'left' ? event.at : now);
    }
  }

  /** Whoever waits for the datagram to leave starts its timer, also where it never will. */
  #left({ layer, receipts, handshake }: Tag, at: Millis): void {
    if (handshake !== null) this.#applyPipe(this.#pipe.left(handshake, at), at);
    for (const receipt of receipts) this.#applyCoap(layer, this.#coap[layer].left(receipt, at), at);
  }

  #onPipe(event: PipeEvent, now: Millis): void {
    switch (event.kind) {
      case 'payload':
        this.#silence.delete(event.peer);
        this.#observations.heard(event.peer);
        if (deviceKeyOf(event.peer) === undefined) this.#trust.heard?.(event.peer);
        this.#applyCoap('pipe', this.#coap.pipe.receive(event.peer, event.bytes, now, event.copy), now);
        break;
      case 'early':
        this.#applyCoap('pipe', this.#coap.pipe.receive(event.peer, event.bytes, now), now, true);
        break;
      case 'taken':
        this.#applyCoap('pipe', this.#coap.pipe.left(event.receipt, now), now);
        break;
      case 'identity':
        this.#decide(event);
        break;
      case 'established':
        this.#log?.debug({ ...this.#mode, peer: event.peer, restarted: event.restarted }, 'pipe established');
        this.counters.established++;
        this.#open.established(event.peer);
        if (!event.restarted) break;
        this.counters.restarts++;
        this.#forms.restarted(event.peer);
        this.#applyCoap('pipe', this.#coap.pipe.restarted(event.peer, now), now);
        break;
      case 'restarted':
        this.#log?.debug({ ...this.#mode, peer: event.peer }, 'the peer of a pipe has restarted');
        this.counters.restarts++;
        this.#forms.restarted(event.peer);
        this.#applyCoap('pipe', this.#coap.pipe.restarted(event.peer, now), now);
        break;
      case 'refused':
        this.#log?.warn(
          { ...this.#mode, peer: event.peer, by: event.by, reason: event.reason },
          'pipe refused',
        );
        this.counters.refused++;
        this.#onRefused?.(event);
        if (event.peer !== null) this.#open.refused(event.peer, event.reason);
        break;
      case 'unreachable':
        this.#log?.debug(
          { ...this.#mode, peer: event.peer, attempts: event.attempts },
          'no answer to a handshake',
        );
        this.counters.unreachable++;
        break;
      case 'dropped':
        this.counters.dropped++;
        this.#applyCoap('pipe', this.#coap.pipe.left(event.receipt, now), now);
    }
  }

  #decide({ session, claim, address, isResumed }: Extract<PipeEvent, { kind: 'identity' }>): void {
    this.#trust
      .decide(claim, address, isResumed)
      .catch((error: unknown) => {
        this.#log?.error({ ...this.#mode, err: error, peer: nameOf(claim) }, 'trust could not be decided');
        return { trusted: false, reason: 'trust could not be decided' } as const;
      })
      .then((verdict) => {
        this.#driver.enter((now) => this.#applyPipe(this.#pipe.decide(session, verdict, now), now));
      });
  }

  #onCoap(layer: Layer, event: CoapEvent, now: Millis, isEarly: boolean): void {
    switch (event.kind) {
      case 'request':
        this.#serve(layer, event, now, isEarly);
        break;
      case 'response':
        this.counters.responsesIn++;
        if (!this.#observing.answered(event)) this.#open.answered(event, now);
        else if (event.observing && this.#keepAliveMs !== undefined)
          this.#driver.setDeadline('keepAlive', now + this.#keepAliveMs);
        break;
      case 'failed':
        if (!this.#observing.failed(event)) this.#open.failed(event);
        break;
      case 'notification':
        this.#observing.notified(event);
        break;
      case 'notified':
        this.#observations.acknowledged(event.exchange);
        break;
      case 'observer_silent':
        this.#observations.silent(event.exchange);
        break;
      case 'observer_gone':
        this.#observations.gone(event.exchange);
        break;
      case 'unanswered':
        if (layer === 'pipe') this.#unanswered(event.peer, now);
    }
  }

  /** On a lossy link answers stay away as well; as long as the peer is heard, the session is not to blame. */
  #unanswered(peer: string, now: Millis): void {
    const copies = (this.#silence.get(peer) ?? 0) + 1;
    if (this.#silence.size >= MAX_SILENT_PEERS) this.#silence.clear();
    if (copies < SUSPICIOUS_ATTEMPTS) {
      this.#silence.set(peer, copies);
      return;
    }
    this.#silence.delete(peer);
    this.#applyPipe(this.#pipe.renew(peer, now), now);
  }

  #serve(layer: Layer, event: Extract<CoapEvent, { kind: 'request' }>, now: Millis, isEarly: boolean): void {
    this.counters.requestsIn++;
    const { exchange, request: coap, token } = event;
    const message = layer === 'pipe' ? messageOf(token) : undefined;
    const request =
      layer === 'pipe'
        ? this.#forms.decodeRequest(event.peer, coap, message)
        : plainCodec.decodeRequest(coap);
    const asked = request.ok ? request.value : undefined;
    const write = (response: ExchangeResponse): CoapResponse =>
      layer === 'pipe'
        ? this.#forms.encodeResponse(event.peer, response, coap, asked)
        : plainCodec.encodeResponse(response, coap);
    const respond = (response: ExchangeResponse, then: Millis, observe: false | 'lasting' = false): void => {
      const step = this.#coap[layer].respond(exchange, write(response), then, undefined, { observe });
      this.#applyCoap(layer, step, then);
    };
    if (!request.ok) {
      this.counters.malformedIn++;
      respond(errorResponse(request.problem), now);
    } else if (this.#handle === undefined) {
      respond({ status: 503, headers: {} }, now);
    } else if (isEarly && (event.observe || !mayBeEarly(request.value, this.#earlySends))) {
      this.counters.tooEarly++;
      respond(TOO_EARLY, now);
    } else {
      if (isEarly) this.counters.earlyIn++;
      const caller: Caller =
        layer === 'pipe' ? this.#callerOf(event.peer) : { kind: 'plain', address: event.peer };
      this.#serving.run(this.#handle, caller, request.value, message).then((response) => {
        this.#driver.enter((then) => {
          const isObserver =
            event.observe && caller.kind === 'device' && Observations.accepts(request.value, response);
          if (isObserver)
            this.#observations.begin({ exchange, peer: event.peer, caller, request: request.value, write });
          respond(response, then, isObserver ? 'lasting' : false);
        });
      });
    }
  }

  /** @param peer the name that the trust policy has accepted */
  #callerOf(peer: string): Caller {
    const key = deviceKeyOf(peer);
    if (key === undefined) return { kind: 'server', name: peer as ServerName, ...this.#mode };
    return { kind: 'device', key, address: this.#pipe.addressOf(peer) ?? '', ...this.#mode };
  }
}

const lower = (a: Priority, b: Priority): Priority => (a > b ? a : b);

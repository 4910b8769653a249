import type { Millis } from '../base/time.ts';
import type { CoapEvent, CoapResponse, CoapStep } from '../coap/api.ts';
import type { CoapEndpoint } from '../coap/endpoint.ts';
import type { Address } from '../link/link.ts';
import type { ServerName } from '../matrix/ids.ts';
import type { Agreement } from '../pipe/agreement.ts';
import type { PipeEvent } from '../pipe/endpoint.ts';
import { deviceKeyOf, nameOf } from '../pipe/identity.ts';
import { messageOf } from '../pipe/peer_messages.ts';
import { AgreedForms, OWN_DICTIONARIES } from './agreed_form.ts';
import { PeerCoders } from './coders.ts';
import { isEarlySend, mayBeEarly, TOO_EARLY } from './early_requests.ts';
import { ExchangeError } from './exchange_error.ts';
import { ALL_LAYERS } from './layers.ts';
import { type Layer, Machines } from './machines.ts';
import { Observations } from './observations.ts';
import { OpenRequests } from './open_requests.ts';
import { type ExchangeObserved, type ExchangeObserveOptions, OwnObservations } from './own_observations.ts';
import { plainCodec } from './plain_codec.ts';
import type { Caller, ExchangeRequest } from './request.ts';
import { type ExchangeResponse, errorResponse } from './response.ts';
import { isSecret } from './secret_routes.ts';
import { type RequestHandler, Serving } from './serving.ts';
import type {
  ExchangeCounters,
  ExchangeHeld,
  ExchangeLog,
  ExchangeOptions,
  ExchangeRequestOptions,
} from './socket_options.ts';
import type { TrustPolicy } from './trust.ts';

/** Unanswered copies, with nothing else coming from the peer, after which the session is suspected to be gone. */
const SUSPICIOUS_ATTEMPTS = 3;
/** Peers whose silence is counted; past it counting begins anew. */
const MAX_SILENT_PEERS = 4096;
/**
 * One datagram link with everything on it: pipes with other servers and devices, CoAP inside them, and plain CoAP. Turns what
 * the machines tell into calls of the handler and settled promises.
 *
 *     link ─> Machines ─┬─ in a pipe ─> AgreedForms ┐
 *                       └─ plain CoAP ─> plainCodec ┴─> handler
 */
export class ExchangeSocket {
  readonly counters: ExchangeCounters;
  readonly #trust: TrustPolicy;
  readonly #earlySends: boolean;
  /** Marks what everybody can read: in callers, and in every line of the log about a pipe. */
  readonly #mode: { readonly mode?: 'authenticated-only' };
  readonly #log: ExchangeLog | undefined;
  readonly #onRefused: ExchangeOptions['onRefused'];
  readonly #machines: Machines;
  readonly #forms: AgreedForms;
  readonly #open = new OpenRequests();
  readonly #serving: Serving;
  /** Others' observations, and this side's own. */
  readonly #observations: Observations;
  readonly #observing: OwnObservations;
  readonly #keepAliveMs: Millis | undefined;
  readonly #isServer: boolean;
  /** Copies that were not answered since something came from a peer through the pipe. */
  readonly #silence = new Map<string, number>();
  #handle: RequestHandler | undefined;

  constructor(options: ExchangeOptions) {
    const { identity, random, clock, trust, network, models = [], layers = ALL_LAYERS, log } = options;
    const { acceptDevices = false, earlySends = false, deferredSignatures = false } = options;
    const { dictionaries = OWN_DICTIONARIES } = options;
    this.#trust = trust;
    this.#earlySends = earlySends;
    this.#keepAliveMs = options.keepAliveMs;
    this.#isServer = identity.kind === 'server';
    this.#mode = network?.mode === 'authenticated-only' ? { mode: network.mode } : {};
    this.#log = log;
    this.#onRefused = options.onRefused;
    const coders = new PeerCoders(models, { layers });
    this.#forms = new AgreedForms((peer) => this.#machines.pipe.agreed(peer), {
      coders,
      session: (peer) => this.#machines.pipe.sessionName(peer),
      link: options.linkName,
      ownServer: identity.kind === 'server' ? identity.serverName : null,
      now: () => this.#machines.driver.latest,
      random,
      layers,
    });
    this.#serving = new Serving((error) => log?.error({ err: error }, 'a request handler failed'));
    this.#observations = new Observations(clock, {
      ask: (caller, request, signal) => this.#serving.run(this.#handle!, caller, request, undefined, signal),
      room: (peer) => this.#coap.undivided(peer),
      notify: (exchange, notification) =>
        this.#inPipe((now) => this.#coap.notify(exchange, notification, now, { confirmable: true })),
      end: (exchange) => this.#inPipe((now) => this.#coap.endObservation(exchange, now)),
    });
    this.#observing = new OwnObservations(
      (peer, response, request) => this.#forms.decodeResponse(peer, response, { request }),
      (handle) => this.#inPipe((now) => this.#coap.dropObservation(handle, now)),
    );
    this.counters = this.#newCounters();
    this.#machines = new Machines(
      {
        ...options,
        ...{ acceptDevices, observer: options.observer },
        capabilities: {
          dictionaries: [...coders.models, ...dictionaries],
          earlyData: earlySends,
          deferredSignatures,
        },
      },
      this.counters,
      {
        onPipe: (event, now) => this.#onPipe(event, now),
        onCoap: (layer, event, now, isEarly) => this.#onCoap(layer, event, now, isEarly),
        onKeepAlive: (now) => this.#keepAlive(now),
      },
    );
    this.#machines.start();
    if (this.#isServer) this.#machines.driver.enter((now) => this.#keepAlive(now));
  }

  #newCounters(): ExchangeCounters {
    // Asked for when they are read: the machines count into what this returns.
    const machines = (): Machines => this.#machines;
    const held = (): ExchangeHeld => ({
      pipe: machines().pipe.sizes,
      inPipe: machines().coap.pipe.held,
      plain: machines().coap.plain.held,
      requests: this.#open.size,
      serving: this.#serving.size,
      pacer: machines().pacer.waiting,
    });
    return {
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
      get inPipe() {
        return machines().coap.pipe.counters;
      },
      get plain() {
        return machines().coap.plain.counters;
      },
      get pipe() {
        return machines().pipe.statistics;
      },
      get held() {
        return held();
      },
    };
  }

  /** CoAP inside the pipe. */
  get #coap(): CoapEndpoint {
    return this.#machines.coap.pipe;
  }

  /** One input of CoAP inside the pipe. */
  #inPipe(input: (now: Millis) => CoapStep): void {
    this.#machines.driver.enter((now) => this.#machines.applyCoap('pipe', input(now), now));
  }

  /** Of all peers at once: one that something has gone to meanwhile gets one record more than it needs. */
  #keepAlive(now: Millis): void {
    const { pipe, driver } = this.#machines;
    const interval = this.#keepAliveMs;
    const isOver = interval === undefined || (!this.#isServer && this.#observing.peers.size === 0);
    driver.setDeadline('keepAlive', isOver ? null : now + interval);
    for (const peer of this.#isServer ? pipe.servers : this.#observing.peers)
      this.#machines.applyPipe(pipe.keepAlive(peer, now), now);
  }

  /** Sets the one handler of requests; until then, and without one, every request gets 503. */
  onRequest(handle: RequestHandler): void {
    this.#handle = handle;
  }

  /** What has been agreed with a peer: in its session, or else in the last one that is remembered. */
  agreed(peer: string): Agreement {
    return this.#machines.pipe.agreed(peer);
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
      this.#machines.driver.enter((now) => {
        if (this.#machines.driver.closed) return reject(new ExchangeError('closed', 'the socket is closed'));
        this.#machines.pipe.setPeer(peer, address);
        const details = { ...how, deadline: now + timeoutMs };
        let latest: number | undefined;
        let name: number | undefined;
        const cancel = (): void =>
          this.#machines.driver.enter((then) => {
            if (latest !== undefined) this.#cancel(peer, latest, then);
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
          const asked = this.#coap.request(peer, encoded.value, { ...details, ...as }, then);
          const { handle, step } = asked;
          latest = handle;
          name = asked.name;
          const answered = (response: ExchangeResponse): void => {
            this.#forms.ended(encoded.value, response);
            if (this.#forms.isMisread(peer, encoded.value, response))
              ask(this.#machines.driver.latest, false, true);
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
          this.#machines.applyCoap('pipe', step, then);
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
      this.#machines.driver.enter((now) => {
        if (this.#machines.driver.closed) return reject(new ExchangeError('closed', 'the socket is closed'));
        this.#machines.pipe.setPeer(peer, address);
        const encoded = this.#forms.encodeRequest(peer, request, { isUnnamed: true });
        if (!encoded.ok) return reject(new ExchangeError('invalid', encoded.problem));
        // Nothing is learnt from it.
        this.#forms.ended(encoded.value);
        const details = { priority, deadline: now + timeoutMs, renews: false };
        const { handle, step } = this.#coap.observe(peer, encoded.value, details, now);
        const cancel = (): void => this.#inPipe((then) => this.#coap.cancel(handle, then));
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
        this.#machines.applyCoap('pipe', step, now);
      });
    });
  }

  /** Gives a request up, also where it still waits for a session. */
  #cancel(peer: ServerName, handle: number, now: Millis): void {
    const receipt = this.#coap.receiptOf(handle);
    this.#machines.applyCoap('pipe', this.#coap.cancel(handle, now), now);
    if (receipt !== null) this.#machines.applyPipe(this.#machines.pipe.withdraw(peer, receipt), now);
  }

  /** Ends the sessions of a peer of the pipe. @param reason told to the peer */
  forget(peer: string, reason: string): void {
    this.#machines.driver.enter((now) => {
      if (!this.#machines.driver.closed)
        this.#machines.applyPipe(this.#machines.pipe.forget(peer, reason, now), now);
    });
  }

  /**
   * Rejects what is open, aborts the handlers, closes the link, and waits for the handlers' end. Nothing is sent any more: peers
   * find out by their timers.
   */
  async close(): Promise<void> {
    const { driver } = this.#machines;
    if (driver.closed) return;
    driver.close();
    this.#open.close();
    this.#observing.close();
    const ends = [this.#observations.close(), this.#serving.close()];
    await this.#machines.close(async () => {
      await Promise.all(ends);
    });
  }

  #onPipe(event: PipeEvent, now: Millis): void {
    switch (event.kind) {
      case 'payload':
        this.#silence.delete(event.peer);
        this.#observations.heard(event.peer);
        if (deviceKeyOf(event.peer) === undefined) this.#trust.heard?.(event.peer);
        this.#machines.applyCoap('pipe', this.#coap.receive(event.peer, event.bytes, now, event.copy), now);
        break;
      case 'early':
        this.#machines.applyCoap('pipe', this.#coap.receive(event.peer, event.bytes, now), now, true);
        break;
      case 'taken':
        this.#machines.applyCoap('pipe', this.#coap.left(event.receipt, now), now);
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
        this.#machines.applyCoap('pipe', this.#coap.restarted(event.peer, now), now);
        break;
      case 'restarted':
        this.#log?.debug({ ...this.#mode, peer: event.peer }, 'the peer of a pipe has restarted');
        this.counters.restarts++;
        this.#forms.restarted(event.peer);
        this.#machines.applyCoap('pipe', this.#coap.restarted(event.peer, now), now);
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
        this.#machines.applyCoap('pipe', this.#coap.left(event.receipt, now), now);
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
        this.#machines.driver.enter((now) =>
          this.#machines.applyPipe(this.#machines.pipe.decide(session, verdict, now), now),
        );
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
        else if (event.observing && this.#keepAliveMs !== undefined && !this.#isServer)
          this.#machines.driver.setDeadline('keepAlive', now + this.#keepAliveMs);
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
    this.#machines.applyPipe(this.#machines.pipe.renew(peer, now), now);
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
      const step = this.#machines.coap[layer].respond(exchange, write(response), then, undefined, {
        observe,
      });
      this.#machines.applyCoap(layer, step, then);
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
        this.#machines.driver.enter((then) => {
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
    return { kind: 'device', key, address: this.#machines.pipe.addressOf(peer) ?? '', ...this.#mode };
  }
}

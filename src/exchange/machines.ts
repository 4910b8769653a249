import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { CoapDatagram, CoapEvent, CoapStep } from '../coap/api.ts';
import { CoapEndpoint } from '../coap/endpoint.ts';
import type { Timing } from '../coap/timing.ts';
import { type Address, type Link, sustainedRate } from '../link/link.ts';
import { Pacer, type PacerStep } from '../link/pacer.ts';
import type { Capabilities } from '../pipe/agreement.ts';
import { Allowance } from '../pipe/allowance.ts';
import { PipeEndpoint, type PipeEvent, type PipeStep } from '../pipe/endpoint.ts';
import { nameOf } from '../pipe/identity.ts';
import { AirtimeWatch } from './airtime_watch.ts';
import { Driver } from './driver.ts';
import {
  largestMessage,
  messageTimesOf,
  NO_RECORD,
  PeerTimings,
  PIPE_RECORD,
  timingOf,
} from './link_timing.ts';
import { TARGET } from './own_options.ts';
import { isAllowed, mustProve, type PlainPolicy, refusal } from './plain_policy.ts';
import { SessionKeeper } from './session_keeper.ts';
import type { ExchangeCounters, ExchangeObservation, ExchangeOptions } from './socket_options.ts';
import type { TrustPolicy } from './trust.ts';

// The specification's: how the first byte tells apart what shares a port (docs/protocol.md, "One port").
const FIRST_PIPE_BYTE = 0x80;
const FIRST_PLAIN_BYTE = 0x40;

// Ours.
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
export type Layer = 'pipe' | 'plain';

/** What the pacer hands back when a datagram has left. */
interface Tag {
  readonly label: string;
  readonly layer: Layer;
  readonly receipts: readonly number[];
  readonly handshake: number | null;
}

/** What the machines say to whoever has them. */
export interface MachineListener {
  onPipe(event: PipeEvent, now: Millis): void;
  /** @param isEarly whether it has come of early data */
  onCoap(layer: Layer, event: CoapEvent, now: Millis, isEarly: boolean): void;
  onKeepAlive(now: Millis): void;
}

/** Of ExchangeOptions what is the machines'. */
export type MachineOptions = Pick<
  ExchangeOptions,
  | 'link'
  | 'clock'
  | 'random'
  | 'identity'
  | 'plain'
  | 'network'
  | 'store'
  | 'timing'
  | 'fits'
  | 'limits'
  | 'log'
  | 'modelsReady'
> & {
  readonly acceptDevices: boolean;
  readonly trust: Pick<TrustPolicy, 'isStranger'>;
  readonly observer: ExchangeOptions['observer'];
  readonly capabilities: Partial<Capabilities>;
};

/**
 * The pure machines on one link and the driver around them: hands them datagrams and the time, sends what they return
 * through the pacer, has the disk keep what they want kept, and passes their events on.
 *
 *     link ─> first byte ─┬─> PipeEndpoint ─> CoapEndpoint
 *                         └─────────────────> CoapEndpoint
 */
export class Machines {
  readonly pipe: PipeEndpoint;
  readonly coap: Readonly<Record<Layer, CoapEndpoint>>;
  readonly pacer: Pacer<Tag>;
  readonly driver: Driver<'pacer' | 'pipe' | 'inPipe' | 'plain' | 'fits' | 'keepAlive'>;
  readonly #link: Link;
  readonly #trust: Pick<TrustPolicy, 'isStranger'>;
  readonly #plain: PlainPolicy;
  readonly #listener: MachineListener;
  readonly #counters: ExchangeCounters;
  readonly #keeper: SessionKeeper | undefined;
  readonly #modelsReady: Promise<unknown> | undefined;
  readonly #observer: ((observation: ExchangeObservation) => void) | undefined;
  readonly #refusals = new Allowance(REFUSALS_PER_SECOND, REFUSALS_BURST, REFUSALS_SHARE);
  readonly #timings: PeerTimings;
  readonly #airtime: AirtimeWatch;

  constructor(options: MachineOptions, counters: ExchangeCounters, listener: MachineListener) {
    const { link, clock, random, identity, plain, network, store, timing, fits, limits, log } = options;
    this.#link = link;
    this.#trust = options.trust;
    this.#plain = plain;
    this.#listener = listener;
    this.#counters = counters;
    this.#keeper = store && new SessionKeeper(store, clock, (token) => this.#stored(token), log);
    this.#modelsReady = options.modelsReady;
    this.#observer = options.observer;
    const { profile } = link;
    this.#airtime = new AirtimeWatch(log);
    this.#timings = new PeerTimings({
      profile,
      idle: () => this.pacer.isIdle(this.driver.latest),
      agreed: (peer) => this.pipe.agreed(peer),
      fits,
      log,
    });
    const plainTiming = timing?.plain ?? timingOf(profile, NO_RECORD);
    const pipeTiming = (peer: string): Timing => timing?.pipe ?? this.#timings.of(peer);
    const handshakeTiming = { ...profile, sustainedRate: sustainedRate(profile) };
    this.pipe = new PipeEndpoint({
      identity,
      acceptDevices: options.acceptDevices,
      random,
      capabilities: { mtu: profile.mtu, rate: profile.rate, ...options.capabilities },
      handshakeTiming: () => handshakeTiming,
      messageTimes: (peer) => messageTimesOf(pipeTiming(peer)),
      ...(network === undefined ? {} : { network }),
      isPersistent: store !== undefined,
      wallOrigin: clock.wall() - clock.monotonic(),
      ...(limits?.pipe === undefined ? {} : { limits: limits.pipe }),
    });
    const coapOptions = { random, ...(limits?.coap === undefined ? {} : { limits: limits.coap }) };
    this.coap = {
      pipe: new CoapEndpoint({
        ...coapOptions,
        timing: pipeTiming,
        mtu: (peer) => largestMessage(profile, PIPE_RECORD, this.pipe.agreed(peer)),
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
    this.pacer = new Pacer<Tag>(profile, limits?.pacer);
    this.driver = new Driver(clock, {
      pacer: (now) => this.#applyPacer(this.pacer.tick(now), now),
      pipe: (now) => this.applyPipe(this.pipe.tick(now), now),
      inPipe: (now) => this.applyCoap('pipe', this.coap.pipe.tick(now), now),
      plain: (now) => this.applyCoap('plain', this.coap.plain.tick(now), now),
      fits: () => {
        this.driver.setDeadline('fits', null);
        void this.#timings.save();
      },
      keepAlive: (now) => listener.onKeepAlive(now),
    });
  }

  /** From now on datagrams come in, after the sessions of the last process. */
  start(): void {
    this.#link.onReceive((from, bytes) => {
      // What finds no room while sessions are loaded is lost, as on any link.
      if (this.driver.waiting < MAX_WAITING_INPUTS)
        this.driver.enter((now) => {
          if (!this.driver.closed) this.#received(from, bytes, now);
        });
    });
    if (this.#keeper !== undefined || this.#modelsReady !== undefined) void this.#resume();
  }

  /** Closes the link. Nothing is sent any more. @param ends what has to end before the disk is done with */
  async close(ends: () => Promise<void>): Promise<void> {
    const saved = this.#timings.save();
    await this.#link.close();
    await ends();
    await saved;
    await this.#keeper?.close();
  }

  /** Loads the sessions of the last process. Everything else waits: a peer's record must not meet a stranger. */
  async #resume(): Promise<void> {
    this.driver.pause();
    const loaded = await this.#keeper?.load();
    try {
      await this.#modelsReady;
    } catch {
      // Whoever loads them tells of it. What was said with them could not be read here: the link stays closed.
      return;
    }
    if (this.driver.closed) return;
    const { sessions = [], early = [] } = loaded ?? {};
    this.#counters.resumed = sessions.length;
    this.driver.resume((now) => {
      if (loaded !== undefined) this.applyPipe(this.pipe.restored(sessions, now, early), now);
      for (const { claim } of sessions) if (claim.kind === 'device') this.#tellOfStart(nameOf(claim), now);
    });
  }

  /** A device that observes has to register anew, and does not know it before it hears of this start. */
  #tellOfStart(device: string, now: Millis): void {
    const details = { deadline: now + START_TOLD_MS, priority: STRANGER_PRIORITY };
    this.applyCoap('pipe', this.coap.pipe.ping(device, details, now).step, now);
  }

  #stored(token: number): void {
    this.driver.enter((now) => {
      if (!this.driver.closed) this.applyPipe(this.pipe.stored(token, now), now);
    });
  }

  #received(from: Address, bytes: Uint8Array, now: Millis): void {
    this.#counters.datagramsIn++;
    this.#counters.bytesIn += bytes.length;
    this.#observer?.({ direction: 'received', at: now, peer: from, bytes, label: '' });
    const first = bytes[0] ?? 0;
    if (first >= FIRST_PIPE_BYTE) this.applyPipe(this.pipe.receive(from, bytes, now), now);
    else if (first < FIRST_PLAIN_BYTE) this.#counters.ignored++;
    else if (isAllowed(this.#plain, from))
      this.applyCoap('plain', this.coap.plain.receive(from, bytes, now), now);
    else this.#refusePlain(from, bytes, now);
  }

  #refusePlain(from: Address, bytes: Uint8Array, now: Millis): void {
    this.#counters.plainRefused++;
    const answer = refusal(bytes);
    if (answer === undefined) return;
    const { profile } = this.#link;
    const wireBytes = answer.length + profile.overhead;
    const cost = { wireBytes, rate: sustainedRate(profile), isKnown: () => true };
    if (!this.#refusals.take(cost, now)) return;
    this.#send(from, answer, 0, { label: 'ACK 4.03', layer: 'plain', receipts: [], handshake: null }, now);
  }

  /** @param isEarly whether all of it has come of early data */
  applyCoap(layer: Layer, step: CoapStep, now: Millis, isEarly = false): void {
    this.driver.setDeadline(layer === 'pipe' ? 'inPipe' : 'plain', step.deadline);
    this.driver.setDeadline('fits', this.#timings.deadline(now));
    if (layer === 'pipe') {
      // What goes to one peer goes at once, so that it can share a record.
      for (const [peer, datagrams] of Map.groupBy(step.datagrams, ({ peer }) => peer))
        this.applyPipe(this.pipe.send(peer, this.#ranked(peer, datagrams), now), now);
    } else {
      for (const { peer, bytes, priority, receipt, label } of step.datagrams) {
        const tag = { label, layer, receipts: receipt === null ? [] : [receipt], handshake: null };
        this.#send(peer, bytes, lower(priority, STRANGER_PRIORITY), tag, now);
      }
    }
    for (const event of step.events) this.#listener.onCoap(layer, event, now, isEarly);
  }

  #ranked(peer: string, datagrams: readonly CoapDatagram[]): readonly CoapDatagram[] {
    if (!this.#trust.isStranger?.(peer)) return datagrams;
    return datagrams.map((datagram) => ({
      ...datagram,
      priority: lower(datagram.priority, STRANGER_PRIORITY),
    }));
  }

  applyPipe(step: PipeStep, now: Millis): void {
    this.driver.setDeadline('pipe', step.deadline);
    // The endpoint uses nothing that a crash would repeat before it is told that this is on the disk.
    this.#keeper?.keep(step.writes);
    for (const { to, bytes, priority, receipts, handshake, label } of step.datagrams)
      this.#send(to, bytes, priority, { label, layer: 'pipe', receipts, handshake }, now);
    for (const event of step.events) this.#listener.onPipe(event, now);
  }

  #send(to: Address, bytes: Uint8Array, priority: Priority, tag: Tag, now: Millis): void {
    this.#applyPacer(this.pacer.enqueue({ to, bytes, priority, tag }, now), now);
  }

  #applyPacer(step: PacerStep<Tag>, now: Millis): void {
    this.driver.setDeadline('pacer', step.deadline);
    this.#airtime.see(this.pacer.forbiddenUntil, now);
    for (const { to, bytes, tag } of step.datagrams) {
      if (this.driver.closed) break;
      this.#counters.datagramsOut++;
      this.#counters.bytesOut += bytes.length;
      this.#observer?.({ direction: 'sent', at: now, peer: to, bytes, label: tag.label });
      this.#link.send(to, bytes, tag.label);
    }
    for (const event of step.events) {
      if (event.kind === 'dropped') this.#counters.dropped++;
      this.#left(event.tag, event.kind === 'left' ? event.at : now);
    }
  }

  /** Whoever waits for the datagram to leave starts its timer, also where it never will. */
  #left({ layer, receipts, handshake }: Tag, at: Millis): void {
    if (handshake !== null) this.applyPipe(this.pipe.left(handshake, at), at);
    for (const receipt of receipts) this.applyCoap(layer, this.coap[layer].left(receipt, at), at);
  }
}

const lower = (a: Priority, b: Priority): Priority => (a > b ? a : b);

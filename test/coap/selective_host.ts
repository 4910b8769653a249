import { hex } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import type { Cancel, Millis } from '../../src/base/time.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { blockOf, blockOption } from '../../src/coap/block.ts';
import { code, isRequest } from '../../src/coap/codes.ts';
import { type CoapLimits, DEFAULT_LIMITS, Peer } from '../../src/coap/core.ts';
import { decode, encode, type Message, NO_BYTES } from '../../src/coap/message.ts';
import { decodeMissing, encodeMissing } from '../../src/coap/missing_blocks.ts';
import { OPTION, uintOption } from '../../src/coap/options.ts';
import { type BlockToSend, SelectiveSender } from '../../src/coap/selective_sender.ts';
import { SelectiveUploads } from '../../src/coap/selective_uploads.ts';
import { type SelectiveWindow, selectiveWindow } from '../../src/coap/selective_window.ts';
import { modelledTiming, type Timing } from '../../src/coap/timing.ts';
import type { Link } from '../../src/link/link.ts';
import { Pacer, type PacerStep } from '../../src/link/pacer.ts';
import { type Conditions, type LinkObservation, SimulatedNetwork } from '../../src/link/simulated.ts';

const PUT = 3;
const CONTINUE = code(2, 31);
export const OVERHEAD = 62;
const MTU = 1200;
export const TOKEN_BYTES = 4;
/** Of what is transferred; a message of the test's own goes before it. */
const BULK = 4;

interface Transfer {
  readonly token: Uint8Array;
  readonly sender: SelectiveSender;
}

interface Confirmable {
  readonly transfer: Transfer;
  readonly checkpoint: number;
  readonly bytes: Uint8Array;
  readonly label: string;
  /** As the transmitter does, so that no late copy finds its predecessor forgotten. */
  readonly givenUpAt: Millis;
  attempt: number;
  cancel: Cancel;
}

interface Tag {
  readonly label: string;
  readonly left: () => void;
}

/** One end that sends and receives bodies: a pacer, and of the message layer what checkpoints need. */
export class SelectiveHost {
  readonly core: { readonly limits: CoapLimits; assembling: number; readonly timing: () => Timing };
  readonly uploads: SelectiveUploads;
  /** Bodies that arrived, by token, in order. */
  readonly delivered: { readonly token: string; readonly body: Uint8Array }[] = [];
  /** How each transfer of ours ended, by token, and when. */
  readonly ended = new Map<string, { readonly how: 'complete' | 'refused' | 'reset'; readonly at: Millis }>();
  /** When messages of the test's own arrived. */
  readonly urgent: Millis[] = [];
  /** `blocks`: what the sender gave out; `copies`: of checkpoints, by their timers; `late`: blocks of no use. */
  readonly counters = {
    blocks: 0,
    checkpoints: 0,
    copies: 0,
    late: 0,
    superseded: 0,
    givenUp: 0,
    mostInFlight: 0,
  };
  /** Numbers of the blocks that the sender gave out, in order, by token. */
  readonly sent = new Map<string, number[]>();
  readonly #clock: VirtualClock;
  readonly #random: Random;
  readonly #link: Link;
  readonly #peer: Peer;
  readonly #timing: Timing;
  readonly #window: SelectiveWindow;
  readonly #pacer: Pacer<Tag>;
  readonly #confirmables = new Map<number, Confirmable>();
  /** Replies by message id: copies get the same. */
  readonly #replies = new Map<number, Uint8Array>();
  #id: number;
  #pacerTimer: Cancel = () => undefined;

  constructor(
    clock: VirtualClock,
    random: Random,
    link: Link,
    timing: Timing,
    { window, limits = {} }: { readonly window: SelectiveWindow; readonly limits?: Partial<CoapLimits> },
  ) {
    this.core = { limits: { ...DEFAULT_LIMITS, ...limits }, assembling: 0, timing: () => timing };
    this.uploads = new SelectiveUploads(this.core);
    this.#peer = new Peer('peer', random, { token: TOKEN_BYTES, handle: TOKEN_BYTES }, 0);
    this.#window = window;
    this.#clock = clock;
    this.#random = random;
    this.#link = link;
    this.#timing = timing;
    this.#pacer = new Pacer(link.profile);
    this.#id = random.integer(2 ** 16);
    link.onReceive((from, bytes) => this.#receive(from, bytes));
  }

  /** Sends a body; returns the token's name. */
  send(peer: string, body: Uint8Array, token = this.#random.bytes(TOKEN_BYTES)): string {
    const sender = new SelectiveSender(body, this.#timing.blockSize, this.#window);
    const transfer = { token, sender };
    this.sent.set(hex(token), []);
    this.#pump(peer, transfer);
    return hex(token);
  }

  sendUrgent(peer: string): void {
    const bytes = encode({
      type: 'NON',
      id: this.#nextId(),
      code: PUT,
      token: NO_BYTES,
      options: [],
      payload: NO_BYTES,
    });
    this.#emit(peer, bytes, 1, { label: 'urgent', left: () => undefined });
  }

  #pump(peer: string, transfer: Transfer): void {
    if (this.ended.has(hex(transfer.token))) return;
    const next = transfer.sender.next();
    if (next !== null) this.#sendBlock(peer, transfer, next);
  }

  #sendBlock(peer: string, transfer: Transfer, { block, payload, checkpoint }: BlockToSend): void {
    const { token, sender } = transfer;
    const id = this.#nextId();
    const type = checkpoint === null ? 'NON' : 'CON';
    const options = [blockOption(OPTION.qBlock1, block)];
    if (block.num === 0) options.push(uintOption(OPTION.size1, sender.count * block.size));
    const bytes = encode({ type, id, code: PUT, token, options, payload });
    const label = `${type} PUT q-block1 ${block.num + 1}/${sender.count}`;
    this.counters.blocks++;
    this.counters.mostInFlight = Math.max(this.counters.mostInFlight, sender.inFlight);
    this.sent.get(hex(token))!.push(block.num);
    const left = (): void => {
      sender.left();
      this.#pump(peer, transfer);
    };
    if (checkpoint === null) {
      this.#emit(peer, bytes, BULK, { label, left });
      return;
    }
    this.counters.checkpoints++;
    const givenUpAt = this.#clock.monotonic() + this.#timing.exchangeLifetime / 2;
    const confirmable = {
      transfer,
      checkpoint,
      bytes,
      label,
      givenUpAt,
      attempt: 0,
      cancel: () => undefined,
    };
    this.#confirmables.set(id, confirmable);
    this.#transmit(peer, id, confirmable, left);
  }

  #transmit(peer: string, id: number, confirmable: Confirmable, left: () => void): void {
    this.#emit(peer, confirmable.bytes, BULK, {
      label: confirmable.label,
      left: () => {
        left();
        if (this.#confirmables.get(id) !== confirmable) return;
        const { attempt, bytes } = confirmable;
        const wait = this.#timing.retransmitAfter(attempt, bytes.length, this.#random.fraction());
        confirmable.cancel = this.#clock.after(wait, () => this.#unanswered(peer, id, confirmable));
      },
    });
  }

  #unanswered(peer: string, id: number, confirmable: Confirmable): void {
    if (!confirmable.transfer.sender.unanswered(confirmable.checkpoint)) {
      this.#confirmables.delete(id);
      this.counters.superseded++;
      return;
    }
    const now = this.#clock.monotonic();
    if (now >= confirmable.givenUpAt) {
      this.#confirmables.delete(id);
      this.counters.givenUp++;
      confirmable.transfer.sender.givenUp(confirmable.checkpoint);
      this.#pump(peer, confirmable.transfer);
      return;
    }
    confirmable.attempt++;
    this.counters.copies++;
    this.#transmit(peer, id, confirmable, () => undefined);
  }

  #receive(peer: string, bytes: Uint8Array): void {
    const message = decode(bytes);
    if (!message.ok) return;
    const { type, code: value, token } = message.value;
    if (type === 'ACK' || type === 'RST') this.#replied(peer, message.value);
    else if (isRequest(value) && token.length > 0) this.#received(peer, message.value);
    else this.urgent.push(this.#clock.monotonic());
  }

  #received(peer: string, message: Message): void {
    const cached = this.#replies.get(message.id);
    if (cached !== undefined) {
      this.#emit(peer, cached, 0, { label: 'ACK again', left: () => undefined });
      return;
    }
    const block = blockOf(message.options, OPTION.qBlock1);
    if (!block.ok || block.value === undefined) throw new Error('a block has its number');
    const name = hex(message.token);
    const now = this.#clock.monotonic();
    const { progress, missing } = this.uploads.add(this.#peer, name, block.value, message, now);
    if (progress.kind === 'complete') this.delivered.push({ token: name, body: progress.body });
    if (progress.kind === 'ignored') this.counters.late++;
    if (message.type !== 'CON') return;
    const reply =
      progress.kind === 'refused'
        ? { code: progress.code, payload: NO_BYTES }
        : { code: CONTINUE, payload: encodeMissing(missing) };
    const bytes = encode({ type: 'ACK', id: message.id, token: message.token, options: [], ...reply });
    this.#replies.set(message.id, bytes);
    this.#emit(peer, bytes, 0, { label: 'ACK', left: () => undefined });
  }

  #replied(peer: string, message: Message): void {
    const confirmable = this.#confirmables.get(message.id);
    if (confirmable === undefined) return;
    const { transfer, checkpoint } = confirmable;
    const missing = decodeMissing(message.payload);
    if (message.type === 'RST' || message.code !== CONTINUE || !missing.ok) {
      this.#end(transfer, message.type === 'RST' ? 'reset' : 'refused');
      return;
    }
    const progress = transfer.sender.acknowledged(checkpoint, missing.value);
    if (progress.kind !== 'going_on' && progress.kind !== 'complete') {
      throw new Error(`the acknowledgement of a checkpoint that is waited for is ${progress.kind}`);
    }
    for (const [id, other] of this.#confirmables) {
      if (other.transfer === transfer && progress.superseded.includes(other.checkpoint))
        this.#stop(id, other);
    }
    if (progress.kind === 'complete') this.#end(transfer, 'complete');
    else this.#pump(peer, transfer);
  }

  #end(transfer: Transfer, how: 'complete' | 'refused' | 'reset'): void {
    for (const [id, other] of this.#confirmables) if (other.transfer === transfer) this.#stop(id, other);
    const name = hex(transfer.token);
    if (this.ended.has(name)) throw new Error('a transfer ends once');
    this.ended.set(name, { how, at: this.#clock.monotonic() });
  }

  #stop(id: number, confirmable: Confirmable): void {
    confirmable.cancel();
    this.#confirmables.delete(id);
  }

  #nextId(): number {
    this.#id = (this.#id + 1) % 2 ** 16;
    return this.#id;
  }

  #emit(to: string, bytes: Uint8Array, priority: 0 | 1 | 4, tag: Tag): void {
    this.#paced(this.#pacer.enqueue({ to, bytes, priority, tag }, this.#clock.monotonic()));
  }

  #paced(step: PacerStep<Tag>): void {
    this.#pacerTimer();
    const { deadline } = step;
    this.#pacerTimer =
      deadline === null
        ? () => undefined
        : this.#clock.after(deadline - this.#clock.monotonic(), () =>
            this.#paced(this.#pacer.tick(this.#clock.monotonic())),
          );
    for (const { to, bytes, tag } of step.datagrams) this.#link.send(to, bytes, tag.label);
    for (const { tag } of step.events) tag.left();
  }
}

export interface SelectivePair {
  readonly clock: VirtualClock;
  readonly network: SimulatedNetwork;
  readonly a: SelectiveHost;
  readonly b: SelectiveHost;
  readonly seen: LinkObservation[];
  readonly window: SelectiveWindow;
  run(until: Millis): void;
}

/** Header, token and option of a block's message; and an acknowledgement without a bitmap. */
const BLOCK_HEAD_BYTES = 4 + TOKEN_BYTES + 4 + 1;
const ACKNOWLEDGEMENT_BYTES = 4 + TOKEN_BYTES + 2;

function windowOf(rate: number, delay: Millis, blockSize: number): SelectiveWindow {
  const airtime = (bytes: number): Millis => ((bytes + OVERHEAD) * 8_000) / rate;
  return selectiveWindow(airtime(blockSize + BLOCK_HEAD_BYTES), 2 * delay + airtime(ACKNOWLEDGEMENT_BYTES));
}

/** Two ends, `a` and `b`, over one emulated link of known rate. */
export function selectivePair(options: {
  readonly seed: number;
  readonly conditions: Partial<Conditions> & { readonly rate: number };
  readonly timing?: Partial<Timing>;
  readonly limits?: Partial<CoapLimits>;
}): SelectivePair {
  const { seed, conditions } = options;
  const clock = new VirtualClock();
  const seen: LinkObservation[] = [];
  const network = new SimulatedNetwork({
    clock,
    random: seededRandom(seed),
    observe: (one) => seen.push(one),
  });
  const { rate, latency: delay = 0 } = conditions;
  const timing = { ...modelledTiming({ rate, delay, overhead: OVERHEAD, mtu: MTU }), ...options.timing };
  const profile = { mtu: MTU, rate, delay, overhead: OVERHEAD };
  const window = windowOf(rate, delay, timing.blockSize);
  const parts = { window, ...(options.limits && { limits: options.limits }) };
  const host = (name: string, salt: number): SelectiveHost =>
    new SelectiveHost(clock, seededRandom(seed * 2 + salt), network.join(name, profile), timing, parts);
  const [a, b] = [host('a', 1), host('b', 1_000_003)];
  network.connect('a', 'b', conditions);
  const run = (until: Millis): void => {
    for (let next = clock.next(); next !== null && next <= until; next = clock.next()) clock.step();
    clock.advanceTo(until);
  };
  return { clock, network, a, b, seen, window, run };
}

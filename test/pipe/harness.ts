import { fromUtf8, utf8 } from '../../src/base/bytes.ts';
import type { Priority } from '../../src/base/priority.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { METHOD } from '../../src/coap/codes.ts';
import { decode, encode } from '../../src/coap/message.ts';
import {
  type PipeConfig,
  type PipeDatagram,
  PipeEndpoint,
  type PipeEvent,
  type PipeStep,
  type Verdict,
} from '../../src/pipe/endpoint.ts';
import { createIdentity, type ServerClaim, type ServerIdentity } from '../../src/pipe/identity.ts';
import type { PipeLimits } from '../../src/pipe/limits.ts';
import type { PipeWrite, StoredSession } from '../../src/pipe/resumption.ts';
import type { HandshakeTiming } from '../../src/pipe/timing.ts';

export const FAST: HandshakeTiming = { rate: null, delay: 20, overhead: 42 };

export function identityOf(serverName: string, random: Random): ServerIdentity {
  return createIdentity({
    serverName,
    noiseSecret: random.bytes(32),
    signingKeyId: 'ed25519:k1',
    signingSecret: random.bytes(32),
    serial: 1,
  });
}

/** What the network does with a datagram: the copies that arrive, and when. */
export type Channel = (sent: {
  from: string;
  to: string;
  datagram: PipeDatagram;
  /** How long it takes until the last bit has left. */
  leaves: number;
}) => { after: number; bytes: Uint8Array }[];

export const perfect =
  (after = 20): Channel =>
  ({ datagram }) => [{ after, bytes: datagram.bytes }];

/** A store as a crash leaves it: what was committed by then, and every image of it that there ever was. */
export class Disk {
  rows: ReadonlyMap<number, StoredSession> = new Map();
  readonly images: ReadonlyMap<number, StoredSession>[] = [new Map()];

  commit(writes: readonly PipeWrite[]): void {
    const rows = new Map(this.rows);
    for (const write of writes) {
      if (write.kind === 'session') rows.set(write.row.local, write.row);
      else rows.delete(write.local);
    }
    this.rows = rows;
    this.images.push(rows);
  }

  load(): StoredSession[] {
    return [...this.rows.values()].sort((x, y) => x.savedAt - y.savedAt || x.local - y.local);
  }
}

/** A driver in virtual time: one endpoint, its address, and what has come out of it. */
export class Side {
  readonly network: Network;
  readonly address: string;
  readonly identity: ServerIdentity;
  readonly random: Random;
  readonly events: PipeEvent[] = [];
  readonly payloads: string[] = [];
  readonly limits: Partial<PipeLimits>;
  /** What else the next endpoint is made of. */
  config: Partial<PipeConfig> = {};
  endpoint!: PipeEndpoint;
  /** Which servers this side trusts; by default all, and every device besides. */
  trust: (claim: ServerClaim) => Verdict = () => ({ trusted: true });
  decisionDelay: () => number = () => 0;
  /** Where its sessions survive a restart, if they do. */
  disk: Disk | undefined;
  /** How long until a commit is on the disk, and until the endpoint hears of it. */
  commitDelay: () => readonly [number, number] = () => [0, 0];
  onPayload: (peer: string, text: string) => void = () => {};
  #cancel: () => void = () => {};
  #boot = 0;
  #messages = 0;
  /** When the commit that was begun last is on the disk: they follow each other. */
  #committing = 0;

  constructor(
    network: Network,
    address: string,
    identity: ServerIdentity,
    random: Random,
    limits: Partial<PipeLimits> = {},
  ) {
    this.network = network;
    this.address = address;
    this.identity = identity;
    this.random = random;
    this.limits = limits;
    this.restart();
  }

  /** A new process with the same identity. */
  restart(): void {
    this.#cancel();
    this.#boot++;
    this.endpoint = new PipeEndpoint({
      identity: this.identity,
      random: this.random,
      limits: this.limits,
      handshakeTiming: () => this.network.timing,
      isPersistent: this.disk !== undefined,
      ...this.config,
    });
    for (const other of this.network.sides.values())
      this.endpoint.setPeer(other.identity.serverName, other.address);
    this.#committing = 0;
    if (this.disk !== undefined) this.run(this.endpoint.restored(this.disk.load(), this.now));
  }

  get now(): number {
    return this.network.clock.monotonic();
  }

  send(peer: string, text: string, receipt: number | null = null, priority: Priority = 1): void {
    this.run(
      this.endpoint.send(peer, [{ bytes: this.message(text), priority, receipt, label: 'test' }], this.now),
    );
  }

  /** A CoAP message that says `text`, and that nobody answers. */
  message(text: string): Uint8Array {
    const id = this.#messages++;
    const token = Uint8Array.of(id >> 8, id & 0xff);
    return encode({ type: 'NON', code: METHOD.post, id, token, options: [], payload: utf8(text) });
  }

  run(step: PipeStep): void {
    const { clock } = this.network;
    // An endpoint's timer starts when the datagram has left.
    const own = this.#boot;
    this.#commit(step.writes);
    for (const datagram of step.datagrams) {
      const leaves = this.network.carry(this.address, datagram);
      const { handshake } = datagram;
      if (handshake === null) continue;
      clock.after(leaves, () => own === this.#boot && this.run(this.endpoint.left(handshake, this.now)));
    }
    for (const event of step.events) {
      this.events.push(event);
      if (event.kind === 'payload') {
        const message = decode(event.bytes);
        const text = (message.ok && fromUtf8(message.value.payload)) || '(not text)';
        this.payloads.push(`${event.peer}: ${text}`);
        this.onPayload(event.peer, text);
      }
      if (event.kind === 'identity') {
        const boot = this.#boot;
        const decide = (): void => {
          if (boot !== this.#boot) return;
          const { claim } = event;
          const verdict: Verdict = claim.kind === 'server' ? this.trust(claim) : { trusted: true };
          this.run(this.endpoint.decide(event.session, verdict, this.now));
        };
        const delay = this.decisionDelay();
        if (delay === 0) decide();
        else clock.after(delay, decide);
      }
    }
    this.#arm(this.#deadlineOf());
  }

  /** Whether something is not on the disk yet. */
  get isCommitting(): boolean {
    return this.#committing > this.now;
  }

  #commit(writes: readonly PipeWrite[]): void {
    const last = writes.at(-1);
    if (this.disk === undefined || last === undefined) return;
    const { clock } = this.network;
    const boot = this.#boot;
    const [written, told] = this.commitDelay();
    this.#committing = Math.max(this.#committing, this.now + written);
    const tell = (): void => {
      if (boot === this.#boot) this.run(this.endpoint.stored(last.token, this.now));
    };
    const write = (): void => {
      if (boot !== this.#boot) return;
      this.disk!.commit(writes);
      if (told === 0) tell();
      else clock.after(told, tell);
    };
    if (this.#committing === this.now) write();
    else clock.after(this.#committing - this.now, write);
  }

  /** Steps nest (a decision inside an event), so the deadline is asked for anew. */
  #deadlineOf(): number | null {
    return this.endpoint.left(-1, this.now).deadline;
  }

  #arm(deadline: number | null): void {
    this.#cancel();
    this.#cancel = () => {};
    if (deadline === null) return;
    const delay = Math.max(0, deadline - this.now);
    this.#cancel = this.network.clock.after(delay, () => this.run(this.endpoint.tick(this.now)));
  }
}

export interface Captured {
  readonly at: number;
  readonly from: string;
  readonly datagram: PipeDatagram;
}

/** Sides by address, joined by a channel. */
export class Network {
  readonly clock = new VirtualClock();
  readonly sides = new Map<string, Side>();
  readonly captured: Captured[] = [];
  timing: HandshakeTiming = FAST;
  channel: Channel = perfect();
  leaves: (sent: { from: string; bytes: Uint8Array }) => number = () => 0;
  onSend: (from: string, datagram: PipeDatagram) => void = () => {};

  add(name: string, address: string, seed: number, limits: Partial<PipeLimits> = {}): Side {
    const random = seededRandom(seed);
    const side = new Side(this, address, identityOf(name, random), random, limits);
    this.join(side);
    return side;
  }

  join(side: Side): void {
    for (const other of this.sides.values()) {
      other.endpoint.setPeer(side.identity.serverName, side.address);
      side.endpoint.setPeer(other.identity.serverName, other.address);
    }
    this.sides.set(side.address, side);
  }

  /** Returns how long the datagram takes to leave. */
  carry(from: string, datagram: PipeDatagram): number {
    this.captured.push({ at: this.clock.monotonic(), from, datagram });
    this.onSend(from, datagram);
    const leaves = this.leaves({ from, bytes: datagram.bytes });
    for (const { after, bytes } of this.channel({ from, to: datagram.to, datagram, leaves })) {
      this.clock.after(after, () => this.deliver(from, datagram.to, bytes));
    }
    return leaves;
  }

  deliver(from: string, to: string, bytes: Uint8Array): void {
    const side = this.sides.get(to);
    side?.run(side.endpoint.receive(from, bytes, this.clock.monotonic()));
  }

  /** Runs everything that is due in the next `ms`. */
  advance(ms: number): void {
    const end = this.clock.monotonic() + ms;
    for (let next = this.clock.next(); next !== null && next <= end; next = this.clock.next())
      this.clock.step();
    this.clock.advanceTo(end);
  }

  labels(): string[] {
    return this.captured.map(({ from, datagram }) => `${from} ${datagram.label}`);
  }
}

/** Two servers that know each other's address. */
export function pair(seed = 1, limits: Partial<PipeLimits> = {}): { network: Network; a: Side; b: Side } {
  const network = new Network();
  const a = network.add('a.example', 'a', seed * 2 + 1, limits);
  const b = network.add('b.example', 'b', seed * 2 + 2, limits);
  return { network, a, b };
}

/** The same, with sessions that survive restarts. */
export function storingPair(seed = 1, limits: Partial<PipeLimits> = {}): ReturnType<typeof pair> {
  const sides = pair(seed, limits);
  for (const side of [sides.a, sides.b]) {
    side.disk = new Disk();
    side.restart();
  }
  return sides;
}

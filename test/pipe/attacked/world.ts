import { fromUtf8, utf8 } from '../../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../../src/base/random.ts';
import { code as codeOf, METHOD } from '../../../src/coap/codes.ts';
import { decode, encode, type Message } from '../../../src/coap/message.ts';
import type { PipeEvent, PipeStep } from '../../../src/pipe/endpoint.ts';
import { createDeviceIdentity, type LocalIdentity, nameOf } from '../../../src/pipe/identity.ts';
import type { PipeLimits } from '../../../src/pipe/limits.ts';
import { messageOf } from '../../../src/pipe/peer_messages.ts';
import type { Outgoing } from '../../../src/pipe/send_queue.ts';
import { identityOf, Network, Side } from '../harness.ts';
import { counters, hold } from './invariants.ts';

/** How long an application waits for an answer before it asks again. */
export const RETRY_MS = 3_000;
/** Copies without an answer after which it asks for a new session. */
const PATIENCE = 3;
const CONTENT = codeOf(2, 5);

const identities = seededRandom(4711);
const serverIdentities = (name: string) => [0, 1].map(() => identityOf(name, identities));
/** Which of two Noise keys is the smaller one decides about openings that cross: so there are two of each. */
export const IDENTITIES = {
  a: serverIdentities('a.example'),
  b: serverIdentities('b.example'),
  falseA: serverIdentities('a.example'),
  falseB: serverIdentities('b.example'),
  mallory: serverIdentities('mallory.example'),
  nobody: serverIdentities('d.nobody'),
  device: [0, 1].map(() => createDeviceIdentity(identities.bytes(32))),
};

/** A network in which sides get other addresses, and what goes to the old ones is lost. */
export class MovingNetwork extends Network {
  readonly #outside = new Map<string, string>();
  readonly #inside = new Map<string, string>();

  /** What others see of the side whose own address is `own`. */
  outside(own: string): string {
    return this.#outside.get(own) ?? own;
  }

  inside(address: string): string {
    return this.#inside.get(address) ?? address;
  }

  move(own: string, address: string): void {
    this.#inside.delete(this.outside(own));
    this.#inside.set(own, 'gone');
    this.#inside.set(address, own);
    this.#outside.set(own, address);
  }

  override carry(from: string, datagram: Parameters<Network['carry']>[1]): number {
    return super.carry(this.outside(from), datagram);
  }

  override deliver(from: string, to: string, bytes: Uint8Array): void {
    super.deliver(from, this.inside(to), bytes);
  }
}

/** A message that somebody has sent, by its text: each copy has another one. */
interface Said {
  readonly from: string;
  readonly to: string;
}

interface Open {
  /** Named anew when what was known of its copies has been lost. */
  key: string;
  id: number;
  request: number;
  readonly token: Uint8Array;
  /** Of this key, and of all keys since `since`. */
  copies: number;
  total: number;
  readonly onAnswer: (copies: number) => void;
}

/** Everything that was said in a run, and what of it has arrived. */
export class Log {
  readonly #said = new Map<string, Said>();
  readonly #arrived = new Set<string>();

  say(text: string, from: string, to: string): void {
    this.#said.set(text, { from, to });
  }

  wasSaid(text: string, from: string, to: string): boolean {
    const said = this.#said.get(text);
    return said?.from === from && said.to === to;
  }

  /** Returns whether it is the first time. */
  arrives(text: string): boolean {
    const { size } = this.#arrived;
    return this.#arrived.add(text).size > size;
  }

  hasArrived(text: string): boolean {
    return this.#arrived.has(text);
  }
}

/**
 * A side with an application that asks and answers as CoAP does: a request is repeated until it is answered, all copies
 * with one message id. Every copy is a text of its own, so that a record that is delivered twice is noticed.
 */
export class Node extends Side {
  readonly name: string;
  /** Whether messages have names on this side's pipes. */
  readonly isCompact: boolean;
  readonly #log: Log;
  /** What was handled, by the message's name; and at which image of the disk, which takes the later ones with it. */
  readonly #ledger = new Map<string, { readonly key: string; readonly image: number }>();
  readonly #names = new Map<string, string>();
  readonly #open = new Map<number, Open>();
  readonly #byId = new Map<number, Open>();
  #serial = 0;
  #starts = 0;
  #nextId = 0;
  #requests = 0;
  #answers = 0;

  constructor(
    options: {
      readonly network: Network;
      readonly log: Log;
      readonly address: string;
      readonly identity: LocalIdentity;
      readonly variant: number;
      readonly random: Random;
      readonly isCompact: boolean;
    },
    limits: Partial<PipeLimits>,
  ) {
    const { network, log, address, identity, variant, random, isCompact } = options;
    const own = identity.kind === 'server' ? identity : IDENTITIES.nobody[variant]!;
    super(network, address, own, random, limits);
    this.name = nameOf(identity);
    this.isCompact = isCompact;
    this.#log = log;
    this.config = {
      identity,
      acceptDevices: identity.kind === 'server',
      ...(isCompact ? {} : { capabilities: { compactHeader: false } }),
    };
  }

  get unanswered(): number {
    return this.#open.size;
  }

  override run(step: PipeStep): void {
    super.run(step);
    for (const event of step.events) this.#happened(event);
  }

  /** Asks until there is an answer; tells then how many copies that took. */
  request(peer: string, onAnswer: (copies: number) => void = () => {}): void {
    const serial = ++this.#serial;
    const token = Uint8Array.of(serial >> 8, serial & 0xff, this.#starts & 0xff);
    const open = { key: '', id: -1, request: 0, token, copies: 0, total: 0, onAnswer };
    this.#open.set(serial, open);
    this.#begin(serial, open);
    this.#copy(peer, serial);
  }

  #begin(serial: number, open: Open): void {
    this.#byId.delete(open.id);
    open.id = this.#nextId++ & 0xffff;
    open.request = ++this.#requests;
    open.key = `${this.address} asks ${serial} of start ${this.#starts} as ${open.id}`;
    open.copies = 0;
    this.#byId.set(open.id, open);
  }

  /** A new process: what was open is asked as something new, as who repeats a transaction does. */
  startedAnew(image: number): void {
    this.#starts++;
    for (const [name, entry] of this.#ledger) {
      if (entry.image <= image) continue;
      this.#ledger.delete(name);
      this.#names.delete(entry.key);
    }
    for (const [serial, open] of this.#open) this.#begin(serial, open);
  }

  #copy(peer: string, serial: number): void {
    const open = this.#open.get(serial);
    if (open === undefined) return;
    const copy = open.copies++;
    open.total++;
    const { id, token, request } = open;
    const head = { type: 'CON', code: METHOD.post, id, token } as const;
    this.#say(peer, head, `${open.key} copy ${copy}`, { receipt: serial, request, copy });
    if (copy > 0) counters.resends++;
    if (open.total % PATIENCE === 0) this.run(this.endpoint.renew(peer, this.now));
    this.network.clock.after(RETRY_MS, () => this.#copy(peer, serial));
  }

  #say(
    peer: string,
    head: Pick<Message, 'type' | 'code' | 'id' | 'token'>,
    text: string,
    as: Pick<Outgoing, 'receipt' | 'request' | 'copy'>,
  ): void {
    this.#log.say(text, this.name, peer);
    const bytes = encode({ ...head, options: [], payload: utf8(text) });
    this.run(this.endpoint.send(peer, [{ bytes, priority: 1, label: 'test', ...as }], this.now));
  }

  #happened(event: PipeEvent): void {
    if (event.kind === 'payload') this.#received(event);
    if (event.kind !== 'dropped') return;
    const open = this.#open.get(event.receipt);
    if (open !== undefined) this.#begin(event.receipt, open);
  }

  #received({ peer, bytes, copy }: Extract<PipeEvent, { kind: 'payload' }>): void {
    const decoded = decode(bytes);
    hold('nothing forged is delivered', decoded.ok, () => `no CoAP message to ${this.name}`);
    if (!decoded.ok) return;
    const message = decoded.value;
    const text = fromUtf8(message.payload) ?? '(not text)';
    const line = `${text}, from ${peer} to ${this.name}`;
    hold('nothing forged is delivered', this.#log.wasSaid(text, peer, this.name), () => line);
    hold('nothing is delivered twice', this.#log.arrives(text), () => line);
    if (!this.isCompact) counters.delivered.plain++;
    else counters.delivered[peer.startsWith('device:') ? 'device' : 'server']++;
    if (message.type === 'CON') this.#answer(peer, message, text);
    else if (message.type === 'ACK') this.#answered(message, text, copy);
  }

  #answer(peer: string, { id, token }: Message, text: string): void {
    const [key] = text.split(' copy ') as [string];
    const name = this.isCompact ? messageOf(token) : undefined;
    if (name !== undefined) {
      const named = `${peer} ${name.generation} ${name.number}`;
      const handled = this.#ledger.get(named);
      const invariant = 'an id names one message, and a message has one id';
      hold(invariant, (handled?.key ?? key) === key, () => `${named} is ${handled!.key} and ${key}`);
      const other = this.#names.get(key);
      hold(invariant, (other ?? named) === named, () => `${key} is ${other} and ${named}`);
      this.#ledger.set(named, handled ?? { key, image: this.disk?.images.length ?? 0 });
      this.#names.set(key, named);
    }
    const answer = `${this.name} answers, as number ${++this.#answers}: ${text}`;
    if (peer !== 'mallory.example')
      this.#say(peer, { type: 'ACK', code: CONTENT, id, token }, answer, { receipt: null });
  }

  #answered({ id, token }: Message, text: string, copy: number | undefined): void {
    const open = this.#byId.get(id);
    if (open === undefined) return;
    const invariant = 'an answer reaches what it answers';
    const [, key] = /: (.*) copy \d+$/.exec(text) ?? [];
    // The answer to what was asked before this start, or under another id.
    if (!this.isCompact && key !== open.key) return;
    hold(invariant, key === open.key, () => `${text} came as the answer to ${open.key}`);
    hold(invariant, `${token}` === `${open.token}`, () => `${text} has the token ${token}, not ${open.token}`);
    // Perhaps another copy than the one in the text, which has come while the answer waited.
    const hasCome = this.#log.hasArrived(`${key} copy ${copy}`);
    if (this.isCompact) hold(invariant, hasCome, () => `${text} names copy ${copy}`);
    this.#byId.delete(id);
    for (const [serial, other] of this.#open) if (other === open) this.#open.delete(serial);
    open.onAnswer(open.total);
  }
}

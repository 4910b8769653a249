import { utf8 } from '../../../src/base/bytes.ts';
import type { Random } from '../../../src/base/random.ts';
import { METHOD } from '../../../src/coap/codes.ts';
import { encode } from '../../../src/coap/message.ts';
import type { ServerIdentity } from '../../../src/pipe/identity.ts';
import { decodeRecord, encodeCookie, encodeHint, encodeVersions } from '../../../src/pipe/record.ts';
import { type Captured, Network, Side } from '../harness.ts';
import { counters, hold } from './invariants.ts';
import { IDENTITIES, type Log, type MovingNetwork, type Node } from './world.ts';

const OWN_NAME = 'mallory.example';
/** An address at which nobody has ever proved to be: what goes there is bounded by what comes from there. */
const NOWHERE = 'nowhere';
const OWN = 'mallory';

const isHandshake = ({ datagram }: Captured): boolean => /^(XX|IK)/.test(datagram.label);
const isFirst = ({ datagram }: Captured): boolean => /1$/.test(datagram.label);

/**
 * Sees everything, sends anything under any address, has keys of his own under other people's names, and one that everybody
 * trusts under his own name.
 */
export class Attacker {
  readonly #network: MovingNetwork;
  readonly #random: Random;
  readonly #log: Log;
  readonly #victims: readonly Node[];
  readonly #asA: Side;
  readonly #asB: Side;
  readonly #asHimself: Side;
  /** Sessions under his own name at the most. */
  ownSessions = 0;
  #ownTexts = 0;
  #toNowhere = 0;
  #fromNowhere = 0;

  constructor(
    network: MovingNetwork,
    random: Random,
    { log, variant, victims }: { log: Log; variant: number; victims: readonly Node[] },
  ) {
    this.#network = network;
    this.#random = random;
    this.#log = log;
    this.#victims = victims;
    // Networks of their own: what they send is caught and goes out under the address that is being imitated.
    const shadow = (identity: ServerIdentity, address: string): Side => {
      const own = new Network();
      const side = new Side(own, address, identity, random);
      own.join(side);
      return side;
    };
    this.#asA = shadow(IDENTITIES.falseA[variant]!, 'a');
    this.#asB = shadow(IDENTITIES.falseB[variant]!, 'b');
    this.#asHimself = shadow(IDENTITIES.mallory[variant]!, OWN);
  }

  /** Something is on its way. Whatever goes to where nobody is was asked for from there. */
  saw({ to, bytes }: { readonly to: string; readonly bytes: Uint8Array }): void {
    if (to !== NOWHERE) return;
    this.#toNowhere += bytes.length;
    hold(
      'no address gets more than three times what came from it',
      this.#toNowhere <= 3 * this.#fromNowhere,
      () => `${this.#toNowhere} bytes for ${this.#fromNowhere}`,
    );
  }

  #send(from: string, to: string, bytes: Uint8Array): void {
    if (from === NOWHERE) this.#fromNowhere += bytes.length;
    this.#network.deliver(from, to, bytes);
  }

  #shadowAt(shadow: Side): Side {
    const { network } = shadow;
    network.advance(this.#network.clock.monotonic() - network.clock.monotonic());
    return shadow;
  }

  /** What a shadow sends when it gets this. */
  #answersOf(shadow: Side, from: string, bytes: Uint8Array): readonly Captured[] {
    const { captured } = this.#shadowAt(shadow).network;
    const before = captured.length;
    shadow.run(shadow.endpoint.receive(from, bytes, shadow.now));
    return captured.slice(before);
  }

  /** Answers a seen XX1 or IK1 at once with a key of his own, so that it arrives before the genuine answer. */
  answer(from: string, to: string, bytes: Uint8Array): void {
    const isHimself = this.#random.integer(3) === 0;
    const shadow = isHimself ? this.#asHimself : to === 'b' ? this.#asB : this.#asA;
    for (const { datagram } of this.#answersOf(shadow, from, bytes)) {
      if (datagram.label !== 'XX2') continue;
      counters.attacker.answers++;
      const first = decodeRecord(bytes);
      if (first.ok && first.value.kind === 'IK1') counters.attacker.fallbacks++;
      this.#network.clock.after(1, () => this.#send(to, from, datagram.bytes));
    }
  }

  /** Everything that was ever sent, once more. */
  replayEverything(): void {
    counters.attacker.replaysOfEverything++;
    for (const { from, datagram } of [...this.#network.captured])
      this.#send(from, datagram.to, datagram.bytes);
  }

  /** One attack. */
  act(): void {
    const random = this.#random;
    const { captured } = this.#network;
    const pick = captured[random.integer(Math.max(1, captured.length))];
    const choice = random.integer(12);
    if (choice === 0) this.#invent();
    else if (choice <= 2) this.#open();
    else if (choice === 3) this.#useOwnSession();
    else if (choice === 4) this.#forgeAnswer();
    else if (choice === 5) this.#repeatHandshake();
    else if (pick === undefined) return;
    else if (choice === 6) this.#hint(pick);
    else if (choice === 7) this.#truncate(pick);
    else if (choice <= 9) this.#mutate(pick);
    else this.#repeat(pick);
  }

  /** Where something seems to come from. */
  #source(genuine: string): string {
    return [genuine, NOWHERE, OWN][this.#random.integer(3)]!;
  }

  #repeat({ from, datagram: { to, bytes } }: Captured): void {
    counters.attacker.replays++;
    this.#send(this.#source(from), to, bytes);
  }

  #mutate({ from, datagram }: Captured): void {
    counters.attacker.mutations++;
    const bytes = datagram.bytes.slice();
    bytes[this.#random.integer(bytes.length)]! ^= 1 + this.#random.integer(255);
    this.#send(this.#source(from), datagram.to, bytes);
  }

  #truncate({ from, datagram: { to, bytes } }: Captured): void {
    counters.attacker.truncations++;
    this.#send(this.#source(from), to, bytes.subarray(0, this.#random.integer(bytes.length)));
  }

  #invent(): void {
    counters.attacker.inventions++;
    const bytes = this.#random.bytes(this.#random.integer(200));
    this.#send(this.#source('a'), this.#victim.address, bytes);
  }

  get #victim(): Node {
    return this.#victims[this.#random.integer(this.#victims.length)]!;
  }

  #hint({ from, datagram: { to, bytes } }: Captured): void {
    const record = decodeRecord(bytes);
    if (!record.ok || record.value.kind !== 'data') return;
    counters.attacker.hints++;
    this.#send(to, from, encodeHint(record.value.destination, record.value.clear));
  }

  /** A cookie, or a list of versions, for the newest opening. */
  #forgeAnswer(): void {
    const first = this.#network.captured.findLast(isFirst);
    const record = first && decodeRecord(first.datagram.bytes);
    if (first === undefined || !record?.ok || !('source' in record.value)) return;
    const { source } = record.value;
    const isCookie = this.#random.integer(2) === 0;
    counters.attacker[isCookie ? 'cookies' : 'versions']++;
    const forged = isCookie
      ? encodeCookie(source, this.#random.bytes(8))
      : encodeVersions(source, [0x11, 0x21]);
    this.#send(first.datagram.to, first.from, forged);
  }

  #repeatHandshake(): void {
    const handshakes = this.#network.captured.filter(isHandshake);
    const old = handshakes[this.#random.integer(Math.max(1, handshakes.length))];
    if (old === undefined) return;
    counters.attacker.oldHandshakes++;
    this.#send(this.#source(old.from), old.datagram.to, old.datagram.bytes);
  }

  /** A whole handshake with a key of his own and somebody else's name, or with his own name; and a record on it. */
  #open(): void {
    const { name, address } = this.#victim;
    const isHimself = this.#random.integer(3) === 0;
    const shadow = this.#shadowAt(isHimself ? this.#asHimself : address === 'b' ? this.#asA : this.#asB);
    const from = isHimself ? OWN : this.#source(shadow.address);
    if (!isHimself) shadow.restart();
    shadow.endpoint.setPeer(name, address);
    const { captured } = shadow.network;
    const before = captured.length;
    this.#sayOn(shadow, name, isHimself);
    const first = captured.slice(before).find(isFirst);
    if (first === undefined) return;
    counters.attacker.openings++;
    const seen = this.#network.captured.length;
    this.#send(from, address, first.datagram.bytes);
    const second = this.#network.captured.slice(seen).find(({ datagram }) => /2$/.test(datagram.label));
    if (second === undefined) return;
    for (const { datagram } of this.#answersOf(shadow, address, second.datagram.bytes)) {
      if (datagram.label === 'XX3') counters.attacker[isHimself ? 'ownSessions' : 'finishes']++;
      if (isHimself) this.ownSessions++;
      this.#send(from, address, datagram.bytes);
    }
  }

  #sayOn(shadow: Side, peer: string, isHimself: boolean): void {
    const text = `${OWN_NAME} says ${++this.#ownTexts}`;
    // As himself he may speak; under any other name it is forged.
    if (isHimself) this.#log.say(text, OWN_NAME, peer);
    const token = Uint8Array.of(this.#ownTexts);
    const message = { type: 'CON', code: METHOD.post, id: this.#ownTexts, token, options: [] } as const;
    const bytes = encode({ ...message, payload: utf8(text) });
    const item = { bytes, priority: 1, receipt: null, label: 'test' } as const;
    shadow.run(shadow.endpoint.send(peer, [item], shadow.now));
  }

  /** A record on a session of his own, and somebody else's record on its connection. */
  #useOwnSession(): void {
    const shadow = this.#shadowAt(this.#asHimself);
    const { name, address } = this.#victim;
    shadow.endpoint.setPeer(name, address);
    const { captured } = shadow.network;
    const before = captured.length;
    this.#sayOn(shadow, name, true);
    for (const { datagram } of captured.slice(before)) {
      if (!datagram.label.startsWith('data')) continue;
      counters.attacker.ownRecords++;
      this.#send(OWN, address, datagram.bytes);
    }
  }
}

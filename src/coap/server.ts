import { assert } from '../base/assert.ts';
import { hex, utf8 } from '../base/bytes.ts';
import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { CoapResponse } from './api.ts';
import { type Block, blockOf, operationKey, selectiveBlockOf, TRANSFER_OPTIONS } from './block.ts';
import { CONTINUE, code, codeLabel, isKnownMethod, isResponse, isSafe } from './codes.ts';
import type { Core, Peer } from './core.ts';
import type { Challenges } from './echo.ts';
import {
  asksForLaterBlock,
  type Incoming,
  isForProxy,
  isUnremembered,
  isUnwanted,
  unremembered,
} from './incoming.ts';
import type { Memory, Remembered } from './memory.ts';
import { encode, type Message } from './message.ts';
import { encodeMissing } from './missing_blocks.ts';
import { OBSERVE, type Observer, type Observers, observeOf } from './observe_server.ts';
import { firstOption, firstUint, OPTION, recognised, uintOption, withoutOptions } from './options.ts';
import type { SelectiveResponses } from './selective_responses.ts';
import type { SelectiveTransfers } from './selective_transfers.ts';
import type { SelectiveUploads } from './selective_uploads.ts';
import { askedOf, hasReservedBlock, plain, type Transfers } from './transfers.ts';
import { type Draft, emptyMessage, type Transmitter } from './transmitter.ts';

/** Critical options that every server here acts on or may leave to the application (RFC 7252, section 5.10). */
const UNDERSTOOD = [
  OPTION.uriHost,
  OPTION.uriPort,
  OPTION.uriPath,
  OPTION.uriQuery,
  OPTION.accept,
  OPTION.block1,
  OPTION.block2,
];

/** What the application does not get to see: the endpoint has acted on it. */
const OWN_OPTIONS: ReadonlySet<number> = new Set([
  ...TRANSFER_OPTIONS,
  OPTION.requestTag,
  OPTION.observe,
  OPTION.echo,
  OPTION.noResponse,
]);

const TOO_LARGE = code(4, 13);
const Q_BLOCK1: ReadonlySet<number> = new Set([OPTION.qBlock1]);

/** RFC 8974, section 2.2.2: a token that is too long to be kept is told by 4.00, with the token. */
const LONGEST_KEPT_TOKEN = 64;

interface Parts {
  readonly transmitter: Transmitter;
  readonly memory: Memory;
  readonly transfers: Transfers;
  readonly selective: {
    readonly transfers: SelectiveTransfers;
    readonly uploads: SelectiveUploads;
    readonly responses: SelectiveResponses;
  };
  readonly observers: Observers;
  readonly challenges: Challenges;
  /** The next number of an exchange. */
  readonly nextOrder: () => number;
}

/** The answering half: RFC 7252 section 5.2, with what other documents add to it. */
export class Server {
  readonly #core: Core;
  readonly #parts: Parts;
  readonly #understood: ReadonlySet<number>;
  readonly #open = new Map<number, Incoming>();

  constructor(core: Core, parts: Parts) {
    this.#core = core;
    this.#parts = parts;
    this.#understood = new Set([...UNDERSTOOD, ...core.understood]);
  }

  get open(): number {
    return this.#open.size;
  }

  /**
   * A request that has not been here before.
   * @param entry null for a block in a non-confirmable message, of which copies are harmless.
   * @param bytes the length of its message.
   */
  received(peer: Peer, message: Message, entry: Remembered | null, bytes: number, now: Millis): void {
    const block = this.#core.selective ? selectiveBlockOf(message.options, OPTION.qBlock1) : undefined;
    if (block !== undefined && message.token.length <= LONGEST_KEPT_TOKEN) {
      this.#blockArrived(peer, message, block, entry, bytes, now);
    } else if (entry !== null) this.#wholeArrived(peer, message, entry, bytes, now);
  }

  /** A block of a body that comes by selective repeat. */
  #blockArrived(
    peer: Peer,
    message: Message,
    block: Block,
    entry: Remembered | null,
    bytes: number,
    now: Millis,
  ): void {
    const { uploads } = this.#parts.selective;
    const { limits } = this.#core;
    const token = hex(message.token);
    const options = withoutOptions(message.options, Q_BLOCK1);
    this.#core.counters.blocksIn++;
    const { payload } = message;
    const {
      progress,
      missing,
      entry: completing,
    } = uploads.add(peer, token, block, { options, payload }, now);
    if (progress.kind === 'complete') {
      const whole = { ...message, options: progress.options, payload: progress.body };
      const completedBy = entry ?? unremembered(message);
      uploads.completed(peer, token, completedBy);
      this.#wholeArrived(peer, whole, completedBy, bytes, now);
    } else if (entry === null) return;
    else if (completing !== null) this.#replyAsTo(completing, peer, entry, bytes, now);
    else {
      const size = progress.kind === 'refused' && progress.code === TOO_LARGE;
      const reply =
        progress.kind === 'refused'
          ? { ...plain(progress.code), options: size ? [uintOption(OPTION.size1, limits.bodyBytes)] : [] }
          : { ...plain(CONTINUE), payload: encodeMissing(missing) };
      this.#keepReply(message, entry, reply);
      this.#repeat(peer, entry, bytes, now);
    }
  }

  /**
   * A checkpoint of a body that is complete: it gets the reply of the message that has completed it. The client may not
   * have got that, and sends no copies of that message any more once this one is acknowledged.
   */
  #replyAsTo(completing: Remembered, peer: Peer, entry: Remembered, bytes: number, now: Millis): void {
    if (completing.exchange !== null) this.#acknowledged(completing.exchange);
    const { reply, label } = completing;
    if (reply === null) entry.shed = true;
    else this.#parts.memory.keep(entry, withId(reply, entry.id), label);
    this.#repeat(peer, entry, bytes, now);
  }

  #keepReply({ id, token }: Message, entry: Remembered, response: CoapResponse): void {
    const reply = encode({ type: 'ACK', id, token, ...response });
    this.#parts.memory.keep(entry, reply, `ACK ${codeLabel(response.code)}`);
  }

  #wholeArrived(peer: Peer, message: Message, entry: Remembered, bytes: number, now: Millis): void {
    const options = recognised(message.options, this.#understood, 'request');
    const known = options.ok ? options.value : [];
    const exchange: Incoming = {
      kind: 'exchange',
      handle: this.#parts.nextOrder(),
      // A body that a non-confirmable block has completed is a confirmable request that has been acknowledged.
      type: isUnremembered(entry) ? 'CON' : message.type,
      id: message.id,
      token: message.token,
      entry,
      bytes,
      ...askedOf(peer, operationKey(message.code, message.options), message, known),
      unwanted: firstUint(known, OPTION.noResponse) ?? 0,
      observe: false,
      selective:
        this.#core.selective &&
        (message.type === 'CON' || isUnremembered(entry)) &&
        [OPTION.observe, OPTION.block1, OPTION.block2, OPTION.size2].every(
          (number) => firstOption(known, number) === undefined,
        ),
      acknowledged: isUnremembered(entry),
    };
    if (!options.ok && message.type === 'NON' && !isForProxy(message.options)) {
      // RFC 7252, section 5.4.1: a non-confirmable message is rejected, which may be done in silence.
      this.#core.counters.ignored++;
      return;
    }
    // A token that is not kept is all that such an answer has, so that it is no longer than what it answers.
    const isTokenLong = message.token.length > LONGEST_KEPT_TOKEN;
    const refusal = isTokenLong
      ? plain(code(4, 0))
      : options.ok
        ? this.#refusal(exchange, { ...message, options: known }, now)
        : isForProxy(message.options)
          ? plain(code(5, 5))
          : { ...plain(code(4, 2)), payload: utf8(`option ${options.problem.number}`) };
    if (refusal !== undefined) {
      this.#send(exchange, refusal, null, 1, now);
      return;
    }
    const progress = this.#parts.transfers.arrived(exchange, message, known, now);
    if (progress.kind === 'answer') {
      this.#send(exchange, progress.response, null, 1, now);
      return;
    }
    if (asksForLaterBlock(exchange) && this.#isStale(peer, { ...message, options: known }, now)) {
      this.#send(exchange, this.#parts.challenges.challenge(peer, now), null, 1, now);
      return;
    }
    const { exchanges, exchangesPerPeer } = this.#core.limits;
    if (this.#open.size >= exchanges || peer.exchanges.size >= exchangesPerPeer) {
      this.#core.counters.refused++;
      this.#send(exchange, plain(code(5, 3)), null, 1, now);
      return;
    }
    this.#deliver(exchange, { ...message, options: known, payload: progress.payload }, now);
  }

  /**
   * The application's answer. Nothing is sent where the exchange is no more: its peer was forgotten.
   * @param observe whether to accept a registration.
   */
  respond(
    handle: number,
    response: CoapResponse,
    { priority, observe }: { readonly priority: Priority; readonly observe: boolean | 'lasting' },
    now: Millis,
  ): void {
    assert(isResponse(response.code), 'a response has a code of class 2, 4 or 5');
    const exchange = this.#open.get(handle);
    if (exchange === undefined) {
      if (observe !== false) this.#parts.observers.refuse(handle);
      return;
    }
    this.#close(exchange);
    const observer = this.#parts.observers.answered(exchange, response, observe, now);
    if (observer === null && this.#sendSelectively(exchange, response, priority, now)) return;
    const part = this.#parts.transfers.divided(exchange, handle, response, now);
    this.#send(exchange, part, observer, priority, now);
  }

  /** The application has not answered in time: the peer has to know that its request has arrived. */
  acknowledge(exchange: Incoming, now: Millis): void {
    const { peer, entry } = exchange;
    if (this.#parts.challenges.isUnproved(peer, now)) {
      // An answer of its own would be repeated by a timer. What runs is safe, and may run again.
      this.#close(exchange);
      this.#send(exchange, this.#parts.challenges.challenge(peer, now), null, 1, now);
      return;
    }
    this.#acknowledged(exchange);
    this.#repeat(peer, entry, exchange.bytes, now);
  }

  #acknowledged(exchange: Incoming): void {
    exchange.acknowledged = true;
    this.#core.timers.clear(exchange);
    this.#keepEmptyAck(exchange);
  }

  /**
   * A copy of a confirmable request: what it got before, or the first acknowledgement while the handler works.
   * @param bytes the length of the copy. One that is shorter than what it copies may be forged.
   */
  duplicate(peer: Peer, entry: Remembered, bytes: number, now: Millis): void {
    const { exchange } = entry;
    if (exchange === null) this.#repeat(peer, entry, bytes, now);
    else if (bytes >= exchange.bytes || !this.#parts.challenges.isUnproved(peer, now)) {
      this.acknowledge(exchange, now);
    }
  }

  /** Ends the exchanges of a peer: their answers go nowhere. */
  forget(peer: Peer): void {
    for (const exchange of peer.exchanges) this.#close(exchange);
  }

  /**
   * Sends what a message is replied with.
   * @param bytes the length of the copy that has come: what may be sent is measured by each datagram (RFC 9175, section
   * 2.4, item 3), or a long request and many short copies of it would be answered at length each time.
   */
  #repeat(peer: Peer, entry: Remembered, bytes: number, now: Millis): void {
    const { transmitter, challenges } = this.#parts;
    const { reply } = entry;
    if (reply !== null) {
      if (challenges.isTooLarge(reply.length, bytes) && challenges.isUnproved(peer, now)) return;
      transmitter.reply(peer.name, reply, entry.label);
    } else if (entry.shed) {
      // The outcome is no longer known: better told than waited for.
      this.#core.counters.resetsOut++;
      transmitter.reply(peer.name, emptyMessage('RST', entry.id), 'RST');
    }
  }

  /** What stands against a request whose options make sense, before any of it is kept. */
  #refusal(exchange: Incoming, message: Message, now: Millis): CoapResponse | undefined {
    const { peer, token } = exchange;
    const { code: method, options } = message;
    const { observers, challenges } = this.#parts;
    if (isForProxy(options)) return plain(code(5, 5));
    if (!isKnownMethod(method)) return plain(code(4, 5));
    if (hasReservedBlock(options)) return plain(code(4, 0));
    challenges.proves(peer, options, now);
    const observe = observeOf(method, options);
    const registers = observe === OBSERVE.register && !asksForLaterBlock(exchange);
    if (challenges.isUnproved(peer, now) && (!isSafe(method) || registers)) {
      return challenges.challenge(peer, now);
    }
    // Whether a later block of a response runs anything is seen when it is looked for.
    const runs = exchange.block1?.more !== true && !asksForLaterBlock(exchange);
    if (runs && this.#isStale(peer, message, now)) return challenges.challenge(peer, now);
    if (observe === OBSERVE.deregister) observers.deregister(peer, token, now);
    exchange.observe = registers && observers.admits(peer, token, exchange);
    return undefined;
  }

  #isStale(peer: Peer, { code: method, options }: Message, now: Millis): boolean {
    const { challenges } = this.#parts;
    return challenges.mustBeFresh(peer, { code: method, options }) && !challenges.proves(peer, options, now);
  }

  #deliver(exchange: Incoming, { code: method, options, payload }: Message, now: Millis): void {
    const { peer, handle, entry, observe } = exchange;
    this.#open.set(handle, exchange);
    peer.exchanges.add(exchange);
    entry.exchange = exchange;
    if (exchange.type === 'CON' && !exchange.acknowledged) {
      this.#core.timers.set(exchange, now + this.#core.timing(peer.name).separateAfter);
    }
    this.#core.counters.requestsIn++;
    const request = { code: method, options: withoutOptions(options, OWN_OPTIONS), payload };
    const { token } = exchange;
    this.#core.events.push({ kind: 'request', exchange: handle, peer: peer.name, request, observe, token });
  }

  /** Sends a large response by selective repeat: its first block piggybacked, if that may be. False where it does not go so. */
  #sendSelectively(exchange: Incoming, response: CoapResponse, priority: Priority, now: Millis): boolean {
    const { peer, token, entry, id, acknowledged } = exchange;
    const { memory, challenges } = this.#parts;
    const { transfers, responses } = this.#parts.selective;
    if (!exchange.selective || isUnwanted(exchange, response) || challenges.isUnproved(peer, now))
      return false;
    if (!responses.admits(peer, response)) return false;
    const transfer = responses.start(peer, token, response, priority, now);
    if (acknowledged) this.#core.counters.separateResponses++;
    else {
      const first = { type: 'ACK', id, token, ...transfers.first(transfer) } as const;
      const label = `ACK ${codeLabel(response.code)} q-block2 1/${transfer.sender.count}`;
      memory.keep(entry, encode(first), label);
      this.#repeat(peer, entry, exchange.bytes, now);
    }
    transfers.send(transfer, now);
    return true;
  }

  /**
   * Sends a response in the message that fits: piggybacked, separate, or non-confirmable; or not at all.
   * @param observer whom it tells that it is registered.
   */
  #send(
    exchange: Incoming,
    response: CoapResponse,
    observer: Observer | null,
    priority: Priority,
    now: Millis,
  ): void {
    const { peer, type, id, token, entry } = exchange;
    const { transmitter, memory, observers } = this.#parts;
    if (observer === null && isUnwanted(exchange, response)) {
      if (type !== 'CON' || exchange.acknowledged) return;
      this.#keepEmptyAck(exchange);
      this.#repeat(peer, entry, exchange.bytes, now);
      return;
    }
    const added = observer === null ? [] : [observers.sequence(observer)];
    const draft = this.#affordable(
      exchange,
      { ...response, options: [...response.options, ...added], token },
      now,
    );
    const label = labelOf(draft);
    if (type === 'NON') {
      const sentAs = transmitter.nonConfirmable(peer, draft, priority, label, now);
      if (observer !== null && sentAs !== null) peer.noteNotification(sentAs, observer);
    } else if (exchange.acknowledged) {
      this.#core.counters.separateResponses++;
      const deadline = now + this.#core.timing(peer.name).exchangeLifetime / 2;
      const details = { priority, label, request: null, notification: observer, deadline };
      const transmission = transmitter.submit(peer, draft, details, now);
      if (observer !== null) observer.transmission = transmission;
    } else {
      memory.keep(entry, encode({ type: 'ACK', id, ...draft }), `ACK ${label}`);
      this.#repeat(peer, entry, exchange.bytes, now);
    }
  }

  /** The response, or what goes instead of it to an address that has proved nothing (RFC 9175, section 2.4). */
  #affordable(exchange: Incoming, draft: Draft, now: Millis): Draft {
    const { peer, type, id, token, bytes } = exchange;
    const { challenges } = this.#parts;
    if (!challenges.isUnproved(peer, now)) return draft;
    const { length } = encode({ type, id, ...draft });
    if (!challenges.isTooLarge(length, bytes)) return draft;
    return { ...challenges.challenge(peer, now), token };
  }

  #keepEmptyAck({ entry, id }: Incoming): void {
    if (isUnremembered(entry)) return;
    this.#parts.memory.keep(entry, emptyMessage('ACK', id), 'ACK');
  }

  #close(exchange: Incoming): void {
    this.#open.delete(exchange.handle);
    exchange.peer.exchanges.delete(exchange);
    exchange.entry.exchange = null;
    this.#core.timers.clear(exchange);
  }
}

/** A reply for another message. */
function withId(reply: Uint8Array, id: number): Uint8Array {
  const copy = reply.slice();
  new DataView(copy.buffer).setUint16(2, id);
  return copy;
}

function labelOf({ code: value, options }: CoapResponse): string {
  const block1 = blockOf(options, OPTION.block1);
  const block2 = blockOf(options, OPTION.block2);
  const one = block1.ok && block1.value !== undefined ? ` block1 ${block1.value.num + 1}` : '';
  const two = block2.ok && block2.value !== undefined ? ` block2 ${block2.value.num + 1}` : '';
  return `${codeLabel(value)}${one}${two}`;
}

import { assert } from '../base/assert.ts';
import { utf8 } from '../base/bytes.ts';
import type { Priority } from '../base/priority.ts';
import type { Millis } from '../base/time.ts';
import type { Uploads } from './assembly.ts';
import { type Block, blockOf, blockOption, operationKey, smaller, TRANSFER_OPTIONS } from './block.ts';
import { type Bodies, blockOfResponse } from './bodies.ts';
import { code, codeLabel, isKnownMethod, isResponse, METHOD } from './codes.ts';
import type { Core, Peer } from './core.ts';
import type { CoapResponse } from './endpoint.ts';
import type { Memory, Remembered } from './memory.ts';
import { encode, type Message, type MessageType, NO_BYTES } from './message.ts';
import {
  firstOption,
  firstUint,
  OPTION,
  type Option,
  recognised,
  uintOption,
  withoutOptions,
} from './options.ts';
import { emptyMessage, type Transmitter } from './transmitter.ts';

/** One request of a peer, from its arrival to its answer. */
export interface Incoming {
  readonly kind: 'exchange';
  readonly handle: number;
  readonly peer: Peer;
  readonly type: MessageType;
  readonly id: number;
  readonly token: Uint8Array;
  readonly entry: Remembered;
  /** See `operationKey`. */
  readonly key: string;
  /** The last block of the request, which its response names. */
  readonly block1: Block | undefined;
  /** The block of the response that is asked for. */
  readonly block2: Block | undefined;
  /** Whether the size of the response is asked for. */
  readonly size2: boolean;
  /** Whether the peer has got an empty acknowledgement, so that the response goes separately. */
  acknowledged: boolean;
}

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
const OWN_OPTIONS: ReadonlySet<number> = new Set([...TRANSFER_OPTIONS, OPTION.requestTag]);

/** The answering half: RFC 7252 section 5.2, block-wise in both directions (RFC 7959). */
export class Server {
  readonly #core: Core;
  readonly #transmitter: Transmitter;
  readonly #memory: Memory;
  readonly #uploads: Uploads;
  readonly #bodies: Bodies;
  readonly #understood: ReadonlySet<number>;
  readonly #open = new Map<number, Incoming>();
  #handles = 0;

  constructor(
    core: Core,
    parts: { transmitter: Transmitter; memory: Memory; uploads: Uploads; bodies: Bodies },
  ) {
    this.#core = core;
    this.#transmitter = parts.transmitter;
    this.#memory = parts.memory;
    this.#uploads = parts.uploads;
    this.#bodies = parts.bodies;
    this.#understood = new Set([...UNDERSTOOD, ...core.understood]);
  }

  get open(): number {
    return this.#open.size;
  }

  /** A request that has not been here before. */
  received(peer: Peer, message: Message, entry: Remembered, now: Millis): void {
    const options = recognised(message.options, this.#understood);
    const exchange: Incoming = {
      kind: 'exchange',
      handle: this.#handles++,
      peer,
      type: message.type,
      id: message.id,
      token: message.token,
      entry,
      key: operationKey(message.code, message.options),
      ...(options.ok ? blocksOf(options.value) : NO_BLOCKS),
      acknowledged: false,
    };
    const answer = (response: CoapResponse): void => this.#send(exchange, response, 1, now);
    if (firstOption(message.options, OPTION.proxyUri) ?? firstOption(message.options, OPTION.proxyScheme)) {
      answer(plain(code(5, 5)));
      return;
    }
    if (!options.ok) {
      // RFC 7252, section 5.4.1: a non-confirmable message is rejected, which may be done in silence.
      if (message.type === 'NON') return;
      answer({ ...plain(code(4, 2)), payload: utf8(`option ${options.problem.number}`) });
      return;
    }
    if (!isKnownMethod(message.code)) {
      answer(plain(code(4, 5)));
      return;
    }
    if (hasReservedBlock(options.value)) {
      answer(plain(code(4, 0)));
      return;
    }
    const response = this.#fromTransfer(exchange, message, options.value, now);
    if (response.kind === 'answer') {
      answer(response.response);
      return;
    }
    const { exchanges, exchangesPerPeer } = this.#core.limits;
    if (this.#open.size >= exchanges || peer.exchanges.size >= exchangesPerPeer) {
      this.#core.counters.refused++;
      answer(plain(code(5, 3)));
      return;
    }
    this.#deliver(exchange, { ...message, options: options.value, payload: response.payload }, now);
  }

  /** The application's answer. Nothing happens where the exchange is no more: its peer was forgotten. */
  respond(handle: number, response: CoapResponse, priority: Priority, now: Millis): void {
    assert(isResponse(response.code), 'a response has a code of class 2, 4 or 5');
    const exchange = this.#open.get(handle);
    if (exchange === undefined) return;
    this.#close(exchange);
    this.#send(exchange, this.#divided(exchange, response, now), priority, now);
  }

  /** The application has not answered in time: the peer has to know that its request has arrived. */
  acknowledge(exchange: Incoming): void {
    exchange.acknowledged = true;
    this.#core.timers.clear(exchange);
    this.#keepEmptyAck(exchange);
    this.#repeat(exchange.peer, exchange.entry);
  }

  /** A copy of a confirmable request: what it got before, or the first acknowledgement while the handler works. */
  duplicate(peer: Peer, entry: Remembered): void {
    if (entry.exchange !== null) this.acknowledge(entry.exchange);
    else this.#repeat(peer, entry);
  }

  forget(peer: Peer): void {
    for (const exchange of peer.exchanges) this.#close(exchange);
    this.#uploads.forget(peer);
    this.#bodies.forget(peer);
  }

  #repeat(peer: Peer, entry: Remembered): void {
    if (entry.reply !== null) this.#transmitter.reply(peer.name, entry.reply, entry.label);
    else if (entry.shed) {
      // The outcome is no longer known: better told than waited for.
      this.#core.counters.resetsOut++;
      this.#transmitter.reply(peer.name, emptyMessage('RST', entry.id), 'RST');
    }
  }

  /** Answers what block-wise transfer can answer by itself; otherwise the whole payload for the application. */
  #fromTransfer(
    exchange: Incoming,
    message: Message,
    options: readonly Option[],
    now: Millis,
  ): { kind: 'answer'; response: CoapResponse } | { kind: 'deliver'; payload: Uint8Array } {
    const { peer, key, block1, block2 } = exchange;
    const answer = (response: CoapResponse) => ({ kind: 'answer', response }) as const;
    const { blockSize } = this.#core.timing(peer.name);
    if (block1 === undefined) {
      if (block2 === undefined || block2.num === 0) return { kind: 'deliver', payload: message.payload };
      const kept = this.#bodies.find(peer, key, now);
      if (kept !== undefined) {
        this.#core.counters.blocksOut++;
        return answer(blockOfResponse(kept, block2, blockSize, exchange.size2));
      }
      // A GET may be asked again at any block; whatever else would be done a second time.
      if (message.code === METHOD.get) return { kind: 'deliver', payload: message.payload };
      return answer(plain(code(4, 8)));
    }
    this.#core.counters.blocksIn++;
    const { bodyBytes } = this.#core.limits;
    const tooLarge = { ...plain(code(4, 13)), options: [uintOption(OPTION.size1, bodyBytes)] };
    if ((firstUint(options, OPTION.size1) ?? 0) > bodyBytes) {
      return answer(tooLarge);
    }
    const progress = this.#uploads.add(peer, key, block1, message.payload, now);
    if (progress.kind === 'complete') return { kind: 'deliver', payload: progress.body };
    if (progress.kind === 'refused') {
      return answer(progress.code === tooLarge.code ? tooLarge : plain(progress.code));
    }
    const size = smaller(block1.size, blockSize);
    return answer({ ...plain(code(2, 31)), options: [blockOption(OPTION.block1, { ...block1, size })] });
  }

  #deliver(exchange: Incoming, { code: method, options, payload }: Message, now: Millis): void {
    const { peer, handle, entry } = exchange;
    this.#open.set(handle, exchange);
    peer.exchanges.add(exchange);
    entry.exchange = exchange;
    if (exchange.type === 'CON') {
      this.#core.timers.set(exchange, now + this.#core.timing(peer.name).separateAfter);
    }
    this.#core.counters.requestsIn++;
    const request = { code: method, options: withoutOptions(options, OWN_OPTIONS), payload };
    this.#core.events.push({ kind: 'request', exchange: handle, peer: peer.name, request });
  }

  /** The part of a response that goes into one message: all of it, or the block that was asked for. */
  #divided(exchange: Incoming, response: CoapResponse, now: Millis): CoapResponse {
    const { peer, key, handle, block1, block2, size2 } = exchange;
    const { blockSize, undividedSize = blockSize } = this.#core.timing(peer.name);
    const named =
      block1 === undefined
        ? response
        : {
            ...response,
            options: [...response.options, blockOption(OPTION.block1, { ...block1, more: false })],
          };
    const { length } = response.payload;
    if (length > this.#core.limits.bodyBytes) return plain(code(5, 0));
    const asked = block2 ?? { num: 0, more: false, size: blockSize };
    if (
      asked.num === 0 &&
      length <= (block2 === undefined ? undividedSize : smaller(asked.size, blockSize))
    ) {
      return named;
    }
    this.#core.counters.blocksOut++;
    const kept = this.#bodies.keep(peer, key, handle, response, now);
    const part = blockOfResponse(kept, asked, blockSize, size2);
    const ofBlock1 = named.options.slice(response.options.length);
    return { ...part, options: [...part.options, ...ofBlock1] };
  }

  /** Sends a response in the message that fits: piggybacked, separate, or non-confirmable. */
  #send(exchange: Incoming, response: CoapResponse, priority: Priority, now: Millis): void {
    const { peer, type, id, token, entry } = exchange;
    const label = labelOf(response);
    if (type === 'NON') {
      this.#transmitter.nonConfirmable(peer, { ...response, token }, priority, label, now);
    } else if (exchange.acknowledged) {
      this.#core.counters.separateResponses++;
      const deadline = now + this.#core.timing(peer.name).exchangeLifetime / 2;
      const details = { priority, label, request: null, deadline };
      this.#transmitter.submit(peer, { ...response, token }, details, now);
    } else {
      this.#memory.keep(entry, encode({ type: 'ACK', id, token, ...response }), `ACK ${label}`);
      this.#repeat(peer, entry);
    }
  }

  #keepEmptyAck({ entry, id }: Incoming): void {
    this.#memory.keep(entry, emptyMessage('ACK', id), 'ACK');
  }

  #close(exchange: Incoming): void {
    this.#open.delete(exchange.handle);
    exchange.peer.exchanges.delete(exchange);
    exchange.entry.exchange = null;
    this.#core.timers.clear(exchange);
  }
}

const plain = (value: number): CoapResponse => ({ code: value, options: [], payload: NO_BYTES });

const NO_BLOCKS = { block1: undefined, block2: undefined, size2: false };

function blocksOf(options: readonly Option[]): Pick<Incoming, 'block1' | 'block2' | 'size2'> {
  const block1 = blockOf(options, OPTION.block1);
  const block2 = blockOf(options, OPTION.block2);
  return {
    block1: block1.ok ? block1.value : undefined,
    block2: block2.ok ? block2.value : undefined,
    size2: firstOption(options, OPTION.size2) !== undefined,
  };
}

/** RFC 7959, section 2.2: SZX 7 must lead to 4.00. */
const hasReservedBlock = (options: readonly Option[]): boolean =>
  !blockOf(options, OPTION.block1).ok || !blockOf(options, OPTION.block2).ok;

function labelOf({ code: value, options }: CoapResponse): string {
  const block1 = blockOf(options, OPTION.block1);
  const block2 = blockOf(options, OPTION.block2);
  const one = block1.ok && block1.value !== undefined ? ` block1 ${block1.value.num + 1}` : '';
  const two = block2.ok && block2.value !== undefined ? ` block2 ${block2.value.num + 1}` : '';
  return `${codeLabel(value)}${one}${two}`;
}

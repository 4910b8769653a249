import { equal, hex } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import { selectiveBlockOf } from './block.ts';
import type { Client } from './client.ts';
import { CONTINUE, EMPTY, isRequest, isResponse } from './codes.ts';
import type { Core, Peer } from './core.ts';
import type { Memory } from './memory.ts';
import { encode, type Message, type MessageProblem } from './message.ts';
import { encodeMissing } from './missing_blocks.ts';
import type { Observations } from './observe_client.ts';
import type { Observers } from './observe_server.ts';
import { firstOption, OPTION } from './options.ts';
import type { Prober } from './prober.ts';
import type { SelectiveResponses } from './selective_responses.ts';
import type { SelectiveTransfers } from './selective_transfers.ts';
import type { Server } from './server.ts';
import { type Arrival, emptyMessage, type Transmission, type Transmitter } from './transmitter.ts';

interface Parts {
  readonly transmitter: Transmitter;
  readonly memory: Memory;
  readonly prober: Prober;
  readonly client: Client;
  readonly observations: Observations;
  readonly observers: Observers;
  readonly server: Server;
  readonly transfers: SelectiveTransfers;
  readonly responses: SelectiveResponses;
  /** The peer of that name, if anything is known of it. */
  readonly known: (name: string) => Peer | undefined;
  /** The same, from now on known; undefined where there are too many. */
  readonly admit: (name: string, now: Millis) => Peer | undefined;
}

/** The message layer's receiving half: acknowledges, rejects, recognises copies (RFC 7252, sections 4.2 to 4.5). */
export class Receiver {
  readonly #core: Core;
  readonly #parts: Parts;

  constructor(core: Core, parts: Parts) {
    this.#core = core;
    this.#parts = parts;
  }

  received(name: string, message: Message, arrival: Arrival, now: Millis): void {
    const { bytes } = arrival;
    const known = this.#parts.known(name);
    if (known !== undefined) {
      known.heardAt = now;
      this.#parts.transmitter.heard(known, message, arrival, now);
    }
    if (message.type === 'RST') this.#wasReset(known, message, now);
    else if (message.type === 'ACK') this.#acknowledged(known, message, now);
    else if (message.code === EMPTY && message.type === 'CON') this.#reset(name, message.id);
    else if (isRequest(message.code) || isResponse(message.code)) this.#arrived(name, message, bytes, now);
    else {
      // A reserved class, or an empty NON (RFC 7252, sections 4.2 and 4.3).
      this.#core.counters.ignored++;
      if (message.type === 'CON') this.#reset(name, message.id);
    }
  }

  malformed(name: string, { header }: MessageProblem): void {
    this.#core.counters.malformed++;
    if (header?.type === 'CON') this.#reset(name, header.id);
  }

  /** The end of one message of ours and of what it was for, or nothing. */
  #wasReset(peer: Peer | undefined, { id, code }: Message, now: Millis): void {
    const { transmitter, client, observers, prober } = this.#parts;
    const transmission = peer?.outstanding.get(id);
    const outgoing = transmission?.confirmable ? transmission.request : peer?.unconfirmed.get(id);
    const observer = transmission === undefined ? peer?.notified.get(id) : transmission.notification;
    if (code !== EMPTY || (transmission === undefined && outgoing == null && observer == null)) {
      this.#core.counters.ignored++;
      return;
    }
    if (transmission?.block != null) {
      const { transfer } = transmission.block;
      if (transfer.request === null) this.#parts.responses.end(transfer, now);
      else client.fail(transfer.request, 'reset', now);
      return;
    }
    if (transmission !== undefined) transmitter.stop(transmission, now);
    if (outgoing != null) client.fail(outgoing, 'reset', now);
    else if (observer != null) observers.gone(observer, 'reset', now);
    else if (transmission !== undefined) prober.ended(transmission, now);
  }

  /** The end of one transmission of ours, perhaps with the response, or nothing. */
  #acknowledged(peer: Peer | undefined, message: Message, now: Millis): void {
    const { transmitter, client, observers, prober } = this.#parts;
    const transmission = peer?.outstanding.get(message.id);
    if (transmission?.confirmable !== true) {
      this.#core.counters.ignored++;
      return;
    }
    if (transmission.block !== null) {
      this.#blockAcknowledged(transmission, message, now);
      return;
    }
    const outgoing = transmission.request;
    if (outgoing === null) {
      // Whatever it carries: section 5.2.2.
      transmitter.stop(transmission, now);
      if (transmission.notification !== null) observers.acknowledged(transmission.notification, now);
      else prober.ended(transmission, now);
    } else if (message.code === EMPTY) {
      client.acknowledged(outgoing, now);
    } else if (isResponse(message.code) && equal(message.token, transmission.draft.token)) {
      client.answered(outgoing, message, now);
    } else {
      this.#core.counters.ignored++;
    }
  }

  /** The peer has replied to a checkpoint: with what is missing, with nothing, or with the response. */
  #blockAcknowledged(transmission: Transmission, message: Message, now: Millis): void {
    const { transfers, responses, client } = this.#parts;
    const { transfer } = transmission.block!;
    const { request } = transfer;
    if (message.code !== EMPTY && !equal(message.token, transfer.token)) {
      this.#core.counters.ignored++;
    } else if (message.code !== EMPTY && message.code !== CONTINUE) {
      if (request === null) responses.end(transfer, now);
      else if (isResponse(message.code)) client.answered(request, message, now);
    } else {
      const progress = transfers.acknowledged(transmission, message, now);
      if (request === null) {
        if (progress !== 'going_on') responses.end(transfer, now);
      } else if (progress === 'complete') client.acknowledged(request, now);
      else if (progress === 'bad') client.fail(request, 'bad_response', now);
    }
  }

  /** A request or a response in a message of its own, perhaps not for the first time. */
  #arrived(name: string, message: Message, bytes: number, now: Millis): void {
    const { memory, server } = this.#parts;
    const peer = this.#parts.admit(name, now);
    if (peer === undefined) {
      this.#core.counters.refused++;
      return;
    }
    if (message.type === 'NON' && this.#isBlock(message)) {
      // Copies of it are harmless, and it would be remembered for long.
      if (isRequest(message.code)) server.received(peer, message, null, bytes, now);
      else if (!this.#accept(peer, message, now)) this.#core.counters.ignored++;
      return;
    }
    const before = memory.find(peer, message.id, now);
    if (before !== undefined) {
      this.#core.counters.duplicates++;
      if (message.type === 'CON') server.duplicate(peer, before, bytes, now);
      return;
    }
    const entry = memory.add(peer, message, now);
    if (entry === undefined) {
      this.#core.counters.refused++;
      return;
    }
    if (isRequest(message.code)) {
      server.received(peer, message, entry, bytes, now);
      return;
    }
    // The reply leaves before what the response leads to, which may be a long message.
    const earlier = this.#core.datagrams.length;
    const accepted = this.#accept(peer, message, now);
    const reply = accepted ? acknowledgement(message) : rejection(message);
    if (!accepted) this.#core.counters.ignored++;
    if (reply === undefined) return;
    if (!accepted) this.#core.counters.resetsOut++;
    const missing = peer.awaited.get(hex(message.token))?.download?.receiver.missing;
    const isPart = accepted && missing !== undefined;
    const replyBytes = isPart
      ? encode({ ...message, type: 'ACK', code: CONTINUE, options: [], payload: encodeMissing(missing) })
      : emptyMessage(reply, message.id);
    const label = isPart ? 'ACK 2.31' : reply;
    memory.keep(entry, replyBytes, label);
    const next = this.#core.datagrams.splice(earlier);
    this.#parts.transmitter.reply(name, replyBytes, label);
    this.#core.datagrams.push(...next);
  }

  /** Hands a response to whoever waits for its token; false where nobody does, or it must not be taken. */
  #accept(peer: Peer, message: Message, now: Millis): boolean {
    const token = hex(message.token);
    const outgoing = peer.awaited.get(token);
    if (outgoing !== undefined) return this.#parts.client.answered(outgoing, message, now);
    const observation = peer.observed.get(token);
    return observation !== undefined && this.#parts.observations.arrived(observation, message, now);
  }

  #isBlock({ code, options }: Message): boolean {
    const number = isRequest(code) ? OPTION.qBlock1 : OPTION.qBlock2;
    return this.#core.selective && selectiveBlockOf(options, number) !== undefined;
  }

  #reset(name: string, id: number): void {
    this.#core.counters.resetsOut++;
    this.#parts.transmitter.reply(name, emptyMessage('RST', id), 'RST');
  }
}

const acknowledgement = ({ type }: Message): 'ACK' | undefined => (type === 'CON' ? 'ACK' : undefined);

/** A notification is rejected also where it is non-confirmable, or more would come (RFC 7641, section 3.6). */
const rejection = ({ type, options }: Message): 'RST' | undefined =>
  type === 'CON' || firstOption(options, OPTION.observe) !== undefined ? 'RST' : undefined;

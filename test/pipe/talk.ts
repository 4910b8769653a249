import { decode, type Message, partMessage } from '../../src/coap/message.ts';
import type { MessagePlace, MessageTimes } from '../../src/pipe/message_names.ts';
import { sessionNames } from '../../src/pipe/message_names.ts';
import { PeerMessages, type ReadProblem, type SentAs } from '../../src/pipe/peer_messages.ts';

export const TIMES: MessageTimes = { exchangeLifetime: 600_000, longestReply: 60_000 };

/** A message as it is in a record of a side's. */
export interface OnWire {
  readonly bytes: Uint8Array;
  readonly number: number;
  readonly isMarked: boolean;
  readonly isShort: boolean;
  readonly generation: number;
}

/** What one of two sides knows. */
class Side {
  messages = new PeerMessages();
  readonly isInitiator: boolean;
  number = 0;
  generation = 1;

  constructor(isInitiator: boolean) {
    this.isInitiator = isInitiator;
  }

  skip(numbers = 1): void {
    this.number += numbers;
  }

  place(number: number, isShort: boolean, generation: number): MessagePlace {
    return { ...sessionNames(generation, this.isInitiator), number, isShort };
  }
}

const ALONE: SentAs = { request: null, copy: 0 };

/** Two sides that put messages into records of one session, or of the next one, and read them. */
export class Talk {
  readonly a = new Side(true);
  readonly b = new Side(false);
  now = 0;

  /** From now on on a new session. */
  renew(): void {
    for (const side of [this.a, this.b]) {
      side.generation++;
      side.number = 0;
    }
  }

  /** @returns undefined where there is nothing to be said */
  tryWrite(from: 'a' | 'b', coap: Uint8Array, as: Partial<SentAs> = {}): OnWire | undefined {
    const side = this[from];
    const parts = partMessage(coap);
    if (parts === undefined) throw new Error('a CoAP message');
    const { own } = side.place(0, true, side.generation);
    const skipped = side.messages.skipped(parts, own, side.number, this.now, TIMES);
    side.skip(skipped ?? 0);
    const place = side.place(side.number, skipped !== null, side.generation);
    const written = side.messages.write(parts, { ...ALONE, ...as }, place, this.now);
    if (written === undefined) return undefined;
    side.skip();
    const { number, isShort } = place;
    const { generation } = side;
    const isMarked = written.isResend;
    return { bytes: written.encode(isMarked), number, isMarked, isShort, generation };
  }

  write(from: 'a' | 'b', coap: Uint8Array, as: Partial<SentAs> = {}): OnWire {
    const written = this.tryWrite(from, coap, as);
    if (written === undefined) throw new Error('there is something to be said');
    return written;
  }

  tryRead(to: 'a' | 'b', wire: OnWire): { message: Message; copy: number | undefined } | ReadProblem {
    const side = this[to];
    const place = side.place(wire.number, wire.isShort, wire.generation);
    const read = side.messages.read(wire.bytes, wire.isMarked, place, this.now, TIMES);
    if (!read.ok) return read.problem;
    const message = decode(read.value.bytes);
    if (!message.ok) throw new Error(message.problem.reason);
    return { message: message.value, copy: read.value.copy };
  }

  read(to: 'a' | 'b', wire: OnWire): Message {
    const read = this.tryRead(to, wire);
    if (typeof read === 'string') throw new Error(read);
    return read.message;
  }
}

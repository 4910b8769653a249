import type { MessageId } from '../base/message_id.ts';
import type { Millis } from '../base/time.ts';
import { MessageIds } from '../coap/ids.ts';
import { keyOf } from './message_names.ts';

/** A CON or NON of the peer's. */
export interface ReceivedMessage {
  readonly key: string;
  /** What CoAP knows it by. */
  readonly id: number;
  /** Where its newest copy was, which is what a reply answers; and whether a reply may be short. */
  newest: MessageId;
  isShort: boolean;
  /** What CoAP has as its token. */
  token: Uint8Array;
  expiresAt: Millis;
}

// Ours.
/** Messages of one peer: as many as CoAP remembers. */
const MOST_MESSAGES = 16_384;

/** The peer's messages: each has an id of this side's choice for CoAP, and all of its copies have the same. */
export class ReceivedMessages {
  readonly #ids = new MessageIds(0);
  /** By the first copy's place, the one of which a copy came last at the end. */
  readonly #byFirst = new Map<string, ReceivedMessage>();
  readonly #byId = new Map<number, ReceivedMessage>();

  /**
   * Notes that a copy has come. What has not been heard of for longer than its lifetime is new.
   * @returns undefined where every id is in use
   */
  add(
    first: MessageId,
    copy: Pick<ReceivedMessage, 'newest' | 'isShort'>,
    now: Millis,
    lifetime: Millis,
  ): ReceivedMessage | undefined {
    this.#expire(now);
    const key = keyOf(first);
    const known = this.#byFirst.get(key);
    const id = known?.id ?? this.#ids.take(now, lifetime);
    if (id === null) return undefined;
    this.#ids.touch(id, now);
    const message = known ?? { key, id, ...copy, token: new Uint8Array(0), expiresAt: 0 };
    message.newest = copy.newest;
    message.isShort = copy.isShort;
    message.expiresAt = now + lifetime;
    this.#byFirst.delete(key);
    this.#byFirst.set(key, message);
    this.#byId.set(id, message);
    if (this.#byFirst.size > MOST_MESSAGES) this.#forget(this.#byFirst.values().next().value!);
    return message;
  }

  /** The one that CoAP knows by that id. */
  find(id: number): ReceivedMessage | undefined {
    return this.#byId.get(id);
  }

  #expire(now: Millis): void {
    for (const message of this.#byFirst.values()) {
      if (message.expiresAt > now) break;
      this.#forget(message);
    }
  }

  #forget(message: ReceivedMessage): void {
    this.#byFirst.delete(message.key);
    if (this.#byId.get(message.id) === message) this.#byId.delete(message.id);
  }
}

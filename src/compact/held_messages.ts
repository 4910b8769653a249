/** Messages that wait for another one's introductions, of one peer. */
export const MAX_HELD_MESSAGES = 16;

/** Messages that cannot be read before another one has been: see `handles.ts`. At most MAX_HELD_MESSAGES. */
export class HeldMessages<Message> {
  readonly #held: { readonly message: Message; readonly waitsFor: number }[] = [];

  /**
   * Keeps a message until the one with that number has been read.
   * @returns the message that has waited longest, where there is one too many: its sender has to be told
   */
  hold(message: Message, waitsFor: number): Message | undefined {
    this.#held.push({ message, waitsFor });
    return this.#held.length > MAX_HELD_MESSAGES ? this.#held.shift()!.message : undefined;
  }

  /** The messages that have waited for this one, in the order in which they came: they are to be read now. */
  arrived(number: number): Message[] {
    const ready: Message[] = [];
    for (let i = 0; i < this.#held.length; )
      if (this.#held[i]!.waitsFor === number) ready.push(this.#held.splice(i, 1)[0]!.message);
      else i++;
    return ready;
  }

  /** All messages: of a session that has ended. */
  clear(): Message[] {
    return this.#held.splice(0).map(({ message }) => message);
  }
}

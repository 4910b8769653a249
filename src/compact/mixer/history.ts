/** How many bytes of earlier messages are looked through for what comes next. */
export const MAX_HISTORY_BYTES = 2048;
/** How many earlier messages. */
export const MAX_HISTORY_MESSAGES = 64;
/** The longest run that is told from shorter ones. */
const MAX_RUN = 16;
/** A shorter run that does not begin with the message is chance. */
const MIN_RUN = 3;
/** Lengths of a run as the mixer sees them. */
export const RUN_CLASSES = 8;
const CLASS_OF_RUN = Uint8Array.from({ length: MAX_RUN + 1 }, (_, run) =>
  run < 1 ? 1 : run < 2 ? 2 : run < 4 ? 3 : run < 6 ? 4 : run < 10 ? 5 : run < 16 ? 6 : 7,
);

/** Nothing is expected. */
export const NOTHING = -1;
/** The message is expected to end. */
export const END_OF_MESSAGE = 256;

/** Earlier messages of a conversation, the newest last, as one array of bytes. */
export interface History {
  readonly bytes: Uint8Array;
  /** Where each message begins, and at the end the length of all. */
  readonly starts: readonly number[];
}

export const NO_HISTORY: History = { bytes: new Uint8Array(0), starts: [0] };

/** The history with one message more, without the oldest where it would grow beyond its bounds. */
export function append(history: History, message: Uint8Array): History {
  const messages: Uint8Array[] = [message.subarray(0, MAX_HISTORY_BYTES)];
  let total = messages[0]!.length;
  for (let i = history.starts.length - 2; i >= 0 && messages.length < MAX_HISTORY_MESSAGES; i--) {
    const older = history.bytes.subarray(history.starts[i], history.starts[i + 1]);
    total += older.length;
    if (total > MAX_HISTORY_BYTES) break;
    messages.unshift(older);
  }
  const starts = [0];
  for (const one of messages) starts.push(starts.at(-1)! + one.length);
  const bytes = new Uint8Array(starts.at(-1)!);
  messages.forEach((one, i) => {
    bytes.set(one, starts[i]!);
  });
  return { bytes, starts };
}

/** Follows the earlier message that is most like this one, and expects what came next there. */
export class Follower {
  #history: History = NO_HISTORY;
  /** The message that is followed, and where in it. */
  #message = -1;
  #at = 0;
  #run = 0;

  begin(history: History): void {
    this.#history = history;
    this.#message = history.starts.length - 2;
    this.#at = this.#message < 0 ? 0 : history.starts[this.#message]!;
    this.#run = 0;
  }

  /** The byte that is expected next, END_OF_MESSAGE, or NOTHING. */
  get expected(): number {
    if (this.#message < 0) return NOTHING;
    return this.#at < this.#history.starts[this.#message + 1]!
      ? this.#history.bytes[this.#at]!
      : END_OF_MESSAGE;
  }

  /** How long the run is that the expectation rests on: 1 to RUN_CLASSES - 1; 0 where nothing is expected. */
  get runClass(): number {
    return this.#message < 0 ? 0 : CLASS_OF_RUN[this.#run]!;
  }

  /** @param bytes the message up to here, whose last byte is at `length - 1`. */
  advance(bytes: Uint8Array, length: number): void {
    if (this.#message >= 0 && this.expected === bytes[length - 1]) {
      this.#at++;
      this.#run = Math.min(this.#run + 1, MAX_RUN);
      return;
    }
    this.#find(bytes, length);
  }

  /** The longest run that ends here; of equal ones the newest. */
  #find(bytes: Uint8Array, length: number): void {
    const { bytes: old, starts } = this.#history;
    this.#message = -1;
    let longest = MIN_RUN - 1;
    let message = starts.length - 2;
    // `last` is where the byte before the expected one is.
    for (let last = old.length; message >= 0 && last > 0; ) {
      last = old.lastIndexOf(bytes[length - 1]!, last - 1);
      if (last < 0) return;
      while (starts[message]! > last) message--;
      const start = starts[message]!;
      let run = 1;
      while (
        run < length &&
        run < MAX_RUN &&
        last - run >= start &&
        old[last - run] === bytes[length - run - 1]
      ) {
        run++;
      }
      // A run that both messages begin with says more.
      const weight = run === length && last - run + 1 === start ? run + MIN_RUN : run;
      if (weight <= longest) continue;
      longest = weight;
      this.#message = message;
      this.#at = last + 1;
      this.#run = run;
    }
  }
}

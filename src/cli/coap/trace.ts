import type { Millis } from '../../base/time.ts';
import { blockOf } from '../../coap/block.ts';
import { decode } from '../../coap/message.ts';
import { firstUint, OPTION } from '../../coap/options.ts';
import type { ExchangeObservation } from '../../exchange/socket_options.ts';
import { describeDatagram, hexDump, isRecord } from './render.ts';

/** Clears the line of a terminal that the cursor is in. */
const CLEAR_LINE = '\r\x1b[K';
/** How the label of a message ends that was sent before. */
const COPY = /copy \d+$/;

/** Tells on the terminal, beside the answer, what crosses the link: each message, or how far a long transfer is. */
export class Trace {
  readonly #write: (text: string) => void;
  readonly #verbose: boolean;
  readonly #hex: boolean;
  readonly #progress: boolean;
  #start: Millis | undefined;
  #total: number | undefined;
  #shown = false;
  #received = new AbortController();

  /**
   * @param write appends to the error output.
   * @param progress whether that is a terminal, of which a line can be written again.
   */
  constructor({
    write,
    verbose,
    hex,
    progress,
  }: {
    readonly write: (text: string) => void;
    readonly verbose: boolean;
    readonly hex: boolean;
    readonly progress: boolean;
  }) {
    this.#write = write;
    this.#verbose = verbose || hex;
    this.#hex = hex;
    this.#progress = progress && !this.#verbose;
  }

  readonly observe = (observation: ExchangeObservation): void => {
    if (observation.direction === 'received') this.#received.abort();
    if (this.#verbose) this.#line(observation);
    else if (this.#progress) this.#transfer(observation);
  };

  /** Aborts with the next message that comes. */
  get nextReceived(): AbortSignal {
    if (this.#received.signal.aborted) this.#received = new AbortController();
    return this.#received.signal;
  }

  /** A remark, where remarks were asked for. */
  note(text: string): void {
    if (this.#verbose) this.#write(`* ${text}\n`);
  }

  /** Takes the progress away, before anything else is printed. */
  clear(): void {
    if (this.#shown) this.#write(CLEAR_LINE);
    this.#shown = false;
  }

  #line({ direction, at, bytes, label }: ExchangeObservation): void {
    this.#start ??= at;
    const seconds = ((at - this.#start) / 1000).toFixed(3).padStart(7);
    // A pipe's record says nothing of itself, but its sender does.
    const told = isRecord(bytes) ? label : (COPY.exec(label)?.[0] ?? '');
    this.#write(
      `${direction === 'sent' ? '>' : '<'} ${seconds} s  ${describeDatagram(bytes)}${told && `, ${told}`}\n`,
    );
    if (this.#hex) this.#write(`${hexDump(bytes)}\n`);
  }

  #transfer({ direction, bytes, label }: ExchangeObservation): void {
    const copy = direction === 'sent' ? COPY.exec(label) : null;
    if (copy !== null) {
      this.#show(`no answer yet, ${copy[0]} sent`);
      return;
    }
    const decoded = decode(bytes);
    if (!decoded.ok) return;
    const { options, payload } = decoded.value;
    const sent = direction === 'sent';
    const block = blockOf(options, sent ? OPTION.block1 : OPTION.block2);
    if (!block.ok || block.value === undefined || payload.length === 0) return;
    const total = firstUint(options, sent ? OPTION.size1 : OPTION.size2);
    if (total !== undefined || block.value.num === 0) this.#total = total;
    const done = block.value.num * block.value.size + payload.length;
    const of = this.#total === undefined ? '' : ` of ${this.#total}`;
    this.#show(`${sent ? 'sent' : 'received'} ${done}${of} bytes`);
  }

  #show(text: string): void {
    this.#write(`${CLEAR_LINE}${text}`);
    this.#shown = true;
  }
}

import type { Cancel, Clock, Millis } from '../base/time.ts';
import { AX25_OVERHEAD, type Callsign, decodeAx25, encodeAx25, parseCallsign } from './ax25.ts';
import { encodeKiss, KissDecoder } from './kiss.ts';
import type { Address, Link, LinkProfile } from './link.ts';
import { encodeSlip, SlipDecoder } from './slip.ts';

/** A serial device as `serialport` has it: opened once, given up once it has closed. */
export interface SerialDevice {
  open(done: (error: Error | null) => void): void;
  write(bytes: Buffer, done: (error: Error | null | undefined) => void): unknown;
  /** Calls back when the last bit has left. */
  drain(done: (error: Error | null) => void): void;
  close(done: (error: Error | null) => void): void;
  on(event: 'data', listener: (bytes: Buffer) => void): unknown;
  on(event: 'close' | 'error', listener: (error: Error | null | undefined) => void): unknown;
}

export interface SerialLinkOptions {
  /** What the other end of a line without addresses is called: `serial:` and this. */
  readonly name: string;
  /** Bits a second on the line, of which ten carry one byte. */
  readonly baud: number;
  /** `slip`: RFC 1055, a line to one other machine. `kiss`: a radio modem. */
  readonly framing: 'slip' | 'kiss';
  /** With `kiss`: the own callsign. Frames carry AX.25 addresses then, and the other ends' addresses are callsigns. */
  readonly callsign?: Callsign;
  /** What is known besides: a radio behind the modem is slower than the line to it. */
  readonly profile?: Partial<LinkProfile>;
  readonly clock: Clock;
  /** A new object for the device; called again after each loss of it. */
  readonly device: () => SerialDevice;
  /** Told when the device is there and when it is not. */
  readonly onState?: (state: SerialState) => void;
}

export type SerialState =
  | { readonly kind: 'opened' }
  | { readonly kind: 'gone'; readonly reason: string; readonly retryAfterMs: Millis };

/** Since the start. */
export interface SerialCounters {
  sent: number;
  /** Not sent: no device, another datagram still waiting, too long, or no address of this link. */
  lost: number;
  received: number;
  /** Frames for somebody else, from nobody, or of another kind. */
  ignored: number;
  /** Times that the device was opened. */
  openings: number;
}

/** RFC 1055 asks for no more than this. */
const SLIP_MTU = 1006;
/** AX.25's own default is 256, too little for the second message of a handshake between servers with long names. */
const KISS_MTU = 512;
/** What a frame has on the line beside its bytes, or on the air: two flags, and a command byte or two of checksum. */
const SLIP_OVERHEAD = 2;
const KISS_OVERHEAD = 4;
/** Bits on the line for a byte: start, eight, stop. */
const BITS_PER_BYTE = 10;
/** Of random bytes every 128th is escaped; twice that is allowed for, so that the line is never behind for long. */
const ESCAPES = 1 / 64;

/** The modem's port that is used. */
const PORT = 0;

const FIRST_RETRY_MS: Millis = 1_000;
const LONGEST_RETRY_MS: Millis = 60_000;

/** The address of the other end of a line without addresses. */
export const lineAddress = (name: string): Address => `serial:${name}`;

/** Bits of datagrams that a line carries in a second. */
export const lineRate = (baud: number): number => (baud * 8) / (BITS_PER_BYTE * (1 + ESCAPES));

function profileOf({ baud, framing, callsign, profile }: SerialLinkOptions): LinkProfile {
  return {
    mtu: framing === 'slip' ? SLIP_MTU : KISS_MTU,
    rate: lineRate(baud),
    delay: 0,
    overhead:
      (framing === 'slip' ? SLIP_OVERHEAD : KISS_OVERHEAD) + (callsign === undefined ? 0 : AX25_OVERHEAD),
    ...profile,
  };
}

/**
 * Datagrams over a serial device. It is opened again and again, ever less often, while it is not there; what is sent
 * meanwhile is lost. One frame is in the driver at a time and one may wait for it; more is lost: the pacer holds what
 * is to come.
 */
export class SerialLink implements Link {
  readonly profile: LinkProfile;
  readonly counters: SerialCounters = { sent: 0, lost: 0, received: 0, ignored: 0, openings: 0 };
  readonly #options: SerialLinkOptions;
  #decoder: SlipDecoder | KissDecoder;
  #receive: (from: Address, bytes: Uint8Array) => void = () => undefined;
  /** Undefined while there is none that is open. */
  #device: SerialDevice | undefined;
  #opening: SerialDevice | undefined;
  #busy = false;
  #waiting: Uint8Array | undefined;
  #retry: Cancel = () => undefined;
  #retryAfterMs = FIRST_RETRY_MS;
  #closed = false;

  constructor(options: SerialLinkOptions) {
    this.#options = options;
    this.profile = profileOf(options);
    this.#decoder = this.#newDecoder();
    this.#open();
  }

  /** Frames that arrived damaged since the device was opened. */
  get damaged(): number {
    return this.#decoder.dropped;
  }

  send(to: Address, bytes: Uint8Array): void {
    const frame = this.#frame(to, bytes);
    if (frame === undefined || this.#device === undefined || this.#waiting !== undefined)
      this.counters.lost++;
    else if (this.#busy) this.#waiting = frame;
    else this.#write(this.#device, frame);
  }

  onReceive(receive: (from: Address, bytes: Uint8Array) => void): void {
    this.#receive = receive;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#retry();
    const device = this.#device ?? this.#opening;
    const isOpen = this.#device !== undefined;
    this.#device = undefined;
    this.#waiting = undefined;
    // One that is being opened is closed once it is: see #open.
    if (isOpen) await closed(device!);
  }

  #open(): void {
    const device = this.#options.device();
    this.#opening = device;
    // A device that is written to and goes away reports both; the first of them ends it.
    const gone = (error: Error | null | undefined): void => this.#gone(device, error?.message ?? 'closed');
    device.on('error', gone);
    device.on('close', gone);
    device.on('data', (bytes) => {
      if (this.#device === device) this.#received(bytes);
    });
    device.open((error) => {
      if (error !== null) gone(error);
      else if (this.#closed) void closed(device);
      else if (this.#opening === device) this.#opened(device);
    });
  }

  #opened(device: SerialDevice): void {
    this.#opening = undefined;
    this.#device = device;
    this.#decoder = this.#newDecoder();
    this.#busy = false;
    this.#retryAfterMs = FIRST_RETRY_MS;
    this.counters.openings++;
    this.#options.onState?.({ kind: 'opened' });
  }

  #gone(device: SerialDevice, reason: string): void {
    if (this.#closed || (device !== this.#device && device !== this.#opening)) return;
    // An error leaves the device open, where it was.
    if (this.#device === device) device.close(() => undefined);
    this.#device = undefined;
    this.#opening = undefined;
    if (this.#waiting !== undefined) this.counters.lost++;
    this.#waiting = undefined;
    const retryAfterMs = this.#retryAfterMs;
    this.#retryAfterMs = Math.min(2 * retryAfterMs, LONGEST_RETRY_MS);
    this.#retry = this.#options.clock.after(retryAfterMs, () => this.#open());
    this.#options.onState?.({ kind: 'gone', reason, retryAfterMs });
  }

  #write(device: SerialDevice, frame: Uint8Array): void {
    this.#busy = true;
    this.counters.sent++;
    const next = (): void => {
      if (this.#device !== device) return;
      this.#busy = false;
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if (waiting !== undefined) this.#write(device, waiting);
    };
    device.write(Buffer.from(frame), (error) => {
      if (error) this.#gone(device, error.message);
      else device.drain((failed) => (failed === null ? next() : this.#gone(device, failed.message)));
    });
  }

  #newDecoder(): SlipDecoder | KissDecoder {
    const { framing, callsign } = this.#options;
    const longest = this.profile.mtu + (callsign === undefined ? 0 : AX25_OVERHEAD);
    return framing === 'slip' ? new SlipDecoder(longest) : new KissDecoder(longest);
  }

  #frame(to: Address, bytes: Uint8Array): Uint8Array | undefined {
    const { name, framing, callsign } = this.#options;
    if (bytes.length > this.profile.mtu || bytes.length === 0) return undefined;
    if (callsign === undefined) {
      if (to !== lineAddress(name)) return undefined;
      return framing === 'slip' ? encodeSlip(bytes) : encodeKiss({ port: PORT, data: bytes });
    }
    const destination = parseCallsign(to);
    if (destination === undefined) return undefined;
    return encodeKiss({ port: PORT, data: encodeAx25({ destination, source: callsign, data: bytes }) });
  }

  #received(chunk: Uint8Array): void {
    const { name, callsign } = this.#options;
    for (const frame of this.#decoder.push(chunk)) {
      if (!(frame instanceof Uint8Array) && frame.port !== PORT) {
        this.counters.ignored++;
        continue;
      }
      const data = frame instanceof Uint8Array ? frame : frame.data;
      if (callsign === undefined) {
        this.#deliver(lineAddress(name), data);
        continue;
      }
      const decoded = decodeAx25(data);
      if (decoded.ok && decoded.value.destination === callsign && decoded.value.source !== callsign)
        this.#deliver(decoded.value.source, decoded.value.data);
      else this.counters.ignored++;
    }
  }

  #deliver(from: Address, bytes: Uint8Array): void {
    this.counters.received++;
    this.#receive(from, new Uint8Array(bytes));
  }
}

const closed = (device: SerialDevice): Promise<void> =>
  new Promise((resolve) => device.close(() => resolve()));

import { closeSync, openSync, writeSync } from 'node:fs';
import type { Clock } from '../base/time.ts';
import type { ExchangeObservation } from '../exchange/socket_options.ts';
import type { Address } from '../link/link.ts';
import { MAX_CAPTURE_BYTES } from '../link/pcap.ts';
import { captureBlock, captureHeader } from '../link/pcapng.ts';

/** What crosses outside of pipes is readable, access tokens among it. */
const OWNER_ONLY = 0o600;

/**
 * A new pcapng file with every datagram of a server's links. It ends where it would become too large to be read again, or
 * cannot be written; the server goes on.
 */
export class CaptureFile {
  readonly #file: number;
  readonly #clock: Clock;
  readonly #onEnd: (reason: string) => void;
  #bytes = 0;
  #ended = false;
  /** The server's end of each datagram, as `host:port`. */
  ownAddress: Address = '';

  /**
   * @param onEnd called once where nothing more is written
   * @throws the system's error where there is such a file already, or it cannot be made
   */
  constructor(path: string, clock: Clock, onEnd: (reason: string) => void) {
    this.#file = openSync(path, 'wx', OWNER_ONLY);
    this.#clock = clock;
    this.#onEnd = onEnd;
    this.#write(captureHeader());
  }

  readonly observe = ({ direction, peer, bytes, label }: ExchangeObservation): void => {
    const [from, to] = direction === 'sent' ? [this.ownAddress, peer] : [peer, this.ownAddress];
    // Not every peer has an address of IP.
    const comment = [label, /:\d+$/.test(peer) ? '' : `${direction}, ${peer}`].filter(Boolean).join(', ');
    this.#write(captureBlock({ from, to, bytes }, this.#clock.wall(), comment));
  };

  close(): void {
    closeSync(this.#file);
  }

  #write(block: Uint8Array): void {
    if (this.#ended) return;
    try {
      if (this.#bytes + block.length > MAX_CAPTURE_BYTES) throw new Error('it has become too large');
      this.#bytes += block.length;
      writeSync(this.#file, block);
    } catch (error) {
      this.#ended = true;
      this.#onEnd(error instanceof Error ? error.message : String(error));
    }
  }
}

import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/*
 * What TLS over TCP takes on an Ethernet wire, out of the bytes that crossed a connection on this machine:
 *
 * - every segment has 14 bytes of Ethernet, 20 of IPv4, 20 of TCP and 12 of its timestamps, and carries up to 1,448;
 * - all bytes in one direction until the other side speaks are one flight, in the fewest segments;
 * - one acknowledgement for every two segments of a flight, and a delayed one at the end of each exchange;
 * - a connection is opened by SYN, SYN+ACK and ACK, and closed by two FIN and their ACKs.
 *
 * Nothing is lost, sent again, or sent in more pieces than needed: a real connection takes at least this.
 */
const SEGMENT_OVERHEAD = 66;
const SEGMENT_PAYLOAD = 1448;
/** The options of SYN and SYN+ACK: 8 bytes more than the timestamps. */
const SYN_OPTIONS = 8;
const CONNECTION_BYTES = 2 * (SEGMENT_OVERHEAD + SYN_OPTIONS) + 5 * SEGMENT_OVERHEAD;

/** Bytes of TLS records that crossed in one direction until the other side spoke. */
interface Flight {
  readonly answers: boolean;
  bytes: number;
}

/** What has crossed since it was asked for last. */
export class TcpTraffic {
  /** Bytes of TLS records since the beginning, whatever was taken. */
  crossedBytes = 0;
  #connections = 0;
  /** By connection. */
  readonly #flights = new Map<object, Flight[]>();

  opened(): void {
    this.#connections++;
  }

  crossed(connection: object, answers: boolean, bytes: number): void {
    this.crossedBytes += bytes;
    const flights = this.#flights.get(connection) ?? [];
    this.#flights.set(connection, flights);
    const last = flights.at(-1);
    if (last?.answers === answers) last.bytes += bytes;
    else flights.push({ answers, bytes });
  }

  /** Bytes on an Ethernet wire since the last call, both directions. */
  take(): number {
    let total = this.#connections * CONNECTION_BYTES;
    for (const { answers, bytes } of [...this.#flights.values()].flat()) {
      const segments = Math.ceil(bytes / SEGMENT_PAYLOAD);
      const acknowledgements = Math.floor(segments / 2) + (answers ? 1 : 0);
      total += bytes + (segments + acknowledgements) * SEGMENT_OVERHEAD;
    }
    this.#connections = 0;
    this.#flights.clear();
    return total;
  }
}

/** A relay on 127.0.0.1 that passes connections on to another port there and counts what it passes, both ways. */
export class TcpRelay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: () => number, traffic: TcpTraffic) {
    this.#server = createServer((near) => {
      const far = connect(target(), '127.0.0.1');
      const connection = {};
      traffic.opened();
      this.#pass(near, far, (bytes) => traffic.crossed(connection, false, bytes));
      this.#pass(far, near, (bytes) => traffic.crossed(connection, true, bytes));
    });
  }

  /** @param target tells the port to pass on to, asked at each connection */
  static async open(target: () => number, traffic: TcpTraffic): Promise<TcpRelay> {
    const relay = new TcpRelay(target, traffic);
    await new Promise<void>((resolve) => relay.#server.listen(0, '127.0.0.1', resolve));
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #pass(from: Socket, to: Socket, count: (bytes: number) => void): void {
    this.#sockets.add(from);
    from.setNoDelay(true);
    from.on('data', (chunk) => {
      count(chunk.length);
      to.write(chunk);
    });
    from.on('end', () => to.end());
    from.on('error', () => to.destroy());
    from.on('close', () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }
}

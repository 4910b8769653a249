import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** 14 bytes of Ethernet, 20 of IPv4, 20 of TCP and 12 of its timestamps, on every segment. */
const SEGMENT_OVERHEAD = 66;
/** What one segment carries with an Ethernet MTU of 1,500 bytes. */
const SEGMENT_PAYLOAD = 1448;
/** SYN and SYN+ACK carry 8 bytes of options more; ACK; two FIN and their two ACKs. */
const CONNECTION_BYTES = 2 * (SEGMENT_OVERHEAD + 8) + 5 * SEGMENT_OVERHEAD;

/** What crossed a counter. */
export interface TcpCount {
  connections: number;
  /** Bytes inside TCP: TLS records. */
  payload: number;
  /** TCP segments that carried them, at least. */
  segments: number;
}

/**
 * Bytes on an Ethernet wire for what was counted, at least: opening, closing and every segment with its headers; no
 * acknowledgement that travels alone is added, though there are some.
 */
export function wireBytes({ connections, payload, segments }: TcpCount): number {
  return payload + segments * SEGMENT_OVERHEAD + connections * CONNECTION_BYTES;
}

/** A relay on 127.0.0.1 that passes connections on to another port there and counts what it passes, both ways. */
export class TcpCounter {
  readonly count: TcpCount = { connections: 0, payload: 0, segments: 0 };
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: () => number) {
    this.#server = createServer((near) => {
      const far = connect(target(), '127.0.0.1');
      this.count.connections++;
      this.#pass(near, far);
      this.#pass(far, near);
    });
  }

  /** @param target tells the port to pass on to, asked at each connection */
  static async open(target: () => number): Promise<TcpCounter> {
    const counter = new TcpCounter(target);
    await new Promise<void>((resolve) => counter.#server.listen(0, '127.0.0.1', resolve));
    return counter;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #pass(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.setNoDelay(true);
    from.on('data', (chunk) => {
      this.count.payload += chunk.length;
      this.count.segments += Math.ceil(chunk.length / SEGMENT_PAYLOAD);
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

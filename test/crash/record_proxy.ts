import { createSocket, type Socket } from 'node:dgram';
import { RecordLedger } from './record_ledger.ts';

const HOST = '127.0.0.1';
/** Of each direction, the last datagrams: what somebody on the path could send again. */
const KEPT_DATAGRAMS = 64;

/** One side of the proxy: a socket that plays the other server for the one whose name it has. */
interface Side {
  readonly name: string;
  /** The server's own. */
  readonly port: number;
  readonly socket: Socket;
  /** The last datagrams that went to it. */
  readonly sent: Uint8Array[];
}

/** Stands between two servers' UDP ports, passes on everything, and enters it into a ledger. */
export class RecordProxy {
  readonly ledger = new RecordLedger();
  readonly #sides: readonly [Side, Side];
  #deaf: string | undefined;

  private constructor(sides: readonly [Side, Side]) {
    this.#sides = sides;
    for (const [here, there] of [sides, [sides[1], sides[0]]] as const) {
      here.socket.on('message', (bytes) => {
        this.ledger.see(here.name, bytes);
        there.sent.push(new Uint8Array(bytes));
        if (there.sent.length > KEPT_DATAGRAMS) there.sent.shift();
        if (this.#deaf === there.name) return;
        there.socket.send(bytes, there.port, HOST);
      });
    }
  }

  /** @param ports of both servers by name */
  static async open(ports: readonly [name: string, port: number][]): Promise<RecordProxy> {
    const [left, right] = await Promise.all(
      ports.map(async ([name, port]): Promise<Side> => {
        const socket = createSocket('udp4');
        await new Promise<void>((done) => socket.bind(0, HOST, done));
        return { name, port, socket, sent: [] };
      }),
    );
    return new RecordProxy([left!, right!]);
  }

  /** The port that `name` is to believe the other server's. */
  portFor(name: string): number {
    return this.#side(name).socket.address().port;
  }

  /** Sends `name` once more what it was sent last. */
  replay(name: string): void {
    const { socket, port, sent } = this.#side(name);
    for (const bytes of sent) socket.send(bytes, port, HOST);
  }

  /** From now on nothing reaches `name`; undefined: everything reaches everybody. */
  deafen(name: string | undefined): void {
    this.#deaf = name;
  }

  async close(): Promise<void> {
    for (const { socket } of this.#sides) await new Promise<void>((done) => socket.close(done));
  }

  #side(name: string): Side {
    return this.#sides.find((side) => side.name === name)!;
  }
}

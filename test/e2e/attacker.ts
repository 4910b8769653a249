import { createSocket, type Socket } from 'node:dgram';
import { connect } from 'node:net';
import { concat } from '../../src/base/bytes.ts';
import { type Random, seededRandom } from '../../src/base/random.ts';
import { decode, encode, type Message } from '../../src/coap/message.ts';
import { PipeEndpoint, type PipeEvent, type PipeStep } from '../../src/pipe/endpoint.ts';
import { createIdentity } from '../../src/pipe/identity.ts';

const NO_BYTES = new Uint8Array(0);
const LOOPBACK = '127.0.0.1';
/** Fewer than a socket's buffer holds. */
const BATCH = 50;

function bind(port = 0): Promise<Socket> {
  const socket = createSocket('udp4');
  return new Promise((resolve, reject) => {
    socket.once('error', reject).bind(port, LOOPBACK, () => resolve(socket));
  });
}

const portOf = (address: string): number => Number(address.split(':').at(-1));

/** A UDP socket that says anything to one server. */
export class Stranger {
  readonly address: string;
  readonly #socket: Socket;
  readonly #target: number;
  #received: Uint8Array[] = [];
  #onReceive: (bytes: Uint8Array) => void = () => undefined;
  #pings = 0;

  private constructor(socket: Socket, target: string) {
    this.#socket = socket;
    this.#target = portOf(target);
    this.address = `${LOOPBACK}:${socket.address().port}`;
    socket.on('message', (bytes) => {
      this.#received.push(new Uint8Array(bytes));
      this.#onReceive(new Uint8Array(bytes));
    });
  }

  static async open(target: string, port = 0): Promise<Stranger> {
    return new Stranger(await bind(port), target);
  }

  send(bytes: Uint8Array): void {
    this.#socket.send(bytes, this.#target, LOOPBACK);
  }

  /** Sends all, in batches that the server's socket can hold, and answers what came back until all was worked on. */
  async sendAll(datagrams: readonly Uint8Array[]): Promise<Uint8Array[]> {
    const answers: Uint8Array[] = [];
    for (let at = 0; at < datagrams.length; at += BATCH) {
      for (const bytes of datagrams.slice(at, at + BATCH)) this.send(bytes);
      answers.push(...(await this.answers()));
    }
    return answers;
  }

  /**
   * What came back since the last call. The end is marked by the answer to a CoAP ping (RFC 7252, section 4.3): datagrams
   * on loopback stay in order, and a server without a rate answers at once, so what is not here by then was not sent.
   */
  async answers(): Promise<Uint8Array[]> {
    const id = 0xf000 + (this.#pings++ % 0xfff);
    const isReset = (bytes: Uint8Array): boolean =>
      bytes.length === 4 && bytes[0] === 0x70 && bytes[1] === 0 && bytes[2]! * 256 + bytes[3]! === id;
    await new Promise<void>((resolve) => {
      this.#onReceive = (bytes) => {
        if (isReset(bytes)) resolve();
      };
      this.send(Uint8Array.of(0x40, 0, id >> 8, id & 0xff));
    });
    const received = this.#received.filter((bytes) => !isReset(bytes));
    this.#received = [];
    return received;
  }

  /** Sends one CoAP message and waits for the answer with its token, whatever time that takes; acknowledges it. */
  async ask(message: Partial<Message> & { readonly id: number }): Promise<Message> {
    const token = Uint8Array.of(message.id >> 8, message.id & 0xff);
    const request: Message = {
      type: 'CON',
      code: 1,
      token,
      options: [],
      payload: NO_BYTES,
      ...message,
    };
    const answer = await new Promise<Message>((resolve) => {
      this.#onReceive = (bytes) => {
        const decoded = decode(bytes);
        if (decoded.ok && decoded.value.code > 0 && Buffer.compare(decoded.value.token, request.token) === 0)
          resolve(decoded.value);
      };
      this.send(encode(request));
    });
    if (answer.type === 'CON')
      this.send(encode({ ...answer, type: 'ACK', code: 0, token: NO_BYTES, options: [], payload: NO_BYTES }));
    this.#received = [];
    return answer;
  }

  /** Has everything that arrives handed to `receive`. */
  onReceive(receive: (bytes: Uint8Array) => void): void {
    this.#onReceive = receive;
  }

  close(): void {
    this.#socket.close();
  }
}

/** Somebody who speaks the pipe's protocol well, with an identity of his own making. */
export class Speaker {
  readonly endpoint: PipeEndpoint;
  readonly events: PipeEvent[] = [];
  readonly #stranger: Stranger;
  readonly #random: Random;
  #now = 0;

  constructor(stranger: Stranger, serverName: string, seed: number) {
    this.#stranger = stranger;
    this.#random = seededRandom(seed);
    this.endpoint = new PipeEndpoint({
      identity: createIdentity({
        serverName,
        noiseSecret: this.#random.bytes(32),
        signingKeyId: 'ed25519:evil',
        signingSecret: this.#random.bytes(32),
        serial: 2 ** 46,
      }),
      random: this.#random,
      handshakeTiming: () => ({ rate: null, delay: 0, overhead: 42 }),
    });
  }

  /** Calls a server by name with something to say, believes whatever answers, and waits for an event. */
  async call(name: string, text: Uint8Array, until: PipeEvent['kind']): Promise<PipeEvent> {
    const ended = new Promise<PipeEvent>((resolve) => {
      this.listen((event) => {
        if (event.kind === until) resolve(event);
      });
    });
    this.endpoint.setPeer(name, 'server');
    this.#run(
      this.endpoint.send(name, [{ bytes: text, priority: 1, receipt: null, label: '' }], ++this.#now),
    );
    return ended;
  }

  /** Answers whoever calls. */
  listen(onEvent: (event: PipeEvent) => void): void {
    this.#stranger.onReceive((bytes) =>
      this.#run(this.endpoint.receive('server', bytes, ++this.#now), onEvent),
    );
  }

  #run(step: PipeStep, onEvent: (event: PipeEvent) => void = () => undefined): void {
    for (const { bytes } of step.datagrams) this.#stranger.send(bytes);
    for (const event of step.events) {
      this.events.push(event);
      onEvent(event);
      if (event.kind === 'identity')
        this.#run(this.endpoint.decide(event.session, { trusted: true }, ++this.#now), onEvent);
    }
  }
}

export interface Captured {
  readonly to: 'left' | 'right';
  readonly bytes: Uint8Array;
}

/**
 * The wire between two servers, in an attacker's hands: each server's configuration names one of its two sockets as the
 * address of the other.
 *
 *     left <──UDP──> leftEnd | rightEnd <──UDP──> right
 */
export class Wire {
  readonly captured: Captured[] = [];
  readonly leftEnd: string;
  readonly rightEnd: string;
  readonly #sockets: Readonly<Record<'left' | 'right', Socket>>;
  readonly #targets: Record<'left' | 'right', number> = { left: 0, right: 0 };

  private constructor(left: Socket, right: Socket) {
    this.#sockets = { left, right };
    this.leftEnd = `${LOOPBACK}:${left.address().port}`;
    this.rightEnd = `${LOOPBACK}:${right.address().port}`;
    left.on('message', (bytes) => this.#carry('right', bytes));
    right.on('message', (bytes) => this.#carry('left', bytes));
  }

  static async open(): Promise<Wire> {
    return new Wire(await bind(), await bind());
  }

  /** The server's own address, which the sockets send to. */
  lead(to: 'left' | 'right', address: string): void {
    this.#targets[to] = portOf(address);
  }

  /** Sends to a server under the other one's address. */
  inject(to: 'left' | 'right', bytes: Uint8Array): void {
    this.#sockets[to].send(bytes, this.#targets[to], LOOPBACK);
  }

  close(): void {
    this.#sockets.left.close();
    this.#sockets.right.close();
  }

  #carry(to: 'left' | 'right', bytes: Uint8Array): void {
    this.captured.push({ to, bytes: new Uint8Array(bytes) });
    this.inject(to, bytes);
  }
}

/** Sends bytes over TCP as they are, and answers everything that comes back until the server hangs up. */
export function rawHttp(port: number, ...parts: readonly (string | Uint8Array)[]): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const bytes = concat(...parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
    const socket = connect(port, LOOPBACK, () => socket.write(bytes));
    socket.setEncoding('latin1').on('data', (chunk) => {
      answer += chunk;
    });
    socket.on('error', () => undefined).on('close', () => resolve(answer));
  });
}

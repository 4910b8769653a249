import fc from 'fast-check';
import { beforeEach, describe, expect, it, test } from 'vitest';
import { fromHex, hex, utf8 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { code, METHOD } from '../../src/coap/codes.ts';
import { decode, encode, type Message, NO_BYTES } from '../../src/coap/message.ts';
import { firstUint, OPTION } from '../../src/coap/options.ts';
import {
  csm,
  decodeReliable,
  encodeReliable,
  ping,
  pong,
  type ReliableMessage,
  SIGNAL,
} from '../../src/coap/reliable_message.ts';
import { CoapSocket } from '../../src/exchange/coap_socket.ts';
import { coapOverWebSocket } from '../../src/exchange/websocket_coap.ts';
import type { Link } from '../../src/link/link.ts';
import type { ConnectionLink } from '../../src/link/websocket.ts';

const PEER = 'ws://peer.example';
const PROFILE = { mtu: 1152, rate: null, delay: 0, overhead: 74 };
const CONTENT = code(2, 5);
const NOTHING = { token: NO_BYTES, options: [], payload: NO_BYTES } as const;
const token = Uint8Array.of(0xab);

/** One end of one connection, on which a test plays the peer. */
class Wire implements ConnectionLink {
  readonly profile = PROFILE;
  sent: Uint8Array[] = [];
  dropped: { readonly reason: string; readonly holdOffMs: number }[] = [];
  isOpen = false;
  #receive: (from: string, bytes: Uint8Array) => void = () => undefined;
  #listener: Parameters<ConnectionLink['onConnection']>[0] | undefined;

  send(_to: string, bytes: Uint8Array): boolean {
    if (this.isOpen) this.sent.push(bytes);
    return this.isOpen;
  }
  onReceive(receive: (from: string, bytes: Uint8Array) => void): void {
    this.#receive = receive;
  }
  onConnection(listener: Parameters<ConnectionLink['onConnection']>[0]): void {
    this.#listener = listener;
  }
  drop(address: string, reason: string, holdOffMs = 0): void {
    this.dropped.push({ reason, holdOffMs });
    this.lose(address);
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
  open(address = PEER): void {
    this.isOpen = true;
    this.#listener!.opened(address);
  }
  lose(address = PEER): void {
    this.isOpen = false;
    this.#listener!.closed(address);
  }
  says(message: ReliableMessage): void {
    this.#receive(PEER, encodeReliable(message));
  }
  saysBytes(bytes: Uint8Array): void {
    this.#receive(PEER, bytes);
  }
  /** What has gone out since the last look. */
  take(): ReliableMessage[] {
    return this.sent.splice(0).map((bytes) => {
      const decoded = decodeReliable(bytes);
      if (!decoded.ok) throw new Error(`${hex(bytes)}: ${decoded.problem}`);
      return decoded.value;
    });
  }
}

describe('CoAP over a reliable connection, for an endpoint that knows UDP', () => {
  let wire: Wire;
  let link: Link;
  /** What the endpoint is given. */
  let given: Message[];

  function open(plain = true): void {
    wire = new Wire();
    link = coapOverWebSocket({ link: wire, plain });
    given = [];
    link.onReceive((from, bytes) => {
      expect(from).toBe(PEER);
      const decoded = decode(bytes);
      if (!decoded.ok) throw new Error(hex(bytes));
      given.push(decoded.value);
    });
    wire.open();
    expect(wire.take()).toMatchObject([{ code: SIGNAL.csm }]);
    wire.says(csm(1152));
  }
  beforeEach(() => open());

  const get: Message = { type: 'CON', id: 7, code: METHOD.get, ...NOTHING, token };

  it('sends a confirmable message without type and id, and acknowledges it itself', () => {
    link.send(PEER, encode(get));
    expect(wire.sent.map(hex)).toEqual(['0101ab']);
    expect(given).toMatchObject([{ type: 'ACK', id: 7, code: 0 }]);
    wire.says({ code: CONTENT, ...NOTHING, token, payload: utf8('hi') });
    expect(given[1]).toMatchObject({ type: 'NON', code: CONTENT, token, payload: utf8('hi') });
  });

  it('acknowledges nothing that did not go out', () => {
    wire.isOpen = false;
    link.send(PEER, encode(get));
    expect(given).toEqual([]);
  });

  it('hands in requests as confirmable ones with fresh ids, and sends piggybacked answers as they are', () => {
    wire.says({ code: METHOD.get, ...NOTHING, token });
    wire.says({ code: METHOD.get, ...NOTHING, token: Uint8Array.of(1) });
    expect(given).toMatchObject([{ type: 'CON', code: METHOD.get, token }, { type: 'CON' }]);
    expect(given[0]!.id).not.toBe(given[1]!.id);
    const { id } = given[0]!;
    link.send(PEER, encode({ type: 'ACK', id, code: 0, ...NOTHING }));
    expect(wire.take()).toEqual([]);
    link.send(PEER, encode({ type: 'ACK', id, code: CONTENT, ...NOTHING, token }));
    link.send(PEER, encode({ type: 'RST', id, code: 0, ...NOTHING }));
    expect(wire.take()).toEqual([{ code: CONTENT, ...NOTHING, token }]);
  });

  it('makes a Ping of a ping, and of its Pong the reset that answers a ping', () => {
    link.send(PEER, encode({ type: 'CON', id: 0x1234, code: 0, ...NOTHING }));
    const [sent] = wire.take();
    expect(sent).toMatchObject({ code: SIGNAL.ping });
    expect(given).toEqual([]);
    wire.says(pong(sent!.token));
    expect(given).toEqual([{ type: 'RST', id: 0x1234, code: 0, ...NOTHING }]);
  });

  it('answers the peer’s Ping by itself', () => {
    wire.says(ping(token));
    expect(wire.take()).toEqual([pong(token)]);
    expect(given).toEqual([]);
  });

  it('numbers notifications in the order of their arrival, whatever they say', () => {
    for (const value of ['', 'ff', '01'])
      wire.says({
        ...NOTHING,
        code: CONTENT,
        token,
        options: [{ number: OPTION.observe, value: fromHex(value)! }],
      });
    expect(given.map(({ options }) => firstUint(options, OPTION.observe))).toEqual([1, 2, 3]);
  });

  it('lets pipe records through both ways, also before the introduction', () => {
    wire = new Wire();
    link = coapOverWebSocket({ link: wire, plain: false });
    const got: string[] = [];
    link.onReceive((_, bytes) => got.push(hex(bytes)));
    wire.open();
    wire.sent = [];
    wire.saysBytes(Uint8Array.of(0x90, 1, 2));
    link.send(PEER, Uint8Array.of(0x83, 4));
    expect(got).toEqual(['900102']);
    expect(wire.sent.map(hex)).toEqual(['8304']);
  });

  it('serves no request where plain CoAP is off, but says so', () => {
    open(false);
    wire.says({ code: METHOD.get, ...NOTHING, token });
    expect(given).toEqual([]);
    expect(wire.take()).toMatchObject([{ code: code(4, 3), token }]);
  });

  it('sends nothing larger than the peer takes', () => {
    wire.says(csm(20));
    link.send(PEER, encode({ ...get, payload: new Uint8Array(30) }));
    expect(wire.take()).toEqual([]);
    expect(given).toEqual([]);
  });

  it('sends what was asked before the connection was there, once', () => {
    wire = new Wire();
    link = coapOverWebSocket({ link: wire, plain: true });
    given = [];
    link.onReceive((_, bytes) => {
      const decoded = decode(bytes);
      if (decoded.ok) given.push(decoded.value);
    });
    link.send(PEER, encode(get));
    link.send(PEER, encode(get));
    expect(given).toEqual([]);
    wire.open();
    expect(wire.take()).toMatchObject([{ code: SIGNAL.csm }, { code: METHOD.get }]);
    expect(given).toMatchObject([{ type: 'ACK', id: 7 }]);
  });

  it('keeps nothing for connections that others have made and that are no more', () => {
    wire.lose();
    for (let gone = 0; gone < 256; gone++) link.send(`192.0.2.7:${gone}`, encode(get));
    link.send(PEER, encode(get));
    wire.open();
    expect(wire.take()).toMatchObject([{ code: SIGNAL.csm }, { code: METHOD.get }]);
    wire.open('192.0.2.7:1');
    expect(wire.take()).toMatchObject([{ code: SIGNAL.csm }]);
  });

  it('answers what was open with 5.03 when the connection is lost, and nothing else', () => {
    link.send(PEER, encode(get));
    link.send(PEER, encode({ ...get, id: 8, token: Uint8Array.of(2) }));
    wire.says({ code: CONTENT, ...NOTHING, token });
    given = [];
    wire.lose();
    expect(given).toMatchObject([{ type: 'NON', code: code(5, 3), token: Uint8Array.of(2) }]);
  });

  it('lets a peer that releases the connection answer first, and calls it no earlier than it wants', () => {
    link.send(PEER, encode(get));
    wire.says({ ...NOTHING, code: SIGNAL.release, options: [{ number: 4, value: Uint8Array.of(30) }] });
    expect(wire.dropped).toEqual([]);
    wire.take();
    link.send(PEER, encode({ ...get, id: 8 }));
    expect(wire.take()).toEqual([]);
    wire.says({ code: CONTENT, ...NOTHING, token });
    expect(wire.dropped).toEqual([{ reason: 'released', holdOffMs: 30_000 }]);
  });

  const introduced = true;
  it.each([
    ['a request before the introduction', !introduced, '0101ab'],
    ['a ping before the introduction', !introduced, '00e2'],
    ['a message with a length', introduced, '5001ab'],
    ['a message with half a token', introduced, '0201ab'],
    ['an unknown signal', introduced, '00e9'],
    ['a critical option in a signal', introduced, '00e270'],
  ])('aborts the connection on %s', (_, first, bytes) => {
    if (!first) {
      wire = new Wire();
      link = coapOverWebSocket({ link: wire, plain: true });
      link.onReceive(() => expect.unreachable());
      wire.open();
      wire.take();
    }
    wire.saysBytes(fromHex(bytes)!);
    expect(wire.take()).toMatchObject([{ code: SIGNAL.abort }]);
    expect(wire.dropped).toHaveLength(1);
  });

  it('names the critical option of an introduction that it does not know', () => {
    wire.saysBytes(fromHex('00e170')!);
    expect(wire.take()).toMatchObject([
      { code: SIGNAL.abort, options: [{ number: 2, value: Uint8Array.of(7) }] },
    ]);
  });

  it('ends where the peer aborts, and ignores empty messages and the other reserved classes', () => {
    for (const harmless of ['0000', '0020', '00c1']) wire.saysBytes(fromHex(harmless)!);
    expect(wire.dropped).toEqual([]);
    wire.saysBytes(fromHex('00e5')!);
    expect(wire.dropped).toHaveLength(1);
    expect(given).toEqual([]);
  });
});

test('whatever a peer says, nothing is thrown, and what is handed in is CoAP', () => {
  const long = fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ minLength: 200, maxLength: 400 }));
  const near = fc
    .tuple(
      fc.integer({ min: 0, max: 14 }),
      fc.constantFrom(0, 1, 2, 5, 69, 225, 226, 227, 228, 229, 230),
      long,
    )
    .map(([length, of, rest]) => Uint8Array.of(length, of, ...rest));
  let handedIn = 0;
  fc.assert(
    fc.property(fc.array(fc.oneof(long, near), { maxLength: 20 }), (messages) => {
      const wire = new Wire();
      const link = coapOverWebSocket({ link: wire, plain: true });
      link.onReceive((_, bytes) => {
        if ((bytes[0] ?? 0) >= 0x80) return;
        handedIn++;
        expect(decode(bytes).ok).toBe(true);
      });
      for (const message of messages) {
        if (!wire.isOpen) {
          wire.open();
          wire.says(csm(1152));
        }
        wire.saysBytes(message);
      }
    }),
    { numRuns: 500 },
  );
  expect(handedIn).toBeGreaterThan(0);
});

/** Two ends of one connection that loses nothing. */
function wires(time: VirtualTime): readonly [Wire, Wire] {
  const [a, b] = [new Wire(), new Wire()];
  for (const [from, to] of [
    [a, b],
    [b, a],
  ] as const)
    from.send = (_, bytes) => {
      if (from.isOpen) time.clock.after(10, () => to.isOpen && to.saysBytes(bytes));
      return from.isOpen;
    };
  return [a, b];
}

describe('two endpoints over a reliable connection', () => {
  const request = { code: METHOD.get, options: [], payload: NO_BYTES };
  let time: VirtualTime;
  let ends: readonly [Wire, Wire];
  let client: CoapSocket;
  let server: CoapSocket;

  beforeEach(() => {
    time = new VirtualTime();
    ends = wires(time);
    const socket = (wire: Wire, seed: number): CoapSocket =>
      new CoapSocket({
        link: coapOverWebSocket({ link: wire, plain: true }),
        clock: time.clock,
        random: seededRandom(seed),
      });
    [client, server] = [socket(ends[0], 1), socket(ends[1], 2)];
    for (const wire of ends) wire.open();
  });

  it('exchange bodies of 100 KB both ways, and send nothing twice', async () => {
    const payload = seededRandom(3).bytes(100_000);
    server.onRequest(async (asked) => ({ code: CONTENT, options: [], payload: asked.payload }));
    const asked = client.request(PEER, { ...request, code: METHOD.post, payload }, { timeoutMs: 60_000 });
    const response = await time.until(asked, 60_000);
    expect(response.code).toBe(CONTENT);
    expect(hex(response.payload)).toBe(hex(payload));
    expect(client.counters.resent + server.counters.resent).toBe(0);
  });

  it('wait for an answer that takes minutes', async () => {
    server.onRequest(
      () =>
        new Promise((resolve) =>
          time.clock.after(600_000, () => resolve({ code: CONTENT, options: [], payload: NO_BYTES })),
        ),
    );
    const response = await time.until(client.request(PEER, request, { timeoutMs: 900_000 }), 900_000);
    expect(response.code).toBe(CONTENT);
    expect(client.counters.resent).toBe(0);
  });

  it('tell at once of an answer that can no longer come', async () => {
    server.onRequest(() => new Promise(() => undefined));
    const asked = client.request(PEER, request, { timeoutMs: 900_000 });
    await time.pass(1_000);
    for (const wire of ends) wire.lose();
    expect((await time.until(asked, 1_000)).code).toBe(code(5, 3));
  });
});

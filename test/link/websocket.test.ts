import { beforeEach, describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import {
  MAX_MESSAGE_BYTES,
  type MessageSocket,
  openWebSocketLink,
  WebSocketLink,
} from '../../src/link/websocket.ts';

const URL = 'wss://b.example';

class Socket implements MessageSocket {
  readonly url: string;
  bufferedBytes = 0;
  readonly sent: Uint8Array[] = [];
  readonly events: string[] = [];
  at!: Parameters<MessageSocket['listen']>[0];

  constructor(url = '') {
    this.url = url;
  }
  listen(listener: Parameters<MessageSocket['listen']>[0]): void {
    this.at = listener;
  }
  send(bytes: Uint8Array): void {
    this.sent.push(bytes);
  }
  ping(): void {
    this.events.push('ping');
  }
  close(code: number): void {
    this.events.push(`close ${code}`);
  }
  destroy(): void {
    this.events.push('destroy');
  }
}

describe('a WebSocket link', () => {
  let clock: VirtualClock;
  let dialled: Socket[];
  let link: WebSocketLink;
  let happened: string[];

  const dial = (url: string): MessageSocket => {
    const socket = new Socket(url);
    dialled.push(socket);
    return socket;
  };
  const watch = (watched: WebSocketLink): void => {
    watched.onReceive((from, bytes) => happened.push(`${from}: ${[...bytes]}`));
    watched.onConnection({
      opened: (address) => happened.push(`opened ${address}`),
      closed: (address) => happened.push(`closed ${address}`),
    });
  };
  const pass = (duration: number): void => {
    const end = clock.monotonic() + duration;
    for (let next = clock.next(); next !== null && next <= end; next = clock.next()) clock.step();
    clock.advanceTo(end);
  };

  beforeEach(() => {
    clock = new VirtualClock();
    [dialled, happened] = [[], []];
    link = new WebSocketLink({ clock, random: seededRandom(1), dial });
    watch(link);
  });

  it('names accepted connections by their host and a number', () => {
    const [one, two] = [new Socket(), new Socket()];
    link.accept(one, '192.0.2.7', '192.0.2.7');
    link.accept(two, '2001:db8::1', '2001:db8::1');
    one.at.message(Uint8Array.of(1));
    expect(happened).toEqual(['opened 192.0.2.7:1', 'opened [2001:db8::1]:2', '192.0.2.7:1: 1']);
    expect(link.send('192.0.2.7:1', Uint8Array.of(2))).toBe(true);
    expect(one.sent).toEqual([Uint8Array.of(2)]);
    one.at.closed();
    expect(link.send('192.0.2.7:1', Uint8Array.of(2))).toBe(false);
    expect(happened.at(-1)).toBe('closed 192.0.2.7:1');
    expect(link.size).toBe(1);
  });

  it('takes so many of one host, and so many in all, and has room again when one ends', () => {
    const sockets = Array.from({ length: 64 }, () => new Socket());
    for (const socket of sockets) link.accept(socket, 'h', 'h');
    expect(link.hasRoomFor('h')).toBe(false);
    expect(link.hasRoomFor('i')).toBe(true);
    const late = new Socket();
    link.accept(late, 'h', 'h');
    expect(late.events).toEqual(['destroy']);
    expect(link.counters.refused).toBe(1);
    sockets[0]!.at.closed();
    sockets[0]!.at.closed();
    expect(link.hasRoomFor('h')).toBe(true);
    link.accept(new Socket(), 'h', 'h');
    expect(link.hasRoomFor('h')).toBe(false);
    for (let host = 0; host < 1024 - 64; host++) link.accept(new Socket(), `host${host}`, `host${host}`);
    expect(link.hasRoomFor('i')).toBe(false);
    expect(link.size).toBe(1024);
  });

  it('cuts a connection whose other side does not read, and one that says too much', () => {
    const [deaf, loud] = [new Socket(), new Socket()];
    link.accept(deaf, 'a', 'a');
    link.accept(loud, 'b', 'b');
    deaf.bufferedBytes = 256 * 1024;
    expect(link.send('a:1', Uint8Array.of(1))).toBe(false);
    expect(deaf.events).toEqual(['destroy']);
    loud.at.message(new Uint8Array(MAX_MESSAGE_BYTES + 1));
    expect(loud.events).toEqual(['destroy']);
    expect(happened.slice(2)).toEqual(['closed a:1', 'closed b:2']);
  });

  it('asks a quiet connection for a sign of life, and gives it up where none comes', () => {
    const [alive, dead] = [new Socket(), new Socket()];
    link.accept(alive, 'a', 'a');
    link.accept(dead, 'b', 'b');
    pass(50_000);
    expect([alive.events, dead.events]).toEqual([['ping'], ['ping']]);
    alive.at.heard();
    pass(50_000);
    expect(dead.events).toEqual(['ping', 'destroy']);
    expect(alive.events).not.toContain('destroy');
    expect(link.size).toBe(1);
  });

  it('connects to a URL when something is first sent there, and sends the last of it then', () => {
    expect(link.send(URL, Uint8Array.of(1))).toBe(false);
    expect(link.send(URL, Uint8Array.of(2))).toBe(false);
    expect(dialled.map(({ url }) => url)).toEqual(['wss://b.example/.well-known/coap']);
    dialled[0]!.at.opened();
    expect(dialled[0]!.sent).toEqual([Uint8Array.of(2)]);
    dialled[0]!.at.message(Uint8Array.of(3));
    expect(happened).toEqual([`opened ${URL}`, `${URL}: 3`]);
    pass(31_000);
    expect(dialled[0]!.events).toEqual([]);
  });

  it('connects again after each loss, ever later while it fails, and soon after it had worked', () => {
    const kept = openWebSocketLink({ url: `${URL}/other`, clock, random: seededRandom(1), dial });
    expect(dialled[0]!.url).toBe(`${URL}/other`);
    const waits: number[] = [];
    for (let i = 0; i < 9; i++) {
      const failedAt = clock.monotonic();
      dialled.at(-1)!.at.closed();
      while (dialled.length === i + 1) clock.step();
      waits.push(Math.round((clock.monotonic() - failedAt) / 1000));
    }
    for (const [i, least] of [1, 2, 4, 8, 16, 32, 60, 60, 60].entries()) {
      expect(waits[i]).toBeGreaterThanOrEqual(least);
      expect(waits[i]).toBeLessThanOrEqual(1.5 * least + 1);
    }
    dialled.at(-1)!.at.opened();
    dialled.at(-1)!.at.closed();
    const before = dialled.length;
    pass(2_000);
    expect(dialled.length).toBe(before + 1);
    expect(kept.send(`${URL}/other`, Uint8Array.of(1))).toBe(false);
  });

  it('gives up an opening that takes too long', () => {
    link.connect(URL);
    pass(31_000);
    expect(dialled[0]!.events).toEqual(['destroy']);
    pass(2_000);
    expect(dialled).toHaveLength(2);
    // What the first one says now is nobody's.
    dialled[0]!.at.opened();
    dialled[0]!.at.message(Uint8Array.of(1));
    expect(happened).toEqual([]);
  });

  it('comes back no earlier than it was asked to', () => {
    link.connect(URL);
    dialled[0]!.at.opened();
    link.drop(URL, 'released', 30_000);
    expect(dialled[0]!.events).toEqual(['close 1000']);
    pass(29_000);
    expect(dialled).toHaveLength(1);
    pass(20_000);
    expect(dialled).toHaveLength(2);
  });

  it('dials nothing that is no URL, and leaves nothing behind when it is closed', async () => {
    link.connect('wss://[');
    expect(dialled).toEqual([]);
    link.connect(URL);
    const socket = new Socket();
    link.accept(socket, 'a', 'a');
    await link.close();
    await link.close();
    expect(socket.events).toEqual(['close 1001']);
    expect(dialled[0]!.events).toEqual(['close 1001']);
    expect(link.size).toBe(0);
    expect(clock.next()).toBeNull();
    link.connect('wss://c.example');
    link.accept(new Socket(), 'a', 'a');
    expect([link.size, dialled.length]).toEqual([0, 1]);
  });
});

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { SerialPort } from 'serialport';
import { afterEach, describe, expect, test } from 'vitest';
import { hex } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { systemClock } from '../../src/base/time.ts';
import { lineAddress, SerialLink, type SerialLinkOptions, type SerialState } from '../../src/link/serial.ts';

const PYTHON = 'python3';
const hasTerminals = spawnSync(PYTHON, ['-c', 'import pty; pty.openpty()']).status === 0;

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** Starts the peer and answers the names of its terminals. */
async function terminals(mode: 'bridge' | 'slip' | 'kiss'): Promise<[ChildProcess, readonly string[]]> {
  const peer = spawn(PYTHON, [join(import.meta.dirname, 'pty_peer.py'), mode], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  closing.push(() => peer.kill());
  const names: string[] = [];
  for await (const line of createInterface({ input: peer.stdout! })) {
    names.push(line);
    if (names.length === (mode === 'bridge' ? 2 : 1)) break;
  }
  return [peer, names];
}

interface Opened {
  readonly link: SerialLink;
  readonly states: SerialState[];
  /** The next datagram, as `from hex`. */
  next(): Promise<string>;
}

async function open(path: string, options: Pick<SerialLinkOptions, 'framing' | 'callsign'>): Promise<Opened> {
  const states: SerialState[] = [];
  const arrived: string[] = [];
  let wake: () => void = () => undefined;
  const link = new SerialLink({
    name: 'pty',
    baud: 115_200,
    clock: systemClock,
    device: () => new SerialPort({ path, baudRate: 115_200, autoOpen: false }),
    onState(state) {
      states.push(state);
      wake();
    },
    ...options,
  });
  closing.push(() => link.close());
  link.onReceive((from, bytes) => {
    arrived.push(`${from} ${hex(bytes)}`);
    wake();
  });
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) await new Promise<void>((resolve) => (wake = resolve));
  };
  await until(() => states.length > 0);
  expect(states).toEqual([{ kind: 'opened' }]);
  const next = async (): Promise<string> => {
    await until(() => arrived.length > 0 || states.length > 1);
    return arrived.shift() ?? JSON.stringify(states.at(-1));
  };
  return { link, states, next };
}

const random = seededRandom(1);
/** Every byte value, and more. */
const datagrams = [
  Uint8Array.from({ length: 256 }, (_, i) => i),
  Uint8Array.of(0xc0, 0xdb, 0xdc, 0xdd),
  ...Array.from({ length: 10 }, () => random.bytes(1 + random.integer(500))),
];

describe.skipIf(!hasTerminals)(
  'serial links on pseudo terminals (skipped without python3 and /dev/ptmx)',
  () => {
    test.each([
      ['slip', undefined, undefined],
      ['kiss', undefined, undefined],
      ['kiss', 'N0CALL-1', 'N0CALL-2'],
    ] as const)('two ends talk %s over a null modem, callsigns %s and %s', async (framing, here, there) => {
      const [, [a, b]] = await terminals('bridge');
      const one = await open(a!, { framing, ...(here && { callsign: here }) });
      const two = await open(b!, { framing, ...(there && { callsign: there }) });
      for (const datagram of datagrams) {
        one.link.send(there ?? lineAddress('pty'), datagram);
        expect(await two.next()).toBe(`${here ?? lineAddress('pty')} ${hex(datagram)}`);
        two.link.send(here ?? lineAddress('pty'), datagram);
        expect(await one.next()).toBe(`${there ?? lineAddress('pty')} ${hex(datagram)}`);
      }
      expect([one.link.counters.lost, two.link.counters.lost]).toEqual([0, 0]);
    });

    test.each([
      ['slip', undefined, lineAddress('pty')],
      ['kiss', 'N0CALL-1', 'N0CALL-15'],
    ] as const)('a peer with its own %s sends back what it was sent', async (framing, callsign, address) => {
      const [, [path]] = await terminals(framing);
      const { link, next } = await open(path!, { framing, ...(callsign && { callsign }) });
      for (const datagram of datagrams) {
        link.send(address, datagram);
        expect(await next()).toBe(`${address} ${hex(datagram.toReversed())}`);
      }
    });

    test('a terminal that goes away is noticed, and tried again', async () => {
      const [peer, [path]] = await terminals('slip');
      const { link, next, states } = await open(path!, { framing: 'slip' });
      peer.kill('SIGKILL');
      expect(await next()).toContain('"gone"');
      expect(states[1]).toMatchObject({ kind: 'gone', retryAfterMs: 1000 });
      link.send(lineAddress('pty'), Uint8Array.of(1));
      expect(link.counters.lost).toBe(1);
    });
  },
);

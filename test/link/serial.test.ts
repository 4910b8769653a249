import { SerialPortMock } from 'serialport';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { encodeAx25 } from '../../src/link/ax25.ts';
import { encodeKiss } from '../../src/link/kiss.ts';
import { airtime } from '../../src/link/link.ts';
import { Pacer, type PacerStep } from '../../src/link/pacer.ts';
import {
  lineAddress,
  type SerialDevice,
  SerialLink,
  type SerialLinkOptions,
  type SerialState,
} from '../../src/link/serial.ts';
import { encodeSlip } from '../../src/link/slip.ts';

const PATH = '/dev/ravine-test';
const LINE = lineAddress('line');

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Waits, a bounded number of turns, for the mock's own promises and ticks. */
async function eventually(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 200 && !condition(); i++) await turn();
  expect(condition()).toBe(true);
}

describe('a serial link', () => {
  let clock: VirtualClock;
  let devices: SerialPortMock[];
  let states: SerialState[];
  let links: SerialLink[];

  beforeEach(() => {
    clock = new VirtualClock();
    [devices, states, links] = [[], [], []];
    SerialPortMock.binding.reset();
  });
  afterEach(async () => {
    await Promise.all(links.map((link) => link.close()));
  });

  function open(options: Partial<SerialLinkOptions> = {}): SerialLink {
    const link = new SerialLink({
      name: 'line',
      baud: 9600,
      framing: 'slip',
      clock,
      device: () => {
        const device = new SerialPortMock({ path: PATH, baudRate: 9600, autoOpen: false });
        devices.push(device);
        return device;
      },
      onState: (state) => states.push(state),
      ...options,
    });
    links.push(link);
    return link;
  }
  const plugIn = (): void => SerialPortMock.binding.createPort(PATH, { record: true });
  const written = (): string => devices.at(-1)!.port!.recording.toString('hex');
  const isOpen = (): boolean => states.at(-1)?.kind === 'opened';

  it('writes and reads SLIP frames', async () => {
    plugIn();
    const link = open();
    const received: [string, number[]][] = [];
    link.onReceive((from, bytes) => received.push([from, [...bytes]]));
    await eventually(isOpen);
    link.send(LINE, Uint8Array.of(1, 0xc0, 2));
    await eventually(() => written() === 'c001dbdc02c0');
    const arriving = Buffer.from(encodeSlip(Uint8Array.of(0xdb, 7)));
    devices[0]!.port!.emitData(arriving.subarray(0, 2));
    devices[0]!.port!.emitData(arriving.subarray(2));
    await eventually(() => received.length > 0);
    expect(received).toEqual([[LINE, [0xdb, 7]]]);
  });

  it('speaks KISS with AX.25 addresses, and hears only what is for its callsign', async () => {
    plugIn();
    const link = open({ framing: 'kiss', callsign: 'N0CALL-1' });
    const received: [string, number[]][] = [];
    link.onReceive((from, bytes) => received.push([from, [...bytes]]));
    await eventually(isOpen);
    const data = Uint8Array.of(0x83, 0xc0);
    link.send('N0CALL-2', data);
    link.send('not a callsign', data);
    link.send(LINE, data);
    const outgoing = encodeKiss({
      port: 0,
      data: encodeAx25({ destination: 'N0CALL-2', source: 'N0CALL-1', data }),
    });
    await eventually(() => written() === Buffer.from(outgoing).toString('hex'));
    expect(link.counters).toMatchObject({ sent: 1, lost: 2 });
    const hear = (destination: string, source: string, port = 0): void => {
      const frame = encodeAx25({ destination, source, data });
      devices[0]!.port!.emitData(Buffer.from(encodeKiss({ port, data: frame })));
    };
    hear('N0CALL-3', 'N0CALL-2');
    hear('N0CALL-1', 'N0CALL-1');
    hear('N0CALL-1', 'N0CALL-2', 1);
    hear('N0CALL-1', 'N0CALL-2');
    await eventually(() => received.length > 0);
    expect(received).toEqual([['N0CALL-2', [0x83, 0xc0]]]);
    expect(link.counters).toMatchObject({ ignored: 3, received: 1 });
  });

  it('waits for a device that is not there, ever longer, and loses what is sent meanwhile', async () => {
    const link = open();
    await eventually(() => states.length === 1);
    link.send(LINE, Uint8Array.of(1));
    for (let attempt = 2; attempt <= 9; attempt++) {
      clock.step();
      await eventually(() => states.length === attempt);
    }
    const waits = states.map((state) => (state.kind === 'gone' ? state.retryAfterMs / 1000 : 0));
    expect(waits).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
    plugIn();
    clock.step();
    await eventually(isOpen);
    link.send(LINE, Uint8Array.of(2));
    await eventually(() => written() === 'c002c0');
    expect(link.counters).toMatchObject({ openings: 1, sent: 1, lost: 1 });
  });

  it('opens the device again after it went away, and does not glue the halves of two frames', async () => {
    plugIn();
    const link = open();
    const received: number[][] = [];
    link.onReceive((_, bytes) => received.push([...bytes]));
    await eventually(isOpen);
    devices[0]!.port!.emitData(Buffer.of(0xc0, 1));
    await turn();
    devices[0]!._disconnected(new Error('unplugged'));
    await eventually(() => states.length === 2);
    expect(states[1]).toEqual({ kind: 'gone', reason: 'unplugged', retryAfterMs: 1000 });
    link.send(LINE, Uint8Array.of(9));
    expect(link.counters.lost).toBe(1);
    SerialPortMock.binding.reset();
    plugIn();
    clock.step();
    await eventually(() => states.length === 3 && isOpen());
    devices[1]!.port!.emitData(Buffer.of(2, 0xc0));
    await eventually(() => received.length === 1);
    expect(received).toEqual([[2]]);
    link.send(LINE, Uint8Array.of(3));
    await eventually(() => written() === 'c003c0');
    expect(link.counters.openings).toBe(2);
  });

  it('has one frame in the driver, keeps one, and loses the others', () => {
    const device = new Held();
    const link = open({ device: () => device });
    device.opened!(null);
    for (const byte of [1, 2, 3, 4]) link.send(LINE, Uint8Array.of(byte));
    expect(device.written).toEqual(['c001c0']);
    expect(link.counters).toMatchObject({ sent: 1, lost: 2 });
    device.finish();
    expect(device.written).toEqual(['c001c0', 'c002c0']);
    device.finish();
    link.send(LINE, Uint8Array.of(5));
    expect(device.written).toEqual(['c001c0', 'c002c0', 'c005c0']);
  });

  it('keeps up with the pacer on a line that is never idle', () => {
    const device = new Held();
    const link = open({ device: () => device });
    device.opened!(null);
    device.onWrite = (bytes) => clock.after((bytes.length * 10_000) / 9600, () => device.finish());
    const pacer = new Pacer<null>(link.profile);
    const random = seededRandom(1);
    let left = 400;
    const apply = (step: PacerStep<null>): void => {
      for (const { to, bytes } of step.datagrams) link.send(to, bytes);
      for (let i = step.events.length; i > 0 && left > 0; i--) feed();
      if (step.deadline !== null)
        clock.after(step.deadline - clock.monotonic(), () => apply(pacer.tick(clock.monotonic())));
    };
    const feed = (): void => {
      left--;
      const item = {
        to: LINE,
        bytes: random.bytes(20 + random.integer(200)),
        priority: 1,
        tag: null,
      } as const;
      apply(pacer.enqueue(item, clock.monotonic()));
    };
    feed();
    feed();
    while (clock.step());
    expect(link.counters).toMatchObject({ sent: 400, lost: 0 });
  });

  it('sends no half-open device anything, and closes one that opens too late', async () => {
    const device = new Held();
    const link = open({ device: () => device });
    link.send(LINE, Uint8Array.of(1));
    expect(device.written).toEqual([]);
    await link.close();
    device.opened!(null);
    expect(device.closed).toBe(1);
    link.send(LINE, Uint8Array.of(1));
    expect(link.counters).toMatchObject({ sent: 0, lost: 2 });
    expect(clock.next()).toBeNull();
  });

  it('knows what the line carries: ten bits a byte, escapes and framing counted', () => {
    const line = open({ baud: 9600 });
    expect(line.profile.mtu).toBe(1006);
    // A thousand bytes and two ENDs take 1.04 s at least, and not much longer with the escapes.
    expect(airtime(line.profile, 1000)).toBeGreaterThan(1050);
    expect(airtime(line.profile, 1000)).toBeLessThan(1070);
    const radio = open({ framing: 'kiss', callsign: 'A', profile: { rate: 1200, delay: 300, overhead: 65 } });
    expect(radio.profile).toEqual({ mtu: 512, rate: 1200, delay: 300, overhead: 65 });
    expect(open({ framing: 'kiss', callsign: 'A' }).profile.overhead).toBe(20);
    const long = new Uint8Array(1007);
    line.send(LINE, long);
    expect(line.counters.lost).toBe(1);
  });
});

/** A device whose driver takes its time. */
class Held implements SerialDevice {
  readonly written: string[] = [];
  closed = 0;
  opened: ((error: Error | null) => void) | undefined;
  onWrite: (bytes: Buffer) => void = () => undefined;
  #drained: ((error: Error | null) => void) | undefined;

  open(done: (error: Error | null) => void): void {
    this.opened = done;
  }
  write(bytes: Buffer, done: (error: null) => void): void {
    expect(this.#drained, 'one frame at a time').toBeUndefined();
    this.written.push(bytes.toString('hex'));
    done(null);
    this.onWrite(bytes);
  }
  drain(done: (error: Error | null) => void): void {
    this.#drained = done;
  }
  close(done: (error: Error | null) => void): void {
    this.closed++;
    done(null);
  }
  on(): void {}
  /** The frame that was written last has left. */
  finish(): void {
    const drained = this.#drained;
    this.#drained = undefined;
    drained!(null);
  }
}

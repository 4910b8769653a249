import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import type { Clock } from '../../src/base/time.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { type SerialDevice, SerialLink } from '../../src/link/serial.ts';
import { firstMessage } from '../../src/mesh/first_message.ts';
import { startEphemeral } from '../../src/server/ephemeral.ts';
import type { Homeserver } from '../../src/server/homeserver.ts';

const BAUD = 1200;
/** Bytes that arrive at a time. */
const CHUNK = 7;
const PATIENCE = 24 * 60 * 60 * 1000;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ravine-serial-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The two ends of a line that takes ten bits of time for each byte and cuts frames anywhere. */
class End implements SerialDevice {
  readonly #clock: Clock;
  other: End | undefined;
  bytes = 0;
  #drained: number | undefined;
  #data: (bytes: Buffer) => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }
  open(done: (error: Error | null) => void): void {
    this.#clock.after(1, () => done(null));
  }
  write(bytes: Buffer, done: (error: null) => void): void {
    this.bytes += bytes.length;
    for (let at = 0; at < bytes.length; at += CHUNK) {
      const chunk = bytes.subarray(at, at + CHUNK);
      this.#clock.after(((at + chunk.length) * 10_000) / BAUD, () => this.other!.#data(chunk));
    }
    this.#drained = (bytes.length * 10_000) / BAUD;
    done(null);
  }
  drain(done: (error: null) => void): void {
    this.#clock.after(this.#drained!, () => done(null));
  }
  close(done: (error: null) => void): void {
    done(null);
  }
  on(event: string, listener: (value: never) => void): void {
    if (event === 'data') this.#data = listener as (bytes: Buffer) => void;
  }
}

test.each([
  ['slip', undefined],
  ['kiss', undefined],
  ['kiss', { alpha: 'N0CALL-1', bravo: 'N0CALL-2' }],
] as const)(
  'two servers federate over a serial line with %s framing, callsigns %o',
  async (framing, callsigns) => {
    const time = new VirtualTime();
    const { clock, work } = time;
    const ends = { alpha: new End(clock), bravo: new End(clock) };
    ends.alpha.other = ends.bravo;
    ends.bravo.other = ends.alpha;
    const base = join(folder, `${framing}${callsigns === undefined ? '' : '-ax25'}`);
    const links: SerialLink[] = [];
    const start = (side: 'alpha' | 'bravo', other: 'alpha' | 'bravo'): Promise<Homeserver> => {
      const own = callsigns?.[side];
      const link = new SerialLink({
        name: 'radio',
        baud: BAUD,
        framing,
        ...(own !== undefined && { callsign: own }),
        clock,
        device: () => ends[side],
      });
      links.push(link);
      const line = { name: 'radio', path: '/dev/none', baud: BAUD, framing };
      const address = `ravine+serial://radio${callsigns === undefined ? '' : `/${callsigns[other]}`}`;
      return startEphemeral({
        clock,
        random: seededRandom(side.length + side.charCodeAt(0)),
        work,
        folder: base,
        links: [{ name: 'serial:radio', link, plain: 'off' }],
        config: {
          server_name: `${side}.example`,
          coap: { serial: [{ ...line, ...(own !== undefined && { ax25: { callsign: own } }) }] },
          federation: { peers: [{ server_name: `${other}.example`, address, trust: 'tofu' }] },
        },
      });
    };
    const alpha = await time.until(start('alpha', 'bravo'), PATIENCE);
    const bravo = await time.until(start('bravo', 'alpha'), PATIENCE);
    // A device is open a moment later.
    await time.pass(10);
    await firstMessage({
      alpha: alpha.app,
      bravo: bravo.app,
      phase: () => undefined,
      until: (outcome) => time.until(outcome, PATIENCE),
    });
    for (const server of [alpha, bravo]) {
      const { exchange, links: counters, federation } = server.counters();
      expect(exchange).toBeUndefined();
      expect(federation.https).toBe(0);
      expect(counters['serial:radio']).toMatchObject({ dropped: 0, inPipe: { resent: 0 } });
    }
    expect(alpha.counters().federation.pipe).toBeGreaterThan(0);
    // Nothing found the line busy: the pacer knows it well enough.
    for (const link of links) {
      expect(link.counters.lost).toBe(0);
      expect(link.counters.sent).toBeGreaterThan(5);
      expect(link.damaged).toBe(0);
    }
    await time.until(Promise.all([alpha.stop(), bravo.stop()]), PATIENCE);
  },
);

import { describe, expect, it } from 'vitest';
import { FittedTiming } from '../../src/coap/fitted_timing.ts';
import { type LinkFits, largestMessage, PeerTimings, PIPE_RECORD } from '../../src/exchange/link_timing.ts';
import type { ExchangeLog } from '../../src/exchange/socket_options.ts';
import { type Agreement, NOTHING_AGREED } from '../../src/pipe/agreement.ts';
import { FAST, MINUTE, put, SLOW, World } from './world.ts';

const PUT = { code: 3, outstanding: 1 };

/** What a database would keep. */
class Kept implements LinkFits {
  known = new Map<string, string>();
  readonly saves: string[][] = [];
  failing = false;

  async save(fits: ReadonlyMap<string, string>): Promise<void> {
    this.saves.push([...fits.keys()]);
    if (this.failing) throw new Error('the disk is full');
    this.known = new Map([...this.known, ...fits]);
  }
}

function logged(): { log: ExchangeLog; warnings: string[] } {
  const warnings: string[] = [];
  const quiet = (): void => undefined;
  return {
    warnings,
    log: { debug: quiet, error: quiet, warn: (_fields, message) => warnings.push(message) },
  };
}

const timingsOf = (fits?: LinkFits, profile = SLOW, log?: ExchangeLog): PeerTimings =>
  new PeerTimings({ profile, idle: () => false, fits, log });

/** An undisturbed round trip of ten seconds. */
function teach(timings: PeerTimings, peer: string): void {
  const parts = { code: 3, bytesSent: 28, bytesReceived: 8, empty: false, copies: 1 };
  timings.of(peer).replied?.({ ...parts, leftAt: [0], repliedAt: [10_000] });
}

const waitOf = (timings: PeerTimings, peer: string): number =>
  timings.of(peer).retransmitAfter(0, 28, 0, PUT);

describe('the timers of the peers on a link', () => {
  it("are each peer's own where the rate is known, and RFC 7252's for all where it is not", () => {
    const slow = timingsOf();
    expect(slow.of('a')).toBeInstanceOf(FittedTiming);
    expect(slow.of('a')).toBe(slow.of('a'));
    teach(slow, 'a');
    expect(waitOf(slow, 'a')).toBeLessThan(waitOf(slow, 'b'));
    const fast = timingsOf(undefined, FAST);
    expect(fast.of('a')).toBe(fast.of('b'));
    expect(waitOf(fast, 'a')).toBe(2_000);
  });

  it('follow the narrower of both ends: the rate and the MTU that a peer has told', () => {
    const told = new Map<string, Agreement>();
    const agreed = (peer: string): Agreement => told.get(peer) ?? NOTHING_AGREED;
    const slow = new PeerTimings({ profile: SLOW, idle: () => false, agreed });
    const before = slow.of('a');
    told.set('a', { ...NOTHING_AGREED, rate: 10 * SLOW.rate!, mtu: 10 * SLOW.mtu });
    expect(slow.of('a')).toBe(before);
    told.set('a', { ...NOTHING_AGREED, rate: SLOW.rate! / 2 });
    expect(slow.of('a')).not.toBe(before);
    expect(waitOf(slow, 'a')).toBeGreaterThan(1.1 * waitOf(slow, 'b'));
    const fast = new PeerTimings({ profile: FAST, idle: () => false, agreed });
    const { blockSize } = fast.of('b');
    told.set('b', { ...NOTHING_AGREED, mtu: 300 });
    expect([fast.of('b').blockSize, blockSize]).toEqual([128, 1_024]);
    expect(largestMessage(FAST, PIPE_RECORD, agreed('b'))).toBe(300 - PIPE_RECORD.most);
    expect(largestMessage(SLOW, PIPE_RECORD, agreed('c'))).toBe(SLOW.mtu - PIPE_RECORD.most);
  });

  it('are saved ten minutes after a change, all that have changed by then, and not again without one', async () => {
    const kept = new Kept();
    const timings = timingsOf(kept);
    timings.of('silent');
    expect(timings.deadline(0)).toBeNull();
    teach(timings, 'a');
    expect(timings.deadline(1_000)).toBe(601_000);
    teach(timings, 'b');
    teach(timings, 'a');
    expect(timings.deadline(500_000)).toBe(601_000);
    await timings.save();
    expect(kept.saves).toEqual([['a', 'b']]);
    expect(timings.deadline(601_000)).toBeNull();
    await timings.save();
    expect(kept.saves).toHaveLength(1);
    teach(timings, 'b');
    expect(timings.deadline(700_000)).toBe(1_300_000);
  });

  it('go on where they were after a restart', async () => {
    const kept = new Kept();
    const before = timingsOf(kept);
    for (let n = 0; n < 20; n++) teach(before, 'a');
    await before.save();
    const after = timingsOf(kept);
    expect(waitOf(after, 'a')).toBe(waitOf(before, 'a'));
    expect(waitOf(after, 'b')).toBeGreaterThan(2 * waitOf(after, 'a'));
    // Under other parameters of the link what was learned would mislead.
    expect(waitOf(timingsOf(kept, { ...SLOW, rate: 200 }), 'a')).toBe(
      waitOf(timingsOf(undefined, { ...SLOW, rate: 200 }), 'a'),
    );
  });

  it.each(['', 'null', '5', '{}', '{"fit":{}}', '{"link":5'])(
    'are learned anew, with a warning, where what was kept is %j',
    (text) => {
      const kept = new Kept();
      kept.known.set('a', text);
      const { log, warnings } = logged();
      const timings = timingsOf(kept, SLOW, log);
      expect(waitOf(timings, 'a')).toBe(waitOf(timingsOf(), 'a'));
      waitOf(timings, 'a');
      expect(warnings).toEqual(['the kept timers of a peer are broken, and not used']);
    },
  );

  it('are not in the way of anything where they cannot be saved', async () => {
    const kept = new Kept();
    kept.failing = true;
    const { log, warnings } = logged();
    const timings = timingsOf(kept, SLOW, log);
    teach(timings, 'a');
    await timings.save();
    expect(warnings).toEqual(['the timers of a link could not be saved']);
    kept.failing = false;
    teach(timings, 'a');
    await timings.save();
    expect([...kept.known.keys()]).toEqual(['a']);
  });
});

describe('a server that comes back', () => {
  /** How long after the first copy of the first message, which is lost, the second one is sent. */
  async function firstRepetition(fits: LinkFits): Promise<number> {
    const world = new World(1);
    world.connect('a', 'b', SLOW);
    const sent: number[] = [];
    const a = world.start('a', SLOW, {
      fits,
      observer({ direction, label, at }) {
        if (direction !== 'sent' || !label.includes('CON PUT')) return;
        sent.push(at);
        if (sent.length > 1) return;
        world.network.change('a', 'b', { partitioned: true });
        world.time.clock.after(1, () => world.network.change('a', 'b', { partitioned: false }));
      },
    });
    const b = world.start('b', SLOW);
    const answer = a.socket.request(b.name, b.address, put('x'), { timeoutMs: 60 * MINUTE, priority: 1 });
    await world.time.until(answer, 60 * MINUTE);
    expect(sent).toHaveLength(2);
    return sent[1]! - sent[0]!;
  }

  it('uses the timers that it had fitted to the link at once', async () => {
    const kept = new Kept();
    const world = new World(1);
    world.connect('a', 'b', SLOW);
    const a = world.start('a', SLOW, { fits: kept });
    const b = world.start('b', SLOW);
    for (let n = 0; n < 30; n++) {
      const answer = a.socket.request(b.name, b.address, put('x'), { timeoutMs: 60 * MINUTE, priority: 1 });
      await world.time.until(answer, 60 * MINUTE);
    }
    await world.time.pass(11 * MINUTE);
    expect(kept.saves.length).toBeGreaterThan(0);
    const saves = kept.saves.length;
    await world.time.pass(120 * MINUTE);
    expect(kept.saves).toHaveLength(saves);
    await world.time.until(
      a.socket.request(b.name, b.address, put('x'), { timeoutMs: 60 * MINUTE, priority: 1 }),
      60 * MINUTE,
    );
    await a.socket.close();
    expect(kept.saves).toHaveLength(saves + 1);

    const [fresh, fitted] = [await firstRepetition(new Kept()), await firstRepetition(kept)];
    expect(fresh).toBeGreaterThan(100_000);
    expect(fitted).toBeLessThan(40_000);
  });
});

import { describe, expect, it } from 'vitest';
import type { Priority } from '../../src/base/priority.ts';
import { seededRandom } from '../../src/base/random.ts';
import { Pacer, type PacerLimits, type PacerStep } from '../../src/link/pacer.ts';

/** 100 bit/s and no overhead: a byte takes 80 ms. */
const SLOW = { mtu: 1000, rate: 100, delay: 0, overhead: 0 };

const item = (tag: string, priority: Priority = 1, bytes = 100) => ({
  to: 'b',
  bytes: new Uint8Array(bytes),
  priority,
  tag,
});
const tags = (step: PacerStep<string>): string[] => step.datagrams.map(({ tag }) => tag);
const events = (step: PacerStep<string>): string[] => step.events.map(({ kind, tag }) => `${kind} ${tag}`);

/** Ticks at every deadline; the order in which datagrams leave. */
function drain(pacer: Pacer<string>): string[] {
  const order: string[] = [];
  for (let step = pacer.tick(0); step.deadline !== null; ) {
    step = pacer.tick(step.deadline);
    order.push(...tags(step));
  }
  return order;
}

describe('the pacer', () => {
  it('lets everything leave at once where the rate is not known', () => {
    const step = new Pacer<string>({ ...SLOW, rate: null }).enqueue(item('a'), 5);
    expect(tags(step)).toEqual(['a']);
    expect(step.events).toEqual([{ kind: 'left', tag: 'a', at: 5 }]);
    expect(step.deadline).toBeNull();
  });

  it('has one datagram in the link at a time, and says when its last bit has left', () => {
    const pacer = new Pacer<string>(SLOW);
    const first = pacer.enqueue(item('a'), 1_000);
    expect([tags(first), first.deadline]).toEqual([['a'], 9_000]);
    expect(tags(pacer.enqueue(item('b', 1, 50), 2_000))).toEqual([]);
    expect(tags(pacer.tick(8_999))).toEqual([]);
    const second = pacer.tick(9_000);
    expect(second.events).toEqual([{ kind: 'left', tag: 'a', at: 9_000 }]);
    expect([tags(second), second.deadline]).toEqual([['b'], 13_000]);
    const last = pacer.tick(13_000);
    expect([events(last), tags(last), last.deadline]).toEqual([['left b'], [], null]);
  });

  it('counts what lower layers add', () => {
    const step = new Pacer<string>({ ...SLOW, overhead: 42 }).enqueue(item('a', 1, 8), 0);
    expect(step.deadline).toBe(50 * 80);
  });

  it('sends the most urgent first, the oldest of a class first, and never interrupts', () => {
    const pacer = new Pacer<string>(SLOW, { lowShare: 0 });
    for (const [tag, priority] of [
      ['a', 5],
      ['b', 5],
      ['c', 1],
      ['d', 0],
      ['e', 1],
      ['f', 3],
    ] as const) {
      pacer.enqueue(item(tag, priority), 0);
    }
    expect(drain(pacer)).toEqual(['d', 'c', 'e', 'f', 'b']);
  });

  it('gives the lowest two classes their share while urgent ones always wait', () => {
    const pacer = new Pacer<string>(SLOW, { lowShare: 0.1 });
    for (let n = 0; n < 95; n++) pacer.enqueue(item('urgent'), 0);
    for (let n = 0; n < 20; n++) pacer.enqueue(item('media', 5), 0);
    const order = drain(pacer);
    const whileUrgent = order.slice(0, order.lastIndexOf('urgent'));
    expect(whileUrgent.filter((tag) => tag === 'media').length / whileUrgent.length).toBeCloseTo(0.1, 1);
  });

  it('gives the lowest two classes a twentieth of the airtime if nothing else is said, and together', () => {
    const pacer = new Pacer<string>(SLOW);
    for (let n = 0; n < 200; n++) pacer.enqueue(item('urgent', (n % 4) as Priority, 50), 0);
    for (let n = 0; n < 20; n++) pacer.enqueue(item('low', n % 2 === 0 ? 4 : 5, 100), 0);
    const order = drain(pacer);
    const whileUrgent = order.slice(0, order.lastIndexOf('urgent'));
    const low = whileUrgent.filter((tag) => tag === 'low').length * 100;
    expect(low / (low + (whileUrgent.length - low / 100) * 50)).toBeCloseTo(0.05, 2);
  });

  it.each([
    ['items', { items: 2 }],
    ['bytes', { bytes: 200 }],
  ] as [string, Partial<PacerLimits>][])(
    'drops the newest of the least urgent class beyond its %s',
    (_name, limits) => {
      const pacer = new Pacer<string>(SLOW, limits);
      pacer.enqueue(item('in the link', 5), 0);
      pacer.enqueue(item('old', 4), 0);
      pacer.enqueue(item('new', 4), 0);
      expect(events(pacer.enqueue(item('message', 1), 0))).toEqual(['dropped new']);
      expect(events(pacer.enqueue(item('media', 5), 0))).toEqual(['dropped media']);
      expect(pacer.waiting).toBe(2);
      expect(drain(pacer)).toEqual(['message', 'old']);
    },
  );

  it('lets a burst leave at once where the rate is not known, and what is more a little later', () => {
    const pacer = new Pacer<string>({ ...SLOW, rate: null });
    for (let n = 0; n < 131; n++) expect(tags(pacer.enqueue(item(`${n}`, 1, 1_000), 0))).toEqual([`${n}`]);
    expect(tags(pacer.enqueue(item('131', 1, 1_000), 0))).toEqual(['131']);
    expect(tags(pacer.enqueue(item('late', 1, 1_000), 0))).toEqual([]);
    const later = pacer.enqueue(item('urgent', 0, 1_000), 0);
    expect(tags(later)).toEqual([]);
    expect(later.deadline).toBeGreaterThan(0);
    expect(later.deadline).toBeLessThan(1);
    const next = pacer.tick(later.deadline!);
    expect([tags(next), events(next)]).toEqual([['urgent'], ['left urgent']]);
    expect(tags(pacer.tick(1_000))).toEqual(['late']);
    expect(pacer.tick(2_000).deadline).toBeNull();
  });

  describe("with an hour's airtime", () => {
    const HOUR = 3_600_000;
    /** 20 seconds: two packets of 100 bytes and one of 50. */
    const DUTY = { ...SLOW, airtimePerHourMs: 20_000 };

    it('lets what would exceed it wait, acknowledgements too, and says until when', () => {
      const pacer = new Pacer<string>(DUTY);
      expect(tags(pacer.enqueue(item('a'), 0))).toEqual(['a']);
      pacer.enqueue(item('b'), 0);
      expect(tags(pacer.tick(8_000))).toEqual(['b']);
      pacer.enqueue(item('ack', 0, 60), 9_000);
      const left = pacer.tick(16_000);
      expect([events(left), tags(left)]).toEqual([['left b'], []]);
      expect(left.deadline).toBe(8_000 + HOUR);
      expect(tags(pacer.tick(8_000 + HOUR - 1))).toEqual([]);
      expect(tags(pacer.tick(8_000 + HOUR))).toEqual(['ack']);
    });

    it('sends the most urgent first when there is airtime again, whatever has waited longest', () => {
      const pacer = new Pacer<string>(DUTY, { lowShare: 0 });
      pacer.enqueue(item('spent', 1, 250), 0);
      for (const [tag, priority] of [
        ['media', 5],
        ['message', 1],
      ] as const)
        pacer.enqueue(item(tag, priority), 0);
      pacer.tick(20_000);
      // Comes last, goes first, although the others have been waiting for an hour.
      pacer.enqueue(item('ack', 0, 50), HOUR);
      expect(drain(pacer)).toEqual(['ack', 'message', 'media']);
    });

    it('never exceeds it in any hour', () => {
      const pacer = new Pacer<string>(DUTY);
      const sent: { at: number; airtime: number }[] = [];
      const note = (step: PacerStep<string>, at: number): PacerStep<string> => {
        for (const { bytes } of step.datagrams) sent.push({ at, airtime: bytes.length * 80 });
        return step;
      };
      for (let n = 0; n < 40; n++) note(pacer.enqueue(item(`${n}`, (n % 6) as Priority, 10 + n), 0), 0);
      for (let step = pacer.tick(0); step.deadline !== null; )
        step = note(pacer.tick(step.deadline), step.deadline);
      expect(sent).toHaveLength(40);
      for (const { at } of sent) {
        const hour = sent.filter((one) => one.at >= at && one.at < at + HOUR);
        expect(hour.reduce((sum, { airtime }) => sum + airtime, 0)).toBeLessThanOrEqual(20_000);
      }
    });

    it('never exceeds it in any hour, whatever comes when and however late the ticks are', () => {
      for (let seed = 0; seed < 30; seed++) {
        const random = seededRandom(seed);
        const most = 15_000 + random.integer(60_000);
        const pacer = new Pacer<string>({ ...SLOW, airtimePerHourMs: most });
        const sent: { readonly from: number; readonly until: number }[] = [];
        let deadline: number | null = null;
        for (let now = 0; now < 6 * HOUR; ) {
          const bytes = 1 + random.integer(150);
          const next = now + random.integer(random.integer(4) === 0 ? HOUR : 60_000);
          const late = random.integer(3) === 0 ? random.integer(5_000) : 0;
          const ticks: boolean = deadline !== null && deadline + late <= next;
          now = ticks ? deadline! + late : next;
          const step: PacerStep<string> = ticks
            ? pacer.tick(now)
            : pacer.enqueue(item('x', random.integer(6) as Priority, bytes), now);
          for (const one of step.datagrams) sent.push({ from: now, until: now + one.bytes.length * 80 });
          deadline = step.deadline;
        }
        expect(sent.length).toBeGreaterThan(5);
        const used = (from: number): number =>
          sent.reduce(
            (sum, one) => sum + Math.max(0, Math.min(one.until, from + HOUR) - Math.max(one.from, from)),
            0,
          );
        // The worst hour begins where a packet begins, or ends where one ends.
        for (const { from, until } of sent) {
          expect(used(from), `seed ${seed}`).toBeLessThanOrEqual(most + 1e-2);
          expect(used(until - HOUR), `seed ${seed}`).toBeLessThanOrEqual(most + 1e-2);
        }
      }
    });

    it('drops what could never be sent', () => {
      const pacer = new Pacer<string>(DUTY);
      expect(events(pacer.enqueue(item('endless', 0, 251), 0))).toEqual(['dropped endless']);
      expect(pacer.waiting).toBe(0);
    });
  });

  it('is idle while nothing is in the link, nothing waits, and half of the airtime is left', () => {
    const pacer = new Pacer<string>({ ...SLOW, airtimePerHourMs: 20_000 });
    expect(pacer.isIdle(0)).toBe(true);
    pacer.enqueue(item('a', 1, 120), 0);
    expect(pacer.isIdle(0)).toBe(false);
    pacer.tick(9_600);
    expect(pacer.isIdle(9_600)).toBe(true);
    pacer.enqueue(item('b', 1, 10), 9_600);
    pacer.tick(20_000);
    expect(pacer.isIdle(20_000)).toBe(false);
    expect(pacer.isIdle(3_700_000)).toBe(true);
  });
});

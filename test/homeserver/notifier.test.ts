import { beforeEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { Notifier, type Wait, type WaitOutcome } from '../../src/homeserver/notifier.ts';
import type { RoomId, UserId } from '../../src/matrix/ids.ts';

const alice = '@alice:here' as UserId;
const bob = '@bob:here' as UserId;
const room = (name: string): RoomId => `!${name}` as RoomId;

let clock: VirtualClock;
let notifier: Notifier;

beforeEach(() => {
  clock = new VirtualClock();
  notifier = new Notifier({ clock, remembered: 2 });
});

const wait = (given: Partial<Wait> = {}): Promise<WaitOutcome> =>
  notifier.wait({ user: alice, rooms: [room('a')], after: 5, timeoutMs: 1_000, ...given });

/** Whether a wait is still open once everything has run that could end it. */
async function isOpen(waiting: Promise<WaitOutcome>): Promise<boolean> {
  return (await Promise.race([waiting, new Promise((resolve) => setImmediate(resolve, 'open'))])) === 'open';
}

describe('the notifier', () => {
  it('wakes who is in the room, and nobody else', async () => {
    const inside = wait();
    const outside = wait({ rooms: [room('b')] });
    notifier.published(6, [room('a')], []);
    expect(await inside).toBe('published');
    expect(await isOpen(outside)).toBe(true);
  });

  it('wakes a user for whom something changed outside of their rooms', async () => {
    const waiting = wait({ rooms: [] });
    notifier.published(6, [room('other')], [bob]);
    expect(await isOpen(waiting)).toBe(true);
    notifier.published(7, [room('other')], [alice]);
    expect(await waiting).toBe('published');
  });

  it('answers at once what was published between the read and the wait', async () => {
    notifier.published(6, [room('a')], []);
    expect(await wait()).toBe('published');
    expect(await isOpen(wait({ after: 6 }))).toBe(true);
  });

  it('does not wake for what the reader has seen', async () => {
    const waiting = wait({ after: 6 });
    notifier.published(6, [room('a')], [alice]);
    expect(await isOpen(waiting)).toBe(true);
  });

  it('wakes for nothing, rather than not at all, where it has forgotten a room', async () => {
    notifier.published(6, [room('a')], []);
    notifier.published(7, [room('b')], []);
    notifier.published(8, [room('c')], []);
    expect(await wait({ after: 5 })).toBe('published');
    expect(await isOpen(wait({ after: 6 }))).toBe(true);
  });

  it('ends with the time and with the signal, and keeps nothing behind', async () => {
    const late = wait();
    const client = new AbortController();
    const gone = wait({ signal: client.signal });
    client.abort();
    expect(await gone).toBe('aborted');
    expect(await wait({ signal: client.signal })).toBe('aborted');
    clock.step();
    expect(await late).toBe('timeout');
    expect(await wait({ timeoutMs: 0 })).toBe('timeout');
    expect(notifier.waiting).toBe(0);
    expect(clock.next()).toBeNull();
  });

  it('lets the oldest of one user go where there are too many', async () => {
    const first = wait();
    const others = Array.from({ length: 64 }, () => wait());
    expect(await first).toBe('timeout');
    expect(notifier.waiting).toBe(64);
    notifier.published(6, [room('a')], []);
    expect(new Set(await Promise.all(others))).toEqual(new Set(['published']));
  });

  it('refuses where too many are waiting in all', () => {
    for (let n = 0; n < 10_000; n++) void wait({ user: `@${n}:here` as UserId });
    expect(() => wait()).toThrow(expect.objectContaining({ errcode: 'M_LIMIT_EXCEEDED', status: 429 }));
  });
});

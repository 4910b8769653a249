import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type HistoryVisibility,
  historyVisibilityIn,
  maySeeEvent,
  mayServerSeeEvent,
} from '../../../src/homeserver/history_visibility.ts';
import type { EventId } from '../../../src/matrix/ids.ts';
import { ALICE, BOB, CAROL, FixtureRoom, Home, ids, phone } from './room_fixture.ts';

const SETTINGS = ['world_readable', 'shared', 'invited', 'joined'] as const;
const MEMBERSHIPS = ['join', 'invite', 'leave', 'ban', 'knock'] as const;

/** One event of a room's history, in a line: what it says, and what held before and after it. */
interface Moment {
  readonly kind: 'setting' | 'member' | 'message';
  readonly visibility: readonly [HistoryVisibility, HistoryVisibility];
  readonly membership: readonly [string, string];
}

/** "Server behaviour", rule by rule, over a whole history that is known. */
function literal(history: readonly Moment[], at: number): boolean {
  const { kind, visibility, membership } = history[at]!;
  const joinedAfter = history.slice(at).some((later) => later.membership[1] === 'join');
  const allow = (set: HistoryVisibility, own: string): boolean => {
    // 1. If the history_visibility was set to world_readable, allow.
    if (set === 'world_readable') return true;
    // 2. If the user's membership was join, allow.
    if (own === 'join') return true;
    // 3. If history_visibility was set to shared, and the user joined at any point after the event was sent, allow.
    if (set === 'shared' && joinedAfter) return true;
    // 4. If the user's membership was invite, and the history_visibility was set to invited, allow.
    if (own === 'invite' && set === 'invited') return true;
    // 5. Otherwise, deny.
    return false;
  };
  if (kind === 'setting') return visibility.some((set) => allow(set, membership[0]));
  if (kind === 'member') return membership.some((own) => allow(visibility[0], own));
  return allow(visibility[0], membership[0]);
}

const step = fc.oneof(
  fc.constantFrom(...SETTINGS).map((to) => ({ kind: 'setting', to }) as const),
  fc.constantFrom(...MEMBERSHIPS).map((to) => ({ kind: 'member', to }) as const),
  fc.constant({ kind: 'message', to: '' } as const),
);

describe('who may see an event', () => {
  it('is what the rules say of every event of any history, for /event and /messages', async () => {
    const home = new Home();
    let rooms = 0;
    const counts = { allowed: 0, denied: 0 };
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 14 }), async (steps) => {
        const room = new FixtureRoom(home, `!v${++rooms}-`);
        await room.create(ALICE);
        let visibility: HistoryVisibility = 'shared';
        let membership = 'leave';
        const history: Moment[] = [];
        const events: EventId[] = [];
        for (const { kind, to } of steps) {
          const before = [visibility, membership] as const;
          if (kind === 'setting') {
            visibility = to;
            events.push(await room.state(ALICE, 'm.room.history_visibility', { history_visibility: to }));
          } else if (kind === 'member') {
            membership = to;
            events.push(await room.member(BOB, to, ALICE));
          } else events.push(await room.message(ALICE));
          history.push({
            kind,
            visibility: [before[0], visibility],
            membership: [before[1], membership],
          });
        }
        const expected = events.filter((_, at) => literal(history, at));
        const shown: EventId[] = [];
        for (const event of events) {
          const found = await home.messages.event(phone(BOB), room.id, event).catch(() => undefined);
          if (found !== undefined) shown.push(event);
        }
        expect(shown).toEqual(expected);
        counts.allowed += shown.length;
        counts.denied += events.length - shown.length;
        if (history.some((moment) => moment.membership[1] === 'join')) {
          const { chunk } = await home.page(BOB, room.id, { dir: 'f', limit: 100 });
          const own = new Set<string>(events);
          expect(ids(chunk).filter((id) => own.has(id))).toEqual(expected);
        }
        for (const event of events) {
          const open = history[events.indexOf(event)]!.visibility.includes('world_readable');
          const found = await home.messages.event(phone(CAROL), room.id, event).catch(() => undefined);
          const isSetting = history[events.indexOf(event)]!.kind === 'setting';
          const before = history[events.indexOf(event)]!.visibility[0] === 'world_readable';
          expect(found !== undefined).toBe(isSetting ? open : before);
        }
      }),
      { numRuns: 120, seed: 12 },
    );
    expect(Math.min(counts.allowed, counts.denied)).toBeGreaterThan(200);
  });

  it('is nobody who left, of what came later on a branch on which they were still there', () => {
    const there = { visibility: 'shared', membership: 'join' } as const;
    const event = { before: there, after: there, kind: 'other' } as const;
    expect(maySeeEvent({ ...event, beforeDeparture: true })).toBe(true);
    expect(maySeeEvent({ ...event, beforeDeparture: false })).toBe(false);
  });

  it('takes what is not understood for shared', () => {
    for (const content of [undefined, {}, { history_visibility: 'x' }, { history_visibility: 7 }, 'joined'])
      expect(historyVisibilityIn(content)).toBe('shared');
    for (const setting of SETTINGS)
      expect(historyVisibilityIn({ history_visibility: setting })).toBe(setting);
  });

  it('is, of servers, those with a user who may', () => {
    const sees = (visibility: HistoryVisibility, ...memberships: string[]): boolean =>
      mayServerSeeEvent({ visibility, memberships: new Set(memberships) });
    expect(sees('shared')).toBe(true);
    expect(sees('world_readable')).toBe(true);
    expect(sees('joined', 'leave', 'join')).toBe(true);
    expect(sees('joined', 'invite')).toBe(false);
    expect(sees('invited', 'invite')).toBe(true);
    expect(sees('invited', 'leave', 'ban')).toBe(false);
  });
});

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type ProvisionalEvent,
  type ProvisionalHappening,
  type ProvisionalState,
  readyEvents,
  stateAfter,
} from '../../src/compact/pdu/provisional.ts';

const STATES: readonly ProvisionalState[] = [
  'provisional',
  'refetching',
  'verified',
  'rejected',
  'quarantined',
];
const HAPPENINGS: readonly ProvisionalHappening[] = [
  'signature verified',
  'signature bad',
  'signature overdue',
  'whole verified',
  'whole bad',
  'life over',
];

/** The table of docs/protocol.md, "Deferred signatures", read aloud. */
function literal(state: ProvisionalState, happening: ProvisionalHappening): ProvisionalState {
  const isOpen = state === 'provisional' || state === 'refetching';
  if (isOpen && (happening === 'signature verified' || happening === 'whole verified')) return 'verified';
  const isMissed = happening === 'signature bad' || happening === 'signature overdue';
  if (state === 'provisional' && isMissed) return 'refetching';
  if (state === 'refetching' && happening === 'whole bad') return 'rejected';
  if (isOpen && happening === 'life over') return 'quarantined';
  return state;
}

/** One may go if it is verified and each of its previous events is elsewhere, has come to nothing, or may go before it. */
function mayGo(events: readonly ProvisionalEvent[], id: string): boolean {
  const event = events.find((one) => one.id === id);
  if (event === undefined || event.state === 'rejected' || event.state === 'quarantined') return true;
  return event.state === 'verified' && event.prevEvents.every((prev) => mayGo(events, prev));
}

/** Events of which each is built on some of those before it, and on some that are elsewhere. */
const someEvents = fc
  .array(
    fc.record({ state: fc.constantFrom(...STATES), prevs: fc.uniqueArray(fc.nat(9), { maxLength: 3 }) }),
    {
      maxLength: 10,
    },
  )
  .map((drafts) =>
    drafts.map(({ state, prevs }, at) => ({
      id: `$${at}`,
      state,
      prevEvents: prevs.map((prev) => (prev < at ? `$${prev}` : `$elsewhere${prev}`)),
    })),
  );

describe('provisional events and their literal twin', () => {
  test('come to the same whatever happens in whatever order', () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...HAPPENINGS), { maxLength: 12 }), (happenings) => {
        let [state, twin]: ProvisionalState[] = ['provisional', 'provisional'];
        for (const happening of happenings) {
          state = stateAfter(state!, happening);
          twin = literal(twin!, happening);
          expect(state).toBe(twin);
        }
      }),
    );
  });

  test('go into the room at the same time, each after those that it is built on, in whatever order they are listed', () => {
    fc.assert(
      fc.property(someEvents, fc.nat(), (events, seed) => {
        const listed = events.toSorted(
          (a, b) => ((seed >> Number(a.id.slice(1))) & 1) - ((seed >> Number(b.id.slice(1))) & 1),
        );
        const ready = readyEvents(listed);
        const expected = events.filter(({ id, state }) => state === 'verified' && mayGo(events, id));
        expect(new Set(ready)).toEqual(new Set(expected.map(({ id }) => id)));
        for (const [at, id] of ready.entries()) {
          const { prevEvents } = events.find((one) => one.id === id)!;
          for (const prev of prevEvents)
            if (ready.includes(prev)) expect(ready.indexOf(prev)).toBeLessThan(at);
        }
      }),
    );
  });
});

import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import {
  endOfLife,
  mayDefer,
  type ProvisionalEvent,
  type ProvisionalHappening,
  type ProvisionalState,
  readyEvents,
  stateAfter,
} from '../../src/compact/pdu/provisional.ts';
import { pick } from './pdu_rooms.ts';

const message = {
  type: 'm.room.message',
  sender: '@a:a',
  content: {},
  signatures: { a: { 'ed25519:1': 'x' } },
};

describe('an event may go before its signature', () => {
  test.each([
    ['if it is a message in a room of two servers', message, 2, true],
    ['if it is encrypted', { ...message, type: 'm.room.encrypted' }, 2, true],
    ['and is still such an event when it has arrived without', { ...message, signatures: {} }, 2, true],
    ['but not if it is state', { ...message, state_key: '' }, 2, false],
    ['but not if it is a redaction', { ...message, type: 'm.room.redaction' }, 2, false],
    ['but not if a third server is in the room', message, 3, false],
    ['but not if the other server has left', message, 1, false],
    [
      'but not if two servers sign it',
      { ...message, signatures: { ...message.signatures, b: { k: 'y' } } },
      2,
      false,
    ],
    ['but not if it has no type', { content: {} }, 2, false],
    ['but not if its signatures are none', { ...message, signatures: 1 }, 2, false],
  ])('%s', (_, pdu, servers, expected) => {
    expect(mayDefer(pdu, servers)).toBe(expected);
  });
});

describe('a provisional event', () => {
  const outcomeOf = (...happenings: ProvisionalHappening[]): ProvisionalState =>
    happenings.reduce<ProvisionalState>(stateAfter, 'provisional');

  test('is verified by its signature', () => {
    expect(outcomeOf('signature verified')).toBe('verified');
  });

  test('is fetched whole after a bad signature, and is rejected only if that is bad as well', () => {
    expect(outcomeOf('signature bad')).toBe('refetching');
    expect(outcomeOf('signature bad', 'whole bad')).toBe('rejected');
    expect(outcomeOf('signature bad', 'whole verified')).toBe('verified');
  });

  test('is quarantined after 24 hours without a signature', () => {
    expect(endOfLife(1_000)).toBe(86_401_000);
    expect(outcomeOf('life over')).toBe('quarantined');
    expect(outcomeOf('signature bad', 'life over')).toBe('quarantined');
  });

  test('keeps for ever what it has become', () => {
    const all: ProvisionalHappening[] = [
      'signature verified',
      'signature bad',
      'signature overdue',
      'whole verified',
      'whole bad',
      'life over',
    ];
    for (const end of ['verified', 'rejected', 'quarantined'] as const) {
      for (const happening of all) expect(stateAfter(end, happening)).toBe(end);
    }
  });
});

describe('verified events go into the room', () => {
  const event = (id: string, state: ProvisionalState, ...prevEvents: string[]): ProvisionalEvent => ({
    id,
    state,
    prevEvents,
  });

  test('after those that they build on, in whatever order the signatures came', () => {
    //  room <- a <- b <- c
    const [a, b, c] = [
      event('a', 'verified', 'room'),
      event('b', 'verified', 'a'),
      event('c', 'verified', 'b'),
    ];
    expect(readyEvents([c, b, a])).toEqual(['a', 'b', 'c']);
  });

  test('not before what they build on is decided', () => {
    expect(readyEvents([event('a', 'provisional'), event('b', 'verified', 'a')])).toEqual([]);
    expect(readyEvents([event('a', 'refetching'), event('b', 'verified', 'a')])).toEqual([]);
    expect(readyEvents([event('a', 'rejected'), event('b', 'verified', 'a')])).toEqual(['b']);
    expect(readyEvents([event('a', 'quarantined'), event('b', 'verified', 'a')])).toEqual(['b']);
  });

  test('never one that is not verified, nor before its previous event', () => {
    const random = seededRandom(6);
    const states: ProvisionalState[] = ['provisional', 'refetching', 'verified', 'rejected', 'quarantined'];
    for (let round = 0; round < 300; round++) {
      const events = Array.from({ length: 8 }, (_, index) =>
        event(
          String(index),
          pick(random, [...states, 'verified', 'verified']),
          String(random.integer(index + 1) - 1),
        ),
      );
      const ready = readyEvents([...events].reverse());
      for (const [place, id] of ready.entries()) {
        const { state, prevEvents } = events[Number(id)]!;
        expect(state).toBe('verified');
        const prev = events[Number(prevEvents[0])];
        const isDecided = prev === undefined || prev.state === 'rejected' || prev.state === 'quarantined';
        expect(isDecided || ready.indexOf(prev.id) < place).toBe(true);
        expect(isDecided || ready.includes(prev.id)).toBe(true);
      }
    }
  });
});

import type { Millis } from '../../base/time.ts';
import { type JsonObject, own } from '../../matrix/json.ts';
import { signaturesOf } from './layout.ts';

// An event whose signature is deferred is provisional where it arrives: it is shown to clients as such, and is nothing
// else. It becomes no extremity, no local event is built on it, no state follows from it, no other server gets it.
//
//                       signature good
//   provisional ───────────────────────────────> verified
//        │ signature bad or overdue                 ^ good
//        ├───────────────────> refetching ──────────┤
//        │                                          v bad
//        │                        │ 24 h         rejected
//        │ 24 h                   v
//        └─────────────────> quarantined
//
// What ends a life is final. A quarantined event is forgotten but for its id; it comes back only as any other event
// does, whole and signed, as part of a gap or from the state of the room.

// The design's.
/** How long an event may be provisional. */
export const PROVISIONAL_LIFE_MS: Millis = 24 * 60 * 60 * 1_000;
/** Only in rooms of so many servers: what others cannot verify must not spread. */
export const DEFERRING_SERVERS = 2;

// Ours.
/**
 * How long a signature is waited for before the event is asked for whole: longer than its sender holds it back and tries
 * again. It never comes where its sender has lost what it owed, or where what came named none of the events that wait.
 */
export const SIGNATURE_OVERDUE_MS: Millis = 2 * 60 * 60 * 1_000;
/** Provisional events from one server; its next one is asked for whole. */
export const MAX_PROVISIONAL = 256;

/** Types that are no state and yet are never deferred: they take away what others have said. */
const NEVER_DEFERRED: ReadonlySet<string> = new Set(['m.room.redaction']);

/**
 * Whether an event may go before its signature, once the link allows it: messages with one signature, in a room of two
 * servers. The writer asks before it leaves the signature out, and the reader before it takes such an event.
 */
export function mayDefer(pdu: JsonObject, joinedServers: number): boolean {
  const type = own(pdu, 'type');
  return (
    typeof type === 'string' &&
    !NEVER_DEFERRED.has(type) &&
    !Object.hasOwn(pdu, 'state_key') &&
    joinedServers === DEFERRING_SERVERS &&
    // Restored without its signature it has none.
    (signaturesOf(pdu)?.length ?? 2) <= 1
  );
}

export type ProvisionalState = 'provisional' | 'refetching' | 'verified' | 'rejected' | 'quarantined';

/** What can happen to a provisional event. `whole` is the event fetched from its server, with its signatures. */
export type ProvisionalHappening =
  | 'signature verified'
  | 'signature bad'
  | 'signature overdue'
  | 'whole verified'
  | 'whole bad'
  | 'life over';

const LIFE: Readonly<
  Record<ProvisionalState, Readonly<Partial<Record<ProvisionalHappening, ProvisionalState>>>>
> = {
  provisional: {
    'signature verified': 'verified',
    'signature bad': 'refetching',
    'signature overdue': 'refetching',
    // The event can come whole at any time, through another server or as part of a gap.
    'whole verified': 'verified',
    'life over': 'quarantined',
  },
  refetching: {
    'signature verified': 'verified',
    'whole verified': 'verified',
    'whole bad': 'rejected',
    'life over': 'quarantined',
  },
  verified: {},
  rejected: {},
  quarantined: {},
};

/** The state after something has happened: the same where that changes nothing. */
export const stateAfter = (state: ProvisionalState, happening: ProvisionalHappening): ProvisionalState =>
  LIFE[state][happening] ?? state;

/** When the life of an event that arrived at `arrived` is over, in the clock of `arrived`. */
export const endOfLife = (arrived: Millis): Millis => arrived + PROVISIONAL_LIFE_MS;

/** A provisional event as the rule of what may be taken into the room sees it. */
export interface ProvisionalEvent {
  readonly id: string;
  readonly state: ProvisionalState;
  readonly prevEvents: readonly string[];
}

/**
 * Which of the events may go into the room now, each after those that it builds on: the verified ones of which no
 * previous event is still undecided. One that builds on a rejected or quarantined event may go: what is missing then is
 * a gap like any other.
 */
export function readyEvents(events: readonly ProvisionalEvent[]): string[] {
  const waiting = new Map(events.map((event) => [event.id, event]));
  for (const { id, state } of events) if (state === 'rejected' || state === 'quarantined') waiting.delete(id);
  const ready: string[] = [];
  for (let before = -1; before < ready.length; ) {
    before = ready.length;
    for (const { id, state, prevEvents } of [...waiting.values()]) {
      if (state !== 'verified' || prevEvents.some((prev) => waiting.has(prev))) continue;
      waiting.delete(id);
      ready.push(id);
    }
  }
  return ready;
}

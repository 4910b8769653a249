import type {
  FederatedRooms,
  HistoricEvent,
  Received,
  StateBefore,
} from '../homeserver/rooms/federated_rooms.ts';
import { MatrixError } from '../matrix/error.ts';
import type { EventId, ServerName } from '../matrix/ids.ts';
import { depthOf, type Event, prevEvents } from '../matrix/pdu.ts';
import { mapBounded } from './bounded.ts';
import type { Budget, RemoteEvents, RoomVersionOf } from './remote_events.ts';
import { FederationError } from './transport.ts';

/** Events asked for at once, the rounds in which that may be repeated, and the events of one gap in all. */
const GAP_EVENTS_PER_ROUND = 50;
const MAX_GAP_ROUNDS = 4;
const MAX_GAP_EVENTS = 150;
/** Extremities named in one request. */
const MAX_NAMED_EVENTS = 50;
/** Events of a state that are fetched one by one; where more are unknown, the whole state is asked for. */
const MAX_SINGLE_FETCHES = 50;
const PARALLEL_FETCHES = 4;

/** What a gap is filled from and into. */
interface GapOptions {
  readonly serverName: ServerName;
  readonly rooms: FederatedRooms;
  readonly remote: RemoteEvents;
}

/** On whose behalf an event is admitted, and how much that may cost. */
export interface Admission {
  readonly origin: ServerName;
  readonly room: RoomVersionOf;
  readonly budget: Budget;
  /**
   * Whether the event may wait for the keys of the servers that others before it are from. If not, these are done without,
   * so that a server that is gone does not stop a room.
   */
  readonly isPatient: boolean;
}

/** Of an event from before what is here: see FederatedRooms.receiveHistoric. */
type Historic = Pick<HistoricEvent, 'stateOf'>;

/** `no_keys`: auth events are missing, which cannot be checked now. */
type Admitted = Received | { readonly kind: 'no_keys' };

/**
 * Hands a checked event to the room. Where events before it are missing, asks the server that sent it: first for the
 * events in between, then, for those whose past is still not known, for the state before them, so that the room goes
 * on with a gap in its history and not in its state. Missing auth events are fetched as well.
 *
 * @returns what became of the event; `missing_prev` or `missing_auth` where the server could not help
 * @throws FederationError where the server cannot be reached or a key cannot be had now, so that trying again later may help
 */
export async function admit(options: GapOptions, admission: Admission, event: Event): Promise<Received> {
  const first = await admitOverGap(options, admission, event);
  const received = first.kind === 'state_lacks' ? await secondOpinion(options, admission, event) : first;
  // Without them nothing can be said of it, however long it has waited.
  if (received.kind === 'no_keys') throw keysMissing('auth events');
  return received;
}

const keysMissing = (what: string): FederationError =>
  new FederationError('unreachable', `the keys of the servers of its ${what} cannot be had`);

/**
 * Admits an event that the state here would not let in because it has a hole: with the state that its server gives for the
 * point before it, resolved with ours. What both cannot agree on is decided by the rules of resolution, as at any fork.
 */
async function secondOpinion(
  options: GapOptions,
  admission: Admission,
  event: Event,
  historic?: Historic,
): Promise<Admitted> {
  const told = await stateBefore(options, admission, event.id);
  const given = { state: [], authChain: [], ...told, isSecondOpinion: true };
  return receive(options, admission, event, given, historic);
}

async function admitOverGap(options: GapOptions, admission: Admission, event: Event): Promise<Admitted> {
  const first = await receive(options, admission, event);
  if (first.kind !== 'missing_prev') return first;
  for (const older of inOrder(await eventsBetween(options, admission, event))) {
    const received = await receive(options, admission, older);
    if (received.kind === 'missing_prev') await bridge(options, admission, older);
    if (received.kind === 'state_lacks') await secondOpinion(options, admission, older);
    if (received.kind === 'no_keys' && admission.isPatient) throw keysMissing('auth events');
  }
  const again = await receive(options, admission, event);
  return again.kind === 'missing_prev' ? ((await bridge(options, admission, event)) ?? again) : again;
}

/**
 * Hands events from before what is here to the room, the oldest first. For those whose past is not known the server is
 * asked for the state before them, once for each branch, and not at all where no state has changed up to what is here.
 * @param events checked; all of them lie before `after`, directly or with others of them between
 * @param after events that are here
 * @returns how many of them have now got their place
 * @throws as `admit`
 */
export async function admitHistoric(
  options: GapOptions,
  admission: Admission,
  events: readonly Event[],
  after: readonly Event[],
): Promise<number> {
  let placed = 0;
  const stateOf = statesToldBy(events, after);
  for (const event of inOrder(events)) {
    const historic = { stateOf: stateOf.get(event.id) };
    try {
      const { kind } = await admitHistoricOne(options, admission, event, historic);
      // Those after it would be asked about in vain too.
      if (kind === 'missing_prev' || kind === 'unknown_room') return placed;
      if (kind === 'accepted' || kind === 'rejected') placed++;
    } catch (error) {
      if (placed > 0 && error instanceof FederationError) return placed;
      throw error;
    }
  }
  return placed;
}

async function admitHistoricOne(
  options: GapOptions,
  admission: Admission,
  event: Event,
  historic: Historic,
): Promise<Admitted> {
  const first = await receive(options, admission, event, undefined, historic);
  const before = first.kind === 'missing_prev' && (await stateBefore(options, admission, event.id));
  const received = before ? await receive(options, admission, event, before, historic) : first;
  return received.kind === 'state_lacks' ? secondOpinion(options, admission, event, historic) : received;
}

/**
 * For which of `events` the state before them is told by one of `after`: those that changed no state, and lie before it with
 * no others between than such, each the only one before the next.
 */
function statesToldBy(events: readonly Event[], after: readonly Event[]): ReadonlyMap<EventId, EventId> {
  const told = new Map<EventId, EventId>();
  const byId = new Map(events.map((event) => [event.id, event]));
  for (const { id, pdu } of after) {
    for (let prevs = prevEvents(pdu); prevs.length === 1; ) {
      const prev = byId.get(prevs[0]!);
      if (prev === undefined || prev.pdu.state_key !== undefined || told.has(prev.id)) break;
      told.set(prev.id, id);
      prevs = prevEvents(prev.pdu);
    }
  }
  return told;
}

/** Rooms.receive, or receiveHistoric, with the auth events that are missing fetched. */
async function receive(
  { rooms, remote }: GapOptions,
  { origin, room, budget }: Admission,
  event: Event,
  before?: StateBefore,
  historic?: Historic,
): Promise<Admitted> {
  const take = (given: StateBefore | undefined): Promise<Received> =>
    historic === undefined
      ? rooms.receive(event, given)
      : rooms.receiveHistoric({ ...historic, event }, given);
  const received = await take(before);
  if (received.kind !== 'missing_auth') return received;
  const chain = await helpful(budget, 1, () => remote.authChain(origin, room, event.id));
  if (chain === undefined) return received;
  const { good, unchecked } = chain;
  const given = {
    ...before,
    state: before?.state ?? [],
    authChain: [...(before?.authChain ?? []), ...good],
  };
  const again = good.length === 0 ? received : await take(given);
  return again.kind === 'missing_auth' && unchecked.size > 0 ? { kind: 'no_keys' } : again;
}

/**
 * The unknown events that lie before `event`, as far as its server tells them within the bounds.
 * @throws FederationError where the keys of some cannot be had and may be waited for
 */
async function eventsBetween(
  { rooms, remote }: GapOptions,
  { origin, room, budget, isPatient }: Admission,
  event: Event,
): Promise<readonly Event[]> {
  const earliest = (await rooms.forwardExtremities(room.id)).slice(0, MAX_NAMED_EVENTS);
  const told = new Map<EventId, Event>();
  let between: readonly Event[] = [];
  let latest: readonly EventId[] = [event.id];
  for (
    let round = 0;
    round < MAX_GAP_ROUNDS && latest.length > 0 && between.length < MAX_GAP_EVENTS;
    round++
  ) {
    const request = { earliest, latest, limit: GAP_EVENTS_PER_ROUND };
    const events = await helpful(budget, 1, () => remote.missingEvents(origin, room, request));
    for (const one of events?.good ?? []) told.set(one.id, one);
    // What is not before the event is not what was asked for.
    const reached = ancestors(event, told);
    const isUnchecked = [event, ...reached].some(({ pdu }) =>
      prevEvents(pdu).some((prev) => events?.unchecked.has(prev)),
    );
    if (isUnchecked && isPatient) throw keysMissing('previous events');
    if (reached.length === between.length) break;
    between = reached;
    const open = between.flatMap(({ pdu }) => prevEvents(pdu).filter((prev) => !told.has(prev)));
    const stored = await rooms.known(open);
    latest = between
      .filter(({ pdu }) => prevEvents(pdu).some((prev) => !told.has(prev) && !stored.has(prev)))
      .map(({ id }) => id)
      .slice(0, MAX_NAMED_EVENTS);
  }
  return between.slice(0, MAX_GAP_EVENTS);
}

/**
 * Those of `told` that can be reached from `event` along previous events, nearest first. Some may be stored already:
 * what is only known as a part of the state has no place in the history yet, and the room tells which those are.
 */
export function ancestors(event: Event, told: ReadonlyMap<EventId, Event>): readonly Event[] {
  const reached = new Map<EventId, Event>();
  const queue: Event[] = [event];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    for (const id of prevEvents(next.pdu)) {
      const prev = told.get(id);
      if (prev === undefined || reached.has(id)) continue;
      reached.set(id, prev);
      queue.push(prev);
    }
  }
  return [...reached.values()];
}

/** Previous events before those that follow them. Event ids are hashes of their contents, so that there is no cycle. */
export function inOrder(events: readonly Event[]): readonly Event[] {
  const left = new Map(events.map((event) => [event.id, event]));
  const ordered: Event[] = [];
  const place = (start: Event): void => {
    const stack = [start];
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const prev = prevEvents(top.pdu)
        .map((id) => left.get(id))
        .find((one) => one !== undefined);
      if (prev !== undefined) {
        stack.push(prev);
        continue;
      }
      stack.pop();
      if (left.delete(top.id)) ordered.push(top);
    }
  };
  for (const event of events.toSorted((a, b) => depthOf(a.pdu) - depthOf(b.pdu) || (a.id < b.id ? -1 : 1))) {
    if (left.has(event.id)) place(event);
  }
  return ordered;
}

/**
 * Admits an event by the state that its server gives for the point before it. The event itself is asked about, not its
 * previous events one by one: that is one request, and the server has resolved them already.
 */
async function bridge(
  options: GapOptions,
  admission: Admission,
  event: Event,
): Promise<Admitted | undefined> {
  const before = await stateBefore(options, admission, event.id);
  return before && receive(options, admission, event, before);
}

async function stateBefore(
  { rooms, remote, serverName }: GapOptions,
  { origin, room, budget }: Admission,
  at: EventId,
): Promise<StateBefore | undefined> {
  const ids = await helpful(budget, 1, () => remote.stateIds(origin, room.id, at));
  if (ids === undefined) return undefined;
  const all = [...new Set([...ids.authChain, ...ids.state])];
  const known = await rooms.known(all);
  const unknown = all.filter((id) => !known.has(id));
  const events = new Map<EventId, Event>();
  if (unknown.length > MAX_SINGLE_FETCHES) {
    for (const event of (await helpful(budget, 1, () => remote.state(origin, room, at))) ?? [])
      events.set(event.id, event);
  } else {
    budget.take(unknown.length);
    await mapBounded(unknown, PARALLEL_FETCHES, async (id) => {
      const event = await helpful(budget, 0, () => remote.event(origin, room, id));
      if (event !== undefined) events.set(id, event);
    });
  }
  for (const id of known) {
    const event = await rooms.event(id, serverName);
    if (event !== undefined) events.set(id, event);
  }
  const present = (list: readonly EventId[]): Event[] => list.flatMap((id) => events.get(id) ?? []);
  return { state: present(ids.state), authChain: present(ids.authChain) };
}

/**
 * The result, or undefined where the server says no or nonsense.
 * @throws FederationError where it says nothing now, or may not be asked so many times more
 */
async function helpful<T>(budget: Budget, requests: number, ask: () => Promise<T>): Promise<T | undefined> {
  budget.take(requests);
  try {
    return await ask();
  } catch (error) {
    if (error instanceof MatrixError && error.status !== 429 && error.status < 500) return undefined;
    if (error instanceof FederationError && error.problem === 'bad_answer') return undefined;
    // The next question would come to the same, and often only after a long time.
    budget.end();
    if (error instanceof MatrixError) throw new FederationError('unreachable', error.message);
    throw error;
  }
}

import { base64, fromBase64 } from '../base/bytes.ts';
import type { Cancel, Clock, Millis } from '../base/time.ts';
import { signaturesOf } from '../compact/pdu/layout.ts';
import {
  endOfLife,
  MAX_PROVISIONAL,
  mayDefer,
  PROVISIONAL_LIFE_MS,
  readyEvents,
  SIGNATURE_OVERDUE_MS,
  stateAfter,
} from '../compact/pdu/provisional.ts';
import { withSignature } from '../compact/pdu/signature_field.ts';
import { restoreSignatures, type WaitingEvent } from '../compact/pdu/signatures.ts';
import type { ProvisionalEvents } from '../homeserver/rooms/provisional.ts';
import { badJson, MatrixError } from '../matrix/error.ts';
import { referenceHash } from '../matrix/hashes.ts';
import { type EventId, type RoomId, type ServerName, serverOf } from '../matrix/ids.ts';
import type { JsonObject, JsonValue } from '../matrix/json.ts';
import { type Event, type Pdu, prevEvents } from '../matrix/pdu.ts';
import { type RoomVersion, roomVersion } from '../matrix/room_version.ts';
import { contentHashMatches, verifyEventSignature } from '../matrix/signing.ts';
import type { Database } from '../storage/database.ts';
import { joinedServers, joinedUsers } from '../storage/memberships.ts';
import {
  changeKept,
  countKept,
  dropKept,
  type KeptEvent,
  keptById,
  keptEvents,
  keptOrigins,
  oldestUndecided,
  placedIds,
  undecidedUntil,
} from '../storage/provisional.ts';
import { findRoom } from '../storage/rooms.ts';
import type { Log } from './log.ts';
import { MAX_HELD_BACK_MS } from './owed_signatures.ts';
import type { EventChecker } from './remote_events.ts';
import { FederationError, type FederationTransport } from './transport.ts';
import { WholeEvents } from './whole_events.ts';

// Ours.
/** What a server is told to wait whose last batch is not done. */
const BUSY_RETRY_MS: Millis = 5_000;
/** After a fetch that failed, or an event that could not be decided; doubled by each further one. */
const FIRST_RETRY_MS: Millis = 30_000;
const MAX_RETRY_MS: Millis = 60 * 60_000;
/**
 * How long signatures that were none of the waiting events' are looked into: by then those of all that wait have come, so
 * that what is left is not what was written.
 */
const DOUBT_MS: Millis = 2 * MAX_HELD_BACK_MS;
/** As in the inbox: whatever has hindered an event for so long will hinder it for ever. */
const MAX_AGE_MS: Millis = 7 * 24 * 60 * 60_000;

/** What became of an event that was handed to its room. */
export type Decision = 'done' | 'refused' | 'waits';

interface DeferredSignaturesOptions {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly clock: Clock;
  readonly provisional: ProvisionalEvents;
  readonly checker: EventChecker;
  readonly transport: FederationTransport;
  /** Whether it has been agreed with a server that signatures may follow their events. */
  readonly isAgreed: (origin: ServerName) => boolean;
  /** The key with which a server signs, as far as that is clear; its public half in 32 bytes. */
  readonly usualKey: (
    origin: ServerName,
  ) => Promise<{ readonly keyId: string; readonly publicKey: Uint8Array } | undefined>;
  /** Hands a whole event to its room, with all checks. */
  readonly decide: (origin: ServerName, room: RoomId, pdu: JsonValue) => Promise<Decision>;
  readonly log: Log;
}

/** Work for one server: one round at a time. */
interface Lane {
  cancel: Cancel | undefined;
  failures: number;
  running: Promise<void> | undefined;
  again: boolean;
}

/** Keeps events whose signatures follow, and decides them (compact/pdu/provisional.ts has the states). */
export class DeferredSignatures {
  /**
   * Since the start: events that were kept without a signature, those whose signature came and was right, signatures that
   * were not right for the waiting event that they named, those that named none, events whose signature was overdue, events
   * asked for whole, those that were rejected, those that were quarantined, and those that their server has not got.
   */
  readonly counters = {
    ...{ provisional: 0, verified: 0, bad: 0, stray: 0, overdue: 0 },
    ...{ refetched: 0, rejected: 0, quarantined: 0, misread: 0 },
  };
  readonly #options: DeferredSignaturesOptions;
  readonly #whole: WholeEvents;
  readonly #lanes = new Map<ServerName, Lane>();
  /** Whose batch is being verified. */
  readonly #verifying = new Set<ServerName>();
  /** Of which signatures have come that were none of the waiting events', and whether more since. */
  readonly #doubts = new Map<ServerName, { readonly cancel: Cancel; again: boolean }>();
  #expiry: Cancel | undefined;
  #isStopped = true;

  constructor(options: DeferredSignaturesOptions) {
    this.#options = options;
    this.#whole = new WholeEvents(options.transport);
  }

  /** Goes on with what is kept. */
  async start(): Promise<void> {
    this.#isStopped = false;
    await this.#expire();
    for (const origin of await keptOrigins(this.#options.database)) this.#work(origin);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#expiry?.();
    for (const { cancel } of [...this.#lanes.values(), ...this.#doubts.values()]) cancel?.();
    this.#doubts.clear();
    await Promise.all([...this.#lanes.values()].map(({ running }) => running));
    this.#lanes.clear();
  }

  /** The server has just spoken to us, and so may be asked. */
  peerSpoke(server: ServerName): void {
    const lane = this.#lanes.get(server);
    if (lane?.cancel === undefined) return;
    lane.failures = 0;
    this.#work(server);
  }

  /** Whether an event without a signature may be taken from a server; else it has to send it whole. */
  async mayTake(origin: ServerName, event: Event): Promise<boolean> {
    const { database, isAgreed, provisional } = this.#options;
    if (await this.#isKnown(event.id)) return true;
    if (!isAgreed(origin) || serverOf(event.pdu.sender) !== origin) return false;
    const servers = await joinedServers(database, event.room);
    const pdu = event.pdu as unknown as JsonObject;
    if (!servers.includes(origin) || !servers.includes(this.#options.serverName)) return false;
    if (signaturesOf(pdu)?.length !== 0 || !mayDefer(pdu, servers.length)) return false;
    const version = await this.#version(event.room);
    if (version === undefined || !contentHashMatches(event.pdu, version)) return false;
    if ((await countKept(database, origin)) >= MAX_PROVISIONAL) return false;
    return (await this.#options.usualKey(origin)) !== undefined && (await provisional.isAllowed(event));
  }

  async #isKnown(id: EventId): Promise<boolean> {
    const { database } = this.#options;
    return (await placedIds(database, [id])).size > 0 || (await keptById(database, [id])).length > 0;
  }

  /**
   * Takes an event that came without a signature. Durable when this resolves.
   * @returns what is to be judged instead: the whole event; undefined where nothing is left to do
   * @throws FederationError where it has to be asked for and its server cannot be reached
   */
  async take(origin: ServerName, event: Event): Promise<JsonValue | undefined> {
    const { provisional, usualKey, isAgreed } = this.#options;
    if (await this.#isKnown(event.id)) return undefined;
    const key = await usualKey(origin);
    if (key !== undefined && (await this.mayTake(origin, event))) {
      const kept = { keyId: key.keyId, publicKey: base64(key.publicKey) } as KeptEvent['key'];
      const isKept = await provisional.keep(
        { event, origin, state: 'provisional', key: kept },
        MAX_PROVISIONAL,
      );
      if (isKept) {
        this.counters.provisional++;
        if (this.#expiry === undefined) await this.#expire();
        return undefined;
      }
    }
    const pdu = event.pdu as unknown as JsonObject;
    // What only the moment forbids is true of the event that its server has.
    return isAgreed(origin) ? ((await this.#fetch(origin, event.id)) ?? pdu) : pdu;
  }

  /**
   * Keeps an event that came whole where it is built on one of its server that is not decided yet.
   * @returns whether it is kept
   */
  async mustWait(origin: ServerName, event: Event): Promise<boolean> {
    const { database, provisional } = this.#options;
    const prevs = (await keptById(database, prevIds(event))).filter((prev) => prev.origin === origin);
    if (prevs.length === 0) return false;
    const [own] = await keptById(database, [event.id]);
    if (own !== undefined) return own.state === 'verified' || this.#becomes(own, 'whole verified', event.pdu);
    return provisional.keep({ event, origin, state: 'verified', key: undefined }, MAX_PROVISIONAL);
  }

  /**
   * Takes a batch of signatures. What they say is durable when this resolves.
   * @throws MatrixError where it is none
   */
  async signatures(origin: ServerName, batch: Uint8Array): Promise<void> {
    // Each may cost MAX_VERIFICATIONS; an honest server waits for the answer.
    if (this.#verifying.has(origin))
      throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'One batch at a time.', {
        retry_after_ms: BUSY_RETRY_MS,
      });
    this.#verifying.add(origin);
    try {
      await this.#verify(origin, batch);
    } finally {
      this.#verifying.delete(origin);
    }
  }

  async #verify(origin: ServerName, batch: Uint8Array): Promise<void> {
    const { database } = this.#options;
    const kept = (await keptEvents(database, { origin })).filter(({ state }) => state !== 'verified');
    const waiting = await this.#waiting(kept);
    const matches = restoreSignatures(batch, [...waiting.values()]);
    if (!matches.ok) throw badJson(matches.problem);
    const verified = new Map(
      matches.value.flatMap((match) =>
        match.kind === 'verified' ? [[match.eventId, match.signature] as const] : [],
      ),
    );
    const suspects = new Set(matches.value.flatMap((match) => (match.kind === 'none' ? match.suspects : [])));
    const strays = matches.value.filter((match) => match.kind === 'none' && match.suspects.length === 0);
    const left = [...waiting.keys()].filter((id) => !verified.has(id) && !suspects.has(id));
    // What was written went with its signature in the end, or something else was understood, which may be any of these.
    if (strays.length >= left.length) for (const id of left) suspects.add(id);
    else if (strays.length > 0) this.#doubt(origin);
    await database.transaction(async (tx) => {
      for (const { event, state, key, origin: server } of kept) {
        const signature = verified.get(event.id);
        if (signature !== undefined) {
          const signed = withSignature(event.pdu as unknown as JsonObject, {
            ...{ server, keyId: key!.keyId, bytes: signature },
          });
          const next = stateAfter(state, 'signature verified');
          await changeKept(tx, event.id, state, next as KeptEvent['state'], signed as unknown as Pdu);
        } else if (suspects.has(event.id)) {
          const next = stateAfter(state, 'signature bad');
          await changeKept(tx, event.id, state, next as KeptEvent['state']);
        }
      }
    });
    this.counters.verified += verified.size;
    this.counters.stray += strays.length;
    this.counters.bad += matches.value.filter(
      (match) => match.kind === 'none' && match.suspects.some((id) => !verified.has(id)),
    ).length;
    this.#work(origin);
  }

  /** Asks for the events that wait now and still do when all their signatures have come. */
  #doubt(origin: ServerName): void {
    const { clock, database, log } = this.#options;
    const doubt = this.#doubts.get(origin);
    if (doubt !== undefined) doubt.again = true;
    if (doubt !== undefined || this.#isStopped) return;
    const begun = clock.wall();
    const end = async (): Promise<void> => {
      const again = this.#doubts.get(origin)?.again;
      this.#doubts.delete(origin);
      const waiting = await undecidedUntil(database, begun);
      await this.#becomeOverdue(waiting.filter((one) => one.origin === origin));
      if (again) this.#doubt(origin);
    };
    const cancel = clock.after(DOUBT_MS, () => {
      void end().catch((error: unknown) =>
        log.warn({ origin, error: String(error) }, 'looking into signatures was interrupted'),
      );
    });
    this.#doubts.set(origin, { cancel, again: false });
  }

  async #waiting(kept: readonly KeptEvent[]): Promise<Map<EventId, WaitingEvent>> {
    const versions = new Map<RoomId, RoomVersion | undefined>();
    const waiting = new Map<EventId, WaitingEvent>();
    for (const { event, key, origin } of kept) {
      if (!versions.has(event.room)) versions.set(event.room, await this.#version(event.room));
      const version = versions.get(event.room);
      const publicKey = key && fromBase64(key.publicKey);
      if (version === undefined || publicKey === undefined) continue;
      waiting.set(event.id, {
        eventId: event.id,
        referenceHash: referenceHash(event.pdu, version),
        verify: (bytes) => {
          const signature = { server: origin, keyId: key!.keyId, bytes };
          const pdu = withSignature(event.pdu as unknown as JsonObject, signature) as unknown as Pdu;
          return verifyEventSignature(pdu, version, origin, key!.keyId, publicKey);
        },
      });
    }
    return waiting;
  }

  async #version(room: RoomId): Promise<RoomVersion | undefined> {
    const found = await findRoom(this.#options.database, room);
    return found && roomVersion(found.version);
  }

  /** The events that a server has been taken to have sent, each before those that can be built on it. */
  async eventsOf(room: RoomId, origin: ServerName): Promise<readonly Event[]> {
    const kept = await keptEvents(this.#options.database, { room });
    return kept.flatMap((one) => (one.origin === origin ? [one.event] : []));
  }

  /** Does what there is to do for a server, in the background. */
  #work(origin: ServerName): void {
    if (this.#isStopped) return;
    const lane = this.#lanes.get(origin) ?? {
      ...{ cancel: undefined, failures: 0, running: undefined, again: false },
    };
    this.#lanes.set(origin, lane);
    lane.cancel?.();
    lane.cancel = undefined;
    lane.again = true;
    lane.running ??= this.#run(origin, lane).finally(() => {
      lane.running = undefined;
    });
  }

  async #run(origin: ServerName, lane: Lane): Promise<void> {
    let isLeft = false;
    while (lane.again && !this.#isStopped) {
      lane.again = false;
      try {
        const fetched = await this.#refetch(origin);
        isLeft = !(await this.#release(origin)) || !fetched;
      } catch (error) {
        this.#options.log.warn(
          { origin, error: String(error) },
          'deciding provisional events was interrupted',
        );
        isLeft = true;
      }
    }
    if (this.#isStopped) return;
    if (!isLeft) {
      this.#lanes.delete(origin);
      return;
    }
    const wait = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** lane.failures++);
    lane.cancel = this.#options.clock.after(wait, () => this.#work(origin));
  }

  /** Asks for what had a bad signature, or none for too long. @returns whether everything was answered */
  async #refetch(origin: ServerName): Promise<boolean> {
    const { database, checker, provisional, log } = this.#options;
    const caughtUp = new Set<RoomId>();
    for (const one of await keptEvents(database, { origin })) {
      if (this.#isStopped) return true;
      if (one.state !== 'refetching') continue;
      const { event } = one;
      const version = (await findRoom(database, event.room))?.version ?? '';
      let whole: JsonValue | undefined;
      try {
        whole = await this.#fetch(origin, event.id);
        if (whole === undefined && !caughtUp.has(event.room)) {
          if (!(await this.#catchUp(origin, event.room))) return false;
          caughtUp.add(event.room);
        }
      } catch (error) {
        if (error instanceof FederationError) return false;
        throw error;
      }
      const checked = whole === undefined ? undefined : await checker.check(whole, version);
      // Without the key nothing is known.
      if (checked?.ok === false && checked.problem.kind === 'no_key') return false;
      if (checked?.ok === true && checked.value.id === event.id) {
        await this.#becomes(one, 'whole verified', checked.value.pdu);
        continue;
      }
      const problem = whole === undefined ? 'its server has not got it' : 'its signature is bad';
      log.warn({ origin, id: event.id }, `an event was rejected: ${problem}`);
      if (stateAfter(one.state, 'whole bad') === 'rejected') {
        this.counters[whole === undefined ? 'misread' : 'rejected']++;
        await provisional.retract(event.id, 'rejected');
      }
    }
    return true;
  }

  #becomes({ event, state }: KeptEvent, happening: 'whole verified', pdu: Pdu): Promise<boolean> {
    const next = stateAfter(state, happening) as KeptEvent['state'];
    return this.#options.database.transaction((tx) => changeKept(tx, event.id, state, next, pdu));
  }

  /** See WholeEvents.fetch. */
  #fetch(origin: ServerName, id: EventId): Promise<JsonValue | undefined> {
    this.counters.refetched++;
    return this.#whole.fetch(origin, id);
  }

  /**
   * Takes the newest events of a room from a server of which one was kept that it has never made: by its short form another
   * event has come out than was written, and nothing says which that was.
   * @returns whether all of them are decided
   * @throws FederationError where it cannot be asked now
   */
  async #catchUp(origin: ServerName, room: RoomId): Promise<boolean> {
    const { database, serverName, decide } = this.#options;
    const [user] = await joinedUsers(database, room, serverName);
    if (user === undefined) return true;
    let isDone = true;
    for (const id of await this.#whole.newest(origin, room, user)) {
      if (await this.#isKnown(id)) continue;
      const pdu = await this.#fetch(origin, id);
      if (pdu !== undefined && (await decide(origin, room, pdu)) === 'waits') isDone = false;
    }
    return isDone;
  }

  /** Hands what is ready to its rooms, in order. @returns whether nothing that is ready is left */
  async #release(origin: ServerName): Promise<boolean> {
    const { database } = this.#options;
    let isDone = true;
    const rooms = new Set((await keptEvents(database, { origin })).map(({ event }) => event.room));
    for (const room of rooms) {
      for (;;) {
        if (this.#isStopped) return true;
        const kept = await keptEvents(database, { room });
        const ready = readyEvents(
          kept.map(({ event, state }) => ({ id: event.id, state, prevEvents: prevIds(event) })),
        );
        const next = kept.find((one) => one.event.id === ready[0]);
        if (next === undefined) break;
        if (!(await this.#decide(next))) {
          isDone = false;
          break;
        }
      }
    }
    return isDone;
  }

  /** @returns whether the event is decided, and so no longer kept */
  async #decide({ event, origin, received }: KeptEvent): Promise<boolean> {
    const { decide, provisional, database, clock, log } = this.#options;
    const decision = await decide(origin, event.room, event.pdu as unknown as JsonObject);
    const isTooOld = clock.wall() - received > MAX_AGE_MS;
    if (decision === 'waits' && !isTooOld) return false;
    if (decision === 'waits')
      log.warn({ origin, id: event.id }, 'an event was lost: it could not be decided for too long');
    if (decision !== 'done') {
      this.counters.rejected++;
      await provisional.retract(event.id, 'rejected');
      return true;
    }
    // One that came meanwhile may have to be decided before it.
    if ((await placedIds(database, [event.id])).size === 0) return false;
    // It was stored before, in another way.
    await database.transaction((tx) => dropKept(tx, event.id));
    return true;
  }

  /** Has those of the events asked for whose signatures have not come. */
  async #becomeOverdue(events: readonly KeptEvent[]): Promise<void> {
    const overdue = events.filter(({ state }) => state === 'provisional');
    await this.#options.database.transaction(async (tx) => {
      for (const { event, state } of overdue) {
        const next = stateAfter(state, 'signature overdue') as KeptEvent['state'];
        await changeKept(tx, event.id, state, next);
      }
    });
    this.counters.overdue += overdue.length;
    for (const origin of new Set(overdue.map((one) => one.origin))) this.#work(origin);
  }

  /** Ends the lives that are over, has events asked for whose signatures are overdue, and waits for the next. */
  async #expire(): Promise<void> {
    const { database, clock, provisional, log } = this.#options;
    this.#expiry?.();
    // What comes meanwhile need not ask for it again.
    this.#expiry = () => undefined;
    const over = await undecidedUntil(database, clock.wall() - PROVISIONAL_LIFE_MS);
    for (const { event, origin, state } of over) {
      if (stateAfter(state, 'life over') !== 'quarantined') continue;
      this.counters.quarantined++;
      log.warn({ origin, id: event.id }, 'an event was quarantined: no signature has come for it');
      await provisional.retract(event.id, 'quarantined');
    }
    await this.#becomeOverdue(await undecidedUntil(database, clock.wall() - SIGNATURE_OVERDUE_MS));
    for (const { origin } of over) this.#work(origin);
    const oldest = await oldestUndecided(database);
    if (this.#isStopped) return;
    this.#expiry = undefined;
    if (oldest === undefined) return;
    const wait = Math.max(0, endOfLife(oldest) - clock.wall());
    // Whatever comes until then, it is overdue by the look after that one.
    this.#expiry = clock.after(Math.min(wait, SIGNATURE_OVERDUE_MS), () => {
      void this.#expire().catch((error: unknown) =>
        log.warn({ error: String(error) }, 'ending the lives of provisional events was interrupted'),
      );
    });
  }
}

/** Whether an event came without any signature. */
export const isUnsigned = (event: Event): boolean => Object.keys(event.pdu.signatures).length === 0;

const prevIds = ({ pdu }: Event): readonly EventId[] => prevEvents(pdu);

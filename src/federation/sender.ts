import { base64url } from '../base/bytes.ts';
import type { Priority } from '../base/priority.ts';
import type { Random } from '../base/random.ts';
import type { Clock, Millis } from '../base/time.ts';
import { MatrixError } from '../matrix/error.ts';
import type { ServerName } from '../matrix/ids.ts';
import { isJsonObject, type JsonValue, own, parseJson } from '../matrix/json.ts';
import type { Database } from '../storage/database.ts';
import {
  abandonTransaction,
  beginTransaction,
  destination as destinationOf,
  forgetDestination,
  forgetFailures,
  type OutgoingTransaction,
  postponeDestination,
} from '../storage/destinations.ts';
import { dequeuePdus, type QueuedPdu, queuedPdus, waitingDestinations } from '../storage/outbox.ts';
import { Slots } from './bounded.ts';
import type { EduBatch, EduOutbox } from './edus/outbox.ts';
import { Lanes, MAX_RETRY_MS, type Postponement } from './lanes.ts';
import type { Log } from './log.ts';
import { type FederationTransport, path } from './transport.ts';

// How events reach other servers
// ------------------------------
// The transaction that persists an event of ours also puts a row into the outbox for each server in the room. From that
// commit on the event will arrive, whatever stops or breaks on the way: a row leaves the outbox only when its
// destination has answered 200 to the transaction that held it, or has refused it alone, as told below. Nothing is given
// up for age or length of the queue.
//
// Each destination has a lane. A lane takes the oldest rows, up to 50 (server-server API, "Transactions"), writes down
// under which transaction id they go, and sends them. Only one transaction is under way in a lane: the receiver gets
// the events in our order, and the specification wants the answer to one before the next id is used. A repetition,
// after a lost answer or a restart, has the same id and the same events, so that the receiver, who remembers answered
// ids, does it once. Events that come meanwhile go into the next transaction.
//
// An attempt that fails postpones the lane: twice as long with each failure, up to an hour, with jitter so that those
// who lost the same server do not all come back in the same second. Count and date are in the database and survive a
// restart. Two things bring the next attempt forward. The destination speaks to us: then it is there. And a new event
// while it has not failed for long: then it may have been a short fault, and somebody is waiting. Either counts as well
// when it comes while the attempt is under way that then fails.
//
// An answer of 200 may report that single events were refused. That is final, since sending them again would not
// change it: it is logged. Any other answer counts as a failure of the attempt.
//
// An answer of 400 or 413 says that the transaction will not do, now or later, and does not say which event is to
// blame. Repeated for ever it would keep every room from the destination. So its events are sent one by one, in order,
// each under an id of its own. One that is refused so alone, and again after the pause of a failure, is set aside: it
// leaves the queue, and a warning names it. Before that an empty transaction asks whether it is the event that is
// refused. A destination that does not take that one either, as behind a broken proxy, loses nothing: it is waited for.
// Which events are sent alone is not written down: after a restart the destination's answer tells it again.
//
// What is no event (edus/outbox.ts) goes with the events of a new transaction, or by itself. A transaction without events is
// not written down, and no repetition of another has EDUs: those that have to arrive go again in a later one. Messages to
// devices that wait go before events that are repeated, which may need their keys.

// The specification's.
const MAX_PDUS = 50;
/** Answers that say that a transaction itself will not do: bad request, content too large. */
const REFUSING_STATUSES: readonly number[] = [400, 413];

// Ours.
/** The size at which a transaction gets no further PDU: on a slow link a smaller one is done sooner. */
const MAX_TRANSACTION_BYTES = 512 * 1024;
/**
 * Transactions under way at a time, over all destinations: of those that answered last time, and apart from them of
 * those that did not, which may take all the time that they are given.
 */
const MAX_SENDING = 64;
const TIMEOUT_MS: Millis = 90_000;
/** Retry after the first failure; doubled by each further one, up to MAX_RETRY_MS. Jitter takes up to half away. */
const FIRST_RETRY_MS: Millis = 5_000;
/** How soon after a failed attempt the next may come when there is a new event, while no more than so many have failed. */
const NEW_EVENT_RETRY_MS: Millis = 30_000;
const NEW_EVENT_MAX_FAILURES = 8;
/** Random bytes in a transaction id. */
const TRANSACTION_ID_BYTES = 6;
const MAX_LOGGED_ERROR = 200;

/** A destination that has refused a transaction as such. */
interface Suspicion {
  /** The rows of the outbox up to this position go alone. */
  readonly until: number;
  /** The row that was refused alone in the last attempt. */
  readonly refused?: number;
}

interface Composed {
  readonly transaction: OutgoingTransaction;
  readonly pdus: readonly QueuedPdu[];
  readonly failures: number;
  readonly besides: EduBatch | undefined;
}

/** Delivers the outbox. */
export class Sender {
  /**
   * Since the start: transactions answered with 200, attempts that failed, PDUs that a destination refused in such an
   * answer, PDUs, messages to devices and device updates that were set aside because a transaction of each alone was refused.
   */
  readonly counters = { delivered: 0, failed: 0, refused: 0, setAside: 0 };
  readonly #options: SenderOptions;
  readonly #lanes: Lanes;
  /** Only of destinations that something waits for. */
  readonly #suspicions = new Map<ServerName, Suspicion>();
  /** Transactions under way that are given up when there is an event. */
  readonly #givingWay = new Map<ServerName, AbortController>();
  /** One place for each lane may wait. */
  readonly #slots = {
    answering: new Slots(MAX_SENDING, Number.POSITIVE_INFINITY),
    failing: new Slots(MAX_SENDING, Number.POSITIVE_INFINITY),
  };

  constructor(options: SenderOptions) {
    this.#options = options;
    this.#lanes = new Lanes({
      clock: options.clock,
      log: options.log,
      drain: (destination, signal) => this.#drain(destination, signal),
      wokenRetry: (failures) =>
        failures <= NEW_EVENT_MAX_FAILURES ? NEW_EVENT_RETRY_MS : Number.POSITIVE_INFINITY,
    });
  }

  /** Goes on with what the outbox holds, each destination at its time. Before it nothing is sent. */
  async start(): Promise<void> {
    const { database, clock, edus } = this.#options;
    this.#lanes.start();
    const waiting = [...(await waitingDestinations(database)), ...((await edus?.destinations()) ?? [])];
    for (const destination of new Set(waiting)) {
      const { failures, retryAt } = await destinationOf(database, destination);
      if (this.#lanes.has(destination)) continue;
      // A clock that was set back must not keep a destination waiting for longer than any retry would.
      const waitMs = Math.min(MAX_RETRY_MS, retryAt - clock.wall());
      if (waitMs > 0) this.#lanes.postpone(destination, { failures, waitMs });
      else this.#lanes.wake(destination);
    }
  }

  /** Stops sending and waits until nothing is under way. What was, is repeated after the next start. */
  stop(): Promise<void> {
    return this.#lanes.stop();
  }

  /** There is something new for these destinations. */
  wake(destinations: Iterable<ServerName>): void {
    for (const destination of destinations) {
      this.#givingWay.get(destination)?.abort();
      this.#lanes.wake(destination);
    }
  }

  /** There is something besides events for this destination: it goes unless the destination has to be waited for. */
  nudge(destination: ServerName): void {
    this.#lanes.nudge(destination);
  }

  /** The server has just spoken to us, and so can be reached. */
  peerSpoke(server: ServerName): void {
    this.#lanes.peerSpoke(server);
  }

  /** Sends until the queue is empty or an attempt fails. */
  async #drain(destination: ServerName, signal: AbortSignal): Promise<Postponement | undefined> {
    while (!signal.aborted) {
      const composed = await this.#compose(destination);
      if (composed === undefined || signal.aborted) return undefined;
      if (composed.besides !== undefined) this.#options.edus?.taken(destination, composed.besides);
      const slots = this.#slots[composed.failures === 0 ? 'answering' : 'failing'];
      const postponement = await slots.run(() => this.#attempt(destination, composed, signal));
      if (postponement !== undefined) return postponement;
    }
    return undefined;
  }

  /** The transaction that is under way, or a new one out of the oldest rows; undefined where there is nothing to send. */
  #compose(destination: ServerName): Promise<Composed | undefined> {
    const { database, clock, random, edus } = this.#options;
    // Drawn outside: the body of a transaction may run twice.
    const id = base64url(random.bytes(TRANSACTION_ID_BYTES));
    return database.transaction(async (tx) => {
      const { failures, retryAt, transaction } = await destinationOf(tx, destination);
      if (transaction !== undefined) {
        const pdus = await queuedPdus(tx, destination, { limit: MAX_PDUS, last: transaction.last });
        if (pdus.length > 0) {
          const ahead = await edus?.ahead(tx, destination);
          if (ahead === undefined) return { transaction, pdus, failures, besides: undefined };
          return { transaction: { id, created: clock.wall(), last: 0 }, pdus: [], failures, besides: ahead };
        }
      }
      const queued = await queuedPdus(tx, destination, { limit: MAX_PDUS });
      const until = this.#suspicions.get(destination)?.until ?? 0;
      const pdus =
        queued[0] !== undefined && queued[0].position <= until ? queued.slice(0, 1) : fitting(queued);
      const last = pdus.at(-1)?.position;
      const created = clock.wall();
      const isQueue = pdus.length < queued.length || queued.length === MAX_PDUS;
      const isAway = failures > 0 && (last !== undefined || created < retryAt);
      const besides = this.#suspicions.has(destination)
        ? undefined
        : await edus?.next(tx, destination, { events: last !== undefined, isBehind: isQueue || isAway });
      if (last === undefined || besides?.durable?.isCut)
        return besides && { transaction: { id, created, last: 0 }, pdus: [], failures, besides };
      await beginTransaction(tx, destination, { id, created, last });
      return { transaction: { id, created, last }, pdus, failures, besides };
    });
  }

  /** Undefined: the next transaction may go, or we are stopping. */
  async #attempt(
    destination: ServerName,
    composed: Composed,
    signal: AbortSignal,
  ): Promise<Postponement | undefined> {
    const { database, edus } = this.#options;
    const { transaction, pdus, besides } = composed;
    const isOfEvents = pdus.length > 0;
    const givesWay = besides !== undefined && !isOfEvents && edus?.givesWay(destination, besides);
    const givingWay = givesWay ? new AbortController() : undefined;
    if (givingWay !== undefined) this.#givingWay.set(destination, givingWay);
    if (isOfEvents) edus?.eventsGo(destination);
    try {
      const answer = await this.#put(
        destination,
        {
          ...transaction,
          edus: besides?.edus,
          priority: isOfEvents ? 1 : besides?.durable?.toDevice.length ? 2 : 3,
        },
        pdus.map(({ json }) => parseJson(json)),
        givingWay === undefined ? signal : AbortSignal.any([signal, givingWay.signal]),
      );
      this.#logRefused(destination, answer);
    } catch (error) {
      if (signal.aborted || givingWay?.signal.aborted) return undefined;
      const isRefused = error instanceof MatrixError && REFUSING_STATUSES.includes(error.status);
      if (isRefused && besides !== undefined && !isOfEvents) {
        if (await this.#dropRefused(destination, besides, error, signal)) return undefined;
      } else if (isRefused && (await this.#isolate(destination, pdus, error, signal))) return undefined;
      if (signal.aborted) return undefined;
      const suspicion = this.#suspicions.get(destination);
      if (!isRefused && suspicion !== undefined)
        this.#suspicions.set(destination, { until: suspicion.until });
      return this.#fail(destination, composed.failures + 1, error);
    } finally {
      this.#givingWay.delete(destination);
    }
    const suspicion = this.#suspicions.get(destination);
    if (suspicion !== undefined && isOfEvents && transaction.last >= suspicion.until)
      this.#suspicions.delete(destination);
    this.counters.delivered++;
    const isKept = isOfEvents || besides?.durable !== undefined || besides?.receipts.length !== 0;
    if (!isKept && composed.failures === 0) return undefined;
    await database.transaction(async (tx) => {
      await dequeuePdus(tx, destination, pdus);
      if (besides !== undefined) await edus?.delivered(tx, besides);
      await (isOfEvents ? forgetDestination : forgetFailures)(tx, destination);
    });
    return undefined;
  }

  /** @returns whether a transaction without events is not to be repeated: its destination takes others */
  async #dropRefused(
    destination: ServerName,
    besides: EduBatch,
    { status, errcode }: MatrixError,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { database, edus, log } = this.#options;
    if (!(await this.#takesAnything(destination, signal))) return false;
    this.counters.failed++;
    if (edus?.refused(destination, besides) !== true) return true;
    await database.transaction(async (tx) => edus.delivered(tx, besides));
    if (besides.durable !== undefined) this.counters.setAside++;
    const answer = { destination, status, errcode: errcode.slice(0, MAX_LOGGED_ERROR) };
    const level = besides.durable === undefined ? 'info' : 'warn';
    log[level]({ ...answer, edus: besides.edus.length }, 'a server refused what was told besides events');
    return true;
  }

  /**
   * Deals with a transaction that the destination refused as such.
   * @returns whether the next may go at once: its PDUs now go one by one, or its only one has been set aside. False: it
   *   was one PDU, which stays for another attempt
   */
  async #isolate(
    destination: ServerName,
    pdus: readonly QueuedPdu[],
    { status, errcode }: MatrixError,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { database, log } = this.#options;
    const suspicion = this.#suspicions.get(destination);
    const [first] = pdus;
    const last = pdus.at(-1)!.position;
    if (pdus.length === 1 && suspicion?.refused !== last) {
      this.#suspicions.set(destination, { until: Math.max(last, suspicion?.until ?? 0), refused: last });
      return false;
    }
    if (pdus.length === 1 && !(await this.#takesAnything(destination, signal))) return false;
    this.counters.failed++;
    await database.transaction(async (tx) => {
      if (pdus.length === 1) await dequeuePdus(tx, destination, pdus);
      await abandonTransaction(tx, destination);
    });
    const answer = { destination, status, errcode: errcode.slice(0, MAX_LOGGED_ERROR) };
    if (pdus.length > 1) {
      this.#suspicions.set(destination, { until: last });
      log.info(
        { ...answer, events: pdus.length },
        'a server refused a transaction: its events go one by one',
      );
      return true;
    }
    if (suspicion === undefined || last >= suspicion.until) this.#suspicions.delete(destination);
    else this.#suspicions.set(destination, { until: suspicion.until });
    this.counters.setAside++;
    log.warn(
      { ...answer, eventId: first!.eventId },
      'an event was set aside: its destination does not take it',
    );
    return true;
  }

  /** Whether the destination takes a transaction of nothing. */
  async #takesAnything(destination: ServerName, signal: AbortSignal): Promise<boolean> {
    const { clock, random } = this.#options;
    const id = base64url(random.bytes(TRANSACTION_ID_BYTES));
    try {
      await this.#put(destination, { id, created: clock.wall() }, [], signal);
      return true;
    } catch {
      return false;
    }
  }

  async #put(
    destination: ServerName,
    {
      id,
      created,
      edus,
      priority = 1,
    }: Pick<OutgoingTransaction, 'id' | 'created'> & {
      readonly edus?: readonly JsonValue[] | undefined;
      readonly priority?: Priority;
    },
    pdus: readonly JsonValue[],
    signal: AbortSignal,
  ): Promise<JsonValue> {
    const { transport, serverName } = this.#options;
    const { body } = await transport.request(destination, {
      method: 'PUT',
      path: path`/_matrix/federation/v1/send/${id}`,
      body: {
        ...{ origin: serverName, origin_server_ts: created, pdus: [...pdus] },
        ...(edus !== undefined && { edus: [...edus] }),
      },
      timeoutMs: TIMEOUT_MS,
      priority,
      signal,
    });
    return body;
  }

  async #fail(destination: ServerName, failures: number, error: unknown): Promise<Postponement> {
    const { database, clock, random, log } = this.#options;
    this.counters.failed++;
    const longest = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** (failures - 1));
    const wished = error instanceof MatrixError ? Number(error.extra.retry_after_ms ?? 0) : 0;
    const wait = Math.min(MAX_RETRY_MS, Math.max(longest * (1 - random.fraction() / 2), wished || 0));
    const retryAt = Math.ceil(clock.wall() + wait);
    await database.transaction((tx) => postponeDestination(tx, destination, { failures, retryAt }));
    const reason = error instanceof Error ? error.message.slice(0, MAX_LOGGED_ERROR) : String(error);
    log.info(
      { destination, failures, retryInMs: Math.round(wait), reason },
      'a server did not take a transaction',
    );
    return { failures, waitMs: wait };
  }

  #logRefused(destination: ServerName, answer: JsonValue): void {
    const results = isJsonObject(answer) ? own(answer, 'pdus') : undefined;
    if (!isJsonObject(results)) return;
    for (const [eventId, result] of Object.entries(results).slice(0, MAX_PDUS)) {
      const error = isJsonObject(result) ? own(result, 'error') : undefined;
      if (typeof error !== 'string') continue;
      this.counters.refused++;
      this.#options.log.warn(
        { destination, eventId: eventId.slice(0, MAX_LOGGED_ERROR), error: error.slice(0, MAX_LOGGED_ERROR) },
        'a server refused an event',
      );
    }
  }
}

interface SenderOptions {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly clock: Clock;
  readonly random: Random;
  readonly transport: FederationTransport;
  /** What goes besides events; left out: nothing. */
  readonly edus?: Pick<
    EduOutbox,
    'destinations' | 'next' | 'ahead' | 'taken' | 'delivered' | 'refused' | 'givesWay' | 'eventsGo'
  >;
  readonly log: Log;
}

/** As many from the front as a transaction may hold, and at least one. */
function fitting(pdus: readonly QueuedPdu[]): readonly QueuedPdu[] {
  let bytes = 0;
  const end = pdus.findIndex(({ json }, i) => {
    bytes += json.length;
    return i > 0 && bytes > MAX_TRANSACTION_BYTES;
  });
  return end < 0 ? pdus : pdus.slice(0, end);
}

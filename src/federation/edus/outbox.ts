import type { Cancel, Clock, Millis } from '../../base/time.ts';
import type { EphemeralOutbox, PresenceToTell, ReceiptToTell } from '../../homeserver/ports.ts';
import type { RoomId, ServerName, UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import type { Database, Reader, Transaction } from '../../storage/database.ts';
import { joinedServers } from '../../storage/memberships.ts';
import {
  dequeueReceipts,
  enqueueReceipt,
  queuedReceipts,
  receiptDestinations,
} from '../../storage/outbox_receipts.ts';
import type { Log } from '../log.ts';
import { type DurableBatch, DurableEdus } from './durable.ts';
import type { EduPolicy } from './policy.ts';
import { presenceEdu } from './presence.ts';
import { receiptEdus } from './receipts.ts';
import { type TypingChange, typingEdu } from './typing.ts';

// What goes besides events
// ------------------------
// Receipts are in the database, one row for each destination, room, user and thread, in which the newest takes the place of the
// one before, and are there until their destination has answered. Told twice, a receipt changes nothing, so that no
// transaction is remembered for its receipts: one that carries events goes the second time without them.
//
// Who types and who is there is in memory, and of each only the newest. It goes once: what gets lost, or gets old because
// its destination is away or has a queue, is not told at all. Typing is told again every 25 seconds by whoever goes on
// (homeserver/typing.ts), and ends at other servers by itself.
//
// Over a slow link receipts do not ride with events, which they would delay: they wait until none have gone for a while, and
// one that is under way when an event comes is given up and goes another time. So it is with device updates, but that those
// which have waited long go with events. Messages to devices never wait: events that follow them may need their keys.

// The specification's: EDUs of a transaction. Each receipt takes one at most, all presence one.
const MAX_EDUS = 100;

// Ours.
const MAX_RECEIPTS = 50;
const MAX_PRESENCES = 50;
const MAX_TYPING = MAX_EDUS - MAX_RECEIPTS - 1;
/** How long changes of typing and presence are gathered, in which newer ones take the place of older ones. */
export const GATHER_MS: Millis = 200;
/** How long a receipt waits for events to ride with. */
export const RECEIPT_DELAY_MS: Millis = 1_000;
/** Over a slow link: how long no event has gone before receipts go, and how long they wait at most. */
export const QUIET_MS: Millis = 60_000;
export const MAX_HELD_BACK_MS: Millis = 30 * 60_000;
/** What is older than that is not told. Other servers let somebody stop typing, and go offline, by themselves. */
const TYPING_LIFE_MS: Millis = 30_000;
const PRESENCE_LIFE_MS: Millis = 15 * 60_000;
/** Changes that wait to be gathered, and that wait for one destination: past it the oldest is not told. */
const MAX_GATHERED = 5_000;
const MAX_WAITING = 500;
/** Destinations that typing and presence wait for; more are not told. */
const MAX_DESTINATIONS = 5_000;

/** What is told from memory; monotonic `at`. */
type ShortLived =
  | { readonly kind: 'typing'; readonly at: Millis; readonly change: TypingChange }
  | { readonly kind: 'presence'; readonly at: Millis; readonly presence: PresenceToTell };

interface Gathered {
  readonly told: ShortLived;
  readonly rooms: readonly RoomId[];
}

/** What one transaction tells besides its events. */
export interface EduBatch {
  readonly edus: readonly JsonObject[];
  /** Rows of the receipts among them. */
  readonly receipts: readonly number[];
  readonly shortLived: readonly (readonly [key: string, told: ShortLived])[];
  /** What must arrive among them; undefined: nothing. */
  readonly durable: DurableBatch | undefined;
}

/** When what is not urgent may go over a slow link; monotonic. */
interface Idle {
  /** Since when some wait. */
  since: Millis | undefined;
  /** When an event went last. */
  eventAt: Millis;
}

interface EduOutboxOptions {
  readonly serverName: ServerName;
  readonly database: Database;
  readonly clock: Clock;
  readonly policy: (destination: ServerName) => EduPolicy;
  /** Told that there is something for a destination, unless it has to be waited for. */
  readonly nudge: (destination: ServerName) => void;
  /** Told that there are messages to devices for a destination: as of events. Left out: as `nudge`. */
  readonly wake?: (destination: ServerName) => void;
  readonly log: Log;
}

/** Keeps what other servers are to be told besides events, until the sender takes it. */
export class EduOutbox implements EphemeralOutbox {
  /** What must arrive. */
  readonly durable: DurableEdus;
  readonly #options: EduOutboxOptions;
  readonly #gathered = new Map<string, Gathered>();
  /** By destination and by what it is about, oldest first. */
  readonly #waiting = new Map<ServerName, Map<string, ShortLived>>();
  /** By destination: when receipts that wait are looked at. */
  readonly #timers = new Map<ServerName, Cancel>();
  /** Of destinations behind slow links. */
  readonly #idle = new Map<ServerName, Idle>();
  #gathering: Cancel | undefined;
  #sorting: Promise<void> | undefined;
  #isStopped = false;

  constructor(options: EduOutboxOptions) {
    this.#options = options;
    const { serverName, clock, nudge, wake = nudge } = options;
    this.durable = new DurableEdus({
      ...{ serverName, clock, urgent: wake },
      later: (destination) => {
        if (this.#isSlow(destination)) this.#look(destination);
        else nudge(destination);
      },
    });
  }

  /** Every destination that something in the database waits for. */
  async destinations(): Promise<readonly ServerName[]> {
    const { database } = this.#options;
    return [...(await receiptDestinations(database)), ...(await this.durable.destinations(database))];
  }

  /** Nothing is gathered or looked at any more when this resolves. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#gathering?.();
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
    this.#gathered.clear();
    this.#waiting.clear();
    await this.#sorting;
  }

  typing(room: RoomId, user: UserId, isTyping: boolean): void {
    const at = this.#options.clock.monotonic();
    const told: ShortLived = { kind: 'typing', at, change: { room, user, isTyping } };
    this.#gather(`typing ${room} ${user}`, { told, rooms: [room] });
  }

  presence(presence: PresenceToTell, rooms: readonly RoomId[]): void {
    const at = this.#options.clock.monotonic();
    this.#gather(`presence ${presence.user}`, { told: { kind: 'presence', at, presence }, rooms });
  }

  async receipt(tx: Transaction, room: RoomId, { user, event, ts, threadId }: ReceiptToTell): Promise<void> {
    const { serverName, policy } = this.#options;
    const destinations = (await joinedServers(tx, room)).filter(
      (server) => server !== serverName && policy(server).receipts !== 'never',
    );
    if (destinations.length === 0) return;
    await enqueueReceipt(tx, { room, user, thread: threadId ?? '', event, ts }, destinations);
    tx.afterCommit(() => {
      for (const destination of destinations) this.#look(destination);
    });
  }

  /** Whether what goes to a destination by itself is given up when there is an event. */
  givesWay(destination: ServerName, { durable }: EduBatch): boolean {
    return this.#isSlow(destination) && (durable?.toDevice.length ?? 0) === 0;
  }

  /** Events go to the destination. */
  eventsGo(destination: ServerName): void {
    if (!this.#isSlow(destination)) return;
    const eventAt = this.#options.clock.monotonic();
    this.#idle.set(destination, { since: this.#idle.get(destination)?.since, eventAt });
  }

  /**
   * What the next transaction tells besides its events; undefined where that is nothing. Nothing is under way.
   * @param with `events`: whether it has any. `isBehind`: the destination is away, or has a queue, so that nothing goes which
   *   would be old when it arrives
   */
  async next(
    tx: Transaction,
    destination: ServerName,
    { events, isBehind }: { readonly events: boolean; readonly isBehind: boolean },
  ): Promise<EduBatch | undefined> {
    const may = await this.#mayTell(tx, destination, events);
    const durable = await this.durable.next(tx, destination, {
      edus: MAX_EDUS,
      events,
      updates: may.updates,
    });
    if (this.durable.isOneByOne(destination)) return durable && onlyDurable(durable);
    const left = MAX_EDUS - (durable?.edus.length ?? 0);
    const rows =
      may.receipts && left > 0 ? await queuedReceipts(tx, destination, Math.min(MAX_RECEIPTS, left)) : [];
    const isFull = left - rows.length < MAX_TYPING + 1;
    const shortLived = isBehind || isFull ? [] : this.#fresh(destination);
    if (rows.length === 0 && shortLived.length === 0) return durable && onlyDurable(durable);
    const typing = shortLived.flatMap(([, told]) => (told.kind === 'typing' ? [typingEdu(told.change)] : []));
    const present = shortLived.flatMap(([, told]) => (told.kind === 'presence' ? [told.presence] : []));
    const presence = present.length === 0 ? [] : [presenceEdu(present, this.#options.clock.wall())];
    const receipts = rows.map(({ position }) => position);
    const edus = [...(durable?.edus ?? []), ...receiptEdus(rows), ...presence, ...typing];
    return { edus, receipts, shortLived, durable };
  }

  /** Messages to devices that are to arrive before events which go once more; undefined where there are none. */
  async ahead(tx: Transaction, destination: ServerName): Promise<EduBatch | undefined> {
    const durable = await this.durable.next(tx, destination, {
      edus: MAX_EDUS,
      events: false,
      updates: false,
    });
    return durable && onlyDurable(durable);
  }

  /** It is on its way. What is told from memory goes once. */
  taken(destination: ServerName, { shortLived }: EduBatch): void {
    const waiting = this.#waiting.get(destination);
    for (const [key, told] of shortLived) if (waiting?.get(key) === told) waiting.delete(key);
    if (waiting?.size === 0) this.#waiting.delete(destination);
  }

  /** The destination has answered. */
  async delivered(tx: Transaction, { receipts, durable }: EduBatch): Promise<void> {
    await dequeueReceipts(tx, receipts);
    if (durable !== undefined) await this.durable.delivered(tx, durable);
  }

  /**
   * The destination has refused a transaction of nothing but this, and takes others.
   * @returns whether it is to be given up; else it goes once more in smaller parts
   */
  refused(destination: ServerName, { durable }: EduBatch): boolean {
    return durable === undefined || this.durable.refused(destination, durable);
  }

  /** Whether receipts and device updates may go now. */
  async #mayTell(
    reader: Reader,
    destination: ServerName,
    events: boolean,
  ): Promise<{ readonly receipts: boolean; readonly updates: boolean }> {
    const { receipts } = this.#options.policy(destination);
    if (!this.#isSlow(destination)) return { receipts: receipts === 'soon', updates: true };
    const waitedMs = await this.durable.waitedMs(reader, destination);
    const isDue = waitedMs !== undefined && waitedMs >= MAX_HELD_BACK_MS;
    if (events) return { receipts: receipts === 'soon', updates: isDue };
    if (waitedMs === undefined && (await queuedReceipts(reader, destination, 1)).length === 0) {
      const idle = this.#idle.get(destination);
      if (idle !== undefined) idle.since = undefined;
      return { receipts: false, updates: false };
    }
    const isQuiet = this.#look(destination) <= 0;
    return { receipts: receipts === 'soon' || (receipts === 'idle' && isQuiet), updates: isQuiet || isDue };
  }

  /** Whether what is not urgent waits until nothing else has to go. */
  #isSlow(destination: ServerName): boolean {
    const { receipts, isSlow } = this.#options.policy(destination);
    return receipts === 'idle' || isSlow === true;
  }

  /** Has what waits looked at when it may go. @returns milliseconds until then, 0 or less: now */
  #look(destination: ServerName): Millis {
    if (this.#isStopped) return 0;
    const wait = this.#isSlow(destination) ? this.#waitForQuiet(destination) : RECEIPT_DELAY_MS;
    if (wait <= 0 || this.#timers.has(destination)) return wait;
    this.#timers.set(
      destination,
      this.#options.clock.after(wait, () => {
        this.#timers.delete(destination);
        this.#options.nudge(destination);
      }),
    );
    return wait;
  }

  #waitForQuiet(destination: ServerName): Millis {
    const now = this.#options.clock.monotonic();
    const idle = this.#idle.get(destination) ?? { since: undefined, eventAt: now };
    idle.since ??= now;
    this.#idle.set(destination, idle);
    return Math.min(Math.max(idle.since, idle.eventAt) + QUIET_MS, idle.since + MAX_HELD_BACK_MS) - now;
  }

  #gather(key: string, gathered: Gathered): void {
    if (this.#isStopped) return;
    setNewest(this.#gathered, key, gathered, MAX_GATHERED);
    if (this.#sorting === undefined) this.#arm();
  }

  #arm(): void {
    this.#gathering ??= this.#options.clock.after(GATHER_MS, () => {
      this.#gathering = undefined;
      this.#sorting = this.#sort().finally(() => {
        this.#sorting = undefined;
        if (this.#gathered.size > 0) this.#arm();
      });
    });
  }

  /** Gives what was gathered to those who are to be told. */
  async #sort(): Promise<void> {
    const { log, nudge } = this.#options;
    const gathered = [...this.#gathered];
    this.#gathered.clear();
    const destinations = new Set<ServerName>();
    try {
      for (const [key, { told, rooms }] of gathered)
        for (const destination of await this.#serversIn(rooms, told.kind)) {
          const waiting = this.#waiting.get(destination) ?? new Map<string, ShortLived>();
          if (waiting.size === 0 && this.#waiting.size >= MAX_DESTINATIONS) continue;
          setNewest(waiting, key, told, MAX_WAITING);
          this.#waiting.set(destination, waiting);
          destinations.add(destination);
        }
    } catch (error) {
      log.warn({ error: String(error) }, 'other servers could not be told who types and who is there');
    }
    if (this.#isStopped) return;
    for (const destination of destinations) nudge(destination);
  }

  async #serversIn(rooms: readonly RoomId[], kind: ShortLived['kind']): Promise<Set<ServerName>> {
    const { database, serverName, policy } = this.#options;
    const servers = new Set<ServerName>();
    for (const room of rooms)
      for (const server of await joinedServers(database, room))
        if (server !== serverName && policy(server)[kind]) servers.add(server);
    return servers;
  }

  /** As much as one transaction tells of what waits in memory. What is too old for that ends here. */
  #fresh(destination: ServerName): readonly (readonly [string, ShortLived])[] {
    const waiting = this.#waiting.get(destination);
    if (waiting === undefined) return [];
    const now = this.#options.clock.monotonic();
    for (const [key, { kind, at }] of waiting)
      if (now - at > (kind === 'typing' ? TYPING_LIFE_MS : PRESENCE_LIFE_MS)) waiting.delete(key);
    if (waiting.size === 0) this.#waiting.delete(destination);
    const all = [...waiting];
    return [
      ...all.filter(([, { kind }]) => kind === 'typing').slice(0, MAX_TYPING),
      ...all.filter(([, { kind }]) => kind === 'presence').slice(0, MAX_PRESENCES),
    ];
  }
}

const onlyDurable = (durable: DurableBatch): EduBatch => ({
  edus: durable.edus,
  receipts: [],
  shortLived: [],
  durable,
});

/** Puts a value at the end, in the place of an older one; past the limit the oldest gives way. */
function setNewest<V>(map: Map<string, V>, key: string, value: V, limit: number): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > limit) map.delete(map.keys().next().value!);
}

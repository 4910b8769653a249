import type { Millis } from '../../base/time.ts';
import {
  type EventId,
  parseUserId,
  type RoomId,
  type ServerName,
  serverOf,
  type UserId,
} from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, own } from '../../matrix/json.ts';
import type { Event } from '../../matrix/pdu.ts';
import { type PowerLevels, powerLevels } from '../../matrix/power_levels.ts';
import { roomVersion } from '../../matrix/room_version.ts';
import type { Transaction } from '../../storage/database.ts';
import { displayNameIn, joinedCount, joinedUsers, membershipOf } from '../../storage/memberships.ts';
import {
  deleteNotificationsOf,
  deleteUnread,
  MAIN_TIMELINE,
  putNotification,
  type ReadUpTo,
  readNotifications,
  readThread,
} from '../../storage/push_notifications.ts';
import { currentStateEvent } from '../../storage/state.ts';
import { nextPosition } from '../../storage/stream.ts';
import { eventById, roomRow } from '../../storage/sync.ts';
import type { Committed } from '../rooms/commit.ts';
import type { Settled } from '../rooms/provisional.ts';
import type { RoomDraft } from '../rooms/room_draft.ts';
import { threadRoot } from '../threads.ts';
import { CommittedCache } from './committed_cache.ts';
import { type Circumstances, JudgedEvent } from './conditions.ts';
import { FoldedText } from './glob.ts';
import type { Recipient, Recipients } from './recipients.ts';
import type { CompiledRules, Ruling } from './ruling.ts';

/** Steps of the search for patterns that the rules of one user may take for one event. */
const MAX_STEPS = 1_000_000;

/** How many users are kept of whom it is known that they are in a room, for the rooms used last. */
const MAX_KEPT_MEMBERS = 100_000;
/** Up to which number members are counted and the count is kept: what the predefined rules ask for. */
const COUNTED = 3;

/** Who is joined to a room. */
interface Members {
  readonly local: readonly UserId[];
  /** Of all servers; COUNTED where there are more. */
  readonly count: number;
}

/** An event that clients are shown from now on. */
export interface ShownEvent {
  readonly event: Event;
  readonly position: number;
}

/**
 * Decides whom an event notifies, and keeps what is not read yet (client-server API, "Push Notifications", "Server behaviour").
 * Everything is part of the transaction that makes its cause durable, so that counts are right after any stop.
 */
export class Notifications {
  readonly #serverName: ServerName;
  readonly #recipients: Recipients;
  readonly #changed: (users: ReadonlySet<UserId>) => void;
  readonly #members = new CommittedCache<RoomId, Members>(MAX_KEPT_MEMBERS, ({ local }) => local.length + 1);

  /** @param of.changed told after the commit of those whose counts have changed; left out: nobody is */
  constructor(of: {
    readonly serverName: ServerName;
    readonly recipients: Recipients;
    readonly changed?: (users: ReadonlySet<UserId>) => void;
  }) {
    this.#serverName = of.serverName;
    this.#recipients = of.recipients;
    this.#changed = of.changed ?? (() => undefined);
  }

  /** A transaction has written a draft of a room. */
  async committed(
    tx: Transaction,
    { room, entries }: Pick<RoomDraft, 'room' | 'entries'>,
    {
      committed,
      settled,
      now,
    }: { readonly committed: Committed; readonly settled: Settled; readonly now: Millis },
  ): Promise<void> {
    if (committed.isMembersChanged) this.#members.changed(tx, room);
    for (const { event, redaction, redactedBy } of entries) {
      const position = committed.positions.get(event.id);
      if (redaction?.applied != null) await this.#redacted(tx, room, redaction.redacts, position);
      const isShown = settled.shown.has(event.id);
      if (redactedBy !== null && isShown) await this.#redacted(tx, room, event.id, position);
      if (position === undefined || redactedBy !== null || isShown) continue;
      await this.shown(tx, { event, position }, now);
    }
    for (const { position, at } of settled.ended) await this.withdrawn(tx, room, position, at);
    for (const user of committed.users) {
      const membership = (await membershipOf(tx, room, user))?.membership;
      if (membership !== 'join' && membership !== 'invite') await this.left(tx, user, room);
    }
  }

  async #redacted(
    tx: Transaction,
    room: RoomId,
    redacted: EventId,
    redactedAt: number | undefined,
  ): Promise<void> {
    const position = (await eventById(tx, redacted))?.position;
    if (position != null) await this.withdrawn(tx, room, position, redactedAt ?? (await nextPosition(tx)));
  }

  /** An event is shown in a room that this server has: it notifies members, and its sender has read what was before it. */
  async shown(tx: Transaction, { event, position }: ShownEvent, now: Millis): Promise<void> {
    const { room, pdu } = event;
    const members = await this.#members.get(tx, room, () => this.#membersOf(tx, room));
    const users = this.#concerned(event, members.local);
    const isOwn = serverOf(pdu.sender) === this.#serverName;
    if (users.length === 0 && !isOwn) return;
    const thread = await threadOf(tx, room, pdu.content);
    if (isOwn && (await readThread(tx, { user: pdu.sender, room, thread, upTo: position })))
      this.#tell(tx, [pdu.sender]);
    await this.#notify(tx, users, new Judge(tx, event, members.count), { event, position, thread, now });
  }

  async #membersOf(tx: Transaction, room: RoomId): Promise<Members> {
    const local = await joinedUsers(tx, room, this.#serverName);
    const count = local.length >= COUNTED ? COUNTED : await joinedCount(tx, room, COUNTED);
    return { local, count };
  }

  /** A local user is invited to a room that this server does not have. */
  async invited(tx: Transaction, user: UserId, { event, position }: ShownEvent, now: Millis): Promise<void> {
    const shown = { event, position, thread: MAIN_TIMELINE, now };
    await this.#notify(tx, [user], new Judge(tx, event, undefined), shown);
  }

  /** An event is shown no more, or only what redaction leaves of it. @param at where clients are told */
  async withdrawn(tx: Transaction, room: RoomId, position: number, at: number): Promise<void> {
    this.#tell(tx, await deleteNotificationsOf(tx, { room, position, at }));
  }

  /** A local user is neither in a room nor invited any more. */
  async left(tx: Transaction, user: UserId, room: RoomId): Promise<void> {
    if (await deleteUnread(tx, user, room)) this.#tell(tx, [user]);
  }

  /** A local user has read a room up to an event. */
  async read(tx: Transaction, read: ReadUpTo): Promise<void> {
    if (await readNotifications(tx, read)) this.#tell(tx, [read.user]);
  }

  #tell(tx: Transaction, users: readonly UserId[]): void {
    if (users.length > 0) tx.afterCommit(() => this.#changed(new Set(users)));
  }

  /** The local users whose rules an event is judged by. */
  #concerned({ pdu }: Event, joined: readonly UserId[]): UserId[] {
    const users = joined.filter((user) => user !== pdu.sender);
    if (pdu.type !== 'm.room.member' || own(pdu.content, 'membership') !== 'invite') return users;
    const invited = parseUserId(pdu.state_key ?? '');
    const isHere = invited.ok && serverOf(invited.value) === this.#serverName;
    return isHere && !joined.includes(invited.value) ? [...users, invited.value] : users;
  }

  async #notify(
    tx: Transaction,
    users: readonly UserId[],
    judge: Judge,
    { event, position, thread, now }: ShownEvent & { readonly thread: string; readonly now: Millis },
  ): Promise<void> {
    const { room } = event;
    const notified = new Map<Ruling, UserId[]>();
    for (const user of users) {
      const ruling = await judge.rulingFor(user, await this.#recipients.get(tx, user));
      if (ruling === undefined) continue;
      const others = notified.get(ruling);
      if (others === undefined) notified.set(ruling, [user]);
      else others.push(user);
    }
    for (const [part, [{ actions, isHighlight }, those]] of [...notified].entries()) {
      await putNotification(tx, {
        ...{ users: those, position, part, room, thread, isHighlight },
        actions: JSON.stringify(actions),
        received: now,
      });
      this.#tell(tx, those);
    }
  }
}

/** Judges one event by the rules of several users, looking up what they need of the room once. */
class Judge {
  readonly #tx: Transaction;
  readonly #event: Event;
  readonly #judged: JudgedEvent;
  readonly #mentioned: ReadonlySet<unknown>;
  readonly #stateKey: string | undefined;
  /** By rules that many have: what they say of everybody whom the event does not name. */
  readonly #common = new Map<CompiledRules, Ruling | undefined>();
  #members: { readonly count: number; readonly upTo: number } | undefined;
  /** Null: they are not known here. */
  #levels: PowerLevels | null | undefined;

  /** @param members how many are joined to the room, COUNTED where there are more; undefined: that is not known */
  constructor(tx: Transaction, event: Event, members: number | undefined) {
    this.#tx = tx;
    this.#members = members === undefined ? undefined : { count: members, upTo: COUNTED };
    this.#event = event;
    const { type, sender, content, state_key, origin_server_ts } = event.pdu;
    this.#judged = new JudgedEvent({
      ...{ event_id: event.id, room_id: event.room, type, sender, content, origin_server_ts },
      ...(state_key !== undefined && { state_key }),
    });
    this.#stateKey = this.#judged.text('state_key')?.text;
    const mentions = own(content, 'm.mentions');
    const users = isJsonObject(mentions) ? own(mentions, 'user_ids') : undefined;
    this.#mentioned = new Set(Array.isArray(users) ? users : []);
  }

  async rulingFor(user: UserId, { rules, ignored }: Recipient): Promise<Ruling | undefined> {
    if (ignored.has(this.#event.pdu.sender)) return undefined;
    const isSubject = this.#stateKey !== undefined && this.#stateKey === new FoldedText(user).text;
    const isNamed = isSubject || this.#mentioned.has(user);
    if (isNamed || rules.needs.displayName) return this.#judge(user, rules);
    if (!this.#common.has(rules)) this.#common.set(rules, await this.#judge(user, rules));
    return this.#common.get(rules);
  }

  async #judge(user: UserId, rules: CompiledRules): Promise<Ruling | undefined> {
    const { room, pdu } = this.#event;
    const { displayName, memberCount } = rules.needs;
    const name = displayName ? await displayNameIn(this.#tx, room, user) : undefined;
    const members = memberCount === 0 ? 0 : await this.#memberCount(memberCount);
    let isPowerAsked = false;
    const who = (): Circumstances => ({
      ...{ user, displayName: name, memberCount: members, steps: { left: MAX_STEPS } },
      senderMay: (notification) => {
        isPowerAsked = true;
        const levels = this.#levels;
        return levels != null && levels.user(pdu.sender) >= levels.notification(notification);
      },
    });
    const ruling = rules.judge(this.#judged, who());
    if (!isPowerAsked || this.#levels !== undefined) return ruling;
    // Few events get so far that the room's power levels are worth reading.
    this.#levels = await levelsIn(this.#tx, room);
    return rules.judge(this.#judged, who());
  }

  async #memberCount(upTo: number): Promise<number> {
    if (this.#members === undefined || this.#members.upTo < upTo)
      this.#members = { count: await joinedCount(this.#tx, this.#event.room, upTo), upTo };
    return this.#members.count;
  }
}

async function levelsIn(tx: Transaction, room: RoomId): Promise<PowerLevels | null> {
  const version = roomVersion((await roomRow(tx, room))?.version ?? '');
  if (version === undefined) return null;
  const create = await currentStateEvent(tx, room, 'm.room.create', '');
  return powerLevels(create, await currentStateEvent(tx, room, 'm.room.power_levels', ''), version);
}

async function threadOf(tx: Transaction, room: RoomId, content: JsonObject): Promise<string> {
  // Most events are related to none.
  if (!Object.hasOwn(content, 'm.relates_to')) return MAIN_TIMELINE;
  const row = await roomRow(tx, room);
  return (row && (await threadRoot(tx, row.id, content))) ?? MAIN_TIMELINE;
}

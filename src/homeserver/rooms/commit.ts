import type { Millis } from '../../base/time.ts';
import { type EventId, parseUserId, type ServerName, serverOf, type UserId } from '../../matrix/ids.ts';
import { depthOf, type Event, type StateKey, splitStateKey } from '../../matrix/pdu.ts';
import { noteExtremities } from '../../storage/backward_extremities.ts';
import type { Transaction } from '../../storage/database.ts';
import {
  eventsById,
  placeEvent,
  putEvent,
  putRedacted,
  putRedaction,
  showWithheld,
} from '../../storage/events.ts';
import {
  dropMembership,
  joinedServers,
  type Membership,
  membershipOf,
  putMembership,
} from '../../storage/memberships.ts';
import { changeExtremities, ensureRoom, placeRoom } from '../../storage/rooms.ts';
import { changeCurrentState } from '../../storage/state.ts';
import { nextPosition } from '../../storage/stream.ts';
import { putTransaction } from '../../storage/transactions.ts';
import type { Outbox } from '../ports.ts';
import { redactedCopy } from './redactions.ts';
import type { DraftEntry, RoomDraft } from './room_draft.ts';
import type { RoomState } from './room_state.ts';
import type { StateStore } from './state_store.ts';

/** What a committed draft means to others. */
export interface Committed {
  /** The last delivery position that was taken, or null where nothing can be delivered. */
  position: number | null;
  /** Whether somebody's membership has changed, of whatever server they are. */
  isMembersChanged: boolean;
  /** Where events are shown from now on. */
  readonly positions: Map<EventId, number>;
  /** Local users whose membership changed. */
  readonly users: Set<UserId>;
  /** Where the draft's states are stored. */
  readonly written: Map<RoomState, number>;
  /** Events that were stored before and have changed. */
  readonly changed: Set<EventId>;
}

export interface CommitServices {
  readonly states: StateStore;
  readonly outbox: Outbox;
  readonly serverName: ServerName;
}

/**
 * Writes a draft inside one transaction: events and their edges, state groups, extremities, current state,
 * memberships, positions in the delivery stream, transaction ids, and the queues to other servers. Has no effects
 * besides, so that it may run twice.
 * @param now Unix time
 */
export async function writeDraft(
  tx: Transaction,
  draft: RoomDraft,
  services: CommitServices,
  now: Millis,
): Promise<Committed> {
  const writer = new DraftWriter(tx, draft, services, await ensureRoom(tx, draft.room, draft.version.id));
  for (const entry of draft.entries) await writer.write(entry, now);
  await writer.finish();
  return writer.committed;
}

class DraftWriter {
  readonly committed: Committed = {
    position: null,
    isMembersChanged: false,
    positions: new Map(),
    users: new Set(),
    written: new Map(),
    changed: new Set(),
  };
  readonly #tx: Transaction;
  readonly #draft: RoomDraft;
  readonly #services: CommitServices;
  /** The room's row. */
  readonly #row: number;
  #current: RoomState;

  constructor(tx: Transaction, draft: RoomDraft, services: CommitServices, row: number) {
    this.#tx = tx;
    this.#draft = draft;
    this.#services = services;
    this.#row = row;
    this.#current = draft.committed.current;
  }

  async write(entry: DraftEntry, now: Millis): Promise<void> {
    const tx = this.#tx;
    const { event } = entry;
    const changes = entry.current.changesSince(this.#current);
    const shown = entry.status === 'timeline' && !entry.isHistoric;
    const position = shown || changes.size > 0 ? await this.#takePosition() : null;

    const redacted = entry.redactedBy !== null;
    const stored = redacted ? redactedCopy(event, this.#draft.version) : event;
    const row = await putEvent(tx, this.#row, stored, entry.redactedBy);
    await placeEvent(tx, row, {
      status: entry.status,
      rejectedBy: entry.rejectedBy,
      stateBefore: await this.#groupOf(entry.before),
      stateAfter: await this.#groupOf(entry.after),
      position: shown ? position : null,
    });
    if (entry.after !== null && entry.origin === 'received') {
      await noteExtremities(tx, this.#row, { row, event, depth: depthOf(event.pdu) });
    }
    this.committed.changed.add(event.id);
    if (shown) this.committed.positions.set(event.id, position!);
    await this.#applyRedactions(entry, row);

    const serversBefore = entry.origin === 'received' ? [] : await joinedServers(tx, this.#draft.room);
    if (changes.size > 0) {
      await changeCurrentState(tx, this.#row, position!, changes);
      await this.#changeMemberships(changes, position!);
      this.#current = entry.current;
    }
    if (entry.transaction !== null) await putTransaction(tx, entry.transaction, event.id, now);
    if (entry.origin !== 'received') await this.#queue(entry, serversBefore, changes);
  }

  /** Writes what the draft comes to as a whole. */
  async finish(): Promise<void> {
    const before = this.#draft.committed.extremities;
    const after = new Set(this.#draft.extremities.map(({ id }) => id));
    await changeExtremities(this.#tx, this.#row, {
      added: [...after].filter((id) => !before.has(id)),
      removed: [...before].filter((id) => !after.has(id)),
    });
    const currentGroup = (await this.#groupOf(this.#draft.current))!;
    await placeRoom(this.#tx, this.#row, { currentGroup, joinedDepth: this.#draft.joinedDepth });
  }

  async #takePosition(): Promise<number> {
    this.committed.position = await nextPosition(this.#tx);
    return this.committed.position;
  }

  async #groupOf(state: RoomState | null): Promise<number | null> {
    if (state === null) return null;
    return this.#services.states.write(this.#tx, this.#row, state, this.committed.written);
  }

  async #applyRedactions({ event, redaction, shows }: DraftEntry, row: number): Promise<void> {
    if (redaction !== null) {
      await putRedaction(this.#tx, { row, redacts: redaction.redacts, byPower: redaction.byPower });
      if (redaction.applied !== null) {
        await putRedacted(this.#tx, redaction.applied, event.id);
        this.committed.changed.add(redaction.redacts);
      }
    }
    for (const id of shows) {
      await showWithheld(this.#tx, id, await this.#takePosition());
      this.committed.changed.add(id);
    }
  }

  async #changeMemberships(
    changes: ReadonlyMap<StateKey, EventId | undefined>,
    position: number,
  ): Promise<void> {
    const members = [...changes].filter(([place]) => splitStateKey(place).type === 'm.room.member');
    const ids = members.flatMap(([, id]) => (id === undefined ? [] : [id]));
    const events = new Map((await eventsById(this.#tx, ids)).map(({ event }) => [event.id, event]));
    for (const [place, id] of members) {
      const user = parseUserId(splitStateKey(place).key);
      // Rule 5.4 lets an invite name anything.
      if (!user.ok) continue;
      await this.#changeMembership(user.value, id === undefined ? undefined : events.get(id)!, position);
    }
  }

  async #changeMembership(user: UserId, event: Event | undefined, position: number): Promise<void> {
    const { room } = this.#draft;
    this.committed.isMembersChanged = true;
    const server = serverOf(user);
    const local = server === this.#services.serverName;
    if (local) this.committed.users.add(user);
    if (event !== undefined) {
      const membership = event.pdu.content.membership as Membership;
      await putMembership(this.#tx, { room, user, server, membership, eventId: event.id, position });
      return;
    }
    // A local user has to learn that resolution took them out.
    const last = local ? await membershipOf(this.#tx, room, user) : undefined;
    if (last === undefined) await dropMembership(this.#tx, room, user);
    else
      await putMembership(this.#tx, {
        room,
        user,
        server,
        membership: 'leave',
        eventId: last.eventId,
        position,
      });
  }

  /**
   * Queues an event for the servers that are in the room before or after it, and for the server of somebody who is
   * put out of the room or disinvited, which may not be in it.
   */
  async #queue(
    { event, origin }: DraftEntry,
    serversBefore: readonly ServerName[],
    changes: ReadonlyMap<StateKey, EventId | undefined>,
  ): Promise<void> {
    const destinations = new Set(serversBefore);
    if (changes.size > 0) {
      for (const server of await joinedServers(this.#tx, this.#draft.room)) destinations.add(server);
    }
    const { type, content, state_key: target, sender } = event.pdu;
    if (type === 'm.room.member' && (content.membership === 'leave' || content.membership === 'ban')) {
      const user = parseUserId(target ?? '');
      if (user.ok) destinations.add(serverOf(user.value));
    }
    destinations.delete(this.#services.serverName);
    if (origin === 'relayed') destinations.delete(serverOf(sender));
    if (destinations.size > 0) await this.#services.outbox.enqueue(this.#tx, event, destinations);
  }
}

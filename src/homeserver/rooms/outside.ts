import type { Clock } from '../../base/time.ts';
import { MatrixError } from '../../matrix/error.ts';
import { MAX_DEPTH } from '../../matrix/event_format.ts';
import { type EventId, type ServerName, serverOf, type UserId } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { authEvents as authEventIds, depthOf, type Event } from '../../matrix/pdu.ts';
import { DEFAULT_ROOM_VERSION, type RoomVersion, roomVersion } from '../../matrix/room_version.ts';
import type { Database } from '../../storage/database.ts';
import { type Membership, membershipOf, putMembership } from '../../storage/memberships.ts';
import { nextPosition } from '../../storage/stream.ts';
import type { Notifier } from '../notifier.ts';
import { type Done, notNoted } from '../once.ts';
import type { RemoteRooms } from '../ports.ts';
import type { Notifications } from '../push/notifications.ts';
import type { EventBuilder } from './event_builder.ts';

/** What local users are in rooms that this server is not in: invited, and then left. */
export class OutsideMemberships {
  readonly #database: Database;
  readonly #notifier: Pick<Notifier, 'published'>;
  readonly #remote: RemoteRooms;
  readonly #builder: EventBuilder;
  readonly #clock: Clock;
  readonly #serverName: ServerName;
  readonly #notifications: Pick<Notifications, 'invited' | 'left'> | undefined;

  constructor(options: {
    readonly database: Database;
    readonly notifier: Pick<Notifier, 'published'>;
    readonly remote: RemoteRooms;
    readonly builder: EventBuilder;
    readonly clock: Clock;
    readonly serverName: ServerName;
    readonly notifications?: Pick<Notifications, 'invited' | 'left'> | undefined;
  }) {
    this.#database = options.database;
    this.#notifier = options.notifier;
    this.#remote = options.remote;
    this.#builder = options.builder;
    this.#clock = options.clock;
    this.#serverName = options.serverName;
    this.#notifications = options.notifications;
  }

  /** Records a member event of a local user. The caller holds the room's lock. */
  async record(
    event: Event,
    user: UserId,
    inviteState: readonly JsonObject[] | null,
    done: Done<EventId> = notNoted,
  ): Promise<void> {
    const membership = event.pdu.content.membership as Membership;
    await this.#database.transaction(async (tx) => {
      const position = await nextPosition(tx);
      await putMembership(tx, {
        room: event.room,
        user,
        server: this.#serverName,
        membership,
        eventId: event.id,
        position,
        outside: { event, inviteState },
      });
      if (membership === 'invite')
        await this.#notifications?.invited(tx, user, { event, position }, this.#clock.wall());
      else await this.#notifications?.left(tx, user, event.room);
      await done(tx, event.id);
      tx.afterCommit(() => this.#notifier.published(position, [], [user]));
    });
  }

  /**
   * Makes the leave event with which a local user rejects an invite or takes a knock back: through one of `via`, or where
   * none of them answers, one that only this server knows of.
   */
  async leaveEvent(invite: Event, via: readonly ServerName[], user: UserId): Promise<Event> {
    try {
      return await this.#remote.leave({ room: invite.room, user, via });
    } catch (error) {
      if (!(error instanceof MatrixError)) throw error;
      // The user has decided; the other servers hear of it, if at all, from a later event.
      return this.#localLeave(invite, user);
    }
  }

  /**
   * Takes the news from a server in the room that a local user's invite no longer holds, or that a knock is turned down. It
   * cannot be authorised, this server having no state; so it is taken only about that very invite and from the inviter's
   * server, or about that very knock, whose id nobody knows who is not in the room.
   * @returns whether it was taken
   */
  async retract(event: Event): Promise<boolean> {
    const { type, sender, state_key: target, content } = event.pdu;
    if (type !== 'm.room.member' || target === undefined) return false;
    if (content.membership !== 'leave' && content.membership !== 'ban') return false;
    const row = await membershipOf(this.#database, event.room, target as UserId);
    if (row?.event == null || serverOf(row.userId) !== this.#serverName) return false;
    if (row.membership !== 'invite' && row.membership !== 'knock') return false;
    if (!authEventIds(event.pdu).includes(row.eventId)) return false;
    if (row.membership === 'invite' && serverOf(sender) !== serverOf(row.event.pdu.sender)) return false;
    await this.record(event, row.userId, null);
    return true;
  }

  #localLeave(invite: Event, user: UserId): Event {
    const version = roomVersion(DEFAULT_ROOM_VERSION) as RoomVersion;
    return this.#builder.sign(
      {
        type: 'm.room.member',
        sender: user,
        state_key: user,
        room_id: invite.room,
        content: { membership: 'leave' },
        origin_server_ts: this.#clock.wall(),
        depth: Math.min(MAX_DEPTH, depthOf(invite.pdu) + 1),
        prev_events: [invite.id],
        auth_events: [invite.id],
      },
      version,
    );
  }
}

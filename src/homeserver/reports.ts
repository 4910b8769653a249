import type { Clock } from '../base/time.ts';
import { notFound } from '../matrix/error.ts';
import type { EventId, RoomId, ServerName, UserId } from '../matrix/ids.ts';
import { serverOf } from '../matrix/ids.ts';
import type { Database } from '../storage/database.ts';
import { membershipOf } from '../storage/memberships.ts';
import { putReport, type Report, trimReports } from '../storage/reports.ts';
import { findRoom } from '../storage/rooms.ts';
import type { Requester } from './accounts.ts';
import type { Messages } from './messages.ts';
import type { Done } from './once.ts';
import type { UserLimit } from './user_limits.ts';

/** Reports that are kept of one user; of more, the oldest go. */
const MAX_REPORTS_OF_USER = 500;

/** What users tell the operator about content (client-server API, "Reporting Content"). */
export class Reports {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #serverName: ServerName;
  readonly #messages: Pick<Messages, 'event'>;
  readonly #localUserExists: (user: UserId) => Promise<boolean>;
  readonly #limit: UserLimit;

  constructor(options: {
    readonly database: Database;
    readonly clock: Clock;
    readonly serverName: ServerName;
    readonly messages: Pick<Messages, 'event'>;
    readonly localUserExists: (user: UserId) => Promise<boolean>;
    readonly limit: UserLimit;
  }) {
    this.#database = options.database;
    this.#clock = options.clock;
    this.#serverName = options.serverName;
    this.#messages = options.messages;
    this.#localUserExists = options.localUserExists;
    this.#limit = options.limit;
  }

  /**
   * Reports an event of a room that the user is in.
   * @throws MatrixError M_NOT_FOUND where the user is not joined, or cannot see such an event; M_LIMIT_EXCEEDED
   */
  async event(
    requester: Requester,
    at: { readonly room: RoomId; readonly event: EventId },
    reason: string,
    done: Done<void>,
  ): Promise<void> {
    const { user } = requester;
    this.#limit('reports', user);
    const row = await membershipOf(this.#database, at.room, user);
    if (row?.membership !== 'join') throw notFound('There is no such event, or you are not in the room');
    await this.#messages.event(requester, at.room, at.event);
    await this.#store(
      { kind: 'event', reporter: user, room: at.room, eventId: at.event, userId: null, reason },
      done,
    );
  }

  /** Reports a room, whether or not the user is in it. @throws MatrixError M_NOT_FOUND, M_LIMIT_EXCEEDED */
  async room(reporter: UserId, room: RoomId, reason: string, done: Done<void>): Promise<void> {
    this.#limit('reports', reporter);
    const isKnown =
      (await findRoom(this.#database, room)) !== undefined ||
      (await membershipOf(this.#database, room, reporter)) !== undefined;
    if (!isKnown) throw notFound('The room was not found');
    await this.#store({ kind: 'room', reporter, room, eventId: null, userId: null, reason }, done);
  }

  /**
   * Reports a user. Of users of other servers it cannot be told here whether they exist.
   * @throws MatrixError M_NOT_FOUND, M_LIMIT_EXCEEDED
   */
  async user(reporter: UserId, userId: UserId, reason: string, done: Done<void>): Promise<void> {
    this.#limit('reports', reporter);
    const isOurs = serverOf(userId) === this.#serverName;
    if (isOurs && !(await this.#localUserExists(userId))) throw notFound('The user was not found');
    await this.#store({ kind: 'user', reporter, room: null, eventId: null, userId, reason }, done);
  }

  #store(report: Report, done: Done<void>): Promise<void> {
    return this.#database.transaction(async (tx) => {
      await putReport(tx, report, this.#clock.wall());
      await trimReports(tx, report.reporter, MAX_REPORTS_OF_USER);
      await done(tx);
    });
  }
}

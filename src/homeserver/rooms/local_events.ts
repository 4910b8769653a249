import { forbidden } from '../../matrix/error.ts';
import type { EventId, RoomId } from '../../matrix/ids.ts';
import type { Reader } from '../../storage/database.ts';
import { isServerJoined } from '../../storage/memberships.ts';
import type { ClientTransaction } from '../../storage/transactions.ts';
import { type Done, notNoted } from '../once.ts';
import type { EventBuilder, EventIntent } from './event_builder.ts';
import type { RoomDraft } from './room_draft.ts';
import type { RoomWriter } from './room_writer.ts';
import { ACCEPTED } from './verdict.ts';

/** What a local user is told of a room that this server does not have. */
export const notInRoom = () => forbidden('You are not in this room');

/** Stores events of local users at the end of their rooms. */
export class LocalEvents {
  readonly #db: Reader;
  readonly #writer: RoomWriter;
  readonly #builder: EventBuilder;

  constructor(db: Reader, writer: RoomWriter, builder: EventBuilder) {
    this.#db = db;
    this.#writer = writer;
    this.#builder = builder;
  }

  /**
   * Runs `decide` on a room under its lock, and sends what it answers, if anything.
   * @returns the event's id, or what `decide` answers instead of something to send
   * @param done told of the event's id where something is sent
   * @throws MatrixError M_FORBIDDEN where the room is not known or does not allow the event
   */
  async append(
    room: RoomId,
    decide: (draft: RoomDraft) => Promise<EventIntent | EventId>,
    { transaction, done = notNoted }: { transaction?: ClientTransaction; done?: Done<EventId> } = {},
  ): Promise<EventId> {
    return this.#writer.locked(room, async () => {
      const draft = await this.#writer.open(room);
      if (draft === undefined) throw notInRoom();
      const intent = await decide(draft);
      if (typeof intent === 'string') return intent;
      if (!(await this.#mayAppend(room, intent))) throw notInRoom();
      const id = await this.add(draft, intent, transaction);
      await this.#writer.commit(draft, (tx) => done(tx, id));
      return id;
    });
  }

  /** A copy of a room that this server is not in any more is no place to come in by: only invites are rejected there. */
  async #mayAppend(room: RoomId, { type, content }: EventIntent): Promise<boolean> {
    if (type === 'm.room.member' && content.membership === 'leave') return true;
    return isServerJoined(this.#db, room, this.#builder.serverName);
  }

  /** Adds an event to a draft. @throws MatrixError as `EventBuilder.build` */
  async add(draft: RoomDraft, intent: EventIntent, transaction?: ClientTransaction): Promise<EventId> {
    const { event, before } = await this.#builder.build(draft, intent);
    await draft.add(event, before, ACCEPTED, { origin: 'own', transaction });
    return event.id;
  }
}

import { canonicalJson } from '../../matrix/canonical_json.ts';
import { badJson, forbidden, MatrixError, notFound } from '../../matrix/error.ts';
import type { DeviceId, EventId, RoomId, UserId } from '../../matrix/ids.ts';
import { parseEventId } from '../../matrix/ids.ts';
import { type JsonObject, own } from '../../matrix/json.ts';
import { relationOf } from '../../matrix/relation.ts';
import type { Database } from '../../storage/database.ts';
import { hasAnnotated } from '../../storage/relations.ts';
import { type ClientTransaction, eventOfTransaction } from '../../storage/transactions.ts';
import { type Done, notNoted } from '../once.ts';
import type { UserLimit } from '../user_limits.ts';
import type { EventIntent } from './event_builder.ts';
import type { LocalEvents } from './local_events.ts';
import { hasRedactPower } from './redactions.ts';
import type { RoomDraft } from './room_draft.ts';
import type { RoomWriter } from './room_writer.ts';

/** A device and what its request is told apart by from others that it makes. */
export interface SendingDevice {
  readonly user: UserId;
  readonly device: DeviceId;
  readonly txnId: string;
}

/** How many sends may be in progress at once. */
const MAX_IN_PROGRESS = 10_000;
/** What a client is told to wait where that many are. */
const RETRY_AFTER_MS = 2_000;

/** Messages, state and redactions that local users send. Repeated requests make one event. */
export class Sending {
  readonly #database: Database;
  readonly #writer: RoomWriter;
  readonly #local: LocalEvents;
  readonly #limit: UserLimit;
  /** By transaction: a request that is repeated while the first is in progress gets the first one's answer. */
  readonly #inProgress = new Map<string, Promise<EventId>>();

  constructor(database: Database, writer: RoomWriter, local: LocalEvents, limit: UserLimit) {
    this.#database = database;
    this.#writer = writer;
    this.#local = local;
    this.#limit = limit;
  }

  /**
   * Sends a message event.
   * @throws MatrixError M_FORBIDDEN, M_BAD_JSON, M_TOO_LARGE, M_LIMIT_EXCEEDED, M_UNKNOWN where no thread can be there,
   * M_DUPLICATE_ANNOTATION
   */
  send(room: RoomId, type: string, content: JsonObject, from: SendingDevice): Promise<EventId> {
    const transaction = { ...from, scope: `rooms/${room}/send/${type}` };
    return this.#once(transaction, () =>
      this.#local.append(room, (draft) => this.#message(draft, from.user, type, content), { transaction }),
    );
  }

  /**
   * Sends a message event for which there is no transaction of a device.
   * @param done keeps it from being sent again
   * @throws MatrixError as `send`
   */
  async sendOnce(
    room: RoomId,
    sender: UserId,
    type: string,
    content: JsonObject,
    done: Done<EventId>,
  ): Promise<EventId> {
    this.#limit('sends', sender);
    return this.#local.append(room, (draft) => this.#message(draft, sender, type, content), { done });
  }

  async #message(draft: RoomDraft, sender: UserId, type: string, content: JsonObject): Promise<EventIntent> {
    if (type === 'm.room.redaction') await this.#checkRedaction(draft, sender, content.redacts);
    await this.#checkThread(draft, content);
    await this.#checkAnnotation(draft, sender, type, content);
    return { type, sender, content };
  }

  /** Redacts an event. @throws MatrixError M_FORBIDDEN, and M_NOT_FOUND where the event is not known */
  redact(room: RoomId, redacts: EventId, reason: string | undefined, from: SendingDevice): Promise<EventId> {
    const transaction = { ...from, scope: `rooms/${room}/redact/${redacts}` };
    const content = { redacts, ...(reason === undefined ? {} : { reason }) };
    return this.#once(transaction, () =>
      this.#local.append(
        room,
        async (draft) => {
          await this.#checkRedaction(draft, from.user, redacts);
          return { type: 'm.room.redaction', sender: from.user, content };
        },
        { transaction },
      ),
    );
  }

  /**
   * Sets a state event; where the same user has set just that content already, nothing is sent.
   * @param done told of the event's id where it is sent
   * @throws MatrixError M_FORBIDDEN, M_BAD_JSON, M_TOO_LARGE, M_LIMIT_EXCEEDED
   */
  setState(
    room: RoomId,
    sender: UserId,
    type: string,
    stateKey: string,
    content: JsonObject,
    done: Done<EventId> = notNoted,
  ): Promise<EventId> {
    const decide = async (draft: RoomDraft): Promise<EventIntent | EventId> => {
      const current = await draft.currentEvent(type, stateKey);
      if (current?.pdu.sender === sender && sameJson(current.pdu.content, content)) return current.id;
      this.#limit('sends', sender);
      return { type, sender, stateKey, content };
    };
    return this.#local.append(room, decide, { done });
  }

  async #once(transaction: ClientTransaction, send: () => Promise<EventId>): Promise<EventId> {
    const { user, device, scope, txnId } = transaction;
    const key = JSON.stringify([user, device, scope, txnId]);
    const running = this.#inProgress.get(key);
    if (running !== undefined) return running;
    if (this.#inProgress.size >= MAX_IN_PROGRESS) {
      throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'Too many events are being sent', {
        retry_after_ms: RETRY_AFTER_MS,
      });
    }
    const sent = eventOfTransaction(this.#database, transaction)
      .then((done) => {
        if (done !== undefined) return done;
        this.#limit('sends', user);
        return send();
      })
      .finally(() => this.#inProgress.delete(key));
    this.#inProgress.set(key, sent);
    return sent;
  }

  /** Client-server API, "Validation of m.thread relationships": an event that itself relates to another is no root. */
  async #checkThread(draft: RoomDraft, content: JsonObject): Promise<void> {
    const relation = relationOf(content);
    if (relation?.type !== 'm.thread') return;
    const root = (await this.#writer.events.get(relation.parent))?.event;
    if (root?.room === draft.room && relationOf(root.pdu.content) !== undefined)
      throw new MatrixError(400, 'M_UNKNOWN', 'A thread cannot start from an event that relates to another');
  }

  /** Client-server API, "Avoiding duplicate annotations". */
  async #checkAnnotation(draft: RoomDraft, sender: UserId, type: string, content: JsonObject): Promise<void> {
    const relation = relationOf(content);
    if (relation?.type !== 'm.annotation') return;
    const key = own(content['m.relates_to'] as JsonObject, 'key');
    if (typeof key !== 'string') return;
    if (await hasAnnotated(this.#database, draft.room, { parent: relation.parent, sender, type, key }))
      throw new MatrixError(400, 'M_DUPLICATE_ANNOTATION', 'You have annotated that event so already');
  }

  /** A server lets through what another may apply (rooms/v12, "Handling redactions"); our users get to do what they may. */
  async #checkRedaction(draft: RoomDraft, sender: UserId, redacts: unknown): Promise<void> {
    const id = typeof redacts === 'string' ? parseEventId(redacts) : undefined;
    if (!id?.ok) throw badJson('content.redacts is not an event id');
    if (await hasRedactPower(draft, sender, draft.current)) return;
    const target = await this.#writer.events.get(id.value);
    if (target === undefined || target.event.room !== draft.room) throw notFound('There is no such event');
    if (target.event.pdu.sender !== sender) throw forbidden('You may not redact what others have sent');
  }
}

/** Whether two contents are the same, in whatever order their keys are. */
export function sameJson(a: JsonObject, b: JsonObject): boolean {
  const [left, right] = [canonicalJson(a, 'any'), canonicalJson(b, 'any')];
  return left.ok && right.ok && left.value === right.value;
}

import { utf8 } from '../base/bytes.ts';
import { badJson, invalidParam, MatrixError, notFound } from '../matrix/error.ts';
import type { RoomId, UserId } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, own } from '../matrix/json.ts';
import {
  type AccountDataPlace,
  countAccountData,
  findAccountData,
  GLOBAL,
  putAccountData,
} from '../storage/account_data.ts';
import type { Database, Transaction } from '../storage/database.ts';
import type { Notifier } from './notifier.ts';
import { type Done, notNoted } from './once.ts';
import { PUSH_RULES, pushRulesContent } from './push/push_rules.ts';
import type { Recipients } from './push/recipients.ts';

/** Client-server API, "Room Tagging": bytes of a tag's name. */
const MAX_TAG_BYTES = 255;
/** Client-server API, "Client Config", "Server Behaviour": what the server manages itself. */
const MANAGED: ReadonlySet<string> = new Set(['m.fully_read', PUSH_RULES]);

// Ours.
/** As of an event's type. */
const MAX_TYPE_BYTES = 255;
/** Of the JSON text of one entry. */
const MAX_CONTENT_LENGTH = 256 * 1024;
/** Of one user, in all rooms and in none. */
const MAX_ENTRIES = 20_000;

const TAGS = 'm.tag';

/** Data that clients keep for their user, global and by room, and the tags of rooms (client-server API, "Client Config", "Room Tagging"). */
export class AccountData {
  readonly #database: Database;
  readonly #notifier: Pick<Notifier, 'published'>;
  readonly #recipients: Pick<Recipients, 'changed'> | undefined;

  constructor(of: {
    readonly database: Database;
    readonly notifier: Pick<Notifier, 'published'>;
    readonly recipients?: Pick<Recipients, 'changed'>;
  }) {
    this.#database = of.database;
    this.#notifier = of.notifier;
    this.#recipients = of.recipients;
  }

  /** @param room undefined: what belongs to no room. @throws MatrixError M_NOT_FOUND */
  async get(user: UserId, room: RoomId | undefined, type: string): Promise<JsonObject> {
    const text = await findAccountData(this.#database, { user, room: room ?? GLOBAL, type });
    if (room === undefined && type === PUSH_RULES) return pushRulesContent(user, text);
    if (text === undefined) throw notFound('There is no account data of this type.');
    return JSON.parse(text) as JsonObject;
  }

  /**
   * Sets what a client wants to keep.
   * @param room undefined: what belongs to no room
   * @throws MatrixError 405 M_BAD_JSON for what the server manages itself, M_INVALID_PARAM, M_TOO_LARGE
   */
  async put(
    user: UserId,
    { room, type }: { readonly room: RoomId | undefined; readonly type: string },
    content: JsonObject,
    done: Done<void> = notNoted,
  ): Promise<void> {
    if (MANAGED.has(type))
      throw new MatrixError(405, 'M_BAD_JSON', `${type} cannot be set through this operation.`);
    if (type === '' || utf8(type).length > MAX_TYPE_BYTES)
      throw invalidParam(`A type has 1 to ${MAX_TYPE_BYTES} bytes.`);
    await this.#change({ user, room: room ?? GLOBAL, type }, () => content, done);
  }

  async tags(user: UserId, room: RoomId): Promise<JsonObject> {
    const text = await findAccountData(this.#database, { user, room, type: TAGS });
    return text === undefined ? {} : tagsIn(text);
  }

  /** @param content such as `order`. @throws MatrixError M_INVALID_PARAM, M_TOO_LARGE */
  async putTag(
    user: UserId,
    room: RoomId,
    tag: string,
    content: JsonObject,
    done: Done<void> = notNoted,
  ): Promise<void> {
    const { length } = utf8(tag);
    if (length === 0 || length > MAX_TAG_BYTES)
      throw invalidParam(`The name of a tag has 1 to ${MAX_TAG_BYTES} bytes.`);
    await this.#change({ user, room, type: TAGS }, (text) => withTag(text, tag, content), done);
  }

  async deleteTag(user: UserId, room: RoomId, tag: string, done: Done<void> = notNoted): Promise<void> {
    const without = (text: string | undefined): JsonObject | undefined => {
      const { [tag]: removed, ...others } = text === undefined ? {} : tagsIn(text);
      return removed === undefined ? undefined : { tags: others };
    };
    await this.#change({ user, room, type: TAGS }, without, done);
  }

  /** Stores the fully read marker, as part of a transaction. @returns the position at which it is told, where it changed */
  putFullyRead(tx: Transaction, user: UserId, room: RoomId, event: string): Promise<number | undefined> {
    return putAccountData(tx, { user, room, type: 'm.fully_read' }, JSON.stringify({ event_id: event }));
  }

  /** @param make what is stored in the place of what was; undefined: it stays */
  async #change(
    place: AccountDataPlace,
    make: (before: string | undefined) => JsonObject | undefined,
    done: Done<void>,
  ): Promise<void> {
    await this.#database.transaction(async (tx) => {
      const before = await findAccountData(tx, place);
      const content = make(before);
      const text = content === undefined ? before : JSON.stringify(content);
      if (text !== undefined && text.length > MAX_CONTENT_LENGTH) throw tooLarge('The data is too large.');
      if (before === undefined && (await countAccountData(tx, place.user)) >= MAX_ENTRIES)
        throw tooLarge('There is no room for more account data.');
      const position = text === undefined ? undefined : await putAccountData(tx, place, text);
      await done(tx);
      // Whom they ignore is part of it.
      if (position !== undefined && place.room === GLOBAL) this.#recipients?.changed(tx, place.user);
      if (position !== undefined) tx.afterCommit(() => this.#notifier.published(position, [], [place.user]));
    });
  }
}

const tooLarge = (message: string): MatrixError => new MatrixError(413, 'M_TOO_LARGE', message);

/** Clients may have stored anything under the type of tags. */
function tagsIn(text: string): JsonObject {
  const tags = own(JSON.parse(text) as JsonObject, 'tags');
  return isJsonObject(tags) ? tags : {};
}

function withTag(text: string | undefined, tag: string, content: JsonObject): JsonObject {
  if (tag === '__proto__') throw badJson('That is no name for a tag.');
  return { tags: { ...(text === undefined ? {} : tagsIn(text)), [tag]: content } };
}

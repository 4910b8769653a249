import type { EventId } from '../matrix/ids.ts';
import { isJsonObject, own } from '../matrix/json.ts';
import type { Pdu } from '../matrix/pdu.ts';
import type { Reader, Transaction } from './database.ts';
import { EVENT_COLUMNS, type EventRow } from './sync.ts';

/** Characters of a text that are searched, words of a query, and results that are counted. */
const MAX_TEXT = 10_000;
const MAX_WORDS = 32;
const MAX_COUNTED = 1_000;

/** Scripts that are written without spaces: each character is a word. */
const UNSPACED =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Khmer}\p{Script=Lao}]/gu;
const WORDS = /[\p{L}\p{M}\p{N}\p{Co}]+/gu;

/** A column of the index: the key of an event's content that is searched (client-server API, "Server Side Search"). */
export type SearchKey = 'body' | 'name' | 'topic';

const KEY_OF: Readonly<Record<string, SearchKey>> = {
  'm.room.message': 'body',
  'm.room.name': 'name',
  'm.room.topic': 'topic',
};

/** Puts an event's text into the index, where it has one that is searched. */
export async function indexEvent(
  tx: Transaction,
  row: number,
  pdu: Pick<Pdu, 'type' | 'content'>,
): Promise<void> {
  const key = Object.hasOwn(KEY_OF, pdu.type) ? KEY_OF[pdu.type] : undefined;
  if (key === undefined) return;
  const text = own(pdu.content, key) ?? (key === 'topic' ? plainTopic(pdu) : undefined);
  if (typeof text !== 'string' || text === '') return;
  const words = spaced(text.slice(0, MAX_TEXT));
  await tx.run(`INSERT INTO event_search (rowid, ${key}) VALUES (?, ?)`, row, words);
}

/** A redacted event is found by nothing that it said. */
export async function unindexEvent(tx: Transaction, event: EventId): Promise<void> {
  await tx.run(
    `DELETE FROM event_search WHERE rowid = (
       SELECT id FROM events WHERE event_id = ? AND type IN ('m.room.message', 'm.room.name', 'm.room.topic'))`,
    event,
  );
}

/** The plain text of a topic that has only the newer form (m.room.topic, `m.topic`). */
function plainTopic({ content }: Pick<Pdu, 'content'>): unknown {
  const topic = own(content, 'm.topic');
  const texts = isJsonObject(topic) ? own(topic, 'm.text') : undefined;
  if (!Array.isArray(texts)) return undefined;
  const plain = texts.find(
    (each) => isJsonObject(each) && (own(each, 'mimetype') ?? 'text/plain') === 'text/plain',
  );
  return isJsonObject(plain) ? own(plain, 'body') : undefined;
}

const spaced = (text: string): string => text.replace(UNSPACED, ' $& ');

/** What is looked for: all words, each as it is, upper and lower case and accents apart. */
export interface SearchWords {
  /** As the user wrote them. */
  readonly words: readonly string[];
  /** As the index is asked. */
  readonly match: string;
}

/** The words of a search term; undefined where there is none. */
export function searchWords(term: string, keys: readonly SearchKey[]): SearchWords | undefined {
  const words = (term.slice(0, MAX_TEXT).match(WORDS) ?? []).slice(0, MAX_WORDS);
  // Quoted, nothing is an operator of the index; characters of one unspaced word have to follow each other.
  const quoted = words.map((word) => `"${spaced(word).trim()}"`);
  if (words.length === 0 || keys.length === 0) return undefined;
  return { words, match: `{${keys.join(' ')}} : (${quoted.join(' AND ')})` };
}

/** Where a page of results starts: behind the result of this order value and row. */
export interface SearchPoint {
  readonly order: number;
  readonly row: number;
}

export interface EventSearch {
  readonly match: string;
  /** Rows of rooms. */
  readonly rooms: readonly number[];
  readonly sender: string | null;
  /** 'rank': the smaller the better; 'recent': the time, as a negative number. */
  readonly by: 'rank' | 'recent';
  readonly after: SearchPoint | undefined;
  /** The stream's position at the first page: what came later is left out. */
  readonly upTo: number;
  readonly limit: number;
}

export type FoundRow = EventRow & {
  readonly room_id: string;
  readonly rank: number;
  readonly order_value: number;
};

const FOUND = `FROM event_search JOIN events e ON e.id = event_search.rowid JOIN rooms r ON r.id = e.room
  WHERE event_search MATCH ? AND e.status = 'timeline' AND e.room IN (SELECT value FROM json_each(?))
    AND e.sender = COALESCE(?, e.sender) AND COALESCE(e.position, 0) <= ?`;

/** Events that hold all words, the best or the latest first. */
export function findEvents(reader: Reader, search: EventSearch): Promise<FoundRow[]> {
  const { match, rooms, sender, by, after, upTo, limit } = search;
  const order = by === 'rank' ? 'event_search.rank' : '-e.origin_server_ts';
  return reader.all<FoundRow>(
    `SELECT * FROM (
       SELECT ${EVENT_COLUMNS}, r.room_id, event_search.rank AS rank, ${order} AS order_value ${FOUND}
     ) WHERE (order_value, -id) > (?, ?) ORDER BY order_value, id DESC LIMIT ?`,
    ...[match, JSON.stringify(rooms), sender, upTo],
    ...[after?.order ?? -Number.MAX_VALUE, -(after?.row ?? Number.MAX_SAFE_INTEGER), limit],
  );
}

/** How many events hold all words, counted up to a bound; who may see them apart. */
export async function countEvents(reader: Reader, search: EventSearch): Promise<number> {
  const row = await reader.get<{ n: number }>(
    `SELECT COUNT(*) AS n FROM (SELECT 1 ${FOUND} LIMIT ${MAX_COUNTED})`,
    ...[search.match, JSON.stringify(search.rooms), search.sender, search.upTo],
  );
  return row?.n ?? 0;
}

/** The rooms that a user is in or was in and has not forgotten, without those whose messages are encrypted. */
export async function searchableRooms(
  reader: Reader,
  user: string,
): Promise<readonly { readonly row: number; readonly roomId: string }[]> {
  return reader.all(
    `SELECT r.id AS row, r.room_id AS "roomId" FROM memberships m JOIN rooms r ON r.room_id = m.room
     WHERE m.user_id = ? AND m.forgotten = 0 AND m.membership IN ('join', 'leave', 'ban') AND NOT EXISTS (
       SELECT 1 FROM current_state c JOIN places p ON p.id = c.place
       WHERE c.room = r.id AND p.type = 'm.room.encryption' AND p.state_key = '')`,
    user,
  );
}

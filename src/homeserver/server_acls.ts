import type { RoomId, ServerName } from '../matrix/ids.ts';
import { type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import type { Reader } from '../storage/database.ts';
import { roomRow, stateEntry } from '../storage/sync.ts';
import { contentOf } from './sync/membership.ts';

const PORT = /:[0-9]{1,5}$/;
const IP_LITERAL = /^(?:\[.*\]|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+)$/;
const NOW = { after: 0, upTo: Number.MAX_SAFE_INTEGER };

/** Whether the current state of a room lets a server take part in it (server-server API, "Server Access Control Lists"). */
export async function isServerAllowed(reader: Reader, room: RoomId, server: ServerName): Promise<boolean> {
  const row = await roomRow(reader, room);
  const event = row && (await stateEntry(reader, row.id, { type: 'm.room.server_acl', key: '' }, NOW));
  return event === undefined || allowsServer(contentOf(event.json), server);
}

/** Whether the content of an m.room.server_acl event lets a server take part (client-server API, `m.room.server_acl`). */
export function allowsServer(content: JsonObject, server: ServerName): boolean {
  const host = server.replace(PORT, '').toLowerCase();
  if (own(content, 'allow_ip_literals') === false && IP_LITERAL.test(host)) return false;
  return !isListed(own(content, 'deny'), host) && isListed(own(content, 'allow'), host);
}

const isListed = (list: JsonValue | undefined, host: string): boolean =>
  Array.isArray(list) && list.some((glob) => typeof glob === 'string' && fits(glob.toLowerCase(), host));

/** Appendices, "Glob-style matching", in at most as many steps as the product of the lengths. */
function fits(glob: string, text: string): boolean {
  let [at, from] = [0, 0];
  // After the last star: the glob goes on at `resume`, having taken the text before `taken`.
  let [resume, taken] = [-1, 0];
  while (from < text.length) {
    const sign = glob[at];
    if (sign === '*') {
      resume = ++at;
      taken = from;
    } else if (sign === '?' || sign === text[from]) {
      at++;
      from++;
    } else if (resume >= 0) {
      at = resume;
      from = ++taken;
    } else return false;
  }
  while (glob[at] === '*') at++;
  return at === glob.length;
}

import { invalidParam, MatrixError } from '../../matrix/error.ts';
import { parseRoomAlias, type RoomAlias, type RoomId } from '../../matrix/ids.ts';
import { type JsonObject, own } from '../../matrix/json.ts';
import type { ResolvedAlias } from '../ports.ts';

/** Aliases that one event may add: each may cost a request to another server. */
const MAX_ADDED = 50;

/**
 * Checks that the aliases which an m.room.canonical_alias event would add lead to its room (client-server API, PUT
 * /rooms/{roomId}/state).
 * @param before the content of the event that it replaces
 * @throws MatrixError M_INVALID_PARAM, M_BAD_ALIAS
 */
export async function checkCanonicalAlias(
  content: JsonObject,
  before: JsonObject,
  room: RoomId,
  resolve: (alias: RoomAlias) => Promise<ResolvedAlias>,
): Promise<void> {
  const known = new Set(aliasesIn(before).filter((alias) => typeof alias === 'string'));
  const added = new Set(aliasesIn(content).filter((alias) => typeof alias !== 'string' || !known.has(alias)));
  if (added.size > MAX_ADDED) throw invalidParam(`More than ${MAX_ADDED} aliases are added at a time.`);
  for (const text of added) {
    const alias = typeof text === 'string' ? parseRoomAlias(text) : undefined;
    if (!alias?.ok) throw invalidParam('One of the aliases is not a room alias.');
    const resolved = await resolve(alias.value).catch((error: unknown) => {
      if (error instanceof MatrixError) return undefined;
      throw error;
    });
    if (resolved?.room !== room) {
      throw new MatrixError(400, 'M_BAD_ALIAS', `The alias ${alias.value} does not lead to this room`);
    }
  }
}

/** What stands where the event has aliases; an empty or absent `alias` says that there is none. */
function aliasesIn(content: JsonObject): unknown[] {
  const alias = own(content, 'alias') ?? '';
  const others = own(content, 'alt_aliases') ?? [];
  if (!Array.isArray(others)) throw invalidParam('alt_aliases is not a list.');
  return [...(alias === '' ? [] : [alias]), ...others];
}

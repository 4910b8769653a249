import type { JsonObject } from '../../matrix/json.ts';
import type { Reader } from '../../storage/database.ts';
import { fallbackAlgorithms, hasKeyClaim } from '../../storage/end_to_end_keys.ts';
import type { SyncRoomRow } from '../../storage/sync.ts';
import type { Requester } from '../accounts.ts';
import { deviceListChanges } from '../keys/device_list_changes.ts';
import { keyCounts } from '../keys/local_keys.ts';

/** What an answer tells of keys. */
export interface KeySections {
  readonly sections: JsonObject;
  /** Whether that is worth an answer: whose keys have changed, or that the device's own have become fewer. */
  readonly isNews: boolean;
}

/**
 * Whose keys a client has to ask for again, and what the server has left of the device's own (client-server API, "E2E extensions
 * to /sync").
 * @param request.since undefined on a first sync: nothing has changed
 */
export async function loadKeys(
  reader: Reader,
  rooms: readonly SyncRoomRow[],
  {
    requester: { user, device },
    since,
    now,
  }: { readonly requester: Requester; readonly since: number | undefined; readonly now: number },
): Promise<KeySections> {
  const isFirst = since === undefined;
  const { changed, left } = isFirst
    ? { changed: [], left: [] }
    : await deviceListChanges(reader, rooms, { viewer: user, after: since, upTo: now });
  const hasFewer = !isFirst && (await hasKeyClaim(reader, user, device, since));
  return {
    sections: {
      ...(!isFirst && { device_lists: { changed: [...changed], left: [...left] } }),
      device_one_time_keys_count: { ...(await keyCounts(reader, user, device)) },
      device_unused_fallback_key_types: await fallbackAlgorithms(reader, user, device, 'unused'),
    },
    isNews: hasFewer || changed.length > 0 || left.length > 0,
  };
}

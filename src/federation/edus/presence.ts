import type { Millis } from '../../base/time.ts';
import type { PresenceToTell } from '../../homeserver/ports.ts';
import type { ReceivedPresence } from '../../homeserver/presence.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import { userOf } from './parts.ts';

// Server-server API, "Presence".

export const PRESENCE = 'm.presence';

/** The EDU that tells what users are. @param now Unix time */
export const presenceEdu = (users: readonly PresenceToTell[], now: Millis): JsonObject => ({
  edu_type: PRESENCE,
  content: {
    push: users.map(({ user, presence, statusMsg, lastActive, currentlyActive }) => ({
      user_id: user,
      presence,
      // The specification requires it.
      last_active_ago: lastActive === null ? 0 : Math.max(0, Math.round(now - lastActive)),
      ...(statusMsg === null ? {} : { status_msg: statusMsg }),
      ...(presence === 'online' ? { currently_active: currentlyActive } : {}),
    })),
  },
});

/** What another server tells of its own users; what is malformed is left out. */
export function* presenceIn(origin: string, content: JsonObject): Generator<ReceivedPresence> {
  const push = own(content, 'push');
  if (!Array.isArray(push)) return;
  for (const given of push) {
    const received = presenceOf(origin, given);
    if (received !== undefined) yield received;
  }
}

function presenceOf(origin: string, given: JsonValue): ReceivedPresence | undefined {
  if (!isJsonObject(given)) return undefined;
  const user = userOf(origin, own(given, 'user_id'));
  const presence = own(given, 'presence');
  if (user === undefined) return undefined;
  if (presence !== 'online' && presence !== 'unavailable' && presence !== 'offline') return undefined;
  const [statusMsg, ago] = [own(given, 'status_msg') ?? null, own(given, 'last_active_ago') ?? null];
  if (statusMsg !== null && typeof statusMsg !== 'string') return undefined;
  if (ago !== null && (typeof ago !== 'number' || !Number.isSafeInteger(ago) || ago < 0)) return undefined;
  const currentlyActive = own(given, 'currently_active') === true;
  return { user, presence, statusMsg, lastActiveAgoMs: ago, currentlyActive };
}

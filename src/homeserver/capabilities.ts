import type { JsonObject } from '../matrix/json.ts';
import { DEFAULT_ROOM_VERSION, supportedRoomVersions } from '../matrix/room_version.ts';
import { MAX_DELAY_MS, MAX_SCHEDULED } from './delayed_events.ts';

/**
 * Versions of the specification that clients may count on: v1.1, without which no client talks to a server, and each further
 * one as long as nothing is missing of what it and those before it have added to the operations.
 */
export const SPEC_VERSIONS: readonly string[] = ['v1.1', 'v1.2', 'v1.3', 'v1.4', 'v1.5', 'v1.6'];

/** What is there of later versions, by the names that clients know it under. */
export const UNSTABLE_FEATURES: Readonly<Record<string, boolean>> = {
  // Profiles with any field (MSC4133, in v1.16).
  'uk.tcpip.msc4133.stable': true,
  // Media behind a token (MSC3916, in v1.11): without this clients ask for them in the old way.
  'org.matrix.msc3916.stable': true,
  // Events that are sent later.
  'org.matrix.msc4140': true,
};

/**
 * What clients ask before they offer something (client-server API, "Capabilities negotiation").
 * @param isAdmin whether the user administers this server
 */
export function capabilities({ isAdmin }: { readonly isAdmin: boolean }): JsonObject {
  return {
    'm.room_versions': {
      default: DEFAULT_ROOM_VERSION,
      available: Object.fromEntries(supportedRoomVersions().map((version) => [version, 'stable'])),
    },
    // "This property should be omitted altogether if `suspend` and `lock` would be `false`."
    ...(isAdmin ? { 'm.account_moderation': { lock: true, suspend: true } } : {}),
    'm.change_password': { enabled: true },
    'm.profile_fields': { enabled: true },
    'm.set_displayname': { enabled: true },
    'm.set_avatar_url': { enabled: true },
    'm.3pid_changes': { enabled: false },
    'm.get_login_token': { enabled: true },
    'm.delayed_events': { max_delay_ms: MAX_DELAY_MS, max_scheduled: MAX_SCHEDULED },
  };
}

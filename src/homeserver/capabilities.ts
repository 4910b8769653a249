import type { JsonObject } from '../matrix/json.ts';
import { DEFAULT_ROOM_VERSION, supportedRoomVersions } from '../matrix/room_version.ts';
import { PROFILE_FIELDS } from './profiles.ts';

/** Versions of the specification whose client-server API is spoken. */
export const SPEC_VERSIONS: readonly string[] = Array.from({ length: 19 }, (_, minor) => `v1.${minor + 1}`);

/** What clients ask before they offer something (client-server API, "Capabilities negotiation"). */
export function capabilities(): JsonObject {
  return {
    'm.room_versions': {
      default: DEFAULT_ROOM_VERSION,
      available: Object.fromEntries(supportedRoomVersions().map((version) => [version, 'stable'])),
    },
    'm.change_password': { enabled: true },
    'm.profile_fields': { enabled: true, allowed: [...PROFILE_FIELDS] },
    'm.set_displayname': { enabled: true },
    'm.set_avatar_url': { enabled: true },
    'm.3pid_changes': { enabled: false },
    'm.get_login_token': { enabled: false },
  };
}

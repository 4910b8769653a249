/** What the redaction algorithm keeps of an event (room versions, "Redactions"). */
export interface RedactionRules {
  /** Top-level keys that stay. */
  readonly topLevel: ReadonlySet<string>;
  /** By event type the keys of `content` that stay, `'all'` of them; of every other type none. */
  readonly content: ReadonlyMap<string, readonly string[] | 'all'>;
  /** Whether the `signed` of an m.room.member's `third_party_invite` stays (11 and later). */
  readonly keepsThirdPartySigned: boolean;
}

/** The data by which the algorithms of this folder tell one room version from another. */
export interface RoomVersion {
  readonly id: string;
  readonly redaction: RedactionRules;
  /** Whether `join_authorised_via_users_server` means anything (room versions, "Feature matrix"). */
  readonly restrictedJoins: boolean;
}

/** Room versions 11 and 12, "Redactions". */
const redactionV11: RedactionRules = {
  topLevel: new Set([
    'event_id',
    'type',
    'room_id',
    'sender',
    'state_key',
    'content',
    'hashes',
    'signatures',
    'depth',
    'prev_events',
    'auth_events',
    'origin_server_ts',
  ]),
  content: new Map<string, readonly string[] | 'all'>([
    ['m.room.member', ['membership', 'join_authorised_via_users_server']],
    ['m.room.create', 'all'],
    ['m.room.join_rules', ['join_rule', 'allow']],
    [
      'm.room.power_levels',
      [
        'ban',
        'events',
        'events_default',
        'invite',
        'kick',
        'redact',
        'state_default',
        'users',
        'users_default',
      ],
    ],
    ['m.room.history_visibility', ['history_visibility']],
    ['m.room.redaction', ['redacts']],
  ]),
  keepsThirdPartySigned: true,
};

const versions: ReadonlyMap<string, RoomVersion> = new Map([
  ['12', { id: '12', redaction: redactionV11, restrictedJoins: true }],
]);

export const DEFAULT_ROOM_VERSION = '12';

/** The version that this server implements under an id such as "12". */
export const roomVersion = (id: string): RoomVersion | undefined => versions.get(id);

/** The ids of every version that this server implements. */
export const supportedRoomVersions = (): string[] => [...versions.keys()];

/** What the redaction algorithm keeps of an event (room versions, "Redactions"). */
export interface RedactionRules {
  /** Top-level keys that stay. */
  readonly topLevel: ReadonlySet<string>;
  /** By event type the keys of `content` that stay, `'all'` of them; of every other type none. */
  readonly content: ReadonlyMap<string, readonly string[] | 'all'>;
  /** Whether the `signed` of an m.room.member's `third_party_invite` stays (11 and later). */
  readonly keepsThirdPartySigned: boolean;
}

/**
 * What one room version differs in from another, as data: the algorithms of this folder ask for a property, never for
 * the number of a version.
 */
export interface RoomVersion {
  readonly id: string;
  /**
   * "Event IDs" and "Event format". `stated`: an event states its `event_id`, and names others by pairs of id and
   * hash. Otherwise its id is its reference hash in that alphabet, and it names others by their ids.
   */
  readonly eventIds: 'stated' | 'base64' | 'base64url';
  /** Whether the create event's id is the room's (12): it then has no `room_id`, and is nobody's auth event. */
  readonly roomIsCreateEvent: boolean;
  /** Where an m.room.redaction names its event ("Moving the redacts property"). */
  readonly redactsIn: 'event' | 'content';
  readonly redaction: RedactionRules;
  /** Whether an event that has no canonical JSON is dropped ("Canonical JSON", 6 and later). */
  readonly strictJson: boolean;
  /** The largest `depth`, at which events past it stay. */
  readonly maxDepth: bigint;
  /** Whether a key must have been valid at `origin_server_ts` ("Signing key validity period", 5 and later). */
  readonly checksKeyValidity: boolean;
  /** Who the creators are: `content.creator`, the sender, or the sender and `content.additional_creators`. */
  readonly creators: 'content' | 'sender' | 'additional';
  /** Whether creators are above all power levels, instead of at 100 while no event says otherwise (12). */
  readonly privilegedCreators: boolean;
  /** What a power level may be written as ("Deprecated event content schemas"). */
  readonly powerLevels: 'integers' | 'integers and strings' | 'numbers and strings';
  /** Whether a change of `notifications` takes the level that it sets (6 and later). */
  readonly guardsNotifications: boolean;
  /** Whether m.room.aliases has a rule of its own (up to 5). */
  readonly aliasesRule: boolean;
  /** Whether the rules decide which redactions are allowed (1 and 2); later versions do so when they apply them. */
  readonly redactionRule: boolean;
  /** Whether there are the join rule and the membership `knock`. */
  readonly knocking: boolean;
  /** Whether there are the join rule `restricted` and `join_authorised_via_users_server`. */
  readonly restrictedJoins: boolean;
  /** Whether there is the join rule `knock_restricted`. */
  readonly knockRestricted: boolean;
  readonly stateResolution: 'v1' | 'v2' | 'v2.1';
}

type KeptContent = RedactionRules['content'];

const REDACTED_V1: RedactionRules = {
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
    'prev_state',
    'auth_events',
    'origin',
    'origin_server_ts',
    'membership',
  ]),
  content: new Map([
    ['m.room.member', ['membership']],
    ['m.room.create', ['creator']],
    ['m.room.join_rules', ['join_rule']],
    [
      'm.room.power_levels',
      ['ban', 'events', 'events_default', 'kick', 'redact', 'state_default', 'users', 'users_default'],
    ],
    ['m.room.aliases', ['aliases']],
    ['m.room.history_visibility', ['history_visibility']],
  ]),
  keepsThirdPartySigned: false,
};
const REDACTED_V6: RedactionRules = {
  ...REDACTED_V1,
  content: new Map([...REDACTED_V1.content].filter(([type]) => type !== 'm.room.aliases')),
};
const REDACTED_V8: RedactionRules = {
  ...REDACTED_V6,
  content: keeping(REDACTED_V6.content, { 'm.room.join_rules': ['allow'] }),
};
const REDACTED_V9: RedactionRules = {
  ...REDACTED_V8,
  content: keeping(REDACTED_V8.content, { 'm.room.member': ['join_authorised_via_users_server'] }),
};
const REDACTED_V11: RedactionRules = {
  topLevel: new Set(
    [...REDACTED_V9.topLevel].filter((key) => !['origin', 'membership', 'prev_state'].includes(key)),
  ),
  content: keeping(REDACTED_V9.content, {
    'm.room.create': 'all',
    'm.room.power_levels': ['invite'],
    'm.room.redaction': ['redacts'],
  }),
  keepsThirdPartySigned: true,
};

/** The same, with further keys of these types. */
function keeping(
  content: KeptContent,
  more: Readonly<Record<string, readonly string[] | 'all'>>,
): KeptContent {
  const kept = new Map(content);
  for (const [type, keys] of Object.entries(more)) {
    const before = content.get(type) ?? [];
    kept.set(type, keys === 'all' || before === 'all' ? 'all' : [...before, ...keys]);
  }
  return kept;
}

// Each builds on the one before it, as its text does.
const V1: RoomVersion = {
  id: '1',
  eventIds: 'stated',
  roomIsCreateEvent: false,
  redactsIn: 'event',
  redaction: REDACTED_V1,
  strictJson: false,
  maxDepth: 2n ** 63n - 1n,
  checksKeyValidity: false,
  creators: 'content',
  privilegedCreators: false,
  powerLevels: 'numbers and strings',
  guardsNotifications: false,
  aliasesRule: true,
  redactionRule: true,
  knocking: false,
  restrictedJoins: false,
  knockRestricted: false,
  stateResolution: 'v1',
};
const V2: RoomVersion = { ...V1, id: '2', stateResolution: 'v2' };
const V3: RoomVersion = { ...V2, id: '3', eventIds: 'base64', redactionRule: false };
const V4: RoomVersion = { ...V3, id: '4', eventIds: 'base64url' };
const V5: RoomVersion = { ...V4, id: '5', checksKeyValidity: true };
const V6: RoomVersion = {
  ...V5,
  id: '6',
  redaction: REDACTED_V6,
  strictJson: true,
  maxDepth: 2n ** 53n - 1n,
  powerLevels: 'integers and strings',
  guardsNotifications: true,
  aliasesRule: false,
};
const V7: RoomVersion = { ...V6, id: '7', knocking: true };
const V8: RoomVersion = { ...V7, id: '8', redaction: REDACTED_V8, restrictedJoins: true };
const V9: RoomVersion = { ...V8, id: '9', redaction: REDACTED_V9 };
const V10: RoomVersion = { ...V9, id: '10', powerLevels: 'integers', knockRestricted: true };
const V11: RoomVersion = {
  ...V10,
  id: '11',
  redactsIn: 'content',
  redaction: REDACTED_V11,
  creators: 'sender',
};
const V12: RoomVersion = {
  ...V11,
  id: '12',
  roomIsCreateEvent: true,
  creators: 'additional',
  privilegedCreators: true,
  stateResolution: 'v2.1',
};

/** Every version whose rules are known here, by id. */
export const ROOM_VERSIONS: ReadonlyMap<string, RoomVersion> = new Map(
  [V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12].map((version) => [version.id, version]),
);

export const DEFAULT_ROOM_VERSION = '12';

/** The version under an id such as "12". */
export const roomVersion = (id: string): RoomVersion | undefined => ROOM_VERSIONS.get(id);

/** The ids of every version. */
export const supportedRoomVersions = (): string[] => [...ROOM_VERSIONS.keys()];

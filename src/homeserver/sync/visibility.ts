import { own } from '../../matrix/json.ts';
import type { Reader } from '../../storage/database.ts';
import { type EventRow, stateGroupEntry } from '../../storage/sync.ts';
import { contentOf, membershipIn } from './membership.ts';

type Setting = 'world_readable' | 'shared' | 'invited' | 'joined';

/** What the state at one point of the DAG says about who sees events sent there. */
interface Moment {
  readonly setting: Setting;
  readonly membership: string;
}

/**
 * Who may see which event of a room (client-server API, "Room History Visibility", "Server behaviour"): judged by the
 * state at each event. One object serves one request, and remembers what each state group said.
 */
export class Visibility {
  readonly #reader: Reader;
  readonly #user: string;
  readonly #joinedUntil: number;
  readonly #moments = new Map<number, Moment>();

  /** @param joinedUntil the last position at which the user was joined: Infinity where joined now, 0 where never */
  constructor(reader: Reader, user: string, joinedUntil: number) {
    this.#reader = reader;
    this.#user = user;
    this.#joinedUntil = joinedUntil;
  }

  /** Whether the user may see an event that is part of the room's timeline. */
  async allows(event: EventRow): Promise<boolean> {
    const before = await this.#moment(event.state_before);
    if (this.#allowsAt(before, event)) return true;
    // Their own membership, and the setting itself, are seen where either side of the event allows it.
    const twoSided =
      event.state_key !== null &&
      ((event.type === 'm.room.member' && event.state_key === this.#user) ||
        (event.type === 'm.room.history_visibility' && event.state_key === ''));
    return twoSided && this.#allowsAt(await this.#moment(event.state_after), event);
  }

  /** The user's membership at an event, with what the event itself changed. */
  async membershipAt(event: EventRow): Promise<string> {
    return (await this.#moment(event.state_after)).membership;
  }

  #allowsAt({ setting, membership }: Moment, event: EventRow): boolean {
    if (setting === 'world_readable') return true;
    // What was never delivered was sent before this server, and so the user, was there. What came after they left is
    // not theirs, even where it was sent on a branch on which they were still there.
    const inTime = this.#joinedUntil > 0 && (event.position ?? 0) <= this.#joinedUntil;
    if (membership === 'join' || setting === 'shared') return inTime;
    return setting === 'invited' && membership === 'invite';
  }

  async #moment(group: number | null): Promise<Moment> {
    if (group === null) return { setting: 'shared', membership: 'leave' };
    const known = this.#moments.get(group);
    if (known !== undefined) return known;
    const visibility = await stateGroupEntry(this.#reader, group, 'm.room.history_visibility', '');
    const member = await stateGroupEntry(this.#reader, group, 'm.room.member', this.#user);
    const moment = {
      setting: settingIn(visibility),
      membership: member === undefined ? 'leave' : membershipIn(contentOf(member.json)),
    };
    this.#moments.set(group, moment);
    return moment;
  }
}

/** What an m.room.history_visibility event sets; absent or not understood is `shared`. */
export function settingIn(event: EventRow | undefined): Setting {
  const value = event === undefined ? undefined : own(contentOf(event.json), 'history_visibility');
  return value === 'world_readable' || value === 'invited' || value === 'joined' ? value : 'shared';
}

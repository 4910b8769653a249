import type { Reader } from '../../storage/database.ts';
import { layerEntries, placeRow } from '../../storage/state.ts';
import { type EventRow, eventByRow } from '../../storage/sync.ts';
import { type EventInView, historyVisibilityIn, maySeeEvent, type Viewpoint } from '../history_visibility.ts';
import { contentOf, membershipIn } from './membership.ts';

/** Rows of the events that hold the two places which decide; 0: empty. */
interface Holders {
  readonly visibility: number;
  readonly member: number;
}

/** The state of an event that has none. */
const UNKNOWN: Viewpoint = { visibility: 'shared', membership: 'leave' };

/**
 * Who may see which event of a room, by the state at each event (history_visibility.ts has the rules). One object
 * serves one request, and remembers what each state group said.
 */
export class Visibility {
  readonly #reader: Reader;
  readonly #user: string;
  readonly #joinedUntil: number;
  /** By group. */
  readonly #holders = new Map<number, Holders>();
  /** By rows of events. */
  readonly #contents = new Map<number, EventRow['json']>();
  #places: Promise<readonly [number, number]> | undefined;

  /** @param joinedUntil the last position at which the user was joined: Infinity where joined now, 0 where never */
  constructor(reader: Reader, user: string, joinedUntil: number) {
    this.#reader = reader;
    this.#user = user;
    this.#joinedUntil = joinedUntil;
  }

  /** Whether the user may see an event that is part of the room's timeline. */
  async allows(event: EventRow): Promise<boolean> {
    return maySeeEvent({
      before: await this.#viewpoint(event.state_before),
      after: await this.#viewpoint(event.state_after),
      kind: this.#kindOf(event),
      // What was never delivered was sent before this server, and so the user, was there.
      beforeDeparture: this.#joinedUntil > 0 && (event.position ?? 0) <= this.#joinedUntil,
    });
  }

  /** Whether the user may see what came just before an event, the user's own memberships aside. */
  async allowsBefore(event: EventRow): Promise<boolean> {
    const before = await this.#viewpoint(event.state_before);
    const beforeDeparture = this.#joinedUntil > 0;
    return maySeeEvent({ before, after: before, kind: 'other', beforeDeparture });
  }

  /** The user's membership at an event, with what the event itself changed. */
  async membershipAt(event: EventRow): Promise<string> {
    return (await this.#viewpoint(event.state_after)).membership;
  }

  #kindOf(event: EventRow): EventInView['kind'] {
    if (event.type === 'm.room.member' && event.state_key === this.#user) return 'own_membership';
    return event.type === 'm.room.history_visibility' && event.state_key === ''
      ? 'history_visibility'
      : 'other';
  }

  async #viewpoint(group: number | null): Promise<Viewpoint> {
    if (group === null) return UNKNOWN;
    const { visibility, member } = await this.#holdersIn(group);
    const membership = await this.#contentOf(member);
    return {
      visibility: historyVisibilityIn(await this.#contentOf(visibility)),
      membership: membership === undefined ? 'leave' : membershipIn(membership),
    };
  }

  /** What holds the two places in a group. Groups of events that follow each other share those below them. */
  async #holdersIn(group: number): Promise<Holders> {
    const passed: { readonly group: number; readonly events: ReadonlyMap<number, number> }[] = [];
    this.#places ??= this.#findPlaces();
    const [visibilityPlace, memberPlace] = await this.#places;
    const places = new Set([visibilityPlace, memberPlace]);
    let found: Holders = { visibility: 0, member: 0 };
    for (let at: number | null = group; at !== null; ) {
      const known = this.#holders.get(at);
      if (known !== undefined) {
        found = known;
        break;
      }
      const layer = await layerEntries(this.#reader, at, places);
      passed.push({ group: at, events: layer.events });
      at = layer.parent;
    }
    for (const layer of passed.reverse()) {
      found = {
        visibility: layer.events.get(visibilityPlace) ?? found.visibility,
        member: layer.events.get(memberPlace) ?? found.member,
      };
      this.#holders.set(layer.group, found);
    }
    return found;
  }

  /** Rows of the two places; -1 and -2, which no place has, for what no room ever had. */
  async #findPlaces(): Promise<readonly [number, number]> {
    const visibility = await placeRow(this.#reader, 'm.room.history_visibility', '');
    const member = await placeRow(this.#reader, 'm.room.member', this.#user);
    return [visibility ?? -1, member ?? -2];
  }

  async #contentOf(row: number) {
    if (row === 0) return undefined;
    let json = this.#contents.get(row);
    if (json === undefined) {
      json = (await eventByRow(this.#reader, row))!.json;
      this.#contents.set(row, json);
    }
    return contentOf(json);
  }
}

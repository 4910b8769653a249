import { isJsonObject, type JsonObject, own, parseJson } from '../../matrix/json.ts';
import type { Reader } from '../../storage/database.ts';
import { membershipChanges } from '../../storage/sync.ts';

/** When a user was joined to a room, as current state had it, up to one stream position. */
export class MembershipHistory {
  readonly #changes: readonly { readonly position: number; readonly joined: boolean }[];

  private constructor(changes: readonly { readonly position: number; readonly joined: boolean }[]) {
    this.#changes = changes;
  }

  static async load(reader: Reader, room: number, user: string, upTo: number): Promise<MembershipHistory> {
    const rows = await membershipChanges(reader, room, user, upTo);
    return new MembershipHistory(
      rows.map(({ position, json }) => ({
        position,
        joined: json !== null && membershipIn(contentOf(json)) === 'join',
      })),
    );
  }

  /** Whether the user was joined once everything up to `position` had happened. */
  joinedAt(position: number): boolean {
    return this.#changes.findLast((change) => change.position <= position)?.joined ?? false;
  }

  /** Whether the user became joined in `after` < position <= `upTo`. */
  joinedWithin(after: number, upTo: number): boolean {
    return this.#changes.some(({ position, joined }) => joined && position > after && position <= upTo);
  }

  /** Whether the user became joined in `after` < position. */
  joinedSince(after: number): boolean {
    return this.#changes.some((change) => change.position > after && change.joined);
  }

  /** Where the user last stopped being joined, at `upTo` at the latest; 0 where that never happened. */
  departure(upTo: number): number {
    const { length } = this.#changes;
    for (let at = length - 1; at > 0; at--) {
      const change = this.#changes[at]!;
      if (change.position <= upTo && !change.joined && this.#changes[at - 1]!.joined) return change.position;
    }
    return 0;
  }

  /** The last position at which the user was in the room: Infinity where joined now, 0 where never. */
  get joinedUntil(): number {
    return this.#changes.at(-1)?.joined ? Number.POSITIVE_INFINITY : this.departure(Number.POSITIVE_INFINITY);
  }
}

/** The content of a stored PDU. */
export function contentOf(json: string): JsonObject {
  return (parseJson(json) as { content: JsonObject }).content;
}

/** The membership that the content of an m.room.member event says; 'leave' where there is none. */
export function membershipIn(content: JsonObject | undefined): string {
  const membership = isJsonObject(content) ? own(content, 'membership') : undefined;
  return typeof membership === 'string' ? membership : 'leave';
}

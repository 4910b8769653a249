import { invalidParam } from '../matrix/error.ts';
import { parseUserId, type ServerName, type UserId } from '../matrix/ids.ts';
import type { JsonObject } from '../matrix/json.ts';
import type { Reader } from '../storage/database.ts';
import { type ListedUser, localUsers, mutualRooms, remoteUsers } from '../storage/user_directory.ts';

const DEFAULT_LIMIT = 10;
const MAX_LIMIT = 50;
/** Users looked at for one search at most; beyond it the answer says that there may be more. */
const MAX_SCANNED = 50_000;
const BATCH = 1_000;
const MAX_MUTUAL_ROOMS = 100;
/** Characters of a search term, and of a name. */
const MAX_TEXT = 256;

interface Match extends ListedUser {
  readonly rank: number;
}

/** Who is there to be found (client-server API, "User Directory", "Mutual rooms"). */
export class UserDirectory {
  readonly #reader: Reader;
  readonly #serverName: ServerName;
  readonly #turn: (() => Promise<void>) | undefined;

  /** @param of.turn lets others have their turn during a long search */
  constructor(of: {
    readonly reader: Reader;
    readonly serverName: ServerName;
    readonly turn?: (() => Promise<void>) | undefined;
  }) {
    this.#reader = of.reader;
    this.#serverName = of.serverName;
    this.#turn = of.turn;
  }

  /**
   * Users whose id or name holds a text, upper and lower case and accents apart: local ones, and those of other servers
   * who share a room with who asks or are in one that anybody may look into. The closest matches come first.
   */
  async search(asker: UserId, term: string, asked: number = DEFAULT_LIMIT): Promise<JsonObject> {
    const wanted = folded(term);
    const limit = Math.min(asked, MAX_LIMIT);
    const matches: Match[] = [];
    let isCut = false;
    const consider = (users: readonly ListedUser[]): void => {
      for (const user of users) {
        const rank = user.user === asker ? undefined : rankOf(user, wanted);
        if (rank === undefined) continue;
        matches.push({ ...user, rank });
        if (matches.length <= 2 * limit) continue;
        isCut = true;
        matches.sort(bestFirst).length = limit;
      }
    };
    const server = this.#serverName;
    const sources = [
      (after: string) => localUsers(this.#reader, after, BATCH),
      (after: string) => remoteUsers(this.#reader, { user: asker, server, after, limit: BATCH }),
    ];
    for (const next of wanted === '' ? [] : sources) isCut = (await this.#each(next, consider)) || isCut;
    matches.sort(bestFirst);
    return {
      limited: isCut || matches.length > limit,
      results: matches.slice(0, limit).map(({ user, displayName, avatarUrl }) => ({
        user_id: user,
        ...(displayName === null ? {} : { display_name: displayName }),
        ...(avatarUrl === null ? {} : { avatar_url: avatarUrl }),
      })),
    };
  }

  /** @throws MatrixError M_INVALID_PARAM where the other is none, or oneself, or the token is not one of ours */
  async mutualRooms(asker: UserId, other: string, from: string | undefined): Promise<JsonObject> {
    const parsed = parseUserId(other);
    if (!parsed.ok || parsed.value === asker) throw invalidParam('user_id is not the id of somebody else.');
    if (from !== undefined && !from.startsWith('!'))
      throw invalidParam('The token is not one of this server.');
    const { rooms, count } = await mutualRooms(
      this.#reader,
      [asker, parsed.value],
      from ?? '',
      MAX_MUTUAL_ROOMS + 1,
    );
    const joined = rooms.slice(0, MAX_MUTUAL_ROOMS);
    return { joined, count, ...(rooms.length > joined.length ? { next_batch: joined.at(-1)! } : {}) };
  }

  /** @returns whether there are more than may be looked at */
  async #each(
    next: (after: string) => Promise<ListedUser[]>,
    consider: (users: readonly ListedUser[]) => void,
  ): Promise<boolean> {
    let after = '';
    for (let scanned = 0; scanned < MAX_SCANNED; scanned += BATCH) {
      const users = await next(after);
      consider(users);
      if (users.length < BATCH) return false;
      after = users.at(-1)!.user;
      await this.#turn?.();
    }
    return true;
  }
}

/** Without case and accents, so that "Ángel" is found by "angel". */
const folded = (text: string): string =>
  text.slice(0, MAX_TEXT).normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase().trim();

/** How close somebody comes: 3 the whole id or name, 2 its beginning, 1 that of a word in it, 0 any part of it. */
function rankOf({ user, displayName }: ListedUser, wanted: string): number | undefined {
  const id = folded(user);
  const name = displayName === null ? '' : folded(displayName);
  const localpart = id.slice(1, id.indexOf(':'));
  const texts = [id, localpart, name];
  if (texts.includes(wanted)) return 3;
  if (texts.some((text) => text.startsWith(wanted))) return 2;
  if (texts.some((text) => ` ${text}`.includes(` ${wanted}`))) return 1;
  return texts.some((text) => text.includes(wanted)) ? 0 : undefined;
}

function bestFirst(a: Match, b: Match): number {
  if (a.rank !== b.rank) return b.rank - a.rank;
  const named = Number(b.displayName !== null) - Number(a.displayName !== null);
  return named !== 0 ? named : a.user < b.user ? -1 : 1;
}

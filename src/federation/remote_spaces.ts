import type { Clock, Millis } from '../base/time.ts';
import type { RemoteSpaces, ToldSpace } from '../homeserver/ports.ts';
import { inOrder, spaceChildIn } from '../homeserver/space_hierarchy.ts';
import { MatrixError } from '../matrix/error.ts';
import { parseRoomId, type RoomId, type ServerName } from '../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../matrix/json.ts';
import { BoundedMap } from './bounded.ts';
import { roomSummaryIn } from './told_rooms.ts';
import { FederationError, type FederationTransport, path } from './transport.ts';

/** Servers that are asked for one room, and how long each may take. */
const MAX_ASKED = 3;
const TIMEOUT_MS: Millis = 10_000;
/** How long it is kept what was told, and that nobody told anything; for how many rooms. */
const KEPT_MS: Millis = 5 * 60_000;
const NOTHING_KEPT_MS: Millis = 60_000;
const MAX_KEPT = 300;
/** Children taken from one answer. */
const MAX_CHILDREN = 1_000;
/** Anybody who is logged in may ask, so that others are asked only so much at a time. */
const MAX_ASKING = 50;

interface Kept {
  readonly until: Millis;
  readonly space: ToldSpace | undefined;
}

/** Asks other servers for rooms that this one is not in (server-server API, "Spaces"). */
export class FederationRemoteSpaces implements RemoteSpaces {
  readonly #serverName: ServerName;
  readonly #transport: FederationTransport;
  readonly #clock: Clock;
  readonly #kept = new BoundedMap<string, Kept>(MAX_KEPT);
  readonly #asking = new Map<string, Promise<ToldSpace | undefined>>();

  constructor(options: {
    readonly serverName: ServerName;
    readonly transport: FederationTransport;
    readonly clock: Clock;
  }) {
    this.#serverName = options.serverName;
    this.#transport = options.transport;
    this.#clock = options.clock;
  }

  async space(
    room: RoomId,
    via: readonly ServerName[],
    { suggestedOnly }: { readonly suggestedOnly: boolean },
  ): Promise<ToldSpace | undefined> {
    // Whom it was asked of is a part of it: else one who names a server that knows nothing would hide a room from others.
    const servers = [...new Set(via)].filter((server) => server !== this.#serverName).slice(0, MAX_ASKED);
    if (servers.length === 0) return undefined;
    const key = JSON.stringify([room, suggestedOnly, servers]);
    const kept = this.#kept.get(key);
    if (kept !== undefined && kept.until > this.#clock.monotonic()) return kept.space;
    const underWay = this.#asking.get(key);
    if (underWay !== undefined) return underWay;
    if (this.#asking.size >= MAX_ASKING) return undefined;
    const asked = this.#firstOf(room, servers, suggestedOnly).finally(() => this.#asking.delete(key));
    this.#asking.set(key, asked);
    const space = await asked;
    const keptMs = space === undefined ? NOTHING_KEPT_MS : KEPT_MS;
    this.#kept.set(key, { until: this.#clock.monotonic() + keptMs, space });
    return space;
  }

  async #firstOf(
    room: RoomId,
    servers: readonly ServerName[],
    suggestedOnly: boolean,
  ): Promise<ToldSpace | undefined> {
    for (const server of servers) {
      try {
        const { body } = await this.#transport.request(server, {
          method: 'GET',
          path: path`/_matrix/federation/v1/hierarchy/${room}`,
          query: `suggested_only=${suggestedOnly}`,
          timeoutMs: TIMEOUT_MS,
          priority: 2,
        });
        const space = toldSpace(room, body, suggestedOnly);
        if (space !== undefined) return space;
      } catch (error) {
        if (!(error instanceof FederationError || error instanceof MatrixError)) throw error;
      }
    }
    return undefined;
  }
}

/** Undefined where the answer is not about that room. */
function toldSpace(room: RoomId, body: JsonValue, suggestedOnly: boolean): ToldSpace | undefined {
  const root = isJsonObject(body) ? own(body, 'room') : undefined;
  const [summary] = roomSummaryIn(root);
  if (!isJsonObject(body) || !isJsonObject(root) || summary?.room_id !== room) return undefined;
  const children = listIn(root, 'children_state').flatMap(spaceChildIn);
  const summaries = listIn(body, 'children').flatMap(roomSummaryIn);
  const inaccessible = listIn(body, 'inaccessible_children').flatMap((id) => {
    const parsed = typeof id === 'string' ? parseRoomId(id) : undefined;
    return parsed?.ok ? [parsed.value] : [];
  });
  return {
    summary,
    children: inOrder(children, suggestedOnly),
    childSummaries: new Map(summaries.map((child) => [child.room_id as RoomId, child])),
    inaccessible: new Set(inaccessible),
  };
}

function listIn(value: JsonObject, key: string): readonly JsonValue[] {
  const list = own(value, key);
  return Array.isArray(list) ? list.slice(0, MAX_CHILDREN) : [];
}

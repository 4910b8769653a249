import { bad, type Result } from '../../base/result.ts';
import type { Clock } from '../../base/time.ts';
import { literalNames } from '../../compact/pdu/literal.ts';
import { compactSendAnswer } from '../../compact/pdu/send_answer.ts';
import { parsePosition } from '../../compact/sync/sync_layout.ts';
import type { ToldRoom } from '../../compact/sync/told_room.ts';
import { type SyncToTell, writeSync } from '../../compact/sync/write_sync.ts';
import { type Caller, type ExchangeRequest, type FormedBody, jsonOf } from '../../exchange/request.ts';
import { type ExchangeResponse, errorResponse } from '../../exchange/response.ts';
import { MatrixError } from '../../matrix/error.ts';
import type { EventId, RoomId } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, type JsonValue, own } from '../../matrix/json.ts';
import { depthOf, type Event } from '../../matrix/pdu.ts';
import { ignoredUsers } from '../../storage/account_data.ts';
import type { Reader } from '../../storage/database.ts';
import { findDeviceKey } from '../../storage/device_keys.ts';
import { eventsById } from '../../storage/events.ts';
import { keptById } from '../../storage/provisional.ts';
import { ToldRooms, type ToldTo } from './told_rooms.ts';

const SYNC = /^\/_matrix\/client\/v3\/sync$/;
const SEND = /^\/_matrix\/client\/v3\/rooms\/[^/]+\/(?:send|state|redact)\//;
/** A parameter of requests: the device does not count on what it was told before. */
const WHOLE = 'org.ravine.whole';
/** The same: the device cannot compute ids. */
const IDS_TOLD = 'org.ravine.ids';

/** Ours: devices of which it is remembered what they have. */
const MAX_DEVICES = 4_096;
/** Rooms of a device of which it is remembered which of its own events it has computed last. */
const MAX_OWN = 64;

interface DeviceMemory {
  /** The position that it has acknowledged. */
  since: number | undefined;
  /** By room: its own event that was answered last. */
  readonly own: Map<string, Event>;
}

/**
 * Shorter forms of what devices are answered (docs/protocol.md, "Answers of /sync", "The answer to a client's send"): a device
 * in a pipe computes the ids of events. What it can compute them from is what /sync has told it up to the position that it has
 * come back with: that is read from the database, and only the position is remembered. Forgetting it costs bytes.
 */
export class ClientForms {
  readonly #reader: Reader;
  readonly #clock: Pick<Clock, 'wall'>;
  readonly #told: ToldRooms;
  /** By key, in the order of use. */
  readonly #devices = new Map<string, DeviceMemory>();

  constructor({ reader, clock }: { readonly reader: Reader; readonly clock: Pick<Clock, 'wall'> }) {
    this.#reader = reader;
    this.#clock = clock;
    this.#told = new ToldRooms(reader);
  }

  /** No request of a client has a form of its own. */
  restoreRequest(): Result<never, ExchangeResponse> {
    return bad(errorResponse(new MatrixError(400, 'M_NOT_JSON', 'The form of the body is not known here')));
  }

  /** The form of an answer of success; undefined where it goes as JSON. */
  async formAnswer(
    caller: Caller,
    request: ExchangeRequest,
    response: ExchangeResponse,
  ): Promise<FormedBody | undefined> {
    const json = jsonOf(response.body);
    if (caller.kind !== 'device' || response.status !== 200 || json === undefined || !isJsonObject(json))
      return undefined;
    const { method, path } = request;
    if (method === 'GET' && SYNC.test(path)) return this.#sync(caller.key, request, json);
    if (method === 'PUT' && SEND.test(path)) return this.#send(caller.key, request, json);
    return undefined;
  }

  async #sync(key: string, { query }: ExchangeRequest, body: JsonObject): Promise<FormedBody | undefined> {
    const parameters = new URLSearchParams(query);
    const since = parsePosition(parameters.get('since') ?? undefined);
    const isWhole = parameters.has(WHOLE);
    const memory = this.#memory(key);
    memory.since = undefined;
    const owner = await findDeviceKey(this.#reader, key);
    if (owner === undefined) return undefined;
    // Who ignores somebody is not told everything; what they were told before cannot be known.
    const isTold =
      tellsAll(parameters.get('filter')) && (await ignoredUsers(this.#reader, owner.user)).size === 0;
    const goesOn = since !== undefined && !isWhole && isTold;
    memory.since = goesOn ? since : undefined;
    const idsAreTold = parameters.has(IDS_TOLD);
    const plan = await this.#plan(body, since, { user: owner.user, position: goesOn ? since : undefined });
    return (
      plan && {
        kind: 'formed',
        json: body,
        bare: true,
        write: (writer) => writeSync(writer, { ...plan, idsAreTold }),
      }
    );
  }

  async #plan(body: JsonObject, since: number | undefined, to: ToldTo): Promise<SyncToTell | undefined> {
    const rooms = own(body, 'rooms');
    const join = rooms !== undefined && isJsonObject(rooms) ? own(rooms, 'join') : undefined;
    if (join === undefined || !isJsonObject(join)) return undefined;
    const sections = Object.entries(join).filter((entry): entry is [string, JsonObject] =>
      isJsonObject(entry[1]),
    );
    // A filter can have left out what the form needs.
    if (!sections.every(([, section]) => eventsOf(section).every(isTellable))) return undefined;
    const pdus = await this.#pdus(sections.flatMap(([, section]) => eventIds(section)));
    const told: [string, { version: ToldRoom['version']; before: ToldRoom | undefined }][] = [];
    for (const [room, section] of sections) {
      const places = eventIds(section).flatMap((id) => {
        const pdu = pdus.get(id);
        return pdu === undefined ? [] : [pdu];
      });
      const found = await this.#told.room(room, to, places);
      if (found === undefined) return undefined;
      told.push([room, found]);
    }
    const known = to.position === undefined ? [] : await this.#told.known(to.user);
    return { body, since, rooms: new Map(told), known, pdus, now: this.#clock.wall() };
  }

  async #pdus(ids: readonly string[]): Promise<Map<string, JsonObject>> {
    const wanted = [...new Set(ids)] as EventId[];
    const stored = [...(await eventsById(this.#reader, wanted)), ...(await keptById(this.#reader, wanted))];
    return new Map(stored.map(({ event }) => [event.id, event.pdu as unknown as JsonObject]));
  }

  async #send(key: string, { query }: ExchangeRequest, body: JsonObject): Promise<FormedBody | undefined> {
    const id = own(body, 'event_id');
    if (typeof id !== 'string') return undefined;
    const [stored] = await eventsById(this.#reader, [id as EventId]);
    if (stored === undefined) return undefined;
    const { event } = stored;
    const isWhole = new URLSearchParams(query).has(WHOLE);
    const view = isWhole ? undefined : await this.#viewOf(key, event);
    const bytes = compactSendAnswer(event, view ?? (await this.#told.nothing(event.room)), literalNames);
    // Read back, it is what the device has from now on.
    const { own: sent } = this.#memory(key);
    sent.delete(event.room);
    if (view !== undefined) sent.set(event.room, event);
    if (sent.size > MAX_OWN) sent.delete(sent.keys().next().value!);
    return { kind: 'formed', json: body, bare: true, write: (writer) => writer.raw(bytes) };
  }

  /** The room as the device has it that has sent an event. */
  async #viewOf(key: string, event: Event): Promise<ReturnType<ToldRoom['with']> | undefined> {
    const { since, own: sent } = this.#memory(key);
    const owner = since === undefined ? undefined : await findDeviceKey(this.#reader, key);
    if (owner === undefined) return undefined;
    const subject = event.pdu as unknown as JsonObject;
    const found = await this.#told.room(event.room, { user: owner.user, position: since }, [subject]);
    const told = found?.before;
    if (told === undefined) return undefined;
    const own = sent.get(event.room as RoomId);
    if (own !== undefined)
      told.remember({ id: own.id, depth: depthOf(own.pdu), originServerTs: own.pdu.origin_server_ts });
    const [newest] = told.newest();
    return newest && told.with(newest);
  }

  #memory(key: string): DeviceMemory {
    const memory = this.#devices.get(key) ?? { since: undefined, own: new Map<string, Event>() };
    this.#devices.delete(key);
    this.#devices.set(key, memory);
    if (this.#devices.size > MAX_DEVICES) this.#devices.delete(this.#devices.keys().next().value!);
    return memory;
  }
}

/** What of a filter leaves no event of a joined room out, apart from the limit of a timeline; null: whatever it says. */
const TELLING_ALL: JsonObject = {
  room: {
    timeline: { limit: null, unread_thread_notifications: null },
    ephemeral: null,
    account_data: null,
  },
  account_data: null,
  presence: null,
};

/** Whether a filter leaves no event of a joined room out but by the limit of a timeline. */
function tellsAll(filter: string | null): boolean {
  if (filter === null) return true;
  let json: JsonValue;
  try {
    json = JSON.parse(filter) as JsonValue;
  } catch {
    // Kept under an id.
    return false;
  }
  return isSubset(json, TELLING_ALL);
}

/** Whether a value has no keys that the other has not; under null it may have any. */
function isSubset(value: JsonValue, of: JsonValue): boolean {
  if (of === null) return true;
  if (!isJsonObject(value)) return false;
  return (
    isJsonObject(of) &&
    Object.entries(value).every(([key, inner]) => {
      const allowed = own(of, key);
      return allowed !== undefined && isSubset(inner, allowed);
    })
  );
}

function eventsOf(section: JsonObject): JsonValue[] {
  return ['state', 'state_after', 'timeline'].flatMap((part) => {
    const within = own(section, part);
    const events = within !== undefined && isJsonObject(within) ? own(within, 'events') : undefined;
    return Array.isArray(events) ? events : [];
  });
}

const eventIds = (section: JsonObject): string[] =>
  eventsOf(section).flatMap((event) => (isJsonObject(event) ? String(event.event_id) : []));

/** Whether an event has what the form of an answer takes for granted. */
const isTellable = (event: JsonValue): boolean =>
  isJsonObject(event) &&
  ['event_id', 'sender', 'type'].every((key) => typeof own(event, key) === 'string') &&
  typeof own(event, 'origin_server_ts') === 'number' &&
  ['string', 'undefined'].includes(typeof own(event, 'state_key'));

import { fromBase64 } from '../../base/bytes.ts';
import { refersByPairs } from '../../compact/pdu/rules.ts';
import { type KnownEvent, MAX_VIEWS, type PduView } from '../../compact/pdu/view.ts';
import type { EventCache } from '../../homeserver/rooms/event_cache.ts';
import type { RoomState } from '../../homeserver/rooms/room_state.ts';
import type { Pending, StateStore } from '../../homeserver/rooms/state_store.ts';
import { parsePdu } from '../../matrix/event_format.ts';
import { referenceHash } from '../../matrix/hashes.ts';
import { type EventId, type KeyId, type RoomId, type ServerName, serverOf } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { depthOf, type Event, type Pdu, prevEvents, type StateKey } from '../../matrix/pdu.ts';
import { type RoomVersion, roomVersion } from '../../matrix/room_version.ts';
import { completeEventSignature } from '../../matrix/short_signature.ts';
import { verifyEventSignature } from '../../matrix/signing.ts';
import type { Reader } from '../../storage/database.ts';
import { childrenOf } from '../../storage/events.ts';
import { findRoom, forwardExtremities } from '../../storage/rooms.ts';
import { keysOf } from '../../storage/server_keys.ts';
import { lastEventsOf, queuedAmong } from '../../storage/shared_events.ts';

// What both ends know of a room when an event goes from one to the other
// -----------------------------------------------------------------------
// The writer and the reader each have a copy of the room, and neither knows what the other has. Both reckon with the
// same thing: the forward extremities of what the writer knows the reader to have. For the writer that is its copy less
// the events that wait in the outbox for the reader; for the reader it is its copy, since what the writer has sent
// before has arrived, or, where somebody else's events have overtaken the writer's, that copy less the newest of those.
// So each side has a short row of guesses, made by the same rule: from the extremities, the deepest that is not of the
// writer's own users is left out, again and again. The writer takes the first guess on which the event is built, the reader
// the first by which the event's check comes out right. A wrong guess costs a round trip: the event is asked for whole.
//
// The state after extremities is resolved from what is stored; it is the same on both sides, as they are the same events.

/** Events that are walked over to find what both have. */
const MAX_WALK = 256;

export interface RoomStores {
  readonly events: EventCache;
  readonly states: StateStore;
}

export interface UsualKey {
  readonly keyId: KeyId;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
}

export interface RoomViewsOptions {
  readonly database: Reader;
  readonly serverName: ServerName;
  /** The one with which this server signs. */
  readonly signingKey: UsualKey;
  readonly stores: () => RoomStores;
  /** Events of a room that a server has sent and that are not part of it yet, each before those built on it. */
  readonly provisional?: (room: RoomId, origin: ServerName) => Promise<readonly Event[]>;
}

/** An event as far as a view needs it. */
interface Node {
  readonly event: Event;
  /** The state after it, or the group where that is stored; null where it is not known. */
  readonly after: RoomState | number | null;
}

/** Opens rooms as two servers see them. */
export class RoomViews {
  readonly #options: RoomViewsOptions;

  constructor(options: RoomViewsOptions) {
    this.#options = options;
  }

  /** The key with which a server signs, as far as that is clear. */
  usualKey(server: ServerName): Promise<UsualKey | undefined> {
    return usualKeyOf(this.#options, server);
  }

  /**
   * A room in one direction; undefined where it is not known here.
   * @param reader the other server where this one writes; undefined where this one reads
   */
  async open(
    room: RoomId,
    writer: ServerName,
    reader: ServerName | undefined,
  ): Promise<RoomDirection | undefined> {
    const found = await findRoom(this.#options.database, room);
    const version = found && roomVersion(found.version);
    if (found === undefined || found.currentGroup === null || version === undefined) return undefined;
    const direction = new RoomDirection(this.#options, { room, row: found.row, version, writer, reader });
    const { provisional } = this.#options;
    if (reader === undefined && provisional !== undefined)
      for (const event of await provisional(room, writer)) await direction.add(event);
    return direction;
  }
}

async function usualKeyOf(
  { database, serverName, signingKey }: RoomViewsOptions,
  server: ServerName,
): Promise<UsualKey | undefined> {
  if (server === serverName) return signingKey;
  const keys = (await keysOf(database, server)).filter(({ retired }) => !retired);
  const [newest] = keys.toSorted((a, b) => b.validUntil - a.validUntil);
  const publicKey = newest && fromBase64(newest.publicKey);
  return publicKey && { keyId: newest!.keyId, publicKey };
}

/** A room while events of it are written to another server, or read from it, one after another. */
export class RoomDirection {
  readonly version: RoomVersion;
  readonly room: RoomId;
  readonly #row: number;
  readonly #writer: ServerName;
  readonly #reader: ServerName | undefined;
  readonly #options: RoomViewsOptions;
  /** Events of the message that is being written or read, in front of the next one. */
  readonly #added = new Map<EventId, Node>();
  /** Whether an event waits for the reader. */
  readonly #queued = new Map<EventId, boolean>();
  #lastSender: string | undefined;

  constructor(
    options: RoomViewsOptions,
    {
      room,
      row,
      version,
      writer,
      reader,
    }: {
      room: RoomId;
      row: number;
      version: RoomVersion;
      writer: ServerName;
      reader: ServerName | undefined;
    },
  ) {
    this.#options = options;
    this.room = room;
    this.#row = row;
    this.version = version;
    this.#writer = writer;
    this.#reader = reader;
  }

  /** The view by which to write an event: the first whose extremities are the event's previous events, else the first. */
  async viewFor(event: Event): Promise<RoomView | undefined> {
    const wanted = new Set<string>(prevEvents(event.pdu));
    let first: RoomView | undefined;
    for await (const view of this.guesses()) {
      first ??= view;
      const ids = view.extremities().map(({ id }) => id);
      if (ids.length !== wanted.size || !ids.every((id) => wanted.has(id))) continue;
      first = view;
      break;
    }
    // Behind a long queue nothing is found by walking, and the event is most likely built on what is in front of it.
    first ??= await this.#viewAfter(prevEvents(event.pdu));
    await first?.learn({ events: prevEvents(event.pdu), servers: [serverOf(event.pdu.sender)] });
    return first;
  }

  async #viewAfter(ids: readonly EventId[]): Promise<RoomView | undefined> {
    const nodes = [...(await this.#nodes(ids)).values()];
    const state = nodes.length === new Set(ids).size ? await this.#stateAfter(nodes) : undefined;
    if (state === undefined) return undefined;
    const front = nodes.map(({ event }) => event);
    return new RoomView(this, front, state, await this.#usualSender());
  }

  /** The views that both ends reckon with, the most likely first; at most MAX_VIEWS. */
  async *guesses(): AsyncGenerator<RoomView> {
    const usualSender = await this.#usualSender();
    const hidden = new Set<EventId>();
    for (let guess = 0; guess < MAX_VIEWS; guess++) {
      const front = await this.#front(hidden);
      if (front === undefined || front.length === 0) return;
      const state = await this.#stateAfter(front);
      if (state === undefined) return;
      const view = new RoomView(
        this,
        front.map(({ event }) => event),
        state,
        usualSender,
      );
      await view.learn({ servers: [this.#writer] });
      yield view;
      const [foreign] = front
        .filter(({ event }) => serverOf(event.pdu.sender) !== this.#writer)
        .sort((a, b) => depthOf(b.event.pdu) - depthOf(a.event.pdu) || (a.event.id < b.event.id ? -1 : 1));
      if (foreign === undefined) return;
      hidden.add(foreign.event.id);
    }
  }

  /** Takes an event of the message as known to both, for those behind it. */
  async add(event: Event): Promise<void> {
    const stored = (await this.#stores.events.get(event.id))?.stateAfter ?? null;
    const after = stored ?? (await this.#stateAfterAdded(event));
    this.#added.set(event.id, { event, after });
    if (serverOf(event.pdu.sender) === this.#writer) this.#lastSender = event.pdu.sender;
  }

  /** Events that both ends have, of those with these ids. */
  async known(ids: readonly EventId[]): Promise<Map<EventId, Event>> {
    const found = await this.#nodes(ids);
    const unshared = await this.#unshared([...found.keys()]);
    return new Map([...found].flatMap(([id, { event }]) => (unshared.has(id) ? [] : [[id, event] as const])));
  }

  /** As RoomViews.usualKey. */
  usualKey(server: ServerName): Promise<UsualKey | undefined> {
    return usualKeyOf(this.#options, server);
  }

  get #stores(): RoomStores {
    return this.#options.stores();
  }

  async #stateAfterAdded(event: Event): Promise<RoomState | null> {
    const prevs = await this.#nodes(prevEvents(event.pdu));
    if (prevs.size < new Set(prevEvents(event.pdu)).size) return null;
    const before = await this.#stateAfter([...prevs.values()]);
    return before?.after(event) ?? null;
  }

  /** Events of the room by id: those of the message, and those that are stored. */
  async #nodes(ids: readonly EventId[]): Promise<Map<EventId, Node>> {
    const nodes = new Map<EventId, Node>();
    for (const id of ids) {
      const added = this.#added.get(id);
      if (added !== undefined) nodes.set(id, added);
    }
    const stored = await this.#stores.events.load(ids.filter((id) => !nodes.has(id)));
    for (const [id, { event, stateAfter }] of stored)
      if (event.room === this.room) nodes.set(id, { event, after: stateAfter });
    return nodes;
  }

  /** Those of the events that the reader may not have: they wait in the queue, and not in this message. */
  async #unshared(ids: readonly EventId[]): Promise<ReadonlySet<EventId>> {
    if (this.#reader === undefined) return new Set();
    const unknown = ids.filter((id) => !this.#queued.has(id));
    const queued = await queuedAmong(this.#options.database, this.#reader, unknown);
    for (const id of unknown) this.#queued.set(id, queued.has(id));
    return new Set(ids.filter((id) => this.#queued.get(id) === true && !this.#added.has(id)));
  }

  /** The forward extremities of what both have less `hidden`; undefined where too much would have to be looked at. */
  async #front(hidden: ReadonlySet<EventId>): Promise<Node[] | undefined> {
    const ends = await forwardExtremities(this.#options.database, this.#row);
    const seen = new Set<EventId>();
    const front = new Map<EventId, Node>();
    let next: EventId[] = [...this.#added.keys(), ...ends.map(({ id }) => id)];
    while (next.length > 0) {
      const fresh = [...new Set(next)].filter((id) => !seen.has(id));
      for (const id of fresh) seen.add(id);
      if (seen.size > MAX_WALK) return undefined;
      const nodes = await this.#nodes(fresh);
      const unshared = await this.#unshared([...nodes.keys()]);
      const behind = [...nodes].filter(([id]) => hidden.has(id) || unshared.has(id));
      const shared = [...nodes].filter(([id]) => !hidden.has(id) && !unshared.has(id));
      const covered = await this.#covered(
        shared.map(([id]) => id),
        hidden,
      );
      for (const [id, node] of shared) if (!covered.has(id)) front.set(id, node);
      next = behind.flatMap(([, { event }]) => prevEvents(event.pdu));
    }
    return [...front.values()];
  }

  /** Those of the events on which something is built that both have. */
  async #covered(ids: readonly EventId[], hidden: ReadonlySet<EventId>): Promise<ReadonlySet<EventId>> {
    const covered = new Set<EventId>();
    for (const [id, { event }] of this.#added) {
      if (!hidden.has(id)) for (const prev of prevEvents(event.pdu)) covered.add(prev);
    }
    for (const id of ids) {
      if (covered.has(id)) continue;
      const children = await childrenOf(this.#options.database, this.room, [id]);
      const accepted = children.filter(
        ({ status, id: child }) => (status === 'timeline' || status === 'withheld') && !hidden.has(child),
      );
      const unshared = await this.#unshared(accepted.map((child) => child.id));
      if (accepted.some((child) => !unshared.has(child.id))) covered.add(id);
    }
    return covered;
  }

  async #stateAfter(nodes: readonly Node[]): Promise<RoomState | undefined> {
    const { states } = this.#stores;
    const after: RoomState[] = [];
    for (const node of nodes) {
      if (node.after === null) return undefined;
      after.push(typeof node.after === 'number' ? await states.load(node.after) : node.after);
    }
    const pending: Pending = new Map(
      [...this.#added].map(([id, { event }]) => [id, { event, rejected: false }]),
    );
    return states.resolve(after, this.version, pending);
  }

  /** The sender of the last event that went in this direction. */
  async #usualSender(): Promise<string | undefined> {
    if (this.#lastSender !== undefined) return this.#lastSender;
    const last = await lastEventsOf(this.#options.database, this.room, this.#writer);
    const unshared = await this.#unshared(last.map(({ id }) => id));
    return last.find(({ id }) => !unshared.has(id))?.sender;
  }
}

/** One guess at what both ends know of a room. What it is asked for and does not know is in `asked`. */
export class RoomView implements PduView {
  readonly version: RoomVersion;
  readonly room: string;
  readonly usualSender: string | undefined;
  readonly referenceTs = 0;
  readonly #direction: RoomDirection;
  readonly #front: readonly KnownEvent[];
  readonly #state: RoomState;
  readonly #events = new Map<string, KnownEvent | undefined>();
  readonly #keys = new Map<string, UsualKey | undefined>();
  readonly #asked = { events: new Set<string>(), servers: new Set<string>() };

  constructor(
    direction: RoomDirection,
    front: readonly Event[],
    state: RoomState,
    usualSender: string | undefined,
  ) {
    this.#direction = direction;
    this.version = direction.version;
    this.room = direction.room;
    this.usualSender = usualSender;
    this.#front = front.map((event) => this.#known(event));
    this.#state = state;
    for (const known of this.#front) this.#events.set(known.id, known);
  }

  extremities(): readonly KnownEvent[] {
    return this.#front;
  }

  event(id: string): KnownEvent | undefined {
    if (!this.#events.has(id)) this.#asked.events.add(id);
    return this.#events.get(id);
  }

  state(places: readonly StateKey[]): readonly string[] {
    return places.flatMap((place) => this.#state.map.get(place) ?? []);
  }

  usualKey(server: string): string | undefined {
    if (!this.#keys.has(server)) this.#asked.servers.add(server);
    return this.#keys.get(server)?.keyId;
  }

  isSigned(pdu: JsonObject): boolean {
    const signed = this.#signed(pdu);
    if (signed === undefined) return false;
    const { event, server, key } = signed;
    return verifyEventSignature(event, this.version, server, key.keyId, key.publicKey);
  }

  completeSignature(pdu: JsonObject, short: Uint8Array): Uint8Array | undefined {
    const signed = this.#signed(pdu);
    return signed && completeEventSignature(signed.event, this.version, signed.key.publicKey, short);
  }

  #signed(
    pdu: JsonObject,
  ): { readonly event: Pdu; readonly server: ServerName; readonly key: UsualKey } | undefined {
    const event = parsePdu(pdu, this.version);
    const server = event.ok ? serverOf(event.value.pdu.sender) : undefined;
    const key = server && this.#keys.get(server);
    return event.ok && server && key ? { event: event.value.pdu, server, key } : undefined;
  }

  /** Looks up events and keys. */
  async learn({
    events = [],
    servers = [],
  }: {
    readonly events?: readonly string[];
    readonly servers?: readonly string[];
  }): Promise<void> {
    const found = await this.#direction.known(events as readonly EventId[]);
    for (const id of events) {
      const event = found.get(id as EventId);
      this.#events.set(id, event && this.#known(event));
    }
    for (const server of servers)
      this.#keys.set(server, await this.#direction.usualKey(server as ServerName));
  }

  /** Looks up what it was asked for and did not know. @returns whether there was something */
  async learnAsked(): Promise<boolean> {
    const asked = { events: [...this.#asked.events], servers: [...this.#asked.servers] };
    this.#asked.events.clear();
    this.#asked.servers.clear();
    await this.learn(asked);
    return asked.events.length + asked.servers.length > 0;
  }

  #known({ id, pdu }: Event): KnownEvent {
    const known = { id, depth: depthOf(pdu), originServerTs: pdu.origin_server_ts };
    return refersByPairs(this.version)
      ? { ...known, referenceHash: referenceHash(pdu, this.version) }
      : known;
  }
}

import { type JsonObject, numberOf } from '../../matrix/json.ts';
import { type StateKey, stateKey } from '../../matrix/pdu.ts';
import type { RoomVersion } from '../../matrix/room_version.ts';
import type { KnownEvent, PduView } from '../pdu/view.ts';

/** Events of a room that are remembered besides its state. */
const MAX_EVENTS = 64;
/** Events of a client have no signatures; the form of events between servers has one that follows later, by some key. */
export const NO_KEY = 'ed25519:0';

/** What is remembered of an event that was told. */
export interface ToldEvent extends KnownEvent {
  readonly sender: string;
  readonly type: string;
  readonly stateKey: string | undefined;
}

/**
 * What a client has of a room by what /sync has told it, as its reader has it and its writer takes it to have: each event was
 * told behind the others, so that the next one is most likely to be built on the last.
 */
export class ToldRoom implements PduView {
  readonly version: RoomVersion;
  readonly room: string;
  readonly #before: ToldRoom | undefined;
  readonly #events = new Map<string, KnownEvent>();
  readonly #state = new Map<StateKey, string>();
  #last: ToldEvent | undefined;

  /** @param before what was told before: it stays as it is until `commit` */
  constructor(options: { readonly version: RoomVersion; readonly room: string; readonly before?: ToldRoom }) {
    this.version = options.version;
    this.room = options.room;
    this.#before = options.before;
  }

  add(event: ToldEvent): void {
    this.#last = event;
    this.remember(event);
    if (event.stateKey !== undefined) this.setState(stateKey(event.type, event.stateKey), event.id);
  }

  /** An event that is known, and may be the last of another line. */
  remember(event: KnownEvent): void {
    this.#events.delete(event.id);
    this.#events.set(event.id, event);
    if (this.#events.size > MAX_EVENTS) this.#events.delete(this.#events.keys().next().value!);
  }

  setState(place: StateKey, id: string): void {
    this.#state.set(place, id);
  }

  /** Takes over what is known into what was known before. Answers the room that now has all of it. */
  commit(before = this.#before): ToldRoom {
    if (before === undefined) return this;
    for (const event of this.#events.values()) before.remember(event);
    for (const [place, id] of this.#state) before.setState(place, id);
    before.#last = this.#last ?? before.#last;
    return before;
  }

  get last(): ToldEvent | undefined {
    return this.#last ?? this.#before?.last;
  }

  /** The newest of the events that are remembered, deepest first. */
  newest(): readonly KnownEvent[] {
    return [...(this.#before?.newest() ?? []), ...this.#events.values()].sort((a, b) => b.depth - a.depth);
  }

  /** The same room, as somebody has it who takes another event to be the last. */
  with(last: KnownEvent): PduView {
    return {
      version: this.version,
      room: this.room,
      extremities: () => [last],
      event: (id) => this.event(id),
      state: (places) => this.state(places),
      usualKey: () => NO_KEY,
      usualSender: this.usualSender,
      referenceTs: this.referenceTs,
    };
  }

  extremities(): readonly KnownEvent[] {
    const { last } = this;
    return last === undefined ? [] : [last];
  }

  event(id: string): KnownEvent | undefined {
    return this.#events.get(id) ?? this.#before?.event(id);
  }

  state(places: readonly StateKey[]): readonly string[] {
    return places.flatMap((place) => this.#at(place) ?? []);
  }

  #at(place: StateKey): string | undefined {
    return this.#state.get(place) ?? this.#before?.state([place])[0];
  }

  usualKey(): string {
    return NO_KEY;
  }

  get usualSender(): string | undefined {
    return this.last?.sender;
  }

  get referenceTs(): number {
    return this.last?.originServerTs ?? 0;
  }
}

/** An event of the federation format as it is remembered. It has passed the checks of its form. */
export function toldEvent(id: string, pdu: JsonObject): ToldEvent {
  const { depth, origin_server_ts, sender, type, state_key } = pdu;
  return {
    id,
    depth: numberOf(depth),
    originServerTs: origin_server_ts as number,
    sender: sender as string,
    type: type as string,
    stateKey: state_key as string | undefined,
  };
}

import type { EventId } from '../../matrix/ids.ts';
import type { StateKey, StateMap } from '../../matrix/pdu.ts';
import type { Reader } from '../../storage/database.ts';
import { eventIdsByRow, placesByRow } from '../../storage/state.ts';

/** How many names of each kind are kept. */
const MAX_NAMES = 200_000;

/** The names of places and events by their rows, which never change. States that are read share the text. */
export class StateNames {
  readonly #db: Reader;
  #places = new Map<number, StateKey>();
  #events = new Map<number, EventId>();

  constructor(db: Reader) {
    this.#db = db;
  }

  /** A state with names. @param rows rows of events by rows of places */
  async named(rows: ReadonlyMap<number, number>): Promise<StateMap> {
    const places = this.#places;
    const events = this.#events;
    const unknownPlaces = [...rows.keys()].filter((row) => !places.has(row));
    for (const [row, place] of await placesByRow(this.#db, unknownPlaces)) places.set(row, place);
    const unknownEvents = [...rows.values()].filter((row) => !events.has(row));
    for (const [row, id] of await eventIdsByRow(this.#db, unknownEvents)) events.set(row, id);
    const named = new Map<StateKey, EventId>();
    for (const [place, event] of rows) named.set(places.get(place)!, events.get(event)!);
    if (places.size > MAX_NAMES) this.#places = new Map();
    if (events.size > MAX_NAMES) this.#events = new Map();
    return named;
  }
}

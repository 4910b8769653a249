/** How much of a map may lie over its base, in entries: the square root of the base's size times this, or as many more. */
const OVERLAY_FACTOR = 2;
const LEAST_OVERLAY = 16;
/** A base is shared by about as many maps as it has room for changes; each counts this part of it as its own. */
const SHARERS = 16;

/**
 * A map that never changes. One made from another by a few changes shares its base with it, so that the states of a large
 * room one after the other take little memory, and are quick to make and to compare.
 */
export class LayeredMap<Key, Value extends {}> implements ReadonlyMap<Key, Value> {
  readonly size: number;
  /** How many entries it weighs in memory, a share of what it has in common with others included. */
  readonly weight: number;
  readonly #base: ReadonlyMap<Key, Value>;
  /** Undefined: the base's entry is not there. */
  readonly #overlay: ReadonlyMap<Key, Value | undefined>;

  private constructor(
    base: ReadonlyMap<Key, Value>,
    overlay: ReadonlyMap<Key, Value | undefined>,
    measures: { readonly size: number; readonly weight: number },
  ) {
    this.#base = base;
    this.#overlay = overlay;
    this.size = measures.size;
    this.weight = measures.weight;
  }

  /** @param map is not changed any more */
  static of<Key, Value extends {}>(map: ReadonlyMap<Key, Value>): LayeredMap<Key, Value> {
    if (map instanceof LayeredMap) return map;
    return new LayeredMap(map, new Map(), { size: map.size, weight: map.size });
  }

  /** This map with some entries changed; undefined: the entry goes away. */
  with(changes: ReadonlyMap<Key, Value | undefined>): LayeredMap<Key, Value> {
    const overlay = new Map(this.#overlay);
    let { size } = this;
    for (const [key, value] of changes) {
      size += Number(value !== undefined) - Number(this.has(key));
      if (value === undefined && !this.#base.has(key)) overlay.delete(key);
      else overlay.set(key, value);
    }
    if (overlay.size > LEAST_OVERLAY + OVERLAY_FACTOR * Math.sqrt(this.#base.size)) {
      return LayeredMap.of(new Map(new LayeredMap(this.#base, overlay, { size, weight: 0 })));
    }
    const weight = overlay.size + Math.ceil(this.#base.size / SHARERS);
    return new LayeredMap(this.#base, overlay, { size, weight });
  }

  /** What has to change to get from this map to another; undefined: the entry goes away. */
  changesTo(other: ReadonlyMap<Key, Value>): Map<Key, Value | undefined> {
    const changes = new Map<Key, Value | undefined>();
    if (other instanceof LayeredMap && other.#base === this.#base) {
      for (const key of new Set([...this.#overlay.keys(), ...other.#overlay.keys()])) {
        const value = other.get(key);
        if (this.get(key) !== value) changes.set(key, value);
      }
      return changes;
    }
    for (const [key, value] of other) if (this.get(key) !== value) changes.set(key, value);
    for (const key of this.keys()) if (!other.has(key)) changes.set(key, undefined);
    return changes;
  }

  get(key: Key): Value | undefined {
    return this.#overlay.has(key) ? this.#overlay.get(key) : this.#base.get(key);
  }

  has(key: Key): boolean {
    return this.get(key) !== undefined;
  }

  *entries(): Generator<[Key, Value], undefined, unknown> {
    for (const entry of this.#base) {
      if (this.#overlay.size === 0 || !this.#overlay.has(entry[0])) yield entry;
    }
    for (const [key, value] of this.#overlay) if (value !== undefined) yield [key, value];
  }

  *keys(): Generator<Key, undefined, unknown> {
    for (const [key] of this.entries()) yield key;
  }

  *values(): Generator<Value, undefined, unknown> {
    for (const [, value] of this.entries()) yield value;
  }

  [Symbol.iterator](): Generator<[Key, Value], undefined, unknown> {
    return this.entries();
  }

  forEach(visit: (value: Value, key: Key, map: ReadonlyMap<Key, Value>) => void): void {
    for (const [key, value] of this.entries()) visit(value, key, this);
  }
}

/**
 * What a state group lays over its parent, in bytes. For each place, in the order of their rows: how much its row is
 * more than the one before, and how much the row of its event differs from that of the one before, both as variable
 * length integers, the latter with the sign in the lowest bit. The event row 0 says that the place is empty.
 */

/** Rows of events by rows of places; 0: the place is empty. */
export type Layer = ReadonlyMap<number, number>;

/** A group takes over the entries of a parent that is less than this many times larger. */
const MERGE_RATIO = 2;

const CONTINUED = 128;

/** Packs what a group lays over its parent. */
export function packLayer(layer: Layer): Uint8Array {
  const places = Float64Array.from(layer.keys()).sort();
  const bytes: number[] = [];
  let lastPlace = 0;
  let lastEvent = 0;
  for (const place of places) {
    const event = layer.get(place)!;
    pushInteger(bytes, place - lastPlace);
    const step = event - lastEvent;
    pushInteger(bytes, step < 0 ? -2 * step - 1 : 2 * step);
    lastPlace = place;
    lastEvent = event;
  }
  return Uint8Array.from(bytes);
}

function pushInteger(bytes: number[], value: number): void {
  let left = value;
  for (; left >= CONTINUED; left = Math.floor(left / CONTINUED)) bytes.push((left % CONTINUED) + CONTINUED);
  bytes.push(left);
}

/** Calls `visit` for every entry of a packed layer, by place, until it answers true. */
export function visitLayer(bytes: Uint8Array, visit: (place: number, event: number) => boolean): void {
  let at = 0;
  const next = (): number => {
    let value = 0;
    let scale = 1;
    for (;;) {
      const byte = bytes[at++]!;
      if (byte < CONTINUED) return value + byte * scale;
      value += (byte - CONTINUED) * scale;
      scale *= CONTINUED;
    }
  };
  let place = 0;
  let event = 0;
  while (at < bytes.length) {
    place += next();
    const step = next();
    event += step % 2 === 0 ? step / 2 : -(step + 1) / 2;
    if (visit(place, event)) return;
  }
}

/** How many of the layers below, the nearest first, a new one of this size takes over. */
export function layersToMerge(size: number, below: readonly { readonly size: number }[]): number {
  let merged = 0;
  let total = size;
  for (const layer of below) {
    if (layer.size >= total * MERGE_RATIO) break;
    total += layer.size;
    merged++;
  }
  return merged;
}

/**
 * Lays layers over each other into one.
 * @param layers the uppermost first
 * @param complete whether nothing lies below, so that empty places need not be told
 */
export function mergeLayers(layers: readonly Uint8Array[], complete: boolean): Map<number, number> {
  const merged = new Map<number, number>();
  for (const bytes of layers.toReversed()) {
    visitLayer(bytes, (place, event) => {
      if (event === 0 && complete) merged.delete(place);
      else merged.set(place, event);
      return false;
    });
  }
  return merged;
}

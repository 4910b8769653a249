import type { Random } from '../base/random.ts';
import type { ConnectionId } from './record.ts';

// The ids of each length that are used before longer ones are: half of them, so that a random one is soon found free
// and a late record for a closed session seldom meets a new one.
const LENGTHS = [
  { first: 0, count: 2 ** 7 },
  { first: 0x8000, count: 2 ** 14 },
  { first: 0xc000_0000, count: 2 ** 30 },
] as const;

/** Who is meant by the connection ids that this side has chosen. */
export class Connections<Owner> {
  readonly #random: Random;
  readonly #owners = new Map<ConnectionId, Owner>();
  readonly #used: number[] = LENGTHS.map(() => 0);

  constructor(random: Random) {
    this.#random = random;
  }

  get size(): number {
    return this.#owners.size;
  }

  get(id: ConnectionId): Owner | undefined {
    return this.#owners.get(id);
  }

  /** A random id that is not in use, as short as the number of connections allows. */
  choose(): ConnectionId {
    const length = LENGTHS.findIndex(({ count }, i) => this.#used[i]! < count / 2);
    const { first, count } = LENGTHS[length]!;
    for (;;) {
      const id = (first + this.#random.integer(count)) as ConnectionId;
      if (!this.#owners.has(id)) return id;
    }
  }

  /** Gives `id` to `owner`, or hands it on to its next owner. */
  set(id: ConnectionId, owner: Owner): void {
    if (!this.#owners.has(id)) this.#used[lengthOf(id)]!++;
    this.#owners.set(id, owner);
  }

  /** Frees `id` if it still is `owner`'s. */
  delete(id: ConnectionId, owner: Owner): void {
    if (this.#owners.get(id) !== owner) return;
    this.#owners.delete(id);
    this.#used[lengthOf(id)]!--;
  }
}

const lengthOf = (id: ConnectionId): number => (id < LENGTHS[1].first ? 0 : id < LENGTHS[2].first ? 1 : 2);

import type { MessageId } from '../base/message_id.ts';
import type { Coder, Coders } from '../compact/container.ts';
import { BEGINS, nextGeneration, type Place, placeOf } from '../compact/history_name.ts';
import type { HistoryMemory } from './history_memory.ts';
import { type LearningModel, Learnt } from './learnt.ts';

// Ours.
/** Generations of a history that are kept: the newest, and those that messages on their way may have been coded with. */
const KEPT_GENERATIONS = 3;

/** A generation, and the number of the message that has made it. */
interface Made {
  readonly number: number;
  readonly learnt: Learnt;
}

/** A history's name, which one after another has. */
class Slot {
  /** By generation. */
  readonly made = new Map<number, Made>();
  /** The number of the newest message that was learnt from, also where that is forgotten: nothing older is learnt any more. */
  newest = -1;

  get bytes(): number {
    return [...this.made.values()].reduce((sum, { learnt }) => sum + learnt.bytes, 0);
  }

  forget(): void {
    this.made.clear();
  }
}

/** What one request of a peer is read with. */
export interface Reading {
  readonly coders: Coders;
  /** The whole of the request was understood: its sender may take it that this side has learnt from it. */
  understood(): void;
}

/**
 * The histories of one peer, which it has begun in one session. A name (slot and generation) means what the newest message
 * has made that was sent before the one that uses the name; sessions number what is sent in its order.
 */
export class ReadHistories {
  readonly #models: ReadonlyMap<number, LearningModel>;
  readonly #memory: HistoryMemory;
  /** The session in which they began, by the peer's name of it (MessageId.generation). */
  #session = Number.NEGATIVE_INFINITY;
  readonly #slots = new Map<number, Slot>();

  constructor(models: ReadonlyMap<number, LearningModel>, memory: HistoryMemory) {
    this.#models = models;
    this.#memory = memory;
  }

  /** Goes, and says so. */
  retire(): boolean {
    this.forget();
    return true;
  }

  /** @param message what the request is named by */
  reading(message: MessageId): Reading {
    let learn = (): void => undefined;
    const coders: Coders = {
      coder: (id) => this.#models.get(id)?.coder('request'),
      learnt: (id, byte) => {
        const place = placeOf(byte);
        const before = place.generation === BEGINS ? undefined : this.#find(place, message);
        const model = id === undefined ? before?.model : this.#models.get(id);
        if (model === undefined || (before !== undefined && before.model !== model)) return undefined;
        if (place.generation === BEGINS ? !place.learns : before === undefined) return undefined;
        return noting(model.coder('request', before?.adaptation), (content) => {
          if (place.learns) learn = () => this.#learn(place, new Learnt(model, before, content), message);
        });
      },
    };
    return { coders, understood: () => learn() };
  }

  #find({ slot, generation }: Place, message: MessageId): Learnt | undefined {
    const made = this.#slots.get(slot)?.made.get(generation);
    if (message.generation !== this.#session || made === undefined || made.number >= message.number)
      return undefined;
    return made.learnt;
  }

  #learn({ slot: number, generation }: Place, learnt: Learnt, message: MessageId): void {
    if (generation === BEGINS && !this.#begin(number, message)) return;
    const slot = this.#slots.get(number);
    if (slot === undefined || message.number <= slot.newest) return;
    slot.newest = message.number;
    slot.made.set(nextGeneration(generation), { number: message.number, learnt });
    const byAge = [...slot.made].sort(([, a], [, b]) => b.number - a.number);
    for (const [old] of byAge.slice(KEPT_GENERATIONS)) slot.made.delete(old);
    this.#memory.use(slot);
  }

  /**
   * Empties the slot for a history that begins. Where something newer was there, or a newer session has some, nobody knows what
   * the sender knows, and it cannot begin: what it is thought to have begun is refused, and its sender begins once more.
   */
  #begin(number: number, message: MessageId): boolean {
    if (message.generation !== this.#session) this.forget();
    if (message.generation < this.#session) return false;
    if (message.generation > this.#session) this.#slots.clear();
    this.#session = message.generation;
    const slot = this.#slots.get(number) ?? new Slot();
    this.#slots.set(number, slot);
    if (message.number === slot.newest) return false;
    slot.forget();
    this.#memory.drop(slot);
    return message.number > slot.newest;
  }

  /** Everything: what its sender still has is refused. */
  forget(): void {
    for (const slot of this.#slots.values()) {
      slot.forget();
      this.#memory.drop(slot);
    }
  }
}

/** A coder that tells what it has decoded. */
function noting(coder: Coder, decoded: (content: Uint8Array) => void): Coder {
  return {
    ...coder,
    decode(bytes, maxBytes) {
      const content = coder.decode(bytes, maxBytes);
      if (content.ok) decoded(content.value);
      return content;
    },
  };
}

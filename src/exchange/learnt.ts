import type { Adaptation, Model } from '../compact/mixer/model.ts';

/*
 * The byte that says in a container what a message is coded with, and what is learnt from it (docs/protocol.md, "Histories"):
 *
 *     lssssggg    l: the message is learnt from, and makes the next generation (after 7 comes 1)
 *                 s: which of SLOTS histories
 *                 g: the generation that the message is coded with; 0: none, it begins a history
 */
export const SLOTS = 16;
export const GENERATIONS = 7;
export const BEGINS = 0;
const GENERATION_BITS = 3;
const LEARNS = 0x80;

/** What the byte says. */
export interface Place {
  readonly slot: number;
  readonly generation: number;
  readonly learns: boolean;
}

export const byteOf = ({ slot, generation, learns }: Place): number =>
  (learns ? LEARNS : 0) | (slot << GENERATION_BITS) | generation;

export const placeOf = (byte: number): Place => ({
  slot: (byte >> GENERATION_BITS) & (SLOTS - 1),
  generation: byte & GENERATIONS,
  learns: (byte & LEARNS) !== 0,
});

export const nextGeneration = (generation: number): number => (generation % GENERATIONS) + 1;

/** What histories need of a model. */
export type LearningModel = Pick<Model, 'id' | 'encode' | 'learn' | 'coder'>;

/** What is known of a room's messages after one of them and all before it. It is learnt when it is first asked for. */
export class Learnt {
  readonly model: LearningModel;
  #before: Learnt | undefined;
  #message: Uint8Array;
  #adaptation: Adaptation | undefined;

  /** @param before what the message was coded with; undefined: it is the first */
  constructor(model: LearningModel, before: Learnt | undefined, message: Uint8Array) {
    this.model = model;
    this.#before = before;
    this.#message = message.slice();
  }

  get adaptation(): Adaptation {
    if (this.#adaptation === undefined) {
      this.#adaptation = this.model.learn(this.#message, 'request', this.#before?.adaptation);
      this.#before = undefined;
      this.#message = this.#message.subarray(0, 0);
    }
    return this.#adaptation;
  }

  /** The memory that it takes. */
  get bytes(): number {
    return this.#message.length + (this.#adaptation?.buckets.bytes ?? 0);
  }
}

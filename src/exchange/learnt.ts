import { type Adaptation, bytesOf, type Model } from '../compact/mixer/model.ts';

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
    return this.#message.length + (this.#adaptation === undefined ? 0 : bytesOf(this.#adaptation));
  }
}

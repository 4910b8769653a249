import type { CoapResponse } from '../coap/api.ts';
import { isSuccess } from '../coap/codes.ts';

export interface ChangeOptions {
  /** Whether each observer has to acknowledge it; by default the endpoint decides. */
  readonly confirmable?: boolean;
}

export type ChangeListener = (representation: CoapResponse, options: ChangeOptions) => void;

/**
 * A resource whose state is at hand, and whose observers are told of each change. A handler returns it in place of a
 * response, to everybody who asks: who does not want to observe gets the present state. Nothing between that state and
 * the changes after it can be missed, and how often it changes does not matter: an observer that is slower than the
 * changes gets the newest.
 */
export class ObservedResource {
  #representation: CoapResponse;
  readonly #listeners = new Set<ChangeListener>();

  /** @param representation the response to a GET, its code and options included. */
  constructor(representation: CoapResponse) {
    this.#representation = representation;
  }

  get representation(): CoapResponse {
    return this.#representation;
  }

  /** How many observe it. */
  get observers(): number {
    return this.#listeners.size;
  }

  /** The new state. A code of class 4 or 5 (the resource is gone) is told to all observers and ends their observations. */
  change(representation: CoapResponse, options: ChangeOptions = {}): void {
    this.#representation = representation;
    const listeners = [...this.#listeners];
    if (!isSuccess(representation.code)) this.#listeners.clear();
    for (const listener of listeners) listener(representation, options);
  }

  /** Calls `listener` with each change from now on. Returns what ends that. */
  listen(listener: ChangeListener): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }
}

/**
 * Counts work that leaves the JavaScript thread (password hashing, files, outgoing HTTP), so that virtual time
 * advances only when nothing is pending. Everything asynchronous that is not the database's goes through `run`.
 */
export class Work {
  #pending = 0;
  readonly #oneAtATime: boolean;
  #tail: Promise<unknown> = Promise.resolve();

  /** @param oneAtATime run in the order of the calls, one after another: what a deterministic run needs. */
  constructor({ oneAtATime = false }: { readonly oneAtATime?: boolean } = {}) {
    this.#oneAtATime = oneAtATime;
  }

  /** How many calls of `run` have not settled. */
  get pending(): number {
    return this.#pending;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    this.#pending++;
    try {
      if (!this.#oneAtATime) return await task();
      const turn = this.#tail.then(task);
      this.#tail = turn.catch(() => undefined);
      return await turn;
    } finally {
      this.#pending--;
    }
  }
}

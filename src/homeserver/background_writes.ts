/** The part of a logger that is needed here; pino's fits. */
export interface Warnings {
  warn(fields: object, message: string): void;
}

/** Writes that go on behind an answer or a timer, so that nobody awaits them. That of the disk that fails is in the log. */
export class BackgroundWrites {
  readonly #log: Warnings;
  readonly #running = new Set<Promise<void>>();

  constructor(log: Warnings) {
    this.#log = log;
  }

  /**
   * Lets a write go on.
   * @param problem what the log says where it fails; whoever calls takes care that it is made good
   * @returns settled when it has ended, however that was
   */
  keep(writing: Promise<unknown>, problem: string): Promise<void> {
    const kept = writing
      .then(() => undefined)
      .catch((error: unknown) => this.#log.warn({ error: String(error) }, problem))
      .finally(() => this.#running.delete(kept));
    this.#running.add(kept);
    return kept;
  }

  /** Waits for those that run now. */
  async settled(): Promise<void> {
    await Promise.all(this.#running);
  }
}

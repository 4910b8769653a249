import type { JsonObject } from '../matrix/json.ts';
import type { Transaction } from '../storage/database.ts';

/**
 * Called in the transaction that makes an effect durable, once, with what the operation comes to. Where there is nothing
 * to change there is no transaction, and it is not called.
 */
export type Done<Outcome> = (tx: Transaction, outcome: Outcome) => Promise<void>;

/** For operations that nobody repeats. */
export const notNoted = async (): Promise<void> => undefined;

/**
 * How the operations of one request are done once, however often the request is repeated and wherever the process was
 * killed in between (docs/protocol.md, "Exactly once"). Outcomes are JSON: a repetition gets them as they were stored.
 */
export interface Once {
  /** One operation of several: where it is done its outcome is answered, and it does not run. `name` is used once. */
  step<Outcome>(name: string, run: (done: Done<Outcome>) => Promise<Outcome>): Promise<Outcome>;
  /** What has to be the same at each repetition though nothing is changed by it here, such as an event that others get to see. */
  decide<Outcome>(name: string, make: () => Promise<Outcome>): Promise<Outcome>;
  /**
   * The last or only operation: the transaction that does it stores the answer as well, with status 200 and the body
   * that `body` makes of the outcome. @returns that body
   */
  answer<Outcome>(
    run: (done: Done<Outcome>) => Promise<Outcome>,
    body: (outcome: Outcome) => JsonObject,
  ): Promise<JsonObject>;
}

/** For requests that cannot be recognised when they come again: those over HTTP. */
export const UNRECOGNISED: Once = {
  step: (_name, run) => run(notNoted),
  decide: (_name, make) => make(),
  answer: async (run, body) => body(await run(notNoted)),
};

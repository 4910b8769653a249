import { assert } from '../base/assert.ts';
import { equal } from '../base/bytes.ts';
import type { MessageId } from '../base/message_id.ts';
import type { Clock } from '../base/time.ts';
import { unknownError } from '../matrix/error.ts';
import type { JsonObject, JsonValue } from '../matrix/json.ts';
import type { Database, Transaction } from '../storage/database.ts';
import { type LedgerKey, ledgerRow, putAnswer, putStep } from '../storage/ledger.ts';
import type { Done, Once } from './once.ts';

/** Characters of an answer that is kept. Those of the routes that use the ledger are far shorter. */
const MAX_ANSWER_LENGTH = 16 * 1024;
/** Characters of what a step came to: an event and what goes with it. */
const MAX_OUTCOME_LENGTH = 1024 * 1024;

/** A request that can be recognised when it comes again. */
export interface RecognisedRequest {
  /** Who asks, and over which link. */
  readonly peer: string;
  readonly message: MessageId;
  /** Of what is asked for. */
  readonly digest: Uint8Array;
}

/** An answer as the ledger keeps it. */
export interface LedgerAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: JsonValue;
}

/**
 * Answers requests that change something exactly once. A request that comes again gets the answer that was stored with
 * its effect; one that was cut off goes on behind the last step that was stored; one of which nothing is known any more
 * is not run again.
 */
export class Ledger {
  /** Requests by what was done: run, gone on with, answered from the ledger, told that their outcome is not known. */
  readonly counters = { run: 0, continued: 0, repeated: 0, unknown: 0 };
  readonly #database: Database;
  readonly #clock: Clock;
  /** Requests that are being answered; as many as the doors let in. */
  readonly #underWay = new Map<
    string,
    { readonly digest: Uint8Array; readonly answer: Promise<LedgerAnswer> }
  >();

  constructor({ database, clock }: { readonly database: Database; readonly clock: Clock }) {
    this.#database = database;
    this.#clock = clock;
  }

  /**
   * Answers a request: by `run`, where that has not been done to the end. A repetition of one that is under way waits with it.
   * @param run says by `LedgerEntry.begin` whether the ledger is to keep the request at all
   */
  answer(
    request: RecognisedRequest,
    run: (entry: LedgerEntry) => Promise<LedgerAnswer>,
  ): Promise<LedgerAnswer> {
    const { peer, message, digest } = request;
    const key = JSON.stringify([peer, message.generation, message.number]);
    const underWay = this.#underWay.get(key);
    if (underWay !== undefined) {
      if (equal(underWay.digest, digest)) return underWay.answer;
      return Promise.resolve(this.#outcomeUnknown());
    }
    const answer = this.#answer(request, run).finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, { digest, answer });
    return answer;
  }

  async #answer(
    { peer, message: { generation, number }, digest }: RecognisedRequest,
    run: (entry: LedgerEntry) => Promise<LedgerAnswer>,
  ): Promise<LedgerAnswer> {
    const key: LedgerKey = { peer, generation, number };
    const row = await ledgerRow(this.#database, key);
    if (row.kind === 'gone') return this.#outcomeUnknown();
    if (row.kind !== 'new' && !equal(row.digest, digest)) return this.#outcomeUnknown();
    if (row.kind === 'answered') {
      if (row.answer === null) return this.#outcomeUnknown();
      this.counters.repeated++;
      return JSON.parse(row.answer) as LedgerAnswer;
    }
    this.counters[row.kind === 'new' ? 'run' : 'continued']++;
    const steps = row.kind === 'begun' ? row.steps : new Map<string, string>();
    const entry = new LedgerEntry({ database: this.#database, clock: this.#clock }, key, digest, steps);
    const answer = await run(entry);
    await entry.finish(answer);
    return answer;
  }

  /**
   * 409 and not 5xx: what is not known to have failed is not to be tried again by a machine, which would have its effect
   * twice; whoever asked has to look what became of it.
   */
  #outcomeUnknown(): LedgerAnswer {
    this.counters.unknown++;
    const error = unknownError(409, 'Outcome unknown: the request was made before, and is not made again.');
    return { status: error.status, headers: {}, body: error.toJson() };
  }
}

/** One request on its way. */
export class LedgerEntry implements Once {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #key: LedgerKey;
  readonly #digest: Uint8Array;
  readonly #steps: ReadonlyMap<string, string>;
  readonly #used = new Set<string>();
  #keeps: 'nothing' | 'successes' | 'everything' = 'nothing';
  #isAnswered = false;

  constructor(
    { database, clock }: { readonly database: Database; readonly clock: Clock },
    key: LedgerKey,
    digest: Uint8Array,
    steps: ReadonlyMap<string, string>,
  ) {
    this.#database = database;
    this.#clock = clock;
    this.#key = key;
    this.#digest = digest;
    this.#steps = steps;
  }

  /** Has the ledger keep the request. @param keeps `successes`: no refusals, where strangers could fill the ledger with them */
  begin(keeps: 'successes' | 'everything'): Once {
    this.#keeps = keeps;
    return this;
  }

  async step<Outcome>(name: string, run: (done: Done<Outcome>) => Promise<Outcome>): Promise<Outcome> {
    const known = this.#known(name);
    if (known !== undefined) return JSON.parse(known) as Outcome;
    return run((tx, outcome) => this.#put(tx, name, outcome));
  }

  async decide<Outcome>(name: string, make: () => Promise<Outcome>): Promise<Outcome> {
    const known = this.#known(name);
    if (known !== undefined) return JSON.parse(known) as Outcome;
    const outcome = await make();
    await this.#database.transaction((tx) => this.#put(tx, name, outcome));
    return outcome;
  }

  async answer<Outcome>(
    run: (done: Done<Outcome>) => Promise<Outcome>,
    body: (outcome: Outcome) => JsonObject,
  ): Promise<JsonObject> {
    return body(
      await run((tx, outcome) => this.#answer(tx, { status: 200, headers: {}, body: body(outcome) })),
    );
  }

  /** Stores the answer where the last transaction of the handler has not done it, so that a repetition gets no other. */
  async finish(answer: LedgerAnswer): Promise<void> {
    if (this.#isAnswered || this.#keeps === 'nothing') return;
    if (answer.status >= 400 && this.#keeps === 'successes') return;
    await this.#database.transaction((tx) => this.#answer(tx, answer));
  }

  #known(name: string): string | undefined {
    assert(!this.#used.has(name), `a request has one step ${name}`);
    this.#used.add(name);
    return this.#steps.get(name);
  }

  async #put(tx: Transaction, name: string, outcome: unknown): Promise<void> {
    const json = JSON.stringify(outcome);
    assert(json.length <= MAX_OUTCOME_LENGTH, `what the step ${name} came to is short`);
    await putStep(tx, this.#request(), name, json);
  }

  async #answer(tx: Transaction, answer: LedgerAnswer): Promise<void> {
    const json = JSON.stringify(answer);
    await putAnswer(tx, this.#request(), json.length <= MAX_ANSWER_LENGTH ? json : null);
    tx.afterCommit(() => {
      this.#isAnswered = true;
    });
  }

  #request() {
    return { ...this.#key, digest: this.#digest, now: this.#clock.wall() };
  }
}

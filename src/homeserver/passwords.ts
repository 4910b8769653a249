import { argon2id, argon2Verify } from 'hash-wasm';
import type { Random } from '../base/random.ts';
import type { Work } from '../base/work.ts';
import { MatrixError } from '../matrix/error.ts';

/** Cost of one argon2id hash (RFC 9106, section 3.1). */
export interface PasswordCost {
  readonly memoryKib: number;
  readonly passes: number;
  readonly lanes: number;
}

/** 19 MiB and two passes: what OWASP's password storage cheat sheet asks for at least. */
export const STANDARD_COST: PasswordCost = { memoryKib: 19 * 1024, passes: 2, lanes: 1 };

/** RFC 9106, section 3.1: 16 bytes are recommended for password hashing. */
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** Longer ones are nobody's password, and hashing them would cost more than others. */
const MAX_PASSWORD_LENGTH = 512;
/** Hashes that wait for their turn at most; one more request is told to come back. */
const MAX_WAITING = 64;
const RETRY_AFTER_MS = 2_000;

/** Hashes passwords, one at a time, so that logging in never takes more than one hash's memory. */
export class Passwords {
  readonly #random: Random;
  readonly #work: Work;
  readonly #cost: PasswordCost;
  #waiting = 0;
  #tail: Promise<unknown> = Promise.resolve();

  constructor({
    random,
    work,
    cost = STANDARD_COST,
  }: { random: Random; work: Work; cost?: PasswordCost | undefined }) {
    this.#random = random;
    this.#work = work;
    this.#cost = cost;
  }

  /** Whether a password can be hashed at all. */
  accepts(password: string): boolean {
    return password.length > 0 && password.length <= MAX_PASSWORD_LENGTH;
  }

  /** The PHC string of a password that is accepted. @throws MatrixError 429 where too many wait */
  hash(password: string): Promise<string> {
    const { memoryKib, passes, lanes } = this.#cost;
    const salt = this.#random.bytes(SALT_BYTES);
    return this.#inTurn(() =>
      argon2id({
        password: password.normalize('NFC'),
        salt,
        memorySize: memoryKib,
        iterations: passes,
        parallelism: lanes,
        hashLength: HASH_BYTES,
        outputType: 'encoded',
      }),
    );
  }

  /**
   * Whether it is the password; takes as long where there is no hash to compare with, so that the time tells nobody
   * who has an account. @throws MatrixError 429 where too many wait
   */
  async verify(password: string, hash: string | null | undefined): Promise<boolean> {
    if (!this.accepts(password)) return false;
    if (hash === null || hash === undefined) {
      await this.hash(password);
      return false;
    }
    return this.#inTurn(() => argon2Verify({ password: password.normalize('NFC'), hash }));
  }

  async #inTurn<T>(task: () => Promise<T>): Promise<T> {
    if (this.#waiting >= MAX_WAITING) {
      throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'Too many are logging in at once.', {
        retry_after_ms: RETRY_AFTER_MS,
      });
    }
    this.#waiting++;
    try {
      return await this.#work.run(() => {
        const turn = this.#tail.then(task);
        this.#tail = turn.catch(() => undefined);
        return turn;
      });
    } finally {
      this.#waiting--;
    }
  }
}

import { type Argon2Parameters, argon2, timingSafeEqual } from 'node:crypto';
import type { Random } from '../base/random.ts';
import type { Work } from '../base/work.ts';
import { invalidParam, limitExceeded, missingParam } from '../matrix/error.ts';

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
/** The PHC string of version 1.3 (RFC 9106, section 3.1: "version number v"). */
const PHC = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/;
/** Longer ones are nobody's password, and hashing them would cost more than others. */
const MAX_PASSWORD_LENGTH = 512;
/** Hashes that wait for their turn at most; one more request is told to come back. */
const MAX_WAITING = 64;
/** Of those that come from one place: the rest is for others. */
const MAX_WAITING_OF_ONE = 8;
const RETRY_AFTER_MS = 2_000;

/** Hashes passwords off this thread, one at a time, so that logging in never takes more than one hash's memory. */
export class Passwords {
  readonly #random: Random;
  readonly #work: Work;
  readonly #cost: PasswordCost;
  #waiting = 0;
  readonly #waitingOf = new Map<string, number>();
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

  /**
   * The PHC string of a password that is accepted.
   * @param from where the request comes from; left out: from the operator @throws MatrixError 429 where too many wait
   */
  async hash(password: string, from?: string): Promise<string> {
    const { memoryKib, passes, lanes } = this.#cost;
    const salt = this.#random.bytes(SALT_BYTES);
    const hash = await this.#inTurn(from, () =>
      derive(password, salt, { memory: memoryKib, passes, parallelism: lanes, tagLength: HASH_BYTES }),
    );
    return `$argon2id$v=19$m=${memoryKib},t=${passes},p=${lanes}$${unpadded(salt)}$${unpadded(hash)}`;
  }

  /**
   * Whether it is the password; takes as long where there is no hash to compare with, so that the time tells nobody
   * who has an account. @param from as for `hash` @throws MatrixError 429 where too many wait
   */
  async verify(password: string, hash: string | null | undefined, from?: string): Promise<boolean> {
    if (!this.accepts(password)) return false;
    const parts = PHC.exec(hash ?? '');
    if (parts === null) {
      await this.hash(password, from);
      return false;
    }
    const [memory, passes, parallelism] = parts.slice(1, 4).map(Number) as [number, number, number];
    const expected = Buffer.from(parts[5]!, 'base64');
    const cost = { memory, passes, parallelism, tagLength: expected.length };
    const actual = await this.#inTurn(from, () => derive(password, Buffer.from(parts[4]!, 'base64'), cost));
    return timingSafeEqual(actual, expected);
  }

  async #inTurn<T>(from: string | undefined, task: () => Promise<T>): Promise<T> {
    const others = from === undefined ? 0 : (this.#waitingOf.get(from) ?? 0);
    if (this.#waiting >= MAX_WAITING || others >= MAX_WAITING_OF_ONE)
      throw limitExceeded('Too many are logging in at once.', RETRY_AFTER_MS);
    this.#waiting++;
    if (from !== undefined) this.#waitingOf.set(from, others + 1);
    try {
      return await this.#work.run(() => {
        const turn = this.#tail.then(task);
        this.#tail = turn.catch(() => undefined);
        return turn;
      });
    } finally {
      this.#waiting--;
      if (from !== undefined) this.#done(from);
    }
  }

  #done(from: string): void {
    const left = this.#waitingOf.get(from)! - 1;
    if (left === 0) this.#waitingOf.delete(from);
    else this.#waitingOf.set(from, left);
  }
}

/** The tag of argon2id over the NFC form of a password, in the thread pool. */
function derive(
  password: string,
  salt: Uint8Array,
  cost: Pick<Argon2Parameters, 'memory' | 'passes' | 'parallelism' | 'tagLength'>,
): Promise<Buffer> {
  const parameters = { message: password.normalize('NFC'), nonce: salt, ...cost };
  return new Promise((resolve, reject) => {
    argon2('argon2id', parameters, (error, tag) => (error === null ? resolve(tag) : reject(error)));
  });
}

const unpadded = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64').replace(/=+$/, '');

/** The PHC string of a password that a user has chosen. @throws MatrixError M_MISSING_PARAM, M_INVALID_PARAM, 429 */
export async function hashNew(
  passwords: Passwords,
  password: string | undefined,
  from?: string,
): Promise<string> {
  if (password === undefined) throw missingParam('The password is missing.');
  if (!passwords.accepts(password)) throw invalidParam('The password is empty or too long.');
  return passwords.hash(password, from);
}

import { fromHex, hex } from '../base/bytes.ts';
import { networkOf } from '../base/network.ts';
import type { Cancel, Clock, Millis } from '../base/time.ts';
import type { DevicePipes } from '../homeserver/ports.ts';
import type { Address } from '../link/link.ts';
import { type DeviceClaim, nameOf } from '../pipe/identity.ts';
import type { Database } from '../storage/database.ts';
import { findDeviceKey } from '../storage/device_keys.ts';

/** How long a key that nobody has logged in with keeps its sessions; on a link of 100 bit/s a login takes minutes. */
const UNBOUND_MS: Millis = 10 * 60 * 1000;
/** How long the answer to a logout may take to arrive, repetitions included. */
const LOGOUT_MS: Millis = 2 * 60 * 1000;
/** Keys that nobody has logged in with, at a time; the oldest makes room. */
const MAX_UNBOUND = 256;
/** The same, of one network: so a stranger's keys take the room of one another. */
const MAX_UNBOUND_OF_NETWORK = 64;

/** In the place of a network: whoever has logged out makes room for nobody but others who have. */
const ASKING = 'logged out';

/** A key that is bound to no device and whose sessions will end. */
interface Unbound {
  readonly network: string;
  readonly cancel: Cancel;
}

/**
 * What becomes of the pipes of devices. Any key may have a session: whoever wants to log in has to talk first, and
 * what a key may do is asked anew for each request. But one that is bound to no device has its session for a short time
 * only, and there are not many of them; and a key that is revoked loses its sessions at once.
 */
export class DevicePipesOfLinks implements DevicePipes {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #forget: (peer: string, reason: string) => void;
  /** By key, the oldest first. */
  readonly #unbound = new Map<string, Unbound>();

  /** @param forget ends all sessions of a pipe's peer, on every link */
  constructor({
    database,
    clock,
    forget,
  }: {
    readonly database: Database;
    readonly clock: Clock;
    readonly forget: (peer: string, reason: string) => void;
  }) {
    this.#database = database;
    this.#clock = clock;
    this.#forget = forget;
  }

  /** How many keys are watched. */
  get unbound(): number {
    return this.#unbound.size;
  }

  /** Takes note of a device that opens a pipe, or goes on with one after a start. */
  async decide({ noisePublic }: DeviceClaim, address: Address): Promise<{ readonly trusted: true }> {
    const key = hex(noisePublic);
    // In the write lane: a login or a logout that comes at the same time is either seen here, or speaks after this.
    await this.#database.transaction(async (tx) => {
      if ((await findDeviceKey(tx, key)) === undefined)
        tx.afterCommit(() => this.#watch(key, networkOf(address), UNBOUND_MS));
    });
    return { trusted: true };
  }

  bound(key: string): void {
    this.#unwatch(key);
  }

  revoked(keys: readonly string[], asking?: string): void {
    for (const key of keys) {
      if (key === asking) this.#watch(key, ASKING, LOGOUT_MS);
      else this.#end(key, 'logged out');
    }
  }

  /** Ends no more sessions. */
  close(): void {
    for (const key of [...this.#unbound.keys()]) this.#unwatch(key);
  }

  /** A key that is watched already keeps its time. */
  #watch(key: string, network: string, duration: Millis): void {
    if (this.#unbound.has(key)) return;
    this.#makeRoom(network);
    const cancel = this.#clock.after(duration, () => this.#expel(key));
    this.#unbound.set(key, { network, cancel });
  }

  #makeRoom(network: string): void {
    const same = [...this.#unbound].filter(([, unbound]) => unbound.network === network);
    const [crowd, limit] =
      same.length >= MAX_UNBOUND_OF_NETWORK
        ? [same, MAX_UNBOUND_OF_NETWORK]
        : [[...this.#unbound], MAX_UNBOUND];
    const [oldest] = crowd;
    if (crowd.length >= limit && oldest !== undefined) this.#expel(oldest[0]);
  }

  #expel(key: string): void {
    this.#unwatch(key);
    this.#end(key, 'not logged in');
  }

  #unwatch(key: string): void {
    this.#unbound.get(key)?.cancel();
    this.#unbound.delete(key);
  }

  #end(key: string, reason: string): void {
    this.#forget(nameOf({ kind: 'device', noisePublic: fromHex(key)! }), reason);
  }
}

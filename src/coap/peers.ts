import type { Millis } from '../base/time.ts';
import { type Core, Peer } from './core.ts';
import type { Challenges } from './echo.ts';

/** Of so many peers with which nothing is open, the least recently used ones, it is asked which gives way. */
const MOST_COMPARED = 256;

interface Parts {
  readonly tokenBytes: number;
  readonly handleBytes: number;
  /** The peers of which a body is in assembly. */
  readonly uploading: () => ReadonlySet<Peer>;
  /** Forgets everything that a peer has sent. */
  readonly forget: (peer: Peer, now: Millis) => void;
}

/** The peers of which anything is known, as many as `CoapLimits.peers`. */
export class Peers {
  readonly #core: Core;
  readonly #challenges: Challenges;
  readonly #parts: Parts;
  /** The least recently used first. */
  readonly #byName = new Map<string, Peer>();

  constructor(core: Core, challenges: Challenges, parts: Parts) {
    this.#core = core;
    this.#challenges = challenges;
    this.#parts = parts;
  }

  get size(): number {
    return this.#byName.size;
  }

  get(name: string): Peer | undefined {
    return this.#byName.get(name);
  }

  values(): Iterable<Peer> {
    return this.#byName.values();
  }

  /** The peer of that name, from now on known and the most recently used; undefined where there is no room for it. */
  admit(name: string, now: Millis): Peer | undefined {
    let peer = this.#byName.get(name);
    if (peer === undefined) {
      const { random, limits } = this.#core;
      if (this.#byName.size >= limits.peers && !this.#makeRoom(now)) return undefined;
      const { tokenBytes, handleBytes } = this.#parts;
      peer = new Peer(name, random, { token: tokenBytes, handle: handleBytes }, now);
    }
    peer.lastUsed = now;
    this.#byName.delete(name);
    this.#byName.set(name, peer);
    return peer;
  }

  /** Forgets a peer to which no request of ours goes on. */
  remove(peer: Peer, now: Millis): void {
    this.#parts.forget(peer, now);
    this.#core.timers.clear(peer);
    this.#byName.delete(peer.name);
  }

  /** Makes one peer give way to another: see `CoapLimits.peers`. False where none may. */
  #makeRoom(now: Millis): boolean {
    const uploading = this.#parts.uploading();
    const mayGive: Peer[] = [];
    for (const peer of this.#byName.values()) {
      if (mayGive.length >= MOST_COMPARED) break;
      if (!peer.hasOpen && !uploading.has(peer)) mayGive.push(peer);
    }
    const oldest = mayGive.find((peer) => this.#challenges.isUnproved(peer, now)) ?? mayGive[0];
    if (oldest === undefined) return false;
    this.remove(oldest, now);
    this.#core.counters.displaced++;
    return true;
  }
}

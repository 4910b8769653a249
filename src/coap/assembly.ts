import { concat, equal } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import type { Block } from './block.ts';
import { code } from './codes.ts';
import type { Core, Peer } from './core.ts';
import type { Challenges } from './echo.ts';

/** Bytes of a body, added in order, counted against what one endpoint may assemble at a time. */
export class Assembly {
  readonly #core: Core;
  #chunks: Uint8Array[] = [];
  #length = 0;

  constructor(core: Core) {
    this.#core = core;
  }

  get length(): number {
    return this.#length;
  }

  /** Appends a block. False, and nothing is changed, where the body would get larger than it may. */
  add(chunk: Uint8Array): boolean {
    const { bodyBytes, assemblyBytes } = this.#core.limits;
    if (this.#length + chunk.length > bodyBytes) return false;
    if (this.#core.assembling + chunk.length > assemblyBytes) return false;
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    this.#core.assembling += chunk.length;
    return true;
  }

  /** How many were added. */
  get blocks(): number {
    return this.#chunks.length;
  }

  /** Whether `chunk` is the block that was added last. */
  endsWith(chunk: Uint8Array): boolean {
    const last = this.#chunks.at(-1);
    return last !== undefined && equal(last, chunk);
  }

  /** The whole; the assembly is empty afterwards. */
  take(): Uint8Array {
    const whole = concat(...this.#chunks);
    this.clear();
    return whole;
  }

  clear(): void {
    this.#core.assembling -= this.#length;
    this.#chunks = [];
    this.#length = 0;
  }
}

interface Upload {
  readonly peer: Peer;
  readonly body: Assembly;
  expiresAt: Millis;
}

/** What a block of a request leads to: more blocks, the whole body, or a response code. */
export type UploadProgress =
  | { readonly kind: 'continue' }
  | { readonly kind: 'complete'; readonly body: Uint8Array }
  | { readonly kind: 'refused'; readonly code: number };

/** Requests that arrive in blocks: atomic, in order (RFC 7959, section 2.5). */
export class Uploads {
  readonly #core: Core;
  readonly #challenges: Challenges;
  /** The least recently touched first. */
  readonly #uploads = new Map<string, Upload>();

  constructor(core: Core, challenges: Challenges) {
    this.#core = core;
    this.#challenges = challenges;
  }

  get size(): number {
    return this.#uploads.size;
  }

  /** Whose bodies they are. */
  get peers(): ReadonlySet<Peer> {
    return new Set([...this.#uploads.values()].map(({ peer }) => peer));
  }

  /** @param key the operation, see `operationKey`. */
  add(peer: Peer, key: string, block: Block, payload: Uint8Array, now: Millis): UploadProgress {
    const name = nameOf(peer, key);
    const whole = block.more ? payload.length === block.size : payload.length <= block.size;
    if (!whole) return { kind: 'refused', code: code(4, 0) };
    if (block.num === 0) this.#drop(name);
    const upload = this.#uploads.get(name) ?? (block.num === 0 ? this.#open(peer, now) : undefined);
    if (upload === undefined) return { kind: 'refused', code: code(4, 8) };
    if (block.num * block.size + payload.length === upload.body.length && upload.body.endsWith(payload)) {
      // Its answer was lost, and it came again as a new message: that changes nothing.
      return block.more ? { kind: 'continue' } : { kind: 'refused', code: code(4, 8) };
    }
    if (block.num * block.size !== upload.body.length) return { kind: 'refused', code: code(4, 8) };
    if (!upload.body.add(payload)) {
      const tooLarge = upload.body.length + payload.length > this.#core.limits.bodyBytes;
      upload.body.clear();
      this.#uploads.delete(name);
      return { kind: 'refused', code: tooLarge ? code(4, 13) : code(5, 3) };
    }
    this.#uploads.delete(name);
    if (!block.more) return { kind: 'complete', body: upload.body.take() };
    upload.expiresAt = now + this.#core.timing(peer.name).exchangeLifetime;
    this.#uploads.set(name, upload);
    return { kind: 'continue' };
  }

  expire(now: Millis): void {
    for (const [name, upload] of this.#uploads) if (upload.expiresAt <= now) this.#drop(name);
  }

  forget(peer: Peer): void {
    for (const [name, upload] of this.#uploads) if (upload.peer === peer) this.#drop(name);
  }

  #open(peer: Peer, now: Millis): Upload {
    const own = [...this.#uploads].filter(([, upload]) => upload.peer === peer);
    const oldest = own[0];
    if (oldest !== undefined && own.length >= this.#core.limits.assembliesPerPeer) this.#drop(oldest[0]);
    if (this.#uploads.size >= this.#core.limits.assemblies) {
      const isUnproved = (other: Peer): boolean => this.#challenges.isUnproved(other, now);
      this.#drop(givesWay([...this.#uploads], isUnproved));
      this.#core.counters.displaced++;
    }
    return { peer, body: new Assembly(this.#core), expiresAt: 0 };
  }

  #drop(name: string): void {
    this.#uploads.get(name)?.body.clear();
    this.#uploads.delete(name);
  }
}

/**
 * Which body makes room for a new one where there are as many as there may be, or whoever sends a few first blocks would
 * lock everybody else out. One of which only a first block has come gives way before others: so one block of a stranger
 * displaces at most another. Then one of a peer that has not proved its address, then one of the peer that has the most,
 * and among these the least recently touched.
 * @param uploads the least recently touched first; not empty
 */
function givesWay(
  uploads: readonly (readonly [string, Upload])[],
  isUnproved: (peer: Peer) => boolean,
): string {
  const begun = thoseOr(uploads, ([, { body }]) => body.blocks <= 1);
  const unproved = thoseOr(begun, ([, { peer }]) => isUnproved(peer));
  const counts = new Map<Peer, number>();
  for (const [, { peer }] of uploads) counts.set(peer, (counts.get(peer) ?? 0) + 1);
  const most = Math.max(...unproved.map(([, { peer }]) => counts.get(peer)!));
  return unproved.find(([, { peer }]) => counts.get(peer) === most)![0];
}

/** Those of which it is true, or all where it is true of none. */
function thoseOr<T>(all: readonly T[], isTrue: (one: T) => boolean): readonly T[] {
  const those = all.filter(isTrue);
  return those.length > 0 ? those : all;
}

/** An operation of a peer; an operation's key has no line break. */
export const nameOf = (peer: Peer, key: string): string => `${key}\n${peer.name}`;

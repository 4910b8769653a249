import { concat, equal } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import type { Block } from './block.ts';
import { code } from './codes.ts';
import type { Core, Peer } from './core.ts';

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
  /** The least recently touched first. */
  readonly #uploads = new Map<string, Upload>();

  constructor(core: Core) {
    this.#core = core;
  }

  get size(): number {
    return this.#uploads.size;
  }

  /** @param key the operation, see `operationKey`. */
  add(peer: Peer, key: string, block: Block, payload: Uint8Array, now: Millis): UploadProgress {
    const name = nameOf(peer, key);
    const whole = block.more ? payload.length === block.size : payload.length <= block.size;
    if (!whole) return { kind: 'refused', code: code(4, 0) };
    if (block.num === 0) this.#drop(name);
    const upload = this.#uploads.get(name) ?? (block.num === 0 ? this.#open(peer) : undefined);
    if (upload === undefined) return { kind: 'refused', code: block.num === 0 ? code(5, 3) : code(4, 8) };
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

  #open(peer: Peer): Upload | undefined {
    const own = [...this.#uploads].filter(([, upload]) => upload.peer === peer);
    const oldest = own[0];
    if (oldest !== undefined && own.length >= this.#core.limits.assembliesPerPeer) this.#drop(oldest[0]);
    if (this.#uploads.size >= this.#core.limits.assemblies) return undefined;
    return { peer, body: new Assembly(this.#core), expiresAt: 0 };
  }

  #drop(name: string): void {
    this.#uploads.get(name)?.body.clear();
    this.#uploads.delete(name);
  }
}

/** An operation of a peer; an operation's key has no line break. */
export const nameOf = (peer: Peer, key: string): string => `${key}\n${peer.name}`;

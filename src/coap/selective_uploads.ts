import type { Millis } from '../base/time.ts';
import { nameOf } from './assembly.ts';
import type { Block } from './block.ts';
import { code } from './codes.ts';
import type { Core, Peer } from './core.ts';
import type { Remembered } from './memory.ts';
import type { MissingBlocks } from './missing_blocks.ts';
import type { Option } from './options.ts';
import { type BlockProgress, SelectiveReceiver } from './selective_receiver.ts';

interface Upload {
  readonly peer: Peer;
  readonly receiver: SelectiveReceiver;
  /** The code that it was refused with. */
  readonly refusal: number | null;
  /** The message that has completed it. */
  entry: Remembered | null;
  readonly expiresAt: Millis;
}

/**
 * Of one peer: transfers that are over, complete or refused, and of which late blocks are still recognised. Fewer than
 * the tokens that rest at the peer before they are used again.
 */
const MOST_OVER_PER_PEER = 128;
/** Of all peers. */
const MOST_OVER = 4096;

/** Requests whose bodies arrive by selective repeat: atomic, in any order, told apart by token. */
export class SelectiveUploads {
  readonly #core: Pick<Core, 'limits' | 'assembling' | 'timing'>;
  /** The least recently touched first. */
  readonly #open = new Map<string, Upload>();
  /** The oldest first. */
  readonly #over = new Map<string, Upload>();

  constructor(core: Pick<Core, 'limits' | 'assembling' | 'timing'>) {
    this.#core = core;
  }

  /** Bodies that are not complete. */
  get size(): number {
    return this.#open.size;
  }

  /** Whose bodies they are. */
  get peers(): ReadonlySet<Peer> {
    return new Set([...this.#open.values()].map(({ peer }) => peer));
  }

  /** Transfers that are over and remembered. */
  get over(): number {
    return this.#over.size;
  }

  /**
   * Takes a block in.
   * @param token in hexadecimal
   * @param options of its message; those of the first block come with the complete body
   * @returns what it leads to, and what the acknowledgement says where it is a checkpoint
   */
  add(
    peer: Peer,
    token: string,
    block: Block,
    { options, payload }: { readonly options: readonly Option[]; readonly payload: Uint8Array },
    now: Millis,
  ): {
    readonly progress: BlockProgress;
    readonly missing: MissingBlocks;
    /** The message that has completed the body before; null where none has. */
    readonly entry: Remembered | null;
  } {
    const name = nameOf(peer, token);
    const over = this.#over.get(name);
    if (over !== undefined) {
      return { progress: lateProgress(over), missing: over.receiver.missing, entry: over.entry };
    }
    const receiver = this.#open.get(name)?.receiver ?? this.#begin(peer);
    if (receiver === undefined) {
      return { progress: { kind: 'refused', code: code(5, 3) }, missing: NOTHING, entry: null };
    }
    const progress = receiver.add(block, options, payload);
    const refusal = progress.kind === 'refused' ? progress.code : null;
    const expiresAt = now + this.#core.timing(peer.name).exchangeLifetime;
    const upload = { peer, receiver, refusal, entry: null, expiresAt };
    this.#open.delete(name);
    if (progress.kind === 'complete' || progress.kind === 'refused') this.#finish(name, upload);
    else this.#open.set(name, upload);
    return { progress, missing: receiver.missing, entry: null };
  }

  /** Remembers which message has completed a body: what it is replied with is the reply to late checkpoints as well. */
  completed(peer: Peer, token: string, entry: Remembered): void {
    const upload = this.#over.get(nameOf(peer, token));
    if (upload !== undefined) upload.entry = entry;
  }

  expire(now: Millis): void {
    this.#dropWhere(({ expiresAt }) => expiresAt <= now);
  }

  forget(peer: Peer): void {
    this.#dropWhere((upload) => upload.peer === peer);
  }

  /** Room for one more body: the peer's least recently touched one gives way; undefined where all peers' are too many. */
  #begin(peer: Peer): SelectiveReceiver | undefined {
    const { assembliesPerPeer, assemblies } = this.#core.limits;
    const own = [...this.#open].filter(([, upload]) => upload.peer === peer);
    const oldest = own[0];
    if (oldest !== undefined && own.length >= assembliesPerPeer) {
      oldest[1].receiver.end();
      this.#open.delete(oldest[0]);
    }
    return this.#open.size < assemblies ? new SelectiveReceiver(this.#core) : undefined;
  }

  #finish(name: string, upload: Upload): void {
    this.#over.set(name, upload);
    const own = [...this.#over].filter(([, { peer }]) => peer === upload.peer);
    if (own.length > MOST_OVER_PER_PEER) this.#over.delete(own[0]![0]);
    for (const oldest of this.#over.keys()) {
      if (this.#over.size <= MOST_OVER) break;
      this.#over.delete(oldest);
    }
  }

  #dropWhere(isOver: (upload: Upload) => boolean): void {
    for (const uploads of [this.#open, this.#over]) {
      for (const [name, upload] of uploads) {
        if (!isOver(upload)) continue;
        upload.receiver.end();
        uploads.delete(name);
      }
    }
  }
}

/** Late blocks of what was refused are refused like the first: a checkpoint has to be told. */
const lateProgress = ({ refusal }: Upload): BlockProgress =>
  refusal === null ? { kind: 'ignored' } : { kind: 'refused', code: refusal };

const NOTHING: MissingBlocks = { first: 0, behind: new Uint8Array(0) };

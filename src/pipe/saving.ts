import type { Millis } from '../base/time.ts';
import { nameOf } from './identity.ts';
import type { EarlyGeneration, PipeWrite, StoredSession } from './resumption.ts';
import type { Session, SessionProgress } from './session.ts';
import type { PipeState } from './state.ts';

/** What has to be on the disk before this side relies on it: each write with its token, in order. */
export class Saving {
  readonly #state: PipeState;
  readonly #isPersistent: boolean;
  /** Snapshots that have been handed out and are not on the disk yet, in order; at most one of a session. */
  #saving: { readonly token: number; readonly session: Session; readonly progress: SessionProgress }[] = [];
  #lastToken = 0;
  #writes: PipeWrite[] = [];

  /** @param isPersistent whether the driver commits writes and calls `stored`; else there are none */
  constructor(state: PipeState, isPersistent: boolean) {
    this.#state = state;
    this.#isPersistent = isPersistent;
  }

  /** The writes of the step that ends now. */
  takeWrites(): readonly PipeWrite[] {
    const writes = this.#writes;
    this.#writes = [];
    return writes;
  }

  /** Has a session stored as it is now, where that is due and it is one that a restart should go on with. */
  save(session: Session, now: Millis): void {
    // An initiator's session is worth nothing before XX3 has arrived, and one that was closed never again.
    const isOpen = session.state === 'established' && this.#state.established.has(session);
    const isDue = isOpen && session.isShared;
    if (!isDue || !(session.wantsSaving || !session.isKept)) return;
    if (this.#saving.some((saving) => saving.session === session)) return;
    const progress = session.snapshot();
    session.isKept = true;
    if (!this.#isPersistent) {
      session.saved(progress);
      return;
    }
    const token = ++this.#lastToken;
    this.#saving.push({ token, session, progress });
    this.#writes.push({ token, kind: 'session', row: this.#rowOf(session, progress, now) });
  }

  /** All writes up to `token` are on the disk. */
  stored(token: number, now: Millis): void {
    const done = this.#saving.filter((saving) => saving.token <= token);
    this.#saving = this.#saving.filter((saving) => saving.token > token);
    for (const { session, progress } of done) {
      if (!session.isKept) continue;
      session.saved(progress);
      this.save(session, now);
      this.#state.sending.flush(this.#state.peer(nameOf(session.terms.claim)), now);
    }
  }

  /**
   * Has it stored up to which generation early data of a static key was taken.
   * @returns the token of the write; undefined where nothing is stored
   */
  writeEarly(taken: EarlyGeneration): number | undefined {
    this.#state.earlyGenerations.note(taken);
    if (!this.#isPersistent) return undefined;
    const token = ++this.#lastToken;
    this.#writes.push({ token, kind: 'early', ...taken });
    return token;
  }

  /** No restart goes on with the session any more. */
  discard(session: Session): void {
    if (!session.isKept) return;
    session.isKept = false;
    if (this.#isPersistent) this.forgetRow(session.terms.local);
  }

  /** Has the row of a session removed, by this side's connection id. */
  forgetRow(local: number): void {
    this.#writes.push({ token: ++this.#lastToken, kind: 'forget', local });
  }

  #rowOf(session: Session, progress: SessionProgress, now: Millis): StoredSession {
    const { local, remote, initiator, generation, claim, said, createdAt } = session.terms;
    const peerBoot = this.#state.peer(nameOf(claim)).bootId;
    return {
      ...{ local, remote, initiator, generation, claim, said, peerBoot, ...progress },
      network: this.#state.network.digest,
      address: session.address,
      createdAt: Math.round(this.#state.wallTime(createdAt)),
      savedAt: Math.round(this.#state.wallTime(Math.max(now, createdAt))),
    };
  }
}

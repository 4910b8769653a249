import { assert } from '../base/assert.ts';
import { equal, hex } from '../base/bytes.ts';
import type { Millis } from '../base/time.ts';
import type { Address } from '../link/link.ts';
import type { Said } from './agreement.ts';
import type { IdentityClaim } from './identity.ts';
import type { PipeLimits } from './limits.ts';
import type { Opening } from './opening.ts';
import type { PeerMessages } from './peer_messages.ts';
import { SendQueue } from './send_queue.ts';
import type { Session } from './session.ts';

/** Generations are 48 bits in the payload. */
const LAST_GENERATION = 2 ** 48 - 1;
/** In the place of a boot's number: one of the peer's that is over. */
const OLD_BOOT = -1;

/** A server or device by name, and everything between it and this side. */
export class Peer {
  readonly name: string;
  readonly queue: SendQueue;
  readonly sessions: Session[] = [];
  opening: Opening | undefined;
  /** Whether messages have compact headers in the newest session; undefined: there was none. */
  isCompact: boolean | undefined;
  /** What is known of messages with compact headers. */
  messages: PeerMessages | undefined;
  /** Where the configuration says that it is. */
  configured: Address | undefined;
  /** When the next handshake begins, where it may not begin at once. */
  openAt: Millis | undefined;
  /** No handshake is started because of a hint or a wish to renew before this. */
  renewNotBefore: Millis = Number.NEGATIVE_INFINITY;
  /** No handshake is started at all before this: the peer has refused the last ones. */
  openNotBefore: Millis = Number.NEGATIVE_INFINITY;
  /** Times in a row that the peer has refused us. */
  refusals = 0;
  #bootId: Uint8Array | undefined;
  #boot = 0;
  /** Of the newest session, which was trusted: with it a handshake need not begin from nothing. */
  known: { readonly claim: IdentityClaim; readonly said: Said } | undefined;
  #generation = 0;
  /** The highest generation of what has been removed, or was answered. */
  #floor = -1;

  constructor(name: string, limits: PipeLimits) {
    this.name = name;
    this.queue = new SendQueue(limits);
  }

  get isIdle(): boolean {
    return (
      this.sessions.length === 0 &&
      this.opening === undefined &&
      this.queue.isEmpty &&
      this.openAt === undefined
    );
  }

  /**
   * The generation of a session that this side opens: higher than all that it knows of, and also than those that it has
   * forgotten, as long as its clock goes on.
   * @param wall Unix time in milliseconds
   */
  nextGeneration(wall: Millis): number {
    return Math.min(Math.max(Math.floor(wall), this.#generation + 1), LAST_GENERATION);
  }

  /**
   * The highest generation that the peer is known to know of: what it opens has a higher one, or it is a repetition of
   * something old.
   */
  get floor(): number {
    const shared = this.sessions.filter(({ isShared }) => isShared);
    return Math.max(this.#floor, ...shared.map(({ terms }) => terms.generation));
  }

  /** An IK1 of the peer with this generation was accepted. */
  accepted(generation: number): void {
    this.#floor = Math.max(this.#floor, generation);
  }

  /** Names the newest start of the peer that this side knows of. */
  get bootId(): Uint8Array {
    assert(this.#bootId !== undefined, 'there has been a session with the peer');
    return this.#bootId;
  }

  /**
   * The number that a session of the peer's has to be above, where it is numbered like one of before and yet of another
   * start; else undefined.
   */
  behind({ terms: { generation, bootId, claim } }: Session): number | undefined {
    const isSame = this.known !== undefined && equal(this.known.claim.noisePublic, claim.noisePublic);
    if (!isSame || equal(this.bootId, bootId) || generation > this.#generation) return undefined;
    return this.#generation;
  }

  /** The peer knows of sessions up to that generation: the next one has a higher one. */
  mustExceed(generation: number): void {
    this.#generation = Math.max(this.#generation, generation);
  }

  /**
   * Adds an established session. Returns whether the peer has restarted since the last one. A handshake that somebody has held
   * back tells of no new start: its generation is lower than what has come since.
   */
  add(session: Session): boolean {
    const { bootId, generation, claim, said } = session.terms;
    const isNewest = generation >= this.#generation;
    const restarted = isNewest && this.startedAs(bootId);
    session.boot = equal(this.bootId, bootId) ? this.#boot : OLD_BOOT;
    if (isNewest) this.known = { claim, said };
    this.#generation = Math.max(this.#generation, generation);
    this.sessions.push(session);
    return restarted;
  }

  /**
   * The newest session has that form of headers. Returns whether those before had another one: then no message from before can be
   * named on it, which is as if the peer had lost them.
   */
  speaks(isCompact: boolean): boolean {
    const changes = this.isCompact !== undefined && this.isCompact !== isCompact;
    if (changes) this.messages = undefined;
    this.isCompact = isCompact;
    return changes;
  }

  /**
   * The peer's newest start is that of `bootId`. Returns whether it was another before. Sessions that go on keep their
   * place behind those that are made after it.
   */
  startedAs(bootId: Uint8Array): boolean {
    const restarted = this.#bootId !== undefined && !equal(this.#bootId, bootId);
    if (restarted) this.#boot++;
    this.#bootId = bootId;
    return restarted;
  }

  remove(session: Session): void {
    const at = this.sessions.indexOf(session);
    if (at >= 0) this.sessions.splice(at, 1);
    if (at >= 0 && session.isShared) this.accepted(session.terms.generation);
  }

  /**
   * The session to send on: the best, but while the peer may not have its XX3 yet, one that came later and on which
   * the peer speaks. So a crossing opening whose XX3 was lost keeps nobody waiting.
   */
  current(ownKey: Uint8Array): Session | undefined {
    const best = this.best(ownKey);
    if (best?.unconfirmed === undefined) return best;
    const later = this.sessions.slice(this.sessions.indexOf(best) + 1);
    return (
      later.findLast((session) => session.heard && session.boot === best.boot && isUsable(session)) ?? best
    );
  }

  /**
   * The session that both sides will end with. Both sides order the sessions that they share alike, whatever each has seen first:
   * by generation, and of two openings that crossed each other the one of the smaller Noise key wins.
   * @param ownKey this side's public Noise key
   */
  best(ownKey: Uint8Array): Session | undefined {
    let best: Session | undefined;
    for (const session of this.sessions) {
      if (!isUsable(session)) continue;
      if (best === undefined || isBetter(session, best, ownKey)) best = session;
    }
    return best;
  }
}

const isUsable = (session: Session): boolean => session.retireAt === undefined && !session.usedUp;

function isBetter(a: Session, b: Session, ownKey: Uint8Array): boolean {
  if (a.terms.generation !== b.terms.generation) return a.terms.generation > b.terms.generation;
  if (a.boot !== b.boot) return a.boot > b.boot;
  const initiatorKey = ({ terms }: Session): string =>
    hex(terms.initiator ? ownKey : terms.claim.noisePublic);
  return initiatorKey(a) < initiatorKey(b);
}

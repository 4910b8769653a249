import type { Millis } from '../base/time.ts';
import type { Core, Peer } from './core.ts';
import type { Incoming } from './incoming.ts';
import type { MessageType } from './message.ts';

/** A message of a peer that has been received, kept so that its copies have no effect (RFC 7252, section 4.5). */
export interface Remembered {
  readonly id: number;
  readonly type: MessageType;
  expiresAt: Millis;
  /** The acknowledgement or reset that it got last; its copies get the same. */
  reply: Uint8Array | null;
  label: string;
  /** The request that it carried, until the application has answered. */
  exchange: Incoming | null;
  /** Whether the reply had to be forgotten. */
  shed: boolean;
}

// Ours.
/** Which part of what the fullest peer has is forgotten at a time, so that looking for it is rare. */
const SHED_SHARE = 1 / 16;

/** Remembers received messages and the replies to them, within bounds. */
export class Memory {
  readonly #core: Core;
  /** Those of which anything is remembered. */
  readonly #peers = new Set<Peer>();
  /** Entries with a reply, the oldest first. */
  readonly #replies = new Set<Remembered>();
  #replyBytes = 0;
  #entries = 0;

  constructor(core: Core) {
    this.#core = core;
  }

  get entries(): number {
    return this.#entries;
  }

  get replyBytes(): number {
    return this.#replyBytes;
  }

  /** The entry of a message that came before; its lifetime starts anew with each copy. */
  find(peer: Peer, id: number, now: Millis): Remembered | undefined {
    const entry = peer.remembered.get(id);
    if (entry === undefined) return undefined;
    if (entry.expiresAt <= now && entry.exchange === null) {
      this.#delete(peer, entry);
      return undefined;
    }
    this.#renew(peer, entry, now);
    return entry;
  }

  /**
   * Remembers a new message; undefined where the peer has too many that have not expired. Where all have too many together,
   * the one that has the most forgets its oldest, so that a few who send much keep nobody else out.
   */
  add(peer: Peer, { id, type }: Pick<Remembered, 'id' | 'type'>, now: Millis): Remembered | undefined {
    this.purge(peer, now);
    const { rememberedPerPeer, remembered } = this.#core.limits;
    if (peer.remembered.size >= rememberedPerPeer) return undefined;
    if (this.#entries >= remembered && !this.#makeRoom(peer)) return undefined;
    this.#entries++;
    this.#peers.add(peer);
    const entry = { id, type, expiresAt: 0, reply: null, label: '', exchange: null, shed: false };
    this.#renew(peer, entry, now);
    return entry;
  }

  /** Keeps what `entry`'s message was replied with, in place of an earlier reply. */
  keep(entry: Remembered, reply: Uint8Array, label: string): void {
    this.#dropReply(entry);
    entry.reply = reply;
    entry.label = label;
    this.#replies.add(entry);
    this.#replyBytes += reply.length;
    for (const oldest of this.#replies) {
      if (this.#replyBytes <= this.#core.limits.replyBytes) break;
      this.#dropReply(oldest);
      oldest.shed = true;
      this.#core.counters.shed++;
    }
  }

  /** Forgets what has expired of one peer, as far as nothing older lives longer. */
  purge(peer: Peer, now: Millis): void {
    for (const entry of peer.remembered.values()) {
      if (entry.expiresAt > now) break;
      if (entry.exchange === null) this.#delete(peer, entry);
    }
  }

  /** Forgets everything of one peer. */
  forget(peer: Peer): void {
    for (const entry of peer.remembered.values()) this.#delete(peer, entry);
  }

  /** False where nobody has more than the peer that room is to be made for, or all of it is being answered. */
  #makeRoom(peer: Peer): boolean {
    let fullest = peer;
    for (const other of this.#peers) if (other.remembered.size > fullest.remembered.size) fullest = other;
    if (fullest === peer) return false;
    const idle = [...fullest.remembered.values()].filter(({ exchange }) => exchange === null);
    const oldest = idle.slice(0, Math.ceil(idle.length * SHED_SHARE));
    for (const entry of oldest) this.#delete(fullest, entry);
    this.#core.counters.shed += oldest.length;
    return oldest.length > 0;
  }

  #renew(peer: Peer, entry: Remembered, now: Millis): void {
    peer.remembered.delete(entry.id);
    const { exchangeLifetime, nonLifetime } = this.#core.timing(peer.name);
    entry.expiresAt = now + (entry.type === 'NON' ? nonLifetime : exchangeLifetime);
    peer.remembered.set(entry.id, entry);
  }

  #delete(peer: Peer, entry: Remembered): void {
    peer.remembered.delete(entry.id);
    if (peer.remembered.size === 0) this.#peers.delete(peer);
    this.#entries--;
    this.#dropReply(entry);
  }

  #dropReply(entry: Remembered): void {
    if (entry.reply === null) return;
    this.#replies.delete(entry);
    this.#replyBytes -= entry.reply.length;
    entry.reply = null;
  }
}

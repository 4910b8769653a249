import type { MessageId } from '../base/message_id.ts';
import type { Millis } from '../base/time.ts';
import { HandleReader, HandleWriter, type MessageReader, type MessageWriter } from '../compact/handles.ts';

// Ours.
/** Peers of which handles are kept, in each direction. */
const MAX_PEERS = 4_096;
/** Characters of all texts that peers have introduced. */
const MAX_CHARACTERS = 8 * 1024 * 1024;
/** Peers that are looked at for one whose handles can be spared. */
const MAX_LOOKED_AT = 16;

/**
 * The handles of all peers: this side's towards each of them, and theirs. In memory; a peer whose handles are forgotten is told
 * so when it names one, as after a restart.
 */
export class PeerHandles {
  /** By peer, the least recently used first. */
  readonly #writers = new Map<string, HandleWriter>();
  readonly #readers = new Map<string, HandleReader>();
  /** Of which writer a message is. */
  readonly #owners = new WeakMap<MessageWriter, HandleWriter>();
  #characters = 0;

  /**
   * The handles of a request to a peer, until `over`; undefined: it goes without.
   * @param session over which it will probably go (MessageId.generation)
   */
  writing(peer: string, session: number, now: Millis): MessageWriter | undefined {
    const writer = this.#writers.get(peer) ?? this.#newWriter(now);
    if (writer === undefined) return undefined;
    use(this.#writers, peer, writer);
    const message = writer.message(session, now);
    this.#owners.set(message, writer);
    return message;
  }

  /** A request has been answered, or is not repeated any more. @param isRead whether the peer has done what it says */
  over(message: MessageWriter, isRead: boolean, now: Millis): void {
    this.#owners.get(message)?.over(message, isRead ? 'read' : 'unsure', now);
  }

  /** What a request of a peer is read with. It may introduce something for as long as it is read. @param name the request's */
  reading(peer: string, name: MessageId): MessageReader {
    const reader = this.#readers.get(peer) ?? new HandleReader(this.#grown);
    use(this.#readers, peer, reader);
    this.#shed();
    return reader.message(name);
  }

  /** The peer has forgotten what this side has introduced. */
  forgotten(peer: string): void {
    this.#writers.get(peer)?.forget();
  }

  readonly #grown = (characters: number): void => {
    this.#characters += characters;
  };

  /** A writer in whose place there is another one too early would give slots other meanings: then nobody makes room. */
  #newWriter(now: Millis): HandleWriter | undefined {
    if (this.#writers.size < MAX_PEERS) return new HandleWriter();
    let looked = 0;
    for (const [peer, writer] of this.#writers) {
      if (writer.isSpare(now)) {
        this.#writers.delete(peer);
        return new HandleWriter();
      }
      if (++looked === MAX_LOOKED_AT) break;
    }
    return undefined;
  }

  #shed(): void {
    for (const [peer, reader] of this.#readers) {
      if (this.#readers.size <= MAX_PEERS && this.#characters <= MAX_CHARACTERS) break;
      this.#readers.delete(peer);
      reader.clear();
    }
  }
}

function use<Value>(map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key);
  map.set(key, value);
}

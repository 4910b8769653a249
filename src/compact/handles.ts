import type { MessageId } from '../base/message_id.ts';
import type { Millis } from '../base/time.ts';
import type { HandleMark, HandleProblem, MessageHandles } from './context.ts';
import { HANDLE_KINDS, type HandleKind } from './forms.ts';

/** Handles of a kind; the same for every peer: a writer keeps it, a reader refuses what is beyond. */
export const MAX_HANDLES = 512;
/** UTF-16 units of a text that gets a handle: what an id has at most. The same for every peer. */
export const MAX_HANDLE_LENGTH = 255;

// Ours.
/** Messages of a writer that are not over; the ones beyond name nothing by handles. */
const MAX_OPEN_MESSAGES = 256;
/** Handles that are looked at for one whose slot another text may have. */
const MAX_LOOKED_AT = 16;
/** How long after the end of a message copies of it may wait in some queue: its handles mean the same until then. */
export const HELD_AFTER_MS: Millis = 60 * 60_000;
/** Sessions of which a reader has handles, at most: the one in use, and those that cross it. */
const MAX_SESSIONS = 3;

/** The kinds of which texts get handles when they are written. */
const WRITTEN_KINDS: readonly HandleKind[] = ['room', 'user', 'server', 'device'];

/** How a message has ended. `read`: the peer has done what it says, and so has read all of it. */
export type MessageEnding = 'read' | 'unsure';

interface Entry {
  readonly text: string;
  readonly slot: number;
  /** Whether the peer knows it. */
  isKnown: boolean;
  /** Messages that name it and are not over. */
  openMessages: number;
  heldUntil: Millis;
}

/**
 * Handles: small numbers for ids, in one direction of a session. A message introduces a text under a slot; once the peer has
 * read one that does, messages name the slot alone. Until then each introduces it again, under the same slot. So a message names
 * only what the peer has read, or what it says itself.
 *
 * Messages are numbered in their session in the order in which they are first sent, through restarts, so both ends know the
 * numbers: those of their records. Loss, repetition and reordering cannot give a slot another meaning than the writer's:
 *
 *  - The writer gives a slot to another text only HELD_AFTER_MS after the end of every message that names it. So all messages
 *    that mean the earlier text are numbered before the one that introduces the later text, or are never sent, and all that mean
 *    the later one are numbered after it.
 *  - The reader takes an introduction only from a message that is numbered after the one that it has it from, and tells a message
 *    that is numbered before that it does not know the handle.
 *
 * The tables are in memory: who restarts has an empty one. Nothing that was sealed before a reader's start is delivered after it,
 * so that it hears of no introduction that is older than what the writer means. A writer whose reader has restarted is told so by the
 * session, or by an "unknown handle", and introduces everything anew, under the slots that it had; as it does in another session.
 */
export class HandleWriter {
  readonly #kinds: ReadonlySet<HandleKind>;
  readonly #tables: Readonly<Record<HandleKind, WriterTable>>;
  #session: number | undefined;
  /** Counts how often the peer has forgotten: what it read before is not known to it. */
  #age = 0;
  #openMessages = 0;
  #heldUntil: Millis = Number.NEGATIVE_INFINITY;

  /**
   * @param kinds of these, texts get handles when they are written
   * @param handles of each kind, at most MAX_HANDLES
   */
  constructor(kinds = WRITTEN_KINDS, handles = MAX_HANDLES) {
    this.#kinds = new Set(kinds);
    this.#tables = perKind(() => new WriterTable(Math.min(handles, MAX_HANDLES)));
  }

  /**
   * The handles of one message, for the context in which it is written. It has to be told when that is over.
   * @param session over which it will probably go (MessageId.generation)
   */
  message(session: number, now: Millis): MessageWriter {
    if (session !== this.#session) this.forget();
    this.#session = session;
    const kinds = this.#openMessages < MAX_OPEN_MESSAGES ? this.#kinds : NO_KINDS;
    this.#openMessages++;
    return new MessageWriter(this.#tables, kinds, this.#age, now);
  }

  /** The message has been answered, or is not repeated any more. To be called once. */
  over(message: MessageWriter, ending: MessageEnding, now: Millis): void {
    this.#openMessages--;
    this.#heldUntil = now + HELD_AFTER_MS;
    message.end(ending === 'read' && message.age === this.#age, this.#heldUntil);
  }

  /** The peer knows no handle any more. */
  forget(): void {
    this.#age++;
    for (const kind of HANDLE_KINDS) this.#tables[kind].forget();
  }

  /** Whether no message is on its way that names anything, so that a new writer may take its place. */
  isSpare(now: Millis): boolean {
    return this.#openMessages === 0 && now >= this.#heldUntil;
  }
}

/** The handles that a message is written with, and the answer to it is read with. */
export class MessageWriter implements MessageHandles {
  readonly age: number;
  readonly #tables: Readonly<Record<HandleKind, WriterTable>>;
  readonly #kinds: ReadonlySet<HandleKind>;
  readonly #now: Millis;
  readonly #introduced = new Set<Entry>();
  readonly #named = perKind(() => new Map<number, Entry>());
  #ended = false;

  constructor(
    tables: Readonly<Record<HandleKind, WriterTable>>,
    kinds: ReadonlySet<HandleKind>,
    age: number,
    now: Millis,
  ) {
    this.#tables = tables;
    this.#kinds = kinds;
    this.age = age;
    this.#now = now;
  }

  /** Whether it names anything that the peer may not know. */
  get namesKnown(): boolean {
    return HANDLE_KINDS.some((kind) =>
      [...this.#named[kind].values()].some((entry) => !this.#introduced.has(entry)),
    );
  }

  write(kind: HandleKind, text: string): HandleMark | undefined {
    if (this.#ended || !this.#kinds.has(kind) || text.length > MAX_HANDLE_LENGTH) return undefined;
    const table = this.#tables[kind];
    const entry = table.take(text, this.#now);
    if (entry === undefined) return undefined;
    const named = this.#named[kind];
    if (!named.has(entry.slot)) {
      named.set(entry.slot, entry);
      entry.openMessages++;
    }
    if (entry.isKnown || this.#introduced.has(entry)) return { kind: 'known', slot: entry.slot };
    this.#introduced.add(entry);
    return { kind: 'introduce', slot: entry.slot };
  }

  /** An answer names what its request has named. */
  read(kind: HandleKind, slot: number): string | HandleProblem {
    return this.#named[kind].get(slot)?.text ?? UNKNOWN;
  }

  /** An answer introduces nothing. */
  introduce(): boolean {
    return false;
  }

  end(isRead: boolean, heldUntil: Millis): void {
    this.#ended = true;
    for (const kind of HANDLE_KINDS)
      for (const entry of this.#named[kind].values()) {
        entry.openMessages--;
        entry.heldUntil = heldUntil;
      }
    if (isRead) for (const entry of this.#introduced) entry.isKnown = true;
  }
}

/** The writer's handles of a kind, the least recently used first. */
class WriterTable {
  readonly #slots: number;
  readonly #entries = new Map<string, Entry>();

  constructor(slots: number) {
    this.#slots = slots;
  }

  /** The text's handle; undefined where it has none and no slot is free. */
  take(text: string, now: Millis): Entry | undefined {
    const entry = this.#entries.get(text) ?? this.#create(text, now);
    if (entry === undefined) return undefined;
    this.#entries.delete(text);
    this.#entries.set(text, entry);
    return entry;
  }

  forget(): void {
    for (const entry of this.#entries.values()) entry.isKnown = false;
  }

  #create(text: string, now: Millis): Entry | undefined {
    const slot = this.#freeSlot(now);
    return slot === undefined
      ? undefined
      : { text, slot, isKnown: false, openMessages: 0, heldUntil: Number.NEGATIVE_INFINITY };
  }

  #freeSlot(now: Millis): number | undefined {
    // Slots are never given back, so that as many are in use as there are entries.
    if (this.#entries.size < this.#slots) return this.#entries.size;
    let looked = 0;
    for (const entry of this.#entries.values()) {
      if (entry.openMessages === 0 && now >= entry.heldUntil) {
        this.#entries.delete(entry.text);
        return entry.slot;
      }
      if (++looked === MAX_LOOKED_AT) return undefined;
    }
    return undefined;
  }
}

/** What the peer's handles mean. */
export class HandleReader {
  /** By session; of each, numbers grow with time. */
  readonly #sessions = new Map<number, MeaningTables>();
  /** Sessions up to this one are not listened to any more. */
  #floor = Number.NEGATIVE_INFINITY;
  readonly #grown: (characters: number) => void;

  /** @param grown told how many characters there are more, of all texts */
  constructor(grown: (characters: number) => void = () => undefined) {
    this.#grown = grown;
  }

  /** Forgets everything, for good. */
  clear(): void {
    for (const generation of [...this.#sessions.keys()]) this.#drop(generation);
    this.#floor = Number.POSITIVE_INFINITY;
  }

  /** The handles of one message, for the context in which it is read. */
  message({ generation, number }: MessageId): MessageReader {
    const tables = this.#sessions.get(generation);
    return new MessageReader(tables, number, (kind, slot, text) =>
      this.#introduce(generation, number, { kind, slot, text }),
    );
  }

  #introduce(
    generation: number,
    number: number,
    { kind, slot, text }: { readonly kind: HandleKind; readonly slot: number; readonly text: string },
  ): void {
    const table = this.#tablesOf(generation)?.[kind];
    const before = table?.get(slot);
    if (table === undefined || (before !== undefined && before.newestIn >= number)) return;
    const introducedIn = before?.text === text ? before.introducedIn : number;
    table.set(slot, { text, introducedIn, newestIn: number });
    this.#grown(text.length - (before?.text.length ?? 0));
  }

  #tablesOf(generation: number): MeaningTables | undefined {
    const known = this.#sessions.get(generation);
    if (known !== undefined || generation <= this.#floor) return known;
    const tables: MeaningTables = perKind(() => new Map());
    this.#sessions.set(generation, tables);
    if (this.#sessions.size > MAX_SESSIONS) this.#drop(Math.min(...this.#sessions.keys()));
    return this.#sessions.get(generation);
  }

  #drop(generation: number): void {
    this.#floor = Math.max(this.#floor, generation);
    for (const kind of HANDLE_KINDS)
      for (const { text } of this.#sessions.get(generation)![kind].values()) this.#grown(-text.length);
    this.#sessions.delete(generation);
  }
}

type MeaningTables = Readonly<Record<HandleKind, Map<number, Meaning>>>;

interface Meaning {
  readonly text: string;
  /** The messages that have introduced it: the one since which it means this, and the newest. */
  readonly introducedIn: number;
  readonly newestIn: number;
}

/** The handles that a message is read with, and the answer to it is written with. */
export class MessageReader implements MessageHandles {
  readonly #tables: MeaningTables | undefined;
  readonly #number: number;
  readonly #introduced: (kind: HandleKind, slot: number, text: string) => void;
  /** What the message has said. */
  readonly #own = perKind(() => new Map<number, string>());
  /** What it has named. */
  readonly #named = perKind(() => new Map<string, number>());

  constructor(
    tables: MeaningTables | undefined,
    number: number,
    introduced: (kind: HandleKind, slot: number, text: string) => void,
  ) {
    this.#tables = tables;
    this.#number = number;
    this.#introduced = introduced;
  }

  read(kind: HandleKind, slot: number): string | HandleProblem {
    const own = this.#own[kind].get(slot);
    if (own !== undefined) return own;
    const meaning = this.#tables?.[kind].get(slot);
    if (meaning === undefined || meaning.introducedIn >= this.#number) return UNKNOWN;
    this.#named[kind].set(meaning.text, slot);
    return meaning.text;
  }

  introduce(kind: HandleKind, slot: number, text: string): boolean {
    if (slot >= MAX_HANDLES || text.length > MAX_HANDLE_LENGTH) return false;
    this.#own[kind].set(slot, text);
    this.#named[kind].set(text, slot);
    this.#introduced(kind, slot, text);
    return true;
  }

  /** An answer names what its request has named. */
  write(kind: HandleKind, text: string): HandleMark | undefined {
    const slot = this.#named[kind].get(text);
    return slot === undefined ? undefined : { kind: 'known', slot };
  }
}

const UNKNOWN: HandleProblem = { kind: 'unknown handle' };
const NO_KINDS: ReadonlySet<HandleKind> = new Set();

function perKind<T>(make: () => T): Readonly<Record<HandleKind, T>> {
  return { room: make(), user: make(), event: make(), server: make(), device: make() };
}

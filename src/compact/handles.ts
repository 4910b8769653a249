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

/** Names a message between two peers: the session, by its generation, and a number that grows in it with each message sent. */
export interface MessageNumber {
  readonly generation: number;
  readonly number: number;
}

interface Entry {
  readonly text: string;
  readonly slot: number;
  /** The message that introduces it, once it has a number. */
  introducedIn: number | undefined;
  state: 'introduced' | 'acknowledged' | 'lost';
  /** Messages on their way that name it. */
  openMessages: number;
}

/**
 * Handles: small numbers for ids, in one direction of a session. A message introduces a text under a slot; once that message
 * is acknowledged, messages name the slot alone, before that the slot and the introducing message.
 *
 * Messages are numbered by the session as they are sent, upward through restarts, so both ends know the numbers: those of
 * their records. Loss, repetition and reordering cannot give a slot another meaning than the writer's:
 *
 *  - The writer gives a slot to another text only once every message that names it is over. So all messages that mean the
 *    earlier text have lower numbers than the one that introduces the later text, and all that mean the later, higher ones.
 *  - The reader takes an introduction only where its message's number is higher than that of the one it has, and tells a
 *    message with a lower number that it does not know the handle.
 *
 * The tables are in memory: who restarts has an empty one. A reader that has restarted takes no introduction from before: the
 * slot may have got another text since. A writer whose reader has restarted is told so by the session, or by an "unknown
 * handle", and begins anew, as both do in a new session (another generation).
 */
export class HandleWriter {
  readonly #kinds: ReadonlySet<HandleKind>;
  readonly #tables: Readonly<Record<HandleKind, WriterTable>>;
  readonly #open = new Map<number, MessageWriter>();
  #openMessages = 0;

  /**
   * @param kinds of these, texts get handles when they are written
   * @param handles of each kind, at most MAX_HANDLES
   */
  constructor(kinds: readonly HandleKind[] = ['room', 'user', 'server', 'device'], handles = MAX_HANDLES) {
    this.#kinds = new Set(kinds);
    this.#tables = perKind(() => new WriterTable(Math.min(handles, MAX_HANDLES)));
  }

  /**
   * The handles of one message, for the context in which it is written.
   * @param number the message's, where it is known before the message is written; otherwise see `numbered`
   */
  message(number?: number): MessageWriter {
    const kinds = this.#openMessages < MAX_OPEN_MESSAGES ? this.#kinds : NO_KINDS;
    const message = new MessageWriter(this.#tables, kinds, number);
    this.#openMessages++;
    if (number !== undefined) this.#open.set(number, message);
    return message;
  }

  /** The message has got its number: it is sent. */
  numbered(message: MessageWriter, number: number): void {
    message.numbered(number);
    this.#open.set(number, message);
  }

  /** The peer has read the message with this number, introductions included. */
  acknowledged(number: number): void {
    const message = this.#open.get(number);
    if (message !== undefined) this.over(message, true);
  }

  /** No copy of the message can be read any more, or for the first time; `read`: the peer is known to have read it. */
  over(message: MessageWriter, read = false): void {
    if (message.end(read)) this.#openMessages--;
    if (message.number !== undefined) this.#open.delete(message.number);
  }
}

/** The handles that a message is written with. */
export class MessageWriter implements MessageHandles {
  readonly #tables: Readonly<Record<HandleKind, WriterTable>>;
  readonly #kinds: ReadonlySet<HandleKind>;
  readonly #introduced = new Set<Entry>();
  readonly #named = new Set<Entry>();
  #ended = false;
  number: number | undefined;

  constructor(
    tables: Readonly<Record<HandleKind, WriterTable>>,
    kinds: ReadonlySet<HandleKind>,
    number: number | undefined,
  ) {
    this.#tables = tables;
    this.#kinds = kinds;
    this.number = number;
  }

  write(kind: HandleKind, text: string): HandleMark | undefined {
    if (this.#ended || !this.#kinds.has(kind) || text.length > MAX_HANDLE_LENGTH) return undefined;
    const table = this.#tables[kind];
    const entry = table.get(text);
    if (entry === undefined || entry.state === 'lost') return this.#introduce(table, text);
    if (entry.state === 'acknowledged' || this.#introduced.has(entry)) {
      this.#name(table, entry);
      return { kind: 'known', slot: entry.slot };
    }
    if (this.number === undefined || entry.introducedIn === undefined) return undefined;
    this.#name(table, entry);
    return { kind: 'pending', slot: entry.slot, ago: this.number - entry.introducedIn };
  }

  /** A message that is written is not read. */
  read(): HandleProblem {
    return { kind: 'unknown handle' };
  }

  introduce(): boolean {
    return false;
  }

  numbered(number: number): void {
    this.number = number;
    for (const entry of this.#introduced) entry.introducedIn = number;
  }

  /** Whether this is the first time. */
  end(read: boolean): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    for (const entry of this.#named) entry.openMessages--;
    for (const entry of this.#introduced) entry.state = read ? 'acknowledged' : 'lost';
    return true;
  }

  #introduce(table: WriterTable, text: string): HandleMark | undefined {
    const entry = table.add(text, this.number);
    if (entry === undefined) return undefined;
    this.#introduced.add(entry);
    this.#name(table, entry);
    return { kind: 'introduce', slot: entry.slot };
  }

  #name(table: WriterTable, entry: Entry): void {
    table.use(entry);
    if (this.#named.has(entry)) return;
    this.#named.add(entry);
    entry.openMessages++;
  }
}

/** The writer's handles of a kind, the least recently used first. */
class WriterTable {
  readonly #slots: number;
  readonly #entries = new Map<string, Entry>();

  constructor(slots: number) {
    this.#slots = slots;
  }

  get(text: string): Entry | undefined {
    return this.#entries.get(text);
  }

  use(entry: Entry): void {
    this.#entries.delete(entry.text);
    this.#entries.set(entry.text, entry);
  }

  /** A handle for a text that has none that the peer knows; undefined where no slot is free. */
  add(text: string, introducedIn: number | undefined): Entry | undefined {
    const slot = this.#freeSlot(text);
    if (slot === undefined) return undefined;
    const entry: Entry = { text, slot, introducedIn, state: 'introduced', openMessages: 0 };
    this.#entries.set(text, entry);
    return entry;
  }

  #freeSlot(text: string): number | undefined {
    const own = this.#entries.get(text);
    if (own !== undefined) return own.openMessages === 0 ? own.slot : undefined;
    // Slots are never given back, so that as many are in use as there are entries.
    if (this.#entries.size < this.#slots) return this.#entries.size;
    let looked = 0;
    for (const entry of this.#entries.values()) {
      if (entry.openMessages === 0) {
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
  readonly #generation: number;
  readonly #since: number;
  readonly #tables: MeaningTables = perKind(() => new Map());

  /** `since`: a number that no message has passed which was read before the start of this reader; -1: there was none. */
  constructor(generation: number, since: number) {
    this.#generation = generation;
    this.#since = since;
  }

  /** The handles of one message, for the context in which it is read; undefined where it is of another session. */
  message({ generation, number }: MessageNumber): MessageReader | undefined {
    if (generation !== this.#generation) return undefined;
    return new MessageReader(this.#tables, number, number > this.#since);
  }
}

type MeaningTables = Readonly<Record<HandleKind, Map<number, Meaning>>>;

interface Meaning {
  readonly text: string;
  readonly introducedIn: number;
}

/** The handles that a message is read with. */
export class MessageReader implements MessageHandles {
  readonly #tables: MeaningTables;
  readonly #number: number;
  readonly #isNew: boolean;
  readonly #introduced = perKind(() => new Map<number, string>());
  /** What the last look-up that failed was missing: a message that waits is to be read again later. */
  missing: HandleProblem | undefined;

  constructor(tables: MeaningTables, number: number, isNew: boolean) {
    this.#tables = tables;
    this.#number = number;
    this.#isNew = isNew;
  }

  read(kind: HandleKind, slot: number, ago?: number): string | HandleProblem {
    const found = this.#find(kind, slot, ago);
    if (typeof found !== 'string') this.missing = found;
    return found;
  }

  #find(kind: HandleKind, slot: number, ago: number | undefined): string | HandleProblem {
    const own = this.#introduced[kind].get(slot);
    if (own !== undefined) return own;
    const meaning = this.#tables[kind].get(slot);
    if (ago === undefined)
      return meaning !== undefined && meaning.introducedIn < this.#number
        ? meaning.text
        : { kind: 'unknown handle' };
    const number = this.#number - ago;
    if (meaning?.introducedIn === number) return meaning.text;
    if (number < 0 || ago === 0 || (meaning !== undefined && meaning.introducedIn > number))
      return { kind: 'unknown handle' };
    return { kind: 'waits for', number };
  }

  introduce(kind: HandleKind, slot: number, text: string): boolean {
    if (slot >= MAX_HANDLES || text.length > MAX_HANDLE_LENGTH) return false;
    this.#introduced[kind].set(slot, text);
    return true;
  }

  /** The whole message has been read: what it introduces holds for others. Before that it is acknowledged to nobody. */
  commit(): void {
    if (!this.#isNew) return;
    for (const kind of HANDLE_KINDS)
      for (const [slot, text] of this.#introduced[kind]) {
        const before = this.#tables[kind].get(slot);
        if (before === undefined || before.introducedIn < this.#number)
          this.#tables[kind].set(slot, { text, introducedIn: this.#number });
      }
  }

  /** A message that is read is not written. */
  write(): undefined {
    return undefined;
  }
}

const NO_KINDS: ReadonlySet<HandleKind> = new Set();

function perKind<T>(make: () => T): Readonly<Record<HandleKind, T>> {
  return { room: make(), user: make(), event: make(), server: make(), device: make() };
}

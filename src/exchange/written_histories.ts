import type { LearntCoder } from '../compact/container.ts';
import { BEGINS, byteOf, GENERATIONS, nextGeneration, type Place, SLOTS } from '../compact/history_name.ts';
import type { HistoryMemory } from './history_memory.ts';
import { type LearningModel, Learnt } from './learnt.ts';

// Ours.
/** Times in a row that the peer may know nothing of a history, before there are no more in the session. */
const MAX_REFUSALS = 3;

/**
 * How a request ended. `read`: the peer has done what it says. `unsure`: it may not have read it, or not in this form.
 * `refused`: it does not have what the request was coded with.
 */
export type Ending = 'read' | 'unsure' | 'refused';

/** One history of a room, from the message that begins it on. */
interface History {
  readonly roomId: string;
  readonly model: LearningModel;
  /** The newest generation that the peer has, and what it is; none while the first message has no answer. */
  generation: number;
  learnt: Learnt | undefined;
  /** The message that makes the next generation, while it has no answer. */
  learning: Written | undefined;
}

/** A message, from when it is written until it ends. */
export interface Written {
  /** How many had been written to the peer with this one. */
  readonly ordinal: number;
  /** What it was coded with; undefined: nothing. */
  readonly coded:
    | { readonly place: Place; readonly history: History; readonly content: Uint8Array }
    | undefined;
}

/** The number that peers name a history by; one after another may have it. */
class Slot {
  readonly number: number;
  history: History | undefined;
  /** Messages without an answer by the generation that they were coded with, also those of earlier histories. */
  readonly open = new Uint32Array(GENERATIONS + 1);
  /** How many messages had been written to the peer when one of this slot ended and nobody knew how. */
  unsureAt = 0;
  /** How many had been written when the newest of this slot was. */
  usedAt = 0;
  readonly #memory: HistoryMemory;

  constructor(number: number, memory: HistoryMemory) {
    this.number = number;
    this.#memory = memory;
  }

  get isOpen(): boolean {
    return this.open.some((count) => count > 0);
  }

  get bytes(): number {
    return this.history?.learnt?.bytes ?? 0;
  }

  /** It has just been used. */
  used(): void {
    this.#memory.use(this);
  }

  abandon(): void {
    this.history = undefined;
    this.#memory.drop(this);
  }

  forget(): void {
    this.history = undefined;
  }
}

/** What a message may be coded with, and what is learnt from it when it is. */
export class Proposal implements LearntCoder {
  readonly id: number;
  readonly generation: number;
  readonly place: Place;
  readonly slot: Slot;
  readonly history: History;
  content: Uint8Array | undefined;

  constructor(slot: Slot, history: History, place: Place) {
    this.id = history.model.id;
    this.generation = byteOf(place);
    this.slot = slot;
    this.history = history;
    this.place = place;
  }

  encode(bytes: Uint8Array): Uint8Array | undefined {
    this.content = bytes;
    return this.history.model.encode(bytes, 'request', this.history.learnt?.adaptation);
  }
}

/**
 * The histories of rooms that requests to one peer are coded with. What a message is coded with is what the peer has for sure,
 * since the message that it was learnt from was answered; and a name (slot and generation) means nothing else than it did as
 * long as a message with that name may be on its way, so that the order in which they arrive does not matter.
 */
export class WrittenHistories {
  readonly #slots: readonly Slot[];
  /** The newest session over which a history was written, by its name (MessageId.generation). */
  #session = Number.NEGATIVE_INFINITY;
  #refusals = 0;
  /** Messages written, and the newest of those that the peer has answered. */
  #written = 0;
  #answered = 0;
  #open = 0;

  constructor(memory: HistoryMemory) {
    this.#slots = Array.from({ length: SLOTS }, (_, number) => new Slot(number, memory));
  }

  /** Goes, and says so; false where messages are on their way, whose names must not get another meaning. */
  retire(): boolean {
    if (this.#open === 0) this.abandon();
    return this.#open === 0;
  }

  /**
   * What a message may be coded with that is about to be written.
   * @param session this side's name of the session over which it will probably go
   * @returns undefined where no history can be used or begun
   */
  propose(roomId: string, model: LearningModel, session: number): Proposal | undefined {
    // In a session that this side has left before, the peer may have histories that are over here.
    if (session < this.#session) return undefined;
    if (session > this.#session) {
      this.abandon();
      this.#session = session;
      this.#refusals = 0;
    }
    if (this.#refusals >= MAX_REFUSALS) return undefined;
    const known = this.#slots.find(
      ({ history }) => history !== undefined && history.roomId === roomId && history.model === model,
    );
    return known === undefined ? this.#proposeFirst(roomId, model) : this.#proposeNext(known, known.history!);
  }

  /** Notes that a message was written. @param proposal what it was coded with; undefined: nothing of these */
  write(proposal: Proposal | undefined): Written {
    const ordinal = ++this.#written;
    this.#open++;
    if (proposal?.content === undefined) return { ordinal, coded: undefined };
    const { slot, history, place, content } = proposal;
    const written = { ordinal, coded: { place, history, content } };
    slot.history = history;
    slot.usedAt = ordinal;
    slot.open[place.generation]!++;
    if (place.learns) history.learning = written;
    slot.used();
    return written;
  }

  /** A message has ended. Called once for each. */
  end({ ordinal, coded }: Written, ending: Ending): void {
    this.#open--;
    if (ending !== 'unsure') this.#answered = Math.max(this.#answered, ordinal);
    if (coded === undefined) return;
    const { place, history, content } = coded;
    const slot = this.#slots[place.slot]!;
    slot.open[place.generation]!--;
    // Nobody knows whether it is still to arrive.
    if (ending === 'unsure') slot.unsureAt = this.#written;
    if (ending === 'refused') {
      this.#refusals++;
      this.abandon();
    }
    if (slot.history !== history) return;
    if (ending === 'unsure') {
      slot.abandon();
      return;
    }
    if (place.generation !== BEGINS) this.#refusals = 0;
    if (history.learning?.ordinal !== ordinal) return;
    history.learning = undefined;
    history.learnt = new Learnt(history.model, history.learnt, content);
    history.generation = nextGeneration(place.generation);
    slot.used();
  }

  /** Goes on with nothing: the peer has forgotten what it knew. */
  abandon(): void {
    for (const slot of this.#slots) slot.abandon();
  }

  #proposeNext(slot: Slot, history: History): Proposal | undefined {
    const { generation, learning } = history;
    if (generation === BEGINS) return undefined;
    const learns = learning === undefined && slot.open[nextGeneration(generation)] === 0;
    return new Proposal(slot, history, { slot: slot.number, generation, learns });
  }

  #proposeFirst(roomId: string, model: LearningModel): Proposal | undefined {
    const slot = this.#free();
    if (slot === undefined) return undefined;
    const history = { roomId, model, generation: BEGINS, learnt: undefined, learning: undefined };
    return new Proposal(slot, history, { slot: slot.number, generation: BEGINS, learns: true });
  }

  /**
   * A slot of which no message is on its way. One that ended without an answer may be, until the peer has answered a message
   * that was written after that end: sessions hand messages on in their order.
   */
  #free(): Slot | undefined {
    const free = this.#slots.filter(
      (slot) => !slot.isOpen && (slot.unsureAt === 0 || slot.unsureAt < this.#answered),
    );
    const unused = free.find(({ history }) => history === undefined);
    return (
      unused ??
      free.reduce<Slot | undefined>(
        (oldest, slot) => (oldest && oldest.usedAt <= slot.usedAt ? oldest : slot),
        undefined,
      )
    );
  }
}

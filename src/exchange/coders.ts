import type { MessageId } from '../base/message_id.ts';
import { type Coders, isHistory, type Packing } from '../compact/container.ts';
import type { ContextClass } from '../compact/context_class.ts';
import type { Form } from '../compact/mixer/contexts.ts';
import { HistoryMemory } from './history_memory.ts';
import { ALL_LAYERS, type Layers } from './layers.ts';
import type { LearningModel } from './learnt.ts';
import { ReadHistories, type Reading } from './read_histories.ts';
import { type Ending, WrittenHistories } from './written_histories.ts';

/** In handshakes a model is offered as its id and this (docs/protocol.md, "Negotiation"). */
const FIRST_MODEL = 128;

// Ours.
/** Peers of which something about histories is kept, in each direction. */
const MAX_PEERS = 4096;

/** What a request goes to a peer with. */
export interface Way {
  /** The ids that both sides have (Agreement.dictionaries). */
  readonly dictionaries: readonly number[];
  /**
   * This side's name of the session that it will probably go over (MessageId.generation). Undefined: no history is used. So it
   * has to be where messages have no names, where the request may go early, and where it was written under its name before.
   */
  readonly session: number | undefined;
}

/** How a request is packed. */
export interface RequestPacking {
  readonly packing: Packing;
  /**
   * Called where the request is about to be sent with that payload.
   * @returns to be called once, when it has ended
   */
  written(payload: Uint8Array): (ending: Ending) => void;
}

/**
 * What compact contents are packed and opened with: the mixer's models of this side, and the histories of rooms that requests
 * have left behind (docs/protocol.md, "Histories"). Only requests of one room are learnt from, and only for requests of that
 * room to that peer.
 */
export class PeerCoders {
  /** The models as this side offers them, best first. */
  readonly models: readonly number[];
  /** What answers are opened with. */
  readonly ofAnswers: Coders;
  readonly #models: ReadonlyMap<number, LearningModel>;
  readonly #memory: HistoryMemory;
  readonly #layers: Layers;
  readonly #written = new Map<string, WrittenHistories>();
  readonly #read = new Map<string, ReadHistories>();

  /**
   * @param models best first; none: everything is packed without
   * @param layers what may be packed with; what comes is opened all the same
   */
  constructor(
    models: readonly LearningModel[] = [],
    {
      memory = new HistoryMemory(),
      layers = ALL_LAYERS,
    }: { readonly memory?: HistoryMemory; readonly layers?: Layers } = {},
  ) {
    this.#layers = layers;
    this.#models = new Map(models.map((model) => [model.id, model]));
    this.#memory = memory;
    this.models = models.map(({ id }) => FIRST_MODEL + id);
    this.ofAnswers = { coder: (id) => this.#models.get(id)?.coder('answer'), learnt: () => undefined };
  }

  /** How an answer is packed. @param about of the request */
  answer(about: ContextClass, dictionaries: readonly number[]): Packing {
    return about.kind === 'nothing' ? about : this.#static('answer', this.#best(dictionaries));
  }

  request(peer: string, about: ContextClass, { dictionaries, session }: Way): RequestPacking {
    const model = this.#best(dictionaries);
    const histories = session === undefined || model === undefined ? undefined : this.#writtenTo(peer);
    const proposal =
      about.kind === 'history' && histories !== undefined
        ? histories.propose(about.roomId, model!, session!)
        : undefined;
    return {
      packing:
        about.kind === 'nothing'
          ? about
          : proposal === undefined
            ? this.#static('request', model)
            : { kind: 'history', learnt: proposal },
      written: (payload) => {
        const written = histories?.write(isHistory(payload) ? proposal : undefined);
        return (ending) => written && histories?.end(written, ending);
      },
    };
  }

  /** What a request is read with. @param message its name; undefined where it has none */
  reading(peer: string, message: MessageId | undefined): Reading {
    const histories = message === undefined || this.#models.size === 0 ? undefined : this.#readFrom(peer);
    if (histories !== undefined) return histories.reading(message!);
    const coders = { coder: (id: number) => this.#models.get(id)?.coder('request'), learnt: () => undefined };
    return { coders, understood: () => undefined };
  }

  /** The peer has started anew, and has forgotten what it had learnt. */
  restarted(peer: string): void {
    this.#written.get(peer)?.abandon();
  }

  #best(dictionaries: readonly number[]): LearningModel | undefined {
    const id = this.#layers.models ? this.models.find((own) => dictionaries.includes(own)) : undefined;
    return id === undefined ? undefined : this.#models.get(id - FIRST_MODEL);
  }

  #static(form: Form, model: LearningModel | undefined): Packing {
    if (model !== undefined) return { kind: 'static', coder: model.coder(form) };
    return { kind: this.#layers.flate ? 'static' : 'nothing' };
  }

  #writtenTo(peer: string): WrittenHistories | undefined {
    return recent(this.#written, peer, () => new WrittenHistories(this.#memory));
  }

  #readFrom(peer: string): ReadHistories | undefined {
    return recent(this.#read, peer, () => new ReadHistories(this.#models, this.#memory));
  }
}

/** The one of a peer, which is used now. Past the bound the one that was used the longest time ago and can be spared gives way. */
function recent<One extends { retire(): boolean }>(
  all: Map<string, One>,
  peer: string,
  make: () => One,
): One | undefined {
  const known = all.get(peer);
  if (known === undefined && all.size >= MAX_PEERS) {
    const spared = [...all].find(([, one]) => one.retire());
    if (spared === undefined) return undefined;
    all.delete(spared[0]);
  }
  const one = known ?? make();
  all.delete(peer);
  all.set(peer, one);
  return one;
}

import { concat, equal } from '../../src/base/bytes.ts';
import type { MessageId } from '../../src/base/message_id.ts';
import type { Random } from '../../src/base/random.ts';
import { bad, ok } from '../../src/base/result.ts';
import { isHistory, packCompact, partsOfContainer, unpackCompact } from '../../src/compact/container.ts';
import { COMPACT_DICTIONARY } from '../../src/compact/dictionary.ts';
import { BEGINS, placeOf } from '../../src/compact/history_name.ts';
import { BucketTable } from '../../src/compact/mixer/buckets.ts';
import type { Adaptation } from '../../src/compact/mixer/model.ts';
import { sha256 } from '../../src/crypto/sha256.ts';
import { PeerCoders } from '../../src/exchange/coders.ts';
import { HistoryMemory } from '../../src/exchange/history_memory.ts';
import type { LearningModel } from '../../src/exchange/learnt.ts';
import type { Ending } from '../../src/exchange/written_histories.ts';

const MODEL = 3;
const DIGEST_BYTES = 6;

/**
 * A slow and obvious model: what it has learnt is a digest of all messages, and what it writes is that and the
 * place of the message in a list that everybody has. Given another digest than the writer's it says so instead of guessing.
 */
export class ListModel implements LearningModel {
  readonly id = MODEL;
  readonly #known: Uint8Array[];
  mixups = 0;

  constructor(known: Uint8Array[]) {
    this.#known = known;
  }

  encode(message: Uint8Array, _form: unknown, adaptation?: Adaptation): Uint8Array {
    const place = this.#known.indexOf(message);
    return concat(digestOf(adaptation), Uint8Array.of(place >> 8, place & 255, 1));
  }

  learn(message: Uint8Array, _form: unknown, adaptation?: Adaptation): Adaptation {
    const bytes = sha256(concat(adaptation?.history.bytes ?? new Uint8Array(0), message));
    const weights = { mixers: new Int32Array(0), finals: new Int32Array(0) };
    return { history: { bytes, starts: [0, bytes.length] }, buckets: new BucketTable(1), weights };
  }

  coder(form: unknown, adaptation?: Adaptation): ReturnType<LearningModel['coder']> {
    return {
      id: this.id,
      encode: (message) => this.encode(message, form, adaptation),
      decode: (bytes) => {
        const mixed = !equal(bytes.subarray(0, DIGEST_BYTES), digestOf(adaptation));
        if (mixed) this.mixups++;
        const message = this.#known[(bytes.at(-3)! << 8) | bytes.at(-2)!];
        return mixed || message === undefined ? bad('another history') : ok(message);
      },
    };
  }
}

const digestOf = (adaptation: Adaptation | undefined): Uint8Array =>
  adaptation?.history.bytes.subarray(0, DIGEST_BYTES) ?? new Uint8Array(DIGEST_BYTES);

/** A request, from when it is written until the network has forgotten it. */
interface Sent {
  readonly content: Uint8Array;
  readonly payload: Uint8Array;
  /** Undefined once it has ended. */
  end: ((ending: Ending) => void) | undefined;
  /** Its first copy; undefined until it is sent. */
  name: MessageId | undefined;
  /** Its sender has given it up, when so many had been written. */
  givenUpAt: number | undefined;
  readonly ordinal: number;
  /** What the reader has answered. */
  answer: Ending | undefined;
}

/** What has to have happened for a run to say anything. */
export interface HistoryCounters {
  read: number;
  withHistory: number;
  refused: number;
  late: number;
  rewritten: number;
}

/** How wild it is: the probability of each accident at a step. */
export interface Accidents {
  readonly loss: number;
  readonly giveUp: number;
  readonly restart: number;
  readonly session: number;
  /** Sessions that go back to one of before. */
  readonly back: number;
  readonly rooms: number;
  readonly memoryBytes: number;
  /** Everything arrives once and in order. */
  readonly orderly: boolean;
}

export const NO_ACCIDENTS: Accidents = {
  ...{ loss: 0, giveUp: 0, restart: 0, session: 0, back: 0, rooms: 3, memoryBytes: 1_000_000, orderly: true },
};

/** One writer and one reader with a network between them that loses, repeats and reorders. */
export class HistoryNetwork {
  readonly counters: HistoryCounters = { read: 0, withHistory: 0, refused: 0, late: 0, rewritten: 0 };
  readonly #known: Uint8Array[] = [];
  readonly model = new ListModel(this.#known);
  readonly #random: Random;
  readonly #accidents: Accidents;
  #writer: PeerCoders;
  #reader: PeerCoders;
  /** Written, and in the peer's queue. */
  #queue: Sent[] = [];
  /** Everything that the network may still bring, again and again. */
  #flying: Sent[] = [];
  readonly #numbers = new Map<number, number>();
  /** The newest record that has come, by session. */
  readonly #highest = new Map<number, number>();
  #session = 100;
  #written = 0;

  constructor(random: Random, accidents: Accidents) {
    this.#random = random;
    this.#accidents = accidents;
    this.#writer = this.#coders();
    this.#reader = this.#coders();
  }

  step(): void {
    const { loss, giveUp, restart, session, back } = this.#accidents;
    const chance = (probability: number): boolean => this.#random.fraction() < probability;
    if (chance(restart)) this.#restartWriter();
    if (chance(restart)) this.#restartReader();
    if (chance(session)) this.#session += 1 + this.#random.integer(3);
    if (chance(back)) this.#session -= 1;
    if (this.#queue.length < 6 && chance(0.5)) this.#write();
    if (this.#queue.length > 0 && chance(0.7)) this.#send(chance(loss));
    const due = this.#flying.filter(({ answer }) => answer === undefined);
    if (this.#accidents.orderly) for (const sent of due) this.#arrive(sent);
    else if (this.#flying.length > 0 && chance(0.8)) this.#arrive(this.#pick(this.#flying));
    const open = [...this.#queue, ...this.#flying].filter(({ end }) => end !== undefined);
    const answered = open.filter(({ answer }) => answer !== undefined);
    if (answered.length > 0 && chance(0.8)) this.#answer(this.#pick(answered));
    const stillOpen = open.filter(({ end }) => end !== undefined);
    if (stillOpen.length > 0 && chance(giveUp)) this.#giveUp(this.#pick(stillOpen));
    while (this.#flying.length > 40) this.#flying.shift();
  }

  #coders(): PeerCoders {
    return new PeerCoders([this.model], { memory: new HistoryMemory(this.#accidents.memoryBytes) });
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#random.integer(from.length)]!;
  }

  #write(rewritten?: Sent): void {
    // No two are alike, and each is longer than what stands for it.
    const content =
      rewritten?.content ??
      concat(Uint8Array.of(this.#written >> 8, this.#written & 255), this.#random.bytes(30));
    if (rewritten === undefined) this.#known.push(content);
    const about = { kind: 'history', roomId: `!${this.#random.integer(this.#accidents.rooms)}` } as const;
    const session = rewritten === undefined ? this.#session : undefined;
    const way = { dictionaries: [128 + MODEL, COMPACT_DICTIONARY], session };
    const { packing, written } = this.#writer.request('reader', about, way);
    const payload = packCompact({ bytes: content, blobs: [] }, packing);
    const ordinal = ++this.#written;
    const name = rewritten?.name;
    const sent: Sent = {
      content,
      payload,
      end: written(payload),
      name,
      givenUpAt: undefined,
      ordinal,
      answer: undefined,
    };
    if (rewritten === undefined) this.#queue.push(sent);
    else this.#flying.push(sent);
  }

  /** One that waits, whichever is most urgent. */
  #send(isLost: boolean): void {
    const sent = this.#accidents.orderly ? this.#queue[0]! : this.#pick(this.#queue);
    this.#seal(sent);
    // What nobody waits for is not sent again.
    if (isLost && sent.end === undefined) this.#flying = this.#flying.filter((one) => one !== sent);
  }

  #seal(sent: Sent): void {
    this.#queue = this.#queue.filter((one) => one !== sent);
    const number = (this.#numbers.get(this.#session) ?? 0) + 1 + this.#random.integer(3);
    this.#numbers.set(this.#session, number);
    sent.name = { generation: this.#session, number };
    this.#flying.push(sent);
  }

  /** A copy arrives, however late. */
  #arrive(sent: Sent): void {
    const { generation, number } = sent.name!;
    this.#highest.set(generation, Math.max(number, this.#highest.get(generation) ?? -1));
    const { coders, understood } = this.#reader.reading('writer', sent.name);
    const opened = unpackCompact(sent.payload, 10_000, coders);
    if (sent.end === undefined) this.counters.late++;
    if (opened.ok) {
      if (!equal(opened.value.bytes, sent.content)) throw new Error('a message has become another one');
      understood();
      this.counters.read++;
      if (
        isHistory(sent.payload) &&
        placeOf(partsOfContainer(sent.payload)!.generation).generation !== BEGINS
      )
        this.counters.withHistory++;
      sent.answer ??= !this.#accidents.orderly && this.#random.fraction() < 0.02 ? 'unsure' : 'read';
    } else if (opened.problem.kind === 'unknown history') {
      this.counters.refused++;
      sent.answer ??= 'refused';
    } else {
      throw new Error(`a message cannot be read: ${opened.problem.kind}`);
    }
  }

  #answer(sent: Sent): void {
    const { end, answer } = sent;
    // Whatever was given up before that message was written has left the queue by now.
    for (const one of this.#queue)
      if (one.givenUpAt !== undefined && one.givenUpAt < sent.ordinal) this.#seal(one);
    sent.end = undefined;
    end!(answer!);
    if (answer !== 'refused') return;
    this.counters.rewritten++;
    this.#write(sent);
  }

  #giveUp(sent: Sent): void {
    sent.end!('unsure');
    sent.end = undefined;
    sent.givenUpAt = this.#written;
  }

  /** Its sessions remember which records have come, so that nothing comes again but what is sent again. */
  #restartReader(): void {
    this.#reader = this.#coders();
    this.#flying = this.#flying.filter(
      ({ end, name }) => end !== undefined || name!.number > (this.#highest.get(name!.generation) ?? -1),
    );
  }

  /** What waits in its queue is gone; what is on its way arrives. */
  #restartWriter(): void {
    this.#writer = this.#coders();
    this.#queue = [];
    for (const sent of this.#flying) sent.end = undefined;
  }
}

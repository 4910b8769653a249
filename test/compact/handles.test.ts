import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { HandleMark } from '../../src/compact/context.ts';
import {
  HandleReader,
  HandleWriter,
  MAX_HANDLE_LENGTH,
  MAX_HANDLES,
  type MessageWriter,
} from '../../src/compact/handles.ts';
import { HeldMessages, MAX_HELD_MESSAGES } from '../../src/compact/held_messages.ts';
import { decodeCompact, encodeCompact } from '../../src/compact/value.ts';

const GENERATION = 7;
const reader = (since = -1): HandleReader => new HandleReader(GENERATION, since);
const id = (number: number) => ({ generation: GENERATION, number });

/** One message: what it means, and how it says so. */
interface Message {
  readonly number: number;
  readonly meant: readonly string[];
  readonly marks: readonly (HandleMark | undefined)[];
  readonly writer: MessageWriter;
  readonly owner: HandleWriter;
}

type Outcome = 'read' | 'unknown' | { readonly waitsFor: number };

/**
 * A writer and a reader with a network between them that loses, repeats and reorders messages and acknowledgements, and both
 * of which forget everything now and then. What the reader makes of a message is compared with what the writer meant.
 */
class Model {
  readonly counts = {
    read: 0,
    unknown: 0,
    waited: 0,
    dropped: 0,
    known: 0,
    pending: 0,
    introduce: 0,
    literal: 0,
    moved: 0,
  };
  readonly #slots: number;
  #writer: HandleWriter;
  #reader = reader();
  #held = new HeldMessages<Message>();
  #next = 0;
  #highestRead = -1;
  /** Copies on their way. */
  readonly #copies: Message[] = [];
  /** Acknowledgements on their way. */
  readonly #acknowledgements: Message[] = [];
  /** Messages that are written and have no number yet. */
  readonly #unsent: Omit<Message, 'number'>[] = [];
  readonly #textOfSlot = new Map<number, string>();

  constructor(slots: number) {
    this.#slots = slots;
    this.#writer = this.#newWriter();
  }

  write(texts: readonly string[], numberedFirst: boolean): void {
    const writer = this.#writer.message(numberedFirst ? this.#next : undefined);
    const marks = texts.map((text) => writer.write('room', text));
    for (const [i, mark] of marks.entries()) {
      this.counts[mark?.kind ?? 'literal']++;
      if (mark?.kind !== 'introduce') continue;
      const before = this.#textOfSlot.get(mark.slot);
      if (before !== undefined && before !== texts[i]) this.counts.moved++;
      this.#textOfSlot.set(mark.slot, texts[i]!);
    }
    const message = { meant: texts, marks, writer, owner: this.#writer };
    if (numberedFirst) this.#copies.push({ ...message, number: this.#next++ });
    else this.#unsent.push(message);
  }

  /** Sends what waits for a number, in any order. */
  send(which: number): void {
    if (this.#unsent.length === 0) return;
    const [message] = this.#unsent.splice(which % this.#unsent.length, 1);
    const number = this.#next++;
    message!.owner.numbered(message!.writer, number);
    this.#copies.push({ ...message!, number });
  }

  repeat(which: number): void {
    if (this.#copies.length > 0) this.#copies.push(this.#copies[which % this.#copies.length]!);
  }

  lose(which: number): void {
    if (this.#copies.length > 0) this.#gone(this.#copies.splice(which % this.#copies.length, 1)[0]!);
  }

  deliver(which: number): void {
    if (this.#copies.length === 0) return;
    const [message] = this.#copies.splice(which % this.#copies.length, 1);
    this.#receive(message!);
    this.#gone(message!);
  }

  acknowledge(which: number): void {
    if (this.#acknowledgements.length === 0) return;
    const [message] = this.#acknowledgements.splice(which % this.#acknowledgements.length, 1);
    message!.owner.acknowledged(message!.number);
  }

  restartReader(): void {
    this.#reader = reader(this.#highestRead);
    this.#held = new HeldMessages();
  }

  restartWriter(): void {
    this.#writer = this.#newWriter();
    this.#unsent.length = 0;
  }

  drain(): void {
    while (this.#unsent.length > 0) this.send(0);
    while (this.#copies.length > 0) this.deliver(0);
  }

  #newWriter(): HandleWriter {
    this.#textOfSlot.clear();
    return new HandleWriter(['room'], this.#slots);
  }

  #receive(message: Message): void {
    const outcome = this.#read(message);
    if (outcome === 'unknown') this.counts.unknown++;
    else if (outcome === 'read') {
      this.counts.read++;
      this.#acknowledgements.push(message);
      for (const ready of this.#held.arrived(message.number)) this.#receive(ready);
    } else {
      this.counts.waited++;
      if (this.#held.hold(message, outcome.waitsFor) !== undefined) this.counts.dropped++;
    }
  }

  #read({ number, meant, marks }: Message): Outcome {
    const handles = this.#reader.message(id(number))!;
    for (const [i, mark] of marks.entries()) {
      if (mark === undefined) continue;
      if (mark.kind === 'introduce') {
        expect(handles.introduce('room', mark.slot, meant[i]!)).toBe(true);
        continue;
      }
      const text = handles.read('room', mark.slot, mark.kind === 'pending' ? mark.ago : undefined);
      if (typeof text !== 'string') return text.kind === 'waits for' ? { waitsFor: text.number } : 'unknown';
      expect(text).toBe(meant[i]);
    }
    handles.commit();
    this.#highestRead = Math.max(this.#highestRead, number);
    return 'read';
  }

  /** A copy has left the network; with the last one the message is over, even while it is held. */
  #gone(message: Message): void {
    const left = [...this.#copies, ...this.#acknowledgements].some(({ number }) => number === message.number);
    if (!left) message.owner.over(message.writer);
  }
}

const which = fc.nat(1000);
const somewhere = fc.array(
  fc.nat(11).map((n) => `!room${n}:a`),
  { minLength: 1, maxLength: 4 },
);
type Step = (model: Model) => void;
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    arbitrary: fc.tuple(somewhere, fc.boolean()).map(
      ([texts, first]) =>
        (model: Model) =>
          model.write(texts, first),
    ),
    weight: 6,
  },
  { arbitrary: which.map((n) => (model: Model) => model.send(n)), weight: 4 },
  { arbitrary: which.map((n) => (model: Model) => model.deliver(n)), weight: 6 },
  { arbitrary: which.map((n) => (model: Model) => model.acknowledge(n)), weight: 4 },
  { arbitrary: which.map((n) => (model: Model) => model.repeat(n)), weight: 1 },
);
const loss: fc.Arbitrary<Step> = which.map((n) => (model: Model) => model.lose(n));
const restarts: fc.Arbitrary<Step> = fc.oneof(
  fc.constant((model: Model) => model.restartReader()),
  fc.constant((model: Model) => model.restartWriter()),
);

describe('handles', () => {
  test('mean what the writer meant, or say that they do not know, through loss, repetition, reordering and restarts', () => {
    const total: Record<string, number> = {};
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof({ arbitrary: step, weight: 20 }, { arbitrary: fc.oneof(loss, restarts), weight: 2 }),
          {
            minLength: 20,
            maxLength: 150,
          },
        ),
        fc.integer({ min: 1, max: 6 }),
        (steps, slots) => {
          const model = new Model(slots);
          for (const one of steps) one(model);
          model.drain();
          for (const [name, count] of Object.entries(model.counts)) total[name] = (total[name] ?? 0) + count;
        },
      ),
      { seed: 1, numRuns: 800 },
    );
    // Whatever the model is there for has happened.
    for (const name of ['read', 'unknown', 'waited', 'known', 'pending', 'introduce', 'literal', 'moved'])
      expect(total[name], name).toBeGreaterThan(100);
  });

  test('are all known in the end where nothing is lost and nobody restarts, in whatever order', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const model = new Model(MAX_HANDLES);
        for (const one of steps) one(model);
        model.drain();
        expect(model.counts.unknown).toBe(0);
      }),
      { seed: 2, numRuns: 300 },
    );
  });

  test('cost two bytes once the message that introduces them is acknowledged', () => {
    // writer                                reader
    //   0: introduces !a:b  ------------------>
    //   1: slot 0, of the message before  ---->  may come first, and waits
    //                       <------------------  has read 0
    //   2: slot 0  --------------------------->
    const writer = new HandleWriter();
    const peer = reader();
    const text = '!a:b.example';
    const write = (number: number): Uint8Array => encodeCompact(text, { handles: writer.message(number) });
    const [first, second] = [write(0), write(1)];
    expect([first.length, second.length]).toEqual([2 + encodeCompact(text).length + 2, 3]);
    const early = decodeCompact(second, { handles: peer.message(id(1))! });
    expect(early).toEqual({ ok: false, problem: { kind: 'waits for', number: 0 } });
    const handles = peer.message(id(0))!;
    expect(decodeCompact(first, { handles })).toEqual({ ok: true, value: text });
    handles.commit();
    expect(decodeCompact(second, { handles: peer.message(id(1))! })).toEqual({ ok: true, value: text });
    writer.acknowledged(0);
    const third = write(2);
    expect(third.length).toBe(2);
    expect(decodeCompact(third, { handles: peer.message(id(2))! })).toEqual({ ok: true, value: text });
  });

  test('of an earlier session are not known', () => {
    expect(reader().message({ generation: GENERATION - 1, number: 3 })).toBeUndefined();
  });

  test('that a message introduces hold once it has been read whole', () => {
    const peer = reader();
    peer.message(id(3))!.introduce('room', 1, '!a:b');
    expect(peer.message(id(4))!.read('room', 1)).toEqual({ kind: 'unknown handle' });
    const whole = peer.message(id(5))!;
    whole.introduce('room', 1, '!a:b');
    whole.commit();
    expect(peer.message(id(6))!.read('room', 1)).toBe('!a:b');
    expect(peer.message(id(6))!.read('user', 1)).toEqual({ kind: 'unknown handle' });
    // What was sent before that cannot mean it.
    expect(peer.message(id(4))!.read('room', 1)).toEqual({ kind: 'unknown handle' });
  });

  test('are bounded', () => {
    const peer = reader().message(id(0))!;
    expect(peer.introduce('room', MAX_HANDLES, '!a:b')).toBe(false);
    expect(peer.introduce('room', 0, 'x'.repeat(MAX_HANDLE_LENGTH + 1))).toBe(false);
    const writer = new HandleWriter();
    const long = writer.message(0).write('room', 'x'.repeat(MAX_HANDLE_LENGTH + 1));
    expect(long).toBeUndefined();
    let introduced = 0;
    for (let n = 1; n < 3 * MAX_HANDLES; n++) {
      const mark = writer.message(n).write('room', `!${n}:b`);
      if (mark?.kind === 'introduce') introduced++;
    }
    // Nothing is acknowledged, so messages without an end are counted.
    expect(introduced).toBe(255);
  });

  test('go to texts that are used, from those that were not for the longest time', () => {
    const writer = new HandleWriter(['room'], 2);
    const mark = (number: number, text: string): HandleMark | undefined => {
      const result = writer.message(number).write('room', text);
      writer.acknowledged(number);
      return result;
    };
    expect(mark(0, 'a')).toEqual({ kind: 'introduce', slot: 0 });
    expect(mark(1, 'b')).toEqual({ kind: 'introduce', slot: 1 });
    expect(mark(2, 'a')).toEqual({ kind: 'known', slot: 0 });
    expect(mark(3, 'c')).toEqual({ kind: 'introduce', slot: 1 });
    // While a message names a and c, neither makes room.
    const open = writer.message(4);
    expect([open.write('room', 'a'), open.write('room', 'c')].map((one) => one?.slot)).toEqual([0, 1]);
    expect(mark(5, 'd')).toBeUndefined();
    writer.over(open);
    expect(mark(6, 'd')).toEqual({ kind: 'introduce', slot: 0 });
  });
});

describe('messages that wait', () => {
  test('are at most sixteen; then the one that has waited longest goes', () => {
    const held = new HeldMessages<string>();
    for (let n = 0; n < MAX_HELD_MESSAGES; n++) expect(held.hold(`m${n}`, n % 2)).toBeUndefined();
    expect(held.hold('last', 1)).toBe('m0');
    expect(held.arrived(1)).toEqual(['m1', 'm3', 'm5', 'm7', 'm9', 'm11', 'm13', 'm15', 'last']);
    expect(held.arrived(1)).toEqual([]);
    expect(held.clear()).toHaveLength(7);
  });
});

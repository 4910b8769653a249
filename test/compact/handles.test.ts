import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { HandleMark, MessageHandles } from '../../src/compact/context.ts';
import {
  HandleReader,
  HandleWriter,
  HELD_AFTER_MS,
  MAX_HANDLE_LENGTH,
  MAX_HANDLES,
  type MessageEnding,
  type MessageWriter,
} from '../../src/compact/handles.ts';
import { decodeCompact, encodeCompact } from '../../src/compact/value.ts';

const SESSION = 7;
const id = (number: number) => ({ generation: SESSION, number });

/** One request: what it means, and how it says so. */
interface Message {
  readonly meant: readonly string[];
  readonly marks: readonly (HandleMark | undefined)[];
  /** Undefined: it was written once more, without handles. */
  readonly writer: MessageWriter | undefined;
  readonly owner: HandleWriter;
  /** What it is named by, from when it is first sent. */
  name: { readonly generation: number; readonly number: number } | undefined;
  isOver: boolean;
}

/** A record: it is opened only by the life of the reader that it was sealed for. */
interface Copy {
  readonly message: Message;
  readonly life: number;
}

/** What comes back: whether it was understood, and what the answer names. */
interface Answer {
  readonly message: Message;
  readonly understood: boolean;
  readonly marks: readonly (HandleMark | undefined)[];
}

/**
 * A writer and a reader with a network between them that loses, repeats and reorders requests and answers; sessions change
 * between writing and sealing, also back to an older one, and both sides forget everything now and then. Whatever is read is
 * compared with what was meant.
 */
class Model {
  readonly counts = {
    read: 0,
    unknown: 0,
    known: 0,
    introduce: 0,
    literal: 0,
    moved: 0,
    again: 0,
    inAnswers: 0,
    otherSession: 0,
  };
  readonly #slots: number;
  #now = 0;
  #life = 0;
  #session = 1;
  #newestSession = 1;
  readonly #numbers = new Map<number, number>();
  #writer: HandleWriter;
  #reader = new HandleReader();
  /** Waiting to be sealed. */
  readonly #queue: Message[] = [];
  readonly #copies: Copy[] = [];
  readonly #answers: Answer[] = [];
  readonly #open = new Set<Message>();
  readonly #textOfSlot = new Map<number, string>();

  constructor(slots: number) {
    this.#slots = slots;
    this.#writer = new HandleWriter(['room'], slots);
  }

  write(texts: readonly string[]): void {
    const writer = this.#writer.message(this.#session, this.#now);
    const marks = texts.map((text) => writer.write('room', text));
    for (const [i, mark] of marks.entries()) {
      this.counts[mark?.kind ?? 'literal']++;
      if (mark?.kind !== 'introduce') continue;
      const before = this.#textOfSlot.get(mark.slot);
      if (before !== undefined && before !== texts[i]) this.counts.moved++;
      this.#textOfSlot.set(mark.slot, texts[i]!);
    }
    const message = { meant: texts, marks, writer, owner: this.#writer, name: undefined, isOver: false };
    this.#queue.push(message);
    this.#open.add(message);
  }

  /** Seals one of those that wait, in any order; it keeps its name. */
  seal(which: number): void {
    if (this.#queue.length === 0) return;
    const [message] = this.#queue.splice(which % this.#queue.length, 1);
    const number = (this.#numbers.get(this.#session) ?? 0) + 1;
    this.#numbers.set(this.#session, number);
    message!.name ??= { generation: this.#session, number };
    if (message!.name.generation !== this.#session) this.counts.otherSession++;
    this.#copies.push({ message: message!, life: this.#life });
  }

  /** CoAP sends another copy. */
  repeat(which: number): void {
    const open = [...this.#open];
    if (open.length > 0) this.#queue.push(open[which % open.length]!);
  }

  /** The network does. */
  double(which: number): void {
    if (this.#copies.length > 0) this.#copies.push(this.#copies[which % this.#copies.length]!);
  }

  lose(which: number): void {
    if (this.#copies.length > 0) this.#copies.splice(which % this.#copies.length, 1);
  }

  loseAnswer(which: number): void {
    if (this.#answers.length > 0) this.#answers.splice(which % this.#answers.length, 1);
  }

  /** The caller does not wait any longer; copies may still be on their way. */
  giveUp(which: number): void {
    const open = [...this.#open];
    if (open.length > 0) this.#over(open[which % open.length]!, 'unsure');
  }

  deliver(which: number): void {
    if (this.#copies.length === 0) return;
    const [copy] = this.#copies.splice(which % this.#copies.length, 1);
    if (copy!.life === this.#life) this.#answers.push(this.#read(copy!.message));
  }

  answer(which: number): void {
    if (this.#answers.length === 0) return;
    const [{ message, understood, marks }] = this.#answers.splice(which % this.#answers.length, 1) as [
      Answer,
    ];
    if (message.isOver) return;
    if (understood && message.writer !== undefined)
      for (const [i, mark] of marks.entries()) {
        if (mark === undefined) continue;
        this.counts.inAnswers++;
        expect(message.writer.read('room', mark.slot)).toBe(message.meant[i]);
      }
    this.#over(message, understood ? 'read' : 'unsure');
    if (understood) return;
    expect(message.writer).toBeDefined();
    message.owner.forget();
    // The same again under the same name, without handles.
    this.counts.again++;
    const again = { ...message, marks: message.meant.map(() => undefined), writer: undefined, isOver: false };
    this.#open.add(again);
    this.#queue.push(again);
  }

  changeSession(isBack: boolean): void {
    if (isBack) this.#session = Math.max(1, this.#session - 1);
    else this.#session = ++this.#newestSession;
  }

  restartReader(): void {
    this.#life++;
    this.#reader = new HandleReader();
  }

  /** Its numbers go on, and nothing of before is sent any more. */
  restartWriter(): void {
    this.#writer = new HandleWriter(['room'], this.#slots);
    this.#textOfSlot.clear();
    this.#open.clear();
    this.#queue.length = 0;
    // What is on its way has other answers' tokens: nobody waits for them.
    this.#answers.length = 0;
  }

  /** Long enough for all copies to be gone, and for slots to get other texts. */
  pause(): void {
    for (const message of [...this.#queue])
      if (message.isOver) this.#queue.splice(this.#queue.indexOf(message), 1);
    const late = this.#copies.filter(({ message }) => message.isOver);
    for (const copy of late) this.#copies.splice(this.#copies.indexOf(copy), 1);
    this.#now += HELD_AFTER_MS;
  }

  #over(message: Message, ending: MessageEnding): void {
    message.isOver = true;
    this.#open.delete(message);
    if (message.writer !== undefined) message.owner.over(message.writer, ending, this.#now);
  }

  #read(message: Message): Answer {
    const handles = this.#reader.message(message.name!);
    const understood = message.meant.every((text, i) => this.#understands(handles, message.marks[i], text));
    this.counts[understood ? 'read' : 'unknown']++;
    const marks = message.meant.map((text) => handles.write('room', text));
    return { message, understood, marks };
  }

  #understands(handles: MessageHandles, mark: HandleMark | undefined, meant: string): boolean {
    if (mark === undefined) return true;
    if (mark.kind === 'introduce') {
      expect(handles.introduce('room', mark.slot, meant)).toBe(true);
      return true;
    }
    const text = handles.read('room', mark.slot);
    if (typeof text !== 'string') return false;
    expect(text).toBe(meant);
    return true;
  }
}

const which = fc.nat(1000);
const somewhere = fc.array(
  fc.nat(11).map((n) => `!room${n}:a`),
  { minLength: 1, maxLength: 4 },
);
type Step = (model: Model) => void;
const by = (step: (model: Model, n: number) => void): fc.Arbitrary<Step> =>
  which.map((n) => (model: Model) => step(model, n));
const step: fc.Arbitrary<Step> = fc.oneof(
  { arbitrary: somewhere.map((texts) => (model: Model) => model.write(texts)), weight: 6 },
  { arbitrary: by((model, n) => model.seal(n)), weight: 7 },
  { arbitrary: by((model, n) => model.deliver(n)), weight: 7 },
  { arbitrary: by((model, n) => model.answer(n)), weight: 7 },
);
const trouble: fc.Arbitrary<Step> = fc.oneof(
  ...[
    by((model, n) => model.repeat(n)),
    by((model, n) => model.double(n)),
    by((model, n) => model.lose(n)),
    by((model, n) => model.loseAnswer(n)),
    by((model, n) => model.giveUp(n)),
    by((model) => model.pause()),
    by((model) => model.pause()),
    by((model) => model.restartReader()),
    by((model) => model.restartWriter()),
    by((model, n) => model.changeSession(n % 4 === 0)),
  ],
);

describe('handles', () => {
  test('mean what the writer meant, or say that they do not know: loss, repetition, reordering, sessions, restarts', () => {
    const total: Record<string, number> = {};
    fc.assert(
      fc.property(
        fc.array(fc.oneof({ arbitrary: step, weight: 20 }, { arbitrary: trouble, weight: 3 }), {
          minLength: 30,
          maxLength: 200,
        }),
        fc.integer({ min: 1, max: 6 }),
        (steps, slots) => {
          const model = new Model(slots);
          for (const one of steps) one(model);
          for (const [name, count] of Object.entries(model.counts)) total[name] = (total[name] ?? 0) + count;
        },
      ),
      { seed: 1, numRuns: 1500 },
    );
    // Whatever the model is there for has happened.
    for (const [name, count] of Object.entries(total)) expect(count, name).toBeGreaterThan(30);
  });

  test('cost two bytes once the peer has read the message that introduces them, and are introduced again until then', () => {
    const writer = new HandleWriter();
    const peer = new HandleReader();
    const text = '!a:b.example';
    const write = (): readonly [MessageWriter, Uint8Array] => {
      const handles = writer.message(SESSION, 0);
      return [handles, encodeCompact(text, { handles })];
    };
    const read = (number: number, bytes: Uint8Array) =>
      decodeCompact(bytes, { handles: peer.message(id(number)) });
    const [[first, one], [second, two]] = [write(), write()];
    // The name of its server gets one as well.
    expect([one.length, two.length]).toEqual([17, 17]);
    expect(encodeCompact(text).length).toBe(13);
    // The second may come first.
    expect(read(1, two)).toEqual({ ok: true, value: text });
    writer.over(second, 'read', 0);
    const [, third] = write();
    expect(third.length).toBe(2);
    expect(read(2, third)).toEqual({ ok: true, value: text });
    expect(read(0, one)).toEqual({ ok: true, value: text });
    writer.over(first, 'unsure', 0);
    expect(read(3, write()[1])).toEqual({ ok: true, value: text });
  });

  test('are not known in another session, where they are introduced anew', () => {
    const writer = new HandleWriter();
    const peer = new HandleReader();
    const first = writer.message(SESSION, 0);
    expect(first.write('room', '!a:b')).toEqual({ kind: 'introduce', slot: 0 });
    peer.message(id(1)).introduce('room', 0, '!a:b');
    writer.over(first, 'read', 0);
    expect(writer.message(SESSION, 0).write('room', '!a:b')).toEqual({ kind: 'known', slot: 0 });
    expect(writer.message(SESSION + 2, 0).write('room', '!a:b')).toEqual({ kind: 'introduce', slot: 0 });
    expect(peer.message({ generation: SESSION + 2, number: 2 }).read('room', 0)).toEqual({
      kind: 'unknown handle',
    });
    expect(peer.message(id(2)).read('user', 0)).toEqual({ kind: 'unknown handle' });
    // What was sent before that cannot mean it.
    expect(peer.message(id(0)).read('room', 0)).toEqual({ kind: 'unknown handle' });
    expect(peer.message(id(2)).read('room', 0)).toBe('!a:b');
  });

  test('are not taken from a message that is older than the one that they are known from', () => {
    const peer = new HandleReader();
    peer.message(id(5)).introduce('room', 0, '!new:b');
    const late = peer.message(id(3));
    late.introduce('room', 0, '!old:b');
    // It says itself what it means.
    expect(late.read('room', 0)).toBe('!old:b');
    expect(peer.message(id(6)).read('room', 0)).toBe('!new:b');
  });

  test('are introduced anew to a peer that has forgotten them since the message that introduced them', () => {
    const writer = new HandleWriter();
    const before = writer.message(SESSION, 0);
    before.write('room', '!a:b');
    writer.forget();
    writer.over(before, 'read', 0);
    expect(writer.message(SESSION, 0).write('room', '!a:b')).toEqual({ kind: 'introduce', slot: 0 });
  });

  test('that a message has named are named by its answer, and no others', () => {
    const writer = new HandleWriter();
    const peer = new HandleReader();
    const before = writer.message(SESSION, 0);
    before.write('room', '!other:b');
    peer.message(id(1)).introduce('room', 0, '!other:b');
    writer.over(before, 'read', 0);
    const asked = writer.message(SESSION, 0);
    expect(asked.write('room', '!a:b')).toEqual({ kind: 'introduce', slot: 1 });
    const read = peer.message(id(2));
    read.introduce('room', 1, '!a:b');
    expect(read.write('room', '!a:b')).toEqual({ kind: 'known', slot: 1 });
    expect(read.write('room', '!other:b')).toBeUndefined();
    expect([asked.read('room', 1), asked.read('room', 0)]).toEqual(['!a:b', { kind: 'unknown handle' }]);
  });

  test('are bounded', () => {
    const peer = new HandleReader().message(id(0));
    expect(peer.introduce('room', MAX_HANDLES, '!a:b')).toBe(false);
    expect(peer.introduce('room', 0, 'x'.repeat(MAX_HANDLE_LENGTH + 1))).toBe(false);
    const writer = new HandleWriter();
    expect(writer.message(SESSION, 0).write('room', 'x'.repeat(MAX_HANDLE_LENGTH + 1))).toBeUndefined();
    let introduced = 0;
    for (let n = 1; n < 3 * MAX_HANDLES; n++)
      if (writer.message(SESSION, 0).write('room', `!${n}:b`)?.kind === 'introduce') introduced++;
    // Nothing is answered, so messages without an end are counted.
    expect(introduced).toBe(255);
  });

  test('tell how many characters they keep, of the newest sessions only', () => {
    let characters = 0;
    const peer = new HandleReader((more) => {
      characters += more;
    });
    for (let generation = 1; generation <= 5; generation++)
      peer.message({ generation, number: 1 }).introduce('room', 0, '!a:b');
    expect(characters).toBe(3 * 4);
    // Of a session that was given up nothing is taken any more.
    peer.message({ generation: 1, number: 2 }).introduce('room', 0, '!c:d');
    expect(peer.message({ generation: 1, number: 3 }).read('room', 0)).toEqual({ kind: 'unknown handle' });
    peer.message({ generation: 5, number: 2 }).introduce('room', 0, '!longer:b');
    expect(characters).toBe(2 * 4 + 9);
    peer.clear();
    expect(characters).toBe(0);
  });

  test('go to texts that are used, from those that were not for the longest time, an hour after their last message', () => {
    const writer = new HandleWriter(['room'], 2);
    let now = 0;
    const mark = (text: string): HandleMark | undefined => {
      const message = writer.message(SESSION, now);
      const result = message.write('room', text);
      writer.over(message, 'read', now);
      return result;
    };
    expect(mark('a')).toEqual({ kind: 'introduce', slot: 0 });
    expect(mark('b')).toEqual({ kind: 'introduce', slot: 1 });
    expect(mark('a')).toEqual({ kind: 'known', slot: 0 });
    expect(mark('c')).toBeUndefined();
    now += HELD_AFTER_MS;
    expect(mark('c')).toEqual({ kind: 'introduce', slot: 1 });
    now += HELD_AFTER_MS;
    // While a message names a and c, neither makes room.
    const open = writer.message(SESSION, now);
    expect([open.write('room', 'a'), open.write('room', 'c')].map((one) => one?.slot)).toEqual([0, 1]);
    expect(mark('d')).toBeUndefined();
    writer.over(open, 'unsure', now);
    expect(mark('d')).toBeUndefined();
    expect(writer.isSpare(now)).toBe(false);
    now += HELD_AFTER_MS;
    expect(writer.isSpare(now)).toBe(true);
    expect(mark('d')).toEqual({ kind: 'introduce', slot: 0 });
  });
});

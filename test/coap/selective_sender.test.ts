import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { type MissingBlocks, missingBlocks, REACH } from '../../src/coap/missing_blocks.ts';
import { SelectiveReceiver } from '../../src/coap/selective_receiver.ts';
import { type BlockToSend, SelectiveSender } from '../../src/coap/selective_sender.ts';
import { selectiveWindow } from '../../src/coap/selective_window.ts';
import { bodyOf, same } from './bad_links.ts';

const SIZE = 16;
const senderOf = (blocks: number, window = { blocks: 10, interval: 4 }): SelectiveSender =>
  new SelectiveSender(bodyOf('body', blocks * SIZE - 3), SIZE, window);

/** Sends until nothing may go: numbers, those of checkpoints marked. */
function flight(sender: SelectiveSender): { readonly numbers: string; readonly checkpoints: number[] } {
  const sent: BlockToSend[] = [];
  for (let next = sender.next(); next !== null; next = sender.next()) {
    sent.push(next);
    sender.left();
  }
  const numbers = sent
    .map(({ block, checkpoint }) => `${block.num}${checkpoint === null ? '' : '!'}`)
    .join(' ');
  return {
    numbers,
    checkpoints: sent.flatMap(({ checkpoint }) => (checkpoint === null ? [] : [checkpoint])),
  };
}

const arrived = (first: number, ...behind: number[]): MissingBlocks => missingBlocks(first, behind);

describe('the sender of blocks', () => {
  it('gives out each block once, every fourth and the last as a checkpoint, as far as the window goes', () => {
    const sender = senderOf(14);
    const one = flight(sender);
    expect(one.numbers).toBe('0 1 2 3! 4 5 6 7! 8 9!');
    expect(sender.acknowledged(one.checkpoints[0]!, arrived(4))).toEqual({
      kind: 'going_on',
      superseded: [one.checkpoints[0]],
    });
    const two = flight(sender);
    expect(two.numbers).toBe('10 11 12 13!');
    expect(sender.acknowledged(two.checkpoints[0]!, arrived(14)).kind).toBe('complete');
    expect(sender.next()).toBeNull();
    expect(sender.inFlight).toBe(0);
  });

  it('says of each block whether more follow, and cuts the body where the blocks end', () => {
    const body = bodyOf('body', 40);
    const sender = new SelectiveSender(body, SIZE, { blocks: 10, interval: 4 });
    const parts = [];
    for (let next = sender.next(); next !== null; next = sender.next()) {
      parts.push(next);
      sender.left();
    }
    expect(parts.map(({ block }) => block)).toEqual([
      { num: 0, more: true, size: SIZE },
      { num: 1, more: true, size: SIZE },
      { num: 2, more: false, size: SIZE },
    ]);
    expect(same(Buffer.concat(parts.map(({ payload }) => payload)), body)).toBe(true);
  });

  it('gives out one block at a time: the next when the last bit of the one before has left', () => {
    const sender = senderOf(3);
    expect(sender.next()?.block.num).toBe(0);
    expect(sender.next()).toBeNull();
    sender.left();
    expect(sender.next()?.block.num).toBe(1);
  });

  it('sends again, and first, what had left before the checkpoint and is missing; of the rest it knows nothing yet', () => {
    const sender = senderOf(30);
    const { checkpoints } = flight(sender);
    // 0 1 2 3! 4 5 6 7! 8 9!: the second checkpoint says that 1 and 6 are missing, and 8 has come.
    sender.acknowledged(checkpoints[1]!, arrived(1, 2, 3, 4, 5, 7, 8));
    expect(sender.inFlight).toBe(1);
    expect(flight(sender).numbers).toBe('1 6 10 11! 12 13 14 15! 16!');
  });

  it('has checkpoints in quick succession at the end where blocks got lost', () => {
    const sender = senderOf(8, { blocks: 20, interval: 8 });
    const { numbers, checkpoints } = flight(sender);
    expect(numbers).toBe('0 1 2 3 4 5 6 7!');
    sender.acknowledged(checkpoints[0]!, arrived(0, 6, 7));
    expect(flight(sender).numbers).toBe('0 1 2! 3! 4! 5!');
  });

  it('lets a newer answer stand for the older checkpoints, which are waited for no more', () => {
    const sender = senderOf(30);
    const { checkpoints } = flight(sender);
    expect(sender.acknowledged(checkpoints[1]!, arrived(8))).toMatchObject({
      superseded: checkpoints.slice(0, 2),
    });
    expect(sender.acknowledged(checkpoints[0]!, arrived(2))).toEqual({ kind: 'ignored' });
    expect(sender.acknowledged(checkpoints[1]!, arrived(8))).toEqual({ kind: 'ignored' });
    expect(sender.inFlight).toBe(2);
  });

  it('repeats only the newest of the checkpoints that have no answer', () => {
    const sender = senderOf(30);
    const { checkpoints } = flight(sender);
    expect(checkpoints.map((checkpoint) => sender.unanswered(checkpoint))).toEqual([false, false, true]);
    expect(sender.acknowledged(checkpoints[0]!, arrived(4))).toEqual({ kind: 'ignored' });
    expect(sender.acknowledged(checkpoints[2]!, arrived(10)).kind).toBe('going_on');
  });

  it('asks anew with the last block in flight when the message layer has given its checkpoint up', () => {
    const sender = senderOf(6);
    const { numbers, checkpoints } = flight(sender);
    expect(numbers).toBe('0 1 2 3! 4 5!');
    sender.givenUp(checkpoints[1]!);
    const anew = flight(sender);
    expect(anew.numbers).toBe('5!');
    expect(sender.acknowledged(anew.checkpoints[0]!, arrived(0, 3, 4, 5))).toMatchObject({
      kind: 'going_on',
    });
    expect(flight(sender).numbers).toBe('0! 1! 2!');
  });

  it('makes a checkpoint of the last block in flight where what seemed lost turns out to have arrived', () => {
    const sender = senderOf(12, { blocks: 20, interval: 6 });
    const { numbers, checkpoints } = flight(sender);
    expect(numbers).toBe('0 1 2 3 4 5! 6 7 8 9 10 11!');
    sender.acknowledged(checkpoints[0]!, arrived(0));
    expect(sender.next()).toMatchObject({ block: { num: 0 }, checkpoint: null });
    // Blocks 1 to 5 were only late. Nothing is left to send, and nobody has been asked about the copy of block 0.
    sender.acknowledged(checkpoints[1]!, arrived(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
    sender.left();
    expect(flight(sender).numbers).toBe('0!');
  });

  it('starts over with a receiver that has forgotten everything', () => {
    const sender = senderOf(12);
    const { checkpoints } = flight(sender);
    sender.acknowledged(checkpoints[2]!, arrived(10));
    const { numbers, checkpoints: later } = flight(sender);
    expect(numbers).toBe('10 11!');
    sender.acknowledged(later[0]!, arrived(0, 10, 11));
    expect(flight(sender).numbers).toBe('0 1 2 3! 4 5 6! 7! 8! 9!');
  });

  it('goes no further ahead of the first missing block than a bitmap reaches, however wide the window is', () => {
    const sender = senderOf(2 * REACH, { blocks: 10_000, interval: 10_000 });
    const one = flight(sender);
    expect(one.numbers.endsWith(` ${REACH}!`)).toBe(true);
    sender.acknowledged(one.checkpoints[0]!, arrived(0, ...Array.from({ length: REACH }, (_, at) => at + 1)));
    const two = flight(sender);
    expect(two.numbers).toBe('0!');
    sender.acknowledged(two.checkpoints[0]!, arrived(REACH + 1));
    expect(flight(sender).numbers.startsWith(`${REACH + 1} ${REACH + 2} `)).toBe(true);
  });

  it('knows an answer that cannot be true', () => {
    const sender = senderOf(30);
    const { checkpoints } = flight(sender);
    expect(sender.acknowledged(checkpoints[0]!, arrived(11))).toEqual({ kind: 'bad' });
  });

  it('always ends, and is never without a checkpoint on its way where it waits: 300 seeds of a hostile network', () => {
    const totals = { again: 0, stale: 0, repeated: 0 };
    for (let seed = 0; seed < 300; seed++) {
      const random = seededRandom(seed);
      const blocks = 1 + random.integer(120);
      const window = { blocks: 1 + random.integer(40), interval: 1 + random.integer(10) };
      const body = bodyOf(`${seed}`, blocks * SIZE - random.integer(SIZE));
      const sender = new SelectiveSender(body, SIZE, window);
      const receiver = new SelectiveReceiver({
        limits: { bodyBytes: 4_000, assemblyBytes: 4_000 },
        assembling: 0,
      });
      const loss = random.integer(60) / 100;
      const there: BlockToSend[] = [];
      const back: { checkpoint: number; missing: MissingBlocks }[] = [];
      const waiting = new Map<number, BlockToSend>();
      const answers = new Map<number, MissingBlocks>();
      let [complete, given] = [false, 0];
      const delivered: Uint8Array[] = [];
      const take = <T>(queue: T[]): T | undefined =>
        queue.length === 0 ? undefined : queue.splice(random.integer(queue.length), 1)[0];
      const steps = {
        send(): void {
          const next = sender.next();
          if (sender.inFlight > window.blocks) throw new Error(`seed ${seed}: too many in flight`);
          if (next === null) {
            if (!complete && waiting.size === 0) throw new Error(`seed ${seed}: it waits for nothing`);
            return;
          }
          given++;
          sender.left();
          there.push(next);
          if (next.checkpoint !== null) waiting.set(next.checkpoint, next);
        },
        arrive(): void {
          const one = take(there);
          if (one === undefined || random.fraction() < loss) return;
          if (random.integer(8) === 0) there.push(one);
          const progress = receiver.add(one.block, [], one.payload);
          if (progress.kind === 'complete') delivered.push(progress.body);
          if (one.checkpoint === null) return;
          // A copy of a message gets the answer of the first.
          const missing = answers.get(one.checkpoint) ?? receiver.missing;
          answers.set(one.checkpoint, missing);
          back.push({ checkpoint: one.checkpoint, missing });
        },
        answer(): void {
          const one = take(back);
          if (one === undefined || random.fraction() < loss) return;
          const progress = sender.acknowledged(one.checkpoint, one.missing);
          if (progress.kind === 'bad') throw new Error(`seed ${seed}: an honest answer is bad`);
          if (progress.kind === 'ignored') totals.stale++;
          if (progress.kind !== 'going_on' && progress.kind !== 'complete') return;
          for (const checkpoint of progress.superseded) waiting.delete(checkpoint);
          complete ||= progress.kind === 'complete';
        },
        timeOut(): void {
          for (const [checkpoint, one] of waiting) {
            const isWanted = sender.unanswered(checkpoint);
            if (isWanted && random.integer(4) > 0) {
              there.push(one);
              totals.repeated++;
              return;
            }
            if (isWanted) sender.givenUp(checkpoint);
            waiting.delete(checkpoint);
            return;
          }
        },
      };
      for (let step = 0; !complete; step++) {
        if (step > 200_000) throw new Error(`seed ${seed}: it does not end`);
        const { send, arrive, answer, timeOut } = steps;
        [send, send, arrive, arrive, answer, answer, timeOut][
          random.integer(random.integer(20) === 0 ? 7 : 6)
        ]!();
      }
      expect(delivered.length, `seed ${seed}`).toBe(1);
      expect(same(delivered[0]!, body), `seed ${seed}`).toBe(true);
      totals.again += given - Math.ceil(body.length / SIZE);
    }
    expect(Object.entries(totals).filter(([, count]) => count === 0)).toEqual([]);
  });
});

describe('the window', () => {
  it.each([
    ['100 bit/s, 2 s', 26_400, 9_700, { interval: 4, blocks: 17 }],
    ['50 kbit/s, 300 ms', 176, 611, { interval: 4, blocks: 20 }],
    ['50 kbit/s, 2 s', 176, 4_011, { interval: 6, blocks: 47 }],
    ['10 Mbit/s, 300 ms: bounded', 0.88, 600, { interval: 16, blocks: 128 }],
  ])('fills a round trip and leaves room for lost answers at %s', (_, airtime, roundTrip, expected) => {
    expect(selectiveWindow(airtime, roundTrip)).toEqual(expected);
  });
});

import { beforeEach, describe, expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { bad, ok } from '../../src/base/result.ts';
import { isHistory, partsOfContainer } from '../../src/compact/container.ts';
import { COMPACT_DICTIONARY } from '../../src/compact/dictionary.ts';
import { BEGINS, byteOf, GENERATIONS, type Place, placeOf } from '../../src/compact/history_name.ts';
import { BucketTable } from '../../src/compact/mixer/buckets.ts';
import { NO_HISTORY } from '../../src/compact/mixer/history.ts';
import { AgreedForms } from '../../src/exchange/agreed_form.ts';
import { PeerCoders } from '../../src/exchange/coders.ts';
import { HistoryMemory } from '../../src/exchange/history_memory.ts';
import type { LearningModel } from '../../src/exchange/learnt.ts';
import { ReadHistories, type Reading } from '../../src/exchange/read_histories.ts';
import type { ExchangeRequest } from '../../src/exchange/request.ts';
import { type Accidents, type HistoryCounters, HistoryNetwork, NO_ACCIDENTS } from './history_network.ts';

const SEEDS = Number(process.env.RAVINE_SEEDS ?? 30);
const STEPS = 400;

function run(seed: number, accidents: Accidents): { counters: HistoryCounters; mixups: number } {
  const network = new HistoryNetwork(seededRandom(seed), accidents);
  for (let step = 0; step < STEPS; step++) network.step();
  return { counters: network.counters, mixups: network.model.mixups };
}

function sum(all: readonly HistoryCounters[]): HistoryCounters {
  const total: HistoryCounters = { read: 0, withHistory: 0, refused: 0, late: 0, rewritten: 0 };
  for (const one of all)
    for (const key of Object.keys(total) as (keyof HistoryCounters)[]) total[key] += one[key];
  return total;
}

const WILD: Accidents = {
  ...{
    loss: 0.2,
    giveUp: 0.03,
    restart: 0.004,
    session: 0.01,
    back: 0.01,
    rooms: 3,
    memoryBytes: 1_000_000,
    orderly: false,
  },
};

describe('histories', () => {
  test.each([
    ['whatever the network does', WILD],
    ['with more rooms than there are histories', { ...WILD, rooms: 40 }],
    ['where there is hardly memory', { ...WILD, memoryBytes: 3_000 }],
    ['in one session', { ...WILD, session: 0, back: 0, restart: 0 }],
    ['where everything is given up', { ...WILD, giveUp: 0.3 }],
  ])('are never mixed up, %s', (_, accidents) => {
    const total: HistoryCounters[] = [];
    for (let seed = 1; seed <= SEEDS; seed++) {
      const { counters, mixups } = run(seed, accidents);
      expect(mixups, `seed ${seed}`).toBe(0);
      total.push(counters);
    }
    const { withHistory, refused, late, rewritten } = sum(total);
    for (const count of [withHistory, refused, late, rewritten]) expect(count).toBeGreaterThan(SEEDS / 10);
  });

  test('are used for nearly everything that is said where nothing is lost', () => {
    const { read, withHistory, refused } = sum(
      Array.from({ length: 20 }, (_, seed) => run(seed, NO_ACCIDENTS).counters),
    );
    expect(refused).toBe(0);
    expect(withHistory).toBeGreaterThan(read / 2);
  });
});

const NO_WEIGHTS = { mixers: new Int32Array(0), finals: new Int32Array(0) };

describe('what a request is coded with', () => {
  /** A model that makes everything so short that it is always used. */
  const model: LearningModel = {
    id: 1,
    encode: () => Uint8Array.of(1),
    learn: () => ({ history: NO_HISTORY, buckets: new BucketTable(1), weights: NO_WEIGHTS }),
    coder: () => ({ id: 1, encode: () => Uint8Array.of(1), decode: () => bad('unused') }),
  };
  const said: ExchangeRequest = {
    method: 'PUT',
    path: '/_matrix/client/v3/rooms/!a:a.example/send/m.room.message/1',
    query: '',
    body: { kind: 'json', value: { msgtype: 'm.text', body: 'something that is long enough' } },
  };
  const dictionaries = [...new PeerCoders([model]).models, COMPACT_DICTIONARY];

  let forms: AgreedForms;
  beforeEach(() => {
    forms = new AgreedForms(() => ({ dictionaries }), {
      coders: new PeerCoders([model]),
      session: () => 1,
    });
  });

  function says(): { readonly place: Place; readonly ended: (status: number) => void } {
    const sent = forms.encodeRequest('peer', said);
    if (!sent.ok || !isHistory(sent.value.payload)) throw new Error('no history is used');
    return {
      place: placeOf(partsOfContainer(sent.value.payload)!.generation),
      ended: (status) => forms.ended(sent.value, { status, headers: {} }),
    };
  }

  test('counts as learnt by the peer after an answer of success alone, which it gives when it has read it', () => {
    const first = says();
    expect(first.place).toEqual({ slot: 0, generation: BEGINS, learns: true });
    first.ended(503);
    const second = says();
    expect(second.place).toEqual({ slot: 1, generation: BEGINS, learns: true });
    second.ended(200);
    expect(says().place).toEqual({ slot: 1, generation: 1, learns: true });
  });

  test('keeps its name while it is on its way: nothing is learnt that would be named the same', () => {
    says().ended(200);
    const learning = says();
    const slow = says();
    expect(slow.place).toEqual({ slot: 0, generation: 1, learns: false });
    learning.ended(200);
    for (let generation = 2; generation < GENERATIONS; generation++) says().ended(200);
    const last = says();
    expect(last.place).toEqual({ slot: 0, generation: GENERATIONS, learns: false });
    last.ended(200);
    slow.ended(200);
    expect(says().place).toEqual({ slot: 0, generation: GENERATIONS, learns: true });
  });
});

describe('what a request is read with', () => {
  /** A model that reads whatever it is given as it is. */
  const modelOf = (id: number): LearningModel => ({
    id,
    encode: (message) => message,
    learn: () => ({ history: NO_HISTORY, buckets: new BucketTable(1), weights: NO_WEIGHTS }),
    coder: () => ({ id, encode: (message) => message, decode: ok }),
  });
  const [first, second] = [1, 2].map(modelOf) as [LearningModel, LearningModel];
  const begins = byteOf({ slot: 3, generation: BEGINS, learns: true });
  const goesOn = byteOf({ slot: 3, generation: 1, learns: true });

  let histories: ReadHistories;
  let number: number;
  beforeEach(() => {
    histories = new ReadHistories(
      new Map([first, second].map((model) => [model.id, model])),
      new HistoryMemory(),
    );
    number = 0;
  });

  const next = (): Reading => histories.reading({ generation: 1, number: number++ });

  /** Reads a message, by the id of its model in the container (undefined: it names none) and what it says of its history. */
  function read(model: number | undefined, byte: number): number | undefined {
    const { coders, understood } = next();
    const coder = coders.learnt(model, byte);
    if (coder?.decode(Uint8Array.of(7), 1).ok === true) understood();
    return coder?.id;
  }

  test('is the model that its history began with: another one is refused, and spoils nothing', () => {
    expect(read(second.id, begins)).toBe(second.id);
    expect(read(first.id, goesOn)).toBeUndefined();
    expect(read(undefined, goesOn)).toBe(second.id);
    expect(read(second.id, goesOn)).toBe(second.id);
  });

  test('is nothing where no model is named and no history is there', () => {
    expect(read(undefined, begins)).toBeUndefined();
    expect(read(undefined, goesOn)).toBeUndefined();
    expect(read(7, begins)).toBeUndefined();
  });
});

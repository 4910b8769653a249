import { expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { type PipeSessionRow, pipeSessionStore } from '../../src/storage/pipe_sessions.ts';
import { IN_CLEAR } from '../../src/storage/sealing.ts';
import { pipeSession } from './pipe_session.ts';
import { temporaryDatabase } from './temporary_database.ts';

const random = seededRandom(1);

const session = (local: number, changes: Partial<PipeSessionRow> = {}): PipeSessionRow =>
  pipeSession(random, local, changes);

test('sessions are read as they were written, those that were written last at the end', async () => {
  const store = pipeSessionStore(temporaryDatabase(), IN_CLEAR, 'udp');
  const [first, second] = [session(1, { savedAt: 1_800_000_000_000 }), session(0xffff_fffe)];
  await store.commit([
    { kind: 'session', row: first },
    { kind: 'session', row: second },
  ]);
  expect(await store.load()).toEqual([second, first]);
  const newer = session(0xffff_fffe, { savedAt: 1_900_000_000_000, ownSalts: [random.bytes(8)] });
  await store.commit([{ kind: 'session', row: newer }]);
  expect(await store.load()).toEqual([first, newer]);
});

test('writes take place in their order, so that an id may go to the next session at once', async () => {
  const store = pipeSessionStore(temporaryDatabase(), IN_CLEAR, 'udp');
  const [old, next] = [session(7), session(7)];
  await store.commit([
    { kind: 'session', row: old },
    { kind: 'forget', local: 7 },
    { kind: 'session', row: next },
    { kind: 'forget', local: 8 },
  ]);
  expect(await store.load()).toEqual([next]);
  await store.commit([{ kind: 'forget', local: 7 }]);
  expect(await store.load()).toEqual([]);
});

test('of the early data of a key the highest generation is kept, for each link, the newest at the end', async () => {
  const database = temporaryDatabase();
  const [udp, radio] = [
    pipeSessionStore(database, IN_CLEAR, 'udp'),
    pipeSessionStore(database, IN_CLEAR, 'radio'),
  ];
  const [x, y] = [random.bytes(32), random.bytes(32)];
  const early = (noisePublic: Uint8Array, generation: number) =>
    ({ kind: 'early', noisePublic, generation }) as const;
  await udp.commit([early(x, 2 ** 47), early(y, 7), early(x, 5)]);
  await radio.commit([early(x, 3)]);
  expect(await udp.loadEarly()).toEqual([
    { noisePublic: y, generation: 7 },
    { noisePublic: x, generation: 2 ** 47 },
  ]);
  expect(await radio.loadEarly()).toEqual([{ noisePublic: x, generation: 3 }]);
});

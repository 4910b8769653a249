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

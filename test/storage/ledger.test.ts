import { beforeEach, describe, expect, it } from 'vitest';
import { utf8 } from '../../src/base/bytes.ts';
import {
  KEPT_MS,
  type LedgerRequest,
  ledgerRow,
  MAX_FLOORS,
  MAX_REQUESTS,
  MAX_REQUESTS_OF_ALL,
  putAnswer,
  putStep,
} from '../../src/storage/ledger.ts';
import type { SqliteDatabase } from '../../src/storage/sqlite.ts';
import { temporaryDatabase } from './temporary_database.ts';

let database: SqliteDatabase;

beforeEach(() => {
  database = temporaryDatabase();
});

const request = (number: number, more: Partial<LedgerRequest> = {}): LedgerRequest => ({
  ...{ peer: 'udp device:a', generation: 5, number, digest: utf8('x'), now: 1_000 },
  ...more,
});

const answer = (given: LedgerRequest, text: string | null = '{}') =>
  database.transaction((tx) => putAnswer(tx, given, text));

const kindOf = async (given: LedgerRequest): Promise<string> => (await ledgerRow(database, given)).kind;

describe('the ledger', () => {
  it('has nothing of a request that has not come', async () => {
    expect(await ledgerRow(database, request(1))).toEqual({ kind: 'new' });
  });

  it('keeps the steps of a request until it is answered', async () => {
    await database.transaction((tx) => putStep(tx, request(1), 'room', '"!r"'));
    await database.transaction((tx) => putStep(tx, request(1), 'invite', 'true'));
    const steps = new Map([
      ['room', '"!r"'],
      ['invite', 'true'],
    ]);
    expect(await ledgerRow(database, request(1))).toEqual({
      ...{ kind: 'begun', digest: Buffer.from('x'), steps },
    });
    await answer(request(1), '{"status":200}');
    expect(await ledgerRow(database, request(1))).toEqual({
      ...{ kind: 'answered', digest: Buffer.from('x'), answer: '{"status":200}' },
    });
    expect(await database.all('SELECT * FROM ledger_steps')).toEqual([]);
  });

  it('has nothing of what was undone with its transaction', async () => {
    const undone = database.transaction(async (tx) => {
      await putAnswer(tx, request(1), '{}');
      throw new Error('undone');
    });
    await expect(undone).rejects.toThrow('undone');
    expect(await kindOf(request(1))).toBe('new');
  });

  it('knows that an answer was too long to be kept', async () => {
    await answer(request(1), null);
    expect(await ledgerRow(database, request(1))).toMatchObject({ kind: 'answered', answer: null });
  });

  it('tells peers, sessions and numbers apart', async () => {
    await answer(request(1));
    expect(await kindOf(request(1, { peer: 'serial:x device:a' }))).toBe('new');
    expect(await kindOf(request(1, { generation: 6 }))).toBe('new');
    expect(await kindOf(request(2))).toBe('new');
  });
});

describe('what goes from the ledger', () => {
  it('is, of more requests of all peers than it holds, what came first, which is known to be gone', async () => {
    const [first, last, next] = ['a', 'b', 'c'].map((key) => request(7, { peer: `udp device:${key}` }));
    await answer(first!);
    await answer(last!);
    await database.transaction((tx) =>
      tx.run('UPDATE ledger_requests SET id = ? WHERE peer = ?', MAX_REQUESTS_OF_ALL, last!.peer),
    );
    expect(await kindOf(first!)).toBe('answered');
    await answer(next!);
    expect(await Promise.all([first, last, next].map((one) => kindOf(one!)))).toEqual([
      'gone',
      'answered',
      'answered',
    ]);
  });

  it('is, of more requests of a peer than it holds, what came first; others keep theirs', async () => {
    await answer(request(3, { peer: 'udp device:b' }));
    // The first copy of 900 was lost: it came after 901.
    const numbers = [5, 901, 900, ...Array.from({ length: MAX_REQUESTS - 1 }, (_, i) => 1_000 + i)];
    await database.transaction(async (tx) => {
      for (const number of numbers) await putAnswer(tx, request(number), '{}');
    });
    expect(await kindOf(request(5))).toBe('gone');
    expect(await kindOf(request(901))).toBe('gone');
    expect(await kindOf(request(900))).toBe('answered');
    expect(await kindOf(request(1_000))).toBe('answered');
    expect(await kindOf(request(3, { peer: 'udp device:b' }))).toBe('answered');
    const rows = await database.all('SELECT id FROM ledger_requests');
    expect(rows).toHaveLength(MAX_REQUESTS + 1);
  });

  it('is not run when it comes again, nor what is below it in its session', async () => {
    await answer(request(40, { now: 1_000 }));
    await answer(request(90, { now: 1_000 + KEPT_MS + 1 }));
    expect(await kindOf(request(40))).toBe('gone');
    expect(await kindOf(request(39))).toBe('gone');
    expect(await kindOf(request(41))).toBe('new');
    expect(await kindOf(request(40, { generation: 6 }))).toBe('new');
  });

  it('leaves a bounded number of rows behind, though each request is named by a session of its own', async () => {
    const count = MAX_REQUESTS + 2 * MAX_FLOORS;
    await database.transaction(async (tx) => {
      for (let generation = 1; generation <= count; generation++)
        await putAnswer(tx, request(7, { generation }), '{}');
    });
    expect(await database.all('SELECT * FROM ledger_floors')).toHaveLength(MAX_FLOORS);
    // Of those of which nothing is left, none runs again.
    expect(await kindOf(request(7, { generation: 1 }))).toBe('gone');
    expect(await kindOf(request(8, { generation: 1 }))).toBe('gone');
    expect(await kindOf(request(7, { generation: 2 * MAX_FLOORS }))).toBe('gone');
    expect(await kindOf(request(7, { generation: 2 * MAX_FLOORS + 1 }))).toBe('answered');
    expect(await kindOf(request(8, { generation: count + 1 }))).toBe('new');
  });

  it('goes with its steps', async () => {
    await database.transaction((tx) => putStep(tx, request(1), 'room', '1'));
    await answer(request(2, { now: 1_000 + KEPT_MS + 1 }));
    expect(await database.all('SELECT * FROM ledger_steps')).toEqual([]);
  });

  it('is forgotten altogether when no copy can be under way any more', async () => {
    await answer(request(1));
    await answer(request(2, { now: 2 * KEPT_MS }));
    expect(await database.all('SELECT * FROM ledger_floors')).toHaveLength(1);
    await answer(request(1, { generation: 9, now: 5 * KEPT_MS }));
    const floors = await database.all<{ number: number }>('SELECT number FROM ledger_floors');
    expect(floors.map(({ number }) => number)).toEqual([2]);
  });
});

import { expect, test } from 'vitest';
import { BackgroundWrites } from '../../src/homeserver/background_writes.ts';
import { Typing } from '../../src/homeserver/typing.ts';
import type { RoomId, UserId } from '../../src/matrix/ids.ts';
import type { Database } from '../../src/storage/database.ts';
import { Home } from './sync/room_fixture.ts';

test('what nobody awaits is awaited at the end, and what fails of it is in the log', async () => {
  const warned: unknown[] = [];
  const background = new BackgroundWrites({ warn: (...of) => void warned.push(of) });
  let isWritten = false;
  const slow = Promise.withResolvers<void>();
  void background.keep(
    slow.promise.then(() => {
      isWritten = true;
    }),
    'it did not go',
  );
  await background.keep(Promise.reject(new Error('no space')), 'it did not go');
  expect(warned).toEqual([[{ error: 'Error: no space' }, 'it did not go']]);
  const end = background.settled();
  expect(isWritten).toBe(false);
  slow.resolve();
  await end;
  expect(isWritten).toBe(true);
});

test('that it cannot be stored who has ceased to type is in the log', async () => {
  const { database, clock, notifier } = new Home();
  const [alice, room] = ['@alice:here' as UserId, '!room' as RoomId];
  await database.transaction((tx) =>
    tx.run(
      `INSERT INTO memberships (room, user_id, server_name, membership, event_id, position)
       VALUES (?, ?, 'here', 'join', '$join', 1)`,
      room,
      alice,
    ),
  );
  let isFull = false;
  const failing: Database = {
    get: (sql, ...params) => database.get(sql, ...params),
    all: (sql, ...params) => database.all(sql, ...params),
    transaction: (body) => (isFull ? Promise.reject(new Error('no space')) : database.transaction(body)),
    close: () => database.close(),
  };
  const warned: unknown[] = [];
  const typing = new Typing({
    ...{ database: failing, clock, notifier, log: { warn: (...of: unknown[]) => void warned.push(of) } },
    outbox: { typing: () => undefined, receipt: async () => undefined, presence: () => undefined },
  });
  await typing.set(alice, room, { isTyping: true, timeoutMs: 1_000 });
  isFull = true;
  clock.step();
  await typing.stop();
  expect(warned).toEqual([[{ error: 'Error: no space' }, 'it could not be stored who types']]);
});

import { expect, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { DelayedEvents, type DelayedEventsOptions } from '../../src/homeserver/delayed_events.ts';
import { unlimited } from '../../src/homeserver/user_limits.ts';
import type { EventId, RoomId, UserId } from '../../src/matrix/ids.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';

const ALICE = '@alice:here.test' as UserId;
const ROOM = '!room:here.test' as RoomId;

/** A server that is started over and over on one database, with rooms that store nothing but what was sent. */
async function server() {
  const time = new VirtualTime();
  const { clock } = time;
  const database = temporaryDatabase();
  await database.transaction((tx) => tx.run('INSERT INTO users (user_id, created) VALUES (?, 0)', ALICE));
  const sent: string[] = [];
  /** What the disk does when an event is stored. */
  const disk = { fails: false };
  const sending: Pick<DelayedEventsOptions['sending'], 'sendOnce' | 'setState'> = {
    async sendOnce(_room, _sender, _type, content, done) {
      const id = `$${String(content.body)}` as EventId;
      await database.transaction(async (tx) => {
        await done(tx, id);
        if (disk.fails) throw new Error('the disk is full');
      });
      sent.push(String(content.body));
      return id;
    },
    setState: () => Promise.reject(new Error('no state is set here')),
  };
  const random = seededRandom(1);
  const log = { warn: () => undefined };
  const start = (): DelayedEvents => {
    const delayed = new DelayedEvents({
      ...{ database, clock, random, log, limit: unlimited },
      sending: sending as DelayedEventsOptions['sending'],
    });
    delayed.start();
    return delayed;
  };
  const put = (delayed: DelayedEvents, body: string, delayMs: number): Promise<string> =>
    delayed.schedule(ALICE, { room: ROOM, type: 'm.room.message', content: { body } }, { delayMs });
  return { time, sent, disk, start, put };
}

test('what became due while the server was not running is sent at its start, in its order', async () => {
  const { time, sent, start, put } = await server();
  const first = start();
  for (const [body, delayMs] of [
    ['b', 2_000],
    ['c', 3_000],
    ['a', 1_000],
    ['d', 90_000],
  ] as const)
    await put(first, body, delayMs);
  await first.stop();
  await time.pass(10_000);
  expect(sent).toEqual([]);
  const second = start();
  await time.pass(1);
  expect(sent).toEqual(['a', 'b', 'c']);
  await time.pass(100_000);
  expect(sent).toEqual(['a', 'b', 'c', 'd']);
  await second.stop();
});

test('where the disk fails an event is sent later, and once', async () => {
  const { time, sent, disk, start, put } = await server();
  const delayed = start();
  const id = await put(delayed, 'a', 1_000);
  disk.fails = true;
  await time.pass(30_000);
  expect(sent).toEqual([]);
  expect(await delayed.get(ALICE, id)).not.toHaveProperty('finalised_ts');
  disk.fails = false;
  await time.pass(30_000);
  expect(sent).toEqual(['a']);
  await time.pass(300_000);
  expect(sent).toEqual(['a']);
  await delayed.stop();
});

test('of two who send an event at one time one does', async () => {
  const { sent, start, put } = await server();
  const delayed = start();
  const id = await put(delayed, 'a', 1_000);
  await Promise.all([delayed.act(ALICE, id, 'send'), delayed.act(ALICE, id, 'send')]);
  expect(sent).toEqual(['a']);
  await delayed.stop();
});

import { expect, test } from 'vitest';
import { seededRandom } from '../../../src/base/random.ts';
import { VirtualClock } from '../../../src/base/virtual_clock.ts';
import type { RemoteRooms } from '../../../src/homeserver/ports.ts';
import { Rooms } from '../../../src/homeserver/rooms/rooms.ts';
import type { KeyId, RoomId, ServerName, UserId } from '../../../src/matrix/ids.ts';
import { signingKey } from '../../../src/matrix/signing.ts';
import { type Death, MortalDatabase } from '../../doors/mortal_database.ts';
import { temporaryDatabase } from '../../storage/temporary_database.ts';

const HERE = 'here' as ServerName;
const ALICE = '@alice:here' as UserId;
const BOB = '@bob:here' as UserId;

/** A server that may be killed at any transaction, and starts again over what is on its disk. */
class Process {
  readonly disk = temporaryDatabase();
  readonly clock = new VirtualClock();
  readonly followed: [UserId, RoomId][] = [];
  name = 'Bob';
  database = new MortalDatabase(this.disk);
  rooms = this.#open();

  #open(): Rooms {
    return new Rooms({
      ...{ database: this.database, clock: this.clock, random: seededRandom(1), serverName: HERE },
      signingKey: signingKey('ed25519:1' as KeyId, new Uint8Array(32).fill(1)),
      remote: {} as RemoteRooms,
      outbox: { enqueue: async () => undefined },
      notifier: { published: () => undefined },
      profiles: { get: async () => ({ displayname: this.name }) },
      localUserExists: async () => true,
      resolveAlias: () => Promise.reject(new Error('there are none')),
      joined: async (user, room) => void this.followed.push([user, room]),
    });
  }

  restart(): void {
    this.database = new MortalDatabase(this.disk);
    this.rooms = this.#open();
  }

  async shownName(room: RoomId): Promise<unknown> {
    return (await this.rooms.queries.currentEvent(room, 'm.room.member', BOB))?.pdu.content.displayname;
  }
}

// The join is one transaction, and that it was followed is another.
const deaths: Death[] = [0, 1].flatMap((transaction) => [
  { transaction, when: 'before' },
  { transaction, when: 'after' },
]);
const goesOn = {
  'by the start': (process: Process) => process.rooms.memberships.arrivals.start(),
  'by the client that asks again': (process: Process, room: RoomId) =>
    process.rooms.memberships.join(BOB, room, {}),
};

for (const [how, goOn] of Object.entries(goesOn))
  test.each(deaths)(
    `what follows a join is done though the server was killed $when the commit of transaction $transaction, ${how}`,
    async (death) => {
      const process = new Process();
      const room = await process.rooms.create(ALICE, { preset: 'public_chat' });
      process.database.dieAt(death);
      await expect(process.rooms.memberships.join(BOB, room, {})).rejects.toThrow('killed');
      // A profile that changes meanwhile is among what follows.
      process.name = 'Robert';
      process.restart();
      await goOn(process, room);
      const wasStored = death.transaction > 0 || death.when === 'after';
      if (wasStored || how !== 'by the start') {
        expect(process.followed).toContainEqual([BOB, room]);
        // What had been done before is not done again.
        if (!(death.transaction === 1 && death.when === 'after'))
          expect(await process.shownName(room)).toBe('Robert');
      } else expect(process.followed).toEqual([]);
      await process.rooms.memberships.join(BOB, room, {});
      const times = process.followed.length;
      // Whoever is there already comes in no more.
      await process.rooms.memberships.join(BOB, room, {});
      expect(process.followed).toHaveLength(times);
      expect(await process.disk.all('SELECT * FROM arrivals')).toEqual([]);
    },
  );

test('nothing follows for somebody who has left before the server started again', async () => {
  const process = new Process();
  const room = await process.rooms.create(ALICE, { preset: 'public_chat' });
  process.database.dieAt({ transaction: 0, when: 'after' });
  await expect(process.rooms.memberships.join(BOB, room, {})).rejects.toThrow('killed');
  process.restart();
  await process.rooms.memberships.leave(BOB, room);
  await process.rooms.memberships.arrivals.start();
  expect(process.followed).toEqual([]);
  expect(await process.disk.all('SELECT * FROM arrivals')).toEqual([]);
});

import { beforeEach, describe, expect, it } from 'vitest';
import type { DeviceId, ServerName, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { deleteDevice } from '../../../src/storage/devices.ts';
import { addToInbox, MAX_INBOX_SHARE } from '../../../src/storage/to_device.ts';
import { ALICE, BOB, LAPTOP, nextOf, numbersIn, PHONE, ToDeviceWorld } from './world.ts';

const AWAY = 'away.example' as ServerName;
const CAROL = `@carol:${AWAY}` as UserId;

let world: ToDeviceWorld;
beforeEach(async () => {
  world = await ToDeviceWorld.open();
});

/** All that a device is told, acknowledging each answer. */
async function drained(device: DeviceId): Promise<number[]> {
  const got: number[] = [];
  for (let since: string | undefined; ; ) {
    const answer = await world.answer(device, since);
    if (since !== undefined && numbersIn(answer).length === 0) return got;
    got.push(...numbersIn(answer));
    since = nextOf(answer);
  }
}
const received = (n: number, messageId: string, from: UserId = CAROL, device = '*'): Promise<void> =>
  world.toDevice.received(AWAY, [
    { sender: from, type: 'm.test', messageId, messages: new Map([[ALICE, new Map([[device, { n }]])]]) },
  ]);

describe('a message to a device', () => {
  it('is told with its sender and type, to the devices that it is for, and to all by *', async () => {
    await world.send({ [ALICE]: { [PHONE]: { n: 1 }, '*': { n: 2 }, NONE: { n: 3 } } });
    const answer = await world.answer(PHONE);
    expect(answer.to_device).toEqual({ events: [{ sender: BOB, type: 'm.test', content: { n: 1 } }] });
    expect(numbersIn(await world.answer(LAPTOP))).toEqual([2]);
  });

  it('stays until the position that it was told at comes back, and not longer', async () => {
    await world.send({ [ALICE]: { [PHONE]: { n: 1 } } });
    const first = await world.answer(PHONE);
    expect(numbersIn(await world.answer(PHONE))).toEqual([1]);
    await world.answer(LAPTOP, nextOf(first));
    expect(numbersIn(await world.answer(PHONE))).toEqual([1]);
    const next = await world.answer(PHONE, nextOf(first));
    expect(numbersIn(next)).toEqual([]);
    expect(numbersIn(await world.answer(PHONE))).toEqual([]);
  });

  it('wakes a sync that waits, and behind a cut batch the next is there at once', async () => {
    const { since } = { since: nextOf(await world.answer(PHONE)) };
    const waiting = world.answer(PHONE, since, 60_000);
    for (let n = 0; n < 130; n++) await world.send({ [ALICE]: { [PHONE]: { n } } });
    expect(numbersIn(await world.time.until(waiting, 60_000))).toEqual([0]);
    const cut = await world.answer(PHONE, since);
    expect(numbersIn(cut)).toHaveLength(100);
    const rest = await world.answer(PHONE, nextOf(cut), 60_000);
    expect(numbersIn(rest)).toHaveLength(30);
  });

  it('is sent once under one transaction id of a device and type, also after a restart', async () => {
    await world.send({ [ALICE]: { [PHONE]: { n: 1 } } }, 'same');
    world.restart();
    await world.send({ [ALICE]: { [PHONE]: { n: 2 } } }, 'same');
    await world.send({ [ALICE]: { [PHONE]: { n: 3 } } }, 'same', 'm.other');
    expect(await drained(PHONE)).toEqual([1, 3]);
  });

  it('goes with its device', async () => {
    await world.send({ [ALICE]: { '*': { n: 1 } } });
    await world.database.transaction((tx) => deleteDevice(tx, ALICE, PHONE));
    await world.logIn(ALICE, PHONE);
    expect(await drained(PHONE)).toEqual([]);
    expect(await drained(LAPTOP)).toEqual([1]);
  });

  it('for a user of another server is queued for that, all its devices together', async () => {
    await world.send({ [CAROL]: { X: { n: 1 }, '*': { n: 2 } }, [ALICE]: { [PHONE]: { n: 3 } } });
    expect(world.queued).toEqual([
      {
        destination: AWAY,
        message: {
          sender: BOB,
          type: 'm.test',
          messageId: expect.stringMatching(/^[\w-]{12}$/),
          messages: new Map([
            [
              CAROL,
              new Map<string, JsonObject>([
                ['X', { n: 1 }],
                ['*', { n: 2 }],
              ]),
            ],
          ]),
        },
      },
    ]);
  });

  it('of another server is taken once under its id, also after a restart', async () => {
    await received(1, 'a');
    await received(2, 'b');
    world.restart();
    await received(3, 'a');
    expect(await drained(PHONE)).toEqual([1, 2]);
    expect(world.toDevice.counters.repeated).toBe(1);
  });

  it.each([
    ['a user id that is none', { alice: { X: {} } }, 'M_INVALID_PARAM'],
    ['a message beyond 64 KiB', { [ALICE]: { X: { text: 'x'.repeat(65_536) } } }, 'M_TOO_LARGE'],
    [
      'more devices than it may name',
      { [ALICE]: Object.fromEntries(Array.from({ length: 10_001 }, (_, n) => [`D${n}`, {}])) },
      'M_TOO_LARGE',
    ],
  ])('is refused with %s, and nothing of it is sent', async (_, messages, errcode) => {
    await expect(world.send({ [ALICE]: { [PHONE]: { n: 1 } }, ...messages })).rejects.toMatchObject({
      errcode,
    });
    expect(await drained(PHONE)).toEqual([]);
  });

  it('of a server that floods an inbox is lost, counted and logged; others still get theirs in', async () => {
    await world.database.transaction(async (tx) => {
      for (let n = 0; n < MAX_INBOX_SHARE; n++)
        await addToInbox(tx, ALICE, PHONE, { server: AWAY, json: JSON.stringify({ content: { n: -1 } }) });
    });
    await received(1, 'flood');
    await world.send({ [ALICE]: { [PHONE]: { n: 2 } } });
    expect(world.toDevice.counters.lost).toBe(1);
    expect(world.lines).toEqual([expect.stringContaining('its inbox is full')]);
    expect((await drained(PHONE)).filter((n) => n >= 0)).toEqual([2]);
    expect(await drained(LAPTOP)).toEqual([1]);
  });
});

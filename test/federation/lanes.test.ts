import { beforeEach, expect, it } from 'vitest';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { Lanes, type Postponement } from '../../src/federation/lanes.ts';
import { B, HOUR, recordingLog } from './fixtures.ts';

let time: VirtualTime;
let lanes: Lanes;
let attempts: number[];
let finish: (postponement?: Postponement) => void;

beforeEach(() => {
  time = new VirtualTime();
  attempts = [];
  lanes = new Lanes({
    clock: time.clock,
    log: recordingLog(),
    drain: () => {
      attempts.push(time.clock.monotonic());
      return new Promise((resolve) => (finish = resolve));
    },
    wokenRetry: () => 20_000,
  });
  lanes.start();
});

/** How long after the failure of the first attempt the second one comes, where `during` happens in the first. */
async function pauseAfter(during: () => void): Promise<number | undefined> {
  lanes.wake(B);
  await time.pass(5_000);
  during();
  const failed = time.clock.monotonic();
  finish({ failures: 2, waitMs: HOUR });
  await time.pass(HOUR / 2);
  return attempts[1] && attempts[1] - failed;
}

it('what is new while an attempt runs that then fails brings the next one forward', async () => {
  expect(await pauseAfter(() => lanes.wake(B))).toBe(20_000);
});

it('a server that speaks while an attempt runs that then fails brings the next one forward', async () => {
  expect(await pauseAfter(() => lanes.peerSpoke(B))).toBe(2_000);
});

it('of both the sooner counts, and only for one attempt', async () => {
  const both = (): void => {
    lanes.peerSpoke(B);
    lanes.wake(B);
  };
  expect(await pauseAfter(both)).toBe(2_000);
  finish({ failures: 3, waitMs: HOUR });
  await time.pass(HOUR - 1);
  expect(attempts).toHaveLength(2);
  await time.pass(1);
  expect(attempts).toHaveLength(3);
});

it('a failure in which nothing came waits for its time', async () => {
  expect(await pauseAfter(() => undefined)).toBeUndefined();
});

it('a server that spoke during an attempt that did not fail is no reason for another', async () => {
  lanes.wake(B);
  lanes.peerSpoke(B);
  finish();
  await time.pass(HOUR);
  expect(attempts).toHaveLength(1);
  lanes.wake(B);
  finish({ failures: 1, waitMs: HOUR });
  await time.pass(HOUR / 2);
  expect(attempts).toHaveLength(2);
});

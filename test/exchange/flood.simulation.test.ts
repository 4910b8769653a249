import { expect, test } from 'vitest';
import { concat } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import type { PipeLimits } from '../../src/pipe/limits.ts';
import { FAST, MINUTE, type Node, put, SLOW, World } from './world.ts';

/*
 *   a ══ 100 bit/s, 2 s ══ b <── five XX1 a second ── m0 … m39
 *
 * Everything that b sends shares its 100 bit/s: an XX2 takes 23 s of it.
 */

const FLOODERS = 40;
const HOUR = 60 * MINUTE;

interface Flooded {
  readonly world: World;
  readonly a: Node;
  readonly b: Node;
  /** How many requests of a, one after another, b has answered within an hour. */
  readonly answered: number;
  /** Seconds of b's airtime that went to the flooders. */
  readonly lostSeconds: number;
}

async function hour(options: { flood: boolean; pipe?: Partial<PipeLimits> }): Promise<Flooded> {
  const world = new World(7);
  const random = seededRandom(7);
  world.connect('a', 'b', SLOW);
  const a = world.start('a', SLOW);
  const b = world.start('b', SLOW, options.pipe === undefined ? {} : { limits: { pipe: options.pipe } });
  const links = Array.from({ length: FLOODERS }, (_, i) => {
    world.connect(`m${i}`, 'b', FAST);
    return world.network.join(`m${i}`, FAST);
  });
  const ask = (text: string): Promise<unknown> =>
    a.socket.request(b.name, b.address, put(text), { timeoutMs: HOUR, priority: 1 });
  await world.time.until(ask('first'), 10 * MINUTE);
  const { clock } = world.time;
  const flood = (): void => {
    for (let n = 0; n < 5; n++) {
      const first = concat(Uint8Array.of(0x90, 0x11, 5), random.bytes(32), new Uint8Array(60));
      links[random.integer(FLOODERS)]!.send('b', first);
    }
    clock.after(1_000, flood);
  };
  if (options.flood) flood();
  const start = clock.monotonic();
  let answered = 0;
  for (; clock.monotonic() - start < HOUR; answered++) await world.time.until(ask(`${answered}`), 2 * HOUR);
  const lost = world.seen.filter(
    ({ from, to, fate }) => from === 'b' && to.startsWith('m') && fate === 'sent',
  );
  const lostSeconds = lost.reduce((sum, { wire }) => sum + (wire * 8) / SLOW.rate!, 0);
  return { world, a, b, answered, lostSeconds };
}

test('a flood of handshakes from many addresses leaves an established session most of its rate, and known peers their way in', async () => {
  const quiet = await hour({ flood: false });
  const flooded = await hour({ flood: true });
  const looser = await hour({ flood: true, pipe: { answersShare: 0.8 } });
  // A tenth of the hour, and what may go at once.
  expect(flooded.lostSeconds).toBeGreaterThan(0);
  expect(flooded.lostSeconds).toBeLessThan(360 + 120);
  expect(flooded.answered).toBeGreaterThan(0.8 * quiet.answered);
  // With a looser bound the flood shows.
  expect(looser.answered).toBeLessThan(0.6 * quiet.answered);

  // A server at an address that is known starts again and has to shake hands, against all of them.
  const { world, a, b } = flooded;
  await a.socket.close();
  const again = world.start('a', SLOW);
  const started = world.time.clock.monotonic();
  await world.time.until(
    again.socket.request(b.name, b.address, put('again'), { timeoutMs: HOUR, priority: 1 }),
    HOUR,
  );
  expect(world.time.clock.monotonic() - started).toBeLessThan(5 * MINUTE);
  expect(b.socket.counters.pipe.throttled).toBeGreaterThan(10_000);
});

test('strangers whose plain CoAP is answered on a slow link do not hold up the pipe', async () => {
  const link = { ...SLOW, rate: 1_200, delay: 300 };
  const requestsAnswered = async (pings: boolean): Promise<number> => {
    const world = new World(8);
    world.connect('a', 'b', link);
    world.connect('x', 'b', FAST);
    const a = world.start('a', link);
    const b = world.start('b', link, { plain: 'trusted' });
    const stranger = world.network.join('x', FAST);
    const ask = (text: string): Promise<unknown> =>
      a.socket.request(b.name, b.address, put(text), { timeoutMs: HOUR, priority: 1 });
    await world.time.until(ask('first'), 10 * MINUTE);
    const { clock } = world.time;
    const ping = (id: number): void => {
      stranger.send('b', Uint8Array.of(0x40, 0, id >> 8, id & 0xff));
      clock.after(20, () => ping((id + 1) % 65_536));
    };
    if (pings) ping(0);
    const start = clock.monotonic();
    let answered = 0;
    for (; clock.monotonic() - start < 5 * MINUTE; answered++)
      await world.time.until(ask(`${answered}`), HOUR);
    return answered;
  };
  // Fifty resets a second ask for ten times the rate. What is lost is the rest of the one that is being sent.
  expect(await requestsAnswered(true)).toBeGreaterThan(0.7 * (await requestsAnswered(false)));
});

test('a budget of airtime that is used up is told once, and bounds what strangers get of it', async () => {
  const said: string[] = [];
  const log = { debug() {}, error() {}, warn: (_: object, message: string) => said.push(message) };
  const link = { ...SLOW, rate: 1_200, delay: 300, airtimePerHourMs: 36_000 };
  const world = new World(9);
  world.connect('a', 'b', { ...SLOW, rate: 1_200, delay: 300 });
  world.connect('x', 'b', FAST);
  const a = world.start('a', { ...SLOW, rate: 1_200, delay: 300 });
  const b = world.start('b', link, { log });
  const ask = (): Promise<unknown> =>
    a.socket.request(b.name, b.address, put('x'.repeat(100)), { timeoutMs: 3 * HOUR, priority: 1 });
  await world.time.until(ask(), 10 * MINUTE);
  const stranger = world.network.join('x', FAST);
  const { clock } = world.time;
  const get = (id: number): void => {
    stranger.send('b', Uint8Array.of(0x40, 1, id >> 8, id & 0xff));
    clock.after(100, () => get((id + 1) % 65_536));
  };
  get(0);
  await world.time.pass(HOUR);
  const toStranger = world.seen.filter(({ from, to, fate }) => from === 'b' && to === 'x' && fate === 'sent');
  // A fiftieth of the 36 seconds, what may go at once, and the one that goes into debt.
  const seconds = toStranger.reduce((sum, { wire }) => sum + (wire * 8) / link.rate, 0);
  expect(seconds).toBeGreaterThan(0);
  expect(seconds).toBeLessThan(0.72 + ((1_200 + 70) * 8) / link.rate);
  expect(said).toEqual([]);
  for (let n = 0; n < 100; n++) ask().catch(() => undefined);
  await world.time.pass(HOUR / 2);
  expect(said).toEqual(["the hour's airtime is used up: nothing is sent for so many seconds"]);
});

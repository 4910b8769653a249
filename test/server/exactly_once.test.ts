import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualTime } from '../../src/base/virtual_time.ts';
import { ETHERNET_IPV4_UDP_OVERHEAD, type LinkProfile } from '../../src/link/link.ts';
import { SimulatedNetwork } from '../../src/link/simulated.ts';
import type { ServerName } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { startEphemeral } from '../../src/server/ephemeral.ts';
import type { Homeserver } from '../../src/server/homeserver.ts';
import { DeviceClient, json } from '../exchange/device_client.ts';

/*
 *   phone ── POST ──> home      done, and stored
 *         X<── 200 ──           lost, and home starts again
 *   phone ── POST ──> home      the same message: the stored answer
 *         <── 200 ──
 */

const LINK: LinkProfile = { mtu: 1200, rate: 9600, delay: 200, overhead: ETHERNET_IPV4_UDP_OVERHEAD };
const SEED = 11;
const HOUR = 60 * 60_000;

/** A logged-in phone that asks for something, whose answer is lost; then the server starts again. */
async function answeredAfterAStart(method: string, path: string, body: JsonObject) {
  const time = new VirtualTime();
  const network = new SimulatedNetwork({ clock: time.clock, random: seededRandom(SEED) });
  const folder = mkdtempSync(join(tmpdir(), 'ravine-once-'));
  const until = <T>(outcome: Promise<T>): Promise<T> => time.until(outcome, HOUR);
  let starts = 0;
  const start = (): Promise<Homeserver> =>
    until(
      startEphemeral({
        ...{ clock: time.clock, work: time.work, folder, config: { server_name: 'home.example' } },
        random: seededRandom(SEED + 100 * ++starts),
        link: network.join('home', LINK),
      }),
    );
  network.connect('phone', 'home', { rate: LINK.rate, latency: LINK.delay });
  let server = await start();
  const phone = new DeviceClient({
    link: network.join('phone', LINK),
    clock: time.clock,
    random: seededRandom(SEED + 1),
    secret: seededRandom(SEED + 2).bytes(32),
    server: 'home.example' as ServerName,
    address: 'home',
  });
  onTestFinished(async () => {
    await until(phone.socket.close());
    await until(server.stop());
    rmSync(folder, { recursive: true, force: true });
  });
  const account = { username: 'alice', password: 'through the looking glass' };
  await until(phone.ask('POST', '/register', { ...account, auth: { type: 'm.login.dummy' } }));
  const before = server.counters().ledger;

  network.change('home', 'phone', { loss: 1 });
  const answer = phone.ask(method, path, body);
  await time.pass(20_000);
  expect(server.counters().ledger).toEqual({ ...before, run: before.run + 1 });
  await until(server.stop());
  server = await start();
  network.change('home', 'phone', { loss: 0 });
  const answered = await until(answer);
  expect(server.counters().ledger).toMatchObject({ run: 0, continued: 0, unknown: 0 });
  expect(server.counters().ledger.repeated).toBeGreaterThan(0);
  return { answered, ask: (get: string) => until(phone.ask('GET', get)) };
}

test('a room is made once, though the answer was lost and the server started again', async () => {
  const { answered, ask } = await answeredAfterAStart('POST', '/createRoom', { name: 'x' });
  expect(answered.status).toBe(200);
  expect(json(await ask('/joined_rooms'))).toEqual({ joined_rooms: [json(answered).room_id] });
});

test('a request of several blocks is recognised as well', async () => {
  const topic = Array.from({ length: 4_000 }, (_, i) => String.fromCodePoint(0x4e00 + ((i * 7919) % 20_000)));
  const { answered, ask } = await answeredAfterAStart('POST', '/createRoom', { topic: topic.join('') });
  expect(answered.status).toBe(200);
  expect(json(await ask('/joined_rooms'))).toEqual({ joined_rooms: [json(answered).room_id] });
});

test('a logout is answered as one, though nobody is logged in any more when it comes again', async () => {
  const { answered, ask } = await answeredAfterAStart('POST', '/logout', {});
  expect(answered).toMatchObject({ status: 200, body: { value: {} } });
  expect((await ask('/joined_rooms')).status).toBe(401);
});

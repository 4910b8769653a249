import { callDirectly, openDevice, sendCall } from '../clients.ts';
import type { Scenario } from '../scenario.ts';
import { inWorld, wireBytes } from '../world.ts';
import { aliceInRoom, eventCall, HELLO, text, twoServers } from './hello.ts';

const HOUR_MS = 60 * 60 * 1000;

/** Bindings of NATs for UDP live two minutes at least (RFC 4787, REQ-5). */
const KEEP_ALIVE_MS = 120_000;

/** An hour in which nobody says anything. */
export const w9: Scenario = async () => [
  {
    id: 'W9',
    name: 'idle hour of a device that observes, and a message arrives after it',
    budget: { bytes: { total: 0 } },
    bytes: { total: await idleDevice() },
  },
  {
    id: 'W9b',
    name: 'the same behind a NAT: one keep-alive an interval',
    budget: { bytes: { total: 63 } },
    bytes: { total: (await idleDevice(KEEP_ALIVE_MS)) / (HOUR_MS / KEEP_ALIVE_MS) },
  },
  {
    id: 'W9c',
    name: 'idle hour of two servers with a session, and a message arrives after it',
    budget: { bytes: { total: 0 } },
    bytes: { total: await idleServers() },
  },
];

async function idleDevice(keepAliveMs?: number): Promise<number> {
  return inWorld(['alpha'], async (world) => {
    const { app } = world.server('alpha');
    const { alice, room } = await world.until(aliceInRoom(app));
    const device = await openDevice(world, 'alpha', alice, 'client', keepAliveMs);
    let told = 0;
    const stream = device.follow({ onSync: () => told++ });
    while (!stream.isObserving) await world.time.pass(1_000);
    const before = world.captured.length;
    await world.time.pass(HOUR_MS);
    const idle = wireBytes(world.captured.slice(before));
    const toldBefore = told;
    await world.capture(() => callDirectly(app, alice, sendCall(room, text(HELLO), 1)));
    if (told !== toldBefore + 1) throw new Error('the message has not arrived');
    await world.until(device.close());
    return idle;
  });
}

async function idleServers(): Promise<number> {
  return inWorld(['alpha', 'bravo'], async (world) => {
    const [alpha, bravo] = [world.server('alpha').app, world.server('bravo').app];
    const { value } = await world.capture(() => twoServers(alpha, bravo));
    const { alice, bob, room } = value;
    const before = world.captured.length;
    await world.time.pass(HOUR_MS);
    const idle = wireBytes(world.captured.slice(before));
    const sent = await world.capture(() => callDirectly(alpha, alice, sendCall(room, text(HELLO), 1)));
    await world.until(callDirectly(bravo, bob, eventCall(room, String(sent.value.event_id))));
    return idle;
  });
}

import { callDirectly } from '../clients.ts';
import type { Scenario } from '../scenario.ts';
import { inWorld, wireBytes } from '../world.ts';
import { eventCall, HELLO, sendCall, text, twoServers } from './hello.ts';

const HOUR_MS = 60 * 60 * 1000;

/** An hour in which nobody says anything. */
export const w9: Scenario = async () => [
  {
    id: 'W9',
    name: 'idle hour, both sides observing, and a message arrives after it',
    budget: { bytes: { total: 0 } },
    notYet: '/sync cannot be observed; see W9c for what two servers take',
  },
  {
    id: 'W9b',
    name: 'the same behind a NAT: one keep-alive an interval',
    budget: { bytes: { total: 63 } },
    notYet: 'nothing keeps a binding of a NAT alive',
  },
  {
    id: 'W9c',
    name: 'idle hour of two servers with a session, and a message arrives after it',
    budget: { bytes: { total: 0 } },
    bytes: { total: await idleServers() },
  },
];

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

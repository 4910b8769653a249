import { seededRandom } from '../../src/base/random.ts';
import { FederationError } from '../../src/federation/transport.ts';
import { Transports } from '../../src/federation/transports.ts';
import { type DeviceId, type EventId, type RoomId, serverOf } from '../../src/matrix/ids.ts';
import type { Pdu } from '../../src/matrix/pdu.ts';
import { A, B, C, HOUR, testKey } from './fixtures.ts';
import { Network, openServer, openSide, type Side } from './sides.ts';

const NAMES = [A, B, C] as const;
const USERS = ['alice', 'bob', 'carol'] as const;
const STEPS = 40;
/** Steps without which anything would be lost less. */
const MAX_PAUSE_MS = 90_000;

/** What has happened, over all seeds. */
export interface FormsCounts {
  written: number;
  writtenWhole: number;
  read: number;
  askedWhole: number;
  lostRequests: number;
  lostAnswers: number;
  restarts: number;
  forks: number;
}

export const noCounts = (): FormsCounts => ({
  ...{ written: 0, writtenWhole: 0, read: 0, askedWhole: 0 },
  ...{ lostRequests: 0, lostAnswers: 0, restarts: 0, forks: 0 },
});

/**
 * Three servers in one room say, change and redact things at the same time, over links that lose requests and answers and are
 * away for a while, and through restarts, with all bodies in their short forms. Then all is well again, and every server has to
 * have the same events.
 */
export async function simulateForms(seed: number, counts: FormsCounts): Promise<void> {
  const dice = seededRandom(seed);
  const network = new Network();
  network.formed = true;
  const sides: Side[] = [];
  for (const [i, name] of NAMES.entries())
    sides.push(await openSide(network, name, testKey(i + 1), seed + i));
  const within = <T>(outcome: Promise<T>): Promise<T> => network.time.until(outcome, 10 * HOUR);
  const userOf = (i: number) => sides[i]!.user(USERS[i]!);

  const room = await within(sides[0]!.rooms.create(userOf(0), { preset: 'public_chat' }));
  for (const i of [1, 2]) await within(sides[i]!.rooms.memberships.join(userOf(i), room, { via: [A] }));
  const powers = { users: { [userOf(1)]: 50, [userOf(2)]: 50 } };
  await within(sides[0]!.rooms.sending.setState(room, userOf(0), 'm.room.power_levels', '', powers));
  await network.time.pass(10_000);

  let lossPercent = 0;
  const away = new Set<string>();
  network.passes = (from, to) => {
    const passes = !away.has(`${from} ${to}`) && dice.integer(100) >= lossPercent;
    if (!passes) counts.lostRequests++;
    return passes;
  };
  network.beforeAnswer = async () => {
    if (dice.integer(100) >= lossPercent) return;
    counts.lostAnswers++;
    throw new FederationError('timeout', 'the answer is lost');
  };

  for (let step = 0; step < STEPS; step++) {
    lossPercent = [0, 0, 20, 50][dice.integer(4)]!;
    const i = dice.integer(3);
    switch (dice.integer(10)) {
      case 0:
        sides[i] = await restarted(network, sides[i]!, seed * 100 + step);
        counts.restarts++;
        break;
      case 1:
        away.add(`${NAMES[i]} ${NAMES[dice.integer(3)]}`);
        break;
      case 2:
        away.clear();
        break;
      case 3:
        await within(
          sides[i]!.rooms.sending.setState(room, userOf(i), 'm.room.topic', '', { topic: `${step}` }),
        );
        break;
      case 4:
        await within(redactLast(sides[i]!, i, room, step));
        break;
      default:
        // Together, so that they are built on the same events.
        await within(
          Promise.all(
            [i, dice.integer(3)].map((who, n) => sides[who]!.say(userOf(who), room, `${seed} ${step} ${n}`)),
          ),
        );
    }
    if (dice.integer(2) === 0) await network.time.pass(dice.integer(MAX_PAUSE_MS));
  }

  lossPercent = 0;
  away.clear();
  await network.time.pass(12 * HOUR);
  // What was lost behind a gap comes with the next event of each.
  for (const i of [0, 1, 2]) {
    await within(sides[i]!.say(userOf(i), room, 'the end'));
    await network.time.pass(HOUR);
  }
  const [first, ...others] = await Promise.all(sides.map(eventsOf));
  for (const other of others) {
    for (const [id, json] of first!) {
      const same = other.get(id);
      if (same !== undefined && same !== json) throw new Error(`${id} differs:\n${json}\n${same}`);
    }
    const missing = [...first!.keys(), ...other.keys()].filter((id) => !first!.has(id) || !other.has(id));
    if (missing.length > 0) throw new Error(`events that not all have: ${missing.join()}`);
  }
  for (const { forms, rooms } of sides) {
    for (const key of ['written', 'writtenWhole', 'read', 'askedWhole'] as const)
      counts[key] += forms.counters[key];
    counts.forks += rooms.counters.forks;
  }
  for (const side of sides) await network.time.until(stopped(side), 10 * HOUR);
}

async function redactLast(side: Side, i: number, room: RoomId, step: number): Promise<void> {
  const rows = await side.database.all<{ event_id: string }>(
    "SELECT event_id FROM events WHERE type = 'm.room.message' AND sender = ? ORDER BY id DESC LIMIT 1",
    side.user(USERS[i]!),
  );
  const [last] = rows;
  if (last === undefined) return;
  const from = { user: side.user(USERS[i]!), device: 'D' as DeviceId, txnId: `r${step}` };
  await side.rooms.sending.redact(room, last.event_id as EventId, undefined, from);
}

/** Every event of a server: its JSON, of the signatures that of its sender's server, which all have. */
async function eventsOf({ database }: Side): Promise<Map<string, string>> {
  const rows = await database.all<{ event_id: string; json: string }>(
    'SELECT event_id, json FROM events ORDER BY event_id',
  );
  return new Map(
    rows.map(({ event_id, json }) => {
      const pdu = JSON.parse(json) as Pdu;
      const signatures = pdu.signatures[serverOf(pdu.sender)];
      return [event_id, canonical({ ...pdu, signatures })];
    }),
  );
}

const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );

async function stopped(side: Side): Promise<void> {
  await side.sender.stop();
  await side.receiver.stop();
  await side.app.close();
}

/** The same server anew, over the same database. */
async function restarted(network: Network, side: Side, seed: number): Promise<Side> {
  await network.time.until(stopped(side), 10 * HOUR);
  const { serverName, signingKey, database } = side;
  const transports = new Transports({
    serverName,
    peers: [],
    https: network.transportOf(serverName, signingKey),
  });
  const again = await openServer({
    ...{ clock: network.time.clock, serverName, signingKey, seed, transports, database },
  });
  for (const key of ['written', 'writtenWhole', 'read', 'askedWhole'] as const)
    again.forms.counters[key] += side.forms.counters[key];
  network.sides.set(serverName, again);
  return again;
}

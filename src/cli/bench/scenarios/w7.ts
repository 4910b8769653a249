import type { FastifyInstance } from 'fastify';
import { seededRandom } from '../../../base/random.ts';
import { DEFAULT_ROOM_VERSION } from '../../../matrix/room_version.ts';
import { type Account, callDirectly, register } from '../clients.ts';
import { type HttpsCost, inHttpsWorld } from '../https_world.ts';
import type { Row, Scenario } from '../scenario.ts';
import { FAST, inWorld, SLOW, type Way, type World, wireBytes } from '../world.ts';
import { createRoom } from './hello.ts';

const JOINER = 'foxtrot';
const VIA = 'alpha';
const RESIDENTS = [VIA, 'bravo', 'charlie', 'delta', 'echo'];
const SERVERS = [JOINER, ...RESIDENTS];
const MEMBERS_OF_EACH = 6;
/** After the last member has joined, until everybody knows. */
const GATHERED_MS = 60_000;
const MEDIA_ID_LENGTH = 24;
const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

type Until = <T>(outcome: Promise<T>) => Promise<T>;
const atOnce: Until = (outcome) => outcome;

/** From whom the joining server and those that it has never met get each other's keys. */
type Keys = 'notary' | 'each';

/** A user joins a public room of other servers. */
export const w7: Scenario = async ({ https }) => {
  const members = RESIDENTS.length * MEMBERS_OF_EACH;
  const name = `join of a public room of version ${DEFAULT_ROOM_VERSION}, ${members} members of ${RESIDENTS.length} servers`;
  const cost = https ? { https: await httpsJoin() } : {};
  const row = async (id: string, way: Way, keys: Keys, budget: Row['budget']): Promise<Row> => {
    const { bytes, handshakes, others, seconds } = await join(way, keys);
    const datagrams = way.rate === null ? '1,200-byte datagrams' : `${way.rate} bit/s`;
    const from =
      keys === 'notary'
        ? `keys from ${VIA}, which is the notary of all; ${others} bytes besides went between the others, what it asked them included`
        : `keys from each server: ${handshakes} of these bytes are handshakes with the others, for their keys`;
    return {
      id,
      name: `${name}, ${datagrams}, keys from ${keys === 'notary' ? 'the server joined through' : 'each server'}`,
      budget,
      bytes: { total: bytes },
      ...cost,
      note: `there was a session with the server joined through and no other; ${from}${seconds > 0 ? `; the join takes ${seconds} s` : ''}`,
    };
  };
  return [
    await row('W7', FAST, 'notary', { bytes: { total: 6_600 } }),
    await row('W7b', SLOW, 'notary', { bytes: { total: 12_000 } }),
    await row('W7c', FAST, 'each', {}),
    await row('W7d', SLOW, 'each', { bytes: { total: 12_000 } }),
  ];
};

interface Join {
  /** Everything to and from the joining server. */
  readonly bytes: number;
  /** Of that, handshakes. */
  readonly handshakes: number;
  /** Bytes between the other servers. */
  readonly others: number;
  readonly seconds: number;
}

async function join(way: Way, keys: Keys): Promise<Join> {
  const measure = async (world: World): Promise<Join> => {
    const appOf = (name: string): FastifyInstance => world.server(name).app;
    const until: Until = (outcome) => world.until(outcome);
    // Quickly, whatever the way of the join is.
    const { room, joiner } = await gather(appOf, until);
    await world.time.pass(GATHERED_MS);
    await world.moveTo(way);
    await world.capture(() => invite(appOf(JOINER), joiner));
    const start = world.time.clock.monotonic();
    let end = start;
    const { datagrams } = await world.capture(async () => {
      await joinRoom(appOf(JOINER), joiner, room);
      end = world.time.clock.monotonic();
    });
    await checkMembers(appOf(JOINER), joiner, room, until);
    const own = datagrams.filter(({ from, to }) => from === JOINER || to === JOINER);
    const handshakes = own.filter(({ label }) => /^(XX|IK)\d/.test(label));
    const seconds = Math.round((end - start) / 1000);
    const others = wireBytes(datagrams) - wireBytes(own);
    return { bytes: wireBytes(own), handshakes: wireBytes(handshakes), others, seconds };
  };
  return inWorld(SERVERS, measure, FAST, (name) => (keys === 'notary' && name !== VIA ? [VIA] : []));
}

async function httpsJoin(): Promise<HttpsCost> {
  return inHttpsWorld(SERVERS, async (world) => {
    const appOf = (name: string): FastifyInstance => world.server(name).app;
    const { room, joiner } = await gather(appOf, atOnce);
    await world.measure(() => invite(appOf(JOINER), joiner));
    const { bytes } = await world.measure(() => joinRoom(appOf(JOINER), joiner, room));
    await checkMembers(appOf(JOINER), joiner, room, atOnce);
    // Two requests to the server joined through, make_join and send_join; those for keys open their connections anyway.
    return { kept: bytes, perConnection: bytes + 2 * (await world.connectionCost()) };
  });
}

/** Makes the room and everybody in it, and a user who is not. */
async function gather(
  appOf: (name: string) => FastifyInstance,
  until: Until,
): Promise<{ readonly room: string; readonly joiner: Account }> {
  const random = seededRandom(7);
  const joiner = await until(register(appOf(JOINER), 'fred'));
  let room: string | undefined;
  for (const name of RESIDENTS) {
    const app = appOf(name);
    for (let i = 0; i < MEMBERS_OF_EACH; i++) {
      const member = await until(register(app, `${name}.member${i}`));
      const media = Array.from({ length: MEDIA_ID_LENGTH }, () => LETTERS[random.integer(LETTERS.length)]);
      await until(setProfile(app, member, 'displayname', `Member ${i} of ${name}`));
      await until(setProfile(app, member, 'avatar_url', `mxc://${name}.example/${media.join('')}`));
      if (room !== undefined) await until(joinRoom(app, member, room));
      else {
        const made = createRoom({ preset: 'public_chat', name: 'The square' });
        room = String((await until(callDirectly(app, member, made))).room_id);
      }
    }
  }
  return { room: room!, joiner };
}

const setProfile = (app: FastifyInstance, user: Account, field: string, value: string) =>
  callDirectly(app, user, {
    method: 'PUT',
    target: `/_matrix/client/v3/profile/${encodeURIComponent(user.id)}/${field}`,
    body: { [field]: value },
  });

const joinRoom = (app: FastifyInstance, user: Account, room: string) =>
  callDirectly(app, user, {
    method: 'POST',
    target: `/_matrix/client/v3/join/${encodeURIComponent(room)}?via=alpha.example`,
    body: {},
  });

/** Opens the session between the two servers, or lets it go on. */
const invite = (app: FastifyInstance, user: Account) =>
  callDirectly(app, user, createRoom({ preset: 'private_chat', invite: ['@alpha.member0:alpha.example'] }));

async function checkMembers(app: FastifyInstance, user: Account, room: string, until: Until): Promise<void> {
  const target = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/members?membership=join`;
  const { chunk } = await until(callDirectly(app, user, { method: 'GET', target }));
  const expected = RESIDENTS.length * MEMBERS_OF_EACH + 1;
  const found = (chunk as { content: { avatar_url?: string } }[]).filter(
    ({ content }) => content.avatar_url !== undefined,
  ).length;
  if (found !== expected - 1) throw new Error(`${found} members with avatars, not ${expected - 1}`);
}

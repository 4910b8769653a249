import { gzipSync } from 'node:zlib';
import type { FastifyInstance } from 'fastify';
import type { JsonObject } from '../../../matrix/json.ts';
import {
  type Account,
  type ClientCall,
  callDirectly,
  openDevice,
  plainClient,
  register,
  sendCall,
} from '../clients.ts';
import { inHttpsWorld } from '../https_world.ts';
import type { Scenario } from '../scenario.ts';
import { conversation } from '../texts.ts';
import { type ExchangeBytes, exchangeBytes, inWorld } from '../world.ts';
import { createRoom, text } from './hello.ts';

const ROOMS = 10;
const MEMBERS = 10;
const TIMELINE = 10;

const FILTER = JSON.stringify({ room: { timeline: { limit: TIMELINE } } });
const SYNC: ClientCall = {
  method: 'GET',
  target: `/_matrix/client/v3/sync?filter=${encodeURIComponent(FILTER)}&timeout=0`,
};

/** The first /sync of an account. */
export const w10: Scenario = async ({ https }) => {
  const { bytes, plain } = await sync();
  const cost = https ? await httpsSync() : undefined;
  const name = `initial sync, ${ROOMS} rooms of ${MEMBERS} members, timeline limit ${TIMELINE}, every event id`;
  return [
    {
      id: 'W10',
      name,
      bytes,
      plain,
      budget: { ratio: 6 },
      ...(cost && { https: { kept: cost.plain, perConnection: cost.plain + cost.connection } }),
    },
    {
      id: 'W10b',
      name: `${name}; beside HTTPS with gzip`,
      bytes,
      budget: { ratio: 1.6 },
      ...(cost && { https: { kept: cost.zipped, perConnection: cost.zipped + cost.connection } }),
    },
  ];
};

async function sync(): Promise<{ readonly bytes: ExchangeBytes; readonly plain: ExchangeBytes }> {
  return inWorld(['alpha'], async (world) => {
    // Within one server: nothing of it waits for virtual time.
    const alice = await furnish(world.server('alpha').app);
    const measure = async (name: string, ask: () => Promise<JsonObject>): Promise<ExchangeBytes> => {
      const { value, datagrams } = await world.capture(ask);
      checkSync(value);
      return exchangeBytes(datagrams, name);
    };
    const device = await openDevice(world, 'alpha', alice, 'client');
    const plain = await plainClient(world, 'alpha', alice, 'plain');
    await world.capture(() => plain.call({ method: 'GET', target: '/_matrix/client/v3/account/whoami' }));
    const measured = {
      bytes: await measure('client', () => device.sync({ filter: FILTER })),
      plain: await measure('plain', () => plain.call(SYNC)),
    };
    await world.until(Promise.all([device.close(), plain.close()]));
    return measured;
  });
}

async function httpsSync(): Promise<{ plain: number; zipped: number; connection: number }> {
  return inHttpsWorld(['alpha'], async (world) => {
    const { app } = world.server('alpha');
    const alice = await furnish(app);
    const ask = world.client('alpha', alice);
    await ask({ method: 'GET', target: '/_matrix/client/v3/account/whoami' });
    const whole = await world.measure(() => ask(SYNC));
    checkSync(whole.value);
    // Our door leaves compression to a proxy: the same answer, zipped, from one.
    const { rawPayload, headers } = await app.inject({
      method: SYNC.method,
      url: SYNC.target,
      headers: { authorization: `Bearer ${alice.token}` },
    });
    const zipped = gzipSync(rawPayload);
    const { 'transfer-encoding': _, ...rest } = headers;
    const zippedHeaders = { ...rest, 'content-encoding': 'gzip', 'content-length': zipped.length };
    await world.answering('proxy', zippedHeaders, zipped);
    const askProxy = world.client('proxy', alice, { acceptsGzip: true });
    await askProxy(SYNC);
    const fromProxy = await world.measure(() => askProxy(SYNC));
    checkSync(fromProxy.value);
    return { plain: whole.bytes, zipped: fromProxy.bytes, connection: await world.connectionCost() };
  });
}

/** Rooms with members who have names, and messages. */
async function furnish(app: FastifyInstance): Promise<Account> {
  const alice = await register(app, 'alice');
  const others: Account[] = [];
  for (let i = 1; i < MEMBERS; i++) others.push(await register(app, `member${i}`));
  const { messages } = conversation();
  for (let i = 0; i < ROOMS; i++) {
    const { room_id } = await callDirectly(
      app,
      alice,
      createRoom({ preset: 'public_chat', name: `Room ${i}` }),
    );
    const room = String(room_id);
    for (const member of others)
      await callDirectly(app, member, {
        method: 'POST',
        target: `/_matrix/client/v3/join/${encodeURIComponent(room)}`,
        body: {},
      });
    const speakers = [alice, ...others];
    for (let j = 0; j < TIMELINE; j++) {
      const call = sendCall(room, text(messages[i * TIMELINE + j]!.text), i * TIMELINE + j);
      await callDirectly(app, speakers[j % speakers.length]!, call);
    }
  }
  return alice;
}

/** Whether every room, every member and every event id is there. */
function checkSync(answer: JsonObject): void {
  const rooms = Object.values(
    (answer as unknown as { rooms: { join: Record<string, SyncedRoom> } }).rooms.join,
  );
  const members = rooms.map(({ state, timeline }) =>
    [...state.events, ...timeline.events].filter(({ type }) => type === 'm.room.member'),
  );
  const isWhole =
    rooms.length === ROOMS &&
    rooms.every(({ timeline }) => timeline.events.length === TIMELINE) &&
    members.every((all) => all.length === MEMBERS) &&
    rooms.every(({ state, timeline }) =>
      [...state.events, ...timeline.events].every(({ event_id }) => /^\$[\w-]{43}$/.test(event_id)),
    );
  if (!isWhole) throw new Error('the sync does not have everything');
}

interface SyncedRoom {
  readonly state: { readonly events: readonly SyncedEvent[] };
  readonly timeline: { readonly events: readonly SyncedEvent[] };
}

interface SyncedEvent {
  readonly type: string;
  readonly event_id: string;
}

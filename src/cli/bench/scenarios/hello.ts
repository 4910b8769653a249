import type { JsonObject } from '../../../matrix/json.ts';
import {
  type Account,
  type ClientCall,
  callDirectly,
  type OpenClient,
  register,
  sendCall,
} from '../clients.ts';
import { type HttpsCost, inHttpsWorld } from '../https_world.ts';
import { type ExchangeBytes, exchangeBytes, inWorld } from '../world.ts';

export const HELLO = 'Hello World';

/** What a client brings into a room. */
export interface Sent {
  readonly type: string;
  readonly content: JsonObject;
}

export const text = (body: string): Sent => ({
  type: 'm.room.message',
  content: { msgtype: 'm.text', body },
});

/** Asks for one event of a room. */
export const eventCall = (room: string, event: string): ClientCall => ({
  method: 'GET',
  target: `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/event/${encodeURIComponent(event)}`,
});

export const createRoom = (content: JsonObject): ClientCall => ({
  method: 'POST',
  target: '/_matrix/client/v3/createRoom',
  body: content,
});

type App = Parameters<typeof callDirectly>[0];

/** A user of one server, alone in a room there. */
export async function aliceInRoom(app: App): Promise<{ readonly alice: Account; readonly room: string }> {
  const alice = await register(app, 'alice');
  const { room_id } = await callDirectly(app, alice, createRoom({ preset: 'private_chat' }));
  return { alice, room: String(room_id) };
}

/** Lets a client of `alpha` send everything, one after another in a session that is established, and counts each send. */
export async function clientSends(open: OpenClient, all: readonly Sent[]): Promise<readonly ExchangeBytes[]> {
  return inWorld(['alpha'], async (world) => {
    const { app } = world.server('alpha');
    const { alice, room } = await world.until(aliceInRoom(app));
    const client = await open(world, 'alpha', alice, 'client');
    await world.capture(() => client.send(room, text('the session is opened'), 0));
    const costs: ExchangeBytes[] = [];
    let last = '';
    for (const [i, sent] of all.entries()) {
      const { value, datagrams } = await world.capture(() => client.send(room, sent, i + 1));
      costs.push(exchangeBytes(datagrams, client.name));
      last = value;
    }
    // What the client has, told or computed, is what the server calls the event.
    const event = await world.until(callDirectly(app, alice, eventCall(room, last)));
    if (JSON.stringify(event.content) !== JSON.stringify(all.at(-1)?.content))
      throw new Error('the event that the client was told of is not what it has sent');
    await world.until(client.close());
    return costs;
  });
}

/** The same sends over HTTPS and JSON. */
export async function httpsSend(sent: Sent): Promise<HttpsCost> {
  return inHttpsWorld(['alpha'], async (world) => {
    const { alice, room } = await aliceInRoom(world.server('alpha').app);
    const ask = world.client('alpha', alice);
    await ask(sendCall(room, text('the connection is opened'), 0));
    const { bytes } = await world.measure(() => ask(sendCall(room, sent, 1)));
    return { kept: bytes, perConnection: bytes + (await world.connectionCost()) };
  });
}

export const onlyOne = (costs: readonly ExchangeBytes[]): ExchangeBytes => {
  const [one] = costs;
  if (one === undefined || costs.length > 1) throw new Error('one exchange was to be measured');
  return one;
};

/** Two users of two servers in one room of their own. */
export async function twoServers(
  alpha: App,
  bravo: App,
): Promise<{ readonly alice: Account; readonly bob: Account; readonly room: string }> {
  const alice = await register(alpha, 'alice');
  const bob = await register(bravo, 'bob');
  const { room_id } = await callDirectly(
    alpha,
    alice,
    createRoom({ preset: 'private_chat', invite: [bob.id] }),
  );
  const room = String(room_id);
  await callDirectly(bravo, bob, {
    method: 'POST',
    target: `/_matrix/client/v3/join/${encodeURIComponent(room)}`,
    body: {},
  });
  return { alice, bob, room };
}

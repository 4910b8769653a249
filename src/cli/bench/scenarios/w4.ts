import type { JsonObject } from '../../../matrix/json.ts';
import { callDirectly, openDevice, register, sendCall } from '../clients.ts';
import { type HttpsCost, inHttpsWorld } from '../https_world.ts';
import { type Row, type Scenario, spreadOf } from '../scenario.ts';
import { type ExchangeBytes, inWorld, wireBytes } from '../world.ts';
import { aliceInRoom, HELLO, onlyOne, text } from './hello.ts';

/** A message reaches a client that waits for what is new: the notification and its acknowledgement. */
export const w4: Scenario = async ({ https, texts }) => {
  const cost: Pick<Row, 'https'> = https ? { https: await httpsPush() } : {};
  return [
    {
      id: 'W4',
      name: 'the same event pushed to an observing client, id computed / acknowledgement',
      budget: { bytes: { request: 82, response: 62 } },
      bytes: onlyOne(await pushes([HELLO], { idsAreTold: false })),
      spread: spreadOf(await pushes(texts, { idsAreTold: false })),
      ...cost,
    },
    {
      id: 'W4b',
      name: 'the same with the literal id / acknowledgement',
      budget: { bytes: { request: 112, response: 62 } },
      bytes: onlyOne(await pushes([HELLO], { idsAreTold: true })),
      ...cost,
    },
  ];
};

/** Lets a friend say everything in a room of two, one after another, while a device observes. */
function pushes(
  all: readonly string[],
  { idsAreTold }: { readonly idsAreTold: boolean },
): Promise<readonly ExchangeBytes[]> {
  return inWorld(['alpha'], async (world) => {
    const { app } = world.server('alpha');
    const { alice, room } = await world.until(aliceInRoom(app));
    const bob = await world.until(register(app, 'bob'));
    await world.until(
      callDirectly(app, alice, {
        method: 'POST',
        target: `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/invite`,
        body: { user_id: bob.id },
      }),
    );
    const join = `/_matrix/client/v3/join/${encodeURIComponent(room)}`;
    await world.until(callDirectly(app, bob, { method: 'POST', target: join, body: {} }));
    const device = await openDevice(world, 'alpha', alice, 'client');
    let last = '';
    device.follow({
      idsAreTold,
      onSync: (body) => {
        last = newestId(body) ?? last;
      },
    });
    await world.capture(() => callDirectly(app, bob, sendCall(room, text('the session is opened'), 0)));
    const costs: ExchangeBytes[] = [];
    for (const [i, body] of all.entries()) {
      const { value, datagrams } = await world.capture(() =>
        callDirectly(app, bob, sendCall(room, text(body), i + 1)),
      );
      if (last !== value.event_id) throw new Error('the client has not what was sent');
      const of = (name: string): number => wireBytes(datagrams.filter(({ from }) => from === name));
      costs.push({ request: of('alpha'), response: of('client') });
    }
    await world.until(device.close());
    return costs;
  });
}

/** The id of the last event of the first room in an answer of /sync. */
function newestId(body: JsonObject): string | undefined {
  const { join } = body.rooms as unknown as { readonly join: Readonly<Record<string, Joined>> };
  return Object.values(join)[0]?.timeline.events.at(-1)?.event_id;
}

interface Joined {
  readonly timeline: { readonly events: readonly { readonly event_id: string }[] };
}

/** What each message costs a client that has a long poll open: its answer, and the next one. */
async function httpsPush(): Promise<HttpsCost> {
  return inHttpsWorld(['alpha'], async (world) => {
    const { app } = world.server('alpha');
    const { alice, room } = await aliceInRoom(app);
    const ask = world.client('alpha', alice);
    const sync = (since?: unknown) =>
      ask({
        method: 'GET',
        target: `/_matrix/client/v3/sync?timeout=30000${since === undefined ? '' : `&since=${encodeURIComponent(String(since))}`}`,
      });
    const { next_batch } = await sync();
    await callDirectly(app, alice, sendCall(room, text(HELLO), 1));
    const { bytes } = await world.measure(() => sync(next_batch));
    return { kept: bytes, perConnection: bytes + (await world.connectionCost()) };
  });
}

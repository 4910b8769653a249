import { callDirectly } from '../clients.ts';
import { type HttpsCost, inHttpsWorld } from '../https_world.ts';
import { type Scenario, spreadOf } from '../scenario.ts';
import { type ExchangeBytes, exchangeBytes, inWorld } from '../world.ts';
import { HELLO, onlyOne, type Sent, sendCall, text, twoServers } from './hello.ts';

/** One server tells another of a message that its user has sent, and signs it in the same record. */
export const w3: Scenario = async ({ https, texts }) => [
  {
    id: 'W3',
    name: 'the same event server to server, signature inline',
    budget: { bytes: { request: 144, response: 62 } },
    bytes: onlyOne(await serverSends([text(HELLO)])),
    ...(https && { https: await httpsServerSend(text(HELLO)) }),
    spread: spreadOf(await serverSends(texts.map(text))),
  },
];

/** Sends everything from `alpha`, one after another in a session that is established, and counts what goes between the servers. */
async function serverSends(all: readonly Sent[]): Promise<readonly ExchangeBytes[]> {
  return inWorld(['alpha', 'bravo'], async (world) => {
    const [alpha, bravo] = [world.server('alpha').app, world.server('bravo').app];
    const { value } = await world.capture(() => twoServers(alpha, bravo));
    const { alice, bob, room } = value;
    const costs: ExchangeBytes[] = [];
    let last = '';
    for (const [i, sent] of [text('the event before'), ...all].entries()) {
      const { value: answer, datagrams } = await world.capture(() =>
        callDirectly(alpha, alice, sendCall(room, sent, i)),
      );
      last = String(answer.event_id);
      costs.push(exchangeBytes(datagrams, 'alpha'));
    }
    // The other side has it under the same id.
    const target = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/event/${encodeURIComponent(last)}`;
    await world.until(callDirectly(bravo, bob, { method: 'GET', target }));
    return costs.slice(1);
  });
}

async function httpsServerSend(sent: Sent): Promise<HttpsCost> {
  return inHttpsWorld(['alpha', 'bravo'], async (world) => {
    const alpha = world.server('alpha').app;
    const { alice, room } = await twoServers(alpha, world.server('bravo').app);
    await world.measure(() => callDirectly(alpha, alice, sendCall(room, text('the event before'), 0)));
    const { bytes } = await world.measure(() => callDirectly(alpha, alice, sendCall(room, sent, 1)));
    return { kept: bytes, perConnection: bytes + (await world.connectionCost()) };
  });
}

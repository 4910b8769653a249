import { sleep, systemClock } from '../../../base/time.ts';
import { type Account, type ClientCall, callDirectly, sendCall } from '../clients.ts';
import { type HttpsCost, inHttpsWorld } from '../https_world.ts';
import { type Scenario, spreadOf } from '../scenario.ts';
import { type ExchangeBytes, exchangeBytes, inWorld } from '../world.ts';
import { eventCall, HELLO, onlyOne, type Sent, text, twoServers } from './hello.ts';

/** How often it is looked whether an event has arrived over HTTPS, in real time, and how many times at most. */
const LOOK_MS = 20;
const MAX_LOOKS = 500;

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
    await world.until(callDirectly(bravo, bob, eventCall(room, last)));
    return costs.slice(1);
  });
}

async function httpsServerSend(sent: Sent): Promise<HttpsCost> {
  return inHttpsWorld(['alpha', 'bravo'], async (world) => {
    const [alpha, bravo] = [world.server('alpha').app, world.server('bravo').app];
    const { alice, bob, room } = await twoServers(alpha, bravo);
    const send = async (one: Sent, n: number): Promise<void> => {
      const { event_id } = await callDirectly(alpha, alice, sendCall(room, one, n));
      const event = eventCall(room, String(event_id));
      for (let i = 0; i < MAX_LOOKS && !(await isThere(bravo, bob, event)); i++)
        await sleep(systemClock, LOOK_MS);
      await callDirectly(bravo, bob, event);
    };
    await world.measure(() => send(text('the event before'), 0));
    const { bytes } = await world.measure(() => send(sent, 1));
    return { kept: bytes, perConnection: bytes + (await world.connectionCost()) };
  });
}

const isThere = (app: Parameters<typeof callDirectly>[0], user: Account, event: ClientCall) =>
  callDirectly(app, user, event).then(
    () => true,
    () => false,
  );

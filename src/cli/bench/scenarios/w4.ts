import { callDirectly } from '../clients.ts';
import { type HttpsCost, inHttpsWorld } from '../https_world.ts';
import type { Row, Scenario } from '../scenario.ts';
import { aliceInRoom, HELLO, sendCall, text } from './hello.ts';

const NOT_YET = '/sync cannot be observed';

/** A message reaches a client that waits for what is new. */
export const w4: Scenario = async ({ https }) => {
  const row: Pick<Row, 'notYet' | 'https'> = {
    notYet: NOT_YET,
    ...(https && { https: await httpsPush() }),
  };
  return [
    {
      id: 'W4',
      name: 'the same event pushed to an observing client, id computed / acknowledgement',
      budget: { bytes: { request: 82, response: 62 } },
      ...row,
    },
    {
      id: 'W4b',
      name: 'the same with the literal id / acknowledgement',
      budget: { bytes: { request: 112, response: 62 } },
      ...row,
    },
  ];
};

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

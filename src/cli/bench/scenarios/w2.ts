import type { Millis } from '../../../base/time.ts';
import { callDirectly, sendCall } from '../clients.ts';
import { type Scenario, spreadOf } from '../scenario.ts';
import { type ExchangeBytes, exchangeBytes, World } from '../world.ts';
import { eventCall, HELLO, onlyOne, type Sent, text, twoServers } from './hello.ts';

/** When an event has been answered for, and long before its signature goes. */
const SENT_MS: Millis = 5_000;
/** When the signatures have followed. */
const FOLLOWED_MS: Millis = 2 * 60_000;
/** Signatures in a batch that is measured. */
const SOME = 8;

/** One server tells another of a message, and of its signature later. */
export const w2: Scenario = async ({ texts }) => {
  const { events, signatures } = await deferredSends([[text(HELLO)]]);
  const { signatures: some } = await deferredSends([Array.from({ length: SOME }, () => text(HELLO))]);
  return [
    {
      id: 'W2',
      name: 'the same event server to server, signature deferred',
      budget: { bytes: { request: 78, response: 62 } },
      bytes: onlyOne(events),
      spread: spreadOf((await deferredSends(texts.map((one) => [text(one)]))).events),
    },
    {
      id: 'W2b',
      name: 'one signature afterwards',
      budget: { bytes: { request: 62 + 65, response: 62 } },
      bytes: onlyOne(signatures),
    },
    {
      id: `W2b, ${SOME}`,
      name: `${SOME} signatures afterwards`,
      budget: { bytes: { request: 62 + 65 * SOME, response: 62 } },
      bytes: onlyOne(some),
    },
  ];
};

/** Sends everything from `alpha`, and lets the signatures of each group follow before the next. */
async function deferredSends(
  groups: readonly (readonly Sent[])[],
): Promise<{ readonly events: readonly ExchangeBytes[]; readonly signatures: readonly ExchangeBytes[] }> {
  const world = await World.open(['alpha', 'bravo'], undefined, undefined, undefined, 'deferred');
  try {
    const [alpha, bravo] = [world.server('alpha').app, world.server('bravo').app];
    const { value } = await world.capture(() => twoServers(alpha, bravo));
    const { alice, bob, room } = value;
    await world.capture(() => callDirectly(alpha, alice, sendCall(room, text('the event before'), 0)));
    const events: ExchangeBytes[] = [];
    const signatures: ExchangeBytes[] = [];
    let last = '';
    for (const [i, sent] of groups.flat().entries()) {
      const before = world.captured.length;
      const answer = await world.until(callDirectly(alpha, alice, sendCall(room, sent, i + 1)));
      await world.time.pass(SENT_MS);
      events.push(exchangeBytes(world.captured.slice(before), 'alpha'));
      last = String(answer.event_id);
      const isLast = groups.some((group) => group.at(-1) === sent);
      if (!isLast) continue;
      const sentAll = world.captured.length;
      await world.time.pass(FOLLOWED_MS);
      signatures.push(exchangeBytes(world.captured.slice(sentAll), 'alpha'));
    }
    // The other side has it under the same id, and its signature.
    const event = await world.until(callDirectly(bravo, bob, eventCall(room, last)));
    if (JSON.stringify(event.unsigned ?? {}).includes('provisional'))
      throw new Error('the signature has not followed');
    return { events, signatures };
  } finally {
    await world.close();
  }
}

import { pipeClient, plainClient } from '../clients.ts';
import { type Row, type Scenario, spreadOf } from '../scenario.ts';
import { clientSends, HELLO, httpsSend, onlyOne, text } from './hello.ts';

/** A client sends a short text to a room that it has been in. */
export const w1: Scenario = async ({ https, texts }) => {
  const first: Row = {
    id: 'W1',
    name: `client sends m.text "${HELLO}"`,
    budget: { bytes: { request: 74, response: 70 } },
    bytes: onlyOne(await clientSends(pipeClient, [text(HELLO)])),
    plain: onlyOne(await clientSends(plainClient, [text(HELLO)])),
    ...(https && { https: await httpsSend(text(HELLO)) }),
    spread: spreadOf(await clientSends(pipeClient, texts.map(text))),
  };
  const repeated = await clientSends(pipeClient, ['Hello?', 'Hello?', 'Hello?'].map(text));
  const third: Row = {
    id: 'W1b',
    name: 'the third "Hello?" in a conversation',
    budget: { bytes: { request: 66, response: 70 } },
    bytes: repeated[2]!,
  };
  return [first, third];
};

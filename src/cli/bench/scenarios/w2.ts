import type { Scenario } from '../scenario.ts';

const NOT_YET = 'signatures are always inline: nothing defers them';

/** One server tells another of a message, and of its signature later. */
export const w2: Scenario = async () => [
  {
    id: 'W2',
    name: 'the same event server to server, signature deferred',
    budget: { bytes: { request: 78, response: 62 } },
    notYet: NOT_YET,
  },
  {
    id: 'W2b',
    name: 'one signature afterwards',
    budget: { bytes: { request: 62 + 65, response: 62 } },
    notYet: NOT_YET,
  },
];

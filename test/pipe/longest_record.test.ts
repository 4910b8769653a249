import { expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { NO_CAPABILITIES, NOTHING_AGREED } from '../../src/pipe/agreement.ts';
import { networkOf, OPEN_NETWORK } from '../../src/pipe/network.ts';
import { type ConnectionId, decodeRecord, MAX_PLAINTEXT_BYTES } from '../../src/pipe/record.ts';
import { firstProgress, Session } from '../../src/pipe/session.ts';
import { identityOf } from './harness.ts';

const [one, other] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];

function side(initiator: boolean): Session {
  return new Session(
    {
      ...{ number: 1, initiator, local: 1 as ConnectionId, remote: 1 as ConnectionId, generation: 1 },
      ...{ claim: identityOf('a.example', seededRandom(1)), agreed: NOTHING_AGREED },
      ...{ network: networkOf(OPEN_NETWORK), bootId: new Uint8Array(8), address: 'a', createdAt: 0 },
      said: { own: NO_CAPABILITIES, peer: NO_CAPABILITIES },
    },
    firstProgress(initiator ? { send: one, receive: other } : { send: other, receive: one }),
  );
}

it.each([
  [MAX_PLAINTEXT_BYTES, 'plaintext'],
  [MAX_PLAINTEXT_BYTES + 1, 'malformed'],
])('a record of %i bytes is %s, since a reply to it has to find room in one as well', (length, kind) => {
  const bytes = side(true).seal('data', new Uint8Array(length).fill(0x40));
  const record = decodeRecord(bytes);
  if (!record.ok || record.value.kind !== 'data') throw new Error('no record');
  expect(side(false).open(record.value, 'a', 0, () => new Uint8Array(8)).kind).toBe(kind);
});

import { describe, expect, it } from 'vitest';
import { ReceivedMessages, ReceivedOfAll } from '../../src/pipe/received_messages.ts';

const LIFETIME = 1_000;
const PER_PEER = 16_384;
const OF_ALL = 131_072;

const hear = (messages: ReceivedMessages, number: number, now = 0) =>
  messages.add(
    { generation: 2, number },
    { newest: { generation: 2, number }, isShort: true },
    now,
    LIFETIME,
  );

describe('what is known of messages that were received', () => {
  it('is bounded over all peers, at the cost of those that send most', () => {
    const ofAll = new ReceivedOfAll();
    const quiet = new ReceivedMessages(0, ofAll);
    const ids = Array.from({ length: 100 }, (_, number) => hear(quiet, number)!.id);
    const floods = Array.from({ length: 10 }, () => new ReceivedMessages(0, ofAll));
    for (let number = 0; number < PER_PEER; number++) for (const flood of floods) hear(flood, number);
    expect(ofAll.count).toBeLessThanOrEqual(OF_ALL);
    expect([quiet, ...floods].reduce((sum, { size }) => sum + size, 0)).toBe(ofAll.count);
    expect(ids.map((_, number) => hear(quiet, number)!.id)).toEqual(ids);
  });

  it('counts no longer what has expired, or was let go', () => {
    const ofAll = new ReceivedOfAll();
    const [one, other] = [new ReceivedMessages(0, ofAll), new ReceivedMessages(0, ofAll)];
    for (let number = 0; number < 10; number++) hear(one, number);
    hear(other, 0);
    hear(one, 10, LIFETIME);
    expect(ofAll.count).toBe(2);
    other.shed(other.size);
    expect(ofAll.count).toBe(1);
  });
});

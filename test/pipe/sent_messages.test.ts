import { describe, expect, it } from 'vitest';
import { METHOD } from '../../src/coap/codes.ts';
import { SentMessages } from '../../src/pipe/sent_messages.ts';
import { SentOfAll } from '../../src/pipe/sent_of_all.ts';

const OF_ALL = 131_072;
const PEERS = 60;
const REQUESTS = 1_024;

const generation = 2;

/** Asks something of a peer. */
function ask(messages: SentMessages, number: number): void {
  const token = Uint8Array.of(number >> 8, number & 0xff);
  const parts = { type: 'CON', code: METHOD.get, id: number, token, rest: new Uint8Array(0) } as const;
  const place = { own: generation, peer: generation + 1, number, isShort: false };
  expect(messages.add(parts, { request: number, copy: 0 }, place, 0)).toBeDefined();
}

describe('what is known of messages that were sent', () => {
  it('is bounded over all peers, at the cost of those that get most', () => {
    const ofAll = new SentOfAll();
    const quiet = new SentMessages(ofAll);
    for (let number = 0; number < 100; number++) ask(quiet, number);
    const floods = Array.from({ length: PEERS }, () => new SentMessages(ofAll));
    for (let number = 0; number < REQUESTS; number++) for (const flood of floods) ask(flood, number);
    const sum = [quiet, ...floods].reduce((all, { size }) => all + size, 0);
    expect(sum).toBeLessThanOrEqual(OF_ALL);
    expect(sum).toBeGreaterThan(OF_ALL / 2);
    for (let number = 0; number < 100; number++)
      expect(quiet.take({ generation, number }), String(number)).toBeDefined();
  });

  it('counts no longer what is over', () => {
    const ofAll = new SentOfAll();
    const [one, other] = [new SentMessages(ofAll), new SentMessages(ofAll)];
    for (let number = 0; number < 10; number++) ask(one, number);
    ask(other, 0);
    const { count } = ofAll;
    for (let number = 0; number < 10; number++)
      one.settle(one.take({ generation, number })!.message.request!);
    ask(one, 10);
    expect(ofAll.count).toBeLessThan(count);
    one.end();
    expect(one.size).toBe(0);
    expect(ofAll.count).toBe(other.size);
  });
});

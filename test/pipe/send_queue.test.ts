import { describe, expect, it } from 'vitest';
import type { Priority } from '../../src/base/priority.ts';
import { type Outgoing, SendQueue } from '../../src/pipe/send_queue.ts';
import { TokenBucket } from '../../src/pipe/token_bucket.ts';

const item = (label: string, priority: Priority, receipt: number | null = null, length = 1) => ({
  bytes: new Uint8Array(length),
  priority,
  receipt,
  label,
});

describe('the queue before a session', () => {
  const limits = { queuedRecords: 4, queuedBytes: 100, queuedMs: 1_000 };
  const labels = (items: readonly { label: string }[]): string[] => items.map(({ label }) => label);

  const all = (queue: SendQueue): Outgoing[] => {
    const items: Outgoing[] = [];
    for (let item = queue.take(); item !== undefined; item = queue.take()) items.push(item);
    return items;
  };

  it('comes out by priority, then age', () => {
    const queue = new SendQueue(limits);
    queue.add(item('late', 5), 0);
    queue.add(item('first', 1), 0);
    queue.add(item('urgent', 0), 0);
    queue.add(item('second', 1), 0);
    expect(labels(all(queue))).toEqual(['urgent', 'first', 'second', 'late']);
    expect(queue.isEmpty).toBe(true);
  });

  it('drops the youngest of the least urgent when it is full in number or bytes, and what is too old', () => {
    const queue = new SendQueue(limits);
    for (const label of ['a', 'b', 'b2', 'c']) queue.add(item(label, 3), 0);
    expect(labels(queue.add(item('d', 1), 500))).toEqual(['c']);
    expect(labels(queue.add(item('big', 4, null, 101), 500))).toEqual(['big']);
    expect(labels(queue.expire(1_000))).toEqual(['a', 'b', 'b2']);
    expect(labels(all(queue))).toEqual(['d']);
  });
});

describe('a token bucket', () => {
  it('gives its burst at once and its rate after that', () => {
    const bucket = new TokenBucket(2, 3);
    const taken = (now: number): number => [1, 2, 3, 4, 5].filter(() => bucket.take(now)).length;
    expect(taken(0)).toBe(3);
    expect(taken(499)).toBe(0);
    expect(taken(1_000)).toBe(2);
    expect(taken(100_000)).toBe(3);
  });
});

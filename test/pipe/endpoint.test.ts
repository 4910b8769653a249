import { describe, expect, it } from 'vitest';
import { pair } from './harness.ts';

describe('first contact', () => {
  it('takes XX1, XX2, XX3 and the record, and the answer confirms', () => {
    const { network, a, b } = pair();
    b.onPayload = (peer, text) => b.send(peer, `re ${text}`);
    a.send('b.example', 'hello');
    network.advance(600_000);
    expect(network.labels()).toEqual(['a XX1', 'b XX2', 'a XX3', 'a data test', 'b data test']);
    expect(b.payloads).toEqual(['a.example: hello']);
    expect(a.payloads).toEqual(['b.example: re hello']);
  });
});

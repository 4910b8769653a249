import { describe, expect, it } from 'vitest';
import type { CoapConfig } from '../../../src/coap/api.ts';
import type { BlockSize } from '../../../src/coap/block.ts';
import { code, METHOD } from '../../../src/coap/codes.ts';
import { OPTION, uintOption } from '../../../src/coap/options.ts';
import { rfc7252Timing, type Timing } from '../../../src/coap/timing.ts';
import { Plugtest } from './plugtest.ts';
import { LARGE_BYTES, large, TEXT } from './plugtest_server.ts';
import { texts } from './wire.ts';

const FORMAT = [uintOption(OPTION.contentFormat, TEXT)];

/** An endpoint that prefers blocks of that size; it announces it only where that is told. */
const preferring = (blockSize: BlockSize, more: Partial<Timing> = {}): Partial<CoapConfig> => {
  const timing = rfc7252Timing({ blockSize, announceBlockSize: false, ...more });
  return { timing: () => timing };
};
/** A client that knows that blocks are needed, and asks for its size from the first request on. */
const announcing = (blockSize: BlockSize): Partial<CoapConfig> =>
  preferring(blockSize, { announceBlockSize: true });

/** The number of the last block of a large body. */
const last = (size: number): number => Math.ceil(LARGE_BYTES / size) - 1;

/** The rungs of a Block2 transfer from block `from` to the last: a request and a response for each. */
function download(request: string, response: string, size: number, from = 0): string[] {
  const rungs: string[] = [];
  for (let num = from; num <= last(size); num++) {
    rungs.push(
      `${request} 2:${num}/0/${size} ->`,
      `${response} 2:${num}/${num < last(size) ? 1 : 0}/${size}`,
    );
  }
  return rungs;
}

/** The rungs of a Block1 transfer from block `from` up to the last but one. */
function upload(request: string, size: number, from = 0): string[] {
  const rungs: string[] = [];
  for (let num = from; num < last(size); num++) {
    rungs.push(`${request} 1:${num}/1/${size} ->`, `<- ACK 2.31 1:${num}/1/${size}`);
  }
  return rungs;
}

/** Every block but the last is full, and every pair of messages belongs together. */
function expectWhole(test: Plugtest, size: number, messages: readonly number[]): void {
  const lengths = messages.map((at) => test.message(at).payload.length);
  const final = lengths.pop();
  expect(new Set(lengths), test.wire.trace).toEqual(new Set([size]));
  expect(final, test.wire.trace).toBeLessThanOrEqual(size);
}

function expectPairs(test: Plugtest): void {
  const count = test.wire.messages.length;
  const requests = Array.from({ length: count / 2 }, (_, n) => 2 * n);
  for (const at of requests) test.expectPiggybacked(at, at + 1);
  test.expectOtherIds(...requests);
}

const odd = (test: Plugtest): number[] => test.wire.messages.map((_, at) => at).filter((at) => at % 2 === 1);

describe('ETSI test descriptions, block-wise', () => {
  it('TD_COAP_BLOCK_01: GET, early negotiation', () => {
    const test = new Plugtest(1, { client: announcing(256), server: preferring(1024) });
    const response = test.exchange(METHOD.get, { uri: '/large' });
    test.expectLadder(...download('CON GET /large', '<- ACK 2.05', 256));
    expectPairs(test);
    expectWhole(test, 256, odd(test));
    expect(response.payload).toEqual(large('large'));
  });

  it('TD_COAP_BLOCK_01: GET, early negotiation with a server that prefers smaller blocks', () => {
    const test = new Plugtest(1, { client: announcing(512), server: preferring(128) });
    const response = test.exchange(METHOD.get, { uri: '/large' });
    const [first, ...more] = download('CON GET /large', '<- ACK 2.05', 128);
    expect(first).toBe('CON GET /large 2:0/0/128 ->');
    test.expectLadder('CON GET /large 2:0/0/512 ->', ...more);
    expectWhole(test, 128, odd(test));
    expect(response.payload).toEqual(large('large'));
  });

  it('TD_COAP_BLOCK_02: GET, late negotiation', () => {
    const test = new Plugtest(2, { server: preferring(256) });
    const response = test.exchange(METHOD.get, { uri: '/large' });
    const first = ['CON GET /large ->', '<- ACK 2.05 2:0/1/256'];
    test.expectLadder(...first, ...download('CON GET /large', '<- ACK 2.05', 256, 1));
    expectPairs(test);
    expectWhole(test, 256, odd(test));
    expect(response.payload).toEqual(large('large'));
  });

  it('TD_COAP_BLOCK_03: PUT', () => {
    const test = new Plugtest(3, { client: preferring(256) });
    const body = large('replacement');
    const response = test.exchange(METHOD.put, { uri: '/large-update', payload: body, options: FORMAT });
    const n = last(256);
    test.expectLadder(
      ...upload('CON PUT /large-update', 256),
      `CON PUT /large-update 1:${n}/0/256 ->`,
      `<- ACK 2.04 1:${n}/0/256`,
    );
    expectPairs(test);
    const requests = odd(test).map((at) => at - 1);
    expectWhole(test, 256, requests);
    expect(response.code).toBe(code(2, 4));
    expect(test.resources.stored.get('/large-update')).toEqual(body);
  });

  it('TD_COAP_BLOCK_03: PUT to a server that prefers smaller blocks, from the block that is now the next', () => {
    const test = new Plugtest(3, { client: preferring(256), server: preferring(64) });
    const body = large('replacement');
    test.exchange(METHOD.put, { uri: '/large-update', payload: body, options: FORMAT });
    const n = last(64);
    test.expectLadder(
      'CON PUT /large-update 1:0/1/256 ->',
      '<- ACK 2.31 1:0/1/64',
      ...upload('CON PUT /large-update', 64, 4),
      `CON PUT /large-update 1:${n}/0/64 ->`,
      `<- ACK 2.04 1:${n}/0/64`,
    );
    expect(test.resources.stored.get('/large-update')).toEqual(body);
  });

  it('TD_COAP_BLOCK_04: POST creates a resource, which is then fetched in blocks', () => {
    const test = new Plugtest(4, { client: preferring(256), server: preferring(256) });
    const body = large('creation');
    const response = test.exchange(METHOD.post, { uri: '/large-create', payload: body, options: FORMAT });
    const n = last(256);
    const created = [
      ...upload('CON POST /large-create', 256),
      `CON POST /large-create 1:${n}/0/256 ->`,
      `<- ACK 2.01 1:${n}/0/256`,
    ];
    test.expectLadder(...created);
    expectPairs(test);
    expect(test.values(-1, OPTION.locationPath), test.wire.trace).toEqual(['large-create', '1']);
    const location = texts(response.options, OPTION.locationPath);
    expect(test.resources.stored.get('/large-create/1')).toEqual(body);
    const fetched = test.exchange(METHOD.get, { uri: `/${location.join('/')}` });
    test.expectLadder(
      ...created,
      'CON GET /large-create/1 ->',
      '<- ACK 2.05 2:0/1/256',
      ...download('CON GET /large-create/1', '<- ACK 2.05', 256, 1),
    );
    expect(fetched.payload).toEqual(body);
  });

  it('TD_COAP_BLOCK_05: POST in blocks, answered in blocks', () => {
    const test = new Plugtest(5, { client: preferring(256), server: preferring(256) });
    const body = large('question');
    const response = test.exchange(METHOD.post, { uri: '/large-post', payload: body, options: FORMAT });
    const n = last(256);
    test.expectLadder(
      ...upload('CON POST /large-post', 256),
      `CON POST /large-post 1:${n}/0/256 ->`,
      `<- ACK 2.04 1:${n}/0/256 2:0/1/256`,
      ...download('CON POST /large-post', '<- ACK 2.04', 256, 1),
    );
    expectPairs(test);
    const fetching = test.wire.messages.slice(2 * (n + 1)).filter(({ type }) => type === 'CON');
    expect(new Set(fetching.map(({ payload }) => payload.length))).toEqual(new Set([0]));
    expect(test.resources.received).toMatchObject([{ payload: body }]);
    expect(response.payload).toEqual(large('answer'));
  });

  it('TD_COAP_BLOCK_06: GET, early negotiation, blocks of 16 bytes', () => {
    const test = new Plugtest(6, { client: announcing(16) });
    const response = test.exchange(METHOD.get, { uri: '/large' }, 60_000);
    test.expectLadder(...download('CON GET /large', '<- ACK 2.05', 16));
    expectPairs(test);
    expectWhole(test, 16, odd(test));
    expect(response.payload).toEqual(large('large'));
  });
});

import { describe, expect, it } from 'vitest';
import { type Block, type BlockSize, blockOption } from '../../src/coap/block.ts';
import { code } from '../../src/coap/codes.ts';
import type { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { OPTION, type Option } from '../../src/coap/options.ts';
import { rfc7252Timing } from '../../src/coap/timing.ts';
import {
  ask,
  bytesOf,
  CONTENT,
  content,
  endpointWith,
  eventsOf,
  GET,
  PATH,
  PUT,
  requestIn,
  sent,
  summary,
} from './conformance/raw.ts';

const SIZE: BlockSize = 16;
const timing = rfc7252Timing({ blockSize: SIZE });
const MINUTE = 60_000;

const block1 = (block: Partial<Block>): Option =>
  blockOption(OPTION.block1, { num: 0, more: true, size: SIZE, ...block });
const block2 = (num: number): Option => blockOption(OPTION.block2, { num, more: false, size: SIZE });

/**
 * A server to which one client goes on talking, so that it is never forgotten itself.
 * @returns what time has passed with it: until then a request came each minute
 */
function talking(server: CoapEndpoint): (from: number, until: number) => void {
  let id = 30_000;
  return (from, until) => {
    for (let now = from; now < until; now += MINUTE) {
      server.receive('client', bytesOf('NON', GET, id++, { options: [] }), now);
      server.tick(now);
    }
    server.tick(until);
  };
}

describe('what is kept of a block-wise transfer', () => {
  it('of a response expires a lifetime after the last block was fetched, also while its client goes on talking', () => {
    const server = endpointWith({
      timing: () => timing,
      limits: { exchanges: 1_000, exchangesPerPeer: 1_000 },
    });
    const fetch = (id: number, num: number, now: number) =>
      server.receive('client', bytesOf('CON', GET, id, { options: [PATH, block2(num)] }), now);
    const asked = fetch(1, 0, 0);
    server.respond(requestIn(asked).exchange, content(new Uint8Array(100)), 0);
    expect(server.held.cachedBodyBytes).toBe(100);
    const pass = talking(server);
    pass(0, timing.exchangeLifetime - 1);
    expect(server.held.cachedBodyBytes).toBe(100);
    const second = fetch(2, 1, timing.exchangeLifetime - 1);
    expect([eventsOf(second, 'request'), summary(second)]).toEqual([[], ['ACK 2.05']]);
    pass(timing.exchangeLifetime, 2 * timing.exchangeLifetime + 2 * MINUTE);
    expect(server.held.cachedBodyBytes).toBe(0);
    expect(eventsOf(fetch(3, 1, 2 * timing.exchangeLifetime + 2 * MINUTE), 'request')).toHaveLength(1);
  });

  it('of a request expires a lifetime after its last block came, also while its client goes on talking', () => {
    const server = endpointWith({
      timing: () => timing,
      limits: { exchanges: 1_000, exchangesPerPeer: 1_000 },
    });
    const put = (id: number, num: number, more: boolean, now: number) =>
      summary(
        server.receive(
          'client',
          bytesOf('CON', PUT, id, { options: [PATH, block1({ num, more })], payload: new Uint8Array(SIZE) }),
          now,
        ),
      );
    expect(put(1, 0, true, 0)).toEqual(['ACK 2.31']);
    const pass = talking(server);
    pass(0, timing.exchangeLifetime - 1);
    expect(server.held.assembling).toBe(SIZE);
    expect(put(2, 1, true, timing.exchangeLifetime - 1)).toEqual(['ACK 2.31']);
    pass(timing.exchangeLifetime, 2 * timing.exchangeLifetime + 2 * MINUTE);
    expect([server.held.uploads, server.held.assembling]).toEqual([0, 0]);
    expect(put(3, 2, false, 2 * timing.exchangeLifetime + 2 * MINUTE)).toEqual(['ACK 4.08']);
  });
});

describe('what is remembered of messages', () => {
  it('expires a lifetime after their last copy, also while their sender goes on talking', () => {
    const server = endpointWith({
      timing: () => timing,
      limits: { exchanges: 1_000, exchangesPerPeer: 1_000 },
    });
    for (let id = 0; id < 100; id++) {
      const asked = server.receive('client', bytesOf('CON', GET, id, { options: [PATH] }), 0);
      server.respond(requestIn(asked).exchange, content(), 0);
    }
    expect(server.held.remembered).toBe(100);
    const pass = talking(server);
    pass(0, timing.exchangeLifetime + 2 * MINUTE);
    // Those of the talk itself.
    expect(server.held.remembered).toBeLessThan(10);
  });
});

describe('the numbers of blocks', () => {
  /** What comes of a PUT of three blocks when the first is answered by `answered`. */
  function firstAnswered(block: Partial<Block> | undefined) {
    const client = endpointWith({ timing: () => timing });
    const put = { code: PUT, options: [PATH], payload: new Uint8Array(3 * SIZE) };
    const { message, handle } = ask(client, 0, {}, put);
    const options = block === undefined ? [] : [block1(block)];
    const answer = bytesOf('ACK', code(2, 31), message.id, { token: message.token, options });
    return { handle, step: client.receive('server', answer, 1) };
  }

  it('are those that were sent, or a client gives its upload up', () => {
    expect(sent(firstAnswered({ num: 0 }).step)).toHaveLength(1);
    for (const wrong of [{ num: 1 }, { num: 2 }, undefined]) {
      const { handle, step } = firstAnswered(wrong);
      expect(step.events, JSON.stringify(wrong)).toMatchObject([
        { kind: 'failed', handle, reason: 'bad_response' },
      ]);
      expect(sent(step)).toEqual([]);
    }
  });

  it('of a response begin at zero, and go on where the last has ended, or a client gives its download up', () => {
    const answered = (numbers: readonly number[]) => {
      const client = endpointWith();
      let { message, step } = ask(client);
      for (const num of numbers) {
        const options = [blockOption(OPTION.block2, { num, more: true, size: SIZE })];
        const payload = new Uint8Array(SIZE);
        const { id, token } = message;
        step = client.receive('server', bytesOf('ACK', CONTENT, id, { token, options, payload }), 1);
        message = sent(step)[0] ?? message;
      }
      return step.events;
    };
    expect(answered([0, 1, 2])).toEqual([]);
    for (const wrong of [[1], [0, 0], [0, 2], [0, 1, 1], [0, 1, 3]])
      expect(answered(wrong), wrong.join()).toMatchObject([{ kind: 'failed', reason: 'bad_response' }]);
  });
});

import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { METHOD } from '../../src/coap/codes.ts';
import { CoapEndpoint } from '../../src/coap/endpoint.ts';
import { encode, NO_BYTES } from '../../src/coap/message.ts';
import { rfc7252Timing } from '../../src/coap/timing.ts';

const LIMITS = { rememberedPerPeer: 128, remembered: 512 };

function endpoint() {
  const timing = rfc7252Timing();
  const coap = new CoapEndpoint({
    ...{ random: seededRandom(1), timing: () => timing, mtu: 1200, limits: LIMITS },
  });
  /** How many requests of a message come out of it. */
  const hear = (peer: string, id: number): number => {
    const token = Uint8Array.of(id >> 8, id & 0xff);
    const bytes = encode({ type: 'CON', code: METHOD.post, id, token, options: [], payload: NO_BYTES });
    const requests = coap.receive(peer, bytes, 0).events.filter((event) => event.kind === 'request');
    for (const { exchange } of requests)
      coap.respond(exchange, { code: 0x44, options: [], payload: NO_BYTES }, 0);
    return requests.length;
  };
  return { coap, hear };
}

describe('what is remembered of messages', () => {
  it('is at the cost of those that send most: they keep nobody else out', () => {
    const { coap, hear } = endpoint();
    for (let peer = 0; peer < 8; peer++)
      for (let id = 0; id < LIMITS.rememberedPerPeer; id++) hear(`flood ${peer}`, id);
    expect(coap.held.remembered).toBeLessThanOrEqual(LIMITS.remembered);
    for (let id = 0; id < 32; id++) expect(hear('quiet', id)).toBe(1);
    for (let id = 0; id < 64; id++) hear('flood 8', id);
    for (let id = 0; id < 32; id++) expect(hear('quiet', id)).toBe(0);
    expect(coap.held.remembered).toBeLessThanOrEqual(LIMITS.remembered);
  });

  it('is not forgotten by a peer alone that sends too much itself', () => {
    const { hear } = endpoint();
    for (let id = 0; id < 2 * LIMITS.rememberedPerPeer; id++)
      expect(hear('one', id)).toBe(id < LIMITS.rememberedPerPeer ? 1 : 0);
    for (let id = 0; id < LIMITS.rememberedPerPeer; id++) expect(hear('one', id)).toBe(0);
  });
});

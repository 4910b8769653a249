import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { NO_BYTES } from '../../src/coap/message.ts';
import { OPTION } from '../../src/coap/options.ts';
import { CoapSocket } from '../../src/exchange/coap_socket.ts';
import { openUdpLink } from '../../src/link/udp.ts';
import { FAST, World } from './world.ts';

const request = (queries: number) => ({
  code: 1,
  options: Array.from({ length: queries }, () => ({
    number: OPTION.uriQuery,
    value: new Uint8Array(200).fill(97),
  })),
  payload: NO_BYTES,
});

describe('a request that the link cannot carry in one message', () => {
  // A link without fragments, such as a serial line: what is longer than its MTU never arrives.
  it('fails at once, instead of at its deadline', async () => {
    const world = new World(1);
    world.connect('a', 'b', FAST, { mtu: FAST.mtu });
    const { clock } = world.time;
    const [a, b] = ['a', 'b'].map(
      (name) => new CoapSocket({ link: world.network.join(name, FAST), clock, random: seededRandom(2) }),
    );
    const before = clock.monotonic();
    const failed = a!.request('b', request(6), { timeoutMs: 60_000 }).catch((error: unknown) => error);
    expect(await world.time.until(failed, 60_000)).toMatchObject({ reason: 'too_large' });
    expect(clock.monotonic()).toBe(before);
    const answered = a!.request('b', request(5), { timeoutMs: 60_000 });
    expect(await world.time.until(answered, 60_000)).toMatchObject({ code: 0x84 });
    await a!.close();
    await b!.close();
  });

  it('is none over UDP, which carries it in fragments', async () => {
    const link = await openUdpLink({ host: '127.0.0.1', port: 0 });
    expect(link.profile.largest).toBe(65_507);
    await link.close();
  });
});

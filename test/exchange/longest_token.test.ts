import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { METHOD } from '../../src/coap/codes.ts';
import { encode } from '../../src/coap/message.ts';
import { PipeEndpoint } from '../../src/pipe/endpoint.ts';
import { createDeviceIdentity } from '../../src/pipe/identity.ts';
import { FAST, put, World } from './world.ts';

// What a datagram of UDP carries.
const HUGE = { ...FAST, mtu: 1_200, largest: 65_507 };

describe('a message with a token of tens of thousands of bytes', () => {
  it.each([64_000, 64_991])('of %i is answered, and ends nothing', async (length) => {
    const world = new World(5);
    world.connect('a', 'b', HUGE, { mtu: HUGE.largest });
    world.connect('a', 'd', HUGE, { mtu: HUGE.largest });
    const server = world.start('a', HUGE, { acceptDevices: true });
    const other = world.start('b', HUGE);
    const { clock } = world.time;
    const link = world.network.join('d', HUGE);
    const identity = createDeviceIdentity(seededRandom(8).bytes(32));
    const timing = { rate: null, delay: 20, overhead: 42 };
    const pipe = new PipeEndpoint({
      ...{ identity, random: seededRandom(9), handshakeTiming: () => timing },
      // With compact headers the token would stay here.
      capabilities: { compactHeader: false },
    });
    let answers = 0;
    const run = (step: ReturnType<PipeEndpoint['tick']>): void => {
      for (const { to, bytes } of step.datagrams) link.send(to, bytes, '');
      for (const event of step.events) {
        if (event.kind === 'payload') answers++;
        if (event.kind === 'identity') run(pipe.decide(event.session, { trusted: true }, clock.monotonic()));
      }
    };
    link.onReceive((from, bytes) => run(pipe.receive(from, bytes, clock.monotonic())));
    pipe.setPeer(server.name, 'a');
    // A critical option that nobody knows, of which an answer to others speaks.
    const options = [{ number: 65_001, value: new Uint8Array(0) }];
    const token = new Uint8Array(length).fill(7);
    const bytes = encode({
      ...{ type: 'CON', code: METHOD.get, id: 1, token, options, payload: new Uint8Array(0) },
    });
    run(pipe.send(server.name, [{ bytes, priority: 1, receipt: null, label: '' }], clock.monotonic()));
    const request = other.socket.request(server.name, 'a', put('x'), { timeoutMs: 60_000, priority: 1 });
    expect(await world.time.until(request, 120_000)).toMatchObject({ status: 200 });
    expect(answers).toBe(1);
    await server.socket.close();
    await other.socket.close();
  });
});

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hex } from '../../src/base/bytes.ts';
import { OPTION, stringOf } from '../../src/coap/options.ts';
import { rfc7252Timing } from '../../src/coap/timing.ts';
import type { ExchangeObservation } from '../../src/exchange/socket_options.ts';
import { describeClient } from './client_cases.ts';
import { COAP_CLIENT, hasCoapClient } from './coap_client.ts';
import { LibcoapClient, startLibcoapServer } from './libcoap_peer.ts';
import { inverted, LARGE_BYTES, large, type PeerServer, RESERVED, until } from './peers.ts';
import { TestServer } from './resources.ts';
import { ask, describeServer, largeNotifications, openClient, type ServerWorld } from './server_cases.ts';

/** What a server has to have before the first case; `coap-server` starts without any of it. */
async function withResources(peer: PeerServer): Promise<PeerServer> {
  const { socket } = await openClient();
  const put = (path: string, payload: Uint8Array | string) =>
    ask(socket, peer, { method: 'put', path: [path], payload });
  await put('test', 'test');
  await put('large', large());
  await put('large-update', '');
  await put('obs', '0');
  await put('obs-large', '0');
  await socket.close();
  return peer;
}

const OWN_RESOURCES = 'coap-server has resources of its own, and those that are put';

/** Datagrams that a peer loses, by their numbers: it takes nine at most. */
const NINE_OF_THIRTY = '2,4,5,9,13,17,18,22,27';

/** Timers of RFC 7252 with other parameters (section 4.8): sooner and more often, since the peer loses so much. */
const PERSISTENT = rfc7252Timing({ retransmitAfter: () => 40, maxRetransmit: 100 });

describe.skipIf(!hasCoapClient)(`libcoap (skipped where ${COAP_CLIENT} is not installed)`, () => {
  describeClient('libcoap as the client', () => new LibcoapClient(), {
    'a path segment and an argument of 255 bytes': {
      why: 'coap-client 4.3.1 leaves out what its buffer of 100 bytes does not hold',
      instead: async ({ ask: get }) => {
        const [path, query] = ['p'.repeat(255), `q=${'v'.repeat(253)}`];
        const { payload } = await get({ method: 'GET', target: `/echo/${path}?${query}` });
        expect(JSON.parse(Buffer.from(payload).toString())).toEqual({ path: ['echo'], query: [] });
      },
    },
  });

  describeServer('libcoap as the server', async () => withResources(await startLibcoapServer()), {
    POST: { why: OWN_RESOURCES, instead: (world) => notAllowed(world, 'post', '/') },
    FETCH: {
      why: OWN_RESOURCES,
      instead: async (world) => {
        await notAllowed(world, 'fetch', 'example_data');
        const { code, text } = await world.ask({
          method: 'fetch',
          path: ['time'],
          query: ['ticks'],
          payload: 'x',
        });
        expect([code, text]).toEqual(['2.05', expect.stringMatching(/\d\d:\d\d:\d\d/)]);
      },
    },
    'PATCH and iPATCH': {
      why: OWN_RESOURCES,
      instead: async (world) => {
        await notAllowed(world, 'patch', 'time');
        await notAllowed(world, 'ipatch', 'time');
      },
    },
    'a POST of 100 KB with an answer of 100 KB': {
      why: OWN_RESOURCES,
      instead: async ({ ask: post }) => {
        const posted = await post({ method: 'post', path: ['posted'], payload: large() });
        expect(posted.code).toBe('2.01');
        expect((await post({ method: 'get', path: ['posted'] })).payload).toEqual(large());
      },
    },
    'a FETCH of 100 KB with an answer of 100 KB': { why: OWN_RESOURCES },
    'four transfers at once to one resource': {
      why: 'coap-server writes each block into the resource as it comes',
    },
    'a separate response': {
      why: OWN_RESOURCES,
      instead: async ({ ask: get, arrived }) => {
        expect(await get({ method: 'get', path: ['async'], query: ['1'] })).toMatchObject({
          code: '2.05',
          text: 'done',
        });
        expect(arrived()).toEqual(['ACK', 'CON 2.05']);
      },
    },
    'a path and a query full of reserved characters': {
      why: OWN_RESOURCES,
      instead: async ({ ask: to }) => {
        await to({ method: 'put', path: RESERVED.path, payload: 'reserved' });
        expect((await to({ method: 'get', path: RESERVED.path, query: RESERVED.query })).text).toBe(
          'reserved',
        );
        expect((await to({ method: 'get', path: RESERVED.path.slice(0, -1) })).code).toBe('4.04');
      },
    },
    'a path segment and an argument of 255 bytes': {
      why: OWN_RESOURCES,
      instead: async ({ ask: to }) => {
        const path = ['p'.repeat(255)];
        await to({ method: 'put', path, payload: 'long' });
        expect((await to({ method: 'get', path, query: [`q=${'v'.repeat(253)}`] })).text).toBe('long');
      },
    },
    '2.03 for the ETag that we know': { why: OWN_RESOURCES },
    'where the resource is that it has created': {
      why: 'it gives the location of what a POST has created as the path that was posted to',
      instead: async ({ ask: post }) => {
        const { code, options } = await post({ method: 'post', path: ['created', 'here'], payload: 'x' });
        const path = options.filter(({ number }) => number === OPTION.locationPath).map(stringOf);
        expect([code, path]).toEqual(['2.01', ['created', 'here']]);
      },
    },
    '4.04, 4.05 and 4.06': {
      why: 'no resource of its own looks at Accept',
      instead: async (world) => {
        expect((await world.ask({ method: 'get', path: ['nowhere'] })).code).toBe('4.04');
        await notAllowed(world, 'put', 'async');
      },
    },
    'who has given back its Echo': { why: OWN_RESOURCES },
    'notifications of 100 KB': {
      why: OWN_RESOURCES,
      instead: (world) => largeNotifications(world, (digit) => digit.repeat(LARGE_BYTES)),
    },
  });

  it('gets a RST for its ping', async () => {
    const server = await TestServer.open();
    // After a second without traffic.
    const client = new LibcoapClient('-K', '1');
    const end = await client.observe(server.address, '/stopped', () => undefined);
    const pings = () =>
      server.seen.filter(
        ({ direction, bytes }) => direction === 'received' && bytes[0] === 0x40 && bytes[1] === 0,
      );
    await until(() => pings().length > 0, 'it has sent a ping');
    const [, , ...id] = pings()[0]!.bytes;
    const sent = server.seen.filter(({ direction }) => direction === 'sent').map(({ bytes }) => [...bytes]);
    expect(sent).toContainEqual([0x70, 0, ...id]);
    await end();
    await client.stop();
    await server.close();
  });

  describe('where datagrams are lost', () => {
    let server: TestServer;
    let peers: PeerServer[];
    let clients: LibcoapClient[];
    beforeAll(async () => {
      server = await TestServer.open({ timing: PERSISTENT });
      peers = [];
      clients = [];
    });
    afterAll(async () => {
      await Promise.all([...peers, ...clients].map((peer) => peer.stop()));
      await server.close();
    });
    const client = (...loss: string[]): LibcoapClient => {
      const one = new LibcoapClient(...loss);
      clients.push(one);
      return one;
    };

    // Its five copies of a message may all be lost, once in 400 messages: then it is right to give up.
    it('answers a client that loses 30 % of what it sends', { retry: 2 }, async () => {
      const gets = Array.from({ length: 2 }, () =>
        client('-l', '30%').request(server.address, { method: 'GET', target: '/test' }),
      );
      for (const { code, payload } of await Promise.all(gets))
        expect([code, Buffer.from(payload).toString()]).toEqual(['2.05', 'test']);
    });

    it('puts together what clients send that lose the first, the second, ... copy of a block', async () => {
      const bodies = [2500, 3500, 4500, 5500].map((length) => large().subarray(0, length));
      const puts = bodies.map((payload, i) =>
        client('-l', ['1', '2', '1,3', '2,4'][i]!).request(server.address, {
          method: 'POST',
          target: `/large-post?${i}`,
          payload,
        }),
      );
      const answers = await Promise.all(puts);
      expect(answers.map(({ payload }) => payload)).toEqual(bodies.map(inverted));
    });

    it.each([
      ['30 % at random', '30%'],
      ['nine of the first thirty', NINE_OF_THIRTY],
    ])('gets and puts 100 KB with a server that loses %s', async (_name, loss) => {
      const { socket, seen } = await openClient(PERSISTENT);
      const peer = await startLibcoapServer('-l', loss);
      peers.push(peer);
      // See the next test: where the last block has to be sent again, the server keeps nothing else.
      do await ask(socket, peer, { method: 'put', path: ['large'], payload: large() });
      while (copiesOfLast(seen) > 1);
      expect((await ask(socket, peer, { method: 'get', path: ['large'] })).payload).toEqual(large());
      expect(socket.counters.resent).toBeGreaterThanOrEqual(9);
      await socket.close();
    });

    it('is not understood by a server that carries out a copy of the last block as a request of its own', async () => {
      const { socket, seen } = await openClient(PERSISTENT);
      // The reply to the suite's ping is the first that it sends, the answer to the fourth block the fifth.
      const peer = await startLibcoapServer('-l', '5');
      peers.push(peer);
      const payload = large().subarray(0, 3500);
      expect((await ask(socket, peer, { method: 'put', path: ['large'], payload })).code).toBe('2.04');
      expect(copiesOfLast(seen)).toBe(2);
      const kept = await ask(socket, peer, { method: 'get', path: ['large'] });
      expect(kept.payload).toEqual(payload.subarray(3 * 1024));
      await socket.close();
    });
  });
});

/** How often the newest of our messages was sent: a copy has the same bytes. */
function copiesOfLast(seen: readonly ExchangeObservation[]): number {
  const sent = seen.filter(({ direction }) => direction === 'sent').map(({ bytes }) => hex(bytes));
  return sent.filter((one) => one === sent.at(-1)).length;
}

async function notAllowed(
  { ask: to }: ServerWorld,
  method: 'put' | 'post' | 'fetch' | 'patch' | 'ipatch',
  path: string,
) {
  const segments = path === '/' ? [] : [path];
  expect((await to({ method, path: segments, payload: 'x' })).code).toBe('4.05');
}

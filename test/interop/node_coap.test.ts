import { expect } from 'vitest';
import { codeLabel, METHOD } from '../../src/coap/codes.ts';
import { OPTION, uintOption } from '../../src/coap/options.ts';
import { BODIES, type ClientWorld, describeClient, NO_RESPONSE } from './client_cases.ts';
import { NodeCoapClient, startNodeCoapServer } from './node_coap_peer.ts';
import { inverted, LARGE_BYTES, large, targetOptions, until } from './peers.ts';
import { answer } from './resources.ts';
import { afterTheEnd, describeServer, type ServerWorld } from './server_cases.ts';

/* node-coap 1.5.0, in this process. What it is known to do wrong stands in the tables below, and is asserted. */

const PER_TOKEN = 'it keeps the blocks of a request by token, which a client may change with every block';

/** A block-wise request comes to nothing. */
async function isRefused(
  { ask }: ServerWorld,
  method: 'put' | 'post' | 'fetch',
  path: string,
): Promise<void> {
  const options = [uintOption(OPTION.contentFormat, 0)];
  expect((await ask({ method, path: [path], payload: large(), options })).code).toBe('5.00');
}

describeClient('node-coap as the client', () => new NodeCoapClient(), {
  'four transfers at once to one resource': {
    why: 'its requests at once to one resource share address, code and options: RFC 7959 has no way to tell them apart',
    instead: async ({ ask }: ClientWorld) => {
      const got = await Promise.allSettled(
        BODIES.map((payload) => ask({ method: 'POST', target: '/large-post', payload, timeoutMs: 5000 })),
      );
      const payloads = got.map((one) => (one.status === 'fulfilled' ? one.value.payload : undefined));
      expect(payloads).not.toEqual(BODIES.map(inverted));
    },
  },
  'notifications of 100 KB': {
    why: 'it takes the last block of a notification, which carries no Observe, for an older one than the first',
    instead: async ({ client, server, sent }) => {
      const values: string[] = [];
      const end = await client.observe(server.address, '/obs-large', (value) => values.push(value));
      const before = sent().length;
      server.largeObserved.change(answer('2.05', '1'.repeat(LARGE_BYTES)), { confirmable: true });
      await until(() => sent().length >= before + Math.ceil(LARGE_BYTES / 1024), 'it has got every block');
      await end();
      expect(values).toEqual(['0'.repeat(LARGE_BYTES)]);
    },
  },
});

describeServer('node-coap as the server', startNodeCoapServer, {
  'a PUT of 100 KB': { why: PER_TOKEN, instead: (world) => isRefused(world, 'put', 'large-update') },
  'a POST of 100 KB with an answer of 100 KB': {
    why: PER_TOKEN,
    instead: (world) => isRefused(world, 'post', 'large-post'),
  },
  'a FETCH of 100 KB with an answer of 100 KB': {
    why: PER_TOKEN,
    instead: (world) => isRefused(world, 'fetch', 'large-post'),
  },
  'four transfers at once to one resource': { why: PER_TOKEN },
  '4.02 for a critical option that nobody knows': {
    why: 'it gives every option to the application',
    instead: async ({ ask }) => {
      const options = [{ number: 65_001, value: Uint8Array.of(1) }];
      expect((await ask({ method: 'get', path: ['test'], options })).code).toBe('2.05');
    },
  },
  'no response to a non-confirmable request that wants none': {
    why: 'it knows nothing of RFC 7967',
    instead: async ({ ask, arrived }) => {
      const options = [NO_RESPONSE];
      const put = {
        method: 'put',
        path: ['large-update'],
        payload: 'x',
        confirmable: false,
        options,
      } as const;
      expect((await ask(put)).code).toBe('0.00');
      await until(() => arrived().length > 0, 'it responds');
      expect(arrived()).toEqual(['NON 2.04']);
    },
  },
  'only an acknowledgement to a confirmable request that wants no response': {
    why: 'it knows nothing of RFC 7967',
    instead: async ({ ask }) => {
      const put = { method: 'put', path: ['large-update'], payload: 'x', options: [NO_RESPONSE] } as const;
      expect((await ask(put)).code).toBe('2.04');
    },
  },
  'notifications of 100 KB': {
    why: 'it does not divide the answers of an observable resource, and is stopped by its own limit of a message',
    instead: async ({ socket, peer }) => {
      const request = { code: METHOD.get, options: targetOptions(['obs-large']), payload: new Uint8Array(0) };
      const options = { timeoutMs: 10_000, onNotification: () => undefined };
      const response = await socket.observe(peer.address, request, options);
      expect([response.observing, codeLabel(response.code)]).toEqual([false, '5.00']);
    },
  },
  'nothing more after we have stopped to observe': {
    why: 'it takes no notice of a deregistration, but of the rejection of what comes after',
    instead: async (world) => {
      expect(await afterTheEnd(world, 2)).toEqual(['ACK 2.04', 'CON 2.05', 'ACK 2.04']);
    },
  },
  'a ping': {
    why: 'it takes an empty message for a request without a path',
    instead: async ({ socket, peer, arrived }) => {
      await socket.ping(peer.address, { timeoutMs: 10_000 });
      expect(arrived()).toEqual(['ACK 4.04']);
    },
  },
  'who has given back its Echo': { why: 'it knows nothing of RFC 9175' },
});

import { describe, expect } from 'vitest';
import { METHOD } from '../../src/coap/codes.ts';
import { OPTION } from '../../src/coap/options.ts';
import { AiocoapClient, installAiocoap, startAiocoapServer } from './aiocoap_peer.ts';
import { BODIES, describeClient } from './client_cases.ts';
import { inverted, LARGE_BYTES, targetOptions } from './peers.ts';
import { describeServer } from './server_cases.ts';

const missing = await installAiocoap();

describe.skipIf(missing !== undefined)(
  `aiocoap (skipped where it cannot be installed: ${missing ?? 'it is'})`,
  () => {
    describeClient('aiocoap as the client', () => new AiocoapClient(), {
      'four transfers at once to one resource': {
        why: 'its requests at once to one resource share address, code and options: RFC 7959 has no way to tell them apart',
        instead: async ({ ask, received }) => {
          const got = await Promise.allSettled(
            BODIES.map((payload) => ask({ method: 'POST', target: '/large-post', payload })),
          );
          const payloads = got.map((one) => (one.status === 'fulfilled' ? one.value.payload : undefined));
          expect(payloads).not.toEqual(BODIES.map(inverted));
          expect(
            received().some(({ options }) => options.some(({ number }) => number === OPTION.requestTag)),
          ).toBe(false);
        },
      },
    });
    describeServer('aiocoap as the server', startAiocoapServer, {
      'notifications of 100 KB': {
        why: 'it does not divide the answers of an observable resource, and UDP takes no datagram of that size',
        instead: async ({ ask, socket, peer }) => {
          const request = {
            code: METHOD.get,
            options: targetOptions(['obs-large']),
            payload: new Uint8Array(0),
          };
          const options = { timeoutMs: 1000, onNotification: () => undefined };
          await expect(socket.observe(peer.address, request, options)).rejects.toThrow('in time');
          expect((await ask({ method: 'get', path: ['obs-large'] })).payload).toHaveLength(LARGE_BYTES);
        },
      },
      '4.02 for a critical option that nobody knows': {
        why: 'it gives every option to the resource, which has to look for itself',
        instead: async ({ ask }) => {
          const options = [{ number: 65_001, value: Uint8Array.of(1) }];
          expect((await ask({ method: 'get', path: ['test'], options })).code).toBe('2.05');
        },
      },
    });
  },
);

import { readdirSync } from 'node:fs';
import type { FastifyInstance, RouteOptions } from 'fastify';
import { expect, it, onTestFinished } from 'vitest';
import { createApp } from '../../src/api/app.ts';
import { SAFE_METHODS } from '../../src/api/once.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';

const API = new URL('../../src/api/', import.meta.url);

/** Answers every look-up with itself: what a function needs that only adds routes. */
const anything: unknown = new Proxy(() => undefined, { get: () => anything });

type AddRoutes = (app: FastifyInstance, services: unknown) => void;

/** All routes with a method that may change something, from every file that adds routes. */
async function unsafeRoutes(): Promise<RouteOptions[]> {
  const app = createApp({ clock: new VirtualClock(), authenticate: async () => undefined });
  onTestFinished(() => app.close());
  const routes: RouteOptions[] = [];
  app.addHook('onRoute', (route) => {
    if ([route.method].flat().some((method) => !SAFE_METHODS.has(method))) routes.push(route);
  });
  for (const folder of ['client/', 'federation/']) {
    for (const file of readdirSync(new URL(folder, API))) {
      const module = (await import(new URL(`${folder}${file}`, API).href)) as Record<string, unknown>;
      for (const [name, add] of Object.entries(module)) {
        if (name.endsWith('Routes')) (add as AddRoutes)(app, anything);
      }
    }
  }
  return routes;
}

const nameOf = ({ method, url }: RouteOptions): string => `${String(method)} ${url}`;

it('every route that may change something says what keeps a repetition from doing it twice', async () => {
  const routes = await unsafeRoutes();
  expect(routes.length).toBeGreaterThan(25);
  expect(routes.filter(({ config }) => config?.repeated === undefined).map(nameOf)).toEqual([]);
});

const ENDED = 'what has ended so has, and a time that starts anew may do so twice';

it('the routes that do without the ledger have ids of their own, only read, or give what is good by itself', async () => {
  const harmless = (await unsafeRoutes()).filter(({ config }) => config?.repeated !== 'ledger');
  const reasons = harmless.map((route) => {
    const { repeated } = route.config ?? {};
    return [nameOf(route), typeof repeated === 'object' ? repeated.harmless : undefined];
  });
  expect(Object.fromEntries(reasons)).toEqual({
    'PUT /_matrix/client/v3/rooms/:roomId/send/:eventType/:txnId': 'the transaction id',
    'PUT /_matrix/client/v3/rooms/:roomId/redact/:eventId/:txnId': 'the transaction id',
    'PUT /_matrix/client/v3/sendToDevice/:eventType/:txnId': 'the transaction id',
    'PUT /_matrix/client/v3/rooms/:roomId/typing/:userId': 'it says who types now, and ends by itself',
    'PUT /_matrix/client/v3/presence/:userId/status': 'it says what somebody is now, and ends by itself',
    'POST /_matrix/client/v3/rooms/:roomId/read_markers': 'a marker that is there already stays',
    'POST /_matrix/client/v3/rooms/:roomId/receipt/:receiptType/:eventId':
      'a marker that is there already stays',
    'POST /_matrix/client/v3/publicRooms': 'it changes nothing',
    'POST /_matrix/client/v3/keys/query': 'it changes nothing',
    'POST /_matrix/client/v3/search': 'it only reads',
    'POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/:delayId': ENDED,
    'POST /_matrix/client/unstable/org.matrix.msc4140/delayed_events/:delayId/:action': ENDED,
    'POST /_matrix/client/v3/user_directory/search': 'it only reads',
    'POST /_matrix/client/v1/login/get_token': 'each token is good by itself',
    'POST /_matrix/client/v3/user/:userId/openid/request_token': 'each token is good by itself',
    'POST /_matrix/client/v3/refresh': 'the old token stays valid until a new one has been used',
    'POST /_synapse/admin/v1/register': 'the nonce is good once',
    ...Object.fromEntries(
      [
        'account/3pid',
        'account/3pid/add',
        'account/3pid/bind',
        'account/3pid/delete',
        'account/3pid/unbind',
        ...['account/3pid', 'account/password', 'register'].flatMap((of) => [
          `${of}/email/requestToken`,
          `${of}/msisdn/requestToken`,
        ]),
      ].map((path) => [`POST /_matrix/client/v3/${path}`, 'nothing is stored']),
    ),
    'POST /_matrix/federation/v1/get_missing_events/:roomId': 'it only reads',
    'POST /_matrix/key/v2/query': 'it changes nothing',
    'POST /_matrix/federation/v1/user/keys/query': 'who asks is noted once',
    'POST /_matrix/federation/v1/publicRooms': 'it changes nothing',
    'PUT /_matrix/federation/v1/exchange_third_party_invite/:roomId':
      'who is invited is not invited once more',
    'PUT /_matrix/federation/v1/invite/:roomId/:eventId': 'the event id',
    'PUT /_matrix/federation/v1/send_join/:roomId/:eventId': 'the event id',
    'PUT /_matrix/federation/v1/send_leave/:roomId/:eventId': 'the event id',
    'PUT /_matrix/federation/v2/send_join/:roomId/:eventId': 'the event id',
    'PUT /_matrix/federation/v1/send_knock/:roomId/:eventId': 'the event id',
    'PUT /_matrix/federation/v2/send_leave/:roomId/:eventId': 'the event id',
    'PUT /_matrix/federation/v2/invite/:roomId/:eventId': 'the event id',
    'PUT /_matrix/federation/v1/send/:txnId': 'the transaction id',
    'PUT /_matrix/federation/unstable/org.ravine.signatures': 'a signature that is known changes nothing',
  });
});

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

it('the routes that do without the ledger have ids of their own or only read', async () => {
  const harmless = (await unsafeRoutes()).filter(({ config }) => config?.repeated !== 'ledger');
  expect(harmless.map((route) => [nameOf(route), route.config?.repeated])).toEqual([
    ['PUT /_matrix/client/v3/rooms/:roomId/send/:eventType/:txnId', { harmless: 'the transaction id' }],
    ['PUT /_matrix/client/v3/rooms/:roomId/redact/:eventId/:txnId', { harmless: 'the transaction id' }],
    ['POST /_matrix/federation/v1/get_missing_events/:roomId', { harmless: 'it only reads' }],
    ['PUT /_matrix/federation/v2/send_join/:roomId/:eventId', { harmless: 'the event id' }],
    ['PUT /_matrix/federation/v2/send_leave/:roomId/:eventId', { harmless: 'the event id' }],
    ['PUT /_matrix/federation/v2/invite/:roomId/:eventId', { harmless: 'the event id' }],
    ['PUT /_matrix/federation/v1/send/:txnId', { harmless: 'the transaction id' }],
    [
      'PUT /_matrix/federation/unstable/org.ravine.signatures',
      { harmless: 'a signature that is known changes nothing' },
    ],
  ]);
});

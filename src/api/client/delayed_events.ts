import type { FastifyInstance } from 'fastify';
import { ACTIONS, type DelayedAction, type DelayedEvents } from '../../homeserver/delayed_events.ts';
import { MatrixError } from '../../matrix/error.ts';

/** The parameter with which an event is not sent but put off, in milliseconds. */
export const DELAY = 'org.matrix.msc4140.delay';

const PATH = '/_matrix/client/unstable/org.matrix.msc4140/delayed_events';
const CONFIG = {
  auth: 'device',
  repeated: { harmless: 'what has ended so has, and a time that starts anew may do so twice' },
} as const;
const ACTION = { enum: ACTIONS } as const;

/** MSC4140, by its unstable names: what is put off by `DELAY` is looked at, sent, cancelled, or put off again. */
export function delayedEventRoutes(
  app: FastifyInstance,
  { delayedEvents }: { readonly delayedEvents: DelayedEvents },
): void {
  app.get(PATH, { config: { auth: 'device' } }, ({ requester }) => delayedEvents.list(requester.user));

  app.get<{ Params: { readonly delayId: string } }>(
    `${PATH}/:delayId`,
    { config: { auth: 'device' } },
    ({ requester, params }) => delayedEvents.get(requester.user, params.delayId),
  );

  app.post<{ Params: { readonly delayId: string; readonly action: string } }>(
    `${PATH}/:delayId/:action`,
    { config: CONFIG },
    async ({ requester, params }) => {
      const action = ACTIONS.find((each) => each === params.action);
      if (action === undefined) throw new MatrixError(404, 'M_UNRECOGNIZED', 'There is no such action.');
      await delayedEvents.act(requester.user, params.delayId, action);
      return {};
    },
  );

  // The proposal's earlier text.
  app.post<{ Params: { readonly delayId: string }; Body: { readonly action: DelayedAction } }>(
    `${PATH}/:delayId`,
    {
      config: CONFIG,
      schema: { body: { type: 'object', required: ['action'], properties: { action: ACTION } } },
    },
    async ({ requester, params, body }) => {
      await delayedEvents.act(requester.user, params.delayId, body.action);
      return {};
    },
  );
}

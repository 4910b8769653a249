import type { FastifyInstance } from 'fastify';
import type { Filters } from '../../homeserver/filters.ts';
import { forbidden, notFound } from '../../matrix/error.ts';
import type { JsonObject } from '../../matrix/json.ts';

const STRINGS = { type: 'array', items: { type: 'string' } } as const;

const EVENT_FILTER_PROPERTIES = {
  limit: { type: 'integer', minimum: 0 },
  types: STRINGS,
  not_types: STRINGS,
  senders: STRINGS,
  not_senders: STRINGS,
} as const;

const EVENT_FILTER = { type: 'object', properties: EVENT_FILTER_PROPERTIES } as const;

const ROOM_EVENT_FILTER = {
  type: 'object',
  properties: {
    ...EVENT_FILTER_PROPERTIES,
    rooms: STRINGS,
    not_rooms: STRINGS,
    contains_url: { type: 'boolean' },
    lazy_load_members: { type: 'boolean' },
    include_redundant_members: { type: 'boolean' },
    unread_thread_notifications: { type: 'boolean' },
  },
} as const;

/** Client-server API, "Filtering": what POST /filter takes. */
const SYNC_FILTER = {
  type: 'object',
  properties: {
    event_fields: STRINGS,
    event_format: { enum: ['client', 'federation'] },
    presence: EVENT_FILTER,
    account_data: EVENT_FILTER,
    room: {
      type: 'object',
      properties: {
        rooms: STRINGS,
        not_rooms: STRINGS,
        include_leave: { type: 'boolean' },
        ephemeral: ROOM_EVENT_FILTER,
        state: ROOM_EVENT_FILTER,
        timeline: ROOM_EVENT_FILTER,
        account_data: ROOM_EVENT_FILTER,
      },
    },
  },
} as const;

/** Client-server API, "Filtering". */
export function filterRoutes(app: FastifyInstance, { filters }: { readonly filters: Filters }): void {
  app.post<{ Params: { userId: string }; Body: JsonObject }>(
    '/_matrix/client/v3/user/:userId/filter',
    { config: { auth: 'device', repeated: 'ledger' }, schema: { body: SYNC_FILTER } },
    async ({ requester, params, body, once }) => {
      if (params.userId !== requester.user) throw forbidden('You can only keep filters of your own.');
      return once.answer(
        (done) => filters.put(requester.user, body, done),
        (id: string) => ({ filter_id: id }),
      );
    },
  );

  app.get<{ Params: { userId: string; filterId: string } }>(
    '/_matrix/client/v3/user/:userId/filter/:filterId',
    { config: { auth: 'device' } },
    async ({ requester, params }) => {
      if (params.userId !== requester.user) throw forbidden('You can only read filters of your own.');
      const filter = await filters.get(requester.user, params.filterId);
      if (filter === undefined) throw notFound('There is no such filter.');
      return filter;
    },
  );
}

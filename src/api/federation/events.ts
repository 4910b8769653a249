import type { FastifyInstance } from 'fastify';
import type { Clock } from '../../base/time.ts';
import { pduJson } from '../../federation/pdu_json.ts';
import type { FederatedRooms } from '../../homeserver/rooms/federated_rooms.ts';
import { forbidden, missingParam, notFound } from '../../matrix/error.ts';
import type { EventId, RoomId, ServerName } from '../../matrix/ids.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { authEvents, type Event } from '../../matrix/pdu.ts';
import { natural, oneOf, type Query } from '../client/query.ts';
import { eventParameter, roomParameter } from '../parameters.ts';

/** Events that one answer of get_missing_events holds at most. */
const MAX_MISSING_EVENTS = 50;
const DEFAULT_MISSING_EVENTS = 10;
/** Events that one request for backfill begins at; more are not looked at. */
const MAX_BACKFILL_FROM = 100;
/** Events of an auth chain that are looked up for one request. */
const MAX_AUTH_CHAIN = 10_000;

type AtEvent = { Params: { roomId: string }; Querystring: { event_id?: string } };

const EVENT_IDS = { type: 'array', items: { type: 'string' }, maxItems: 100 } as const;
const MISSING_EVENTS_BODY = {
  type: 'object',
  required: ['earliest_events', 'latest_events'],
  properties: {
    limit: { type: 'integer', minimum: 0 },
    min_depth: { type: 'integer' },
    earliest_events: EVENT_IDS,
    latest_events: EVENT_IDS,
  },
} as const;

/** Server-server API, "Retrieving events" and "Retrieving event authorisation information". */
export function eventRoutes(
  app: FastifyInstance,
  {
    serverName,
    rooms,
    clock,
  }: { readonly serverName: ServerName; readonly rooms: FederatedRooms; readonly clock: Clock },
): void {
  const options = { config: { auth: 'server' } } as const;

  app.get<{ Params: { eventId: string } }>(
    '/_matrix/federation/v1/event/:eventId',
    options,
    async ({ origin, params }) => {
      const event = await rooms.event(eventParameter(params.eventId), origin);
      if (event === undefined) throw notFound('There is no such event.');
      return { origin: serverName, origin_server_ts: clock.wall(), pdus: [pduJson(event.pdu)] };
    },
  );

  app.get<{ Params: { roomId: string }; Querystring: Query }>(
    '/_matrix/federation/v1/backfill/:roomId',
    options,
    async ({ origin, params, query }) => {
      const room = roomParameter(params.roomId);
      const from = [query.v ?? []].flat().slice(0, MAX_BACKFILL_FROM).map(eventParameter);
      if (from.length === 0) throw missingParam('v is missing.');
      const limit = natural(query, 'limit');
      if (limit === undefined) throw missingParam('limit is missing.');
      const events = await rooms.backfill(room, { from, limit }, origin);
      return {
        origin: serverName,
        origin_server_ts: clock.wall(),
        pdus: events.map(({ pdu }) => pduJson(pdu)),
      };
    },
  );

  app.get<{ Params: { roomId: string }; Querystring: Query }>(
    '/_matrix/federation/v1/timestamp_to_event/:roomId',
    options,
    async ({ origin, params, query }) => {
      const room = roomParameter(params.roomId);
      const time = natural(query, 'ts');
      if (time === undefined) throw missingParam('ts is missing.');
      const event = await rooms.closest(room, { time, dir: oneOf(query, 'dir', ['b', 'f']) }, origin);
      if (event === undefined) throw notFound('There is no event on that side of that time.');
      return { event_id: event.id, origin_server_ts: event.pdu.origin_server_ts };
    },
  );

  app.get<AtEvent>('/_matrix/federation/v1/state_ids/:roomId', options, async ({ origin, params, query }) => {
    const { state, authChain } = await rooms.stateIds(roomParameter(params.roomId), eventAt(query), origin);
    return { pdu_ids: state, auth_chain_ids: authChain };
  });

  app.get<AtEvent>('/_matrix/federation/v1/state/:roomId', options, async ({ origin, params, query }) => {
    const { state, authChain } = await rooms.stateIds(roomParameter(params.roomId), eventAt(query), origin);
    const pdus = async (ids: readonly EventId[]): Promise<JsonObject[]> => {
      const found: JsonObject[] = [];
      for (const id of ids) {
        // Who may see the state before the event may see what it is made of.
        const event = await rooms.event(id, serverName);
        if (event !== undefined) found.push(pduJson(event.pdu));
      }
      return found;
    };
    return { pdus: await pdus(state), auth_chain: await pdus(authChain) };
  });

  app.get<{ Params: { roomId: string; eventId: string } }>(
    '/_matrix/federation/v1/event_auth/:roomId/:eventId',
    options,
    async ({ origin, params }) => {
      const event = await rooms.event(eventParameter(params.eventId), origin);
      if (event === undefined || event.room !== roomParameter(params.roomId))
        throw notFound('There is no such event.');
      return { auth_chain: (await authChainOf(rooms, event, serverName)).map(({ pdu }) => pduJson(pdu)) };
    },
  );

  app.post<{
    Params: { roomId: string };
    Body: { limit?: number; min_depth?: number; earliest_events: string[]; latest_events: string[] };
  }>(
    '/_matrix/federation/v1/get_missing_events/:roomId',
    {
      config: { auth: 'server', repeated: { harmless: 'it only reads' } },
      schema: { body: MISSING_EVENTS_BODY },
    },
    async ({ origin, params, body }) => {
      const room: RoomId = roomParameter(params.roomId);
      if (!(await rooms.isServerInRoom(room, origin))) throw forbidden('Your server is not in the room.');
      const request = {
        earliest: body.earliest_events.map(eventParameter),
        latest: body.latest_events.map(eventParameter),
        limit: Math.min(body.limit ?? DEFAULT_MISSING_EVENTS, MAX_MISSING_EVENTS),
        minDepth: body.min_depth ?? 0,
      };
      const events = await rooms.missingEvents(room, request, origin);
      return { events: events.map(({ pdu }) => pduJson(pdu)) };
    },
  );
}

function eventAt(query: { event_id?: string }): EventId {
  if (typeof query.event_id !== 'string') throw missingParam('event_id is missing.');
  return eventParameter(query.event_id);
}

/** The event's auth events and theirs, nearest first, as far as they are known. */
async function authChainOf(
  rooms: FederatedRooms,
  event: Event,
  reader: ServerName,
): Promise<readonly Event[]> {
  const chain = new Map<EventId, Event>();
  const queue = [...authEvents(event.pdu)];
  for (let id = queue.shift(); id !== undefined && chain.size < MAX_AUTH_CHAIN; id = queue.shift()) {
    if (chain.has(id)) continue;
    const auth = await rooms.event(id, reader);
    if (auth === undefined) continue;
    chain.set(id, auth);
    queue.push(...authEvents(auth.pdu));
  }
  return [...chain.values()];
}

import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { DelayedEvents } from '../../homeserver/delayed_events.ts';
import type { Rooms } from '../../homeserver/rooms/rooms.ts';
import { parsePoint } from '../../homeserver/sync/token.ts';
import { invalidParam } from '../../matrix/error.ts';
import type { JsonObject } from '../../matrix/json.ts';
import { roomParameter } from '../parameters.ts';
import { DELAY } from './delayed_events.ts';
import { natural, oneOf, type Query, text } from './query.ts';

interface StatePath {
  readonly roomId: string;
  readonly eventType: string;
  readonly stateKey?: string;
}

const STATE = '/_matrix/client/v3/rooms/:roomId/state';
const MEMBERSHIPS = ['join', 'invite', 'knock', 'leave', 'ban'] as const;

/** Client-server API, "Getting events for a room" and "Sending events to a room": state and members. */
export function roomStateRoutes(
  app: FastifyInstance,
  { rooms, delayedEvents }: { readonly rooms: Rooms; readonly delayedEvents?: DelayedEvents },
): void {
  const { queries } = rooms;

  app.get<{ Params: { roomId: string } }>(STATE, { config: { auth: 'device' } }, ({ requester, params }) =>
    queries.state(roomParameter(params.roomId), requester),
  );

  // Where the key is empty, the slash before it may be left out.
  for (const path of [`${STATE}/:eventType`, `${STATE}/:eventType/`, `${STATE}/:eventType/:stateKey`]) {
    app.get<{ Params: StatePath; Querystring: Query }>(path, { config: { auth: 'device' } }, (request) =>
      stateEvent(rooms, request),
    );
    app.put<{ Params: StatePath; Querystring: Query; Body: JsonObject }>(
      path,
      { config: { auth: 'device', repeated: 'ledger' }, schema: { body: { type: 'object' } } },
      async ({ requester, params, query, body, once }) => {
        const { eventType, stateKey = '' } = params;
        const room = roomParameter(params.roomId);
        const delayMs = natural(query, DELAY);
        if (delayMs !== undefined && delayedEvents !== undefined) {
          const intent = { room, type: eventType, stateKey, content: body };
          return once.answer<string>(
            (done) => delayedEvents.schedule(requester.user, intent, { delayMs }, done),
            (id) => ({ delay_id: id }),
          );
        }
        return { event_id: await rooms.setState(room, requester.user, eventType, stateKey, body, once) };
      },
    );
  }

  app.get<{ Params: { roomId: string }; Querystring: Query }>(
    '/_matrix/client/v3/rooms/:roomId/members',
    { config: { auth: 'device' } },
    async ({ requester, params, query }) => ({
      chunk: await queries.members(roomParameter(params.roomId), requester, {
        at: positionIn(query),
        membership: membershipIn(query, 'membership'),
        notMembership: membershipIn(query, 'not_membership'),
      }),
    }),
  );

  app.get<{ Params: { roomId: string } }>(
    '/_matrix/client/v3/rooms/:roomId/joined_members',
    { config: { auth: 'device' } },
    async ({ requester, params }) => ({
      joined: await queries.joinedMembers(roomParameter(params.roomId), requester.user),
    }),
  );
}

async function stateEvent(
  rooms: Rooms,
  { requester, params, query }: FastifyRequest<{ Params: StatePath; Querystring: Query }>,
): Promise<JsonObject> {
  const { eventType, stateKey = '' } = params;
  const format =
    text(query, 'format') === undefined ? 'content' : oneOf(query, 'format', ['content', 'event']);
  const event = await rooms.queries.stateEvent(roomParameter(params.roomId), eventType, stateKey, requester);
  return format === 'event' ? event : (event.content as JsonObject);
}

/** The delivery position that `at` names; before what was delivered there was nothing. */
function positionIn(query: Query): number | undefined {
  const at = text(query, 'at');
  if (at === undefined) return undefined;
  const point = parsePoint(at);
  if (point === undefined) throw invalidParam('at is not a token of this server.');
  return point.kind === 'delivered' ? point.position : 0;
}

function membershipIn(query: Query, name: string): string | undefined {
  return text(query, name) === undefined ? undefined : oneOf(query, name, MEMBERSHIPS);
}

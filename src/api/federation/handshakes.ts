import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ANY_EVENT } from '../../federation/forms/federation_forms.ts';
import { pduJson } from '../../federation/pdu_json.ts';
import type { EventChecker } from '../../federation/remote_events.ts';
import type { FederatedRooms } from '../../homeserver/rooms/federated_rooms.ts';
import { forbidden, invalidParam, MatrixError, notFound } from '../../matrix/error.ts';
import { type RoomId, type ServerName, serverOf } from '../../matrix/ids.ts';
import { isJsonObject, type JsonObject, own } from '../../matrix/json.ts';
import type { Event } from '../../matrix/pdu.ts';
import { roomVersion } from '../../matrix/room_version.ts';
import { FEDERATION_BODY_LIMIT } from '../bodies.ts';
import { CALLER } from '../caller.ts';
import { eventParameter, roomParameter, userParameter } from '../parameters.ts';

interface HandshakeServices {
  readonly serverName: ServerName;
  readonly rooms: FederatedRooms;
  readonly checker: EventChecker;
}

type MakePath = { Params: { roomId: string; userId: string }; Querystring: { ver?: string | string[] } };
type SendPath = {
  Params: { roomId: string; eventId: string };
  Querystring: { omit_members?: string };
  Body: JsonObject;
};

/** An event that is stored already is answered for again, and not stored again. */
const SEND_OPTIONS = {
  config: { auth: 'server', repeated: { harmless: 'the event id' } },
  bodyLimit: FEDERATION_BODY_LIMIT,
  schema: { body: { type: 'object' } },
} as const;

/** Events that may go with an invite, to tell what room it is. */
const MAX_ROOM_STATE = 100;

const INVITE_BODY = {
  type: 'object',
  required: ['room_version', 'event'],
  properties: {
    room_version: { type: 'string' },
    event: { type: 'object' },
    invite_room_state: { type: 'array', items: { type: 'object' }, maxItems: MAX_ROOM_STATE },
  },
} as const;

/** Server-server API, "Joining Rooms", "Leaving Rooms", "Knocking upon a room" and "Inviting to a room": the resident server's part. */
export function handshakeRoutes(app: FastifyInstance, services: HandshakeServices): void {
  const { rooms } = services;

  app.get<MakePath>(
    '/_matrix/federation/v1/make_join/:roomId/:userId',
    { config: { auth: 'server' } },
    async ({ origin, params, query }) => {
      const user = userParameter(params.userId);
      if (serverOf(user) !== origin) throw forbidden('The user is not one of your server.');
      const made = await rooms.makeJoin(roomParameter(params.roomId), user, [query.ver ?? '1'].flat());
      return { room_version: made.roomVersion, event: made.event };
    },
  );

  const sendJoin = async (request: FastifyRequest<SendPath>): Promise<JsonObject> => {
    const join = await membershipIn(services, request, 'join');
    const { state, authChain, event } = await rooms.sendJoin(join);
    // Whoever lets members be left out lets us leave out as well what is told twice. Members are not left out.
    const told = new Set(request.query.omit_members === 'true' ? state.map(({ id }) => id) : []);
    const isAuthorisedHere = own(event.pdu.content, 'join_authorised_via_users_server') !== undefined;
    return {
      state: state.map(({ pdu }) => pduJson(pdu)),
      auth_chain: authChain.filter(({ id }) => !told.has(id)).map(({ pdu }) => pduJson(pdu)),
      // Only there does our signature change what the event is worth.
      ...(isAuthorisedHere && { event: pduJson(event.pdu) }),
    };
  };
  app.put<SendPath>('/_matrix/federation/v2/send_join/:roomId/:eventId', SEND_OPTIONS, sendJoin);
  // As servers called it before there was a second version; they still do where they take a 404 for the lack of that.
  app.put<SendPath>('/_matrix/federation/v1/send_join/:roomId/:eventId', SEND_OPTIONS, async (request) => [
    200,
    await sendJoin(request),
  ]);

  app.get<MakePath>(
    '/_matrix/federation/v1/make_knock/:roomId/:userId',
    { config: { auth: 'server' } },
    async ({ origin, params, query }) => {
      const user = userParameter(params.userId);
      if (serverOf(user) !== origin) throw forbidden('The user is not one of your server.');
      const made = await rooms.makeKnock(roomParameter(params.roomId), user, [query.ver ?? '1'].flat());
      return { room_version: made.roomVersion, event: made.event };
    },
  );

  app.put<SendPath>('/_matrix/federation/v1/send_knock/:roomId/:eventId', SEND_OPTIONS, async (request) => ({
    knock_room_state: [...(await rooms.sendKnock(await membershipIn(services, request, 'knock')))],
  }));

  app.get<MakePath>(
    '/_matrix/federation/v1/make_leave/:roomId/:userId',
    { config: { auth: 'server' } },
    async ({ origin, params }) => {
      const user = userParameter(params.userId);
      if (serverOf(user) !== origin) throw forbidden('The user is not one of your server.');
      const made = await rooms.makeLeave(roomParameter(params.roomId), user);
      return { room_version: made.roomVersion, event: made.event };
    },
  );

  const sendLeave = async (request: FastifyRequest<SendPath>): Promise<JsonObject> => {
    await rooms.sendLeave(await membershipIn(services, request, 'leave'));
    return {};
  };
  app.put<SendPath>('/_matrix/federation/v2/send_leave/:roomId/:eventId', SEND_OPTIONS, sendLeave);
  app.put<SendPath>('/_matrix/federation/v1/send_leave/:roomId/:eventId', SEND_OPTIONS, async (request) => [
    200,
    await sendLeave(request),
  ]);

  app.put<{
    Params: { roomId: string; eventId: string };
    Body: { room_version: string; event: JsonObject; invite_room_state?: JsonObject[] };
  }>(
    '/_matrix/federation/v2/invite/:roomId/:eventId',
    { ...SEND_OPTIONS, schema: { body: INVITE_BODY } },
    async ({ origin, params, body, raw }) => {
      const { room_version: version, event: pdu, invite_room_state: roomState = [] } = body;
      return { event: await takeInvite(services, { origin, params, raw, pdu, version, roomState }) };
    },
  );

  // Servers that know no v2 know no rooms of other versions than these two, whose events look alike.
  app.put<SendPath>('/_matrix/federation/v1/invite/:roomId/:eventId', SEND_OPTIONS, async (request) => {
    const { origin, params, raw, body: pdu } = request;
    const unsigned = own(pdu, 'unsigned');
    const told = isJsonObject(unsigned) ? own(unsigned, 'invite_room_state') : undefined;
    const roomState = (Array.isArray(told) ? told.slice(0, MAX_ROOM_STATE) : []).filter(isJsonObject);
    return [
      200,
      { event: await takeInvite(services, { origin, params, raw, pdu, version: '1', roomState }) },
    ];
  });
}

/** Checks an invite, records it and signs it. @throws MatrixError M_INCOMPATIBLE_ROOM_VERSION, M_INVALID_PARAM, and as Resident.receiveInvite */
async function takeInvite(
  services: HandshakeServices,
  {
    version,
    roomState,
    ...given
  }: Parameters<typeof checkedMembership>[1] & { readonly roomState: readonly JsonObject[] },
): Promise<JsonObject> {
  if (roomVersion(version) === undefined) {
    throw new MatrixError(
      400,
      'M_INCOMPATIBLE_ROOM_VERSION',
      'This server does not support the room version.',
      { room_version: version },
    );
  }
  const invite = await checkedMembership(services, { ...given, version }, 'invite');
  await checkInviteState(services, invite.room, version, roomState);
  const { state_key: invited } = invite.pdu;
  if (invited === undefined || serverOf(userParameter(invited)) !== services.serverName) {
    throw invalidParam('The invited user is not one of this server.');
  }
  return pduJson(await services.rooms.receiveInvite(invite, version, roomState));
}

/** The join, leave or knock that a server sends for one of its users, of a room that is known here. */
async function membershipIn(
  services: HandshakeServices,
  { origin, params, body, raw }: Pick<FastifyRequest<SendPath>, 'origin' | 'params' | 'body' | 'raw'>,
  membership: 'join' | 'leave' | 'knock',
): Promise<Event> {
  const version = await services.rooms.versionOf(roomParameter(params.roomId));
  if (version === undefined) throw notFound('The room is not known here.');
  const event = await checkedMembership(services, { origin, params, raw, pdu: body, version }, membership);
  if (event.pdu.state_key !== event.pdu.sender)
    throw invalidParam('The event is about somebody else than its sender.');
  return event;
}

/** The checks that send_join, send_leave, send_knock and invite share. @throws MatrixError M_INVALID_PARAM */
async function checkedMembership(
  { checker }: HandshakeServices,
  {
    origin,
    params,
    raw,
    pdu,
    version,
  }: {
    readonly origin: ServerName;
    readonly params: SendPath['Params'];
    readonly raw: FastifyRequest['raw'];
    readonly pdu: JsonObject;
    readonly version: string;
  },
  membership: 'join' | 'leave' | 'knock' | 'invite',
): Promise<Event> {
  // A restricted join has to be signed by the server that lets it in as well, which may be this one, and only now.
  const checked = await checker.check(pdu, version, [origin]);
  if (!checked.ok) throw invalidParam(`The event is not valid: ${checked.problem.reason}.`);
  const event = checked.value;
  const { type, sender, content } = event.pdu;
  if (event.room !== roomParameter(params.roomId)) throw invalidParam('The event is of another room.');
  // Through a pipe an id that the event itself tells is left out.
  const isLeftOut = params.eventId === ANY_EVENT && raw[CALLER]?.kind === 'server';
  if (!isLeftOut && event.id !== eventParameter(params.eventId))
    throw invalidParam('The event has another id.');
  if (type !== 'm.room.member' || content.membership !== membership)
    throw invalidParam(`The event is not a ${membership}.`);
  if (serverOf(sender) !== origin) throw invalidParam('The sender is not a user of your server.');
  return event;
}

/**
 * Among the state that goes with an invite the create event has to be, whole and of that room, from room version 12 on. Other
 * entries may be stripped, as servers sent them before v1.16; a whole one has to be of that room.
 */
async function checkInviteState(
  { checker }: HandshakeServices,
  room: RoomId,
  version: string,
  roomState: readonly JsonObject[],
): Promise<void> {
  const mustHaveCreate = roomVersion(version)?.roomIsCreateEvent === true;
  let hasCreate = false;
  for (const pdu of roomState) {
    const mustBeWhole = mustHaveCreate && pdu.type === 'm.room.create';
    if (!mustBeWhole && pdu.signatures === undefined) continue;
    const checked = await checker.check(pdu, version);
    if (!checked.ok) throw invalidParam(`invite_room_state: ${checked.problem.reason}.`);
    if (checked.value.room !== room) throw invalidParam('invite_room_state has an event of another room.');
    hasCreate ||= pdu.type === 'm.room.create';
  }
  if (mustHaveCreate && !hasCreate) throw invalidParam('invite_room_state has no m.room.create event.');
}

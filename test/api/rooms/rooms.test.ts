import type { FastifyInstance } from 'fastify';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { createApp } from '../../../src/api/app.ts';
import { createRoomRoutes } from '../../../src/api/client/create_room.ts';
import { membershipRoutes } from '../../../src/api/client/membership.ts';
import { roomStateRoutes } from '../../../src/api/client/room_state.ts';
import { sendRoutes } from '../../../src/api/client/send.ts';
import type { DeviceId, UserId } from '../../../src/matrix/ids.ts';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { type Server, World } from '../../homeserver/rooms/world.ts';

let world: World;
let a: Server;
let app: FastifyInstance;
const ALICE = '@alice:a.example';
const AMY = '@amy:a.example';

beforeEach(async () => {
  world = new World();
  a = world.server('a.example');
  const { rooms } = a;
  // An access token is a user and a device here.
  const authenticate = async (token: string) => {
    const [user, device] = token.split('|');
    return { user: user as UserId, device: device as DeviceId };
  };
  app = createApp({ clock: world.clock, authenticate });
  createRoomRoutes(app, { rooms });
  membershipRoutes(app, { rooms, directory: a.directory });
  roomStateRoutes(app, { rooms });
  sendRoutes(app, { rooms });
  await app.ready();
  onTestFinished(() => app.close());
});

interface Answer {
  readonly status: number;
  readonly body: JsonObject;
}

async function call(
  method: 'GET' | 'PUT' | 'POST',
  path: string,
  body?: unknown,
  token = `${ALICE}|PHONE`,
): Promise<Answer> {
  const response = await app.inject({
    method,
    url: `/_matrix/client/v3/${path}`,
    headers: { authorization: `Bearer ${token}` },
    ...(body === undefined ? {} : { payload: body as JsonObject }),
  });
  return { status: response.statusCode, body: response.json() };
}

async function newRoom(request: JsonObject = { preset: 'public_chat' }): Promise<string> {
  const { body } = await call('POST', 'createRoom', request);
  return encodeURIComponent(body.room_id as string);
}

const errorOf = ({ status, body }: Answer) => [status, body.errcode];

describe('POST /createRoom', () => {
  it('answers the room id', async () => {
    expect(await call('POST', 'createRoom', {})).toMatchObject({
      status: 200,
      body: { room_id: expect.stringMatching(/^!/) },
    });
  });

  it.each([
    [{ preset: 'chat' }, 'M_BAD_JSON'],
    [{ invite: 'amy' }, 'M_BAD_JSON'],
    [{ initial_state: [{ type: 'x' }] }, 'M_BAD_JSON'],
    [{ room_version: '99' }, 'M_UNSUPPORTED_ROOM_VERSION'],
    [{ room_alias_name: 'tea:pot' }, 'M_INVALID_PARAM'],
  ])('refuses %j', async (request, errcode) => {
    expect(errorOf(await call('POST', 'createRoom', request))).toEqual([400, errcode]);
  });
});

describe('membership', () => {
  it('goes through its stages, with and without bodies', async () => {
    const room = await newRoom({});
    const amy = `${AMY}|DESK`;
    const steps: [string, unknown, string, number][] = [
      ['join', undefined, amy, 403],
      ['invite', { user_id: AMY, reason: 'tea' }, `${ALICE}|PHONE`, 200],
      ['join', undefined, amy, 200],
      ['leave', { reason: 'late' }, amy, 200],
      ['ban', { user_id: AMY }, `${ALICE}|PHONE`, 200],
      ['join', {}, amy, 403],
      ['unban', { user_id: AMY }, `${ALICE}|PHONE`, 200],
      ['forget', undefined, amy, 200],
      ['forget', undefined, `${ALICE}|PHONE`, 400],
      ['kick', { user_id: AMY }, `${ALICE}|PHONE`, 403],
    ];
    for (const [action, body, token, status] of steps) {
      const answer = await call('POST', `rooms/${room}/${action}`, body, token);
      expect([action, answer.status], JSON.stringify(answer.body)).toEqual([action, status]);
    }
    expect((await call('GET', 'joined_rooms')).body).toEqual({ joined_rooms: [decodeURIComponent(room)] });
  });

  it('joins by /join/{roomId}, through `via` where the room is elsewhere', async () => {
    const b = world.server('b.example');
    const room = await b.rooms.create(b.user('bob'), { preset: 'public_chat' });
    const path = `join/${encodeURIComponent(room)}`;
    expect(errorOf(await call('POST', path, {}))).toEqual([404, 'M_NOT_FOUND']);
    expect(await call('POST', `${path}?via=b.example`, {})).toEqual({ status: 200, body: { room_id: room } });
    expect(await b.membership(room, ALICE as UserId)).toBe('join');
  });

  it('refuses what is no identifier', async () => {
    const room = await newRoom();
    expect(errorOf(await call('POST', `rooms/${room}/invite`, { user_id: 'amy' }))).toEqual([
      400,
      'M_INVALID_PARAM',
    ]);
    expect(errorOf(await call('POST', `rooms/${room}/invite`, {}))).toEqual([400, 'M_BAD_JSON']);
    expect(errorOf(await call('POST', 'rooms/tea/join', {}))).toEqual([400, 'M_INVALID_PARAM']);
    expect(errorOf(await call('POST', 'join/%23tea:a.example', {}))).toEqual([404, 'M_NOT_FOUND']);
  });
});

describe('sending and reading', () => {
  it('sends once for each transaction, and tells the sending device its transaction id', async () => {
    const room = await newRoom();
    const send = (type: string) => call('PUT', `rooms/${room}/send/${type}/7`, { body: 'hi' });
    const first = await send('m.room.message');
    expect(first).toMatchObject({ status: 200, body: { event_id: expect.stringMatching(/^\$/) } });
    expect(await send('m.room.message')).toEqual(first);
    expect((await send('m.sticker')).body).not.toEqual(first.body);
    expect((await call('PUT', `rooms/${room}/send/m.text/8`, [])).status).toBe(400);
  });

  it('redacts, by either endpoint', async () => {
    const room = await newRoom();
    const send = async (txn: string) =>
      (await call('PUT', `rooms/${room}/send/m.room.message/${txn}`, { body: 'oops' })).body
        .event_id as string;
    const [one, two] = [await send('1'), await send('2')];
    const redacted = await call('PUT', `rooms/${room}/redact/${encodeURIComponent(one)}/3`, {
      reason: 'typo',
    });
    expect(redacted.status).toBe(200);
    expect((await call('PUT', `rooms/${room}/send/m.room.redaction/4`, { redacts: two })).status).toBe(200);
    for (const id of [one, two]) expect((await a.stored(id as never)).event.pdu.content).toEqual({});
    expect(errorOf(await call('PUT', `rooms/${room}/redact/nothing/5`, {}))).toEqual([
      400,
      'M_INVALID_PARAM',
    ]);
  });

  it('sets and gets state by type and key, with and without a last slash', async () => {
    const room = await newRoom();
    expect((await call('PUT', `rooms/${room}/state/m.room.name`, { name: 'Tea' })).status).toBe(200);
    expect((await call('PUT', `rooms/${room}/state/m.room.topic/`, { topic: 'Pots' })).status).toBe(200);
    expect((await call('PUT', `rooms/${room}/state/x/a%2Fb`, { n: 1 })).status).toBe(200);
    expect((await call('GET', `rooms/${room}/state/m.room.name/`)).body).toEqual({ name: 'Tea' });
    expect((await call('GET', `rooms/${room}/state/m.room.topic`)).body).toEqual({ topic: 'Pots' });
    expect((await call('GET', `rooms/${room}/state/x/a%2Fb?format=event`)).body).toMatchObject({
      type: 'x',
      state_key: 'a/b',
      content: { n: 1 },
      room_id: decodeURIComponent(room),
      unsigned: { age: expect.any(Number) },
    });
    const state = (await call('GET', `rooms/${room}/state`)).body as unknown as JsonObject[];
    expect(state.map(({ type }) => type)).toContain('m.room.create');
    expect(state.every((event) => event.room_id === decodeURIComponent(room))).toBe(true);
    expect(errorOf(await call('GET', `rooms/${room}/state/none`))).toEqual([404, 'M_NOT_FOUND']);
    expect(errorOf(await call('GET', `rooms/${room}/state`, undefined, `${AMY}|DESK`))).toEqual([
      403,
      'M_FORBIDDEN',
    ]);
  });

  it('says what a state event replaced, and why an event was redacted', async () => {
    const room = await newRoom();
    const first = await call('PUT', `rooms/${room}/state/m.room.name`, { name: 'Tea' });
    const second = await call('PUT', `rooms/${room}/state/m.room.name`, { name: 'Coffee' });
    const id = second.body.event_id as string;
    await call('PUT', `rooms/${room}/redact/${encodeURIComponent(id)}/1`, { reason: 'no' });
    expect((await call('GET', `rooms/${room}/state/m.room.name?format=event`)).body).toMatchObject({
      event_id: id,
      content: {},
      unsigned: {
        replaces_state: first.body.event_id,
        prev_content: { name: 'Tea' },
        redacted_because: { type: 'm.room.redaction', content: { reason: 'no', redacts: id } },
      },
    });
  });

  it('lists members by membership, at a point, and joined ones with their profiles', async () => {
    a.displayNames.set(ALICE as UserId, 'Alice');
    const room = await newRoom({});
    const { position } = a.published.at(-1)!;
    await call('POST', `rooms/${room}/invite`, { user_id: AMY });
    const members = async (query: string) =>
      ((await call('GET', `rooms/${room}/members${query}`)).body.chunk as JsonObject[]).map(
        ({ state_key: key }) => key,
      );
    expect((await members('')).sort()).toEqual([ALICE, AMY]);
    expect(await members('?membership=invite')).toEqual([AMY]);
    expect(await members('?not_membership=invite')).toEqual([ALICE]);
    expect(await members(`?at=s1_${position}`)).toEqual([ALICE]);
    expect((await call('GET', `rooms/${room}/members?membership=guest`)).status).toBe(400);
    expect((await call('GET', `rooms/${room}/joined_members`)).body).toEqual({
      joined: { [ALICE]: { display_name: 'Alice' } },
    });
  });

  it('invites through a state event as well', async () => {
    const b = world.server('b.example');
    const room = await newRoom({});
    const path = `rooms/${room}/state/m.room.member/${encodeURIComponent('@bob:b.example')}`;
    expect((await call('PUT', path, { membership: 'invite' })).status).toBe(200);
    expect(await b.membership(decodeURIComponent(room) as never, b.user('bob'))).toBe('invite');
  });
});

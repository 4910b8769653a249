import { beforeEach, describe, expect, it } from 'vitest';
import { seededRandom } from '../../src/base/random.ts';
import { VirtualClock } from '../../src/base/virtual_clock.ts';
import { ownKeyDocument } from '../../src/federation/key_document.ts';
import { KeyRing } from '../../src/federation/key_ring.ts';
import { pduJson } from '../../src/federation/pdu_json.ts';
import { RemoteEvents } from '../../src/federation/remote_events.ts';
import { FederationRemoteRooms } from '../../src/federation/remote_rooms.ts';
import { type FederationCall, FederationError } from '../../src/federation/transport.ts';
import type { TransportKind } from '../../src/federation/transports.ts';
import { forbidden, MatrixError } from '../../src/matrix/error.ts';
import type { ServerName, UserId } from '../../src/matrix/ids.ts';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import type { Event } from '../../src/matrix/pdu.ts';
import { addSignature } from '../../src/matrix/signing.ts';
import { temporaryDatabase } from '../storage/temporary_database.ts';
import { A, B, C, EventFactory, recordingLog, ScriptedTransport, testKey, V12 } from './fixtures.ts';

const [keyA, keyB, keyC] = [testKey(1), testKey(2), testKey(3)];
const bob = '@bob:b.example' as UserId;
const alice = '@alice:a.example' as UserId;

let clock: VirtualClock;
let transport: ScriptedTransport;
let rooms: FederationRemoteRooms;
let factory: EventFactory;
let member: Event;
let topic: Event;
/** What the resident server answers, by a part of the path. */
let answers: Record<string, (call: FederationCall, server: ServerName) => JsonValue>;

let kind: TransportKind;

beforeEach(() => {
  kind = 'https';
  clock = new VirtualClock();
  factory = new EventFactory(new Map([[B, keyB]]), bob, clock.wall());
  member = factory.event(bob, 'm.room.member', {
    stateKey: bob,
    content: { membership: 'join' },
    prev: [factory.create],
  });
  topic = factory.event(bob, 'm.room.topic', {
    stateKey: '',
    content: { topic: 'x' },
    prev: [member],
    auth: [member],
  });
  transport = new ScriptedTransport((server, call) => {
    const answer = Object.entries(answers).find(([part]) => call.path.includes(part));
    if (answer === undefined) throw new Error(`no answer for ${call.path}`);
    return answer[1](call, server);
  });
  answers = {
    key: (_, server) => ownKeyDocument(server, server === B ? keyB : keyC, clock.wall()),
    make_join: () => ({ room_version: '12', event: template() }),
    send_join: () => ({
      state: [pduJson(factory.create.pdu), pduJson(member.pdu), pduJson(topic.pdu)],
      auth_chain: [pduJson(factory.create.pdu)],
    }),
    make_leave: () => ({ room_version: '12', event: { ...template(), content: { membership: 'leave' } } }),
    send_leave: () => ({}),
  };
  const log = recordingLog();
  const database = temporaryDatabase();
  const keys = new KeyRing({
    serverName: A,
    signingKey: keyA,
    database,
    clock,
    log,
    transports: { kindFor: () => 'https', request: (server, call) => transport.request(server, call) },
  });
  const remote = new RemoteEvents({ transport, checker: keys });
  rooms = new FederationRemoteRooms({
    serverName: A,
    signingKey: keyA,
    clock,
    random: seededRandom(1),
    database,
    transport: { kindFor: () => kind, request: (server, call) => transport.request(server, call) },
    checker: keys,
    remote,
    log,
  });
});

const AUTHORISER = 'join_authorised_via_users_server';

const template = (): JsonObject => ({
  type: 'm.room.member',
  room_id: factory.create.room,
  sender: alice,
  state_key: alice,
  content: { membership: 'join', displayname: 'Mallory', reason: 'x', [AUTHORISER]: bob },
  origin_server_ts: 5,
  depth: 4,
  prev_events: [topic.id],
  auth_events: [member.id],
});

const join = (via: readonly ServerName[] = [B]) =>
  rooms.join({ room: factory.create.room, user: alice, via, content: { displayname: 'Alice' } });
const paths = () =>
  transport.calls
    .map(({ destination, call }) => `${destination} ${call.path.split('/')[4]}`)
    .filter((one) => !one.includes('server'));

describe('joining through another server', () => {
  it('makes, signs and sends the join, and answers the room', async () => {
    const joined = await join();
    expect(joined).toMatchObject({ roomVersion: '12', via: B });
    expect(joined.state.map(({ id }) => id)).toEqual([factory.create.id, member.id, topic.id]);
    expect(joined.authChain.map(({ id }) => id)).toEqual([factory.create.id]);
    expect(joined.join.pdu).toMatchObject({
      sender: alice,
      state_key: alice,
      content: { membership: 'join', displayname: 'Alice', [AUTHORISER]: bob },
      origin_server_ts: clock.wall(),
      depth: 4,
      prev_events: [topic.id],
      signatures: { [A]: expect.anything() },
    });
    expect(Object.keys(joined.join.pdu.content).toSorted()).toEqual([
      'displayname',
      AUTHORISER,
      'membership',
    ]);
    const sent = transport.calls.find(({ call }) => call.path.includes('send_join'))!.call;
    expect(sent.path).toBe(
      `/_matrix/federation/v2/send_join/${encodeURIComponent(factory.create.room)}/${encodeURIComponent(joined.join.id)}`,
    );
    expect(sent.body).toEqual(pduJson(joined.join.pdu));
    expect(sent.query).toBeUndefined();
    expect(transport.calls[0]!.call).toMatchObject({ query: 'ver=12' });
  });

  it('lets a server behind a pipe leave out of the auth chain what is in the state', async () => {
    kind = 'pipe';
    answers.send_join = () => ({
      state: [pduJson(factory.create.pdu), pduJson(member.pdu), pduJson(topic.pdu)],
      auth_chain: [],
    });
    expect(await join()).toMatchObject({ authChain: [], via: B });
    expect(transport.calls.find(({ call }) => call.path.includes('send_join'))!.call.query).toBe(
      'omit_members=true',
    );
  });

  it('drops events with bad signatures, of other rooms, and nonsense', async () => {
    const forged = { ...pduJson(topic.pdu), depth: 77 };
    const foreign = pduJson(new EventFactory(new Map([[B, keyB]]), bob, 7).create.pdu);
    answers.send_join = () => ({
      state: [pduJson(factory.create.pdu), forged, foreign, 'nonsense', pduJson(member.pdu)],
      auth_chain: [],
    });
    expect((await join()).state.map(({ id }) => id)).toEqual([factory.create.id, member.id]);
  });

  it('uses the copy that the resident server has signed, where it is the same event', async () => {
    answers.send_join = ({ body }) => {
      const ours = { id: '$x', room: factory.create.room, pdu: body } as unknown as Event;
      return { state: [], auth_chain: [], event: pduJson(addSignature(ours, V12, B, keyB).pdu) };
    };
    expect(Object.keys((await join()).join.pdu.signatures)).toEqual([A, B]);
    answers.send_join = () => ({ state: [], auth_chain: [], event: pduJson(topic.pdu) });
    expect(Object.keys((await join()).join.pdu.signatures)).toEqual([A]);
  });

  it('does it once for those who ask at the same time', async () => {
    const all = await Promise.all([join(), join(), join()]);
    expect(paths()).toEqual([`${B} make_join`, `${B} send_join`]);
    expect(new Set(all).size).toBe(1);
    expect(rooms.joining(factory.create.room)).toBeUndefined();
  });

  it('tells that it is under way', async () => {
    const running = join();
    expect(rooms.joining(factory.create.room)).toBeDefined();
    await running;
    expect(rooms.joining(factory.create.room)).toBeUndefined();
  });

  it('tries one server after another, each once and not itself, and tells what the last one said', async () => {
    answers.make_join = (_, server) => {
      if (server === B) throw new FederationError('timeout', 'slow');
      throw forbidden('You are not invited.');
    };
    await expect(join([A, B, B, C])).rejects.toMatchObject({
      status: 403,
      errcode: 'M_FORBIDDEN',
      message: 'You are not invited.',
    });
    expect(paths()).toEqual([`${B} make_join`, `${C} make_join`]);
    await expect(join([C, B])).rejects.toMatchObject({ status: 504, errcode: 'M_UNKNOWN' });
    await expect(join([])).rejects.toMatchObject({ status: 502, errcode: 'M_UNKNOWN' });
  });

  it.each([
    ['M_UNKNOWN_TOKEN', 401],
    ['M_UNAUTHORIZED', 401],
    ['M_INVALID_PARAM', 400],
    ['M_UNRECOGNIZED', 404],
    ['M_UNKNOWN', 500],
  ])('does not pass on what would mislead its client: %s', async (errcode, status) => {
    answers.make_join = () => {
      throw new MatrixError(status, errcode, 'no');
    };
    await expect(join()).rejects.toMatchObject({ status: 502, errcode: 'M_UNKNOWN' });
  });

  it.each<[string, () => JsonValue]>([
    ['of another type', () => ({ ...template(), type: 'm.room.create' })],
    ['of another sender', () => ({ ...template(), sender: '@eve:a.example' })],
    ['of another user', () => ({ ...template(), state_key: '@eve:a.example' })],
    ['of another room', () => ({ ...template(), room_id: '!other' })],
    ['of another membership', () => ({ ...template(), content: { membership: 'leave' } })],
    [
      'with an authoriser that is no user',
      () => ({ ...template(), content: { membership: 'join', [AUTHORISER]: 0.5 } }),
    ],
    [
      'with too many previous events',
      () => ({ ...template(), prev_events: Array.from({ length: 21 }, (_, i) => `$${i}`) }),
    ],
    ['without previous events', () => ({ ...template(), prev_events: undefined as unknown as JsonValue })],
    ['without a depth', () => ({ ...template(), depth: 'deep' })],
    ['that is too large', () => ({ ...template(), prev_events: [`$${'x'.repeat(70_000)}`] })],
    ['that is none', () => 'nonsense'],
  ])('signs no template %s', async (_, event) => {
    answers.make_join = () => ({ room_version: '12', event: event() });
    await expect(join()).rejects.toMatchObject({ status: 502 });
    expect(paths()).toEqual([`${B} make_join`]);
  });

  it('joins no room of a version that it does not know, and takes no part of a state for all of it', async () => {
    answers.make_join = () => ({ room_version: 'x', event: template() });
    await expect(join()).rejects.toMatchObject({ status: 502 });
    answers.make_join = () => ({ room_version: '12', event: template() });
    answers.send_join = () => ({ members_omitted: true, state: [], auth_chain: [] });
    await expect(join()).rejects.toMatchObject({ status: 502 });
  });
});

it('leaves through another server', async () => {
  const leave = await rooms.leave({ room: factory.create.room, user: alice, via: [B] });
  expect(leave.pdu).toMatchObject({
    content: { membership: 'leave' },
    signatures: { [A]: expect.anything() },
  });
  expect(paths()).toEqual([`${B} make_leave`, `${B} send_leave`]);
});

describe('inviting a user of another server', () => {
  const invite = () =>
    new EventFactory(new Map([[A, keyA]]), alice, clock.wall()).event(alice, 'm.room.member', {
      stateKey: bob,
      content: { membership: 'invite' },
    });

  it('brings their signature, and nothing else of what they answer', async () => {
    const event = invite();
    answers.invite = ({ body }) => {
      const signed = addSignature(
        { ...event, pdu: (body as JsonObject).event as unknown as Event['pdu'] },
        V12,
        B,
        keyB,
      );
      return { event: { ...pduJson(signed.pdu), content: { membership: 'ban' }, unsigned: { a: 1 } } };
    };
    const pdu = await rooms.invite({
      event,
      roomVersion: '12',
      strippedState: [{ type: 'x' }],
      destination: B,
    });
    expect(pdu).toEqual(addSignature(event, V12, B, keyB).pdu);
    expect(transport.calls[0]!.call.body).toEqual({
      room_version: '12',
      event: pduJson(event.pdu),
      invite_room_state: [{ type: 'x' }],
    });
  });

  it.each<[string, (event: Event) => JsonValue]>([
    ['no signature', (event) => ({ event: pduJson(event.pdu) })],
    ['a wrong one', (event) => ({ event: pduJson(addSignature(event, V12, B, keyC).pdu) })],
    ['nothing', () => ({})],
  ])('fails with %s', async (_, answer) => {
    const event = invite();
    answers.invite = () => answer(event);
    await expect(
      rooms.invite({ event, roomVersion: '12', strippedState: [], destination: B }),
    ).rejects.toMatchObject({ status: 502 });
  });
});

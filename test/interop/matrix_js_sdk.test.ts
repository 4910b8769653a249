import {
  createClient,
  EventType,
  type MatrixClient,
  Method,
  MsgType,
  Preset,
  ReceiptType,
  RelationType,
  type Room,
  Visibility,
} from 'matrix-js-sdk';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { bodies, Complaints, eventually, follow, newClient, timeline } from './js_sdk_client.ts';
import { type Server, TwoServers, type Way } from './two_servers.ts';

/*
 *   alice, carol ──HTTP── alpha.test ══ pipe over UDP, or HTTPS ══ bravo.test ──HTTP── bob
 *
 * The client library that Element is built on. One after another: each case goes on with what the one before has left.
 */

/** More than a timeline of /sync has. */
const MISSED = 27;
const PAGE = 10;

describe.each<Way>(['pipe', 'https'])('matrix-js-sdk on two servers that federate over %s', (way) => {
  let servers: TwoServers;
  let complaints: Complaints;
  let alice: MatrixClient;
  let bob: MatrixClient;
  let carol: MatrixClient;
  let room: string;
  /** What has been said in the room. */
  const said: string[] = [];

  const id = (client: MatrixClient): string => client.getUserId()!;
  const roomOf = (client: MatrixClient): Room => client.getRoom(room)!;
  const membership = (client: MatrixClient, who: MatrixClient, where = room): string | undefined =>
    client.getRoom(where)?.getMember(id(who))?.membership;
  const say = async (who: MatrixClient, body: string): Promise<string> => {
    const { event_id: event } = await who.sendTextMessage(room, body);
    said.push(body);
    return event;
  };
  /** Waits until the client has what was said last, and nothing else than what was said. */
  const hears = (client: MatrixClient): Promise<void> =>
    eventually(client, `"${said.at(-1)}" is there behind what was said before`, () => {
      const there = bodies(client, room);
      return there.length > 0 && JSON.stringify(there) === JSON.stringify(said.slice(-there.length));
    });
  const comesIn = async (who: MatrixClient, where = room): Promise<void> => {
    await eventually(who, 'they are invited', () => who.getRoom(where)?.getMyMembership() === 'invite');
    await who.joinRoom(where);
    await eventually(who, 'they are in', () => who.getRoom(where)?.getMyMembership() === 'join');
    await eventually(alice, 'who joins is in', () => membership(alice, who, where) === 'join');
  };
  const failure = (request: Promise<unknown>) =>
    request.then(
      () => undefined,
      (error: { httpStatus?: number; errcode?: string }) => error,
    );

  beforeAll(async () => {
    complaints = new Complaints();
    servers = await TwoServers.open(way);
    alice = await newClient(servers.url('alpha.test'), 'alice', complaints);
    carol = await newClient(servers.url('alpha.test'), 'carol', complaints);
    bob = await newClient(servers.url('bravo.test'), 'bob', complaints);
    await Promise.all([alice, bob, carol].map((client) => follow(client, PAGE)));
  });

  afterEach(() => {
    expect(complaints.take()).toEqual([]);
  });

  afterAll(async () => {
    for (const client of [alice, bob, carol]) client?.stopClient();
    await servers?.close();
  });

  it('invites, joins and talks', async () => {
    ({ room_id: room } = await alice.createRoom({
      ...{ preset: Preset.PrivateChat, name: 'The ravine', topic: 'What is down there' },
      invite: [id(bob), id(carol)],
    }));
    await comesIn(bob);
    await comesIn(carol);
    expect(roomOf(bob).name).toBe('The ravine');
    expect(roomOf(bob).getJoinRule()).toBe('invite');
    await say(alice, 'Hello from alpha');
    await hears(bob);
    await say(bob, 'Hello from bravo');
    await hears(alice);
  });

  it('edits, reacts, answers in a thread and takes back', async () => {
    const wrong = await say(alice, 'Helo');
    const edited = { msgtype: MsgType.Text as const, body: 'Hello' };
    await alice.sendEvent(room, EventType.RoomMessage, {
      ...{ msgtype: MsgType.Text, body: '* Hello', 'm.new_content': edited },
      'm.relates_to': { rel_type: RelationType.Replace, event_id: wrong },
    });
    said[said.length - 1] = 'Hello';
    await eventually(bob, 'the edit is there', () => {
      return roomOf(bob).findEventById(wrong)?.getContent().body === 'Hello';
    });
    const { event_id: reaction } = await bob.sendEvent(room, EventType.Reaction, {
      'm.relates_to': { rel_type: RelationType.Annotation, event_id: wrong, key: '👍' },
    });
    const reactions = (): string[] =>
      roomOf(alice)
        .relations.getChildEventsForEvent(wrong, RelationType.Annotation, EventType.Reaction)
        ?.getSortedAnnotationsByKey()
        ?.filter(([, events]) => events.size > 0)
        .map(([key]) => key) ?? [];
    await eventually(alice, 'the reaction is there', () => reactions()[0] === '👍');
    await bob.redactEvent(room, reaction);
    await eventually(alice, 'the reaction is gone', () => reactions().length === 0);

    const regretted = await say(bob, 'too much');
    await hears(alice);
    await bob.redactEvent(room, regretted, undefined, { reason: 'said too much' });
    await eventually(alice, 'it is taken back', () => roomOf(alice).findEventById(regretted)!.isRedacted());
    said.pop();
    expect(roomOf(alice).findEventById(regretted)!.getContent()).toEqual({});
  });

  it('knows each other by the names that they have now', async () => {
    await bob.setDisplayName('Robert');
    await eventually(alice, 'bob has a name', () => roomOf(alice).getMember(id(bob))?.name === 'Robert');
    expect(await alice.getProfileInfo(id(bob))).toMatchObject({ displayname: 'Robert' });
    expect(await failure(alice.getProfileInfo('@nobody:bravo.test'))).toMatchObject({
      ...{ httpStatus: 404, errcode: 'M_NOT_FOUND' },
    });
  });

  it('keeps tags and account data for its other devices', async () => {
    await bob.setRoomTag(room, 'm.favourite', { order: 0.25 });
    await eventually(bob, 'it is tagged', () => roomOf(bob).tags['m.favourite']?.order === 0.25);
    await bob.setAccountData(EventType.Direct, { [id(alice)]: [room] });
    await bob.setRoomAccountData(room, 'test.ravine' as EventType.FullyRead, { event_id: 'b' });
    await eventually(bob, 'the data of the room are there', () => {
      return roomOf(bob).getAccountData('test.ravine')?.getContent().event_id === 'b';
    });
    await bob.deleteRoomTag(room, 'm.favourite');
    await eventually(bob, 'the tag is gone', () => Object.keys(roomOf(bob).tags).length === 0);
    expect(await bob.getAccountDataFromServer(EventType.Direct)).toEqual({ [id(alice)]: [room] });
  });

  it('leaves out the members of whom nothing is heard, and loads them when it is asked', async () => {
    bob.stopClient();
    // The same device, and nothing is known yet.
    bob = createClient({
      ...{ baseUrl: bob.baseUrl, logger: complaints.logger, userId: id(bob) },
      ...{ accessToken: bob.getAccessToken()!, deviceId: bob.getDeviceId()! },
    });
    await follow(bob, 1);
    expect(membership(bob, carol)).toBeUndefined();
    await roomOf(bob).loadMembersIfNeeded();
    expect(
      roomOf(bob)
        .getMembersWithMembership('join')
        .map(({ userId }) => userId)
        .sort(),
    ).toEqual([id(alice), id(bob), id(carol)].sort());
  });

  it('tells who types, who is there and what was read', async () => {
    const event = await say(alice, 'Do you read me?');
    await hears(bob);
    await bob.sendTyping(room, true, 20_000);
    await eventually(alice, 'bob types', () => roomOf(alice).getMember(id(bob))!.typing);
    await bob.sendTyping(room, false, 0);
    await eventually(alice, 'bob types no more', () => !roomOf(alice).getMember(id(bob))!.typing);
    await bob.setPresence({ presence: 'online', status_msg: 'down there' });
    await eventually(alice, 'bob is there', () => alice.getUser(id(bob))?.presenceStatusMsg === 'down there');

    const read = (who: MatrixClient): string | null => roomOf(who).getEventReadUpTo(id(bob), true);
    await bob.sendReadReceipt(roomOf(bob).findEventById(event)!, ReceiptType.Read, true);
    await eventually(alice, 'bob has read', () => read(alice) === event);
    const quietly = await say(alice, 'And this?');
    await hears(bob);
    await bob.sendReadReceipt(roomOf(bob).findEventById(quietly)!, ReceiptType.ReadPrivate, true);
    await eventually(bob, 'his other devices know', () => read(bob) === quietly);
    await bob.setRoomReadMarkers(room, quietly);
    await eventually(bob, 'his marker is there', () => {
      return roomOf(bob).getAccountData('m.fully_read')?.getContent().event_id === quietly;
    });
    const path = `/rooms/${encodeURIComponent(room)}/receipt/m.read/${encodeURIComponent(event)}`;
    await bob.http.authedRequest(Method.Post, path, undefined, { thread_id: 'main' });
    // What comes behind the private receipt is there, and the private one is not.
    await say(bob, 'I read you');
    await hears(alice);
    expect(read(alice)).toBe(event);
  });

  it('fills the gap behind those who were away, without loss or repetition', async () => {
    await hears(alice);
    alice.stopClient();
    for (let i = 0; i < MISSED; i++) await say(bob, `missed ${i}`);
    await follow(alice, PAGE);
    await hears(alice);
    const before = bodies(alice, room).length;
    expect(before).toBeLessThan(MISSED);
    while (
      roomOf(alice)
        .getLiveTimeline()
        .getPaginationToken('b' as never) !== null
    )
      await alice.scrollback(roomOf(alice), PAGE);
    const ids = timeline(alice, room).map((event) => event.getId());
    expect(new Set(ids).size).toBe(ids.length);
    expect(bodies(alice, room)).toEqual(said);
  });

  it.each<Server>(['bravo.test', 'alpha.test'])('goes on when %s stops and starts again', async (name) => {
    const [away, other] = name === 'bravo.test' ? [bob, alice] : [alice, bob];
    await servers.stop(name);
    await say(other, `while ${name} was away`);
    await say(other, `while ${name} was still away`);
    await servers.start(name);
    away.retryImmediately();
    if (name === 'alpha.test') carol.retryImmediately();
    await hears(away);
    await say(away, 'I am back');
    await hears(other);
    // That nobody was there was a reason to complain.
    for (const one of complaints.take()) expect(one).toMatch(/\/sync error|fetch failed/);
  });

  it('kicks, bans and lets in again', async () => {
    await alice.kick(room, id(bob), 'for a moment');
    await eventually(bob, 'he is out', () => roomOf(bob).getMyMembership() === 'leave');
    expect(await failure(bob.sendTextMessage(room, 'still here?'))).toMatchObject({ errcode: 'M_FORBIDDEN' });
    complaints.take();
    await alice.invite(room, id(bob), 'come back');
    await comesIn(bob);
    await alice.ban(room, id(bob));
    await eventually(bob, 'he is banned', () => roomOf(bob).getMyMembership() === 'ban');
    expect(await failure(bob.joinRoom(room, { viaServers: ['alpha.test'] }))).toMatchObject({
      errcode: 'M_FORBIDDEN',
    });
    await alice.unban(room, id(bob));
    await alice.invite(room, id(bob));
    await comesIn(bob);
    await say(bob, 'here again');
    await hears(alice);
  });

  it('moves to a new version of the room', async () => {
    const { replacement_room: next } = await alice.upgradeRoom(room, '12');
    const successor = () =>
      roomOf(bob).currentState.getStateEvents('m.room.tombstone', '')?.getContent().replacement_room;
    await eventually(bob, 'the old room points to the new one', () => successor() === next);
    await alice.invite(next, id(bob));
    await comesIn(bob, next);
    expect(bob.getRoom(next)!.getVersion()).toBe('12');
    expect(bob.getRoom(next)!.name).toBe('The ravine');
    expect(bob.getRoom(next)!.findPredecessor()?.roomId).toBe(room);
    room = next;
    said.length = 0;
    await say(bob, 'Hello from the new room');
    await hears(alice);
    await say(alice, 'It is the same ravine');
    await hears(bob);
  });

  it('finds a public room by its alias, and leaves and forgets it', async () => {
    ({ room_id: room } = await alice.createRoom({
      ...{ preset: Preset.PublicChat, visibility: Visibility.Public, room_alias_name: 'club' },
      name: 'The club',
    }));
    await bob.joinRoom('#club:alpha.test');
    await eventually(bob, 'he is in', () => bob.getRoom(room)?.getMyMembership() === 'join');
    expect(roomOf(bob).getCanonicalAlias()).toBe('#club:alpha.test');
    said.length = 0;
    await say(bob, 'Hello, club');
    await hears(alice);
    await bob.leave(room);
    await eventually(alice, 'bob has left', () => membership(alice, bob) === 'leave');
    await bob.forget(room);
    expect(bob.getRoom(room)).toBeNull();
  });

  it('makes who is invited to a trusted room as powerful as its maker', async () => {
    const { room_id: trusted } = await alice.createRoom({
      ...{ preset: Preset.TrustedPrivateChat, is_direct: true, invite: [id(bob)] },
    });
    await comesIn(bob, trusted);
    const levels = [alice, bob].map((who) => bob.getRoom(trusted)!.getMember(id(who))!.powerLevel);
    expect(levels[0]).toBe(levels[1]);
    await bob.setRoomName(trusted, 'Ours');
    await eventually(alice, 'it has the name', () => alice.getRoom(trusted)!.name === 'Ours');
  });

  it(`has federated over ${way} only`, () => {
    for (const name of ['alpha.test', 'bravo.test'] as const) {
      const { [way]: wanted, [way === 'pipe' ? 'https' : 'pipe']: other } = servers.asked(name);
      expect(wanted).toBeGreaterThan(0);
      expect(other).toBe(0);
    }
  });
});

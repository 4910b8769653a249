import { beforeEach, describe, expect, it } from 'vitest';
import { pduJson } from '../../src/federation/pdu_json.ts';
import { FederationError } from '../../src/federation/transport.ts';
import type { RoomId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { A, B, C, DAY, HOUR, testKey } from './fixtures.ts';
import { Network, type NetworkTime, openSide, type Side } from './sides.ts';

let time: NetworkTime;
let network: Network;
let a: Side;
let b: Side;

beforeEach(async () => {
  network = new Network();
  time = network.time;
  a = await openSide(network, A, testKey(1), 1);
  b = await openSide(network, B, testKey(2), 2);
});

const FORMS: [string, boolean][] = [
  ['in JSON', false],
  ['in short forms', true],
];

const within = <T>(outcome: Promise<T>): Promise<T> => time.until(outcome, HOUR);

/** A room of alice on A that bob on B has been invited to and has joined. */
async function sharedRoom(): Promise<RoomId> {
  const room = await within(a.rooms.create(a.user('alice'), { preset: 'private_chat', name: 'Ravine' }));
  await within(a.rooms.memberships.invite(a.user('alice'), room, b.user('bob')));
  await within(b.rooms.memberships.join(b.user('bob'), room, {}));
  await time.pass(1_000);
  return room;
}

describe.each([
  ['with requests that a door has proved', false],
  ['with signed requests', true],
])('two servers, %s', (_, signed) => {
  beforeEach(() => {
    network.signed = signed;
  });

  it('invite, join, and talk both ways', async () => {
    const room = await sharedRoom();
    await within(a.say(a.user('alice'), room, 'hello bob'));
    await time.pass(1_000);
    await within(b.say(b.user('bob'), room, 'hello alice'));
    await time.pass(1_000);
    expect(await a.messages()).toEqual(['hello bob', 'hello alice']);
    expect(await b.messages()).toEqual(['hello bob', 'hello alice']);
    expect(await b.state()).toEqual(await a.state());
    expect((await a.state()).map(({ type }) => type)).toContain('m.room.name');
    expect(network.count(A, B, '/v2/invite/')).toBe(1);
    expect(network.count(B, A, '/v1/make_join/')).toBe(1);
    expect(network.count(B, A, '/v2/send_join/')).toBe(1);
    // One key request each way is enough.
    expect(network.calls.filter(({ path }) => path === '/_matrix/key/v2/server')).toHaveLength(2);
  });
});

describe.each(FORMS)('two servers, %s', (_, formed) => {
  beforeEach(() => {
    network.formed = formed;
  });

  it('deliver what was said while they could not reach each other, in order, and nothing twice', async () => {
    const room = await sharedRoom();
    network.passes = () => false;
    for (let i = 0; i < 70; i++) await within(a.say(a.user('alice'), room, `a${i}`));
    for (let i = 0; i < 3; i++) await within(b.say(b.user('bob'), room, `b${i}`));
    await time.pass(5 * HOUR);
    expect(await b.messages()).toEqual(['b0', 'b1', 'b2']);
    network.passes = () => true;
    await time.pass(2 * HOUR);
    const fromA = Array.from({ length: 70 }, (_, i) => `a${i}`);
    for (const side of [a, b]) {
      const messages = await side.messages();
      expect(messages.filter((text) => text.startsWith('a'))).toEqual(fromA);
      expect(messages.filter((text) => text.startsWith('b'))).toEqual(['b0', 'b1', 'b2']);
      expect(messages).toHaveLength(73);
    }
    expect(await b.state()).toEqual(await a.state());
    expect(network.count(A, B, 'get_missing_events') + network.count(B, A, 'get_missing_events')).toBe(0);
  });

  it('wake each other: the first to speak after an outage is answered at once', async () => {
    const room = await sharedRoom();
    network.passes = () => false;
    await within(a.say(a.user('alice'), room, 'are you there?'));
    await time.pass(10 * HOUR);
    network.passes = () => true;
    await within(b.say(b.user('bob'), room, 'yes'));
    await time.pass(31_000);
    expect(await b.messages()).toContain('are you there?');
  });

  it('lose nothing that is said between a join and its answer, and hold up nothing else for it', async () => {
    const other = await sharedRoom();
    const room = await within(a.rooms.create(a.user('alice'), { preset: 'public_chat' }));
    network.beforeAnswer = async (call) => {
      if (!call.path.includes('send_join')) return;
      network.beforeAnswer = async () => undefined;
      await a.say(a.user('alice'), room, 'early');
      await a.say(a.user('alice'), other, 'elsewhere');
      await expect.poll(() => b.messages()).toEqual(['elsewhere']);
    };
    await within(b.rooms.memberships.join(b.user('bob'), room, { via: [A] }));
    await time.pass(1_000);
    expect(b.receiver.counters.held).toBe(1);
    expect(await b.messages()).toEqual(['elsewhere', 'early']);
    expect(network.count(B, A, 'get_missing_events')).toBe(0);
  });

  it('lose nothing that is said after a join whose answer was lost, until the user joins again', async () => {
    const room = await within(a.rooms.create(a.user('alice'), { preset: 'public_chat' }));
    const join = () => within(b.rooms.memberships.join(b.user('bob'), room, { via: [A] }));
    network.beforeAnswer = async (call) => {
      if (call.path.includes('send_join')) throw new FederationError('timeout', 'the answer is lost');
    };
    await expect(join()).rejects.toMatchObject({ status: 504 });
    network.beforeAnswer = async () => undefined;
    await within(a.say(a.user('alice'), room, 'welcome, bob'));
    await time.pass(HOUR);
    expect(await b.messages()).toEqual([]);
    await join();
    await time.pass(2 * HOUR);
    expect(await b.messages()).toEqual(['welcome, bob']);
    expect(await b.state()).toEqual(await a.state());
  });

  it('fill a gap by get_missing_events', async () => {
    const room = await sharedRoom();
    await lose(a, async () => {
      for (let i = 0; i < 5; i++) await within(a.say(a.user('alice'), room, `lost ${i}`));
    });
    await within(a.say(a.user('alice'), room, 'the end'));
    await time.pass(1_000);
    expect(await b.messages()).toEqual(['lost 0', 'lost 1', 'lost 2', 'lost 3', 'lost 4', 'the end']);
    expect(network.count(B, A, 'get_missing_events')).toBe(1);
    expect(network.count(B, A, 'state_ids')).toBe(0);
  });

  it('bring an event whose past could not be asked for during a day, without another one being sent', async () => {
    const room = await sharedRoom();
    await lose(a, async () => void (await within(a.say(a.user('alice'), room, 'lost'))));
    // A reaches B, and B does not reach A.
    network.passes = (from) => from === A;
    await within(a.say(a.user('alice'), room, 'the end'));
    await time.pass(DAY);
    expect(await b.messages()).toEqual([]);
    expect(await a.database.all('SELECT * FROM outbox')).toEqual([]);
    network.passes = () => true;
    await time.pass(HOUR);
    expect(await b.messages()).toEqual(['lost', 'the end']);
    expect(await b.state()).toEqual(await a.state());
  });

  it('bridge a gap that is too long by the state, and agree about it', async () => {
    const room = await sharedRoom();
    await lose(a, async () => {
      await within(a.rooms.setState(room, a.user('alice'), 'm.room.topic', '', { topic: 'lost' }));
      for (let i = 0; i < 200; i++) await within(a.say(a.user('alice'), room, `lost ${i}`));
    });
    await within(a.say(a.user('alice'), room, 'the end'));
    await time.pass(1_000);
    expect((await b.messages()).at(-1)).toBe('the end');
    expect(await b.messages()).toHaveLength(151);
    expect(network.count(B, A, 'state_ids')).toBe(1);
    expect(await b.state()).toEqual(await a.state());
    await within(b.say(b.user('bob'), room, 'and on'));
    await time.pass(1_000);
    expect((await a.messages()).at(-1)).toBe('and on');
  });

  it('reject an invite, and take one back', async () => {
    const room = await within(a.rooms.create(a.user('alice'), { preset: 'private_chat' }));
    await within(a.rooms.memberships.invite(a.user('alice'), room, b.user('bob')));
    await within(b.rooms.memberships.leave(b.user('bob'), room));
    expect(network.count(B, A, '/v2/send_leave/')).toBe(1);
    const member = async () =>
      (await a.rooms.queries.currentEvent(room, 'm.room.member', b.user('bob')))?.pdu.content.membership;
    expect(await member()).toBe('leave');

    await within(a.rooms.memberships.invite(a.user('alice'), room, b.user('bob')));
    await within(a.rooms.memberships.kick(a.user('alice'), room, b.user('bob')));
    await time.pass(1_000);
    const [row] = await b.database.all<{ membership: string }>(
      "SELECT membership FROM memberships WHERE user_id = '@bob:b.example'",
    );
    expect(row).toEqual({ membership: 'leave' });
  });

  it('refuse what the room does not allow, with the reason of the resident server', async () => {
    const room = await within(a.rooms.create(a.user('alice'), { preset: 'private_chat' }));
    await expect(within(b.rooms.memberships.join(b.user('bob'), room, { via: [A] }))).rejects.toMatchObject({
      status: 403,
      errcode: 'M_FORBIDDEN',
    });
    network.passes = () => false;
    await expect(within(b.rooms.memberships.join(b.user('bob'), room, { via: [A] }))).rejects.toMatchObject({
      status: 502,
      errcode: 'M_UNKNOWN',
    });
  });

  it('join a public room through the second server named where the first is away', async () => {
    const room = await within(a.rooms.create(a.user('alice'), { preset: 'public_chat' }));
    await Promise.all([
      within(b.rooms.memberships.join(b.user('bob'), room, { via: [C, A] })),
      within(b.rooms.memberships.join(b.user('bob'), room, { via: [C, A] })),
    ]);
    expect(network.count(B, A, '/v2/send_join/')).toBe(1);
    expect(await b.rooms.isServerInRoom(room, B)).toBe(true);
  });

  it('keep up with three: what the third says arrives at both, and all agree on the state', async () => {
    const c = await openSide(network, C, testKey(3), 3);
    const room = await sharedRoom();
    await within(b.rooms.memberships.invite(b.user('bob'), room, c.user('carol')));
    await time.pass(1_000);
    await within(c.rooms.memberships.join(c.user('carol'), room, {}));
    await time.pass(1_000);
    await within(c.say(c.user('carol'), room, 'hello all'));
    await within(a.say(a.user('alice'), room, 'hello carol'));
    await time.pass(1_000);
    for (const side of [a, b, c])
      expect((await side.messages()).toSorted()).toEqual(['hello all', 'hello carol']);
    expect(await b.state()).toEqual(await a.state());
    expect(await c.state()).toEqual(await a.state());
  });
});

/** Runs `task` on a server whose outbox is emptied after it: nobody will ever send what it sent. */
async function lose(side: Side, task: () => Promise<void>): Promise<void> {
  await time.until(side.sender.stop(), HOUR);
  await task();
  await side.database.transaction(async (tx) => {
    await tx.run('DELETE FROM outbox');
    await tx.run('DELETE FROM outbox_pdus');
  });
  await side.sender.start();
}

describe.each(FORMS)('the routes, %s', (_, formed) => {
  beforeEach(() => {
    network.formed = formed;
  });

  const get = (url: string) => a.app.inject({ url });
  const asB = (method: 'GET' | 'PUT' | 'POST', path: string, body?: JsonObject) =>
    b.transport.request(A, {
      method,
      path: path.split('?')[0]!,
      ...(path.includes('?') && { query: path.split('?')[1]! }),
      ...(body && { body }),
      timeoutMs: 1,
      priority: 1,
    });

  it('publish keys and a version to everybody, and the rest to servers only', async () => {
    expect((await get('/_matrix/key/v2/server')).json()).toMatchObject({ server_name: A });
    expect((await get('/_matrix/key/v2/server/ed25519:1')).json()).toMatchObject({ server_name: A });
    expect((await get('/_matrix/federation/v1/version')).json()).toEqual({
      server: { name: 'Ravine', version: '0' },
    });
    const refused = await get('/_matrix/federation/v1/event/$x');
    expect([refused.statusCode, refused.json()]).toEqual([
      401,
      expect.objectContaining({ errcode: 'M_UNAUTHORIZED' }),
    ]);
  });

  it('give events and states to servers in the room, and to no others', async () => {
    const room = await sharedRoom();
    const event = await within(a.say(a.user('alice'), room, 'x'));
    await time.pass(1_000);
    const r = encodeURIComponent(room);
    const e = encodeURIComponent(event);
    expect((await asB('GET', `/_matrix/federation/v1/event/${e}`)).body).toMatchObject({
      ...(!formed && { origin: A }),
      pdus: [{ content: { body: 'x' } }],
    });
    const ids = (await asB('GET', `/_matrix/federation/v1/state_ids/${r}?event_id=${e}`)).body as JsonObject;
    const state = (await asB('GET', `/_matrix/federation/v1/state/${r}?event_id=${e}`)).body as JsonObject;
    expect((state.pdus as unknown[]).length).toBe((ids.pdu_ids as unknown[]).length);
    expect((state.auth_chain as unknown[]).length).toBe((ids.auth_chain_ids as unknown[]).length);
    const auth = (await asB('GET', `/_matrix/federation/v1/event_auth/${r}/${e}`)).body as JsonObject;
    expect((auth.auth_chain as JsonObject[]).map(({ type }) => type)).toContain('m.room.member');
    const c = await openSide(network, C, testKey(3), 3);
    const asC = (path: string, query?: string) =>
      c.transport.request(A, { method: 'GET', path, ...(query && { query }), timeoutMs: 1, priority: 1 });
    await expect(asC(`/_matrix/federation/v1/event/${e}`)).rejects.toMatchObject({ status: 404 });
    await expect(asC(`/_matrix/federation/v1/state_ids/${r}`, `event_id=${e}`)).rejects.toMatchObject({
      status: 403,
    });
    await expect(asC(`/_matrix/federation/v1/state/${r}`, `event_id=${e}`)).rejects.toMatchObject({
      status: 403,
    });
    await expect(asC(`/_matrix/federation/v1/event_auth/${r}/${e}`)).rejects.toMatchObject({ status: 404 });
    await expect(
      c.transport.request(A, {
        method: 'POST',
        path: `/_matrix/federation/v1/get_missing_events/${r}`,
        body: { earliest_events: [], latest_events: [event] },
        timeoutMs: 1,
        priority: 1,
      }),
    ).rejects.toMatchObject({ status: 403, errcode: 'M_FORBIDDEN' });
  });

  it('tell an event of the state twice only to who does not say that once is enough', async () => {
    const room = await sharedRoom();
    const join = (await a.rooms.queries.currentEvent(room, 'm.room.member', b.user('bob')))!;
    const path = `/_matrix/federation/v2/send_join/${encodeURIComponent(room)}/${encodeURIComponent(join.id)}`;
    const answers = [];
    for (const query of ['', '?omit_members=false', '?omit_members=true']) {
      const { body } = await asB('PUT', `${path}${query}`, pduJson(join.pdu));
      const { state, auth_chain: chain } = body as { state: JsonObject[]; auth_chain: JsonObject[] };
      const told = new Set(state.map((pdu) => JSON.stringify(pdu)));
      const twice = chain.filter((pdu) => told.has(JSON.stringify(pdu)));
      answers.push({ state: state.length, chain: chain.length, twice: twice.length });
    }
    const [whole, alsoWhole, lean] = answers;
    expect(whole!.twice).toBeGreaterThan(0);
    expect(alsoWhole).toEqual(whole);
    expect(lean).toEqual({ state: whole!.state, chain: whole!.chain - whole!.twice, twice: 0 });
  });

  it('take an event whose id is left out from who has come through a pipe, and from nobody else', async () => {
    const room = await sharedRoom();
    const join = (await a.rooms.queries.currentEvent(room, 'm.room.member', b.user('bob')))!;
    const path = `/_matrix/federation/v2/send_join/${encodeURIComponent(room)}/~`;
    expect((await asB('PUT', path, pduJson(join.pdu))).status).toBe(200);
    network.signed = true;
    await expect(asB('PUT', path, pduJson(join.pdu))).rejects.toMatchObject({ errcode: 'M_INVALID_PARAM' });
  });

  it("make a join for the caller's own users only", async () => {
    const room = await within(a.rooms.create(a.user('alice'), { preset: 'public_chat' }));
    const r = encodeURIComponent(room);
    await expect(
      asB('GET', `/_matrix/federation/v1/make_join/${r}/%40x%3Ac.example?ver=12`),
    ).rejects.toMatchObject({ status: 403 });
    await expect(asB('GET', `/_matrix/federation/v1/make_join/${r}/%40x%3Ab.example`)).rejects.toMatchObject({
      errcode: 'M_INCOMPATIBLE_ROOM_VERSION',
      extra: { room_version: '12' },
    });
    await expect(
      asB('GET', '/_matrix/federation/v1/make_join/!nowhere/%40x%3Ab.example?ver=12'),
    ).rejects.toMatchObject({ status: 404 });
    await expect(
      asB('PUT', `/_matrix/federation/v2/send_join/${r}/%24x`, { type: 'm.room.message' }),
    ).rejects.toMatchObject({
      status: 400,
      errcode: 'M_INVALID_PARAM',
    });
  });

  it('refuse an invite that is not one, or comes without the create event', async () => {
    const room = await within(a.rooms.create(a.user('alice'), { preset: 'private_chat' }));
    const invite = await within(
      b.remoteRooms
        .invite({
          event: (await a.rooms.queries.currentEvent(room, 'm.room.member', a.user('alice')))!,
          roomVersion: '12',
          strippedState: [],
          destination: A,
        })
        .catch((error: unknown) => error),
    );
    expect(invite).toMatchObject({ status: 502 });
    await expect(
      asB('PUT', '/_matrix/federation/v2/invite/!x/%24x', { room_version: 'none', event: {} }),
    ).rejects.toMatchObject({
      errcode: 'M_INCOMPATIBLE_ROOM_VERSION',
    });
  });

  it('answer profiles of their own users', async () => {
    expect(
      (await asB('GET', '/_matrix/federation/v1/query/profile?user_id=%40alice%3Aa.example')).body,
    ).toEqual({ displayname: 'Somebody' });
    expect(
      (await asB('GET', '/_matrix/federation/v1/query/profile?user_id=%40alice%3Aa.example&field=avatar_url'))
        .body,
    ).toEqual({});
    await expect(
      asB('GET', '/_matrix/federation/v1/query/profile?user_id=%40nobody%3Aa.example'),
    ).rejects.toMatchObject({ status: 404 });
    await expect(
      asB('GET', '/_matrix/federation/v1/query/profile?user_id=%40x%3Ab.example'),
    ).rejects.toMatchObject({ status: 400 });
    await expect(asB('GET', '/_matrix/federation/v1/query/profile')).rejects.toMatchObject({
      errcode: 'M_MISSING_PARAM',
    });
  });
});

import { beforeEach, describe, expect, it } from 'vitest';
import { pduJson } from '../../src/federation/pdu_json.ts';
import type { EventId, RoomId } from '../../src/matrix/ids.ts';
import type { JsonObject } from '../../src/matrix/json.ts';
import { A, B, C, HOUR, testKey } from './fixtures.ts';
import { Network, openSide, type Side } from './sides.ts';

/*
 * A room of alice on A that bob on B has joined. Then alice's list denies B.
 */

let network: Network;
let a: Side;
let b: Side;
let room: RoomId;
let said: EventId;

const until = <T>(outcome: Promise<T>): Promise<T> => network.time.until(outcome, HOUR);
const encoded = encodeURIComponent;
const V1 = '/_matrix/federation/v1';
const V2 = '/_matrix/federation/v2';

const setAcl = (content: JsonObject) =>
  until(a.rooms.setState(room, a.user('alice'), 'm.room.server_acl', '', content));

beforeEach(async () => {
  network = new Network();
  a = await openSide(network, A, testKey(1), 1);
  b = await openSide(network, B, testKey(2), 2);
  room = await until(a.rooms.create(a.user('alice'), { preset: 'public_chat' }));
  await until(b.rooms.memberships.join(b.user('bob'), room, { via: [A] }));
  said = await until(a.say(a.user('alice'), room, 'hello'));
  await network.time.pass(1_000);
});

const ask = (method: 'GET' | 'PUT' | 'POST', path: string, body?: JsonObject) => {
  const [route = '', query] = path.split('?');
  const call = { method, path: route, ...(query !== undefined && { query }), ...(body && { body }) };
  return until(b.transport.request(A, { ...call, timeoutMs: 1_000, priority: 2 }));
};

const missing = { earliest_events: [], latest_events: ['$x'] };
interface Request {
  readonly name: string;
  readonly method?: 'PUT' | 'POST';
  readonly path: (room: string, user: string) => string;
  readonly body?: JsonObject;
}
const REQUESTS: readonly Request[] = [
  { name: 'make_join', path: (r, u) => `${V1}/make_join/${r}/${u}?ver=12` },
  { name: 'make_leave', path: (r, u) => `${V1}/make_leave/${r}/${u}` },
  { name: 'make_knock', path: (r, u) => `${V1}/make_knock/${r}/${u}?ver=12` },
  { name: 'send_join', method: 'PUT', path: (r) => `${V2}/send_join/${r}/$x`, body: {} },
  { name: 'send_leave', method: 'PUT', path: (r) => `${V2}/send_leave/${r}/$x`, body: {} },
  { name: 'send_knock', method: 'PUT', path: (r) => `${V1}/send_knock/${r}/$x`, body: {} },
  {
    name: 'invite',
    method: 'PUT',
    path: (r) => `${V2}/invite/${r}/$x`,
    body: { room_version: '12', event: {} },
  },
  { name: 'state', path: (r) => `${V1}/state/${r}?event_id=$x` },
  { name: 'state_ids', path: (r) => `${V1}/state_ids/${r}?event_id=$x` },
  { name: 'backfill', path: (r) => `${V1}/backfill/${r}?v=$x&limit=1` },
  { name: 'event_auth', path: (r) => `${V1}/event_auth/${r}/$x` },
  { name: 'get_missing_events', method: 'POST', path: (r) => `${V1}/get_missing_events/${r}`, body: missing },
];

describe('a server that the list of a room denies', () => {
  it.each(REQUESTS)('is refused $name', async ({ method = 'GET' as const, path, body }) => {
    const asked = () => ask(method, path(encoded(room), encoded(b.user('bob'))), body);
    const denied = { status: 403, message: expect.stringContaining('access control list') };
    await expect(asked().catch((error: unknown) => error)).resolves.not.toMatchObject(denied);
    await setAcl({ allow: ['*'], deny: [B] });
    await expect(asked()).rejects.toMatchObject({ ...denied, errcode: 'M_FORBIDDEN' });
    // Of other rooms it says nothing.
    const other = await until(a.rooms.create(a.user('alice'), { preset: 'public_chat' }));
    const there = ask(method, path(encoded(other), encoded(b.user('bob'))), body);
    await expect(there.catch((error: unknown) => error)).resolves.not.toMatchObject(denied);
  });

  it('sends events of other rooms, and none of this one', async () => {
    const other = await until(a.rooms.create(a.user('alice'), { preset: 'public_chat' }));
    await until(b.rooms.memberships.join(b.user('bob'), other, { via: [A] }));
    await setAcl({ allow: ['*'], deny: [B] });
    // Before the list arrives there, as a hostile server would go on.
    const [here, there] = [await event('here', room), await event('there', other)];
    const pdus = [here, there].map(({ pdu }) => pduJson(pdu));
    const answer = await ask('PUT', `${V1}/send/both`, { origin: B, origin_server_ts: 1, pdus });
    expect(answer.body).toEqual({
      pdus: { [here.id]: { error: expect.stringContaining('access control list') }, [there.id]: {} },
    });
    expect(await a.messages()).toEqual(['hello', 'there']);
    await setAcl({ allow: ['*'] });
    const again = await ask('PUT', `${V1}/send/again`, { origin: B, origin_server_ts: 1, pdus });
    expect(again.body).toEqual({ pdus: { [here.id]: {}, [there.id]: {} } });
    expect(await a.messages()).toEqual(['hello', 'there', 'here']);
  });

  it('is refused what it sent while the room was being joined, and was taken in before its list was known', async () => {
    const c = await openSide(network, C, testKey(3), 3);
    await setAcl({ allow: ['*'], deny: [B] });
    const early = await event('early', room);
    network.beforeAnswer = async ({ path }) => {
      if (!path.includes('send_join')) return;
      network.beforeAnswer = async () => undefined;
      const transaction = { origin: B, origin_server_ts: 1, pdus: [pduJson(early.pdu)] };
      const call = { method: 'PUT', path: `${V1}/send/early`, body: transaction } as const;
      const { body } = await b.transport.request(C, { ...call, timeoutMs: 1_000, priority: 2 });
      expect(body).toEqual({ pdus: { [early.id]: {} } });
    };
    await until(c.rooms.memberships.join(c.user('carol'), room, { via: [A] }));
    await network.time.pass(60_000);
    expect(c.receiver.counters).toMatchObject({ held: 1, refused: 1 });
    expect(await c.messages()).not.toContain('early');
  });

  it('is sent what happens there all the same, while it has members', async () => {
    await setAcl({ allow: ['*'], deny: [B] });
    await until(a.say(a.user('alice'), room, 'and on'));
    await network.time.pass(1_000);
    expect(await b.messages()).toEqual(['hello', 'and on']);
  });

  it('goes on for its own users', async () => {
    await setAcl({ allow: [A], deny: ['*'] });
    await network.time.pass(1_000);
    await until(b.say(b.user('bob'), room, 'to myself'));
    await until(b.rooms.memberships.join(b.user('carol'), room, { via: [] }));
    expect(await b.messages()).toEqual(['hello', 'to myself']);
    expect((await b.rooms.event(said, B))?.id).toBe(said);
    await until(b.rooms.memberships.leave(b.user('bob'), room));
  });
});

/** A message of bob on B, as B has built it and as it has not gone out. */
async function event(body: string, of: RoomId) {
  await until(b.sender.stop());
  const id = await until(b.say(b.user('bob'), of, body));
  await b.database.transaction(async (tx) => {
    await tx.run('DELETE FROM outbox');
    await tx.run('DELETE FROM outbox_pdus');
  });
  await b.sender.start();
  return (await b.rooms.event(id, B))!;
}

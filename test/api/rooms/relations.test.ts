import { expect, test } from 'vitest';
import type { JsonObject } from '../../../src/matrix/json.ts';
import { doorsOf, type User } from '../coverage/doors.ts';
import { esc, failure, newRoom } from './room_user.ts';

const { eachDoor, door } = doorsOf(import.meta.url);

interface Page {
  readonly chunk: readonly { readonly event_id: string; readonly unsigned?: JsonObject }[];
  readonly next_batch?: string;
}

let txn = 0;
async function send(user: User, room: string, content: JsonObject, type = 'm.room.message'): Promise<string> {
  const { status, body } = await user.ask('PUT', `/rooms/${esc(room)}/send/${type}/r${txn++}`, content);
  expect(status).toBe(200);
  return body.event_id as string;
}

const text = (body: string): JsonObject => ({ msgtype: 'm.text', body });
const relating = (relType: string, parent: string, rest: JsonObject = {}): JsonObject => ({
  ...text(`to ${parent}`),
  ...rest,
  'm.relates_to': { rel_type: relType, event_id: parent },
});
const edit = (parent: string, body: string): JsonObject =>
  relating('m.replace', parent, { 'm.new_content': text(body) });

const path = (room: string, rest: string): string => `/_matrix/client/v1/rooms/${esc(room)}/${rest}`;
const ids = (body: JsonObject): string[] => (body as unknown as Page).chunk.map(({ event_id }) => event_id);
const relationsIn = (event: JsonObject): JsonObject | undefined =>
  (event.unsigned as JsonObject | undefined)?.['m.relations'] as JsonObject | undefined;

async function shown(user: User, room: string, id: string): Promise<JsonObject> {
  return (await user.ask('GET', `/rooms/${esc(room)}/event/${esc(id)}`)).body;
}

eachDoor(
  'the events that point at one are listed by type, in pages, and children of children',
  async (each) => {
    const alice = await each.user('alice');
    const bob = await each.user('bob');
    const room = await newRoom(alice, { preset: 'public_chat' });
    const root = await send(alice, room, text('root'));
    const reactions = [];
    for (const key of ['a', 'b', 'c']) {
      const relation = { rel_type: 'm.annotation', event_id: root, key };
      reactions.unshift(await send(alice, room, { 'm.relates_to': relation }, 'm.reaction'));
    }
    const reference = await send(alice, room, relating('m.reference', root));
    const ofReference = await send(alice, room, relating('m.reference', reference));
    await send(alice, room, { ...text('a reply'), 'm.relates_to': { 'm.in_reply_to': { event_id: root } } });

    const all = await alice.ask('GET', path(room, `relations/${esc(root)}`));
    expect(all.status).toBe(200);
    expect(ids(all.body)).toEqual([reference, ...reactions]);
    const ofType = await alice.ask('GET', path(room, `relations/${esc(root)}/m.annotation`));
    expect(ids(ofType.body)).toEqual(reactions);
    const none = await alice.ask('GET', path(room, `relations/${esc(root)}/m.annotation/m.room.message`));
    expect(none.body).toEqual({ chunk: [] });
    const both = await alice.ask('GET', path(room, `relations/${esc(root)}?recurse=true&dir=f`));
    expect(ids(both.body)).toEqual([...reactions.toReversed(), reference, ofReference]);
    expect(both.body.recursion_depth).toBeGreaterThan(1);

    const pages: string[][] = [];
    for (let from = ''; pages.length < 5; ) {
      const { body } = await alice.ask('GET', path(room, `relations/${esc(root)}?limit=2${from}`));
      pages.push(ids(body));
      if (body.next_batch === undefined) break;
      from = `&from=${String(body.next_batch)}`;
    }
    expect(pages).toEqual([[reference, reactions[0]], reactions.slice(1)]);

    const asked = path(room, `relations/${esc(root)}`);
    expect(failure(await bob.ask('GET', asked))).toEqual([404, 'M_NOT_FOUND']);
    expect(failure(await alice.ask('GET', `${asked}?from=x`))).toEqual([400, 'M_INVALID_PARAM']);
    expect(failure(await alice.ask('GET', `${asked}?limit=0`))).toEqual([400, 'M_INVALID_PARAM']);
    expect(failure(await alice.ask('GET', `${asked}?dir=x`))).toEqual([400, 'M_INVALID_PARAM']);
    expect((await each.stranger().ask('GET', asked)).status).toBe(401);
  },
);

test('somebody annotates an event once with a key, until that is taken back', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const bob = await door('HTTPS, JSON').user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
  const id = await send(alice, room, text('hi'));
  const react = (user: User, key: string) =>
    user.ask('PUT', `/rooms/${esc(room)}/send/m.reaction/r${txn++}`, {
      'm.relates_to': { rel_type: 'm.annotation', event_id: id, key },
    });
  const first = await react(alice, '👍');
  expect(first.status).toBe(200);
  expect(failure(await react(alice, '👍'))).toEqual([400, 'M_DUPLICATE_ANNOTATION']);
  expect((await react(alice, '👎')).status).toBe(200);
  expect((await react(bob, '👍')).status).toBe(200);
  await alice.ask('PUT', `/rooms/${esc(room)}/redact/${esc(String(first.body.event_id))}/r${txn++}`, {});
  expect((await react(alice, '👍')).status).toBe(200);
});

eachDoor('the threads of a room are listed, that with the latest event first', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
  const roots = [];
  for (const body of ['one', 'two', 'three']) roots.push(await send(alice, room, text(body)));
  const [one, two, three] = roots as [string, string, string];
  await send(alice, room, relating('m.thread', three));
  await send(alice, room, relating('m.thread', one));
  await send(alice, room, relating('m.thread', two));
  const last = await send(bob, room, relating('m.thread', one));

  const listed = await bob.ask('GET', path(room, 'threads'));
  expect(listed.status).toBe(200);
  expect(ids(listed.body)).toEqual([one, two, three]);
  expect(relationsIn((listed.body as unknown as { chunk: JsonObject[] }).chunk[0]!)).toMatchObject({
    'm.thread': { count: 2, current_user_participated: true, latest_event: { event_id: last } },
  });
  const first = await bob.ask('GET', path(room, 'threads?limit=2'));
  expect(ids(first.body)).toEqual([one, two]);
  const rest = await bob.ask('GET', path(room, `threads?limit=2&from=${String(first.body.next_batch)}`));
  expect(rest.body).not.toHaveProperty('next_batch');
  expect(ids(rest.body)).toEqual([three]);
  expect(ids((await bob.ask('GET', path(room, 'threads?include=participated'))).body)).toEqual([one]);

  const ignored = { ignored_users: { [bob.id]: {} } };
  await alice.ask('PUT', `/user/${esc(alice.id)}/account_data/m.ignored_user_list`, ignored);
  const ofAlice = await alice.ask('GET', path(room, 'threads'));
  expect(ids(ofAlice.body)).toEqual([two, one, three]);
  expect(relationsIn((ofAlice.body as unknown as { chunk: JsonObject[] }).chunk[1]!)).toMatchObject({
    'm.thread': { count: 1 },
  });

  const stranger = await each.user('carol');
  expect(failure(await stranger.ask('GET', path(room, 'threads')))).toEqual([403, 'M_FORBIDDEN']);
  expect(failure(await bob.ask('GET', path(room, 'threads?from=x')))).toEqual([400, 'M_INVALID_PARAM']);
  expect(failure(await bob.ask('GET', path(room, 'threads?include=x')))).toEqual([400, 'M_INVALID_PARAM']);
});

test('an event is told with its last valid edit, until that is redacted', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const bob = await door('HTTPS, JSON').user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
  const { pass } = door('HTTPS, JSON');
  const id = await send(alice, room, text('frist'));
  expect(relationsIn(await shown(bob, room, id))).toBeUndefined();
  const good = await send(alice, room, edit(id, 'first'));
  await pass(1_000);
  const better = await send(alice, room, edit(id, 'First.'));
  await pass(1_000);
  await send(bob, room, edit(id, 'by another'));
  await send(alice, room, relating('m.replace', id));
  await send(alice, room, edit(id, 'of another type'), 'm.sticker');
  const ofEdit = await send(alice, room, edit(better, 'an edit of an edit'));
  const isEdited = async (by: string | undefined) => {
    const event = await shown(bob, room, id);
    expect(event.content).toEqual(text('frist'));
    expect((relationsIn(event)?.['m.replace'] as JsonObject | undefined)?.event_id).toBe(by);
  };
  await isEdited(better);
  expect(relationsIn(await shown(bob, room, better))).toBeUndefined();
  expect(ofEdit).not.toBe(better);
  const page = await bob.ask('GET', `/rooms/${esc(room)}/messages?dir=b&limit=50`);
  const inPage = (page.body.chunk as JsonObject[]).find(({ event_id }) => event_id === id)!;
  expect(relationsIn(inPage)).toMatchObject({
    'm.replace': { event_id: better, content: { body: `to ${id}` } },
  });
  const redact = (event: string) =>
    alice.ask('PUT', `/rooms/${esc(room)}/redact/${esc(event)}/r${txn++}`, {});
  await redact(better);
  await isEdited(good);
  await redact(id);
  expect(relationsIn(await shown(bob, room, id))).toBeUndefined();
});

test('an event is told with its thread, whose last event is told with its edit, and with what refers to it', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const bob = await door('HTTPS, JSON').user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
  const root = await send(alice, room, text('root'));
  const reference = await send(bob, room, relating('m.reference', root));
  const inside = await send(alice, room, relating('m.thread', root));
  const edited = await send(alice, room, edit(inside, 'edited'));
  const thread = {
    count: 1,
    latest_event: { event_id: inside, unsigned: { 'm.relations': { 'm.replace': { event_id: edited } } } },
  };
  expect(relationsIn(await shown(alice, room, root))).toMatchObject({
    'm.reference': { chunk: [{ event_id: reference }] },
    'm.thread': { ...thread, current_user_participated: true },
  });
  expect(relationsIn(await shown(bob, room, root))).toMatchObject({
    'm.thread': { ...thread, current_user_participated: false },
  });
  const sync = await bob.ask('GET', '/sync');
  const timeline = (
    sync.body.rooms as { join: Record<string, { timeline: { limited: boolean; events: JsonObject[] } }> }
  ).join[room]!.timeline;
  const inSync = timeline.events.find(({ event_id }) => event_id === root)!;
  expect(timeline.limited).toBe(true);
  expect(relationsIn(inSync)).toMatchObject({ 'm.thread': thread });
  const started = await alice.ask(
    'PUT',
    `/rooms/${esc(room)}/send/m.room.message/nested`,
    relating('m.thread', inside),
  );
  expect(failure(started)).toEqual([400, 'M_UNKNOWN']);
});

test('who has left sees an edit only where it was made before', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const bob = await door('HTTPS, JSON').user('bob');
  const room = await newRoom(alice, { preset: 'public_chat' });
  await bob.ask('POST', `/rooms/${esc(room)}/join`, {});
  const id = await send(alice, room, text('one'));
  const before = await send(alice, room, edit(id, 'two'));
  await bob.ask('POST', `/rooms/${esc(room)}/leave`, {});
  const members = { history_visibility: 'joined' };
  await alice.ask('PUT', `/rooms/${esc(room)}/state/m.room.history_visibility`, members);
  await door('HTTPS, JSON').pass(1_000);
  const after = await send(alice, room, edit(id, 'three'));
  expect(relationsIn(await shown(alice, room, id))).toMatchObject({ 'm.replace': { event_id: after } });
  expect(relationsIn(await shown(bob, room, id))).toMatchObject({ 'm.replace': { event_id: before } });
});

import { expect } from 'vitest';
import { doorsOf } from '../coverage/doors.ts';
import { esc, failure, newRoom, say } from './room_user.ts';

const { eachDoor } = doorsOf(import.meta.url, { limits: { reports: { burst: 9, interval_ms: 1_000 } } });

eachDoor('events, rooms and users are reported, and not without bounds', async (each) => {
  const alice = await each.user('alice');
  const bob = await each.user('bob');
  const room = await newRoom(alice);
  const event = await say(alice, room, 'rude');
  const ofEvent = `/rooms/${esc(room)}/report/${esc(event)}`;
  const ofRoom = `/rooms/${esc(room)}/report`;
  const ofUser = `/users/${esc(alice.id)}/report`;
  // Only who is in the room reports its events; rooms and users are there for all.
  expect(failure(await bob.ask('POST', ofEvent, { reason: 'x' }))).toEqual([404, 'M_NOT_FOUND']);
  expect(await bob.ask('POST', ofRoom, { reason: '' })).toMatchObject({ status: 200, body: {} });
  expect(await bob.ask('POST', ofUser, { reason: 'rude' })).toMatchObject({ status: 200, body: {} });
  expect((await bob.ask('POST', `/users/${esc('@far:b.example')}/report`, { reason: 'x' })).status).toBe(200);
  expect(await alice.ask('POST', ofEvent, {})).toMatchObject({ status: 200, body: {} });
  const nothing = `/rooms/${esc(room)}/report/${esc('$none')}`;
  expect(failure(await alice.ask('POST', nothing, {}))).toEqual([404, 'M_NOT_FOUND']);
  const noRoom = `/rooms/${esc('!none:home.example')}/report`;
  expect(failure(await bob.ask('POST', noRoom, { reason: 'x' }))).toEqual([404, 'M_NOT_FOUND']);
  const nobody = `/users/${esc('@none:home.example')}/report`;
  expect(failure(await bob.ask('POST', nobody, { reason: 'x' }))).toEqual([404, 'M_NOT_FOUND']);
  for (const path of [ofRoom, ofUser]) {
    expect(failure(await bob.ask('POST', path, {}))).toEqual([400, 'M_BAD_JSON']);
  }
  for (const path of [ofEvent, ofRoom, ofUser]) {
    expect((await each.stranger().ask('POST', path, { reason: 'x' })).status).toBe(401);
  }
  let answer = await bob.ask('POST', ofUser, { reason: 'again' });
  for (let n = 0; n < 9 && answer.status === 200; n++)
    answer = await bob.ask('POST', ofUser, { reason: 'again' });
  expect(answer).toMatchObject({
    status: 429,
    body: { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: expect.any(Number) },
  });
  await each.pass(answer.body.retry_after_ms as number);
  expect((await bob.ask('POST', ofUser, { reason: 'later' })).status).toBe(200);
});

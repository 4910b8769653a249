import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { doorsOf } from './coverage/doors.ts';
import { failure } from './rooms/room_user.ts';

const SECRET = 'a secret of two servers';
const URIS = ['turn:turn.example.org:3478?transport=udp'];
const { eachDoor, door } = doorsOf(import.meta.url, {
  voip: { turn_uris: URIS, turn_secret: SECRET, livekit: 'https://livekit.example.org' },
});

eachDoor('a user gets a name and a password for the TURN server, good for a day', async (each) => {
  const alice = await each.user('alice');
  const { status, body } = await alice.ask('GET', '/voip/turnServer');
  expect(status).toBe(200);
  expect(body).toMatchObject({ uris: URIS, ttl: 86_400 });
  const [until, ...user] = String(body.username).split(':');
  expect(user.join(':')).toBe(alice.id);
  expect(Number(until)).toBeGreaterThan(86_400);
  const password = createHmac('sha1', SECRET).update(String(body.username)).digest('base64');
  expect(body.password).toBe(password);
  expect((await each.stranger().ask('GET', '/voip/turnServer')).status).toBe(401);
});

eachDoor('there are no bridges to other networks', async (each) => {
  const alice = await each.user('alice');
  for (const path of ['location?alias=%23a%3Ab', 'user?userid=%40a%3Ab'])
    expect(await alice.ask('GET', `/thirdparty/${path}`)).toMatchObject({ status: 200, body: [] });
  for (const path of ['protocol/irc', 'location/irc', 'user/irc']) {
    expect(failure(await alice.ask('GET', `/thirdparty/${path}`))).toEqual([404, 'M_NOT_FOUND']);
    expect((await each.stranger().ask('GET', `/thirdparty/${path}`)).status).toBe(401);
  }
});

test('a client is told where a call of many can meet', async () => {
  const alice = await door('HTTPS, JSON').user('alice');
  const path = '/_matrix/client/unstable/org.matrix.msc4143/rtc/transports';
  expect((await alice.ask('GET', path)).body).toEqual({
    rtc_transports: [{ type: 'livekit', livekit_service_url: 'https://livekit.example.org' }],
  });
});

import { expect } from 'vitest';
import type { JsonObject } from '../../src/matrix/json.ts';
import { type Answer, type Asker, doorsOf, PASSWORD } from './coverage/doors.ts';

const { eachDoor } = doorsOf(import.meta.url);

const ALGORITHM = 'm.megolm_backup.v1.curve25519-aes-sha2';
const AUTH_DATA = { public_key: 'abcdefg', signatures: { '@alice:home.example': { 'ed25519:X': 's' } } };
const DESCRIPTION = { algorithm: ALGORITHM, auth_data: AUTH_DATA };

const ROOM = '!room:home.example';
const OTHER = '!other';
/** With what has to be escaped in a path. */
const SESSION = 'sess/ion+1';

const key = (name: string, first = 1): JsonObject => ({
  first_message_index: first,
  forwarded_count: 0,
  is_verified: false,
  session_data: { ephemeral: name, ciphertext: 'c', mac: 'm', extra: [1.5, null, 'é'] },
});

const at = (version: string, room?: string, session?: string): string =>
  `/room_keys/keys${[room, session]
    .filter((part) => part !== undefined)
    .map((part) => `/${encodeURIComponent(part)}`)
    .join('')}?version=${version}`;

async function create(user: Asker): Promise<string> {
  const { status, body } = await user.ask('POST', '/room_keys/version', DESCRIPTION);
  expect(status).toBe(200);
  return body.version as string;
}

const of = ({ status, body }: Answer): [number, unknown] => [status, body.errcode ?? body];

eachDoor('a backup is made, changed, succeeded by another, and deleted', async (door) => {
  const alice = await door.user();
  expect(of(await alice.ask('GET', '/room_keys/version'))).toEqual([404, 'M_NOT_FOUND']);
  const first = await create(alice);
  const described = { ...DESCRIPTION, version: first, etag: '0', count: 0 };
  expect(of(await alice.ask('GET', '/room_keys/version'))).toEqual([200, described]);
  const second = await create(alice);
  expect(second).not.toBe(first);
  expect((await alice.ask('GET', '/room_keys/version')).body.version).toBe(second);
  expect(of(await alice.ask('GET', `/room_keys/version/${first}`))).toEqual([200, described]);

  const changed = { algorithm: ALGORITHM, auth_data: { public_key: 'other' } };
  for (const [version, body, expected] of [
    [first, { ...changed, version: first }, [200, {}]],
    [second, changed, [200, {}]],
    [second, { ...changed, version: first }, [400, 'M_INVALID_PARAM']],
    [second, { ...changed, algorithm: 'm.other' }, [400, 'M_INVALID_PARAM']],
    ['17', changed, [404, 'M_NOT_FOUND']],
    ['x', changed, [404, 'M_NOT_FOUND']],
    [second, { algorithm: ALGORITHM }, [400, 'M_BAD_JSON']],
    [second, { ...changed, auth_data: { public_key: 'x'.repeat(65_536) } }, [413, 'M_TOO_LARGE']],
  ] as const)
    expect(of(await alice.ask('PUT', `/room_keys/version/${version}`, body))).toEqual(expected);
  expect((await alice.ask('GET', `/room_keys/version/${first}`)).body.auth_data).toEqual(changed.auth_data);

  // Those of others are as if they were not there.
  const bob = await door.user('bob');
  expect(of(await bob.ask('GET', `/room_keys/version/${first}`))).toEqual([404, 'M_NOT_FOUND']);
  expect(of(await bob.ask('DELETE', `/room_keys/version/${first}`))).toEqual([404, 'M_NOT_FOUND']);

  expect(of(await alice.ask('DELETE', `/room_keys/version/${second}`))).toEqual([200, {}]);
  expect(of(await alice.ask('DELETE', `/room_keys/version/${second}`))).toEqual([200, {}]);
  expect(of(await alice.ask('DELETE', '/room_keys/version/17'))).toEqual([404, 'M_NOT_FOUND']);
  expect(of(await alice.ask('GET', `/room_keys/version/${second}`))).toEqual([404, 'M_NOT_FOUND']);
  expect((await alice.ask('GET', '/room_keys/version')).body.version).toBe(first);
  expect([first, second]).not.toContain(await create(alice));
  expect((await door.stranger().ask('GET', '/room_keys/version')).status).toBe(401);
});

eachDoor('keys are stored, read and deleted: one, those of a room, and all', async (door) => {
  const alice = await door.user();
  const version = await create(alice);
  const put = async (path: string, body: JsonObject) => of(await alice.ask('PUT', path, body));
  const get = async (path: string) => of(await alice.ask('GET', path));
  expect(await get(at(version))).toEqual([200, { rooms: {} }]);
  expect(await get(at(version, ROOM))).toEqual([200, { sessions: {} }]);
  expect(await get(at(version, ROOM, SESSION))).toEqual([404, 'M_NOT_FOUND']);

  expect(await put(at(version, ROOM, SESSION), key('a'))).toEqual([200, { etag: '1', count: 1 }]);
  const some = { sessions: { [SESSION]: key('worse', 2), two: key('b') } };
  expect(await put(at(version, ROOM), some)).toEqual([200, { etag: '2', count: 2 }]);
  const all = { rooms: { [OTHER]: { sessions: { three: key('c') } }, [ROOM]: some } };
  expect(await put(at(version), all)).toEqual([200, { etag: '3', count: 3 }]);
  // Where nothing has changed, the etag has not.
  expect(await put(at(version), all)).toEqual([200, { etag: '3', count: 3 }]);
  expect(await get('/room_keys/version')).toEqual([200, { ...DESCRIPTION, version, etag: '3', count: 3 }]);

  const kept = { [SESSION]: key('a'), two: key('b') };
  expect(await get(at(version, ROOM, SESSION))).toEqual([200, key('a')]);
  expect(await get(at(version, ROOM))).toEqual([200, { sessions: kept }]);
  expect(await get(at(version))).toEqual([
    200,
    { rooms: { [OTHER]: { sessions: { three: key('c') } }, [ROOM]: { sessions: kept } } },
  ]);

  const remove = async (path: string) => of(await alice.ask('DELETE', path));
  expect(await remove(at(version, ROOM, 'two'))).toEqual([200, { etag: '4', count: 2 }]);
  expect(await remove(at(version, ROOM, 'two'))).toEqual([200, { etag: '4', count: 2 }]);
  expect(await remove(at(version, OTHER))).toEqual([200, { etag: '5', count: 1 }]);
  expect(await get(at(version))).toEqual([200, { rooms: { [ROOM]: { sessions: { [SESSION]: key('a') } } } }]);
  expect(await remove(at(version))).toEqual([200, { etag: '6', count: 0 }]);
  expect(await get(at(version))).toEqual([200, { rooms: {} }]);
});

eachDoor('keys are written to the current backup only, and read from any that is there', async (door) => {
  const alice = await door.user();
  const one = key('a');
  const bodies = [
    [undefined, undefined, { rooms: { [ROOM]: { sessions: { [SESSION]: one } } } }],
    [ROOM, undefined, { sessions: { [SESSION]: one } }],
    [ROOM, SESSION, one],
  ] as const;
  for (const [room, session, body] of bodies)
    expect(of(await alice.ask('PUT', at('1', room, session), body))).toEqual([404, 'M_NOT_FOUND']);
  const first = await create(alice);
  for (const [room, session, body] of bodies)
    expect((await alice.ask('PUT', at(first, room, session), body)).status).toBe(200);
  const second = await create(alice);
  for (const [room, session, body] of bodies) {
    const refused = await alice.ask('PUT', at(first, room, session), body);
    expect(refused).toMatchObject({
      status: 403,
      body: { errcode: 'M_WRONG_ROOM_KEYS_VERSION', current_version: second },
    });
    // Of what there never was, nothing is told.
    expect(of(await alice.ask('PUT', at('17', room, session), body))).toEqual([404, 'M_NOT_FOUND']);
    for (const method of ['GET', 'DELETE'])
      expect(of(await alice.ask(method, at('17', room, session)))).toEqual([404, 'M_NOT_FOUND']);
    const withoutVersion = at('', room, session).split('?')[0]!;
    for (const method of ['GET', 'PUT', 'DELETE'])
      expect(of(await alice.ask(method, withoutVersion, method === 'PUT' ? body : undefined))).toEqual([
        400,
        'M_MISSING_PARAM',
      ]);
  }
  expect((await alice.ask('GET', at(first, ROOM, SESSION))).body).toEqual(one);
  expect((await alice.ask('DELETE', at(first, ROOM, SESSION))).body).toEqual({ etag: '2', count: 0 });
  await alice.ask('DELETE', `/room_keys/version/${second}`);
  // What was deleted is not what is current.
  expect((await alice.ask('PUT', at(second, ROOM, SESSION), one)).body).toMatchObject({
    errcode: 'M_WRONG_ROOM_KEYS_VERSION',
    current_version: first,
  });
});

eachDoor('what is no key is refused, and nothing is stored of what came with it', async (door) => {
  const alice = await door.user();
  const version = await create(alice);
  const good = key('a');
  for (const [bad, expected] of [
    [{ ...good, session_data: 'text' }, [400, 'M_BAD_JSON']],
    [{ ...good, first_message_index: -1 }, [400, 'M_BAD_JSON']],
    [{ ...good, forwarded_count: 0.5 }, [400, 'M_BAD_JSON']],
    [{ ...good, is_verified: 1 }, [400, 'M_BAD_JSON']],
    [{}, [400, 'M_BAD_JSON']],
    [{ ...good, session_data: { ciphertext: 'x'.repeat(65_536) } }, [413, 'M_TOO_LARGE']],
  ] as const) {
    expect(of(await alice.ask('PUT', at(version, ROOM, SESSION), bad))).toEqual(expected);
    const both = { sessions: { good, bad } };
    expect(of(await alice.ask('PUT', at(version, ROOM), both))).toEqual(expected);
    expect(of(await alice.ask('PUT', at(version), { rooms: { [ROOM]: both } }))).toEqual(expected);
  }
  const long = { rooms: { [ROOM]: { sessions: { good, ['x'.repeat(256)]: good } } } };
  expect(of(await alice.ask('PUT', at(version), long))).toEqual([400, 'M_INVALID_PARAM']);
  expect((await alice.ask('GET', at(version))).body).toEqual({ rooms: {} });
});

eachDoor('a large backup comes whole, and ends with the account', async (door) => {
  const alice = await door.user();
  const version = await create(alice);
  const rooms = Object.fromEntries(
    [ROOM, OTHER, '__proto__'].map((room, n) => [
      room,
      {
        sessions: Object.fromEntries(
          Array.from({ length: 100 * n + 50 }, (_, at) => [`s${at}`, key(`${at}`)]),
        ),
      },
    ]),
  );
  // As text, so that __proto__ is a name like others.
  const body = JSON.parse(JSON.stringify(rooms)) as JsonObject;
  expect((await alice.ask('PUT', at(version), { rooms: body })).body).toEqual({ etag: '1', count: 450 });
  expect((await alice.ask('GET', at(version))).body).toEqual({ rooms: body });
  for (const room of [ROOM, OTHER, '__proto__'])
    expect((await alice.ask('GET', at(version, room))).body).toEqual(body[room]);
  const auth = {
    type: 'm.login.password',
    identifier: { type: 'm.id.user', user: alice.id },
    password: PASSWORD,
  };
  expect((await alice.ask('POST', '/account/deactivate', { auth })).status).toBe(200);
});

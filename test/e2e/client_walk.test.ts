import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { JsonObject, JsonValue } from '../../src/matrix/json.ts';
import { completeConfig } from '../../src/server/config.ts';
import { openServer, type RunningServer } from '../../src/server/open.ts';
import { type ClientAnswer, type ClientDoor, type DoorName, openDoor } from './client_doors.ts';

/*
 * What a client does from its first request to its logout, on a complete server with real sockets and files: the same
 * walk through each door that a client has. The steps build on each other.
 */

const NAME = 'walk.test';
const DOORS: readonly DoorName[] = ['JSON over HTTP', 'CBOR over HTTP', 'plain CoAP'];

interface Call {
  readonly params?: readonly string[];
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: JsonObject;
  readonly signal?: AbortSignal;
}

/** Somebody with one connection of his own and, once logged in, a token. */
class Client {
  token: string | undefined;
  user = '';
  device = '';
  readonly #door: ClientDoor;
  readonly #walk: Walk;

  constructor(door: ClientDoor, walk: Walk) {
    this.#door = door;
    this.#walk = walk;
  }

  /** @param operation the method and a path of the specification, its parameters as `{}` */
  async call(operation: string, { params = [], query = {}, body, signal }: Call = {}): Promise<ClientAnswer> {
    const [method = '', template = ''] = operation.split(' ');
    const values = params.values();
    const path = template.replaceAll('{}', () => encodeURIComponent(values.next().value!));
    const answer = await this.#door.call({
      method,
      path: path.startsWith('/_') || path.startsWith('/.') ? path : `/_matrix/client/v3${path}`,
      query: new URLSearchParams(query).toString(),
      token: this.token,
      body,
      signal,
    });
    this.#walk.seen(operation, answer.status);
    return answer;
  }

  /** The answer's body, where it is 200. */
  async ask(operation: string, call: Call = {}): Promise<JsonObject> {
    const { status, value } = await this.call(operation, call);
    expect([operation, status, value]).toEqual([operation, 200, expect.anything()]);
    return value as JsonObject;
  }

  /** Expects a refusal. */
  async refused(status: number, errcode: string, operation: string, call: Call = {}): Promise<ClientAnswer> {
    const answer = await this.call(operation, call);
    expect([operation, answer.status, answer.value]).toEqual([
      operation,
      status,
      expect.objectContaining({ errcode, error: expect.any(String) }),
    ]);
    return answer;
  }

  take({ user_id, device_id, access_token }: JsonObject): void {
    this.user = String(user_id);
    this.device = String(device_id);
    this.token = String(access_token);
  }

  async say(room: string, body: string, txn = body): Promise<string> {
    const content = { msgtype: 'm.text', body };
    const call = { params: [room, 'm.room.message', txn], body: content };
    return String((await this.ask('PUT /rooms/{}/send/{}/{}', call)).event_id);
  }

  async sync(query: Record<string, string> = {}): Promise<Synced> {
    return (await this.ask('GET /sync', { query })) as unknown as Synced;
  }

  close(): Promise<void> {
    return this.#door.close();
  }
}

interface SyncedRoom {
  readonly timeline: { readonly events: JsonObject[]; readonly limited?: boolean };
}

interface Synced {
  readonly next_batch: string;
  readonly rooms: {
    readonly join: Record<string, SyncedRoom>;
    readonly invite: Record<string, JsonObject>;
    readonly leave: Record<string, SyncedRoom>;
  };
}

/** One server and those who use it through one kind of door. */
class Walk {
  readonly name: DoorName;
  readonly server: RunningServer;
  readonly #folder: string;
  readonly #clients: Client[] = [];
  /** Every operation that was called, and whether it ever succeeded. */
  readonly operations = new Map<string, boolean>();

  private constructor(name: DoorName, server: RunningServer, folder: string) {
    this.name = name;
    this.server = server;
    this.#folder = folder;
  }

  static async start(name: DoorName): Promise<Walk> {
    const folder = mkdtempSync(join(tmpdir(), 'ravine-walk-'));
    const config = {
      server_name: NAME,
      registration: 'token',
      log: { level: 'silent' },
      http: { listen: [{ host: '127.0.0.1', port: 0 }], public_base_url: 'https://walk.test' },
      coap: { port: 0 },
    };
    return new Walk(name, await openServer(completeConfig(config, folder)), folder);
  }

  async client(): Promise<Client> {
    const client = new Client(await openDoor(this.name, this.server), this);
    this.#clients.push(client);
    return client;
  }

  seen(operation: string, status: number): void {
    this.operations.set(operation, this.operations.get(operation) === true || status < 300);
  }

  async end(): Promise<void> {
    for (const client of this.#clients) await client.close();
    await this.server.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

const password = (user: string, secret: string): JsonObject => ({
  type: 'm.login.password',
  identifier: { type: 'm.id.user', user },
  password: secret,
});

const array = (value: JsonValue | undefined): JsonObject[] => value as JsonObject[];
const content = (event: JsonObject): JsonObject => event.content as JsonObject;
const unsigned = (event: JsonObject): JsonObject => (event.unsigned ?? {}) as JsonObject;
const bodies = (events: JsonObject[]): JsonValue[] =>
  events.filter(({ type }) => type === 'm.room.message').map((event) => content(event).body ?? null);

describe.each(DOORS)('a client that speaks %s', (name) => {
  let walk: Walk;
  let registrationToken: string;
  /** Two devices of alice, one of bob and one of carol. */
  let alice: Client;
  let laptop: Client;
  let bob: Client;
  let carol: Client;
  let room: string;
  let said: string;
  /** Where bob's client stopped. */
  let since: string;

  beforeAll(async () => {
    walk = await Walk.start(name);
    registrationToken = (await walk.server.homeserver.accounts.registration.issueFirstToken())!;
    [alice, laptop, bob, carol] = [
      await walk.client(),
      await walk.client(),
      await walk.client(),
      await walk.client(),
    ];
  });

  afterAll(() => walk.end());

  it('discovers the server', async () => {
    expect(await alice.ask('GET /.well-known/matrix/client')).toEqual({
      'm.homeserver': { base_url: 'https://walk.test' },
    });
    const { versions } = await alice.ask('GET /_matrix/client/versions');
    expect(versions).toContain('v1.1');
    expect(await alice.ask('GET /login')).toEqual({
      flows: [{ type: 'm.login.password' }, { type: 'm.login.token', get_login_token: true }],
    });
    await alice.refused(404, 'M_UNRECOGNIZED', 'GET /_matrix/client/v1/auth_metadata');
    await alice.refused(405, 'M_UNRECOGNIZED', 'DELETE /login');
  });

  it('registers with a token, in two requests', async () => {
    for (const [client, username] of [
      [alice, 'alice'],
      [bob, 'bob'],
      [carol, 'carol'],
    ] as const) {
      expect(await alice.ask('GET /register/available', { query: { username } })).toEqual({
        available: true,
      });
      const body = { username, password: `secret of ${username}`, initial_device_display_name: 'phone' };
      const first = await client.call('POST /register', { body: { ...body, auth: null } });
      expect(first).toMatchObject({
        status: 401,
        value: { flows: [{ stages: ['m.login.registration_token'] }], session: expect.any(String) },
      });
      const { session = null } = first.value as JsonObject;
      const auth = { type: 'm.login.registration_token', session };
      const wrong = await client.call('POST /register', {
        body: { ...body, auth: { ...auth, token: 'no' } },
      });
      expect(wrong).toMatchObject({ status: 401, value: { errcode: 'M_FORBIDDEN', session } });
      client.take(
        await client.ask('POST /register', {
          body: { ...body, auth: { ...auth, token: registrationToken } },
        }),
      );
      expect(client.user).toBe(`@${username}:${NAME}`);
    }
    const taken = { username: 'ALICE' };
    await bob.refused(400, 'M_USER_IN_USE', 'POST /register', { body: taken });
    await bob.refused(400, 'M_USER_IN_USE', 'GET /register/available', { query: taken });
    await bob.refused(400, 'M_INVALID_USERNAME', 'POST /register', { body: { username: 'a b' } });
    const validity = 'GET /_matrix/client/v1/register/m.login.registration_token/validity';
    expect(await bob.ask(validity, { query: { token: registrationToken } })).toEqual({ valid: true });
  });

  it('logs a second device in', async () => {
    await laptop.refused(403, 'M_FORBIDDEN', 'POST /login', { body: password('alice', 'wrong') });
    await laptop.refused(403, 'M_FORBIDDEN', 'POST /login', { body: password('nobody', 'wrong') });
    await laptop.refused(403, 'M_FORBIDDEN', 'POST /login', { body: { type: 'm.login.token', token: 'x' } });
    laptop.take(await laptop.ask('POST /login', { body: password(alice.user, 'secret of alice') }));
    expect(await laptop.ask('GET /account/whoami')).toEqual({
      user_id: alice.user,
      device_id: laptop.device,
      is_guest: false,
    });
    const stranger = await walk.client();
    await stranger.refused(401, 'M_MISSING_TOKEN', 'GET /account/whoami');
    stranger.token = 'wrong';
    const { value } = await stranger.refused(401, 'M_UNKNOWN_TOKEN', 'GET /sync');
    expect(value).toMatchObject({ soft_logout: false });
  });

  it('asks for what a client wants at its start', async () => {
    const { capabilities } = await alice.ask('GET /capabilities');
    expect(capabilities).toMatchObject({ 'm.room_versions': { default: '12', available: { 12: 'stable' } } });
    const { global } = (await alice.ask('GET /pushrules/')) as { global: JsonObject };
    expect(Object.keys(global).sort()).toEqual(['content', 'override', 'room', 'sender', 'underride']);
    const rule = { params: ['override', '.m.rule.master'] };
    expect(await alice.ask('GET /pushrules/global/{}/{}', rule)).toMatchObject({
      default: true,
      enabled: false,
    });
    expect(await alice.ask('GET /pushers')).toEqual({ pushers: [] });
    expect(await alice.ask('GET /account/3pid')).toEqual({ threepids: [] });
    expect(await alice.ask('GET /thirdparty/protocols')).toEqual({});

    const filter = { room: { timeline: { limit: 5 }, state: { lazy_load_members: true } } };
    const { filter_id } = await bob.ask('POST /user/{}/filter', { params: [bob.user], body: filter });
    const stored = { params: [bob.user, String(filter_id)] };
    expect(await bob.ask('GET /user/{}/filter/{}', stored)).toEqual(filter);
    await alice.refused(403, 'M_FORBIDDEN', 'GET /user/{}/filter/{}', stored);
    since = (await bob.sync({ filter: String(filter_id) })).next_batch;
  });

  it('names itself and its devices', async () => {
    const name = [alice.user, 'displayname'];
    await alice.refused(404, 'M_NOT_FOUND', 'GET /profile/{}/{}', { params: name });
    await alice.ask('PUT /profile/{}/{}', { params: name, body: { displayname: 'Alice' } });
    await bob.refused(403, 'M_FORBIDDEN', 'PUT /profile/{}/{}', { params: name, body: { displayname: 'x' } });
    expect(await bob.ask('GET /profile/{}/{}', { params: name })).toEqual({ displayname: 'Alice' });
    expect(await bob.ask('GET /profile/{}', { params: [alice.user] })).toEqual({ displayname: 'Alice' });
    await bob.refused(404, 'M_NOT_FOUND', 'GET /profile/{}', { params: ['@nobody:walk.test'] });

    await laptop.ask('PUT /devices/{}', { params: [laptop.device], body: { display_name: 'laptop' } });
    const { devices } = await alice.ask('GET /devices');
    expect(new Set(array(devices).map(({ display_name }) => display_name))).toEqual(
      new Set(['phone', 'laptop']),
    );
    expect(await alice.ask('GET /devices/{}', { params: [laptop.device] })).toMatchObject({
      display_name: 'laptop',
    });
    await bob.refused(404, 'M_NOT_FOUND', 'GET /devices/{}', { params: [laptop.device] });
  });

  it.each([
    ['private_chat', 'invite', 'can_join'],
    ['trusted_private_chat', 'invite', 'can_join'],
    ['public_chat', 'public', 'forbidden'],
  ])('makes a %s', async (preset, joinRule, guests) => {
    const body = { preset, name: preset, topic: 'walking', invite: [bob.user] };
    room = String((await alice.ask('POST /createRoom', { body })).room_id);
    const state = async (type: string): Promise<JsonObject> =>
      alice.ask('GET /rooms/{}/state/{}/{}', { params: [room, type, ''] });
    expect(await state('m.room.join_rules')).toEqual({ join_rule: joinRule });
    expect(await state('m.room.guest_access')).toEqual({ guest_access: guests });
    expect(await state('m.room.history_visibility')).toEqual({ history_visibility: 'shared' });
    expect((await state('m.room.create')).additional_creators).toEqual(
      preset === 'trusted_private_chat' ? [bob.user] : undefined,
    );
    const { rooms } = await bob.sync();
    const { events } = rooms.invite[room]!.invite_state as { events: JsonObject[] };
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'm.room.name', content: { name: preset } }),
    );
  });

  it('invites, joins, leaves, and is kicked and banned', async () => {
    const { room_id } = await alice.ask('POST /createRoom', {
      body: { preset: 'private_chat', name: 'Walk' },
    });
    room = String(room_id);
    const here = { params: [room], body: {} };
    const at = (user: string) => ({ params: [room], body: { user_id: user, reason: 'because' } });
    await bob.refused(403, 'M_FORBIDDEN', 'POST /rooms/{}/join', here);
    await bob.refused(403, 'M_FORBIDDEN', 'GET /rooms/{}/state', { params: [room] });
    await alice.ask('POST /rooms/{}/invite', at(bob.user));
    await alice.ask('POST /rooms/{}/invite', at(carol.user));
    expect(await bob.ask('POST /join/{}', here)).toEqual({ room_id: room });
    await carol.ask('POST /rooms/{}/leave', here);
    await carol.ask('POST /rooms/{}/forget', { params: [room] });
    await carol.refused(403, 'M_FORBIDDEN', 'POST /rooms/{}/join', here);

    await alice.ask('POST /rooms/{}/invite', at(carol.user));
    expect(await carol.ask('POST /rooms/{}/join', { params: [room] })).toEqual({ room_id: room });
    await bob.refused(403, 'M_FORBIDDEN', 'POST /rooms/{}/kick', at(carol.user));
    await alice.ask('POST /rooms/{}/kick', at(carol.user));
    await alice.ask('POST /rooms/{}/ban', at(carol.user));
    await alice.refused(403, 'M_FORBIDDEN', 'POST /rooms/{}/invite', at(carol.user));
    await alice.ask('POST /rooms/{}/unban', at(carol.user));
    const { rooms } = await carol.sync({ filter: '{"room":{"include_leave":true}}' });
    expect(Object.keys(rooms.leave)).toEqual([room]);
    expect((await bob.ask('GET /joined_rooms')).joined_rooms).toEqual([room]);
    await bob.refused(400, 'M_UNKNOWN', 'POST /rooms/{}/forget', { params: [room] });
    await bob.refused(404, 'M_NOT_FOUND', 'POST /join/{}', { params: ['#none:walk.test'], body: {} });
  });

  it('sends each message once, and changes and redacts', async () => {
    said = await bob.say(room, 'Hello');
    expect(await bob.say(room, 'Hello')).toBe(said);
    expect(await alice.say(room, 'Hello')).not.toBe(said);
    const topic = { params: [room, 'm.room.topic', ''] };
    await bob.refused(403, 'M_FORBIDDEN', 'PUT /rooms/{}/state/{}/{}', { ...topic, body: { topic: 'no' } });
    await alice.ask('PUT /rooms/{}/state/{}/{}', { ...topic, body: { topic: 'a walk' } });
    expect(
      await bob.ask('GET /rooms/{}/state/{}/{}', { ...topic, query: { format: 'event' } }),
    ).toMatchObject({
      type: 'm.room.topic',
      state_key: '',
      room_id: room,
      sender: alice.user,
      content: { topic: 'a walk' },
    });
    await bob.refused(404, 'M_NOT_FOUND', 'GET /rooms/{}/state/{}/{}', { params: [room, 'none', 'a/b c%'] });
    const large = { params: [room, 'm.room.message', 'large'], body: { body: 'x'.repeat(70_000) } };
    await bob.refused(413, 'M_TOO_LARGE', 'PUT /rooms/{}/send/{}/{}', large);

    await bob.ask('PUT /rooms/{}/redact/{}/{}', { params: [room, said, 'r'], body: { reason: 'oops' } });
    const event = await alice.ask('GET /rooms/{}/event/{}', { params: [room, said] });
    expect(content(event)).toEqual({});
    expect(unsigned(event).redacted_because).toMatchObject({ type: 'm.room.redaction', sender: bob.user });
    await alice.refused(404, 'M_NOT_FOUND', 'GET /rooms/{}/event/{}', { params: [room, '$none'] });
  });

  it('reads back to the beginning and forth to the end, and meets the same events', async () => {
    for (let i = 0; i < 25; i++) await bob.say(room, `message ${i}`);
    const read = async (dir: 'b' | 'f'): Promise<JsonValue[]> => {
      const events: JsonValue[] = [];
      for (let from: string | undefined, pages = 0; pages < 20; pages++) {
        const query = { dir, limit: '10', ...(from === undefined ? {} : { from }) };
        const page = await alice.ask('GET /rooms/{}/messages', { params: [room], query });
        events.push(...array(page.chunk).map(({ event_id }) => event_id!));
        if (page.end === undefined) return events;
        from = String(page.end);
      }
      throw new Error('the history has no end');
    };
    const back = await read('b');
    expect(new Set(back).size).toBe(back.length);
    expect(await read('f')).toEqual(back.toReversed());
    const params = [room, said];
    const context = await alice.ask('GET /rooms/{}/context/{}', { params, query: { limit: '4' } });
    const middle = back.indexOf(said);
    expect(array(context.events_before).map(({ event_id }) => event_id)).toEqual(
      back.slice(middle + 1, middle + 3),
    );
    expect(array(context.events_after).map(({ event_id }) => event_id)).toEqual(
      back.slice(middle - 2, middle).toReversed(),
    );
    await alice.refused(400, 'M_MISSING_PARAM', 'GET /rooms/{}/messages', { params: [room] });
    await carol.refused(404, 'M_NOT_FOUND', 'GET /rooms/{}/event/{}', { params });
  });

  it('shows a new name in the rooms', async () => {
    await bob.ask('PUT /profile/{}/{}', { params: [bob.user, 'displayname'], body: { displayname: 'Bob' } });
    const { joined } = await alice.ask('GET /rooms/{}/joined_members', { params: [room] });
    expect(joined).toEqual({ [alice.user]: { display_name: 'Alice' }, [bob.user]: { display_name: 'Bob' } });
    const joinedOnly = { params: [room], query: { membership: 'join' } };
    const { chunk } = await alice.ask('GET /rooms/{}/members', joinedOnly);
    expect(new Set(array(chunk).map((event) => content(event).displayname))).toEqual(
      new Set(['Alice', 'Bob']),
    );
    const state = (await alice.ask('GET /rooms/{}/state', { params: [room] })) as unknown as JsonObject[];
    expect(state.find(({ state_key }) => state_key === bob.user)).toMatchObject({
      content: { displayname: 'Bob', membership: 'join' },
    });
  });

  it('goes on from where it stopped, or starts anew, and sees the room either way', async () => {
    const later = await bob.sync({ since });
    expect(bodies(later.rooms.join[room]!.timeline.events).at(-1)).toBe('message 24');
    const anew = await bob.sync();
    expect(bodies(anew.rooms.join[room]!.timeline.events)).toEqual(
      bodies(later.rooms.join[room]!.timeline.events),
    );
    expect((await bob.sync({ since: anew.next_batch })).rooms.join).toEqual({});
    await bob.refused(400, 'M_INVALID_PARAM', 'GET /sync', { query: { since: 'junk' } });
  });

  it('is woken by a message on both devices, and only the sender sees its transaction', async () => {
    const [phone, other] = [await alice.sync(), await laptop.sync()];
    const polls = Promise.all([
      alice.sync({ since: phone.next_batch, timeout: '30000' }),
      laptop.sync({ since: other.next_batch, timeout: '30000' }),
    ]);
    const sender = await walk.client();
    sender.token = laptop.token;
    await sender.say(room, 'from the laptop', 'txn/ä');
    const [onPhone, onLaptop] = await polls;
    const [there, here] = [onPhone, onLaptop].map(({ rooms }) => rooms.join[room]!.timeline.events);
    expect(bodies(there!)).toEqual(['from the laptop']);
    expect(unsigned(there![0]!).transaction_id).toBeUndefined();
    expect(unsigned(here![0]!).transaction_id).toBe('txn/ä');
  });

  it('may hang up on a long poll, and misses nothing', async () => {
    const { next_batch } = await alice.sync();
    const hangUp = new AbortController();
    const poll = alice.call('GET /sync', {
      query: { since: next_batch, timeout: '30000' },
      signal: hangUp.signal,
    });
    // Another request on another connection, so that the poll is likely to wait by then.
    await bob.sync();
    hangUp.abort();
    await expect(poll).rejects.toThrow();
    await bob.say(room, 'while you were away');
    const { rooms } = await alice.sync({ since: next_batch, timeout: '30000' });
    expect(bodies(rooms.join[room]!.timeline.events)).toEqual(['while you were away']);
  });

  it('learns nothing more from a long poll once it is logged out', async () => {
    const [gone, remover] = [await walk.client(), await walk.client()];
    gone.take(await gone.ask('POST /login', { body: password(alice.user, 'secret of alice') }));
    remover.token = gone.token;
    const { next_batch } = await gone.sync();
    const poll = gone.call('GET /sync', { query: { since: next_batch, timeout: '30000' } });
    await remover.ask('POST /logout');
    await bob.say(room, 'not for everybody');
    expect(await poll).toMatchObject({ status: 401, value: { errcode: 'M_UNKNOWN_TOKEN' } });
  });

  it('changes its password and removes the other device, with the password once more', async () => {
    const change = { new_password: 'new secret', logout_devices: false };
    const challenge = await alice.call('POST /account/password', { body: change });
    expect(challenge).toMatchObject({ status: 401, value: { flows: [{ stages: ['m.login.password'] }] } });
    const { session = null } = challenge.value as JsonObject;
    const auth = { ...password(alice.user, 'secret of alice'), session };
    expect(await alice.ask('POST /account/password', { body: { ...change, auth } })).toEqual({});
    await laptop.ask('GET /account/whoami');

    const gone = { params: [laptop.device] };
    expect((await alice.call('DELETE /devices/{}', gone)).status).toBe(401);
    const proof = { auth: password('alice', 'new secret') };
    await alice.ask('DELETE /devices/{}', { ...gone, body: proof });
    await alice.ask('POST /delete_devices', { body: { devices: [laptop.device], ...proof } });
    await laptop.refused(401, 'M_UNKNOWN_TOKEN', 'GET /account/whoami');
  });

  it('logs out', async () => {
    expect(await bob.ask('POST /logout')).toEqual({});
    await bob.refused(401, 'M_UNKNOWN_TOKEN', 'GET /sync');
    expect(await alice.ask('POST /logout/all')).toEqual({});
    await alice.refused(401, 'M_UNKNOWN_TOKEN', 'GET /sync');
  });

  it('is held to a rate where it tries passwords, and told when to come back', async () => {
    // Nobody's password, so that no time goes into hashing it.
    const guess = { body: password('carol', '') };
    let refusals = 0;
    let limited: ClientAnswer | undefined;
    while (limited === undefined && refusals < 200) {
      const answer = await bob.call('POST /login', guess);
      if (answer.status === 429) limited = answer;
      else refusals++;
    }
    expect(refusals).toBeGreaterThan(10);
    expect(limited?.value).toMatchObject({
      errcode: 'M_LIMIT_EXCEEDED',
      retry_after_ms: expect.any(Number),
    });
    expect(Number(limited?.retryAfter)).toBeGreaterThan(0);
    await carol.ask('GET /account/whoami');
  });

  it('has had every operation of the walk succeed at least once', () => {
    const never = [...walk.operations].filter(([, succeeded]) => !succeeded).map(([operation]) => operation);
    expect(never.sort()).toEqual(['DELETE /login', 'GET /_matrix/client/v1/auth_metadata']);
    expect(walk.operations.size).toBeGreaterThan(45);
  });
});

describe('a client in a browser', () => {
  it('is let through to every path from any origin, before it has a token', async () => {
    const walk = await Walk.start('JSON over HTTP');
    try {
      const url = `http://127.0.0.1:${walk.server.http[0]!.port}`;
      for (const path of [
        '/_matrix/client/v3/sync',
        '/_matrix/client/v3/none',
        '/.well-known/matrix/client',
      ]) {
        const preflight = await fetch(url + path, {
          method: 'OPTIONS',
          headers: {
            origin: 'https://app.example',
            'access-control-request-method': 'PUT',
            'access-control-request-headers': 'authorization,content-type',
          },
        });
        expect(preflight.ok).toBe(true);
        expect(preflight.headers.get('access-control-allow-origin')).toBe('*');
        expect(preflight.headers.get('access-control-allow-methods')).toContain('PUT');
        expect(preflight.headers.get('access-control-allow-headers')).toMatch(/Content-Type.*Authorization/);
        expect((await fetch(url + path)).headers.get('access-control-allow-origin')).toBe('*');
      }
    } finally {
      await walk.end();
    }
  });
});

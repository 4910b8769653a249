import { type Millis, sleep, systemClock } from '../../src/base/time.ts';
import type { HttpAnswer, RavineProcess } from '../interop/ravine_process.ts';

/*
 * What clients do to one server, all at once, each in a loop: everything of the first part of the client-server API that
 * leaves something behind. Each of them has one request under way, repeats it until it is answered, and remembers what was
 * answered. What the server says then has to be that, or the request that was under way.
 */

const BETWEEN_ACTS_MS: Millis = 10;
/** After a request that found nobody. */
const TRY_AGAIN_MS: Millis = 20;
/** For what the server does in the background: profiles in rooms. */
const SETTLE_MS: Millis = 60_000;
const LOOK_AGAIN_MS: Millis = 100;
const PAGE = 100;
/** Of a follower's timelines: whole, so that nothing has to be fetched. */
const TIMELINE_LIMIT = 10_000;
const POLL_MS: Millis = 500;
/** Each so many messages one is redacted. */
const REDACT_EACH = 7;
/** Clients that send messages at once. */
const VOICES = 6;
/** One-time keys that are uploaded at once, and claimed one by one. */
const KEYS_AT_ONCE = 4;
/** Tokens that are looked at again after a restart. */
const RECENT = 3;

const NAMES = ['sally', 'toby', 'rita', 'karl', 'jane', 'paul', 'lena', 'fred', 'fay', 'kim'] as const;

type Json = Readonly<Record<string, unknown>>;
interface RoomEvent {
  readonly event_id: string;
  readonly type: string;
  readonly state_key?: string;
  readonly content: Json;
}

interface Answer extends HttpAnswer {
  /** Whether copies of the request were sent before that nobody answered: one of them may have been done. */
  readonly again: boolean;
}

/** Something that clients do in a loop. */
interface Trade {
  readonly name: string;
  /** Once. @throws where the server refuses */
  act(): Promise<void>;
  /** After a restart, while nobody acts. @returns what is against what was answered */
  check?(): Promise<readonly string[]>;
  /** When everything has come to an end. @returns the same */
  audit?(): Promise<readonly string[]>;
}

/** Whoever has an account. */
interface User {
  readonly name: string;
  readonly id: string;
  readonly token: string;
}

const part = encodeURIComponent;
const passwordOf = (name: string): string => `password of ${name}`;
const loginOf = (user: string, password: string) => ({
  ...{ type: 'm.login.password', identifier: { type: 'm.id.user', user } },
  password,
});

/** Clients that act on one server, through its restarts. */
export class ClientLoad {
  readonly #process: RavineProcess;
  readonly #answered = new Map<string, number>();
  readonly #trades: Trade[] = [];
  readonly #loops: Promise<void>[] = [];
  #isOpen = true;
  #open: () => void = () => undefined;
  #opened = Promise.resolve();
  #acting = true;
  #underWay = 0;

  constructor(process: RavineProcess) {
    this.#process = process;
  }

  /** How often each trade was answered. */
  get answered(): ReadonlyMap<string, number> {
    return this.#answered;
  }

  /** Makes the accounts and rooms, on a server that runs; then everybody begins. */
  async begin(): Promise<void> {
    const users: User[] = [];
    // Passwords are hashed one after another, and few may wait for it.
    for (const name of NAMES) users.push(await this.#user(name));
    const [sally, toby, rita, karl, jane, paul, lena, fred, fay, kim] = users;
    const room = await this.#room(toby!);
    for (const user of [sally!, rita!, karl!, fay!])
      await this.#must('POST', `/join/${part(room)}`, user, {});
    const messages = this.#messages(sally!, room);
    this.#trades.push(
      ...messages.trades,
      this.#topics(toby!, room),
      this.#receipts(rita!, room, messages.sent),
      this.#accountData(karl!, ''),
      this.#accountData(karl!, `/rooms/${part(room)}`),
      this.#tags(karl!, room),
      this.#displayNames(karl!, room),
      this.#memberships(jane!, await this.#room(toby!)),
      this.#passwords(paul!),
      this.#sessions(lena!),
      this.#registrations(),
      this.#rooms(fred!),
      this.#followed(fay!, room, messages.sent),
      this.#oneTimeKeys(kim!, sally!),
    );
    for (const trade of this.#trades) {
      const loop = this.#loop(trade);
      // One that fails is found by the end; until then it must not be an unhandled rejection.
      loop.catch(() => undefined);
      this.#loops.push(loop);
    }
  }

  /** From now on nobody asks; resolves when nothing is under way, which is so once the server has gone. */
  async pause(): Promise<void> {
    if (this.#isOpen) {
      this.#isOpen = false;
      this.#opened = new Promise((done) => {
        this.#open = done;
      });
    }
    while (this.#underWay > 0) await sleep(systemClock, 1);
  }

  resume(): void {
    this.#isOpen = true;
    this.#open();
  }

  /** Where nobody acts, on a server that runs. @returns what the server says otherwise than it has answered */
  async check(): Promise<readonly string[]> {
    const found = await Promise.all(this.#trades.map(async ({ check }) => (await check?.()) ?? []));
    return found.flat();
  }

  /** Lets everybody end what they do, on a server that runs. @returns what it says otherwise than it has answered */
  async end(): Promise<readonly string[]> {
    this.#acting = false;
    this.resume();
    await Promise.all(this.#loops);
    const wrong = [...(await this.check())];
    for (const { audit } of this.#trades) wrong.push(...((await audit?.()) ?? []));
    return wrong;
  }

  /** Where the run ends early. */
  async abandon(): Promise<void> {
    this.#acting = false;
    this.resume();
    await Promise.allSettled(this.#loops);
  }

  async #loop({ name, act }: Trade): Promise<void> {
    while (this.#acting) {
      await act();
      this.#answered.set(name, (this.#answered.get(name) ?? 0) + 1);
      await sleep(systemClock, BETWEEN_ACTS_MS);
    }
  }

  /** Asks until somebody answers. */
  async #ask(method: string, path: string, token?: string, body?: object): Promise<Answer> {
    for (let again = false; ; again = true) {
      await this.#opened;
      this.#underWay++;
      const answer = await this.#process.call(method, path, token, body).catch(() => undefined);
      this.#underWay--;
      if (answer !== undefined && answer.status !== 429) return { ...answer, again };
      // Nobody may be there any more to ask.
      if (!this.#acting && answer === undefined) throw new Error(`${method} ${path}: nobody answers`);
      await sleep(systemClock, answer === undefined ? TRY_AGAIN_MS : Number(answer.json.retry_after_ms));
    }
  }

  /** Of what nothing is to refuse. */
  async #must(method: string, path: string, user: User, body?: object): Promise<Json> {
    const { status, json } = await this.#ask(method, path, user.token, body);
    if (status !== 200) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(json)}`);
    return json;
  }

  /** While nobody acts. */
  #look(path: string, token: string): Promise<HttpAnswer> {
    return this.#process.call('GET', path, token);
  }

  async #user(name: string): Promise<User> {
    const token = await this.#process.register(name);
    const { json } = await this.#look('/account/whoami', token);
    return { name, id: String(json.user_id), token };
  }

  async #room(user: User): Promise<string> {
    return String((await this.#must('POST', '/createRoom', user, { preset: 'public_chat' })).room_id);
  }

  /** All events of a room, the newest first. */
  async #history(user: User, room: string): Promise<RoomEvent[]> {
    const events: RoomEvent[] = [];
    let from = '';
    do {
      const { json } = await this.#look(
        `/rooms/${part(room)}/messages?dir=b&limit=${PAGE}${from}`,
        user.token,
      );
      events.push(...(json.chunk as RoomEvent[]));
      from = json.end === undefined ? '' : `&from=${part(String(json.end))}`;
    } while (from !== '');
    return events;
  }

  /** One-time keys that one user uploads and another claims: each is given away once. */
  #oneTimeKeys(owner: User, other: User): Trade {
    const given: string[] = [];
    let uploaded = 0;
    let device: string | undefined;
    const claimOne = async (): Promise<void> => {
      const body = { one_time_keys: { [owner.id]: { [device!]: 'x' } } };
      const { one_time_keys: keys } = await this.#must('POST', '/keys/claim', other, body);
      const claimed = (keys as Record<string, Record<string, Json>>)[owner.id]?.[device!];
      // There is none left where answers have been lost.
      if (claimed !== undefined) given.push(...Object.keys(claimed));
    };
    return {
      name: 'one-time keys',
      act: async () => {
        device ??= String((await this.#must('GET', '/account/whoami', owner)).device_id);
        const names = Array.from({ length: KEYS_AT_ONCE }, (_, i) => `x:${uploaded + i}`);
        const body = { one_time_keys: Object.fromEntries(names.map((name) => [name, `key ${name}`])) };
        uploaded += KEYS_AT_ONCE;
        await this.#must('POST', '/keys/upload', owner, body);
        for (let i = 0; i < KEYS_AT_ONCE; i++) await claimOne();
      },
      check: async () => {
        const { json } = await this.#look('/sync', owner.token);
        const left = Number((json.device_one_time_keys_count as Json).x ?? 0);
        const twice = given.filter((name, i) => given.indexOf(name) !== i);
        return [
          ...twice.map((name) => `one-time keys: ${name} was given away twice`),
          ...(left <= uploaded - given.length
            ? []
            : [`one-time keys: ${left} are left of ${uploaded}, and ${given.length} were given away`]),
        ];
      },
    };
  }

  /** A value that grows by one with each act: what is there is what was answered last, or what is under way. */
  #counter(
    name: string,
    put: (value: number) => Promise<unknown>,
    get: () => Promise<number>,
  ): Trade & { readonly answered: () => number } {
    let answered = 0;
    let asked = 0;
    return {
      name,
      answered: () => answered,
      act: async () => {
        asked = answered + 1;
        await put(asked);
        answered = asked;
      },
      check: async () => {
        const there = await get();
        if (there === answered || there === asked) return [];
        return [`${name}: ${answered} was answered, ${asked} asked for, and ${there} is there`];
      },
    };
  }

  /** Messages with transaction ids, some redacted, by several clients at once. `sent`: the ids that were answered. */
  #messages(
    user: User,
    room: string,
  ): { readonly trades: readonly Trade[]; readonly sent: readonly string[] } {
    const sent: string[] = [];
    const path = `/rooms/${part(room)}`;
    let count = 0;
    let redacted = 0;
    const act = async (): Promise<void> => {
      const number = ++count;
      const content = { msgtype: 'm.text', body: String(number) };
      const { event_id } = await this.#must('PUT', `${path}/send/m.room.message/${number}`, user, content);
      const id = String(event_id);
      sent.push(id);
      if (number % REDACT_EACH !== 0) return;
      await this.#must('PUT', `${path}/redact/${part(id)}/r${number}`, user, {});
      redacted++;
    };
    const audit = async (): Promise<readonly string[]> => {
      const history = await this.#history(user, room);
      const messages = history.filter(({ type }) => type === 'm.room.message');
      const ids = messages.map(({ event_id }) => event_id);
      const redactions = history.filter(({ type }) => type === 'm.room.redaction').length;
      const empty = messages.filter(({ content }) => content.body === undefined).length;
      return [
        ...sent.filter((id) => !ids.includes(id)).map((id) => `messages: ${id} is lost`),
        ...ids.filter((id) => !sent.includes(id)).map((id) => `messages: ${id} is there, nobody was told`),
        ...(redactions === redacted && empty === redacted
          ? []
          : [`messages: ${redactions} redactions of ${redacted}, ${empty} of them done`]),
      ];
    };
    const others = Array.from({ length: VOICES - 1 }, () => ({ name: 'messages', act }));
    return { trades: [{ name: 'messages', act, audit }, ...others], sent };
  }

  #topics(user: User, room: string): Trade {
    const path = `/rooms/${part(room)}/state/m.room.topic`;
    const counter = this.#counter(
      'topics',
      (value) => this.#must('PUT', path, user, { topic: String(value) }),
      async () => Number((await this.#look(path, user.token)).json.topic ?? 0),
    );
    return {
      ...counter,
      audit: async () => {
        const history = await this.#history(user, room);
        const topics = history
          .filter(({ type }) => type === 'm.room.topic')
          .map(({ content }) => content.topic);
        return topics
          .reverse()
          .flatMap((topic, i) => (topic === String(i + 1) ? [] : [`topics: ${topic} at place ${i + 1}`]));
      },
    };
  }

  /** Public, private and fully read markers in turn, each on the newest message. */
  #receipts(user: User, room: string, sent: readonly string[]): Trade {
    const kinds = ['m.read', 'm.read.private', 'm.fully_read'] as const;
    const answered = new Map<string, string>();
    let asked: readonly [kind: string, event: string] = ['', ''];
    let turn = 0;
    return {
      name: 'receipts',
      act: async () => {
        const event = sent.at(-1);
        if (event === undefined) return;
        const kind = kinds[turn++ % kinds.length]!;
        asked = [kind, event];
        await this.#must('POST', `/rooms/${part(room)}/receipt/${part(kind)}/${part(event)}`, user, {});
        answered.set(kind, event);
      },
      check: async () => {
        const filter = part(JSON.stringify({ room: { rooms: [room], timeline: { limit: 1 } } }));
        const { json } = await this.#look(`/sync?filter=${filter}`, user.token);
        const joined = (json as { rooms: { join: Record<string, Record<string, { events: RoomEvent[] }>> } })
          .rooms.join[room]!;
        const receipts = joined.ephemeral!.events.find(({ type }) => type === 'm.receipt')?.content ?? {};
        const marked = (kind: string): string | undefined =>
          kind === 'm.fully_read'
            ? (joined.account_data!.events.find(({ type }) => type === kind)?.content.event_id as string)
            : Object.keys(receipts).find((event) => {
                const users = (receipts[event] as Record<string, Json>)[kind];
                return users !== undefined && Object.hasOwn(users, user.id);
              });
        return [...answered].flatMap(([kind, event]) => {
          const there = marked(kind);
          if (there === event || (asked[0] === kind && there === asked[1])) return [];
          return [`receipts: ${kind} is at ${there} instead of message ${sent.indexOf(event)}`];
        });
      },
    };
  }

  #accountData(user: User, of: string): Trade {
    const path = `/user/${part(user.id)}${of}/account_data/test.ravine.count`;
    return this.#counter(
      of === '' ? 'account data' : 'account data of a room',
      (value) => this.#must('PUT', path, user, { value }),
      async () => Number((await this.#look(path, user.token)).json.value ?? 0),
    );
  }

  /** Each value is a tag of its own; the one before is taken away. */
  #tags(user: User, room: string): Trade {
    const path = `/user/${part(user.id)}/rooms/${part(room)}/tags`;
    const tags = async (): Promise<string[]> =>
      Object.keys((await this.#look(path, user.token)).json.tags as Json);
    const counter = this.#counter(
      'tags',
      async (value) => {
        await this.#must('PUT', `${path}/u.${value}`, user, { order: 0.5 });
        await this.#must('DELETE', `${path}/u.${value - 1}`, user);
      },
      async () => Math.max(0, ...(await tags()).map((tag) => Number(tag.slice(2)))),
    );
    return {
      ...counter,
      audit: async () => {
        const there = await tags();
        return there.length === 1 ? [] : [`tags: ${there.join(', ')} are there`];
      },
    };
  }

  /** A name is told at once, and gets into the rooms in the background. */
  #displayNames(user: User, room: string): Trade {
    const path = `/profile/${part(user.id)}/displayname`;
    const counter = this.#counter(
      'display names',
      (value) => this.#must('PUT', path, user, { displayname: String(value) }),
      async () => {
        const name = Number((await this.#look(path, user.token)).json.displayname);
        return Number.isNaN(name) ? 0 : name;
      },
    );
    return {
      ...counter,
      audit: async () => {
        const member = `/rooms/${part(room)}/state/m.room.member/${part(user.id)}`;
        const last = String(counter.answered());
        const start = systemClock.monotonic();
        for (;;) {
          const { displayname } = (await this.#look(member, user.token)).json;
          if (displayname === last) return [];
          if (systemClock.monotonic() - start > SETTLE_MS)
            return [`display names: ${last} is not in the room, but ${displayname}`];
          await sleep(systemClock, LOOK_AGAIN_MS);
        }
      },
    };
  }

  /** Comes and goes, one event each time. */
  #memberships(user: User, room: string): Trade {
    const counter = this.#counter(
      'memberships',
      (value) => this.#must('POST', `/rooms/${part(room)}/${value % 2 === 1 ? 'join' : 'leave'}`, user, {}),
      // Of a user that has left it cannot be told how often.
      async () => {
        const { joined_rooms: rooms } = (await this.#look('/joined_rooms', user.token)).json;
        const isOdd = (rooms as string[]).includes(room);
        return (counter.answered() % 2 === 1) === isOdd ? counter.answered() : counter.answered() + 1;
      },
    );
    return {
      ...counter,
      audit: async () => {
        const changes = (await this.#history(user, room)).filter(({ state_key }) => state_key === user.id);
        const wrong = changes.reverse().findIndex((event, i) => {
          return event.content.membership !== (i % 2 === 0 ? 'join' : 'leave');
        });
        if (wrong === -1 && changes.length === counter.answered()) return [];
        return [`memberships: ${changes.length} events of ${counter.answered()}, wrong at ${wrong}`];
      },
    };
  }

  #passwords({ name, token }: User): Trade {
    let answered = passwordOf(name);
    let asked = answered;
    let count = 0;
    return {
      name: 'passwords',
      act: async () => {
        asked = `${passwordOf(name)} ${++count}`;
        const { status, json, again } = await this.#ask('POST', '/account/password', token, {
          ...{ new_password: asked, logout_devices: false },
          auth: loginOf(name, answered),
        });
        if (
          status !== 200 &&
          !(again && (await this.#ask('POST', '/login', undefined, loginOf(name, asked))).status === 200)
        )
          throw new Error(`passwords: ${status} ${JSON.stringify(json)}`);
        answered = asked;
      },
      check: async () => {
        for (const password of new Set([asked, answered])) {
          const { status } = await this.#process.call('POST', '/login', undefined, loginOf(name, password));
          if (status !== 200) continue;
          answered = password;
          return [];
        }
        return ['passwords: neither the old nor the new one is right'];
      },
    };
  }

  /** Logs a device in and out. */
  #sessions({ name }: User): Trade {
    const live: string[] = [];
    const dead: string[] = [];
    let leaving: string | undefined;
    return {
      name: 'sessions',
      act: async () => {
        const { json } = await this.#ask('POST', '/login', undefined, loginOf(name, passwordOf(name)));
        live.push(String(json.access_token));
        if (live.length <= RECENT) return;
        leaving = live.shift()!;
        const { status, again } = await this.#ask('POST', '/logout', leaving, {});
        if (status !== 200 && !(again && status === 401)) throw new Error(`logout: ${status}`);
        dead.push(leaving);
      },
      check: async () => {
        const wrong: string[] = [];
        for (const token of live)
          if ((await this.#look('/account/whoami', token)).status !== 200)
            wrong.push('sessions: one that was answered is lost');
        for (const token of dead.slice(-RECENT))
          if ((await this.#look('/account/whoami', token)).status !== 401)
            wrong.push('sessions: one that was logged out is alive again');
        return wrong;
      },
    };
  }

  #registrations(): Trade {
    const tokens: string[] = [];
    let count = 0;
    return {
      name: 'registrations',
      act: async () => {
        const username = `newcomer-${++count}`;
        const { status, json, again } = await this.#ask('POST', '/register', undefined, {
          ...{ username, password: passwordOf(username) },
          auth: { type: 'm.login.dummy' },
        });
        if (status === 200) {
          tokens.push(String(json.access_token));
        } else if (again && json.errcode === 'M_USER_IN_USE') {
          // Whoever was not told that they have an account has one, with the password that they have chosen.
          const login = loginOf(username, passwordOf(username));
          if ((await this.#ask('POST', '/login', undefined, login)).status !== 200)
            throw new Error(`registrations: ${username} is in use and cannot log in`);
        } else {
          throw new Error(`registrations: ${status} ${JSON.stringify(json)}`);
        }
      },
      check: async () => {
        const wrong: string[] = [];
        for (const token of tokens.slice(-RECENT))
          if ((await this.#look('/account/whoami', token)).status !== 200)
            wrong.push('registrations: one that was answered is lost');
        return wrong;
      },
      audit: async () => {
        const answers = await Promise.all(tokens.map((token) => this.#look('/account/whoami', token)));
        const lost = answers.filter(({ status }) => status !== 200).length;
        return lost === 0 ? [] : [`registrations: ${lost} of ${tokens.length} are lost`];
      },
    };
  }

  /** Rooms with an alias each: one that was made without an answer is there whole, or not at all. */
  #rooms(user: User): Trade {
    const made: string[] = [];
    const served = user.id.slice(user.id.indexOf(':'));
    let count = 0;
    return {
      name: 'rooms',
      act: async () => {
        const alias = `room-${++count}`;
        const { status, json, again } = await this.#ask('POST', '/createRoom', user.token, {
          ...{ room_alias_name: alias, name: alias, preset: 'private_chat' },
        });
        if (status === 200) {
          made.push(String(json.room_id));
          return;
        }
        if (!again || json.errcode !== 'M_ROOM_IN_USE')
          throw new Error(`rooms: ${status} ${JSON.stringify(json)}`);
        const found = await this.#must('GET', `/directory/room/${part(`#${alias}${served}`)}`, user);
        made.push(String(found.room_id));
      },
      audit: async () => {
        const { joined_rooms: joined } = (await this.#look('/joined_rooms', user.token)).json;
        const wrong: string[] = [];
        for (const room of made) {
          const { json } = await this.#look(`/rooms/${part(room)}/state/m.room.name`, user.token);
          if (!(joined as string[]).includes(room)) wrong.push(`rooms: ${room} is lost`);
          else if (json.name === undefined) wrong.push(`rooms: ${room} is not whole`);
        }
        return wrong;
      },
    };
  }

  /** Follows `/sync` through all restarts. */
  #followed(user: User, room: string, sent: readonly string[]): Trade {
    const filter = part(JSON.stringify({ room: { timeline: { limit: TIMELINE_LIMIT } } }));
    const seen = new Set<string>();
    const wrong: string[] = [];
    let since = '';
    const follow = async (timeoutMs: Millis): Promise<number> => {
      const path = `/sync?filter=${filter}&timeout=${timeoutMs}${since === '' ? '' : `&since=${since}`}`;
      const json = await this.#must('GET', path, user);
      since = String(json.next_batch);
      const rooms = json.rooms as
        | { join?: Record<string, { timeline: { limited?: boolean; events: RoomEvent[] } }> }
        | undefined;
      const timeline = rooms?.join?.[room]?.timeline;
      if (timeline?.limited === true && seen.size > 0) wrong.push('sync: there is a gap');
      for (const { event_id: id } of timeline?.events ?? []) {
        if (seen.has(id)) wrong.push(`sync: ${id} came twice`);
        seen.add(id);
      }
      return timeline?.events.length ?? 0;
    };
    return {
      name: 'sync',
      act: async () => {
        await follow(POLL_MS);
      },
      audit: async () => {
        while ((await follow(0)) > 0);
        return [...wrong, ...sent.filter((id) => !seen.has(id)).map((id) => `sync: ${id} was not told`)];
      },
    };
  }
}

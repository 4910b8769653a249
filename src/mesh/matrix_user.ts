import type { FastifyInstance } from 'fastify';
import { assert } from '../base/assert.ts';
import type { JsonObject } from '../matrix/json.ts';

/** An event in the client format, as far as a scripted user looks at it. */
export interface SeenEvent {
  readonly event_id: string;
  readonly sender: string;
  readonly type: string;
  readonly content: JsonObject;
}

interface SyncAnswer {
  readonly next_batch: string;
  readonly rooms?: {
    readonly join?: Record<
      string,
      { readonly timeline: { readonly events: SeenEvent[]; readonly limited?: boolean } }
    >;
    readonly invite?: Record<string, object>;
  };
}

/** How long one long poll waits, in milliseconds. */
const SYNC_TIMEOUT_MS = 30_000;
/** So many events that a script meets no gap. */
const FILTER = encodeURIComponent(JSON.stringify({ room: { timeline: { limit: 100 } } }));

/** A user of one server in a script: calls the client-server API of that server through its Fastify instance. */
export class MatrixUser {
  readonly #app: FastifyInstance;
  readonly id: string;
  readonly #token: string;
  #since: string | undefined;
  #transaction = 0;
  /** Everything that /sync has shown of each room's timeline, in order. */
  readonly timelines = new Map<string, SeenEvent[]>();
  readonly invitedTo = new Set<string>();

  private constructor(app: FastifyInstance, id: string, token: string) {
    this.#app = app;
    this.id = id;
    this.#token = token;
  }

  /** Registers a user at a server that is open for registration. */
  static async register(app: FastifyInstance, username: string): Promise<MatrixUser> {
    const answer = await app.inject({
      method: 'POST',
      url: '/_matrix/client/v3/register',
      payload: { username, password: `password of ${username}`, auth: { type: 'm.login.dummy' } },
    });
    assert(answer.statusCode === 200, `registration is accepted: ${answer.body}`);
    const { user_id: id, access_token: token } = answer.json<{ user_id: string; access_token: string }>();
    return new MatrixUser(app, id, token);
  }

  /** The same user at the same server after it was started again. */
  at(app: FastifyInstance): MatrixUser {
    const user = new MatrixUser(app, this.id, this.#token);
    user.#since = this.#since;
    user.#transaction = this.#transaction;
    for (const [room, events] of this.timelines) user.timelines.set(room, events);
    return user;
  }

  async createRoom(body: JsonObject): Promise<string> {
    const { room_id } = await this.#call<{ room_id: string }>('POST', '/createRoom', body);
    return room_id;
  }

  async join(room: string): Promise<void> {
    await this.#call('POST', `/join/${encodeURIComponent(room)}`, {});
  }

  /** Sends an m.text; answers its event id. */
  async say(room: string, body: string): Promise<string> {
    const path = `/rooms/${encodeURIComponent(room)}/send/m.room.message/script-${this.#transaction++}`;
    const { event_id } = await this.#call<{ event_id: string }>('PUT', path, { msgtype: 'm.text', body });
    return event_id;
  }

  async setState(room: string, type: string, content: JsonObject): Promise<void> {
    await this.#call('PUT', `/rooms/${encodeURIComponent(room)}/state/${type}/`, content);
  }

  /** The current state of a room as (type, state_key) -> event id. */
  async state(room: string): Promise<Map<string, string>> {
    const events = await this.#call<(SeenEvent & { state_key: string })[]>(
      'GET',
      `/rooms/${encodeURIComponent(room)}/state`,
    );
    return new Map(events.map((event) => [`${event.type}|${event.state_key}`, event.event_id]));
  }

  /** Syncs until `done` holds for what has been seen. */
  async syncUntil(done: (user: MatrixUser) => boolean): Promise<void> {
    while (!done(this)) await this.#sync(SYNC_TIMEOUT_MS);
  }

  /** Takes what is there now. */
  syncOnce(): Promise<void> {
    return this.#sync(0);
  }

  /** The bodies of the messages that /sync has shown, in order, with who said them. */
  messages(room: string): { readonly sender: string; readonly body: string; readonly id: string }[] {
    return (this.timelines.get(room) ?? [])
      .filter(({ type }) => type === 'm.room.message')
      .map(({ sender, content, event_id }) => ({ sender, body: String(content.body), id: event_id }));
  }

  async #sync(timeout: number): Promise<void> {
    const since = this.#since === undefined ? '' : `&since=${encodeURIComponent(this.#since)}`;
    const answer = await this.#call<SyncAnswer>('GET', `/sync?filter=${FILTER}&timeout=${timeout}${since}`);
    this.#since = answer.next_batch;
    for (const room of Object.keys(answer.rooms?.invite ?? {})) this.invitedTo.add(room);
    for (const [room, { timeline }] of Object.entries(answer.rooms?.join ?? {})) {
      const seen = this.timelines.get(room) ?? [];
      seen.push(...timeline.events);
      this.timelines.set(room, seen);
    }
  }

  async #call<T>(method: 'GET' | 'PUT' | 'POST', path: string, body?: JsonObject): Promise<T> {
    const answer = await this.#app.inject({
      method,
      url: `/_matrix/client/v3${path}`,
      headers: { authorization: `Bearer ${this.#token}` },
      ...(body === undefined ? {} : { payload: body }),
    });
    assert(
      answer.statusCode === 200,
      `${method} ${path} is answered with 200, not ${answer.statusCode} ${answer.body}`,
    );
    return answer.json<T>();
  }
}

import { base64 } from '../../src/base/bytes.ts';
import { seededRandom } from '../../src/base/random.ts';
import { type Millis, sleep, systemClock } from '../../src/base/time.ts';
import type { PartialConfig } from '../../src/server/config.ts';
import type { RavineProcess } from '../interop/ravine_process.ts';
import type { RecordProxy } from './record_proxy.ts';

export const NAMES = ['alpha', 'bravo'] as const;
export type Name = (typeof NAMES)[number];

const USERS: Readonly<Record<Name, string>> = { alpha: 'alice', bravo: 'bob' };

/** For a message of each side to get to the other after a start. */
const HEAL_MS: Millis = 180_000;
const LOOK_AGAIN_MS: Millis = 50;
const BETWEEN_MESSAGES_MS: Millis = 15;
const PAGE = 100;
/** Text that goes in several blocks, however it is compressed. */
const LONG_TEXT = base64(seededRandom(7).bytes(4_000));

/** One server and its user, who talks until told to stop. */
export class Speaker {
  readonly name: Name;
  readonly process: RavineProcess;
  /** What the server has acknowledged. */
  readonly acknowledged: string[] = [];
  #token = '';
  #room = '';
  #talking = true;
  #filled = 0;
  /** Says nothing for now. */
  isQuiet = false;

  constructor(name: Name, process: RavineProcess) {
    this.name = name;
    this.process = process;
  }

  async start(): Promise<void> {
    await this.process.start();
    this.#token = await this.process.register(this.#user);
  }

  async createRoom(): Promise<string> {
    const body = { preset: 'public_chat', creation_content: { 'm.federate': true } };
    const { json } = await this.process.call('POST', '/createRoom', this.#token, body);
    this.#room = String(json.room_id);
    return this.#room;
  }

  async join(room: string): Promise<void> {
    this.#room = room;
    const path = `/join/${encodeURIComponent(room)}?via=alpha.test`;
    const { status, json } = await this.process.call('POST', path, this.#token, {});
    if (status !== 200) throw new Error(`join: ${JSON.stringify(json)}`);
  }

  /** Says one thing after another, each as often as it takes until it is acknowledged. */
  async talk(pauseMs: Millis = BETWEEN_MESSAGES_MS): Promise<void> {
    for (let i = 0; this.#talking; i++) {
      while (this.isQuiet && this.#talking) await sleep(systemClock, LOOK_AGAIN_MS);
      const body = `${this.name} ${i}`;
      const path = `/rooms/${encodeURIComponent(this.#room)}/send/m.room.message/${i}`;
      const content = { msgtype: 'm.text', body };
      for (;;) {
        const answer = await this.process.call('PUT', path, this.#token, content).catch(() => undefined);
        await sleep(systemClock, pauseMs);
        if (answer?.status === 200) break;
        if (answer !== undefined) throw new Error(`send: ${JSON.stringify(answer.json)}`);
      }
      this.acknowledged.push(body);
    }
  }

  /**
   * Does what makes a server write and ask other servers for more than messages, once each.
   * @throws where a server goes meanwhile, or refuses
   */
  async errands(other: Speaker): Promise<void> {
    const user = encodeURIComponent(`@${this.#user}:${this.name}.test`);
    await this.#call('PUT', `/profile/${user}/displayname`, { displayname: `${this.acknowledged.length}` });
    const created = await this.#call('POST', '/createRoom', {
      ...{ preset: 'public_chat', invite: [`@${other.#user}:${other.name}.test`] },
    });
    const second = encodeURIComponent(String(created.room_id));
    await this.#call('PUT', `/rooms/${second}/state/m.room.topic`, { topic: 'a second room' });
    await other.#call('POST', `/join/${second}?via=${this.name}.test`, {});
    await this.#call('PUT', `/rooms/${second}/state/m.room.topic`, { topic: LONG_TEXT });
    await other.#call('POST', `/rooms/${second}/leave`, {});
    await this.#call('POST', `/rooms/${second}/leave`, {});
    await this.process.login(this.#user).then((token) => this.process.call('POST', '/logout', token, {}));
  }

  /** Puts so many events into the room that are no messages. @throws as `errands` does */
  async fill(events: number): Promise<void> {
    const room = encodeURIComponent(this.#room);
    for (let i = 0; i < events; i++)
      await this.#call('PUT', `/rooms/${room}/send/test.ravine.filler/${++this.#filled}`, {});
  }

  get #user(): string {
    return USERS[this.name];
  }

  async #call(method: string, path: string, body: object): Promise<Record<string, unknown>> {
    const { status, json } = await this.process.call(method, path, this.#token, body);
    if (status !== 200) throw new Error(`${method} ${path}: ${JSON.stringify(json)}`);
    return json;
  }

  stopTalking(): void {
    this.#talking = false;
  }

  /** The bodies of all messages that the server has, or of so many of the newest. */
  async messages(limit = Number.POSITIVE_INFINITY): Promise<string[]> {
    const bodies: string[] = [];
    let from = '';
    do {
      const path = `/rooms/${encodeURIComponent(this.#room)}/messages?dir=b&limit=${PAGE}${from}`;
      const { json } = await this.process.call('GET', path, this.#token);
      for (const { type, content } of json.chunk as { type: string; content: { body?: string } }[])
        if (type === 'm.room.message') bodies.push(String(content.body));
      from = json.end === undefined ? '' : `&from=${encodeURIComponent(String(json.end))}`;
    } while (from !== '' && bodies.length < limit);
    return bodies;
  }
}

/** Waits until `condition` holds; how long that took. */
async function until(condition: () => Promise<boolean>, what: string, signal?: AbortSignal): Promise<Millis> {
  const start = systemClock.monotonic();
  while (!(await condition())) {
    if (systemClock.monotonic() - start > HEAL_MS) throw new Error(`waited in vain until ${what}`);
    signal?.throwIfAborted();
    await sleep(systemClock, LOOK_AGAIN_MS, signal);
  }
  return systemClock.monotonic() - start;
}

/** The highest number that `name` has said in these messages; -1: none. */
const newestOf = (name: Name, bodies: readonly string[]): number =>
  bodies.reduce((newest, body) => {
    const [who, number] = body.split(' ');
    return who === name ? Math.max(newest, Number(number)) : newest;
  }, -1);

/** Waits until `to` has something that `from` was told after now. */
export function heardBy(from: Speaker, to: Speaker, signal?: AbortSignal): Promise<Millis> {
  const wanted = from.acknowledged.length + 1;
  return until(
    async () => newestOf(from.name, await to.messages(PAGE)) >= wanted,
    `message ${wanted} of ${from.name} got through`,
    signal,
  );
}

/** Waits until each side has something that the other was told after now. */
export async function healed(alpha: Speaker, bravo: Speaker): Promise<Millis> {
  return Math.max(...(await Promise.all([heardBy(alpha, bravo), heardBy(bravo, alpha)])));
}

/** What a server is configured as whose peer is behind a proxy. */
export const configOf = (
  name: Name,
  other: Name,
  ports: Readonly<Record<Name, number>>,
  proxy: RecordProxy,
): PartialConfig => ({
  server_name: `${name}.test`,
  coap: { port: ports[name] },
  federation: {
    trust: 'tofu',
    peers: [
      { server_name: `${other}.test`, address: `ravine://127.0.0.1:${proxy.portFor(name)}`, trust: 'tofu' },
    ],
  },
  log: { level: 'warn' },
});

/** What the servers have, against what they have acknowledged, once that has had time to get there. */
export async function compared(
  alpha: Speaker,
  bravo: Speaker,
): Promise<{ readonly lost: readonly string[]; readonly twice: readonly string[] }> {
  const acknowledged = [...alpha.acknowledged, ...bravo.acknowledged];
  const missing = async (): Promise<string[]> => {
    const there = await Promise.all([alpha.messages(), bravo.messages()]);
    return there.flatMap((bodies, i) => {
      const set = new Set(bodies);
      return acknowledged.filter((body) => !set.has(body)).map((body) => `${body} at ${NAMES[i]}`);
    });
  };
  await until(async () => (await missing()).length === 0, 'everything was there').catch(() => undefined);
  const all = await Promise.all([alpha.messages(), bravo.messages()]);
  return {
    lost: await missing(),
    twice: all.flatMap((bodies) => bodies.filter((body, i) => bodies.indexOf(body) !== i)),
  };
}
